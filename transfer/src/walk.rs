//! Listing directories of the source: what is there goes into a file list, what went wrong beside it.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

use crate::session::{DirRole, Entry, IoErrors};
use crate::source::{DetailReader, Meta, Source, read_link_in, stat_behind, stat_in, stat_of};

/// How far below a directory is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Its direct entries; subdirectories are [`DirRole::Plain`].
    Entries,
    /// Everything below; subdirectories are [`DirRole::Content`].
    Tree,
}

/// Something that is not, or not completely, in the list.
#[derive(Debug)]
pub struct Problem {
    /// Its path, below the root's own.
    pub path: PathBuf,
    /// Its name in the list.
    pub name: Vec<u8>,
    /// What happened.
    pub kind: ProblemKind,
}

/// What happened to an entry that is not, or not completely, in the list.
#[derive(Debug)]
pub enum ProblemKind {
    /// It was gone when it was looked at.
    Vanished,
    /// It is a directory whose entries could not be read.
    OpenDir(io::Error),
    /// Reading the entries of this directory broke off.
    ReadDir(io::Error),
    /// It could not be looked at.
    Stat(io::Error),
    /// It is a symlink to be followed that leads nowhere.
    NoReferent,
    /// Its ACLs or extended attributes could not be read.
    Attributes(io::Error),
    /// It is a directory, and neither recursion nor directories were asked for.
    DirectoryNotWanted,
    /// It was named as an argument, and cannot be looked at.
    Argument(io::Error),
    /// It is the directory that names start from, and cannot be entered.
    Root(io::Error),
    /// Its name, with the way from the root, has more than [`MAX_NAME`] bytes.
    NameTooLong,
}

/// The longest name that the protocol carries, in bytes.
pub const MAX_NAME: usize = 4095;

/// Which entries are listed: the walk's one question to filter rules. One value stands for the rules of one directory.
///
/// A walk asks [`Keep::enter`] once for each directory that it lists, before any of the directory's entries, and then
/// [`Keep::wants`] of what that returned, for each entry and before it is looked at. What is not wanted is not in the
/// list, is no problem, and is not walked into. Directories that are walked by the same walk may be entered in any
/// order, and entered directories may still be pending when others are; a value must not depend on either.
pub trait Keep: fmt::Debug + Send + Sync {
    /// The rules for the entries of the directory `dir` (`.` for the root), which stands in the directory of these
    /// rules, or is where the walk begins. `opened` is the directory, to read what it says itself about its entries (a
    /// per-directory merge file). `None` when nothing changes: these rules then hold there too.
    fn enter(&self, _dir: &[u8], _opened: BorrowedFd<'_>) -> Option<Arc<dyn Keep>> {
        None
    }

    /// Whether the entry with this path below the root is listed.
    fn wants(&self, path: &[u8], is_dir: bool) -> bool;
}

/// Every entry is listed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Everything;

impl Keep for Everything {
    fn wants(&self, _path: &[u8], _is_dir: bool) -> bool {
        true
    }
}

/// A directory that is to be listed.
#[derive(Clone, Debug)]
pub struct Pending {
    root: u16,
    dir: Box<[u8]>,
    /// The file system that the walk stays on, once that is known.
    device: Option<u64>,
    /// The rules of the directory that it stands in.
    keep: Arc<dyn Keep>,
}

impl Pending {
    /// Its path below its root.
    pub fn dir(&self) -> &[u8] {
        &self.dir
    }
}

/// Bytes of names that are asked for at once.
const NAMES_BUFFER: usize = 64 * 1024;

/// A list that grows directory by directory.
#[derive(Debug)]
pub struct Walk<'a> {
    source: &'a Source,
    root: u16,
    keep: Arc<dyn Keep>,
    details: DetailReader,
    /// `-x`: 1 lists directories of other file systems as empty ones, 2 not at all.
    one_file_system: u8,
    /// The file system of the directory that the walk began with, if it stays on that.
    device: Option<u64>,
    /// Room for the names of a directory.
    buffer: Vec<MaybeUninit<u8>>,
    /// What was found.
    pub entries: Vec<Entry>,
    /// What could not be listed.
    pub problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    /// An empty list of entries below one root.
    pub fn new(source: &'a Source, root: u16) -> Self {
        Walk {
            source,
            root,
            keep: Arc::new(Everything),
            details: DetailReader::new(source, root),
            one_file_system: 0,
            device: None,
            buffer: Vec::new(),
            entries: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Lists only what these rules want, from here on.
    #[must_use]
    pub fn keeping(mut self, keep: Arc<dyn Keep>) -> Self {
        self.keep = keep;
        self
    }

    /// Stays on the file system of each directory that it is told to list: `-x` 1 or 2 times.
    #[must_use]
    pub fn staying(mut self, one_file_system: u8) -> Self {
        self.one_file_system = one_file_system;
        self
    }

    /// Lists from now on only what these rules want.
    pub fn set_rules(&mut self, keep: Arc<dyn Keep>) {
        self.keep = keep;
    }

    /// Goes on below another root.
    pub fn set_root(&mut self, root: u16) {
        self.root = root;
        self.details.set_root(self.source, root);
    }

    /// The I/O errors that the problems so far amount to.
    pub fn io_errors(&self) -> IoErrors {
        let mut errors = IoErrors::NONE;
        for problem in &self.problems {
            errors.add(problem.kind.io_errors());
        }
        errors
    }

    /// Lists what is in the directory `dir` (`.` for the root), but not `dir` itself.
    pub fn below(&mut self, dir: &[u8], depth: Depth) {
        let mut pending = vec![self.begin(dir)];
        while let Some(next) = pending.pop() {
            let first = self.entries.len();
            let subdirs = self.directory(next, depth);
            self.drop_repeats(first);
            pending.extend(subdirs);
        }
    }

    /// A directory below the present root to begin with, under the rules of the walk.
    pub fn begin(&self, dir: &[u8]) -> Pending {
        Pending { root: self.root, dir: dir.into(), device: None, keep: Arc::clone(&self.keep) }
    }

    /// Lists the entries of one directory. Returns those of its subdirectories that a tree has, the first one last: a
    /// stack of these is walked depth first. A directory that changes meanwhile can show a name twice.
    pub fn directory(&mut self, pending: Pending, depth: Depth) -> Vec<Pending> {
        let Pending { root, dir, device, mut keep } = pending;
        let first = self.entries.len();
        self.set_root(root);
        self.device = device;
        let mut buffer = mem::take(&mut self.buffer);
        buffer.resize_with(NAMES_BUFFER, MaybeUninit::uninit);
        self.entries_of(&dir, depth, &mut keep, &mut buffer);
        self.buffer = buffer;
        if depth == Depth::Entries {
            return Vec::new();
        }
        let subdirs = self.entries[first..].iter().filter(|entry| entry.meta.is_dir());
        let subdirs = subdirs.filter(|entry| !self.is_beyond(&entry.meta));
        let device = self.device;
        let pending =
            |entry: &Entry| Pending { root, dir: entry.name.clone(), device, keep: Arc::clone(&keep) };
        let mut subdirs: Vec<_> = subdirs.map(pending).collect();
        subdirs.sort_unstable_by(|one, other| other.dir.cmp(&one.dir));
        subdirs
    }

    /// Lists a directory; `keep` holds the rules of the one above, and then its own.
    fn entries_of(
        &mut self,
        dir: &[u8],
        depth: Depth,
        keep: &mut Arc<dyn Keep>,
        buffer: &mut [MaybeUninit<u8>],
    ) {
        let opened = match self.source.open_dir(self.root, dir) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.problem(dir, ProblemKind::Vanished);
            }
            Err(error) => return self.problem(dir, ProblemKind::OpenDir(error)),
        };
        if self.one_file_system > 0 && self.device.is_none() {
            self.device = stat_of(&opened).ok().map(|meta| meta.dev);
        }
        if let Some(own) = keep.enter(dir, opened.as_fd()) {
            *keep = own;
        }
        let mut names = RawDir::new(&opened, buffer);
        while let Some(next) = names.next() {
            match next {
                Ok(found) if is_dot(found.file_name()) => {}
                Ok(found) => self.found(&opened, dir, (found.file_name(), found.file_type()), depth, &**keep),
                Err(error) => return self.problem(dir, ProblemKind::ReadDir(error.into())),
            }
        }
    }

    /// A directory that changes while it is read can show a name twice; a list must not.
    fn drop_repeats(&mut self, first: usize) {
        let found = &mut self.entries[first..];
        found.sort_by(|one, other| one.name.cmp(&other.name));
        if found.windows(2).any(|pair| pair[0].name == pair[1].name) {
            let mut found = self.entries.split_off(first);
            found.dedup_by(|later, earlier| later.name == earlier.name);
            self.entries.append(&mut found);
        }
    }

    fn found(
        &mut self,
        opened: &OwnedFd,
        dir: &[u8],
        (name, kind): (&CStr, FileType),
        depth: Depth,
        keep: &dyn Keep,
    ) {
        let path = join(dir, name.to_bytes());
        if path.len() > MAX_NAME {
            return self.problem(&path, ProblemKind::NameTooLong);
        }
        // Some file systems do not say in their directories what a name stands for, and a symlink may be followed.
        let links = self.source.links();
        let unknown = kind == FileType::Unknown || kind == FileType::Symlink && links.follow_some();
        if !unknown && !keep.wants(&path, kind == FileType::Directory) {
            return;
        }
        match self.look(opened, name, &path) {
            Ok(found) if unknown && !keep.wants(&path, found.meta.is_dir()) => {}
            Ok(found) if self.is_beyond(&found.meta) && self.one_file_system > 1 => {}
            Ok(found) => {
                let whole = depth == Depth::Tree && !self.is_beyond(&found.meta);
                let dir = if whole { DirRole::Content } else { DirRole::Plain };
                let entry = Entry::new(path, found.meta).with_link_target(found.target).with_role(dir);
                self.add(opened, name, Entry { root: self.root, ..entry }, (found.atime, found.followed));
            }
            Err(error) => self.unseen(opened, name, &path, error),
        }
    }

    /// Says why there is nothing to see.
    fn unseen(&mut self, opened: &OwnedFd, name: &CStr, path: &[u8], error: io::Error) {
        let kind = match error.kind() {
            io::ErrorKind::NotFound if self.source.links().follow_some() && is_link(opened, name) => {
                ProblemKind::NoReferent
            }
            io::ErrorKind::NotFound => ProblemKind::Vanished,
            _ => ProblemKind::Stat(error),
        };
        self.problem(path, kind);
    }

    /// Adds an entry with what `lstat` does not tell.
    fn add(&mut self, opened: &OwnedFd, name: &CStr, mut entry: Entry, (atime, followed): (i64, bool)) {
        match self.details.read_in(opened.as_fd(), name, &entry.meta, atime, followed) {
            Ok(details) => {
                entry.details = details;
                self.entries.push(entry);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.problem(&entry.name, ProblemKind::Vanished);
            }
            Err(error) => self.problem(&entry.name, ProblemKind::Attributes(error)),
        }
    }

    fn look(&self, opened: &OwnedFd, name: &CStr, path: &[u8]) -> io::Result<Found> {
        let meta = stat_in(opened.as_fd(), name)?;
        let links = self.source.links();
        let atime = |meta, followed| self.source.wanted().atime_in(opened.as_fd(), name, meta, followed);
        let own = atime(&meta, false)?;
        if !meta.is_symlink() {
            return Ok(Found { meta, target: Box::default(), atime: own, followed: false });
        }
        let target = read_link_in(opened.as_fd(), name)?;
        let behind = || stat_behind(opened.as_fd(), name);
        if links.follow(path, &target, || behind().is_ok_and(|meta| meta.is_dir())) {
            let meta = behind()?;
            let atime = atime(&meta, true)?;
            return Ok(Found { meta, target: Box::default(), atime, followed: true });
        }
        Ok(Found { meta, target: links.sent(target), atime: own, followed: false })
    }

    /// Whether this is a directory on another file system, and the walk stays on its own.
    fn is_beyond(&self, meta: &Meta) -> bool {
        self.one_file_system > 0 && meta.is_dir() && self.device.is_some_and(|device| device != meta.dev)
    }

    /// Adds a problem about the entry `name`.
    pub fn problem(&mut self, name: &[u8], kind: ProblemKind) {
        let mut path = self.source.path(self.root).to_owned();
        if name != b"." {
            path.push(std::ffi::OsStr::from_bytes(name));
        }
        self.problems.push(Problem { path, name: name.to_vec(), kind });
    }
}

/// What a name in a directory stands for.
struct Found {
    meta: Meta,
    target: Box<[u8]>,
    /// 0 where nobody wants it.
    atime: i64,
    /// Whether the name is a symlink, and the rest is about what it leads to.
    followed: bool,
}

fn is_link(opened: &OwnedFd, name: &CStr) -> bool {
    stat_in(opened.as_fd(), name).is_ok_and(|meta| meta.is_symlink())
}

impl ProblemKind {
    /// What it adds to the session's I/O errors.
    pub fn io_errors(&self) -> IoErrors {
        match self {
            ProblemKind::DirectoryNotWanted => IoErrors::NONE,
            ProblemKind::Vanished => IoErrors::VANISHED,
            _ => IoErrors::GENERAL,
        }
    }
}

impl Problem {
    /// Whether it is worth a word only, and no error.
    pub fn is_note(&self) -> bool {
        self.kind.io_errors() == IoErrors::NONE
    }
}

/// In rsync's words.
impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = crate::text::Escaped(self.path.as_os_str().as_bytes());
        let name = crate::text::Escaped(&self.name);
        match &self.kind {
            ProblemKind::Vanished => write!(out, "file has vanished: \"{path}\""),
            ProblemKind::NoReferent => write!(out, "symlink has no referent: \"{path}\""),
            ProblemKind::OpenDir(error) => failed(out, "opendir", &path, error),
            ProblemKind::ReadDir(error) => failed(out, "readdir", &path, error),
            ProblemKind::Stat(error) => failed(out, "readlink_stat", &path, error),
            ProblemKind::Attributes(error) => failed(out, "get_xattr", &path, error),
            ProblemKind::DirectoryNotWanted => write!(out, "skipping directory {name}"),
            ProblemKind::Argument(error) => {
                failed(out, "link_stat", &path, error)?;
                let through_link = error.raw_os_error() == Some(Errno::LOOP.raw_os_error());
                let advice = ": a symlink on the way is not followed, name the real path";
                out.write_str(if through_link { advice } else { "" })
            }
            ProblemKind::Root(error) => failed(out, "change_dir", &path, error),
            ProblemKind::NameTooLong => write!(out, "rsync: [sender] skipping overly long name: \"{path}\""),
        }
    }
}

fn failed(
    out: &mut fmt::Formatter<'_>,
    call: &str,
    path: &dyn fmt::Display,
    error: &io::Error,
) -> fmt::Result {
    write!(out, "rsync: [sender] {call} \"{path}\" failed: {}", crate::text::OsError(error))
}

/// `name` in the directory `dir`, `.` standing for the root.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    if dir != b"." && !dir.is_empty() {
        path.extend_from_slice(dir);
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/f"), "x").unwrap();
        std::fs::write(dir.path().join("top"), "x").unwrap();
        symlink("a/b", dir.path().join("link")).unwrap();
        dir
    }

    fn names(walk: &Walk<'_>) -> Vec<String> {
        let mut names: Vec<_> =
            walk.entries.iter().map(|entry| String::from_utf8(entry.name.to_vec()).unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_tree_is_listed_to_its_leaves_and_symlinks_are_not_followed() {
        let dir = tree();
        let source = Source::open(dir.path()).unwrap();
        let mut walk = Walk::new(&source, 0);
        walk.below(b".", Depth::Tree);
        assert_eq!(names(&walk), ["a", "a/b", "a/b/f", "link", "top"]);
        assert!(walk.problems.is_empty());
        let link = walk.entries.iter().find(|entry| &*entry.name == b"link").unwrap();
        assert_eq!(link.link_target(), b"a/b");
    }

    #[test]
    fn one_level_lists_direct_entries_and_says_nothing_about_subdirectories() {
        let dir = tree();
        let source = Source::open(dir.path()).unwrap();
        let mut walk = Walk::new(&source, 0);
        walk.below(b"a", Depth::Entries);
        assert_eq!(names(&walk), ["a/b"]);
        assert_eq!(walk.entries[0].dir, DirRole::Plain);
    }

    /// Leaves out one name, and in the directory `a` another one too.
    #[derive(Debug)]
    struct Without(Vec<&'static [u8]>);

    impl Keep for Without {
        fn enter(&self, dir: &[u8], _opened: BorrowedFd<'_>) -> Option<Arc<dyn Keep>> {
            (dir == b"a").then(|| Arc::new(Without([&self.0[..], &[b"f"]].concat())) as Arc<dyn Keep>)
        }

        fn wants(&self, path: &[u8], _is_dir: bool) -> bool {
            let base = path.rsplit(|byte| *byte == b'/').next();
            !self.0.iter().any(|name| Some(*name) == base)
        }
    }

    #[test]
    fn what_is_not_wanted_is_not_listed_and_a_directorys_own_rules_hold_below_it() {
        let dir = tree();
        std::fs::write(dir.path().join("f"), "x").unwrap();
        let source = Source::open(dir.path()).unwrap();
        let mut walk = Walk::new(&source, 0).keeping(Arc::new(Without(vec![b"link"])));
        walk.below(b".", Depth::Tree);
        assert_eq!(names(&walk), ["a", "a/b", "f", "top"]);
        assert!(walk.problems.is_empty());
    }

    #[test]
    fn a_directory_that_is_none_is_a_general_error_and_a_missing_one_has_vanished() {
        let dir = tree();
        let source = Source::open(dir.path()).unwrap();
        let mut walk = Walk::new(&source, 0);
        walk.below(b"none", Depth::Tree);
        assert_eq!(walk.io_errors(), IoErrors::VANISHED);
        walk.below(b"top", Depth::Tree);
        assert!(walk.io_errors().contains(IoErrors::GENERAL));
    }
}
