//! What a pattern is matched against: one slice, or several that are read as one.

use crate::glob::Outcome;

/// Bytes that can be looked at by position.
pub(crate) trait Text: Copy {
    /// How many there are.
    fn length(self) -> usize;

    /// The one at this position.
    fn byte(self, at: usize) -> Option<u8>;

    /// Whether a slash stands there or further on.
    fn slash_from(self, at: usize) -> bool;

    /// Whether `bytes` stand there; if not, whether only because the text ends.
    fn begins(self, at: usize, bytes: &[u8]) -> Result<(), Outcome>;
}

impl Text for &[u8] {
    fn length(self) -> usize {
        self.len()
    }

    fn byte(self, at: usize) -> Option<u8> {
        self.get(at).copied()
    }

    fn slash_from(self, at: usize) -> bool {
        self[at..].contains(&b'/')
    }

    fn begins(self, at: usize, bytes: &[u8]) -> Result<(), Outcome> {
        let rest = &self[at..];
        if rest.starts_with(bytes) {
            return Ok(());
        }
        Err(if bytes.starts_with(rest) { Outcome::NoAtAll } else { Outcome::No })
    }
}

/// A name with something before and after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined<'a> {
    pub(crate) head: &'a [u8],
    pub(crate) name: &'a [u8],
    pub(crate) tail: &'a [u8],
}

impl Text for Joined<'_> {
    fn length(self) -> usize {
        self.head.len() + self.name.len() + self.tail.len()
    }

    fn byte(self, at: usize) -> Option<u8> {
        let Some(at) = at.checked_sub(self.head.len()) else { return self.head.get(at).copied() };
        let Some(at) = at.checked_sub(self.name.len()) else { return self.name.get(at).copied() };
        self.tail.get(at).copied()
    }

    fn slash_from(self, at: usize) -> bool {
        (at..self.length()).any(|at| self.byte(at) == Some(b'/'))
    }

    fn begins(self, at: usize, bytes: &[u8]) -> Result<(), Outcome> {
        for (offset, byte) in bytes.iter().enumerate() {
            match self.byte(at + offset) {
                None => return Err(Outcome::NoAtAll),
                Some(found) if found == *byte => {}
                Some(_) => return Err(Outcome::No),
            }
        }
        Ok(())
    }
}

/// White space as C has it.
pub(crate) fn is_space(byte: u8) -> bool {
    byte == 0x0b || byte.is_ascii_whitespace()
}

/// The last component of a path.
pub(crate) fn base(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |at| &path[at + 1..])
}

/// A path without `.`, doubled slashes and, where something is left to go up from, `..`. An absolute path stays one.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let absolute = path.first() == Some(&b'/');
    let mut kept: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if kept.last().is_some_and(|last| *last != b"..") => {
                kept.pop();
            }
            b".." if absolute => {}
            part => kept.push(part),
        }
    }
    let joined = kept.join(&b'/');
    match (absolute, joined.is_empty()) {
        (true, _) => [b"/", &joined[..]].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_by_their_text() {
        for (path, clean_path) in [
            ("/a//b/./c", "/a/b/c"),
            ("/a/../b", "/b"),
            ("/..", "/"),
            ("a/..", "."),
            ("../x", "../x"),
            ("./x/", "x"),
        ] {
            assert_eq!(clean(path.as_bytes()), clean_path.as_bytes(), "{path}");
        }
    }

    #[test]
    fn joined_pieces_read_as_one_text() {
        let text = Joined { head: b"ab/", name: b"cd", tail: b"/" };
        let read: Vec<u8> = (0..).map_while(|at| text.byte(at)).collect();
        assert_eq!((read, text.length()), (b"ab/cd/".to_vec(), 6));
        assert!(text.slash_from(3) && !Joined { tail: b"", ..text }.slash_from(3));
        assert_eq!(text.begins(1, b"b/c"), Ok(()));
        assert_eq!(text.begins(4, b"d/x"), Err(Outcome::NoAtAll));
    }
}
