//! Looking at names and descriptors.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, XattrFlags};

use super::{Named, Result};
use crate::id::Ino;

/// What kind of entry a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A symlink, FIFO, socket or device.
    Other,
}

/// What `stat` tells, as far as the tracker asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// `st_dev`. On btrfs this is the subvolume's, not the super block's.
    pub dev: u64,
    /// Inode number.
    pub ino: Ino,
    /// Number of names; 0 for what is only still open. Directories of btrfs have 1.
    pub nlink: u64,
    /// Directory, file or other.
    pub kind: Kind,
}

/// Opens a directory for reading. A symlink at the end is followed.
///
/// # Errors
/// As `openat(2)`.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).named("openat")
}

/// Makes a file in a directory, for reading and writing.
///
/// # Errors
/// As `openat(2)`.
pub fn create_in(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    rustix::fs::openat(dir, OsStr::from_bytes(name), flags, Mode::RUSR | Mode::WUSR).named("openat")
}

/// Sets an extended attribute.
///
/// # Errors
/// As `fsetxattr(2)`.
pub fn set_extended(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()).named("fsetxattr")
}

/// Looks at a name in a directory; a symlink is not followed.
///
/// # Errors
/// As `fstatat(2)`.
pub fn look_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Look> {
    let stat =
        rustix::fs::statat(dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW).named("fstatat")?;
    Ok(Look::from(stat))
}

/// Looks at an absolute path; a symlink at the end is not followed.
///
/// # Errors
/// As `lstat(2)`.
pub fn look_at_path(path: &[u8]) -> Result<Look> {
    Ok(Look::from(rustix::fs::lstat(OsStr::from_bytes(path)).named("lstat")?))
}

/// Looks at what is open.
///
/// # Errors
/// As `fstat(2)`.
pub fn look_at_open(fd: BorrowedFd<'_>) -> Result<Look> {
    Ok(Look::from(rustix::fs::fstat(fd).named("fstat")?))
}

/// The present path of what is open, seen from our root directory. Only as good as the moment; `" (deleted)"` is
/// appended to what has no name any more.
///
/// # Errors
/// As `readlink(2)`.
pub fn path_of(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(std::fs::read_link(link).named("readlink")?.into_os_string().into_vec())
}

/// Opens the directory that a directory is in.
///
/// # Errors
/// As `openat(2)`.
pub fn open_parent(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, "..", flags, Mode::empty()).named("openat")
}

/// A name in a directory, as the directory itself tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: Vec<u8>,
    /// The inode; where something is mounted, the one underneath.
    pub ino: Ino,
    /// It is a directory, as far as is told.
    pub directory: bool,
}

/// All names in a directory, which may be open with `O_PATH`, but for `.` and `..`.
///
/// # Errors
/// As `openat(2)` and `getdents64(2)`.
pub fn entries(dir: BorrowedFd<'_>) -> Result<Vec<Listed>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::openat(dir, ".", flags, Mode::empty()).named("openat")?;
    let mut all = Vec::new();
    for entry in rustix::fs::Dir::new(open).named("getdents64")? {
        let entry = entry.named("getdents64")?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            let directory = entry.file_type() == FileType::Directory;
            all.push(Listed { name: name.to_vec(), ino: Ino(entry.ino()), directory });
        }
    }
    Ok(all)
}

/// Which mount something open is on. From Linux 6.8 on no later mount ever has the same; before, one that is made after
/// it was unmounted may.
///
/// # Errors
/// As `statx(2)`.
pub fn mount_id(fd: BorrowedFd<'_>) -> Result<String> {
    let unique = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let found = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID | unique).named("statx")?;
    let kind = if found.stx_mask & STATX_MNT_ID_UNIQUE != 0 { "unique" } else { "number" };
    Ok(format!("{kind} {}", found.stx_mnt_id))
}

/// `include/uapi/linux/stat.h`.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// Whether a directory lies outside of the part of its file system that its mount shows (a bind mount, or a btrfs
/// subvolume's mount): the kernel then refuses to go up from it.
///
/// # Errors
/// As `fstatat(2)`, other than `ENOENT`.
pub fn is_outside_of_mount(dir: BorrowedFd<'_>) -> Result<bool> {
    match look_at(dir, b"..") {
        Ok(_) => Ok(false),
        Err(e) if e.is_not_found() => Ok(true),
        Err(e) => Err(e),
    }
}

/// Starts writing back the dirty pages of a regular file, so that the next store through a mapping faults and is
/// marked again. A page that is being written already is waited for first, since it may have been dirtied since.
///
/// Returns `false`, having done nothing, if the name is not that regular file any more.
///
/// # Errors
/// As `open(2)` and `sync_file_range(2)`.
pub fn start_writeback(dir: BorrowedFd<'_>, name: &[u8], ino: Ino) -> Result<bool> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(dir, OsStr::from_bytes(name), flags, Mode::empty()).named("openat")?;
    if look_at_open(found.as_fd())?.ino != ino {
        return Ok(false);
    }
    start_writeback_of(found.as_fd())
}

/// The same for a file that is open with `O_PATH`. Returns `false`, having done nothing, if it is no regular file.
///
/// # Errors
/// As `open(2)` and `sync_file_range(2)`.
pub fn start_writeback_of(found: BorrowedFd<'_>) -> Result<bool> {
    if look_at_open(found)?.kind != Kind::Regular {
        return Ok(false);
    }
    // Only what was just seen to be a regular file is really opened: opening a FIFO or device could do things.
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).named("open")?;
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: the call takes no pointers, and `file` keeps the descriptor open for its duration.
    let done = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) };
    if done == 0 { Ok(true) } else { Err(std::io::Error::last_os_error()).named("sync_file_range") }
}

/// How long a tick of the clock lasts that the kernel stamps files with.
pub fn clock_tick() -> std::time::Duration {
    let resolution = rustix::time::clock_getres(rustix::time::ClockId::RealtimeCoarse);
    std::time::Duration::new(
        u64::try_from(resolution.tv_sec).unwrap_or(0),
        u32::try_from(resolution.tv_nsec).unwrap_or(10_000_000),
    )
}

impl From<rustix::fs::Stat> for Look {
    #[allow(
        clippy::unnecessary_cast,
        clippy::useless_conversion,
        reason = "the fields' types differ between architectures"
    )]
    fn from(stat: rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::Regular,
            _ => Kind::Other,
        };
        Look { dev: stat.st_dev as u64, ino: Ino(stat.st_ino as u64), nlink: stat.st_nlink as u64, kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writeback_is_started_for_that_regular_file_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"x").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let fd = open_dir(dir.path()).unwrap();
        let ino = look_at(fd.as_fd(), b"a").unwrap().ino;
        assert!(start_writeback(fd.as_fd(), b"a", ino).unwrap());
        assert!(!start_writeback(fd.as_fd(), b"a", Ino(ino.0 + 1)).unwrap());
        let fifo = look_at(fd.as_fd(), b"fifo").unwrap().ino;
        assert!(!start_writeback(fd.as_fd(), b"fifo", fifo).unwrap());
        assert!(start_writeback(fd.as_fd(), b"none", ino).unwrap_err().is_not_found());
    }

    #[test]
    fn the_path_of_a_directory_follows_its_renames() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let fd = open_dir(&dir.path().join("a")).unwrap();
        std::fs::rename(dir.path().join("a"), dir.path().join("b\n")).unwrap();
        assert!(path_of(fd.as_fd()).unwrap().ends_with(b"/b\n"));
        assert!(!is_outside_of_mount(fd.as_fd()).unwrap());
    }
}
