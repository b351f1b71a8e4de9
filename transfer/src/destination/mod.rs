//! One task for each destination: it takes facts, sends what they stand for, and says what is done.
//!
//! Destinations share nothing but the ledger and the source. One that is down, slow or hostile waits by itself; so
//! does a name that keeps failing.

pub(crate) mod account;
mod aside;
mod blame;
mod compare;
pub(crate) mod courier;
mod failure;
#[cfg(test)]
mod fake;
mod findings;
mod guard;
mod judge;
mod known;
mod memory;
pub(crate) mod mirror;
mod pause;
mod progress;
pub(crate) mod refusal;
mod removals;
mod renamed;
mod settling;
mod suspects;
mod witness;
mod work;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ebbtide_feed::{DestinationState, Fact, RelPath};
use roaring::RoaringBitmap;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::ledger::{DestinationId, Ledger, Take, TakeReport};
use crate::plan::Rules;
use crate::plan::moves::Moves;
use crate::plan::names::renames::Origins;
use crate::plan::recent::Recent;
use account::Account;
use aside::Beside;
use courier::Courier;
use failure::Failure;
use guard::{Guard, Guarded};
use known::Known;
use mirror::Mirror;
use pause::Pause;
use progress::Progress;
use refusal::Refusal;
use settling::Settling;
use suspects::{Suspects, is_comparison, sweep};
use work::Work;

/// The most facts of one take. It bounds a session's list and with it the memory.
const LIMIT: u64 = 4096;

/// A file that changed so many times in a row while it was read is one that always changes: barriers do not wait for
/// it any more.
const RESTLESS: u32 = 5;

/// After so many sessions in a row that broke while they followed renames, what was renamed is sent instead.
const BROKEN_RENAMES: u32 = 3;

/// Everything that a destination's task needs.
pub(crate) struct Destination<C> {
    /// Which one it is in the ledger.
    pub(crate) id: DestinationId,
    /// Its mirror.
    pub(crate) mirror: Arc<Mirror>,
    /// The way there.
    pub(crate) courier: C,
    /// The ledger.
    pub(crate) ledger: Ledger,
    /// Its takes.
    pub(crate) takes: mpsc::UnboundedReceiver<Take>,
    /// What was pending at the start, if a sender may have been at work for it before.
    pub(crate) leftovers: Option<RoaringBitmap>,
    /// What was known of its daemon when the ledger was opened.
    pub(crate) known: Option<Vec<u8>>,
    /// What it tells about itself.
    pub(crate) account: Account,
    /// What people ask of it.
    pub(crate) asked: watch::Receiver<Asked>,
}

/// What people ask of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Nothing is sent.
    pub(crate) paused: bool,
    /// How often the removals that were held were let go.
    pub(crate) releases: u64,
}

/// The task's state between takes.
struct Task<C> {
    id: DestinationId,
    mirror: Arc<Mirror>,
    courier: Arc<C>,
    ledger: Ledger,
    takes: mpsc::UnboundedReceiver<Take>,
    account: Account,
    recent: Recent,
    /// Renames that it has not followed yet.
    moves: Moves,
    /// So many sessions in a row broke while they followed renames.
    broken_renames: u32,
    /// The last take was given back, so that what following renames needs is recorded first.
    asked_first: bool,
    known: Known,
    /// What of that is in the store.
    kept: Known,
    /// What goes by itself, beside the takes.
    aside: Beside,
    /// Facts that wait by themselves.
    waiting: HashMap<u32, Waiting>,
    /// Facts whose files are still being written.
    settling: Settling,
    suspects: Suspects,
    /// The most facts of the next take: fewer after sessions that broke, to find what breaks them.
    limit: u64,
    /// Number of facts of the latest take.
    taken: u64,
    /// The last session broke in its middle.
    cautious: bool,
    session_pause: Pause,
    refused_pause: Pause,
    guard: Guard,
    asked: watch::Receiver<Asked>,
    /// The releases that were heard.
    releases: u64,
}

/// A fact that waits by itself.
struct Waiting {
    until: Option<Instant>,
    pause: Pause,
    /// Name and reason; none for one that merely changed while it was read.
    failure: Option<(RelPath, String)>,
}

impl<C: Courier> Destination<C> {
    /// Works until the ledger is gone.
    pub(crate) async fn run(self) {
        let Destination { id, mirror, courier, ledger, takes, leftovers, known, account, asked } = self;
        let known = Known::read(known.as_deref());
        let guard = Guard::new(mirror.spec.max_delete, known.held_under);
        let task = Task {
            id,
            mirror,
            courier: Arc::new(courier),
            ledger,
            takes,
            account,
            recent: Recent::default(),
            moves: Moves::default(),
            broken_renames: 0,
            asked_first: false,
            kept: known.clone(),
            known,
            aside: Beside::default(),
            waiting: HashMap::new(),
            settling: Settling::default(),
            suspects: Suspects::new(leftovers),
            limit: LIMIT,
            taken: 0,
            cautious: false,
            session_pause: Pause::SESSION,
            refused_pause: Pause::REFUSED,
            guard,
            releases: 0,
            asked,
        };
        task.run().await;
    }
}

impl<C: Courier> Task<C> {
    async fn run(mut self) {
        loop {
            if !self.go_on().await {
                return;
            }
            self.ledger.demand(self.id, self.limit);
            let Some(take) = self.next_take().await else { return };
            if !self.go_on().await {
                return;
            }
            let number = take.number;
            let facts = Arc::new(take.facts);
            self.moves.add(&take.moves);
            self.taken = facts.len() as u64;
            self.account.set_state(state(&facts));
            self.suspects.taken(&facts);
            let started = Instant::now().max(self.follows_at());
            let mut progress = Progress::default();
            let end = self.work_unless_paused(&facts, &mut progress).await;
            let explained = progress.explained;
            let is_late = end.as_ref().err().is_some_and(Failure::is_late);
            self.settle_moves(&facts, &progress, is_late);
            self.asked_first = !progress.wanted.is_empty();
            let aside = self.aside.keep(number, &facts, &mut progress);
            let report = self.report(&facts, progress, started, end.as_ref().err());
            let report = TakeReport { aside, ..report };
            self.ledger.finished(self.id, number, report);
            match end {
                Ok(()) => self.succeeded(),
                Err(error) => self.failed(&error, explained).await,
            }
            self.keep_known();
        }
    }

    /// Waits for a take, and meanwhile lets facts go whose pause is over.
    async fn next_take(&mut self) -> Option<Take> {
        loop {
            let waiting = self.waiting.values().filter_map(|waiting| waiting.until);
            let release = waiting.chain(self.settling.waits()).min();
            tokio::select! {
                take = self.takes.recv() => return take,
                ended = self.aside.ended() => self.take_in(ended),
                () = sleep_until(release.unwrap_or_else(Instant::now)), if release.is_some() => self.release(),
                Ok(()) = self.asked.changed() => {
                    self.hear();
                    let paused = self.asked.borrow().paused;
                    self.account.set_state(if paused { DestinationState::Paused } else { DestinationState::Idle });
                    if paused {
                        self.break_off();
                    }
                }
            }
        }
    }

    /// Waits while it is paused. `false` when nobody is left who could resume it.
    async fn go_on(&mut self) -> bool {
        self.hear();
        while self.asked.borrow_and_update().paused {
            self.account.set_state(DestinationState::Paused);
            self.break_off();
            if self.asked.changed().await.is_err() {
                return false;
            }
            self.account.set_state(DestinationState::Idle);
            self.hear();
        }
        true
    }

    /// Lets go what is held, if that was asked for.
    fn hear(&mut self) {
        let releases = self.asked.borrow_and_update().releases;
        if releases != self.releases {
            self.releases = releases;
            let ids = self.guard.release();
            tracing::info!(destination = %self.account.url(), facts = ids.len(), "held removals are let go");
            self.ledger.release(self.id, ids);
            self.account.set_held(self.guard.status());
        }
    }

    fn release(&mut self) {
        let waits = self.waiting.iter_mut().map(|(id, waiting)| (*id, &mut waiting.until));
        let mut over = settling::over(waits);
        over |= self.settling.over();
        self.ledger.release(self.id, over);
        self.account.set_resting(self.resting());
    }

    /// How many facts wait although nothing failed, and until when the first of them does.
    fn resting(&self) -> Option<(u64, std::time::Instant)> {
        let calm = self.waiting.values().filter(|waiting| waiting.failure.is_none());
        let waits = || calm.clone().filter_map(|waiting| waiting.until).chain(self.settling.waits());
        Some((waits().count() as u64, waits().min()?.into_std()))
    }

    /// A pause breaks off what is under way: a comparison of a large tree may take hours.
    async fn work_unless_paused(
        &mut self,
        facts: &Arc<Vec<(u32, Fact)>>,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let (mut asked, known, guard) = (self.asked.clone(), self.known.clone(), self.guard.clone());
        let paused = async {
            // Nobody is left to pause it.
            if asked.wait_for(|asked| asked.paused).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let end = tokio::select! {
            end = self.work(facts, progress) => return end,
            () = paused => Err(Failure::Paused),
        };
        (self.known, self.guard) = (known, guard);
        *progress = Progress::default();
        self.suspects.broke(facts.iter().map(|(id, _)| *id));
        end
    }

    /// No rename is followed before this: an earlier session may still work under one of the names, and what is sent
    /// again for that would bring its data.
    fn follows_at(&self) -> Instant {
        if self.moves.is_empty() { Instant::now() } else { self.suspects.settled_at() }
    }

    async fn work(&mut self, facts: &Arc<Vec<(u32, Fact)>>, progress: &mut Progress) -> Result<(), Failure> {
        let begins = self.follows_at();
        if begins > Instant::now() {
            sleep_until(begins).await;
        }
        let mut work = Work {
            courier: Arc::clone(&self.courier),
            source: self.mirror.source()?,
            root: self.mirror.spec.source.clone(),
            guard: std::mem::take(&mut self.guard),
            ledger: self.ledger.clone(),
            id: self.id,
            mirror: self.mirror.index,
            rules: self.rules(),
            origins: if self.moves.is_empty() { Origins::new() } else { self.moves.origins() },
            // The next take has all that this one has only if that is everything, and the one after may not.
            asks: self.taken < self.limit && !self.asked_first,
            recent: std::mem::take(&mut self.recent),
            known: std::mem::take(&mut self.known),
            account: self.account.clone(),
            cautious: self.cautious,
            settled_at: self.suspects.settled_at(),
            pace: self.settling.pace(self.mirror.spec.pace),
            aside: self.aside.plan(),
            share: self.aside.share(),
        };
        let end = work.run(facts, progress).await;
        (self.recent, self.known, self.guard) = (work.recent, work.known, work.guard);
        end
    }

    /// What the configuration asks for, as far as the daemon does it.
    fn rules(&self) -> Rules {
        let spec = &self.mirror.spec;
        let knows = |what: Refusal| !self.known.refuses(what);
        let missing_args = knows(Refusal::MissingArgs);
        // Without deletion the old name stays, and would stay linked to the new one.
        let follows = spec.follow_renames
            && spec.delete
            && knows(Refusal::Checksum)
            && self.broken_renames < BROKEN_RENAMES;
        Rules {
            delete: spec.delete,
            hard_links: spec.hard_links,
            missing_args,
            pairs: follows && knows(Refusal::HardLinks),
            renamed_dirs: follows && missing_args && knows(Refusal::LinkDest),
        }
    }

    /// Forgets renames of which something is done: by then the destination has followed them, or cannot any more.
    fn settle_moves(&mut self, facts: &[(u32, Fact)], progress: &Progress, is_late: bool) {
        if !is_late {
            self.broken_renames = 0;
        } else if progress.renaming {
            self.broken_renames += 1;
        }
        if self.moves.is_empty() {
            return;
        }
        let is_done = |id: u32| progress.done.contains(id) || progress.replaced.contains_key(&id);
        let whole = |(id, fact): &(u32, Fact)| is_done(*id) && is_whole(fact);
        if facts.iter().any(whole) {
            self.moves = Moves::default();
            return;
        }
        let names: HashSet<&RelPath> = renamed::names_of(facts, is_done)
            .chain(&progress.followed)
            .filter(|name| !name.is_root())
            .collect();
        self.moves.settle(&names);
    }

    /// What the ledger is told, and who waits by itself from now on.
    fn report(
        &mut self,
        facts: &[(u32, Fact)],
        progress: Progress,
        started: Instant,
        error: Option<&Failure>,
    ) -> TakeReport {
        let Progress { mut done, delivered, mut failed, mut replaced, guarded, unsettled, sent, .. } =
            progress;
        let mut held = progress.behind;
        let mut added = self.confirm(facts, &mut done, &mut held, &mut replaced, started);
        added.extend(progress.wanted);
        if error.is_some_and(Failure::is_late) {
            let aside = self.aside.ids();
            let is_open = |id: u32| !done.contains(id) && !replaced.contains_key(&id) && !aside.contains(id);
            self.suspects.broke(facts.iter().map(|(id, _)| *id).filter(|id| is_open(*id)));
        }
        if let (Some(error), [(id, fact)]) = (error, facts)
            && error.is_late()
        {
            // Alone in its session: this is what breaks it.
            failed.entry(*id).or_insert_with(|| (fact.path().clone(), error.to_string()));
        }
        let replaced: Vec<(u32, Vec<Fact>)> = replaced.into_iter().collect();
        for id in done.iter().chain(replaced.iter().map(|(id, _)| *id)) {
            self.waiting.remove(&id);
            self.settling.done(id);
        }
        let pace = self.mirror.spec.pace;
        for (id, hold) in unsettled {
            self.settling.wait(id, hold, pace);
            held.insert(id);
        }
        self.settling.sent(sent, pace.rest);
        let mut settled = RoaringBitmap::new();
        let rest = started.elapsed().saturating_mul(pace.rest);
        for id in &delivered {
            if self.hold(id, Pause::CHANGED, rest, None) >= RESTLESS {
                settled.insert(id);
            }
            held.insert(id);
        }
        for (id, failure) in failed {
            self.hold(id, Pause::NAME, Duration::ZERO, Some(failure));
            held.insert(id);
        }
        for id in guarded.keys() {
            self.waiting.remove(id);
            held.insert(*id);
        }
        let mut over = done.clone();
        over.extend(replaced.iter().map(|(id, _)| *id));
        self.heed(guarded, &over, facts.len() as u64);
        self.account.acknowledged(done.len() + replaced.len() as u64);
        self.account.set_failing(self.failing());
        self.account.set_resting(self.resting());
        let unsure = !self.suspects.are_over();
        TakeReport { done, delivered: settled, held, replaced, added, unsure, ..TakeReport::default() }
    }

    /// Suspect facts are not done yet if an earlier session may still have run beside this one; and in any case the
    /// directories of their names are compared, so that no leftovers stay.
    fn confirm(
        &mut self,
        facts: &[(u32, Fact)],
        done: &mut RoaringBitmap,
        held: &mut RoaringBitmap,
        replaced: &mut BTreeMap<u32, Vec<Fact>>,
        started: Instant,
    ) -> Vec<(u32, Vec<Fact>)> {
        let mut added = Vec::new();
        let suspects = self.suspects.clear(done);
        let settled_at = self.suspects.settled_at();
        if !suspects.is_empty() {
            self.recent.clear();
        }
        for (id, fact) in facts.iter().filter(|(id, fact)| suspects.contains(*id) && !is_comparison(fact)) {
            let sweep: Vec<Fact> = sweep(fact).filter(|_| self.mirror.spec.delete).into_iter().collect();
            if started < settled_at {
                done.remove(*id);
                held.insert(*id);
                let waiting = Waiting { until: Some(settled_at), pause: Pause::NAME, failure: None };
                self.waiting.insert(*id, waiting);
                added.push((*id, sweep));
            } else if !sweep.is_empty() {
                done.remove(*id);
                replaced.insert(*id, sweep);
            }
        }
        added
    }

    /// Lets a fact wait by itself, and tells how often it did so in a row.
    fn hold(&mut self, id: u32, first: Pause, least: Duration, failure: Option<(RelPath, String)>) -> u32 {
        let known = self.waiting.get(&id).is_some_and(|waiting| waiting.failure.is_some());
        if let Some((path, why)) = failure.as_ref().filter(|_| !known) {
            tracing::warn!(destination = %self.account.url(), name = %path, %why, "a name waits by itself");
        }
        let waiting = self.waiting.entry(id).or_insert(Waiting { until: None, pause: first, failure: None });
        if waiting.failure.is_some() != failure.is_some() {
            waiting.pause = first;
        }
        waiting.failure = failure;
        waiting.until = Some(Instant::now() + waiting.pause.next().max(least));
        waiting.pause.count()
    }

    /// Takes in what is held, and says so.
    fn heed(&mut self, guarded: Guarded, over: &RoaringBitmap, taken: u64) {
        let is_all = taken < self.limit && !self.aside.is_busy();
        if self.guard.settle(guarded, over, is_all) {
            let held = self.guard.status();
            let (removals, reason) = held.map(|held| (held.removals, held.reason)).unwrap_or_default();
            let destination = self.account.url();
            tracing::warn!(%destination, removals, reason, "removals are held: `ebbtide release` lets them go");
        }
        self.known.held_under = self.guard.held_under();
        self.account.set_held(self.guard.status());
    }

    fn failing(&self) -> BTreeMap<String, String> {
        let failures = self.waiting.values().filter_map(|waiting| waiting.failure.as_ref());
        failures.map(|(path, why)| (path.to_string(), why.clone())).collect()
    }

    fn succeeded(&mut self) {
        self.session_pause = Pause::SESSION;
        self.refused_pause = Pause::REFUSED;
        self.limit = self.limit.saturating_mul(4).min(LIMIT);
        self.cautious = false;
        self.account.set_state(DestinationState::Idle);
    }

    fn keep_known(&mut self) {
        if self.known != self.kept {
            self.kept = self.known.clone();
            self.ledger.remember(self.id, self.known.to_bytes());
        }
    }

    /// `explained` tells that the name which broke the session is known.
    async fn failed(&mut self, error: &Failure, explained: bool) {
        if matches!(error, Failure::Paused) {
            return;
        }
        let refusal = error.refusal();
        if error.is_early() && refusal.is_none() && self.aside.is_busy() {
            return self.wait_for_room(error).await;
        }
        if error.is_late() {
            self.cautious = true;
            if !explained {
                self.limit = (self.limit.min(self.taken) / 4).max(1);
            }
        }
        let pause = match refusal {
            Some(refusal) if self.known.learn(refusal) => Duration::ZERO,
            // Its words may have been lost with a connection that did not wait for them.
            _ if error.is_early() && self.known.doubt() => Duration::ZERO,
            Some(_) => self.refused_pause.next(),
            // That name waits by itself, so the others need not.
            None if explained => Pause::SESSION.first(),
            None => self.session_pause.next(),
        };
        let text =
            refusal.map_or_else(|| error.to_string(), |refusal| format!("{error}; {}", refusal.hint()));
        if self.account.failure(text.clone(), pause) {
            tracing::warn!(error = %text, pause_ms = pause.as_millis(), "a destination waits");
        } else {
            tracing::debug!(error = %text, pause_ms = pause.as_millis(), "a destination still waits");
        }
        // What a person asks for may be what it waits for.
        let mut asked = self.asked.clone();
        asked.mark_unchanged();
        tokio::select! {
            () = sleep(pause) => {}
            Ok(()) = asked.changed() => {}
        }
    }
}

fn is_whole(fact: &Fact) -> bool {
    matches!(fact, Fact::Subtree { dir, .. } | Fact::Contents { dir } if dir.is_root())
}

fn state(facts: &[(u32, Fact)]) -> DestinationState {
    if facts.iter().any(|(_, fact)| is_whole(fact)) {
        DestinationState::Syncing
    } else {
        DestinationState::Sending
    }
}

#[cfg(test)]
mod tests;
