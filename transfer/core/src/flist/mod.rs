//! The file list: entries, rsync's order, indexes, and its form on the wire.

mod attributes;
mod builder;
mod encode;
mod entry;
mod list;
mod order;
mod table;

pub use attributes::{Acl, AclName, Attributes, Xattrs};
pub use builder::FileListBuilder;
pub(crate) use encode::{Layout, ListEncoder};
pub use entry::{Device, DirKind, Entry, EntryRef, Mtime, mode};
pub use list::{FileList, IdKind};

#[cfg(test)]
mod tests;
