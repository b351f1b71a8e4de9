//! A finished list: compact records over one store of bytes.

use std::ops::Range;

use super::attributes::{Acl, Xattrs};
use super::builder::ROOT;
use super::entry::{Device, DirKind, EntryRef, Mtime, mode};
use super::table::Table;
use crate::proto::ServerOptions;
use crate::sender::Ndx;

/// Which kind of id a name is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdKind {
    /// A user.
    User,
    /// A group.
    Group,
}

/// A sorted list. Positions in it are the indexes that the protocol uses from then on.
///
/// Memory: about 52 bytes and the last component of the name for each entry, and the path of each directory.
///
/// With incremental recursion a list is one of many, and holds the entries of one directory
/// ([`FileListBuilder::of_directory`](super::FileListBuilder::of_directory)).
#[derive(Debug)]
pub struct FileList {
    pub(super) store: Store,
    /// Record numbers in rsync's order.
    pub(super) order: Vec<u32>,
    /// Names of users, then of groups: sorted by id.
    pub(super) names: [Vec<(u32, Vec<u8>)>; 2],
}

impl FileList {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The entry at an index.
    pub fn get(&self, ndx: Ndx) -> Option<EntryRef<'_>> {
        let record = self.record(ndx)?;
        Some(EntryRef {
            parent: self.store.dir_path(record.dir),
            base: self.store.base(record),
            mode: record.mode,
            size: record.size,
            mtime: record.mtime(),
            uid: record.uid,
            gid: record.gid,
            target: self.store.extra(record).map_or(&[], |extra| self.store.text(&extra.target)),
        })
    }

    /// Which call of [`push`](super::FileListBuilder::push) brought the entry at an index.
    pub fn pushed(&self, ndx: Ndx) -> Option<usize> {
        self.order.get(ndx.0 as usize).map(|number| *number as usize)
    }

    /// The calls of [`push`](super::FileListBuilder::push), in the order of the list.
    pub fn iter_pushed(&self) -> impl Iterator<Item = (Ndx, usize)> {
        (0..).map(Ndx).zip(self.order.iter().map(|number| *number as usize))
    }

    /// The index of the entry with this path, if the list has it.
    pub fn find(&self, path: &[u8]) -> Option<Ndx> {
        (0..self.order.len() as u32)
            .map(Ndx)
            .find(|ndx| self.get(*ndx).is_some_and(|entry| entry.path() == path))
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (Ndx, EntryRef<'_>)> {
        (0..self.order.len() as u32).map(Ndx).filter_map(|ndx| Some((ndx, self.get(ndx)?)))
    }

    /// What in this list a daemon would not take with these options.
    pub(crate) fn misfit(&self, options: &ServerOptions) -> Option<&'static str> {
        let records = &self.store.records;
        if !options.relative
            && records.iter().any(|record| record.is_dir() && record.kind == DirKind::Implied)
        {
            return Some("implied directories are skipped without relative names");
        }
        if !options.delete_missing_args && records.iter().any(|record| record.mode == 0) {
            return Some("names to be removed need delete_missing_args");
        }
        None
    }

    /// The number of an entry's set of extended attributes, and the set.
    pub(crate) fn xattrs(&self, ndx: Ndx) -> (u32, &Xattrs) {
        let extra = self.record(ndx).and_then(|record| self.store.extra(record));
        let number = extra.map_or(0, |extra| extra.xattrs);
        (number, self.store.shared.xattrs.get(number))
    }

    /// How many different sets of extended attributes there are, the empty one among them.
    pub(crate) fn xattr_sets(&self) -> u32 {
        self.store.shared.xattrs.len() as u32
    }

    /// An entry's access time in seconds; 0 if it was given none.
    pub(super) fn atime(&self, ndx: Ndx) -> i64 {
        let number = self.order.get(ndx.0 as usize);
        number.and_then(|number| self.store.atimes.get(*number as usize)).copied().unwrap_or(0)
    }

    pub(super) fn record(&self, ndx: Ndx) -> Option<&Record> {
        self.order.get(ndx.0 as usize).map(|number| &self.store.records[*number as usize])
    }

    /// Which entries are directories that a part of their own can follow for: their numbers in the order of the
    /// list, `.` among them.
    pub fn directories(&self) -> impl Iterator<Item = Ndx> {
        (0..self.order.len() as u32).map(Ndx).filter(|ndx| self.record(*ndx).is_some_and(Record::is_dir))
    }

    /// The path of the one directory that all entries lie in; `None` of a list that holds a whole tree.
    pub fn directory(&self) -> Option<&[u8]> {
        self.store.one_dir.then(|| self.store.dir_path(ROOT))
    }

    /// The name of an id, if it has one.
    pub(super) fn name(&self, kind: IdKind, id: u32) -> Option<&[u8]> {
        let names = &self.names[kind as usize];
        let at = names.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&names[at].1).filter(|name| !name.is_empty()).map(Vec::as_slice)
    }

    pub(crate) fn names(&self, kind: IdKind) -> &[(u32, Vec<u8>)] {
        &self.names[kind as usize]
    }
}

/// Records in the order in which they came, and the bytes they point to.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) records: Vec<Record>,
    pub(super) dirs: Vec<Dir>,
    pub(super) extras: Vec<Extra>,
    pub(super) shared: Box<Shared>,
    /// Access times of the first records; 0 for the others. Empty unless somebody asked for them.
    pub(super) atimes: Vec<i64>,
    pub(super) bytes: Vec<u8>,
    /// All entries lie in the first directory, whose path need not be empty then.
    pub(super) one_dir: bool,
}

/// What many entries may have in common.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Different ACLs, the empty one first.
    pub(super) acls: Table<Acl>,
    /// Different sets of extended attributes, the empty one first.
    pub(super) xattrs: Table<Xattrs>,
}

/// An entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// Number of the directory that holds it.
    pub(super) dir: u32,
    /// Where the last component of its name begins in the bytes.
    pub(super) base: u32,
    /// Length of that component, 1 to 4095.
    pub(super) base_len: u16,
    pub(super) kind: DirKind,
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) secs: i64,
    pub(super) nanos: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Number of its extra, or [`NONE`].
    pub(super) extra: u32,
}

/// What only some entries have.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra {
    pub(super) device: Device,
    pub(super) target: Range<u32>,
    pub(super) checksum: Range<u32>,
    pub(super) link_group: Option<u64>,
    /// Numbers of its access ACL, default ACL and extended attributes in the tables; 0 is an empty one.
    pub(super) acl: u32,
    pub(super) default_acl: u32,
    pub(super) xattrs: u32,
}

/// A directory that some entry lies in; the first one is the root of the transfer, with an empty path.
#[derive(Clone, Debug)]
pub(super) struct Dir {
    pub(super) path: Range<u32>,
    /// Number of its own record, or [`NONE`].
    pub(super) record: u32,
}

impl Record {
    pub(super) fn mtime(&self) -> Mtime {
        Mtime { secs: self.secs, nanos: self.nanos }
    }

    pub(super) fn is_dir(&self) -> bool {
        self.mode & mode::TYPE == mode::DIRECTORY
    }
}

impl Store {
    pub(super) fn text(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    pub(super) fn base(&self, record: &Record) -> &[u8] {
        let start = record.base as usize;
        &self.bytes[start..start + usize::from(record.base_len)]
    }

    pub(super) fn dir_path(&self, dir: u32) -> &[u8] {
        self.text(&self.dirs[dir as usize].path)
    }

    pub(super) fn extra(&self, record: &Record) -> Option<&Extra> {
        self.extras.get(record.extra as usize)
    }

    /// Writes the whole path of an entry over `out`.
    pub(super) fn path(&self, record: &Record, out: &mut Vec<u8>) {
        out.clear();
        let parent = self.dir_path(record.dir);
        if !parent.is_empty() {
            out.extend_from_slice(parent);
            out.push(b'/');
        }
        out.extend_from_slice(self.base(record));
    }
}

/// No record, no extra.
pub(super) const NONE: u32 = u32::MAX;
