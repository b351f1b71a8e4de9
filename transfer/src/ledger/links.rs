//! Which names an inode with several names has, as far as anyone looked.
//!
//! The table is a memory, not a truth: whoever uses a name from it looks first whether it still leads to the inode.

use std::collections::HashMap;

use ebbtide_feed::RelPath;

use super::key::MirrorNumber;

/// An inode, by its file system's device number and its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Inode {
    /// `st_dev`
    pub(crate) dev: u64,
    /// `st_ino`
    pub(crate) ino: u64,
}

impl Inode {
    /// What the keys of all its names begin with.
    pub(crate) fn prefix(self, mirror: MirrorNumber) -> Vec<u8> {
        [&mirror.0.to_be_bytes()[..], &self.dev.to_be_bytes(), &self.ino.to_be_bytes()].concat()
    }
}

/// Names that were seen, and names that were seen not to lead to the inode any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkNotes {
    /// Seen with more than one link.
    pub(crate) seen: Vec<(Inode, RelPath)>,
    /// Looked for and not found.
    pub(crate) gone: Vec<(Inode, RelPath)>,
}

impl LinkNotes {
    /// Whether there is nothing to note.
    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.gone.is_empty()
    }
}

/// What was noted since the last commit: key and whether the name is there.
#[derive(Debug, Default)]
pub(crate) struct Uncommitted(HashMap<Vec<u8>, bool>);

impl Uncommitted {
    /// Takes in notes.
    pub(crate) fn note(&mut self, mirror: MirrorNumber, notes: &LinkNotes) {
        for (names, present) in [(&notes.gone, false), (&notes.seen, true)] {
            for (inode, path) in names {
                let mut key = inode.prefix(mirror);
                key.extend_from_slice(path.as_bytes());
                self.0.insert(key, present);
            }
        }
    }

    /// Corrects the committed names of an inode.
    pub(crate) fn correct(&self, mirror: MirrorNumber, inode: Inode, names: &mut Vec<RelPath>) {
        let prefix = inode.prefix(mirror);
        for (key, present) in &self.0 {
            let Some(path) = key.strip_prefix(&*prefix) else { continue };
            names.retain(|name| name.as_bytes() != path);
            if *present {
                names.extend(RelPath::new(path).ok());
            }
        }
    }

    /// Everything, to be committed.
    pub(crate) fn take(&mut self) -> HashMap<Vec<u8>, bool> {
        std::mem::take(&mut self.0)
    }

    /// Number of names noted.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_noted_since_the_last_commit_are_seen_at_once() {
        let (mirror, inode) = (MirrorNumber(1), Inode { dev: 2, ino: 3 });
        let path = |name: &[u8]| RelPath::new(name).unwrap();
        let mut uncommitted = Uncommitted::default();
        let notes = LinkNotes { seen: vec![(inode, path(b"new"))], gone: vec![(inode, path(b"old"))] };
        uncommitted.note(mirror, &notes);
        let mut names = vec![path(b"kept"), path(b"old")];
        uncommitted.correct(mirror, inode, &mut names);
        assert_eq!(names, [path(b"kept"), path(b"new")]);
        uncommitted.correct(mirror, Inode { dev: 2, ino: 4 }, &mut names);
        assert_eq!(names.len(), 2);
    }
}
