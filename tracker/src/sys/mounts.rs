//! The mount table of this process.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::{Named, Result};

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The mount's number.
    pub id: u64,
    /// `s_dev` of the super block as (major, minor). On btrfs `st_dev` is another number.
    pub dev: (u32, u32),
    /// The directory of the file system that is visible at the mount point; `/` unless it is a bind mount or a
    /// subvolume.
    pub root: Vec<u8>,
    /// Where it is mounted.
    pub point: Vec<u8>,
    /// Such as `ext4`.
    pub fs_type: String,
    /// The device or other source.
    pub source: String,
}

impl Mount {
    /// `s_dev` as the kernel keeps it and the eBPF programs see it: 12 bits of major, 20 bits of minor.
    pub fn kernel_dev(&self) -> u32 {
        self.dev.0 << 20 | self.dev.1
    }

    /// Whether the whole file system is visible here.
    pub fn shows_all(&self) -> bool {
        self.root == b"/"
    }
}

/// All mounts, in the order they were made.
///
/// # Errors
/// When `/proc` is not readable.
pub fn read() -> Result<Vec<Mount>> {
    let text = std::fs::read("/proc/self/mountinfo").named("read of /proc/self/mountinfo")?;
    Ok(text.split(|&b| b == b'\n').filter_map(parse).collect())
}

/// Mounts a file system where nobody else sees it: the mount is in no namespace, and goes with the descriptor.
///
/// # Errors
/// The kernel does not permit it, or knows no such file system.
pub fn detached(fs_type: &str, options: &[(&str, &str)]) -> Result<OwnedFd> {
    let context = mount::fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC).named("fsopen")?;
    for (key, value) in options {
        mount::fsconfig_set_string(&context, *key, *value).named("fsconfig")?;
    }
    mount::fsconfig_create(&context).named("fsconfig")?;
    let none = MountAttrFlags::empty();
    let mounted = mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, none).named("fsmount")?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&mounted, ".", flags, Mode::empty()).named("openat")
}

/// The mount that an absolute path without symlinks is on: the longest mount point above it, and of several there
/// the last.
pub fn of_path<'a>(mounts: &'a [Mount], path: &[u8]) -> Option<&'a Mount> {
    mounts.iter().filter(|m| is_within(path, &m.point)).max_by_key(|m| m.point.len())
}

/// The number of the mount that an absolute path leads to at present; a symlink at the end is not followed.
///
/// # Errors
/// As `statx(2)`.
pub fn id_of_path(path: &[u8]) -> Result<u64> {
    let path = std::ffi::OsStr::from_bytes(path);
    let asked = StatxFlags::MNT_ID;
    let found = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, asked).named("statx")?;
    Ok(found.stx_mnt_id)
}

/// A path with symlinks, `.` and `..` taken out.
///
/// # Errors
/// As `realpath(3)`.
pub fn real_path(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).named("realpath")
}

/// Whether `path` is `dir` or lies below it.
pub fn is_within(path: &[u8], dir: &[u8]) -> bool {
    dir == b"/" || path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`, see proc(5).
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&b| b == b' ');
    let id = number(fields.next()?)?;
    let _parent = fields.next()?;
    let dev = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let mut rest = fields.skip_while(|&f| f != b"-").skip(1);
    let fs_type = String::from_utf8_lossy(rest.next()?).into_owned();
    let source = String::from_utf8_lossy(&unescape(rest.next().unwrap_or_default())).into_owned();
    Some(Mount { id, dev: (dev.0.parse().ok()?, dev.1.parse().ok()?), root, point, fs_type, source })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Space, tab, newline and backslash stand as three octal digits after a backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match (byte, octal) {
            (b'\\', Some(value)) => {
                out.push(value);
                rest = &tail[3..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_escapes_is_read() {
        let line = b"36 35 259:3 /sub\\040vol /mnt/a\\134b rw master:1 shared:2 - btrfs /dev/x rw";
        let mount = parse(line).unwrap();
        assert_eq!(mount.dev, (259, 3));
        assert_eq!(mount.kernel_dev(), 259 << 20 | 3);
        assert_eq!((mount.root.as_slice(), mount.point.as_slice()), (&b"/sub vol"[..], &b"/mnt/a\\b"[..]));
        assert_eq!(mount.fs_type, "btrfs");
        assert!(!mount.shows_all());
    }

    #[test]
    fn the_innermost_and_latest_mount_wins() {
        let at = |id, point: &[u8]| Mount {
            id,
            dev: (0, 1),
            root: b"/".to_vec(),
            point: point.to_vec(),
            fs_type: String::new(),
            source: String::new(),
        };
        let mounts = [at(1, b"/"), at(2, b"/a"), at(3, b"/a"), at(4, b"/ab")];
        assert_eq!(of_path(&mounts, b"/a/x").unwrap().id, 3);
        assert_eq!(of_path(&mounts, b"/abc").unwrap().id, 1);
    }

    #[test]
    fn the_table_of_this_process_names_the_root() {
        assert!(read().unwrap().iter().any(|m| m.point == b"/"));
    }
}
