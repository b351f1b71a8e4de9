//! Printing what comes from outside.

use std::env;
use std::fmt;
use std::io;
use std::sync::LazyLock;

/// Bytes of a name or message, escaped as rsync escapes them: `\#` and three octal digits for control characters
/// (but tabs) and for bytes that are no text in the user's locale.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(self.0, *IN_UTF8, out)
    }
}

/// Whether the user's locale says that terminals show UTF-8; elsewhere only ASCII is printed as it is.
static IN_UTF8: LazyLock<bool> = LazyLock::new(|| {
    let set = |name: &&str| env::var_os(name).filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set).unwrap_or_default();
    let locale = locale.to_string_lossy().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
});

fn escape(bytes: &[u8], in_utf8: bool, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\t' | '\x7f' => write!(out, "{character}")?,
                c if c.is_control() || !in_utf8 && !c.is_ascii() => {
                    octal(out, c.encode_utf8(&mut [0; 4]).as_bytes())?;
                }
                c => write!(out, "{c}")?,
            }
        }
        octal(out, chunk.invalid())?;
    }
    Ok(())
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

    fn escaped(bytes: &[u8], in_utf8: bool) -> String {
        struct Shown<'a>(&'a [u8], bool);
        impl fmt::Display for Shown<'_> {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                escape(self.0, self.1, out)
            }
        }
        Shown(bytes, in_utf8).to_string()
    }

    #[test]
    fn control_characters_and_broken_text_are_escaped_as_rsync_does() {
        assert_eq!(escaped(b"a\nb\x1b[1m\xff\tz", true), "a\\#012b\\#033[1m\\#377\tz");
        assert_eq!(escaped("ä/€\u{9b}".as_bytes(), true), "ä/€\\#302\\#233");
        assert_eq!(escaped("ä".as_bytes(), false), "\\#303\\#244");
    }

    #[test]
    fn errors_carry_their_number_in_parentheses() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(OsError(&error).to_string(), "No such file or directory (2)");
    }
}
