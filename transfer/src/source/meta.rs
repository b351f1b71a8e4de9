//! What `lstat` says about one entry, reduced to what a list entry and a later comparison need.

use rustix::fs::{FileType, Stat};

/// The attributes of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Type and permission bits, as in `st_mode`. 0 stands for an entry that does not exist.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub nlink: u64,
    /// Length in bytes (of a symlink: of its target).
    pub size: u64,
    /// Time of the last change of content.
    pub mtime: Time,
    /// Time of the last change of content or attributes.
    pub ctime: Time,
    /// Device number of the file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Device number that a device entry stands for, 0 for others.
    pub rdev: u64,
}

/// A moment: seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub secs: i64,
    /// 0 to 999 999 999.
    pub nanos: u32,
}

impl Meta {
    /// The attributes of an entry that does not exist: mode 0, everything else 0.
    pub const MISSING: Meta = Meta {
        mode: 0,
        uid: 0,
        gid: 0,
        nlink: 0,
        size: 0,
        mtime: Time { secs: 0, nanos: 0 },
        ctime: Time { secs: 0, nanos: 0 },
        dev: 0,
        ino: 0,
        rdev: 0,
    };

    /// The kind of entry.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether this is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == FileType::RegularFile
    }

    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Whether this is a symlink.
    pub fn is_symlink(&self) -> bool {
        self.kind() == FileType::Symlink
    }

    /// Whether `other` shows that the content may have changed since `self` was read: another inode, size, mtime
    /// or ctime.
    pub fn content_differs(&self, other: &Meta) -> bool {
        (self.dev, self.ino, self.size, self.mtime, self.ctime)
            != (other.dev, other.ino, other.size, other.mtime, other.ctime)
    }
}

impl From<&Stat> for Meta {
    #[allow(
        clippy::unnecessary_cast,
        clippy::useless_conversion,
        reason = "widths differ between architectures"
    )]
    fn from(stat: &Stat) -> Self {
        Meta {
            mode: stat.st_mode as u32,
            uid: stat.st_uid,
            gid: stat.st_gid,
            nlink: stat.st_nlink as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: Time { secs: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 },
            ctime: Time { secs: stat.st_ctime as i64, nanos: stat.st_ctime_nsec as u32 },
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            rdev: stat.st_rdev as u64,
        }
    }
}
