//! What the resolver asks of the file system.

use crate::id::{Fs, Handle, Ino, Name};

/// Looks at the file system.
pub trait Look {
    /// The present absolute path of a directory.
    fn directory(&mut self, fs: Fs, dir: &Handle) -> Found;
    /// What a name in a directory stands for at present, symlinks not followed; `None` if there is nothing.
    fn entry(&mut self, fs: Fs, dir: &Handle, name: &Name) -> Option<Entry>;
    /// How many names an inode has at present; `None` when it is no more.
    fn names(&mut self, fs: Fs, inode: &Handle) -> Option<u64>;
    /// A present absolute path of an inode that need not be a directory.
    fn inode(&mut self, fs: Fs, inode: &Handle) -> Found;
    /// Starts writing back the dirty pages of this file, if it is a regular file and this inode. Returns whether
    /// what is stored through a mapping from now on is sure to be marked again.
    fn clean(&mut self, fs: Fs, dir: &Handle, name: &Name, ino: Ino) -> bool;
    /// The same for an inode by handle.
    fn clean_inode(&mut self, fs: Fs, inode: &Handle) -> bool;
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The inode.
    pub ino: Ino,
    /// Number of its names.
    pub nlink: u64,
}

/// Where a handle led.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// To this absolute path.
    At(Vec<u8>),
    /// To nothing: it was removed.
    Gone,
    /// To where no mount of ours shows it.
    Outside,
    /// It is just being made, and will have a name in a moment.
    Unready,
    /// It exists, but has no path that is known, or looking failed.
    Unknown,
}
