//! Facts about names below a mirror's root.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One thing that is known about a name below a mirror's root.
///
/// Facts are hints about where to look. What is sent is what the file system says when the sender looks, so facts
/// may repeat, overlap or come late, and their order carries no meaning.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fact {
    /// Something about this entry changed.
    Touched {
        /// The entry; the root itself is the empty path.
        path: RelPath,
        /// Whether its content may have changed. `false` promises that only attributes (mode, owner, times) did,
        /// so the receiver's quick check may decide about the data. With `true` an equal size and mtime prove
        /// nothing, and the content is compared.
        data: bool,
    },
    /// The name was removed or renamed away. It may be back by now.
    Gone {
        /// The name that went.
        path: RelPath,
    },
    /// The entry `from` was renamed to `to`: a hint that lets the receiver reuse what it has. It always comes
    /// together with the facts that are sufficient without it.
    Moved {
        /// The name before.
        from: RelPath,
        /// The name after.
        to: RelPath,
    },
    /// Detail was lost: the entries of this one directory must be compared, those below its subdirectories not.
    Relist {
        /// The directory; the root itself is the empty path.
        dir: RelPath,
    },
    /// A directory came from outside or was never seen: everything below it must be compared.
    Subtree {
        /// The directory; the root itself is the empty path.
        dir: RelPath,
        /// Whether another directory may have stood at this name before (it was renamed here). What the
        /// destination has under the name then belongs to that other one, and an equal size and mtime of two
        /// entries proves nothing.
        replaced: bool,
    },
    /// As [`Fact::Subtree`] with `replaced`, but what the destination has may well be what is here: nothing is removed
    /// beforehand, and the content of all files is compared.
    Contents {
        /// The directory; the root itself is the empty path.
        dir: RelPath,
    },
    /// A directory was made; it comes together with the facts that are sufficient if none was here before. Where the
    /// directory above is still to be compared, another one may have stood here that nobody saw go: that comparison would
    /// find the name on both sides, and not look into it.
    Made {
        /// The directory.
        dir: RelPath,
    },
}

impl Fact {
    /// The name that the fact is about; for [`Fact::Moved`] the new one.
    pub fn path(&self) -> &RelPath {
        match self {
            Fact::Touched { path, .. } | Fact::Gone { path } | Fact::Moved { to: path, .. } => path,
            Fact::Relist { dir }
            | Fact::Subtree { dir, .. }
            | Fact::Contents { dir }
            | Fact::Made { dir } => dir,
        }
    }
}

/// A path below a mirror's root: bytes, without a leading or trailing slash, without empty, `.` or `..`
/// components and without NUL. The empty path is the root itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct RelPath(Box<[u8]>);

/// Why bytes are not a [`RelPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelPathError {
    /// A NUL byte, which no Linux name can hold.
    #[error("path holds a NUL byte")]
    Nul,
    /// An empty, `.` or `..` component, or a slash at either end.
    #[error("path has an empty, \".\" or \"..\" component")]
    Component,
}

impl RelPath {
    /// The root itself.
    pub fn root() -> Self {
        RelPath(Box::default())
    }

    /// Checks and takes the bytes of a path.
    ///
    /// # Errors
    /// The bytes hold a NUL, or a component that is empty, `.` or `..`.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, RelPathError> {
        let bytes = bytes.into();
        if bytes.contains(&0) {
            return Err(RelPathError::Nul);
        }
        if !bytes.is_empty() && bytes.split(|&b| b == b'/').any(|c| matches!(c, b"" | b"." | b"..")) {
            return Err(RelPathError::Component);
        }
        Ok(RelPath(bytes.into_boxed_slice()))
    }

    /// The bytes, components separated by `/`; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same as a [`Path`] (empty for the root).
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry `name` in this directory.
    ///
    /// # Errors
    /// `name` is empty, `.`, `..`, or holds a slash or a NUL.
    pub fn join(&self, name: &[u8]) -> Result<Self, RelPathError> {
        if name.contains(&b'/') || name.is_empty() {
            return Err(RelPathError::Component);
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        if !self.is_root() {
            bytes.extend_from_slice(&self.0);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        RelPath::new(bytes)
    }

    /// The directory that holds this entry; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(RelPath(self.0[..end].into()))
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        let start = self.0.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
        &self.0[start..]
    }

    /// Whether this path is `dir` or lies below it.
    pub fn is_within(&self, dir: &RelPath) -> bool {
        dir.is_root()
            || self.0.strip_prefix(dir.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

impl TryFrom<Vec<u8>> for RelPath {
    type Error = RelPathError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, RelPathError> {
        RelPath::new(bytes)
    }
}

impl From<RelPath> for Vec<u8> {
    fn from(path: RelPath) -> Vec<u8> {
        path.0.into_vec()
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Control characters, backslashes and bytes that are not UTF-8 come out escaped, so a name cannot forge a log line.
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() || c == '\\' {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(s: &[u8]) -> RelPath {
        RelPath::new(s).unwrap()
    }

    #[test]
    fn a_path_that_could_lead_out_of_the_root_is_refused() {
        for bad in [&b"../x"[..], b"a/../b", b"/a", b"a/", b"a//b", b".", b"a/."] {
            assert_eq!(RelPath::new(bad), Err(RelPathError::Component), "{bad:?}");
        }
        assert_eq!(RelPath::new(&b"a\0b"[..]), Err(RelPathError::Nul));
    }

    #[test]
    fn parents_end_at_the_root() {
        assert_eq!(path(b"a/b").parent(), Some(path(b"a")));
        assert_eq!(path(b"a").parent(), Some(RelPath::root()));
        assert_eq!(RelPath::root().parent(), None);
        assert_eq!(RelPath::root().join(b"a").unwrap().join(b"b").unwrap(), path(b"a/b"));
    }

    #[test]
    fn a_sibling_with_the_same_beginning_is_not_within() {
        assert!(path(b"a/b").is_within(&path(b"a")));
        assert!(path(b"a").is_within(&path(b"a")));
        assert!(!path(b"ab").is_within(&path(b"a")));
        assert!(path(b"ab").is_within(&RelPath::root()));
    }

    #[test]
    fn a_name_cannot_forge_a_log_line() {
        assert_eq!(path(b"a\nb\xff\x1b[0m\\").to_string(), "a\\nb\\xff\\u{1b}[0m\\\\");
    }
}
