//! One file list in the making: no name twice, every parent there, removals first.

use std::collections::HashSet;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::look::{Looker, ancestors};
use crate::session::{DirRole, Entry};
use crate::source::Look;

/// How a list is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lane {
    /// `-I`: an equal size and mtime prove nothing.
    pub(crate) ignore_times: bool,
    /// The list has directories that are complete: `-r`, and `--delete` where the mirror deletes.
    pub(crate) complete: bool,
}

/// A list and who waits for which of its entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    /// How it is sent.
    pub(crate) lane: Lane,
    /// Names to be removed.
    pub(crate) missing: Vec<Box<[u8]>>,
    /// Entries that are there, parents among them.
    pub(crate) entries: Vec<Entry>,
    /// Positions in `entries`, by name.
    at: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The names in `missing`.
    removed: HashSet<Box<[u8]>>,
}

impl List {
    /// An empty list.
    pub(crate) fn new(lane: Lane) -> Self {
        List { lane, ..List::default() }
    }

    /// Whether it asks for nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.entries.is_empty()
    }

    /// Adds an entry; one that is there already keeps the greater role. Its parents must follow, or be there.
    pub(crate) fn add(&mut self, name: &[u8], look: &Look, dir: DirRole) -> usize {
        if let Some(at) = self.find(name) {
            if dir == DirRole::Content {
                self.entries[at].dir = dir;
            }
            return at;
        }
        let entry = Entry::new(name, look.meta)
            .with_link_target(look.link_target.clone())
            .with_details(look.details.clone())
            .with_role(dir);
        self.push(entry)
    }

    /// Adds an entry that a walk found; it replaces what an earlier look saw.
    pub(crate) fn push(&mut self, entry: Entry) -> usize {
        if let Some(at) = self.find(&entry.name) {
            let role = if self.entries[at].dir == DirRole::Content { DirRole::Content } else { entry.dir };
            self.entries[at] = entry.with_role(role);
            return at;
        }
        let at = self.entries.len();
        // Lossless: the protocol's lists are far shorter.
        let (hash, number) = (self.hasher.hash_one(&*entry.name), at as u32);
        self.entries.push(entry);
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.at.insert_unique(hash, number, |&at| hasher.hash_one(&*entries[at as usize].name));
        at
    }

    /// Where an entry stands in the list.
    pub(crate) fn position(&self, name: &[u8]) -> Option<usize> {
        self.find(name)
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        let is_it = |at: &u32| &*self.entries[*at as usize].name == name;
        self.at.find(self.hasher.hash_one(name), is_it).map(|at| *at as usize)
    }

    /// Adds a name to be removed.
    pub(crate) fn remove(&mut self, name: &[u8]) {
        if self.removed.insert(name.into()) {
            self.missing.push(name.into());
        }
    }

    /// Says no more than the attributes of a directory: its entries could not all be read.
    pub(crate) fn set_plain(&mut self, name: &[u8]) {
        if let Some(at) = self.find(name) {
            self.entries[at].dir = DirRole::Plain;
        }
    }

    /// Whether the list has an entry of this name.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.find(name).is_some()
    }

    /// The entry of this name.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Entry> {
        self.find(name).map(|at| &self.entries[at])
    }

    /// Adds the directories on the way to every name. `looker` has seen them.
    pub(crate) fn add_parents(&mut self, looker: &Looker) {
        let names: Vec<Box<[u8]>> =
            self.missing.iter().cloned().chain(self.entries.iter().map(|entry| entry.name.clone())).collect();
        names.iter().for_each(|name| self.add_parents_of(name, looker));
    }

    /// Adds the directories on the way to a name. `looker` has seen them.
    pub(crate) fn add_parents_of(&mut self, name: &[u8], looker: &Looker) {
        for parent in ancestors(name) {
            if !self.has(parent)
                && let Some(look) = looker.known(parent)
            {
                self.add(parent, look, DirRole::Plain);
            }
        }
    }

    /// The list for a session: removals first (rsync 3.4.3 refuses them elsewhere).
    pub(crate) fn to_entries(&self) -> Vec<Entry> {
        let missing = self.missing.iter().map(|name| Entry::missing(name.clone()));
        missing.chain(self.entries.iter().cloned()).collect()
    }
}
