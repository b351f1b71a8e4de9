//! The entries under way, by the indexes that the protocol has for them.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ebbtide_wire::flist::FileList;
use ebbtide_wire::sender::{Ndx, Pushed};

use super::entry::Entry;
use super::listings::Ready;
use super::outcomes::Outcomes;
use super::report::Outcome;

/// Where an entry is.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    /// The caller's number of it.
    pub(super) index: usize,
    /// It and others.
    pub(super) entries: Arc<Vec<Entry>>,
    /// Its place among those.
    pub(super) at: usize,
}

impl Spot {
    pub(super) fn entry(&self) -> &Entry {
        &self.entries[self.at]
    }
}

/// A [`Spot`] by reference.
struct Found<'a> {
    index: usize,
    entries: &'a Arc<Vec<Entry>>,
    at: usize,
}

/// One list for all entries.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) entries: Arc<Vec<Entry>>,
    /// The list as it went out, once it did.
    pub(super) list: Option<Arc<FileList>>,
    pub(super) outcomes: Outcomes,
}

impl Whole {
    pub(super) fn new(entries: Vec<Entry>) -> Whole {
        let outcomes = Outcomes::new(entries.len());
        Whole { entries: Arc::new(entries), list: None, outcomes }
    }

    fn find(&self, ndx: Ndx) -> Option<Found<'_>> {
        let at = self.list.as_ref()?.pushed(ndx).filter(|at| *at < self.entries.len())?;
        Some(Found { index: at, entries: &self.entries, at })
    }

    fn note(&mut self, ndx: Ndx, outcome: Outcome) {
        if let Some(at) = self.list.as_ref().and_then(|list| list.pushed(ndx)) {
            self.outcomes.note(at, outcome);
        }
    }
}

/// The lists of directories that the daemon has and is not done with.
#[derive(Debug, Default)]
pub(super) struct Parts {
    sent: VecDeque<Part>,
    /// The part that was asked for last, if it is still at this place: mostly it is asked for again.
    found: Cell<usize>,
    /// Directories that went out as entries and have no list yet.
    unlisted: HashMap<Box<[u8]>, Directory>,
    /// Entries so far.
    count: usize,
}

/// A directory whose list is still to come.
#[derive(Debug)]
struct Directory {
    /// The core's number of it.
    number: u32,
    index: usize,
    /// Without its name.
    entry: Entry,
}

#[derive(Debug)]
struct Part {
    /// Index of the first entry.
    first: u32,
    list: Arc<FileList>,
    entries: Arc<Vec<Entry>>,
    /// The caller's number of the first entry.
    index: usize,
    outcomes: Outcomes,
    /// The directory itself, whose entry was in an earlier list, and what is known of it.
    directory: Option<(Spot, Outcomes)>,
}

/// A part that is about to be sent.
pub(super) struct Next {
    /// The core's number of the directory; `None` for the top.
    pub(super) number: Option<u32>,
    directory: Option<Spot>,
}

impl Parts {
    /// What this listing is of; `None` when no entry went out for it.
    pub(super) fn next(&mut self, dir: &[u8]) -> Option<Next> {
        if self.count == 0 {
            return dir.is_empty().then_some(Next { number: None, directory: None });
        }
        let (name, directory) = self.unlisted.remove_entry(dir)?;
        let entries = Arc::new(vec![Entry { name, ..directory.entry }]);
        let spot = Spot { index: directory.index, entries, at: 0 };
        Some(Next { number: Some(directory.number), directory: Some(spot) })
    }

    /// Takes in what was sent.
    pub(super) fn add(&mut self, next: Next, pushed: Pushed, list: Arc<FileList>, entries: Arc<Vec<Entry>>) {
        let top = next.number.is_none();
        let mut directory = next.directory;
        for (number, ndx) in pushed.directories.zip(list.directories()) {
            let Some(at) = list.pushed(ndx) else { continue };
            let (entry, index) = (&entries[at], self.count + at);
            if top && &*entry.name == b"." {
                directory = Some(Spot { index, entries: Arc::clone(&entries), at });
                continue;
            }
            let entry = entry.clone();
            let (name, entry) = (entry.name, Entry { name: Box::default(), ..entry });
            self.unlisted.insert(name, Directory { number, index, entry });
        }
        let index = self.count;
        self.count += entries.len().max(1);
        self.sent.push_back(Part {
            first: pushed.first.0,
            list,
            outcomes: Outcomes::new(entries.len()),
            entries,
            index,
            directory: directory.map(|spot| (spot, Outcomes::new(1))),
        });
    }

    /// A directory that has no list yet.
    pub(super) fn any_unlisted(&self) -> Option<Box<[u8]>> {
        self.unlisted.keys().next().cloned()
    }

    fn find(&self, ndx: Ndx) -> Option<Found<'_>> {
        let part = &self.sent[self.part_of(ndx)?];
        let Some(entry) = ndx.0.checked_sub(part.first) else {
            let (Spot { index, entries, at }, _) = part.directory.as_ref()?;
            return Some(Found { index: *index, entries, at: *at });
        };
        let at = part.list.pushed(Ndx(entry))?;
        Some(Found { index: part.index + at, entries: &part.entries, at })
    }

    /// How many entries stand before this one in all lists.
    pub(super) fn place(&self, ndx: Ndx) -> Option<usize> {
        let part = &self.sent[self.part_of(ndx)?];
        Some(part.index + ndx.0.saturating_sub(part.first) as usize)
    }

    fn note(&mut self, ndx: Ndx, outcome: Outcome) {
        let Some(at) = self.part_of(ndx) else { return };
        let part = &mut self.sent[at];
        let noted = match ndx.0.checked_sub(part.first) {
            None => part.directory.as_mut().map(|(_, outcomes)| (0, outcomes)),
            Some(entry) => part.list.pushed(Ndx(entry)).map(|at| (at, &mut part.outcomes)),
        };
        if let Some((at, outcomes)) = noted {
            outcomes.note(at, outcome);
        }
    }

    /// The daemon is done with the oldest list: tells what is known of its entries, and of its directory. A directory
    /// that is an entry of the list comes with its own list.
    pub(super) fn settle(&mut self, mut tell: impl FnMut(usize, &Entry, &Outcome)) {
        let Some(part) = self.sent.pop_front() else { return };
        if let Some((spot, outcomes)) = &part.directory {
            tell(spot.index, spot.entry(), &outcomes.get(0));
        }
        for (_, at) in part.list.iter_pushed() {
            let entry = &part.entries[at];
            if !entry.meta.is_dir() {
                tell(part.index + at, entry, &part.outcomes.get(at));
            }
        }
    }

    fn part_of(&self, ndx: Ndx) -> Option<usize> {
        let begins = |part: &Part| part.first <= ndx.0.saturating_add(1);
        let (last, behind) = (self.found.get(), self.found.get() + 1);
        if self.sent.get(last).is_some_and(begins) && !self.sent.get(behind).is_some_and(begins) {
            return Some(last);
        }
        let at = self.sent.partition_point(begins).checked_sub(1)?;
        self.found.set(at);
        Some(at)
    }
}

/// The entries of a session.
#[derive(Debug)]
pub(super) enum Lists {
    Whole(Whole),
    Parts(Parts),
}

impl Lists {
    /// How many entries stand before this one, in the order in which they went out.
    pub(super) fn place(&self, ndx: Ndx) -> Option<usize> {
        match self {
            Lists::Whole(_) => Some(ndx.0 as usize),
            Lists::Parts(parts) => parts.place(ndx),
        }
    }

    /// The caller's number of the entry with this index, and the entry.
    pub(super) fn entry(&self, ndx: Ndx) -> Option<(usize, &Entry)> {
        let Found { index, entries, at } = self.find(ndx)?;
        Some((index, &entries[at]))
    }

    /// Where the entry with this index is, for another thread.
    pub(super) fn spot(&self, ndx: Ndx) -> Option<Spot> {
        let Found { index, entries, at } = self.find(ndx)?;
        Some(Spot { index, entries: Arc::clone(entries), at })
    }

    fn find(&self, ndx: Ndx) -> Option<Found<'_>> {
        match self {
            Lists::Whole(whole) => whole.find(ndx),
            Lists::Parts(parts) => parts.find(ndx),
        }
    }

    /// Notes what happened to the entry with this index, unless a part of it failed before.
    pub(super) fn note(&mut self, ndx: Ndx, outcome: Outcome) {
        match self {
            Lists::Whole(whole) => whole.note(ndx, outcome),
            Lists::Parts(parts) => parts.note(ndx, outcome),
        }
    }
}

impl Ready {
    /// The listing of a directory that got none.
    pub(super) fn empty(dir: Box<[u8]>) -> Ready {
        let list = ebbtide_wire::flist::FileListBuilder::of_directory(&dir)
            .and_then(|list| list.finish(|_, _| None));
        Ready {
            dir,
            entries: Arc::default(),
            problems: Vec::new(),
            io_errors: super::IoErrors::NONE,
            broken: false,
            list,
        }
    }
}

#[cfg(test)]
mod tests {
    use ebbtide_wire::flist::{self, FileListBuilder};

    use super::*;
    use crate::source::Meta;

    fn add(parts: &mut Parts, number: Option<u32>, first: u32, files: u32) {
        let names: Vec<_> = (0..files).map(|n| format!("{first}/{n}")).collect();
        let mut builder = FileListBuilder::of_directory(first.to_string().as_bytes()).unwrap();
        for name in &names {
            builder
                .push(&flist::Entry { name: name.as_bytes(), mode: 0o100_644, ..Default::default() })
                .unwrap();
        }
        let list = Arc::new(builder.finish(|_, _| None).unwrap());
        let entries = names.iter().map(|name| Entry::new(name.as_bytes(), Meta::MISSING)).collect();
        let pushed = Pushed { first: Ndx(first), directories: 0..0 };
        parts.add(Next { number, directory: None }, pushed, list, Arc::new(entries));
    }

    #[test]
    fn a_place_is_the_same_whichever_part_was_asked_for_before() {
        let mut parts = Parts::default();
        add(&mut parts, None, 1, 3);
        add(&mut parts, Some(1), 5, 2);
        add(&mut parts, Some(2), 8, 4);
        // The index before a part's first one is its directory's.
        let places = [0, 0, 1, 2, 3, 3, 4, 5, 5, 6, 7, 8];
        for begin in [0, 4, 7] {
            for (before, ndx) in (0..12).flat_map(|before| (0..12).map(move |ndx| (before, ndx))) {
                parts.place(Ndx(before));
                let expected = (ndx >= begin).then(|| places[ndx as usize]);
                assert_eq!(parts.place(Ndx(ndx)), expected, "{ndx} after {before}, from {begin} on");
            }
            parts.settle(|_, _, _| {});
        }
        assert_eq!(parts.place(Ndx(11)), None);
    }
}
