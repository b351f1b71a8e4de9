//! Collects entries, in any order, and checks each.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use hashbrown::HashTable;

use super::attributes::{Acl, Attributes};
use super::entry::{Entry, mode};
use super::list::{Dir, Extra, FileList, IdKind, NONE, Record, Store};
use super::order;
use crate::error::Shown;
use crate::{Error, Stage};

/// Collects entries in any order.
#[derive(Debug)]
pub struct FileListBuilder {
    store: Store,
    /// Numbers of directories by their path.
    table: HashTable<u32>,
    hasher: RandomState,
    /// The directory that the last entry was in: siblings mostly come together.
    last_dir: u32,
    /// User and group ids seen.
    ids: [Ids; 2],
}

impl Default for FileListBuilder {
    fn default() -> Self {
        let root = Dir { path: 0..0, record: NONE };
        FileListBuilder {
            store: Store { dirs: vec![root], ..Store::default() },
            table: HashTable::new(),
            hasher: RandomState::new(),
            last_dir: ROOT,
            ids: [Ids::default(), Ids::default()],
        }
    }
}

/// Ids, sorted, 0 always among them. Entries mostly have that of the entry before.
#[derive(Debug, Default)]
struct Ids {
    last: u32,
    others: Vec<u32>,
}

impl Ids {
    fn insert(&mut self, id: u32) {
        if id == self.last || id == 0 {
            return;
        }
        self.last = id;
        if let Err(at) = self.others.binary_search(&id) {
            self.others.insert(at, id);
        }
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        std::iter::once(0).chain(self.others.iter().copied())
    }
}

impl FileListBuilder {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty list of what is in one directory, for incremental recursion; an empty path stands for the root of
    /// the transfer, whose list also holds `.` itself. Names of entries are whole paths here too. Of several entries
    /// with one name one is kept, a directory rather than another one.
    ///
    /// # Errors
    /// Misuse: a path that cannot be sent.
    pub fn of_directory(path: &[u8]) -> Result<Self, Error> {
        let mut builder = Self::default();
        if !path.is_empty() {
            check(&Entry { name: path, mode: mode::DIRECTORY, ..Entry::default() })?;
        }
        builder.store.one_dir = true;
        builder.store.dirs[0].path = builder.keep(path);
        Ok(builder)
    }

    /// Adds an entry. Entries are numbered from 0 in the order of these calls.
    ///
    /// # Errors
    /// Misuse: a name, target or number that cannot be sent, or a directory that is in the list already. Nothing is
    /// added then.
    pub fn push(&mut self, entry: &Entry<'_>) -> Result<usize, Error> {
        check(entry)?;
        let number = self.store.records.len();
        let room = MAX_BYTES.checked_sub(self.store.bytes.len() + 2 * entry.name.len() + 2 * MAX_PATH);
        if number >= MAX_ENTRIES || room.is_none() {
            return Err(misuse(entry.name, "is one too many for a list"));
        }
        // Lossless: below MAX_ENTRIES.
        let record = self.record(entry, number as u32)?;
        self.store.records.push(record);
        self.ids[IdKind::User as usize].insert(entry.uid);
        self.ids[IdKind::Group as usize].insert(entry.gid);
        if entry.atime != 0 {
            self.store.atimes.resize(number, 0);
            self.store.atimes.push(entry.atime);
        }
        Ok(number)
    }

    /// Entries so far.
    pub fn len(&self) -> usize {
        self.store.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.store.records.is_empty()
    }

    /// Sorts. `name` is asked once for each user and group id in the list, and for id 0; it answers `None` when the
    /// id has no name. With numeric ids it is of no use, and `|_, _| None` will do.
    ///
    /// # Errors
    /// Misuse: an entry whose parent directory is not in the list as a directory, or a name that is in it twice.
    pub fn finish(self, mut name: impl FnMut(IdKind, u32) -> Option<Vec<u8>>) -> Result<FileList, Error> {
        let order = order::sort(&self.store)?;
        let mut names = [IdKind::User, IdKind::Group].map(|kind| {
            let ids = self.ids[kind as usize].iter();
            ids.filter_map(|id| Some((id, name(kind, id)?))).collect::<Vec<_>>()
        });
        for (_, name) in names.iter_mut().flatten() {
            name.truncate(MAX_ID_NAME);
        }
        Ok(FileList { store: self.store, order, names })
    }

    fn record(&mut self, entry: &Entry<'_>, number: u32) -> Result<Record, Error> {
        let (parent, base) = split(entry.name);
        let is_dir = entry.mode & mode::TYPE == mode::DIRECTORY;
        if self.store.one_dir && parent != self.store.dir_path(ROOT) {
            return Err(misuse(entry.name, "is not in the directory of its list"));
        }
        let dir = if self.store.one_dir { ROOT } else { self.dir(parent) };
        if is_dir && entry.name != b"." && !self.store.one_dir {
            let own = self.dir(entry.name);
            let own = &mut self.store.dirs[own as usize];
            if own.record != NONE {
                return Err(misuse(entry.name, "is in the list twice"));
            }
            own.record = number;
        }
        self.last_dir = dir;
        let base = self.keep(base);
        Ok(Record {
            dir,
            base: base.start,
            base_len: (base.end - base.start) as u16,
            kind: entry.dir,
            mode: entry.mode,
            size: size(entry),
            secs: entry.mtime.secs,
            nanos: entry.mtime.nanos,
            uid: entry.uid,
            gid: entry.gid,
            extra: self.extra(entry),
        })
    }

    fn extra(&mut self, entry: &Entry<'_>) -> u32 {
        let kind = entry.mode & mode::TYPE;
        let special = matches!(kind, mode::BLOCK | mode::CHARACTER | mode::FIFO | mode::SOCKET);
        let link_group = entry.link_group.filter(|_| kind != mode::DIRECTORY && entry.mode != 0);
        if !special
            && kind != mode::SYMLINK
            && entry.checksum.is_empty()
            && link_group.is_none()
            && entry.attributes.is_none()
        {
            return NONE;
        }
        let device = if special { entry.device } else { Default::default() };
        let target = self.keep(if kind == mode::SYMLINK { entry.target } else { &[] });
        let checksum = self.keep(if kind == mode::FILE { entry.checksum } else { &[] });
        let mut extra = Extra { device, target, checksum, link_group, ..Extra::default() };
        if let Some(attributes) = entry.attributes {
            self.attributes(entry, attributes, &mut extra);
        }
        self.store.extras.push(extra);
        self.store.extras.len() as u32 - 1
    }

    fn attributes(&mut self, entry: &Entry<'_>, attributes: &Attributes, extra: &mut Extra) {
        let kind = entry.mode & mode::TYPE;
        if kind != mode::SYMLINK {
            extra.acl = self.acl(attributes.access.clone().beyond_mode(entry.mode));
        }
        if kind == mode::DIRECTORY {
            extra.default_acl = self.acl(attributes.default.clone());
        }
        extra.xattrs = self.store.shared.xattrs.keep(attributes.xattrs.clone());
    }

    fn acl(&mut self, acl: Acl) -> u32 {
        for named in &acl.names {
            self.ids[named.kind as usize].insert(named.id);
        }
        self.store.shared.acls.keep(acl)
    }

    /// The number of the directory with this path, a new one if need be.
    fn dir(&mut self, path: &[u8]) -> u32 {
        if path.is_empty() {
            return ROOT;
        }
        if self.store.dir_path(self.last_dir) == path {
            return self.last_dir;
        }
        let hash = self.hasher.hash_one(path);
        if let Some(number) = self.table.find(hash, |number| self.store.dir_path(*number) == path) {
            return *number;
        }
        let number = self.store.dirs.len() as u32;
        let path = self.keep(path);
        self.store.dirs.push(Dir { path, record: NONE });
        let (store, hasher) = (&self.store, &self.hasher);
        self.table.insert_unique(hash, number, |number| hasher.hash_one(store.dir_path(*number)));
        number
    }

    fn keep(&mut self, text: &[u8]) -> Range<u32> {
        // Lossless: `push` keeps the bytes below MAX_BYTES.
        let start = self.store.bytes.len() as u32;
        self.store.bytes.extend_from_slice(text);
        start..self.store.bytes.len() as u32
    }
}

/// Directory part and last component.
fn split(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&name[..slash], &name[slash + 1..]),
        None => (&[], name),
    }
}

/// The size that travels.
fn size(entry: &Entry<'_>) -> u64 {
    match entry.mode & mode::TYPE {
        mode::SYMLINK => entry.target.len() as u64,
        mode::FILE | mode::DIRECTORY => entry.size,
        _ => 0,
    }
}

fn check(entry: &Entry<'_>) -> Result<(), Error> {
    let kind = entry.mode & mode::TYPE;
    let known =
        [mode::FILE, mode::DIRECTORY, mode::SYMLINK, mode::BLOCK, mode::CHARACTER, mode::FIFO, mode::SOCKET];
    let bad_component = |component: &[u8]| matches!(component, b"" | b"." | b"..");
    let wrong = if entry.name.is_empty() || entry.name.len() > MAX_PATH {
        "is not 1 to 4095 bytes long"
    } else if entry.name.contains(&0) {
        "holds a NUL byte"
    } else if entry.name != b"." && entry.name.split(|byte| *byte == b'/').any(bad_component) {
        "has an empty, \".\" or \"..\" component"
    } else if entry.mode != 0 && !known.contains(&kind) {
        "has a mode of no known type"
    } else if entry.name == b"." && kind != mode::DIRECTORY {
        "must be a directory"
    } else if kind == mode::SYMLINK && !(1..=MAX_PATH).contains(&entry.target.len()) {
        "has a target that is not 1 to 4095 bytes long"
    } else if entry.size > i64::MAX as u64 || entry.mtime.nanos > 999_999_999 || entry.checksum.len() > 64 {
        "has a size, time or checksum that does not exist"
    } else {
        return Ok(());
    };
    Err(misuse(entry.name, wrong))
}

pub(super) fn misuse(name: &[u8], wrong: &str) -> Error {
    let shown = &name[..name.len().min(MAX_PATH)];
    Error::misuse(Stage::List, format!("entry \"{}\" {wrong}", Shown(shown)))
}

/// Number of the root of the transfer among the directories.
pub(super) const ROOT: u32 = 0;

/// Longest path and symlink target in bytes: rsync's MAXPATHLEN without its NUL.
const MAX_PATH: usize = 4095;

/// Indexes are positive ints.
const MAX_ENTRIES: usize = i32::MAX as usize;

/// Bytes of all names together: positions have 32 bits.
const MAX_BYTES: usize = u32::MAX as usize;

/// Names of users and groups have a length of one byte.
const MAX_ID_NAME: usize = 255;
