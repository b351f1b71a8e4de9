//! Names of source files: as arguments, and in the file that `--files-from` reads.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One thing that the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The directory that names on the wire start from.
    pub(super) root: PathBuf,
    /// The name on the wire, `.` for the root itself.
    pub(super) name: Vec<u8>,
    /// Whether it ended in a slash: of a directory, the content is meant.
    pub(super) content: bool,
    /// Whether directories on the way to it go into the list (`-R`).
    pub(super) with_parents: bool,
    /// Whether the root goes into the list as one of those.
    pub(super) with_root: bool,
    /// Directories on the way that may be symlinks, because an argument named them.
    pub(super) leading: Vec<Vec<u8>>,
}

/// A name that leads out of the tree it is in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found \"..\" dir in relative path: {}", crate::text::Escaped(.0))]
pub(super) struct LeadsOut(pub(super) Vec<u8>);

impl Named {
    /// A source argument without `-R`: `dir` is sent by its name, `dir/` as its content.
    pub(super) fn plain(argument: &[u8]) -> Named {
        let (way, name) = split_last(argument);
        if means_content(argument) || name == b".." {
            return Named::of(path(argument), b".".to_vec(), true);
        }
        Named::of(path(if way.is_empty() { b"." } else { way }), name.to_vec(), false)
    }

    /// A source argument with `-R`: what stands behind `/./`, or all of it, is its name.
    pub(super) fn relative(argument: &[u8]) -> Result<Named, LeadsOut> {
        let at = argument.windows(3).position(|window| window == b"/./");
        let (root, rest) = match at {
            Some(0) => (&b"/"[..], &argument[3..]),
            Some(at) => (&argument[..at], &argument[at + 3..]),
            None if argument.first() == Some(&b'/') => (&b"/"[..], argument),
            None => (&b"."[..], argument),
        };
        let (name, leads_out) = clean(rest);
        if leads_out {
            return Err(LeadsOut(rest.to_vec()));
        }
        let named = Named::with_its_parents(path(root), name, rest);
        let leading = named.leading_dirs();
        Ok(Named { leading, ..named })
    }

    /// A name of `--files-from`, below the source argument: `..` at its top is the top, as for rsync.
    pub(super) fn below(root: PathBuf, name: &[u8]) -> Named {
        Named::with_its_parents(root, clean(name).0, name)
    }

    fn with_its_parents(root: PathBuf, name: Vec<u8>, given: &[u8]) -> Named {
        let with_root = given.starts_with(b"./");
        Named { with_parents: true, with_root, ..Named::of(root, name, means_content(given)) }
    }

    /// The directories that the argument itself names, down to the last one that is reached through a symlink.
    fn leading_dirs(&self) -> Vec<Vec<u8>> {
        let parents = self.name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let ends = parents.chain(self.content.then_some(self.name.len()));
        let mut dirs: Vec<Vec<u8>> = ends.map(|end| self.name[..end].to_vec()).collect();
        while dirs.last().is_some_and(|dir| !self.root.join(OsStr::from_bytes(dir)).is_symlink()) {
            dirs.pop();
        }
        dirs
    }

    fn of(root: PathBuf, name: Vec<u8>, content: bool) -> Named {
        Named { root, name, content, with_parents: false, with_root: false, leading: Vec::new() }
    }
}

/// Reads the names in a file, or on standard input for `-`. Unless they end in NULs, empty lines and those that
/// begin with `#` or `;` are left out.
pub(super) fn read_list(file: &Path, from0: bool) -> io::Result<Vec<Vec<u8>>> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        io::stdin().lock().read_to_end(&mut bytes)?;
    } else {
        File::open(file)?.read_to_end(&mut bytes)?;
    }
    Ok(split_list(&bytes, from0))
}

fn split_list(bytes: &[u8], from0: bool) -> Vec<Vec<u8>> {
    let ends = |byte: &u8| if from0 { *byte == 0 } else { matches!(byte, b'\n' | b'\r' | 0) };
    let comment = |name: &[u8]| !from0 && matches!(name.first(), Some(b'#' | b';'));
    let names = bytes.split(ends).filter(|name| !name.is_empty() && !comment(name));
    names.map(<[u8]>::to_vec).collect()
}

/// Without empty and `.` components, and with `..` resolved; and whether it leads out.
fn clean(name: &[u8]) -> (Vec<u8>, bool) {
    let mut leads_out = false;
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => leads_out |= parts.pop().is_none(),
            part => parts.push(part),
        }
    }
    (if parts.is_empty() { b".".to_vec() } else { parts.join(&b'/') }, leads_out)
}

/// Whether the directory's content is meant rather than the directory.
fn means_content(name: &[u8]) -> bool {
    name.ends_with(b"/") || name.ends_with(b"/.") || name == b"."
}

/// The way to the last component, with its slash where that is the root, and the last component.
fn split_last(argument: &[u8]) -> (&[u8], &[u8]) {
    match argument.iter().rposition(|&b| b == b'/') {
        Some(0) => (b"/", &argument[1..]),
        Some(at) => (&argument[..at], &argument[at + 1..]),
        None => (b"", argument),
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(named: &Named) -> (&str, &str, bool) {
        (named.root.to_str().unwrap(), std::str::from_utf8(&named.name).unwrap(), named.content)
    }

    #[test]
    fn a_trailing_slash_means_the_content() {
        assert_eq!(seen(&Named::plain(b"a/b/")), ("a/b/", ".", true));
        assert_eq!(seen(&Named::plain(b"a/b/.")), ("a/b/.", ".", true));
        assert_eq!(seen(&Named::plain(b".")), (".", ".", true));
        assert_eq!(seen(&Named::plain(b"..")), ("..", ".", true));
        assert_eq!(seen(&Named::plain(b"a/..")), ("a/..", ".", true));
    }

    #[test]
    fn without_it_the_directory_itself_is_sent() {
        assert_eq!(seen(&Named::plain(b"a/b")), ("a", "b", false));
        assert_eq!(seen(&Named::plain(b"b")), (".", "b", false));
        assert_eq!(seen(&Named::plain(b"/b")), ("/", "b", false));
    }

    #[test]
    fn relative_names_start_behind_the_dot() {
        assert_eq!(seen(&Named::relative(b"/a/./b/c").unwrap()), ("/a", "b/c", false));
        assert_eq!(seen(&Named::relative(b"/a/b/").unwrap()), ("/", "a/b", true));
        assert_eq!(seen(&Named::relative(b"a//b").unwrap()), (".", "a/b", false));
        assert!(Named::relative(b"./a").unwrap().with_root);
    }

    #[test]
    fn names_may_not_lead_out_of_the_source() {
        let root = PathBuf::from("r");
        assert_eq!(seen(&Named::below(root.clone(), b"/a/../b")), ("r", "b", false));
        assert_eq!(seen(&Named::below(root, b"a/../../b")), ("r", "b", false));
        assert!(Named::relative(b"a/../../b").is_err());
    }

    #[test]
    fn lists_leave_comments_out_unless_they_end_in_nuls() {
        assert_eq!(split_list(b"a\n#b\n\n;c\r\nd", false), [&b"a"[..], b"d"]);
        assert_eq!(split_list(b"a\n\0#b\0", true), [&b"a\n"[..], b"#b"]);
    }
}
