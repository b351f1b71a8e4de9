//! Reading directories whole: names, and the times that tell what changed.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxFlags};

use super::{Named, Result};

/// Nanoseconds since 1970.
pub type Nanos = i64;

/// The times of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Of the last change of anything about it; nobody can set it.
    pub ctime: Nanos,
    /// Of the last change of its content, or what somebody set.
    pub mtime: Nanos,
    /// When it was made, where the file system knows.
    pub btime: Option<Nanos>,
}

/// An entry as a scan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// It is a directory.
    pub is_dir: bool,
    /// Something is mounted here (known since Linux 5.8).
    pub is_mount: bool,
    /// Device, as (major, minor).
    pub dev: (u32, u32),
    /// Inode number.
    pub ino: u64,
    /// Its times.
    pub times: Times,
}

/// Opens a directory anew for reading, with a position of its own.
///
/// # Errors
/// As `openat(2)`.
pub fn reopen_dir(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::fs::openat(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .named("openat")
}

/// Opens a directory's entry that is a directory itself: no symlink is followed, and no mount is entered.
///
/// # Errors
/// As `openat2(2)`: `EXDEV` for a mount point.
pub fn open_entry(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve).named("openat2")
}

/// Looks at an entry of a directory; a symlink is not followed.
///
/// # Errors
/// As `statx(2)`.
pub fn sight(dir: BorrowedFd<'_>, name: &CStr) -> Result<Sight> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    Ok(Sight::from(rustix::fs::statx(dir, name, flags, WANTED).named("statx")?))
}

/// Looks at what is open.
///
/// # Errors
/// As `statx(2)`.
pub fn sight_of(fd: BorrowedFd<'_>) -> Result<Sight> {
    Ok(Sight::from(rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, WANTED).named("statx")?))
}

/// Gives each entry of a directory but `.` and `..` to `take`, by name and inode number, until that says `false`.
///
/// # Errors
/// As `getdents64(2)`.
pub fn read_dir(dir: BorrowedFd<'_>, mut take: impl FnMut(&CStr, u64) -> bool) -> Result<()> {
    let mut buffer = [const { MaybeUninit::<u8>::uninit() }; BUFFER];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.named("getdents64")?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") && !take(name, entry.ino()) {
            break;
        }
    }
    Ok(())
}

/// Both clocks at one moment, in nanoseconds: the wall's, and the one that counts since boot, through suspends.
pub fn clocks() -> (Nanos, Nanos) {
    let of = |clock| {
        let now = rustix::time::clock_gettime(clock);
        nanos(now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0))
    };
    (of(rustix::time::ClockId::Realtime), of(rustix::time::ClockId::Boottime))
}

/// The unique number of this boot, as text.
///
/// # Errors
/// When `/proc` is not readable.
pub fn boot_id() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").named("read of boot_id")?;
    Ok(text.trim().to_owned())
}

/// What tells one file system from another, as text: its UUID where the kernel gives it, else `f_fsid`.
///
/// # Errors
/// As `fstatfs(2)`.
pub fn file_system_id(fd: BorrowedFd<'_>) -> Result<String> {
    if let Some(uuid) = uuid(fd) {
        return Ok(uuid.iter().map(|byte| format!("{byte:02x}")).collect());
    }
    let found = rustix::fs::fstatfs(fd).named("fstatfs")?;
    Ok(format!("{:x} {:?}", found.f_type, found.f_fsid))
}

/// An event counter that wakes whoever polls it.
///
/// # Errors
/// As `eventfd(2)`.
pub fn bell() -> Result<OwnedFd> {
    let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
    rustix::event::eventfd(0, flags).named("eventfd")
}

/// Rings it.
pub fn ring(bell: BorrowedFd<'_>) {
    // Full means that it rings already.
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

/// Takes note that it rang.
pub fn silence(bell: BorrowedFd<'_>) {
    let _ = rustix::io::read(bell, &mut [0u8; 8]);
}

/// Kernel: `struct fsuuid2` and `FS_IOC_GETFSUUID` of include/uapi/linux/fs.h, since 6.9.
fn uuid(fd: BorrowedFd<'_>) -> Option<[u8; 16]> {
    #[repr(C)]
    struct FsUuid2 {
        len: u8,
        uuid: [u8; 16],
    }
    const FS_IOC_GETFSUUID: u32 = 0x8011_1500;
    let mut found = FsUuid2 { len: 0, uuid: [0; 16] };
    // SAFETY: the call writes at most the 17 bytes of `found`, which outlives it.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_GETFSUUID as libc::Ioctl, &raw mut found) };
    (done == 0 && found.len == 16).then_some(found.uuid)
}

fn nanos(seconds: i64, nanoseconds: u32) -> Nanos {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.into())
}

impl From<Statx> for Sight {
    fn from(found: Statx) -> Self {
        let time = |time: rustix::fs::StatxTimestamp| nanos(time.tv_sec, time.tv_nsec);
        let knows_birth = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        Sight {
            is_dir: FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory,
            is_mount: found.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT),
            dev: (found.stx_dev_major, found.stx_dev_minor),
            ino: found.stx_ino,
            times: Times {
                ctime: time(found.stx_ctime),
                mtime: time(found.stx_mtime),
                btime: knows_birth.then(|| time(found.stx_btime)),
            },
        }
    }
}

const WANTED: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::MODE)
    .union(StatxFlags::INO)
    .union(StatxFlags::CTIME)
    .union(StatxFlags::MTIME)
    .union(StatxFlags::BTIME);

/// Bytes of names read at once.
const BUFFER: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::file;

    #[test]
    fn a_directory_is_read_with_its_times() {
        let dir = tempfile::tempdir().unwrap();
        let (before, _) = clocks();
        std::fs::write(dir.path().join("a"), b"x").unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::os::unix::fs::symlink("d", dir.path().join("l")).unwrap();
        let fd = file::open_dir(dir.path()).unwrap();
        let mut names = Vec::new();
        read_dir(fd.as_fd(), |name, ino| {
            names.push((name.to_owned(), ino));
            true
        })
        .unwrap();
        names.sort();
        assert_eq!(names.iter().map(|(name, _)| name.to_bytes()).collect::<Vec<_>>(), [b"a", b"d", b"l"]);
        let seen: Vec<_> = names.iter().map(|(name, _)| sight(fd.as_fd(), name).unwrap()).collect();
        assert_eq!(seen.iter().map(|sight| sight.is_dir).collect::<Vec<_>>(), [false, true, false]);
        assert!(seen.iter().zip(&names).all(|(sight, (_, ino))| sight.ino == *ino));
        assert!(seen.iter().all(|sight| sight.times.ctime > before - 1_000_000_000));
        assert!(open_entry(fd.as_fd(), &names[1].0).is_ok());
        assert!(open_entry(fd.as_fd(), &names[2].0).is_err(), "a symlink");
        assert_eq!(sight_of(fd.as_fd()).unwrap().dev, seen[0].dev);
    }

    #[test]
    fn a_bell_rings_until_it_is_silenced() {
        let bell = bell().unwrap();
        ring(bell.as_fd());
        ring(bell.as_fd());
        silence(bell.as_fd());
        assert!(rustix::io::read(&bell, &mut [0u8; 8]).is_err());
    }
}
