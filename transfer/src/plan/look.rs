//! Looking at names once per plan.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ebbtide_feed::RelPath;
use ebbtide_wire::delta::Digest;
use ebbtide_wire::proto::Checksum;

use crate::source::{Look, Meta, Source};
use crate::text::OsError;
use crate::walk::MAX_NAME;

/// The root's name on the wire.
pub(crate) const ROOT: &[u8] = b".";

/// The name of a path on the wire.
pub(crate) fn wire_name(path: &RelPath) -> &[u8] {
    if path.is_root() { ROOT } else { path.as_bytes() }
}

/// What stands where a fact points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// An entry. Its name is shorter than the fact's path where something on the way is no directory any more.
    There(Box<[u8]>, Look),
    /// Nothing. The name is the topmost one on the way that is missing.
    Missing(Box<[u8]>),
    /// An entry, or nothing, that the rules exclude, or something below it, or below a directory that is not looked into.
    Hidden(Hidden),
    /// It could not be looked at.
    Blind(String),
}

impl Sight {
    /// What lies below a directory that is not looked into.
    fn beyond(dir: &[u8]) -> Sight {
        Sight::Hidden(Hidden { name: dir.into(), missing: false, by_kind: false })
    }
}

/// An excluded name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hidden {
    /// The topmost one on the way that is excluded.
    pub(crate) name: Box<[u8]>,
    /// Nothing stands there.
    pub(crate) missing: bool,
    /// The rules let it be sent, or removed, if it is of the other kind: a directory, or none.
    pub(crate) by_kind: bool,
}

/// Looks at names and remembers what it saw, so that all entries of one list fit together.
#[derive(Debug)]
pub(crate) struct Looker {
    source: Arc<Source>,
    seen: HashMap<Box<[u8]>, Result<Look, Unseen>>,
}

/// Why there is nothing to see.
#[derive(Clone, Debug)]
enum Unseen {
    Missing,
    Failed(String),
}

impl Looker {
    /// Nothing seen yet.
    pub(crate) fn new(source: Arc<Source>) -> Self {
        Looker { source, seen: HashMap::new() }
    }

    /// The path of the source.
    pub(crate) fn root(&self) -> &Path {
        self.source.path(0)
    }

    /// Looks where `path` leads, without following symlinks.
    pub(crate) fn sight(&mut self, path: &RelPath) -> Sight {
        if path.as_bytes().len() > MAX_NAME {
            return Sight::Blind(format!(
                "its path has {} bytes, rsync carries {MAX_NAME}",
                path.as_bytes().len()
            ));
        }
        let name = wire_name(path);
        for ancestor in ancestors(name) {
            match self.see(ancestor) {
                Ok(look) if self.is_beyond(ancestor, &look.meta) => return Sight::beyond(ancestor),
                Ok(look) if look.meta.is_dir() && !self.source.hides(0, ancestor, true) => {}
                other => return self.judged(ancestor, other),
            }
        }
        let seen = self.see(name);
        self.judged(name, seen)
    }

    /// Whether this is a directory of which nothing but itself is part of the mirror: another file system is mounted
    /// there, or was. The root was seen before.
    pub(crate) fn is_beyond(&self, name: &[u8], meta: &Meta) -> bool {
        let is_other = |root: &Look| root.meta.dev != meta.dev;
        meta.is_dir()
            && name != ROOT
            && (self.source.is_closed(name) || self.known(ROOT).is_some_and(is_other))
    }

    /// What was seen, if the rules want it.
    fn judged(&self, name: &[u8], seen: Result<Look, Unseen>) -> Sight {
        let (file, dir) = (self.source.hides(0, name, false), self.source.hides(0, name, true));
        let (hidden, missing) = match &seen {
            Ok(look) => (if look.meta.is_dir() { dir } else { file }, false),
            Err(Unseen::Missing) => (file || dir, true),
            Err(Unseen::Failed(_)) => (file && dir, false),
        };
        if hidden {
            return Sight::Hidden(Hidden { name: name.into(), missing, by_kind: file != dir });
        }
        sight(name, seen)
    }

    /// What stands at a name whose ancestors were found to be directories.
    pub(crate) fn known(&self, name: &[u8]) -> Option<&Look> {
        self.seen.get(name)?.as_ref().ok()
    }

    /// The digest of the bytes that a file has now; `None` if it cannot be read.
    pub(crate) fn digest(&self, name: &[u8], checksum: Checksum) -> Option<Digest> {
        self.source.digest(0, name, checksum).ok()
    }

    fn see(&mut self, name: &[u8]) -> Result<Look, Unseen> {
        if let Some(seen) = self.seen.get(name) {
            return seen.clone();
        }
        let seen = self.source.look(0, name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Unseen::Missing,
            _ => Unseen::Failed(OsError(&error).to_string()),
        });
        self.seen.insert(name.into(), seen.clone());
        seen
    }
}

fn sight(name: &[u8], seen: Result<Look, Unseen>) -> Sight {
    match seen {
        Ok(look) => Sight::There(name.into(), look),
        Err(Unseen::Missing) => Sight::Missing(name.into()),
        Err(Unseen::Failed(why)) => Sight::Blind(why),
    }
}

/// The directories on the way to `name`, from the root down; nothing for the root itself.
pub(crate) fn ancestors(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &name[..at]);
    (name != ROOT).then_some(ROOT).into_iter().chain(slashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_a_name_begins_at_the_root() {
        let way = |name| ancestors(name).collect::<Vec<_>>();
        assert_eq!(way(b"a/b/c"), [&b"."[..], b"a", b"a/b"]);
        assert_eq!(way(b"a"), [b"."]);
        assert!(way(ROOT).is_empty());
    }

    #[test]
    fn nothing_below_a_closed_directory_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/d/e")).unwrap();
        let path = |path: &str| RelPath::new(path).unwrap();
        let source = Source::open(dir.path()).unwrap().closing(&[path("a/d")]);
        let mut looker = Looker::new(Arc::new(source));
        assert!(matches!(looker.sight(&path("a/d")), Sight::There(_, look) if look.meta.is_dir()));
        for below in ["a/d/e", "a/d/none", "a/d/e/none"] {
            assert_eq!(looker.sight(&path(below)), Sight::beyond(b"a/d"));
        }
        assert!(matches!(looker.sight(&path("a/none")), Sight::Missing(_)));
    }

    #[test]
    fn a_name_below_something_that_is_no_directory_any_more_leads_to_that() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("l")).unwrap();
        let mut looker = Looker::new(Arc::new(Source::open(dir.path()).unwrap()));
        let mut sight = |path: &str| looker.sight(&RelPath::new(path).unwrap());
        assert!(matches!(sight("f/x/y"), Sight::There(name, _) if *name == *b"f"));
        assert!(
            matches!(sight("l/passwd"), Sight::There(name, look) if *name == *b"l" && look.meta.is_symlink())
        );
        assert_eq!(sight("gone/x/y"), Sight::Missing((*b"gone").into()));
        assert!(matches!(sight(&"x/".repeat(2048)[..4095]), Sight::Missing(_)));
        assert!(matches!(sight(&"y/".repeat(2049)[..4097]), Sight::Blind(_)));
    }
}
