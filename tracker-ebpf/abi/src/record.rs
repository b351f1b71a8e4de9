//! The record that goes through the ring when an inode is marked for the first time in its epoch.

/// Longest name of a directory entry in bytes, as Linux has it (`NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// Longest name that fits a [`ShortRecord`], in bytes.
pub const SHORT_NAME: usize = 48;

/// Names of one inode that are reported, one record each.
pub const MAX_ALIASES: u32 = 4;

/// Bits of [`RecordHead::flags`].
pub mod flags {
    /// The inode had no directory entry in the kernel's cache: parent and name are empty.
    pub const NAMELESS: u32 = 1;
    /// The entry is the root of its file system: parent is itself, name is empty or `/`.
    pub const ROOT: u32 = 1 << 1;
    /// A rename was under way while the name was read: it may be torn.
    pub const TORN: u32 = 1 << 2;
    /// There are, or may be, further names that no record tells (more than
    /// [`MAX_ALIASES`](super::MAX_ALIASES), or the list changed while it was read).
    pub const MORE: u32 = 1 << 3;
    /// The name was longer than [`NAME_MAX`](super::NAME_MAX) and is cut.
    pub const CUT: u32 = 1 << 4;
}

/// All of a record but the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RecordHead {
    /// Inode number.
    pub ino: u64,
    /// Inode number of the directory that holds the name, 0 if unknown.
    pub parent_ino: u64,
    /// Slot of the device.
    pub slot: u32,
    /// Low half of the epoch that the mark belongs to.
    pub epoch: u32,
    /// Generation of the inode.
    pub generation: u32,
    /// Generation of the directory.
    pub parent_generation: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// See [`flags`].
    pub flags: u32,
    /// Type and permission bits, as in `st_mode`.
    pub mode: u16,
    /// Bytes of the name, at most [`NAME_MAX`].
    pub name_len: u16,
    /// Which of the inode's names this is, from 0.
    pub alias: u16,
    /// Always zero.
    pub pad: u16,
}

/// A record with room for any name.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Record {
    /// What is known of the inode.
    pub head: RecordHead,
    /// The name, its first `head.name_len` bytes.
    pub name: [u8; NAME_MAX + 1],
}

/// A record with room for a short name, to save ring space.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ShortRecord {
    /// What is known of the inode.
    pub head: RecordHead,
    /// The name, its first `head.name_len` bytes.
    pub name: [u8; SHORT_NAME],
}

const _: () = {
    assert!(size_of::<RecordHead>() == 48);
    assert!(size_of::<Record>() == 304);
    assert!(size_of::<ShortRecord>() == 96);
};
