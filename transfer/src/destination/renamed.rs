//! Following renames: what the destination has under an old name is linked to the new one.
//!
//! All of this is a way to send less, and no promise: where it does not come to its end, the facts stay pending and
//! what they stand for is sent.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ebbtide_feed::{Fact, RelPath};

use super::compare::list;
use super::courier::{Broken, Courier, Delivery, Orders, Renamed};
use super::failure::Failure;
use super::judge::{Verdict, judge};
use super::progress::Progress;
use super::work::Work;
use crate::plan::list::Lane;
use crate::plan::look::ROOT;
use crate::plan::names::renames::{MovedDir, Pairs};
use crate::plan::recent::Tick;
use crate::plan::tree::{Chunk, Start, Tree};
use crate::session::{DirRole, Entry, Outcome};

impl<C: Courier> Work<C> {
    /// Links renamed files to their old names.
    pub(super) async fn follow_pairs(
        &mut self,
        pairs: &[Pairs],
        tick: Tick,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let mut rest = pairs.iter();
        while let Some(pairs) = rest.next() {
            progress.renaming = true;
            let orders = Orders { pairs: true, checksum: pairs.summed, ..Orders::default() };
            let entries = pairs.job.list.to_entries();
            let delivery = self.push(orders, entries.clone()).await?;
            progress.renaming = false;
            progress.followed.extend(pairs.files.iter().map(|(name, _)| name.clone()));
            let verdicts = judge(&entries, orders, &delivery).verdicts;
            self.settle_pairs(pairs, &verdicts, tick, progress);
            progress.linked.extend(pairs.linked.iter().cloned());
            // Without its third name, a file would be compared under a name that another one is still linked to.
            if pairs.parks && !verdicts.iter().all(|verdict| *verdict == Verdict::Done) {
                rest.by_ref().for_each(|pairs| leave(pairs, progress));
            }
        }
        Ok(())
    }

    fn settle_pairs(&mut self, pairs: &Pairs, verdicts: &[Verdict], tick: Tick, progress: &mut Progress) {
        for (id, positions) in &pairs.job.updates {
            if positions.iter().all(|&at| verdicts[at] == Verdict::Done) {
                progress.done.insert(*id);
            } else {
                progress.leave_open(*id);
            }
        }
        for old in &pairs.old {
            self.recent.forget(old.as_bytes());
        }
        for (name, look) in &pairs.files {
            let at = pairs.job.list.position(name.as_bytes());
            let is_done = pairs.summed && at.is_some_and(|at| verdicts[at] == Verdict::Done);
            match is_done {
                true => self.recent.sent(name.as_bytes(), &look.meta, tick, None),
                false => self.recent.forget(name.as_bytes()),
            }
        }
    }

    /// Links what is in renamed directories to what the destination has below their old names. The old names are still
    /// to be removed.
    pub(super) async fn follow_dirs(
        &mut self,
        dirs: &mut [MovedDir],
        tick: Tick,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        for at in 0..dirs.len() {
            let removal = &mut dirs[at].removal;
            self.hold_removals(removal, progress).await?;
            if !removal.list.missing.is_empty() {
                self.send_names(removal, tick, progress).await?;
            }
            let moved = &dirs[at];
            progress.followed.insert(moved.to.clone());
            let is_clear = moved.facts.iter().all(|id| progress.replaced.contains_key(id));
            let is_asked_for = !moved.facts.is_empty() || moved.parks();
            if !is_clear || !is_asked_for || !self.courier.can_enter(&moved.to) {
                continue;
            }
            match self.follow_dir(moved, progress).await {
                Ok(true) => moved.facts.iter().for_each(|id| {
                    progress.replaced.remove(id);
                    progress.done.insert(*id);
                }),
                // What is there now is compared.
                Ok(false) => {}
                Err(error) if error.is_of_paths() => progress.renaming = false,
                Err(error) => {
                    // This one and what is left are tried again, from the removal on.
                    let facts = dirs[at..].iter().flat_map(|moved| &moved.facts);
                    facts.for_each(|id| drop(progress.replaced.remove(id)));
                    progress.followed.remove(&moved.to);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Tells whether the destination has all that is in the directory.
    async fn follow_dir(&mut self, moved: &MovedDir, progress: &mut Progress) -> Result<bool, Failure> {
        let start = Start::subtree(moved.place.clone(), false);
        let (mut chunks, walk) = list(Tree::new(Arc::clone(&self.source), &[start], false));
        let mut is_whole = true;
        while let Some(chunk) = chunks.recv().await {
            progress.renaming = true;
            is_whole &= self.follow_chunk(moved, chunk).await?;
            progress.renaming = false;
        }
        walk.await?;
        Ok(is_whole)
    }

    async fn follow_chunk(&mut self, moved: &MovedDir, chunk: Chunk) -> Result<bool, Failure> {
        let mut is_whole = chunk.failed.is_empty() && chunk.successors.is_empty();
        let strangers = self.strangers(moved, &chunk)?;
        let mut entries = Vec::with_capacity(chunk.list.entries.len());
        for entry in chunk.list.entries {
            self.recent.forget(&entry.name);
            if strangers.contains(&entry.name) {
                is_whole = false;
                continue;
            }
            // Their other names may lie elsewhere.
            is_whole &= entry.meta.nlink == 1 || entry.meta.is_dir();
            entries.extend(below(&moved.place, entry));
        }
        if entries.is_empty() {
            return Ok(is_whole);
        }
        let orders = Orders { checksum: true, ..Orders::default() };
        let delivery = self.push_renamed(orders, moved, entries).await?;
        let is_fine = |outcome: &Outcome| {
            !matches!(outcome, Outcome::Failed(_) | Outcome::ChangedWhileRead | Outcome::Vanished)
        };
        let is_clean = !delivery.report.partial && delivery.report.outcomes.iter().all(is_fine);
        Ok(is_whole && is_clean)
    }

    /// What is another inode than the one with several names that the destination has under the old name: linked to
    /// that, it would share its attributes with those names.
    fn strangers(&self, moved: &MovedDir, chunk: &Chunk) -> Result<HashSet<Box<[u8]>>, Failure> {
        let mut strangers = HashSet::new();
        let links = self.ledger.links();
        if !self.rules.hard_links || links.is_empty(self.mirror)? {
            return Ok(strangers);
        }
        let others = || chunk.list.entries.iter().filter(|entry| !entry.meta.is_dir());
        let by_old: HashMap<RelPath, &Entry> =
            others().filter_map(|entry| Some((old_name(moved, &entry.name)?, entry))).collect();
        for (old, inode) in links.inodes(self.mirror, by_old.keys())? {
            let entry = by_old[old];
            if (entry.meta.dev, entry.meta.ino) != (inode.dev, inode.ino) {
                strangers.insert(entry.name.clone());
            }
        }
        Ok(strangers)
    }

    async fn push_renamed(
        &mut self,
        orders: Orders,
        moved: &MovedDir,
        entries: Vec<Entry>,
    ) -> Result<Delivery, Box<Broken>> {
        tracing::trace!(?orders, from = %moved.from, to = %moved.to, names = entries.len(), "session");
        let orders = Orders { lane: Lane::default(), share: self.share, ..self.known.shape(orders) };
        let renamed = Renamed { from: moved.from.clone(), to: moved.to.clone() };
        let delivery = self.courier.push_renamed(orders, renamed, entries, Arc::clone(&self.source)).await?;
        self.take_in(&delivery);
        Ok(delivery)
    }
}

/// What was renamed is sent by the next take.
fn leave(pairs: &Pairs, progress: &mut Progress) {
    progress.followed.extend(pairs.files.iter().map(|(name, _)| name.clone()));
    pairs.job.updates.iter().for_each(|(id, _)| progress.leave_open(*id));
}

/// The name that something in a renamed directory would have had before.
fn old_name(moved: &MovedDir, name: &[u8]) -> Option<RelPath> {
    let below = name.strip_prefix(moved.place.as_bytes())?;
    RelPath::new([moved.from.as_bytes(), below].concat()).ok()
}

/// An entry by its name below a directory; nothing for what is not in it.
fn below(dir: &RelPath, entry: Entry) -> Option<Entry> {
    let rest = entry.name.strip_prefix(dir.as_bytes())?;
    let name: Box<[u8]> = match rest.split_first() {
        None => ROOT.into(),
        Some((b'/', name)) => name.into(),
        Some(_) => return None,
    };
    let place = entry.name;
    Some(Entry { name, dir: DirRole::Plain, ..entry }.read_at(place))
}

/// The names that a take's facts were about, of those that are done.
pub(super) fn names_of(
    facts: &[(u32, Fact)],
    is_done: impl Fn(u32) -> bool,
) -> impl Iterator<Item = &RelPath> {
    facts.iter().filter(move |(id, _)| is_done(*id)).map(|(_, fact)| fact.path())
}
