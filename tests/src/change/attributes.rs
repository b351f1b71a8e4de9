//! Changes of attributes.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

use super::Expected::Touched;
use super::{Change, Later, Place, two_directories, two_files};

const fn of_a_file(name: &'static str, act: fn(&Place) -> io::Result<Later>) -> Change {
    Change { name, before: two_files, act, facts: &[Touched("file")], quiet: None }
}

const fn of_a_directory(name: &'static str, act: fn(&Place) -> io::Result<Later>) -> Change {
    Change { name, before: two_directories, act, facts: &[Touched("dir")], quiet: None }
}

pub(super) const CHANGES: &[Change] = &[
    of_a_file("chmod", |place| {
        fs::set_permissions(place.at("file"), Permissions::from_mode(0o640))?;
        Ok(None)
    }),
    of_a_directory("chmod of a directory", |place| {
        fs::set_permissions(place.at("dir"), Permissions::from_mode(0o711))?;
        Ok(None)
    }),
    of_a_file("chown", |place| {
        chown(place.at("file"), Some(7), Some(8))?;
        Ok(None)
    }),
    Change {
        before: |place| symlink("target", place.at("file")).expect("a file system of our own is writable"),
        ..of_a_file("chown of a symlink", |place| {
            lchown(place.at("file"), Some(7), Some(8))?;
            Ok(None)
        })
    },
    of_a_file("utimes", |place| {
        rustix::fs::utimensat(CWD, place.at("file"), &long_ago(), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(None)
    }),
    of_a_directory("utimes of a directory", |place| {
        rustix::fs::utimensat(CWD, place.at("dir"), &long_ago(), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(None)
    }),
    of_a_file("setxattr", |place| {
        rustix::fs::setxattr(place.at("file"), "user.ebbtide", b"value", XattrFlags::empty())?;
        Ok(None)
    }),
    of_a_file("removexattr", |place| {
        rustix::fs::setxattr(place.at("file"), "user.ebbtide", b"value", XattrFlags::empty())?;
        let file = place.at("file");
        Ok(Some(Box::new(move || Ok(rustix::fs::removexattr(file, "user.ebbtide")?))))
    }),
    of_a_file("setting an ACL", |place| {
        rustix::fs::setxattr(place.at("file"), "system.posix_acl_access", &acl(), XattrFlags::empty())?;
        Ok(None)
    }),
    of_a_directory("setting a default ACL", |place| {
        rustix::fs::setxattr(place.at("dir"), "system.posix_acl_default", &acl(), XattrFlags::empty())?;
        Ok(None)
    }),
];

fn long_ago() -> Timestamps {
    let then = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
    Timestamps { last_access: then, last_modification: then }
}

/// An access list that lets user 1 read. Kernel: include/uapi/linux/posix_acl_xattr.h.
fn acl() -> Vec<u8> {
    const VERSION: u32 = 2;
    const NOBODY: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(0x01, 6, NOBODY), (0x02, 4, 1), (0x04, 4, NOBODY), (0x10, 4, NOBODY), (0x20, 4, NOBODY)];
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}
