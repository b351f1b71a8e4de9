//! Printing what comes from outside.

use std::fmt;
use std::io;

/// Bytes of a name or message, escaped as rsync escapes them: `\#` and three octal digits for control characters
/// (but tabs) and for bytes that are no UTF-8.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\t' => out.write_str("\t")?,
                    c if c.is_control() => octal(out, c.encode_utf8(&mut [0; 4]).as_bytes())?,
                    c => write!(out, "{c}")?,
                }
            }
            octal(out, chunk.invalid())?;
        }
        Ok(())
    }
}

fn octal(out: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "\\#{byte:03o}"))
}

/// An error of the operating system as rsync prints it: `No such file or directory (2)`.
#[derive(Clone, Copy, Debug)]
pub struct OsError<'a>(pub &'a io::Error);

impl fmt::Display for OsError<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        match self.0.raw_os_error() {
            Some(number) => {
                let words = text.split(" (os error").next().unwrap_or(&text);
                write!(out, "{words} ({number})")
            }
            None => out.write_str(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_broken_text_are_escaped_as_rsync_does() {
        assert_eq!(Escaped(b"a\nb\x1b[1m\xff\tz").to_string(), "a\\#012b\\#033[1m\\#377\tz");
        assert_eq!(Escaped("ä/€".as_bytes()).to_string(), "ä/€");
    }

    #[test]
    fn errors_carry_their_number_in_parentheses() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(OsError(&error).to_string(), "No such file or directory (2)");
    }
}
