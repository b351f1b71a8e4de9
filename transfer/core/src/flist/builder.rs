//! Collects entries and brings them into rsync's order.

use super::{Entry, EntryRef};
use crate::Error;
use crate::sender::Ndx;

/// Which kind of id a name is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdKind {
    /// A user.
    User,
    /// A group.
    Group,
}

/// Collects entries in any order.
#[derive(Debug, Default)]
pub struct FileListBuilder {
    count: usize,
}

impl FileListBuilder {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry. Entries are numbered from 0 in the order of these calls.
    ///
    /// # Errors
    /// Misuse: a name, target or number that cannot be sent.
    pub fn push(&mut self, entry: &Entry<'_>) -> Result<usize, Error> {
        let _ = entry;
        self.count += 1;
        Ok(self.count - 1)
    }

    /// Entries so far.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sorts. `name` is asked once for each user and group id in the list, and for id 0; it answers `None` when the
    /// id has no name. With numeric ids it is of no use, and `|_, _| None` will do.
    ///
    /// # Errors
    /// Misuse: an entry whose parent directory is not in the list as a directory, or a name that is in it twice.
    pub fn finish(self, name: impl FnMut(IdKind, u32) -> Option<Vec<u8>>) -> Result<FileList, Error> {
        let _ = name;
        Ok(FileList { count: self.count })
    }
}

/// A sorted list. Positions in it are the indexes that the protocol uses from then on.
#[derive(Debug)]
pub struct FileList {
    count: usize,
}

impl FileList {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entry at an index.
    pub fn get(&self, ndx: Ndx) -> Option<EntryRef<'_>> {
        let _ = ndx;
        None
    }

    /// Which call of [`FileListBuilder::push`] brought the entry at an index.
    pub fn pushed(&self, ndx: Ndx) -> Option<usize> {
        let _ = ndx;
        None
    }
}
