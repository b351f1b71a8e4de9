//! What the caller hands to a session: the entries of one file list.

use std::sync::Arc;

pub use ebbtide_wire::proto::IoErrors;

use crate::source::{Details, Meta};

/// The entries of one session, in the order in which they go on the wire.
///
/// Order is free but for two rules of the protocol: every parent directory of an entry must be in the list as a
/// directory, and entries of mode 0 come first (rsync 3.4.3 refuses them elsewhere).
#[derive(Clone, Debug, Default)]
pub struct FileListInput {
    /// The entries; the report speaks of them by their position here.
    pub entries: Vec<Entry>,
    /// What went wrong while the list was made: [`IoErrors::GENERAL`] stops the receiver from deleting.
    pub io_errors: IoErrors,
}

impl FileListInput {
    /// A list without errors.
    pub fn new(entries: Vec<Entry>) -> Self {
        FileListInput { entries, io_errors: IoErrors::default() }
    }
}

/// One entry of a file list.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name on the wire and, but for [`Entry::place`], below the source's root: bytes without a leading slash; `.` for the root
    /// itself.
    pub name: Box<[u8]>,
    /// The attributes as `lstat` gave them; [`Meta::MISSING`] asks the receiver to remove the name.
    pub meta: Meta,
    /// Of a directory: what the list says about its content. No meaning for other entries.
    pub dir: DirRole,
    /// Which of the source's roots the name lies below; 0 where there is one.
    pub root: u16,
    /// What `lstat` does not tell, if it was asked for and there is something.
    pub details: Option<Arc<Details>>,
    /// Its content is not sent, even if the daemon asks for it; the list has it so that the receiver keeps what it has.
    pub withheld: bool,
    /// What few entries have: a list may hold millions.
    pub(crate) rare: Option<Box<Rare>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Rare {
    link_target: Box<[u8]>,
    place: Option<Box<[u8]>>,
}

impl Entry {
    /// An entry whose directory role is [`DirRole::Plain`].
    pub fn new(name: impl Into<Box<[u8]>>, meta: Meta) -> Self {
        Entry {
            name: name.into(),
            meta,
            dir: DirRole::Plain,
            root: 0,
            details: None,
            withheld: false,
            rare: None,
        }
    }

    /// What a symlink points to; empty for other entries.
    pub fn link_target(&self) -> &[u8] {
        self.rare.as_ref().map_or(&[], |rare| &rare.link_target)
    }

    /// Where it is read below the root.
    pub fn place(&self) -> &[u8] {
        self.rare.as_ref().and_then(|rare| rare.place.as_deref()).unwrap_or(&self.name)
    }

    /// A name that the receiver is to remove (needs `delete_missing_args`).
    pub fn missing(name: impl Into<Box<[u8]>>) -> Self {
        Entry::new(name, Meta::MISSING)
    }

    /// The same with what the symlink points to.
    #[must_use]
    pub fn with_link_target(mut self, target: impl Into<Box<[u8]>>) -> Self {
        let target = target.into();
        if !target.is_empty() {
            self.rare.get_or_insert_default().link_target = target;
        }
        self
    }

    /// The same, read at another place below the root than where its name on the wire leads.
    #[must_use]
    pub fn read_at(mut self, place: impl Into<Box<[u8]>>) -> Self {
        self.rare.get_or_insert_default().place = Some(place.into());
        self
    }

    /// The same with what `lstat` does not tell.
    #[must_use]
    pub fn with_details(mut self, details: Option<Arc<Details>>) -> Self {
        self.details = details;
        self
    }

    /// The same with another role.
    #[must_use]
    pub fn with_role(mut self, dir: DirRole) -> Self {
        self.dir = dir;
        self
    }
}

/// What the list says about the content of one of its directories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirRole {
    /// Its attributes count, its content is not described: nothing is deleted in it.
    #[default]
    Plain,
    /// The list is complete for it: with a delete option, what the list lacks is removed.
    Content,
    /// It is here only because an entry below it is (needs `relative`).
    Implied,
}
