//! Reading what `lstat` does not tell: ACLs, extended attributes, access times.
//!
//! An entry is reached through `/proc/self/fd`, by a descriptor of the entry itself or of the directory that holds
//! it: symlinks and devices cannot be opened, and have extended attributes too. Nothing is followed.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use ebbtide_wire::flist::{Acl, Attributes, Xattrs};
use ebbtide_wire::proto::ServerOptions;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::acl;
use super::meta::Meta;
use super::root::Source;
use super::rules::XattrRules;

/// Which attributes are read besides those of `lstat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// ACLs (`-A`).
    pub acls: bool,
    /// 1: extended attributes, but for those that rsync keeps its own notes in (`-X`); 2: all (`-XX`).
    pub xattrs: u8,
    /// Access times (`-U`).
    pub atimes: bool,
}

impl Wanted {
    /// What goes into a list with these options.
    pub fn of(options: &ServerOptions) -> Wanted {
        Wanted { acls: options.acls, xattrs: options.xattrs, atimes: options.atimes > 0 }
    }

    /// Whether `lstat` tells all.
    pub fn is_nothing(self) -> bool {
        self == Wanted::default()
    }

    /// The access time of the entry `name` in an open directory, or of what it leads to; 0 where nobody wants it.
    ///
    /// # Errors
    /// The entry is gone.
    pub(crate) fn atime_in(
        self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        meta: &Meta,
        followed: bool,
    ) -> io::Result<i64> {
        if !self.atimes || meta.is_dir() {
            return Ok(0);
        }
        let flags = if followed { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        Ok(rustix::fs::statat(directory, name, flags)?.st_atime as i64)
    }

    /// The access time of the entry that a descriptor stands for; 0 where nobody wants it.
    ///
    /// # Errors
    /// The file system fails.
    pub(super) fn atime_of(self, entry: BorrowedFd<'_>, meta: &Meta) -> io::Result<i64> {
        if self.atimes && !meta.is_dir() { Ok(rustix::fs::fstat(entry)?.st_atime as i64) } else { Ok(0) }
    }

    /// Whether an attribute of this name is sent. Peer: rsync's xattrs.c on Linux leaves out the namespace `system`
    /// unless there are rules, and with one `-X` the names `user.rsync.%…`; what the kernel does not show to us it
    /// does not show to rsync.
    fn takes(self, name: &[u8], rules: Option<&XattrRules>) -> bool {
        let hidden = rules.map_or(name.starts_with(b"system."), |rules| rules.hide(name));
        !hidden && (self.xattrs > 1 || !name.starts_with(b"user.rsync.%"))
    }
}

/// What `lstat` does not tell about an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Details {
    /// ACLs and extended attributes.
    pub attributes: Attributes,
    /// Time of the last access in seconds since 1970, 0 unless it was asked for.
    pub atime: i64,
}

/// Reads the details of many entries; equal ones are kept once.
#[derive(Debug, Default)]
pub(crate) struct DetailReader {
    wanted: Wanted,
    rules: Option<XattrRules>,
    /// The file system on which an ACL that is there is among the names of extended attributes.
    lists_acls: Option<u64>,
    names: Vec<u8>,
    value: Vec<u8>,
    known: HashSet<Arc<Details>>,
}

/// How an entry is reached.
struct Place {
    path: CString,
    /// Whether the path's last component must be followed to get there.
    follow: bool,
}

impl DetailReader {
    /// Reads what is wanted of entries below one of the source's roots.
    pub(crate) fn new(source: &Source, root: u16) -> Self {
        let mut reader = DetailReader { wanted: source.wanted(), ..DetailReader::default() };
        reader.set_root(source, root);
        reader
    }

    /// Goes on below another root.
    pub(crate) fn set_root(&mut self, source: &Source, root: u16) {
        self.rules = source.xattr_rules(root);
        self.lists_acls = source.lists_acls(root);
    }

    /// The details of the entry `name` in an open directory, or of what it leads to if it is a symlink that was
    /// `followed`; `None` if it has none. Its access time was asked for before its target was read, which changes it.
    ///
    /// # Errors
    /// They cannot be read; `NotFound` if the entry is gone.
    pub(crate) fn read_in(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        meta: &Meta,
        atime: i64,
        followed: bool,
    ) -> io::Result<Option<Arc<Details>>> {
        if self.wanted.is_nothing() {
            return Ok(None);
        }
        self.read(&Place::within(directory, name, followed)?, meta, atime)
    }

    /// The details of the entry that a descriptor stands for, an O_PATH one too.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn read_of(
        &mut self,
        entry: BorrowedFd<'_>,
        meta: &Meta,
        atime: i64,
    ) -> io::Result<Option<Arc<Details>>> {
        if self.wanted.is_nothing() {
            return Ok(None);
        }
        self.read(&Place::of(entry)?, meta, atime)
    }

    fn read(&mut self, place: &Place, meta: &Meta, atime: i64) -> io::Result<Option<Arc<Details>>> {
        let mut details = Details { atime, ..Details::default() };
        if self.wanted.xattrs > 0 {
            place.names(&mut self.names)?;
            details.attributes.xattrs = self.xattrs(place)?;
        }
        if self.wanted.acls && !meta.is_symlink() {
            details.attributes.access = self.acl(place, meta, c"system.posix_acl_access")?;
            if meta.is_dir() {
                details.attributes.default = self.acl(place, meta, c"system.posix_acl_default")?;
            }
        }
        Ok((details != Details::default()).then(|| self.shared(details)))
    }

    fn shared(&mut self, details: Details) -> Arc<Details> {
        if let Some(known) = self.known.get(&details) {
            return Arc::clone(known);
        }
        let details = Arc::new(details);
        // Access times differ anyway, and a set of each entry's own attributes is of no use.
        if details.atime == 0 && self.known.len() < KNOWN {
            self.known.insert(Arc::clone(&details));
        }
        details
    }

    fn acl(&mut self, place: &Place, meta: &Meta, name: &CStr) -> io::Result<Acl> {
        let listed = self.wanted.xattrs > 0 && self.lists_acls == Some(meta.dev);
        if listed && !self.names.split(|byte| *byte == 0).any(|found| found == name.to_bytes()) {
            return Ok(Acl::default());
        }
        match place.value(name, &mut self.value)? {
            true => acl::parse(&self.value).ok_or_else(|| io::Error::other("an ACL of unknown form")),
            false => Ok(Acl::default()),
        }
    }

    /// Those whose names were read.
    fn xattrs(&mut self, place: &Place) -> io::Result<Xattrs> {
        let mut found: Vec<(&[u8], Vec<u8>)> = Vec::new();
        for name in self.names.split_inclusive(|byte| *byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            if self.wanted.takes(name.to_bytes(), self.rules.as_ref())
                && place.value(name, &mut self.value)?
            {
                found.push((name.to_bytes(), self.value.clone()));
            }
        }
        Ok(Xattrs::new(found.iter().map(|(name, value)| (*name, value.as_slice()))))
    }
}

/// The value of one extended attribute of what a descriptor stands for.
///
/// # Errors
/// There is no such attribute any more (ENODATA), or it cannot be read.
pub(super) fn value_of(entry: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    match Place::of(entry)?.value(&CString::new(name)?, &mut value)? {
        true => Ok(value),
        false => Err(Errno::NODATA.into()),
    }
}

impl Place {
    fn of(entry: BorrowedFd<'_>) -> io::Result<Place> {
        let path = CString::new(format!("/proc/self/fd/{}", entry.as_raw_fd()))?;
        Ok(Place { path, follow: true })
    }

    fn within(directory: BorrowedFd<'_>, name: &CStr, follow: bool) -> io::Result<Place> {
        let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.to_bytes());
        Ok(Place { path: CString::new(path)?, follow })
    }

    /// Reads a value; `false` if there is no such attribute, or none at all on this file system.
    fn value(&self, name: &CStr, value: &mut Vec<u8>) -> io::Result<bool> {
        fill(value, |room| match self.follow {
            true => rustix::fs::getxattr(&self.path, name, room),
            false => rustix::fs::lgetxattr(&self.path, name, room),
        })
    }

    /// Reads the names, each ended by a NUL.
    fn names(&self, names: &mut Vec<u8>) -> io::Result<bool> {
        fill(names, |room| match self.follow {
            true => rustix::fs::listxattr(&self.path, room),
            false => rustix::fs::llistxattr(&self.path, room),
        })
    }
}

/// Calls with room for most things, and with room for all if that does not do.
fn fill(
    buffer: &mut Vec<u8>,
    mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<bool> {
    let mut room = USUAL;
    loop {
        buffer.resize(room, 0);
        match call(buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(true);
            }
            Err(Errno::RANGE) if room < MOST => room = MOST,
            Err(error) => {
                buffer.clear();
                return if is_none(error) { Ok(false) } else { Err(error.into()) };
            }
        }
    }
}

/// There is no such attribute, or the file system or the kind of entry knows none.
fn is_none(error: Errno) -> bool {
    matches!(error, Errno::NODATA | Errno::NOTSUP)
}

/// Room that most lists of names and most values need, in bytes: what fits into an inode's block on ext4.
const USUAL: usize = 4096;

/// What the kernel's VFS gives at most, in bytes: XATTR_SIZE_MAX and XATTR_LIST_MAX.
const MOST: usize = 65_536;

/// How many different details are remembered to be shared.
const KNOWN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{XattrFlags, lsetxattr};

    const ALL: Wanted = Wanted { acls: true, xattrs: 1, atimes: false };

    /// The entry's details by both ways; `None` where this file system has no extended attributes.
    fn both(dir: &tempfile::TempDir, name: &str, wanted: Wanted) -> Option<Arc<Details>> {
        let source = Source::open(dir.path()).unwrap().reading(wanted);
        let look = source.look(0, name.as_bytes()).unwrap();
        let opened = source.open_dir(0, b".").unwrap();
        let name = CString::new(name).unwrap();
        let opened = std::os::fd::AsFd::as_fd(&opened);
        let atime = wanted.atime_in(opened, &name, &look.meta, false).unwrap();
        let within = DetailReader::new(&source, 0).read_in(opened, &name, &look.meta, atime, false);
        assert_eq!(within.unwrap(), look.details);
        look.details
    }

    fn set(dir: &tempfile::TempDir, name: &str, attribute: &str, value: &[u8]) -> bool {
        lsetxattr(dir.path().join(name), attribute, value, XattrFlags::empty()).is_ok()
    }

    #[test]
    fn extended_attributes_are_read_and_rsyncs_own_only_when_asked_for_twice() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        assert_eq!(both(&dir, "f", Wanted::default()), None);
        let long = [b'v'; 3000];
        if !set(&dir, "f", "user.b", b"2") || !set(&dir, "f", "user.a", &long) {
            return;
        }
        assert!(set(&dir, "f", "user.rsync.%stat", b"x") && set(&dir, "f", "user.rsync.other", b"y"));
        let expected: Vec<(&[u8], &[u8])> =
            vec![(b"user.a", &long), (b"user.b", b"2"), (b"user.rsync.other", b"y")];
        let found = both(&dir, "f", ALL).unwrap();
        assert_eq!(found.attributes.xattrs, Xattrs::new(expected.clone()));
        let found = both(&dir, "f", Wanted { xattrs: 2, ..ALL }).unwrap();
        let all = expected.into_iter().chain([(&b"user.rsync.%stat"[..], &b"x"[..])]);
        assert_eq!(found.attributes.xattrs, Xattrs::new(all));
        let source = Source::open(dir.path()).unwrap();
        let meta = source.look(0, b"f").unwrap().meta;
        assert_eq!(source.xattr_value(0, b"f", &meta, b"user.a").unwrap(), long);
        let missing = source.xattr_value(0, b"f", &meta, b"user.c").unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(libc::ENODATA));
    }

    #[test]
    fn a_symlink_has_its_own_attributes_and_not_those_of_its_target() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("l")).unwrap();
        if !set(&dir, "f", "user.a", b"1") || !set(&dir, "l", "trusted.b", b"2") {
            return;
        }
        let found = both(&dir, "l", ALL).unwrap();
        assert_eq!(found.attributes.xattrs, Xattrs::new([(&b"trusted.b"[..], &b"2"[..])]));
    }

    #[test]
    fn an_acl_is_found_with_and_without_extended_attributes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        std::fs::write(dir.path().join("plain"), "").unwrap();
        let entry =
            |tag: u8, permissions: u8, id: u32| [&[tag, 0, permissions, 0][..], &id.to_le_bytes()].concat();
        let none = u32::MAX;
        let entries = [
            entry(1, 6, none),
            entry(2, 7, 5),
            entry(4, 4, none),
            entry(0x10, 7, none),
            entry(0x20, 0, none),
        ];
        let value = [&2_u32.to_le_bytes()[..], &entries.concat()].concat();
        if !set(&dir, "f", "system.posix_acl_access", &value) || !set(&dir, "f", "user.a", b"1") {
            return;
        }
        let alone = both(&dir, "f", Wanted { xattrs: 0, ..ALL }).unwrap();
        assert_eq!((alone.attributes.access.names.len(), alone.attributes.access.mask), (1, Some(7)));
        let with_names = both(&dir, "f", ALL).unwrap();
        assert_eq!(with_names.attributes.access, alone.attributes.access);
        assert!(!with_names.attributes.xattrs.is_empty());
        assert_eq!(both(&dir, "plain", ALL), None);
    }

    #[test]
    fn equal_details_are_kept_once() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["f", "g"] {
            std::fs::write(dir.path().join(name), "").unwrap();
            if !set(&dir, name, "user.a", b"1") {
                return;
            }
        }
        let source = Source::open(dir.path()).unwrap().reading(ALL);
        let opened = source.open_dir(0, b".").unwrap();
        let mut reader = DetailReader::new(&source, 0);
        let meta = source.look(0, b"f").unwrap().meta;
        let mut read =
            |name| reader.read_in(std::os::fd::AsFd::as_fd(&opened), name, &meta, 0, false).unwrap().unwrap();
        assert!(Arc::ptr_eq(&read(c"f"), &read(c"g")));
    }

    #[test]
    fn access_times_are_those_of_the_entry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "").unwrap();
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_007);
        let times = std::fs::FileTimes::new().set_accessed(at);
        std::fs::File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
        let wanted = Wanted { atimes: true, ..Wanted::default() };
        assert_eq!(both(&dir, "f", wanted).unwrap().atime, 1_000_000_007);
    }
}
