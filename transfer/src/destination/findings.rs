//! What came up while directories were compared, and what that means for the facts that asked for it.

use std::collections::{BTreeMap, HashMap, HashSet};

use ebbtide_feed::{Fact, RelPath};

use super::blame::blamed;
use super::guard::Guarded;
use super::judge::{Judgement, Verdict, shown};
use super::progress::Progress;
use super::work::{parent, path_of};
use crate::ledger::Inode;
use crate::plan::look::ROOT;
use crate::plan::tree::{Chunk, Start};
use crate::session::Entry;

/// What came up while directories were compared.
#[derive(Default)]
pub(super) struct Findings {
    failed: BTreeMap<u32, (RelPath, String)>,
    successors: BTreeMap<u32, HashSet<Fact>>,
    guarded: Guarded,
    /// Inodes with names that nobody knows, and the facts that they came up for.
    unknown: HashMap<Inode, u32>,
}

impl Findings {
    pub(super) fn take_in(&mut self, chunk: &mut Chunk) {
        self.failed.extend(chunk.failed.drain(..).map(|(id, path, why)| (id, (path, why))));
        for (id, fact) in chunk.successors.drain(..) {
            self.successors.entry(id).or_default().insert(fact);
        }
        self.unknown.extend(chunk.unknown.drain());
    }

    /// The inodes with names that nobody knows, but for those that a comparison of the whole root came upon: that one
    /// saw all names.
    pub(super) fn unknown(&self, starts: &[Start]) -> HashSet<Inode> {
        let whole = |fact: u32| starts.iter().any(|start| start.fact() == fact && start.is_whole());
        self.unknown.iter().filter(|(_, fact)| !whole(**fact)).map(|(inode, _)| *inode).collect()
    }

    /// Names of those that were found: each is looked at by itself, and linked to the others.
    pub(super) fn found(&mut self, names: impl IntoIterator<Item = (Inode, RelPath)>) {
        for (inode, path) in names {
            if let Some(owner) = self.unknown.get(&inode) {
                self.successors.entry(*owner).or_default().insert(Fact::Touched { path, data: false });
            }
        }
    }

    pub(super) fn judge(&mut self, chunk: &Chunk, entries: &[Entry], judgement: &Judgement) {
        for (entry, verdict) in entries.iter().zip(&judgement.verdicts) {
            if *verdict != Verdict::Done
                && let Some(owner) = chunk.owner(&entry.name)
            {
                let again = Fact::Touched { path: path_of(&entry.name), data: !entry.meta.is_dir() };
                self.successors.entry(owner).or_default().insert(again);
            }
        }
        for text in &judgement.unexplained {
            self.blame(chunk, text);
        }
    }

    /// The daemon passed over this many names that it was to remove in some of the directories.
    pub(super) fn guard(&mut self, chunk: &Chunk, skipped: u64) {
        let mut skipped = skipped;
        for (dir, owner) in &chunk.owners {
            let (_, count) = self.guarded.entry(*owner).or_insert_with(|| (path_of(dir), 0));
            *count += std::mem::take(&mut skipped);
        }
    }

    /// An error that names no entry: something in one of the directories cannot be removed.
    fn blame(&mut self, chunk: &Chunk, text: &[u8]) {
        let listed = |name: &[u8]| chunk.owners.contains_key(parent(name));
        match blamed(text, |name| name != ROOT && listed(name)) {
            Some(name) => {
                let dir = parent(&name);
                let again = Fact::Relist { dir: path_of(dir) };
                if let Some(&owner) = chunk.owners.get(dir) {
                    self.successors.entry(owner).or_default().insert(again);
                }
            }
            None => {
                for (dir, owner) in &chunk.owners {
                    self.failed.entry(*owner).or_insert_with(|| (path_of(dir), shown(text)));
                }
            }
        }
    }

    /// Settles the facts of the directories that were compared.
    pub(super) fn settle(
        mut self,
        starts: &[Start],
        ignore_times: bool,
        facts: &[(u32, Fact)],
        progress: &mut Progress,
    ) {
        progress.guarded.append(&mut self.guarded);
        let facts: HashMap<u32, &Fact> = facts.iter().map(|(id, fact)| (*id, fact)).collect();
        for start in starts.iter().filter(|start| start.ignore_times() == ignore_times) {
            let id = start.fact();
            let successors: Vec<Fact> = self.successors.remove(&id).unwrap_or_default().into_iter().collect();
            if let Some(failure) = self.failed.remove(&id) {
                progress.failed.insert(id, failure);
            } else if successors.iter().any(|fact| Some(&fact) == facts.get(&id)) {
                let why = "something in it cannot be brought up to date".to_owned();
                progress.failed.insert(id, (start.dir().clone(), why));
            } else if successors.is_empty() {
                progress.done.insert(id);
            } else {
                progress.replaced.insert(id, successors);
            }
        }
    }
}
