//! Looking below a root, by names that are never followed through symlinks or out of the tree.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ebbtide_feed::RelPath;
use ebbtide_wire::delta::{Digest, file_digest};
use ebbtide_wire::proto::Checksum;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::attributes::{DetailReader, Details, Wanted, value_of};
use super::content::{OpenFile, refused};
use super::links::Links;
use super::meta::Meta;
use super::rules::Rules;

/// One or more directories whose entries are sent.
///
/// A name is looked up with `openat2` and RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS: whoever may write in the tree can
/// swap a directory for a symlink at any moment, and a privileged reader must not follow it. The roots themselves, and
/// what else whoever runs us named ([`Source::led_by`]), may be reached through symlinks.
#[derive(Debug)]
pub struct Source {
    pub(super) roots: Vec<Root>,
    wanted: Wanted,
    links: Links,
    pub(super) rules: Rules,
    /// Nobody marks changes of its files.
    unmarked: bool,
    /// Directories of the first root that are not looked into.
    closed: HashSet<Box<[u8]>>,
}

#[derive(Debug)]
pub(super) struct Root {
    directory: OwnedFd,
    pub(super) path: PathBuf,
    /// Whether the kernel, or a filter on system calls, refuses `openat2`.
    stepwise: bool,
    /// The device of its file system, if that is one that names ACLs among extended attributes.
    lists_acls: Option<u64>,
    /// Directories below it that were named by whoever runs us, and so may be symlinks; each above the next one.
    leading: Vec<(Vec<u8>, OwnedFd)>,
}

/// What stands at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its attributes.
    pub meta: Meta,
    /// What a symlink points to; empty for other entries.
    pub link_target: Box<[u8]>,
    /// What `lstat` does not tell, if it was asked for and there is something.
    pub details: Option<Arc<Details>>,
}

impl Source {
    /// Opens one root.
    ///
    /// # Errors
    /// It is not a directory that can be entered.
    pub fn open(root: impl AsRef<Path>) -> io::Result<Source> {
        Source::open_all([root])
    }

    /// Opens several roots; entries name theirs by its position.
    ///
    /// # Errors
    /// One of them is not a directory that can be entered, or there are more than 65536.
    pub fn open_all<P: AsRef<Path>>(roots: impl IntoIterator<Item = P>) -> io::Result<Source> {
        let roots: Vec<_> =
            roots.into_iter().map(|path| Root::open(path.as_ref())).collect::<Result<_, _>>()?;
        if roots.len() > usize::from(u16::MAX) + 1 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than 65536 source roots"));
        }
        Ok(Source { roots, ..Source::none() })
    }

    /// The same where these directories below a root, each above the next one, may be symlinks.
    ///
    /// # Errors
    /// One of them cannot be opened as a directory.
    pub(crate) fn led_by(mut self, root: u16, dirs: &[Vec<u8>]) -> io::Result<Source> {
        if let Some(root) = self.roots.get_mut(usize::from(root)) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let open = |dir: &Vec<u8>| {
                let opened = rustix::fs::openat(&root.directory, dir.as_slice(), flags, Mode::empty())?;
                Ok((dir.clone(), opened))
            };
            root.leading = dirs.iter().map(open).collect::<io::Result<_>>()?;
        }
        Ok(self)
    }

    /// Whether this name itself may be a symlink to a directory.
    pub(super) fn is_led_by(&self, root: u16, name: &[u8]) -> bool {
        let root = self.roots.get(usize::from(root));
        root.is_some_and(|root| root.leading.iter().any(|(dir, _)| dir == name))
    }

    /// A source without roots, for sessions that read nothing.
    pub fn none() -> Source {
        Source {
            roots: Vec::new(),
            wanted: Wanted::default(),
            links: Links::default(),
            rules: Rules::default(),
            unmarked: false,
            closed: HashSet::new(),
        }
    }

    /// The same where nobody marks what is written: a file is then read without regard to writes that are under way, as
    /// the next push looks at it again.
    #[must_use]
    pub fn unmarked(mut self) -> Source {
        self.unmarked = true;
        self
    }

    /// The same without what is below these directories of the first root.
    #[must_use]
    pub(crate) fn closing(mut self, dirs: &[RelPath]) -> Source {
        self.closed = dirs.iter().map(|dir| dir.as_bytes().into()).collect();
        self
    }

    /// Whether a directory of the first root is not to be looked into.
    pub(crate) fn is_closed(&self, dir: &[u8]) -> bool {
        self.closed.contains(dir)
    }

    /// The same, reading these attributes of each entry that is looked at or found.
    #[must_use]
    pub fn reading(mut self, wanted: Wanted) -> Source {
        self.wanted = wanted;
        self
    }

    /// Which attributes are read besides those of `lstat`.
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// The same, following these symlinks. What they lead to may lie anywhere.
    #[must_use]
    pub fn following(mut self, links: Links) -> Source {
        self.links = links;
        self
    }

    /// The device on which ACLs are among the names of extended attributes.
    pub(super) fn lists_acls(&self, root: u16) -> Option<u64> {
        self.roots.get(usize::from(root)).and_then(|root| root.lists_acls)
    }

    /// Which symlinks are followed.
    pub fn links(&self) -> Links {
        self.links
    }

    /// Whether the first root surely has no entries.
    pub(crate) fn is_empty(&self) -> bool {
        let Ok(directory) = self.open_dir(0, b".") else { return false };
        let Ok(mut entries) = rustix::fs::Dir::read_from(directory) else { return false };
        entries.all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")))
    }

    /// The path of a root, as it was given.
    pub fn path(&self, root: u16) -> &Path {
        self.roots.get(usize::from(root)).map_or(Path::new(""), |root| &root.path)
    }

    /// Looks at a name (empty or `.` for the root itself).
    ///
    /// # Errors
    /// `NotFound` or `NotADirectory` if nothing stands there, `ELOOP` if the way leads through a symlink, and
    /// whatever else the file system says.
    pub fn look(&self, root: u16, name: &[u8]) -> io::Result<Look> {
        let mut entry = self.resolve(root, name, OFlags::PATH | OFlags::NOFOLLOW)?;
        let mut meta = stat(&entry)?;
        let mut atime = self.wanted.atime_of(entry.as_fd(), &meta)?;
        let mut link_target = Box::default();
        if meta.is_symlink() {
            let target = read_link_in(entry.as_fd(), c"")?;
            let behind = || self.resolve(root, name, OFlags::PATH);
            let to_directory = || behind().and_then(stat).is_ok_and(|meta| meta.is_dir());
            if self.links.follow(name, &target, to_directory) {
                entry = behind()?;
                meta = stat(&entry)?;
                atime = self.wanted.atime_of(entry.as_fd(), &meta)?;
            } else {
                link_target = self.links.sent(target);
            }
        }
        let details = DetailReader::new(self, root).read_of(entry.as_fd(), &meta, atime)?;
        Ok(Look { meta, link_target, details })
    }

    /// The value of an extended attribute of what stands at a name, where these attributes were found.
    ///
    /// # Errors
    /// As [`Source::look`]; ENODATA if there is no such attribute.
    pub fn xattr_value(&self, root: u16, name: &[u8], meta: &Meta, attribute: &[u8]) -> io::Result<Vec<u8>> {
        let followed = self.links.follow_some() && !meta.is_symlink();
        let entry = self.resolve(root, name, OFlags::PATH | nofollow(!followed))?;
        value_of(entry.as_fd(), attribute)
    }

    /// Opens a directory for reading its entries.
    ///
    /// # Errors
    /// As [`Source::look`]; `NotADirectory` if it is something else.
    pub fn open_dir(&self, root: u16, name: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | nofollow(!self.links.follow_some());
        match self.resolve(root, name, flags | OFlags::NOATIME) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.resolve(root, name, flags),
            outcome => outcome,
        }
    }

    /// Opens a regular file for reading; its access time stays as it is where the kernel permits that.
    ///
    /// Anything but a regular file is refused before it is opened: opening a FIFO would block, and opening a
    /// device can make it act.
    ///
    /// # Errors
    /// As [`Source::look`]; `InvalidInput` if it is not a regular file.
    pub fn open_file(&self, root: u16, name: &[u8]) -> io::Result<OpenFile> {
        let entry = self.resolve(root, name, OFlags::PATH | nofollow(!self.links.follow_to_files()))?;
        if !stat(&entry)?.is_file() {
            return Err(refused());
        }
        let file = File::from(reopen(&entry)?);
        self.await_writers(&file);
        let meta = stat(&file)?;
        Ok(OpenFile::new(file, meta))
    }

    /// The digest of the bytes of a regular file.
    ///
    /// # Errors
    /// As [`Source::open_file`] and [`OpenFile::content`].
    pub(crate) fn digest(&self, root: u16, name: &[u8], checksum: Checksum) -> io::Result<Digest> {
        let content = self.open_file(root, name)?.content(Vec::new())?;
        Ok(file_digest(checksum, &content))
    }

    /// Whether nobody marks changes of its files.
    pub(super) fn is_unmarked(&self) -> bool {
        self.unmarked
    }

    /// Waits for the write that is under way. The tracker learns of a write when it starts, so what is read before it ends
    /// would never be looked at again. Looking for data takes the inode's lock, which ext4 holds through a buffered write.
    pub(super) fn await_writers(&self, file: &File) {
        if !self.unmarked {
            // That a file has no data, or a file system no such lock, is no reason not to read it.
            let _ = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(0));
        }
    }

    /// Whether names are found by `openat2` and no symlink is followed.
    pub(super) fn is_plain(&self) -> bool {
        !self.links.follow_some() && self.roots.iter().all(|root| !root.stepwise)
    }

    /// Opens a directory as a place to start from; empty or `.` is the root itself.
    pub(super) fn open_way(&self, root: u16, name: &[u8]) -> io::Result<OwnedFd> {
        self.resolve(root, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW)
    }

    fn resolve(&self, root: u16, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let root = self.roots.get(usize::from(root)).ok_or(io::ErrorKind::NotFound)?;
        let (directory, name) = root.start(name);
        let name = CString::new(if name.is_empty() { b"." } else { name })?;
        if self.links.follow_some() {
            Ok(rustix::fs::openat(directory, &name, flags | OFlags::CLOEXEC, Mode::empty())?)
        } else if root.stepwise {
            open_stepwise(directory, &name, flags)
        } else {
            open_beneath(directory, &name, flags)
        }
    }
}

impl Root {
    fn open(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        let probe = rustix::fs::openat2(&directory, c".", flags, Mode::empty(), ResolveFlags::BENEATH);
        let stepwise = matches!(probe, Err(Errno::NOSYS | Errno::PERM));
        let lists_acls = lists_acls(&directory)?;
        Ok(Root { directory, path: path.to_owned(), stepwise, lists_acls, leading: Vec::new() })
    }

    /// Where the way to a name starts, and the rest of it.
    fn start<'a>(&self, name: &'a [u8]) -> (BorrowedFd<'_>, &'a [u8]) {
        for (dir, opened) in self.leading.iter().rev() {
            match name.strip_prefix(&**dir) {
                Some(b"") => return (opened.as_fd(), b"."),
                Some([b'/', rest @ ..]) => return (opened.as_fd(), rest),
                _ => {}
            }
        }
        (self.directory.as_fd(), name)
    }
}

/// The device of a directory's file system, if an ACL that is there is sure to be among the names of extended
/// attributes. Some network and user-space file systems leave them out.
fn lists_acls(directory: &OwnedFd) -> io::Result<Option<u64>> {
    const NATIVE: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994]; // ext4, XFS, btrfs, tmpfs
    let kind = rustix::fs::fstatfs(directory)?.f_type as u64;
    Ok(if NATIVE.contains(&kind) { Some(stat(directory)?.dev) } else { None })
}

/// Attributes of the entry `name` in an open directory, without following it.
pub(crate) fn stat_in(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Meta> {
    Ok(Meta::from(&rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// Attributes of what the symlink `name` in an open directory leads to.
pub(crate) fn stat_behind(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Meta> {
    Ok(Meta::from(&rustix::fs::statat(directory, name, AtFlags::empty())?))
}

/// What the symlink `name` in an open directory points to; with an empty name, what the directory descriptor
/// itself stands for.
pub(crate) fn read_link_in(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Box<[u8]>> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
    Ok(target.into_bytes().into_boxed_slice())
}

fn nofollow(on: bool) -> OFlags {
    if on { OFlags::NOFOLLOW } else { OFlags::empty() }
}

/// Opens `name` below a directory.
fn open_beneath(directory: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..RETRIES {
        match rustix::fs::openat2(directory, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            outcome => return Ok(outcome?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// The same where there is no `openat2`: one component after the other, none of them followed.
fn open_stepwise(directory: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
    let way = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut parts: Vec<&[u8]> = name.to_bytes().split(|&b| b == b'/').collect();
    if parts.contains(&&b".."[..]) || name.to_bytes().starts_with(b"/") {
        return Err(Errno::XDEV.into());
    }
    let last = parts.pop().unwrap_or(b".");
    let mut reached: Option<OwnedFd> = None;
    for part in parts {
        let from = reached.as_ref().map_or(directory, AsFd::as_fd);
        reached = Some(rustix::fs::openat(from, part, way, Mode::empty())?);
    }
    let from = reached.as_ref().map_or(directory, AsFd::as_fd);
    Ok(rustix::fs::openat(from, last, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// openat2(2): "EAGAIN … the caller may choose to retry", when a rename elsewhere raced with the look-up.
const RETRIES: u32 = 64;

pub(crate) fn stat(entry: impl AsFd) -> io::Result<Meta> {
    Ok(Meta::from(&rustix::fs::fstat(entry)?))
}

/// Opens for reading what an O_PATH descriptor stands for, so that what is opened is what was looked at.
fn reopen(entry: &OwnedFd) -> io::Result<OwnedFd> {
    let mut name = String::new();
    let _ = write!(name, "{}", entry.as_raw_fd());
    let descriptors = own_descriptors()?;
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::openat(descriptors, name.as_str(), flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(rustix::fs::openat(descriptors, name.as_str(), flags, Mode::empty())?),
        outcome => Ok(outcome?),
    }
}

/// `/proc/self/fd`, opened once.
fn own_descriptors() -> io::Result<BorrowedFd<'static>> {
    static OPENED: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(opened) = OPENED.get() {
        return Ok(opened.as_fd());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open("/proc/self/fd", flags, Mode::empty())
        .map_err(|error| io::Error::other(format!("cannot open /proc/self/fd, is /proc mounted: {error}")))?;
    Ok(OPENED.get_or_init(|| opened).as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, Source) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/f"), "hello").unwrap();
        symlink("/etc", dir.path().join("out")).unwrap();
        let source = Source::open(dir.path()).unwrap();
        (dir, source)
    }

    #[test]
    fn a_symlink_is_looked_at_and_not_followed() {
        let (_dir, source) = tree();
        let look = source.look(0, b"out").unwrap();
        assert!(look.meta.is_symlink());
        assert_eq!(&*look.link_target, b"/etc");
    }

    #[test]
    fn with_the_option_symlinks_are_followed_wherever_they_lead() {
        let (dir, source) = tree();
        symlink("d", dir.path().join("in")).unwrap();
        symlink("d/f", dir.path().join("file")).unwrap();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        let all = source.following(Links { all: true, ..Links::default() });
        assert!(
            all.look(0, b"out").unwrap().meta.is_dir() && all.look(0, b"out/passwd").unwrap().meta.is_file()
        );
        assert!(all.open_file(0, b"file").is_ok() && all.open_dir(0, b"in").is_ok());
        assert_eq!(all.look(0, b"dangling").unwrap_err().kind(), io::ErrorKind::NotFound);
        let dirs = all.following(Links { to_directories: true, ..Links::default() });
        assert!(
            dirs.look(0, b"in").unwrap().meta.is_dir() && dirs.look(0, b"file").unwrap().meta.is_symlink()
        );
        assert!(dirs.open_file(0, b"in/f").is_ok() && dirs.open_file(0, b"file").is_err());
        let unsafe_ones = dirs.following(Links { leading_out: true, ..Links::default() });
        assert!(unsafe_ones.look(0, b"out").unwrap().meta.is_dir());
        assert_eq!(&*unsafe_ones.look(0, b"in").unwrap().link_target, b"d");
    }

    #[test]
    fn a_file_is_read_after_the_write_that_was_under_way() {
        use std::os::unix::fs::FileExt;
        const LENGTH: usize = 64 << 20;
        let (dir, source) = tree();
        let path = dir.path().join("d/f");
        std::fs::write(&path, vec![0; LENGTH]).unwrap();
        let writer = File::options().write(true).open(&path).unwrap();
        for round in 1..=5 {
            std::thread::scope(|scope| {
                scope.spawn(|| writer.write_all_at(&vec![round; LENGTH], 0).unwrap());
                let mut first = [0];
                let reader = File::open(&path).unwrap();
                while first != [round] {
                    reader.read_exact_at(&mut first, 0).unwrap();
                }
                let content = source.open_file(0, b"d/f").unwrap().content(Vec::new()).unwrap();
                assert_eq!(content[LENGTH - 1], round);
            });
        }
    }

    #[test]
    fn a_way_through_a_symlink_is_refused() {
        let (_dir, source) = tree();
        assert!(source.look(0, b"out/passwd").is_err());
        assert!(source.open_file(0, b"out/passwd").is_err());
        assert!(source.open_file(0, b"out").is_err());
        assert!(source.look(0, b"../x").is_err());
    }

    #[test]
    fn without_openat2_the_same_is_found_and_refused() {
        let (_dir, mut source) = tree();
        let names: [&[u8]; 8] = [b"", b".", b"d", b"d/f", b"out", b"out/passwd", b"../x", b"none"];
        let looks = |source: &Source| names.map(|name| source.look(0, name).ok());
        let found = looks(&source);
        source.roots[0].stepwise = true;
        assert_eq!(looks(&source), found);
        assert!(found[3].is_some() && found[4].is_some() && found[5].is_none());
    }

    #[test]
    fn a_fifo_is_never_opened() {
        let (dir, source) = tree();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("fifo"), Mode::RUSR).unwrap();
        let error = source.open_file(0, b"fifo").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn the_root_is_named_by_a_dot_or_nothing() {
        let (_dir, source) = tree();
        assert!(source.look(0, b".").unwrap().meta.is_dir());
        assert_eq!(source.look(0, b"").unwrap(), source.look(0, b".").unwrap());
        assert!(source.look(0, b"d").unwrap().meta.is_dir());
    }

    #[test]
    fn a_missing_name_is_not_found() {
        let (_dir, source) = tree();
        assert_eq!(source.look(0, b"none").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(source.look(0, b"d/f/x").unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}
