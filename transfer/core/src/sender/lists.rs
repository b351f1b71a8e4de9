//! The lists that went out, and the indexes of their entries (protocol note, sections 5.5 and 5.8).
//!
//! Without incremental recursion there is one, whose entries count from 0. With it there is one for each directory.
//! Indexes begin with 1, and one is left out before each list: it stands for the directory itself, whose entry is in
//! an earlier list. The daemon is done with the lists in the order in which they came, and they are forgotten then.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::Ndx;
use crate::flist::{FileList, Xattrs};

/// Where an index leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which list, counted from 0 in the order of sending.
    pub(super) list: u64,
    /// Which entry of it; `None` for the directory that the list is of.
    pub(super) entry: Option<Ndx>,
}

/// Lists that the daemon has and is not done with.
#[derive(Debug, Default)]
pub(super) struct Lists {
    sent: VecDeque<Sent>,
    /// How many lists the daemon is done with.
    done: u64,
    /// First index of the next list.
    next: u32,
    /// Number of the next directory.
    next_dir: u32,
    /// Directories that have no list yet, and where their entries are if they have extended attributes.
    unlisted: HashMap<u32, Option<Attributes>>,
    /// How many sets of extended attributes the lists so far had.
    sets: u32,
    /// Whether no further list will come.
    pub(super) complete: bool,
    /// The latest list that the daemon spoke of.
    latest: u64,
    /// Entries of the lists behind that one.
    ahead: usize,
}

/// The extended attributes of a directory: they are asked for with its list, not with the one that has its entry.
#[derive(Clone, Debug)]
struct Attributes {
    /// Number of the set.
    set: u32,
    list: Arc<FileList>,
    ndx: Ndx,
}

#[derive(Debug)]
struct Sent {
    start: u32,
    list: Arc<FileList>,
    /// Whether the index before the first one stands for something.
    has_directory: bool,
    /// Of that directory.
    attributes: Option<Attributes>,
    /// What the numbers of its sets of extended attributes begin with.
    first_set: u32,
    /// Which files were requested once, and which twice: one bit each.
    requested: [Vec<u64>; 2],
}

/// Why a list cannot be sent.
pub(super) type Refusal = &'static str;

impl Lists {
    /// The index that the next list begins with, and what it would be there.
    pub(super) fn next_start(&mut self, incremental: bool) -> u32 {
        if self.next == 0 && incremental {
            self.next = 1;
        }
        self.next
    }

    /// How many indexes were given out so far.
    pub(super) fn indexes(&self) -> u32 {
        self.next
    }

    /// The only list.
    pub(super) fn add_whole(&mut self, list: Arc<FileList>) {
        self.complete = true;
        self.push(list, false, None);
    }

    /// The list of a directory, by its number, or the first list; returns the numbers of the directories in it, in
    /// their order.
    pub(super) fn add(&mut self, dir: Option<u32>, list: Arc<FileList>) -> Result<Range<u32>, Refusal> {
        let first = self.next <= 1;
        match dir {
            _ if self.complete => return Err("a list comes after the last one"),
            None if !first => return Err("only the first list is of no directory"),
            Some(_) if first => return Err("the first list is of no directory"),
            Some(dir) if !self.unlisted.contains_key(&dir) => {
                return Err("a directory is not known, or has its list");
            }
            _ => {}
        }
        // Indexes are positive ints.
        if list.len() as u64 + u64::from(self.next) >= i32::MAX as u64 {
            return Err("there are too many entries");
        }
        let root =
            first && list.get(Ndx(0)).is_some_and(|entry| entry.parent.is_empty() && entry.base == b".");
        let mut own = dir.and_then(|dir| self.unlisted.remove(&dir)).flatten();
        let start = self.next_dir;
        for ndx in list.directories() {
            let attributes = self.attributes(&list, ndx);
            if root && self.next_dir == start {
                own = attributes;
            } else {
                self.unlisted.insert(self.next_dir, attributes);
            }
            self.next_dir += 1;
        }
        self.push(list, !first || root, own);
        Ok(start..self.next_dir)
    }

    /// Of a directory of the next list, if it has some.
    fn attributes(&self, list: &Arc<FileList>, ndx: Ndx) -> Option<Attributes> {
        let (set, _) = list.xattrs(ndx);
        (set > 0).then(|| Attributes { set: self.sets + set, list: Arc::clone(list), ndx })
    }

    fn push(&mut self, list: Arc<FileList>, has_directory: bool, attributes: Option<Attributes>) {
        let start = self.next;
        self.next += list.len() as u32 + 1;
        if self.done + self.sent.len() as u64 > self.latest {
            self.ahead += list.len() + 1;
        }
        let first_set = self.sets;
        self.sets += list.xattr_sets();
        let requested = Default::default();
        self.sent.push_back(Sent { start, list, has_directory, attributes, first_set, requested });
    }

    /// Whether every directory has its list.
    pub(super) fn is_every_directory_listed(&self) -> bool {
        self.next > 1 && self.unlisted.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Entries and lists that the daemon has not come to.
    pub(super) fn ahead(&self) -> usize {
        self.ahead
    }

    /// Whether an index belongs to the oldest list, if it belongs to one.
    pub(super) fn is_of_oldest(&self, ndx: u32) -> bool {
        self.sent.get(1).is_none_or(|second| ndx + 1 < second.start)
    }

    /// The daemon is done with the oldest list; its number.
    pub(super) fn pop(&mut self) -> Option<u64> {
        self.note_latest(self.done + 1);
        self.sent.pop_front()?;
        self.done += 1;
        Some(self.done - 1)
    }

    /// What the numbers of sets of extended attributes in the oldest list begin with.
    pub(super) fn first_set(&self) -> Option<u32> {
        self.sent.front().map(|sent| sent.first_set)
    }

    /// Where an index leads; `None` when it leads nowhere any more or yet.
    pub(super) fn place(&self, ndx: Ndx) -> Option<Place> {
        let (at, sent) = self.find(ndx)?;
        let list = self.done + at as u64;
        match ndx.0.checked_sub(sent.start) {
            None if sent.has_directory => Some(Place { list, entry: None }),
            Some(entry) if (entry as usize) < sent.list.len() => {
                Some(Place { list, entry: Some(Ndx(entry)) })
            }
            _ => None,
        }
    }

    /// Notes that the daemon spoke of this place.
    pub(super) fn note_latest(&mut self, list: u64) {
        while self.latest < list {
            let at = usize::try_from(self.latest.saturating_sub(self.done)).unwrap_or(usize::MAX);
            // The one that it comes to is no longer ahead.
            let next = self.sent.get(at + 1).map_or(0, |sent| sent.list.len() + 1);
            self.ahead = self.ahead.saturating_sub(next);
            self.latest += 1;
        }
    }

    /// The extended attributes of an entry, and a number that this set of them has in all lists.
    pub(super) fn xattrs(&self, ndx: Ndx) -> Option<(u32, &Xattrs)> {
        let (_, sent) = self.find(ndx)?;
        if let Some(entry) = ndx.0.checked_sub(sent.start) {
            let (set, xattrs) = sent.list.xattrs(Ndx(entry));
            return Some((sent.first_set + set, xattrs));
        }
        let Attributes { set, list, ndx } = sent.attributes.as_ref()?;
        Some((*set, list.xattrs(*ndx).1))
    }

    /// Whether this is a regular file.
    pub(super) fn is_file(&self, ndx: Ndx) -> bool {
        self.find(ndx).is_some_and(|(_, sent)| {
            let entry = ndx.0.checked_sub(sent.start).and_then(|entry| sent.list.get(Ndx(entry)));
            entry.is_some_and(|entry| entry.is_file())
        })
    }

    /// Notes a request in round 0 or 1; whether it is the first one there.
    pub(super) fn note_request(&mut self, ndx: Ndx, round: usize) -> bool {
        let Some((at, _)) = self.find(ndx) else { return false };
        let sent = &mut self.sent[at];
        let Some(entry) = ndx.0.checked_sub(sent.start) else { return false };
        let bits = &mut sent.requested[round];
        bits.resize(sent.list.len().div_ceil(64), 0);
        let (word, bit) = (entry as usize / 64, 1 << (entry % 64));
        let first = bits[word] & bit == 0;
        bits[word] |= bit;
        first
    }

    /// The list whose stretch of indexes, its directory's among them, has this one.
    fn find(&self, ndx: Ndx) -> Option<(usize, &Sent)> {
        let begins = |sent: &Sent| sent.start <= ndx.0.saturating_add(1);
        // Mostly it is the list that the daemon spoke of last.
        let latest = usize::try_from(self.latest.saturating_sub(self.done)).unwrap_or(usize::MAX);
        let behind = latest.saturating_add(1);
        let found = self.sent.get(latest).is_some_and(begins) && !self.sent.get(behind).is_some_and(begins);
        let behind = if found { behind } else { self.sent.partition_point(begins) };
        let mut at = behind.checked_sub(1)?;
        // Without incremental recursion no index stands before the first one.
        if self.sent[at].start > ndx.0 && !self.sent[at].has_directory {
            at = at.checked_sub(1)?;
        }
        Some((at, &self.sent[at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flist::{Entry, FileListBuilder};

    fn list(path: &str, files: u32) -> Arc<FileList> {
        let mut builder = FileListBuilder::of_directory(path.as_bytes()).unwrap();
        for file in 0..files {
            let name = if path.is_empty() { file.to_string() } else { format!("{path}/{file}") };
            builder.push(&Entry { name: name.as_bytes(), mode: 0o100_644, ..Entry::default() }).unwrap();
        }
        // The top has the two directories whose lists follow.
        for name in ["x", "y"].iter().filter(|_| path.is_empty()) {
            builder.push(&Entry { name: name.as_bytes(), mode: 0o040_755, ..Entry::default() }).unwrap();
        }
        Arc::new(builder.finish(|_, _| None).unwrap())
    }

    #[test]
    fn an_index_leads_to_the_same_place_whichever_list_the_daemon_spoke_of() {
        let mut lists = Lists::default();
        assert_eq!(lists.next_start(true), 1);
        for (dir, path, files) in [(None, "", 1), (Some(0), "x", 2), (Some(1), "y", 4)] {
            lists.add(dir, list(path, files)).unwrap();
        }
        let expected = |ndx: u32, from: u64| {
            let (list, entry) = match ndx {
                1..4 => (0, Some(Ndx(ndx - 1))),
                4..7 => (1, ndx.checked_sub(5).map(Ndx)),
                7..12 => (2, ndx.checked_sub(8).map(Ndx)),
                _ => return None,
            };
            (list >= from).then_some(Place { list, entry })
        };
        for done in 0..3 {
            for latest in done..3 {
                lists.note_latest(latest);
                for ndx in 0..15 {
                    let place = lists.place(Ndx(ndx));
                    assert_eq!(place, expected(ndx, done), "{ndx}, latest {latest}, done {done}");
                }
            }
            assert_eq!(lists.pop(), Some(done));
        }
        assert_eq!(lists.place(Ndx(11)), None);
    }
}
