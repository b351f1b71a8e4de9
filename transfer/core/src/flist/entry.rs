//! One entry of a file list.

use super::attributes::Attributes;

/// Bits of a mode, as on the wire (Linux numbers).
pub mod mode {
    /// Mask of the type.
    pub const TYPE: u32 = 0o170_000;
    /// Socket.
    pub const SOCKET: u32 = 0o140_000;
    /// Symbolic link.
    pub const SYMLINK: u32 = 0o120_000;
    /// Regular file.
    pub const FILE: u32 = 0o100_000;
    /// Block device.
    pub const BLOCK: u32 = 0o060_000;
    /// Directory.
    pub const DIRECTORY: u32 = 0o040_000;
    /// Character device.
    pub const CHARACTER: u32 = 0o020_000;
    /// FIFO.
    pub const FIFO: u32 = 0o010_000;
}

/// A modification time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtime {
    /// Seconds since 1970; may be negative.
    pub secs: i64,
    /// 0 to 999,999,999. Protocol 30 cannot carry it.
    pub nanos: u32,
}

/// Numbers of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// What the list says about a directory's content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirKind {
    /// The list holds all its entries: with delete, others are removed.
    Content,
    /// Its attributes are to be set, its content is unknown.
    #[default]
    Plain,
    /// It stands in the list only because something below it does; only with `--relative`. With
    /// `--no-implied-dirs` its attributes are left alone.
    Implied,
}

/// An entry as the caller gives it; [`FileListBuilder::push`](crate::flist::FileListBuilder::push) copies it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Path relative to the root of the transfer, components separated by `/`, 1 to 4095 bytes; `.` is the root itself.
    pub name: &'a [u8],
    /// Type and permissions; 0 for a name to be removed (`--delete-missing-args`).
    pub mode: u32,
    /// Length of the content in bytes. Of a symlink the length of its target is sent, of a device 0.
    pub size: u64,
    /// Modification time.
    pub mtime: Mtime,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of devices, and of specials at protocol 30.
    pub device: Device,
    /// Of symlinks: 1 to 4095 bytes.
    pub target: &'a [u8],
    /// Non-directories with the same number are names of one inode; needs `hard_links`. A group of one is sent as
    /// an entry like others.
    pub link_group: Option<u64>,
    /// Of directories.
    pub dir: DirKind,
    /// Of regular files, with `checksum`: the whole digest, unseeded (see [`crate::delta::file_digest`]).
    pub checksum: &'a [u8],
    /// Of non-directories, with `atimes`: time of the last access, in seconds since 1970; may be negative.
    pub atime: i64,
    /// ACLs and extended attributes, with `acls` and `xattrs`; `None` if it has neither.
    pub attributes: Option<&'a Attributes>,
}

impl<'a> Entry<'a> {
    /// A name that is to be removed at the receiver.
    pub fn missing(name: &'a [u8]) -> Self {
        Entry { name, ..Entry::default() }
    }
}

/// An entry of a finished list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// Directory part of the path, empty at the top.
    pub parent: &'a [u8],
    /// Last component.
    pub base: &'a [u8],
    /// Type and permissions; 0 for a name to be removed.
    pub mode: u32,
    /// Length of the content in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Mtime,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Symlink target, empty for others.
    pub target: &'a [u8],
}

impl EntryRef<'_> {
    /// The whole path.
    pub fn path(&self) -> Vec<u8> {
        if self.parent.is_empty() { self.base.to_vec() } else { [self.parent, b"/", self.base].concat() }
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & mode::TYPE == mode::FILE
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.mode & mode::TYPE == mode::DIRECTORY
    }
}
