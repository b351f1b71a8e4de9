//! The file list: entries, rsync's order, indexes.

mod builder;
mod entry;

pub use builder::{FileList, FileListBuilder, IdKind};
pub use entry::{Device, DirKind, Entry, EntryRef, Mtime, mode};
