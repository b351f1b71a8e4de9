//! The plan: from facts about names to file lists, by looking at what is there now.
//!
//! ```text
//!   facts ──► look at each name ──┬─ missing ─────────────► removals ┐
//!                                 ├─ data may have changed ► -I ─────┼─► names: one list, or two
//!                                 ├─ attributes only ──────► quick ──┘
//!                                 ├─ Relist, Subtree ──────► tree: lists of bounded size, one after the other
//!                                 └─ cannot be looked at ──► waits by itself
//! ```
//!
//! A list holds the entries that changed and the directories on the way to them, which gives those back the mtime
//! that the daemon's own work disturbs.

pub(crate) mod aliases;
pub(crate) mod list;
pub(crate) mod look;
pub(crate) mod moves;
pub(crate) mod names;
pub(crate) mod pace;
pub(crate) mod recent;
pub(crate) mod tree;

/// What of a mirror's configuration shapes its lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Remove at the destination what the source does not have.
    pub(crate) delete: bool,
    /// Keep hard links.
    pub(crate) hard_links: bool,
    /// The daemon knows `--delete-missing-args`. Without, the directory that held a missing name is compared.
    pub(crate) missing_args: bool,
    /// Renamed files are linked to what the destination has under their old names.
    pub(crate) pairs: bool,
    /// Renamed directories are linked to what the destination has under their old names.
    pub(crate) renamed_dirs: bool,
}
