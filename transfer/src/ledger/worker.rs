//! The thread that owns the store.
//!
//! Everything that touches the disk happens here. A batch is committed, then called durable and handed to destinations
//! that wait for work: what a destination was sent is known after any end, also if the source lost it with the power.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ebbtide_feed::{Fact, RelPath};
use roaring::RoaringBitmap;
use tokio::sync::{mpsc, oneshot};

use super::engine::{DestinationId, Effect, Engine, Event, TakeNumber, TakeResult};
use super::key;
use super::lately::Lately;
use super::links::Links;
use super::moves;
use super::open::{self, Opened, flag};
use super::store::StoreError;
use super::{Notice, Take, TakeReport};
use crate::plan::moves::{MovedTogether, Waiting};

/// How long acknowledgements may wait for a commit of their own: losing them costs sending something twice.
const LAZY: Duration = Duration::from_millis(250);

/// So many facts or links are committed even though their batch goes on: it bounds the memory of a transaction.
const BULK: u64 = 100_000;

/// Commands taken in before looking whether a commit is due.
const BURST: usize = 256;

/// What the thread is asked to do.
pub(crate) enum Command {
    Record { mirror: usize, facts: Vec<Fact>, seq: u64, last: bool },
    Finished { to: DestinationId, take: TakeNumber, report: TakeReport },
    Engine(Event),
    LinksNoted,
    Remember { of: DestinationId, known: Vec<u8> },
    CountFacts { answer: oneshot::Sender<u64> },
    Close,
}

/// The thread's state.
pub(crate) struct Worker {
    opened: Opened,
    engine: Engine,
    /// The destinations of each mirror.
    by_mirror: Vec<Vec<DestinationId>>,
    /// The id of "compare everything" of each mirror, where it has one.
    whole: Vec<Option<u32>>,
    links: Arc<Links>,
    takes: Vec<mpsc::UnboundedSender<Take>>,
    notices: mpsc::UnboundedSender<Notice>,
    /// Renames that the next take of each destination tells of.
    moves: Vec<Waiting>,
    /// Number of pending facts of each destination, for the status.
    pending: Arc<[AtomicU64]>,
    /// The batch that is durable after the next commit.
    durable: Option<u64>,
    /// Facts recorded since the last commit.
    recorded: RoaringBitmap,
    /// Takes with such facts; they are handed out after it.
    held_back: Vec<(DestinationId, Take)>,
    /// Since when something waits for a commit.
    dirty: Option<Instant>,
    /// What was acknowledged a moment ago.
    lately: Lately,
    /// Whether a session that broke may still be running at the daemon of each destination, or have left something there.
    unsure: Vec<bool>,
}

/// Facts with their ids, and the ids alone.
type Interned<'a> = Result<(Vec<(u32, &'a Fact)>, RoaringBitmap), StoreError>;

impl Worker {
    /// Starts from an opened store. `takes` has one channel for each destination.
    pub(crate) fn new(
        mut opened: Opened,
        takes: Vec<mpsc::UnboundedSender<Take>>,
        notices: mpsc::UnboundedSender<Notice>,
        pending: Arc<[AtomicU64]>,
        links: Arc<Links>,
    ) -> Result<Self, StoreError> {
        let mut by_mirror = vec![Vec::new(); opened.mirrors.len()];
        for (at, row) in opened.destinations.iter().enumerate() {
            // The cast is lossless: destinations are counted in thousands.
            by_mirror[row.mirror].push(DestinationId(at as u32));
        }
        let engine = Engine::new(std::mem::take(&mut opened.pending));
        let lately = Lately::new(std::mem::take(&mut opened.lately), Instant::now());
        let mut whole = Vec::new();
        for (at, destinations) in by_mirror.iter().enumerate() {
            whole.push(find_whole(&opened, &engine, at, destinations)?);
        }
        let moves = moves_left(&mut opened, &engine, &by_mirror)?;
        let unsure = opened.served.clone();
        let worker = Worker {
            opened,
            engine,
            by_mirror,
            whole,
            links,
            takes,
            notices,
            moves,
            pending,
            durable: None,
            recorded: RoaringBitmap::new(),
            held_back: Vec::new(),
            dirty: None,
            lately,
            unsure,
        };
        (0..worker.pending.len()).for_each(|at| worker.publish(DestinationId(at as u32)));
        Ok(worker)
    }

    /// Works until the handle closes or is dropped, or the store fails; then says why.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        // A page that makes no sense can make the store's code panic.
        let end = catch_unwind(AssertUnwindSafe(|| self.work(commands).and_then(|()| self.flush())));
        let end =
            end.unwrap_or_else(|_| Err(StoreError::Damaged("using it made the store's code give up".into())));
        let notice = match end {
            Ok(()) => Notice::Closed,
            Err(error) => {
                if let StoreError::Damaged(why) = &error {
                    self.set_aside(why);
                }
                Notice::Failed(error)
            }
        };
        // Nobody listens when the process is about to end anyway.
        let _ = self.notices.send(notice);
    }

    /// The next sender starts with a new store.
    fn set_aside(&self, why: &str) {
        if let Err(error) = open::set_aside(&self.opened.path, why) {
            tracing::error!(%error, "the damaged ledger cannot be set aside");
        }
    }

    fn work(&mut self, commands: &Receiver<Command>) -> Result<(), StoreError> {
        loop {
            let command = match commands.recv_timeout(self.patience()) {
                Ok(command) => command,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    self.flush()?;
                    continue;
                }
            };
            for command in std::iter::once(command).chain(commands.try_iter().take(BURST)) {
                if matches!(command, Command::Close) {
                    return self.note_ends();
                }
                self.apply(command)?;
            }
            if let Some(why) = self.links.damage() {
                return Err(StoreError::Damaged(why));
            }
            if self.is_commit_due() {
                self.flush()?;
            }
        }
    }

    fn patience(&self) -> Duration {
        let idle = self.lately.patience(Instant::now()).unwrap_or(Duration::from_secs(3600));
        self.dirty.map_or(idle, |since| LAZY.saturating_sub(since.elapsed()))
    }

    fn is_commit_due(&self) -> bool {
        self.durable.is_some()
            || !self.held_back.is_empty()
            || self.recorded.len() + self.links.uncommitted() as u64 >= BULK
            || self.dirty.is_some_and(|since| since.elapsed() >= LAZY)
    }

    fn apply(&mut self, command: Command) -> Result<(), StoreError> {
        match command {
            Command::Record { mirror, facts, seq, last } => {
                self.keep_moves(mirror, &facts, seq)?;
                self.record(mirror, &facts)?;
                self.durable = if last { Some(seq) } else { self.durable };
            }
            Command::Finished { to, take, report } => self.finished(to, take, report)?,
            Command::Engine(event) => self.happen(event, &[])?,
            Command::LinksNoted => {
                self.dirty.get_or_insert_with(Instant::now);
            }
            Command::Remember { of, known } => {
                let number = self.opened.destinations[of.0 as usize].number;
                self.opened.store.keep_dialect(number, &known)?;
                self.dirty.get_or_insert_with(Instant::now);
            }
            Command::CountFacts { answer } => {
                // The asker may be gone.
                let _ = answer.send(self.engine.held_facts());
            }
            Command::Close => {}
        }
        Ok(())
    }

    fn keep_moves(&mut self, mirror: usize, facts: &[Fact], seq: u64) -> Result<(), StoreError> {
        let Opened { store, mirrors, moves_kept, .. } = &mut self.opened;
        if let Some(moved) = MovedTogether::among(facts, moves_kept.batch(seq)) {
            let (number, is_full) = moves_kept.row(mirror, &moved);
            if is_full {
                store.forget_moves(mirrors[mirror])?;
            }
            store.keep_moves(mirrors[mirror], number, &moved)?;
            for &to in &self.by_mirror[mirror] {
                self.moves[to.0 as usize].add(&moved);
            }
        }
        Ok(())
    }

    /// Where nobody has anything pending, every rename was followed.
    fn forget_moves(&mut self) -> Result<(), StoreError> {
        for (at, destinations) in self.by_mirror.iter().enumerate() {
            let is_idle = destinations.iter().all(|&to| self.engine.pending(to).is_empty());
            if is_idle && self.opened.moves_kept.forget(at) {
                self.opened.store.forget_moves(self.opened.mirrors[at])?;
            }
        }
        Ok(())
    }

    fn record(&mut self, mirror: usize, facts: &[Fact]) -> Result<(), StoreError> {
        let destinations = self.by_mirror[mirror].clone();
        let wanted = |fact: &&Fact| destinations.iter().any(|&to| !self.is_covered(mirror, to, fact));
        let wanted: Vec<&Fact> = facts.iter().filter(wanted).collect();
        let (interned, _) = self.intern(mirror, wanted)?;
        for to in destinations {
            let ids = interned.iter().filter(|(_, fact)| !self.is_covered(mirror, to, fact));
            let ids = ids.map(|(id, _)| *id).collect();
            self.happen(Event::Recorded { to, ids }, &interned)?;
        }
        facts.iter().filter_map(made).try_for_each(|(dir, above)| self.compare_made(mirror, dir, above))
    }

    /// A directory that was made is compared where the one above it still is to be: see [`Fact::Made`].
    fn compare_made(&mut self, mirror: usize, dir: &RelPath, above: RelPath) -> Result<(), StoreError> {
        let number = self.opened.mirrors[mirror];
        let Some(id) = self.opened.store.id_of(number, &Fact::Relist { dir: above })? else { return Ok(()) };
        let all = self.by_mirror[mirror].iter().copied();
        let unsure: Vec<_> = all.filter(|to| self.engine.pending(*to).contains(id)).collect();
        if unsure.is_empty() {
            return Ok(());
        }
        let relist = Fact::Relist { dir: dir.clone() };
        let (interned, ids) = self.intern(mirror, [&relist])?;
        for to in unsure {
            self.happen(Event::Recorded { to, ids: ids.clone() }, &interned)?;
        }
        Ok(())
    }

    /// Gives facts their ids, which are on disk after the next commit.
    fn intern<'a>(&mut self, mirror: usize, facts: impl IntoIterator<Item = &'a Fact>) -> Interned<'a> {
        let interned = self.opened.store.intern(self.opened.mirrors[mirror], facts)?;
        self.remember_whole(mirror, &interned);
        let ids: RoaringBitmap = interned.iter().map(|(id, _)| *id).collect();
        self.recorded |= &ids;
        Ok((interned, ids))
    }

    /// Whether a comparison of everything that has not begun yet makes this fact needless. Changed data is never
    /// covered: that comparison trusts size and mtime.
    fn is_covered(&self, mirror: usize, to: DestinationId, fact: &Fact) -> bool {
        let trusting =
            !matches!(fact, Fact::Touched { data: true, .. } | Fact::Subtree { .. } | Fact::Contents { .. });
        trusting && self.whole[mirror].is_some_and(|id| self.engine.is_waiting(to, id))
    }

    fn remember_whole(&mut self, mirror: usize, interned: &[(u32, &Fact)]) {
        if let Some((id, _)) = interned.iter().find(|(_, fact)| **fact == key::whole()) {
            self.whole[mirror] = Some(*id);
        }
    }

    fn finished(
        &mut self,
        to: DestinationId,
        take: TakeNumber,
        report: TakeReport,
    ) -> Result<(), StoreError> {
        let mirror = self.opened.destinations[to.0 as usize].mirror;
        let mut successors = Vec::new();
        for (id, facts) in report.replaced.iter().chain(&report.added) {
            let (interned, ids) = self.intern(mirror, facts)?;
            self.happen(Event::Recorded { to, ids: ids.clone() }, &interned)?;
            successors.push((*id, ids));
        }
        let TakeReport { mut done, delivered, held, aside, replaced, added: _, unsure } = report;
        self.unsure[to.0 as usize] = unsure;
        done.extend(replaced.iter().map(|(id, _)| *id));
        self.note_first_sync(to, &done)?;
        let result = TakeResult { done, delivered, held, aside, successors };
        self.happen(Event::Finished { to, take, result }, &[])
    }

    fn note_first_sync(&mut self, to: DestinationId, done: &RoaringBitmap) -> Result<(), StoreError> {
        let row = &mut self.opened.destinations[to.0 as usize];
        let whole = self.whole[row.mirror].is_some_and(|id| done.contains(id));
        if whole && row.flags & flag::FIRST_SYNC_DONE == 0 {
            row.flags |= flag::FIRST_SYNC_DONE;
            self.opened.store.set_flags(&row.key, row.number, row.flags)?;
        }
        Ok(())
    }

    /// The next sender need not wait for sessions that surely are over.
    fn note_ends(&mut self) -> Result<(), StoreError> {
        for (at, (row, unsure)) in (0..).zip(self.opened.destinations.iter().zip(&self.unsure)) {
            if !unsure && !self.engine.is_at_work(DestinationId(at)) {
                self.opened.store.set_flags(&row.key, row.number, row.flags | flag::ENDED)?;
            }
        }
        Ok(())
    }

    /// Lets the engine decide and does what it says. `fresh` are facts whose names are still at hand.
    fn happen(&mut self, event: Event, fresh: &[(u32, &Fact)]) -> Result<(), StoreError> {
        let to = match &event {
            Event::Recorded { to, .. } | Event::Finished { to, .. } => Some(*to),
            _ => None,
        };
        for effect in self.engine.apply(event) {
            match effect {
                Effect::Take { to, number, ids } => {
                    let facts = self.names(&ids, fresh)?;
                    tracing::trace!(?number, ?facts, "take");
                    let take = Take { number, facts, moves: self.moves[to.0 as usize].take() };
                    if ids.is_disjoint(&self.recorded) {
                        self.hand_out(to, take);
                    } else {
                        self.held_back.push((to, take));
                    }
                }
                Effect::Settled { token } => drop(self.notices.send(Notice::Settled { token })),
            }
        }
        if let Some(to) = to {
            self.publish(to);
            self.dirty.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn names(&self, ids: &RoaringBitmap, fresh: &[(u32, &Fact)]) -> Result<Vec<(u32, Fact)>, StoreError> {
        let mut facts: Vec<(u32, Fact)> = Vec::new();
        let mut unknown = ids.clone();
        for (id, fact) in fresh {
            if unknown.remove(*id) {
                facts.push((*id, (*fact).clone()));
            }
        }
        facts.extend(self.opened.store.facts(&unknown)?);
        Ok(facts)
    }

    fn hand_out(&self, to: DestinationId, take: Take) {
        // A destination that is gone is a process that ends.
        let _ = self.takes[to.0 as usize].send(take);
    }

    fn publish(&self, of: DestinationId) {
        let pending = self.engine.pending(of).len();
        self.pending[of.0 as usize].store(pending, Ordering::Relaxed);
    }

    /// Commits everything and tells what is durable now.
    fn flush(&mut self) -> Result<(), StoreError> {
        let changes = self.engine.changes();
        for (to, high) in changes.chunks {
            let number = self.opened.destinations[to.0 as usize].number;
            self.opened.store.write_chunk(number, high, self.engine.pending(to))?;
        }
        let noted = self.links.noted();
        self.opened.store.write_links(&noted)?;
        self.forget(changes.orphans)?;
        self.forget_moves()?;
        self.opened.store.commit()?;
        self.links.committed(&noted);
        self.recorded.clear();
        self.dirty = None;
        for (to, take) in std::mem::take(&mut self.held_back) {
            self.hand_out(to, take);
        }
        if let Some(seq) = self.durable.take() {
            let _ = self.notices.send(Notice::Durable { seq });
        }
        Ok(())
    }
}

impl Worker {
    /// Facts that nobody holds any more are forgotten later. If they are too many for that, comparing everything takes their
    /// place.
    fn forget(&mut self, orphans: RoaringBitmap) -> Result<(), StoreError> {
        let now = Instant::now();
        self.lately.keep(orphans, now);
        let mut over = self.lately.over(now);
        if let Some(many) = self.lately.too_many() {
            over |= many;
            let mut instead = RoaringBitmap::new();
            for mirror in self.opened.mirrors.clone() {
                let whole = key::whole();
                instead.extend(self.opened.store.intern(mirror, [&whole])?.iter().map(|(id, _)| *id));
            }
            over -= &instead;
            self.lately.keep(instead, now);
        }
        // Some may have been recorded again.
        for (at, _) in (0..).zip(&self.opened.destinations) {
            over -= self.engine.pending(DestinationId(at));
        }
        self.opened.store.forget(&over)?;
        for whole in &mut self.whole {
            *whole = whole.filter(|id| !over.contains(*id));
        }
        Ok(())
    }
}

/// A directory that was made, and the one above it.
fn made(fact: &Fact) -> Option<(&RelPath, RelPath)> {
    let Fact::Made { dir } = fact else { return None };
    Some((dir, dir.parent()?))
}

/// The renames that an earlier sender kept and that a destination may not have followed, for each destination.
fn moves_left(
    opened: &mut Opened,
    engine: &Engine,
    by_mirror: &[Vec<DestinationId>],
) -> Result<Vec<Waiting>, StoreError> {
    let mut left: Vec<Waiting> = opened.destinations.iter().map(|_| Waiting::default()).collect();
    for (mirror, rows) in std::mem::take(&mut opened.moves).into_iter().enumerate() {
        for moved in rows {
            let told = moved.names.iter().map(|(from, _)| told_of(opened, mirror, from));
            let told = told.collect::<Result<Vec<_>, _>>()?;
            for &to in &by_mirror[mirror] {
                let is_open = |told: &RoaringBitmap| !told.is_disjoint(engine.pending(to));
                let names = moved.names.iter().zip(&told).filter(|(_, told)| is_open(told));
                let names: Vec<_> = names.map(|(names, _)| names.clone()).collect();
                if !names.is_empty() {
                    left[to.0 as usize].add(&Arc::new(MovedTogether { seq: moved.seq, names }));
                }
            }
        }
    }
    Ok(left)
}

/// The facts on record that are told of a name that something was renamed from.
fn told_of(opened: &Opened, mirror: usize, from: &RelPath) -> Result<RoaringBitmap, StoreError> {
    let mut told = RoaringBitmap::new();
    for fact in moves::told_of(from) {
        told.extend(opened.store.id_of(opened.mirrors[mirror], &fact)?);
    }
    Ok(told)
}

/// The id of "compare everything" of a mirror, if some destination waits for it.
fn find_whole(
    opened: &Opened,
    engine: &Engine,
    mirror: usize,
    destinations: &[DestinationId],
) -> Result<Option<u32>, StoreError> {
    let id = opened.store.id_of(opened.mirrors[mirror], &key::whole())?;
    Ok(id.filter(|id| destinations.iter().any(|&to| engine.pending(to).contains(*id))))
}

#[cfg(test)]
mod tests;
