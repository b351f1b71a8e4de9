//! What the tracker knows and what it does next, without doing it.
//!
//! ```text
//!            hint                settle over             drained                durable
//!   Quiet ─────────► Settling ──────────────► Draining ───────────► InFlight ───────────► Quiet
//!     └── a barrier or a taint ──────────────────▲         └── nothing to tell ──────────────▲
//! ```
//!
//! [`Engine::apply`] takes what happened and gives what to do. It takes no clock, no file and no lock, so every race
//! can be written down as a test that calls it in the bad order. The rule that all of it serves: nothing of a batch is
//! forgotten before the sender called it durable.

mod fold;
mod moves;
mod taint;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ebbtide_feed::{Batch, Fact, MirrorId, RelPath, ToSender};

use crate::fact::Facts;
pub use fold::{DirHints, Fold, Hint, Marked, Move, NameHint, Seen};
pub use moves::Moves;
pub use taint::{Coverage, Reason, Remedy, Tainted};

/// Who waits for a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Waiter(pub u64);

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// There is something new to look at.
    Noted,
    /// The settle window is over.
    SettleOver,
    /// The drain that [`Effect::Drain`] asked for is done: the facts by mirror.
    Drained(Vec<Facts>),
    /// Marks or events of this mirror were lost, or nothing is known of it yet.
    Lost(MirrorId, Tainted),
    /// A scan found these; with `true` it found no more. The next ones come after [`Effect::ScanOn`].
    Found(MirrorId, Vec<Fact>, bool),
    /// Somebody wants these facts told.
    Told(MirrorId, Vec<Fact>),
    /// The source directory of this mirror is not the one it was.
    RootLost(MirrorId, Tainted),
    /// The source directory is back.
    RootBack(MirrorId, Tainted),
    /// A sender is connected and ready for batches.
    SenderReady,
    /// The sender is gone.
    SenderGone,
    /// The sender holds this batch durably.
    Durable(u64),
    /// A barrier is asked for.
    Wait(Waiter),
    /// Nobody waits for this barrier any more.
    WaitOver(Waiter),
    /// The sender reached the barrier.
    Settled(u64),
}

/// Something to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Wait for the settle window, then tell [`Event::SettleOver`].
    Settle,
    /// Read and resolve everything that is known by now, then tell [`Event::Drained`].
    Drain,
    /// Send this.
    Send(ToSender),
    /// What the last drain was about is durable: zero its bits.
    Forget,
    /// Look through the source of this mirror for what changed since coverage was complete, then tell
    /// [`Event::Found`].
    Scan(MirrorId),
    /// What a scan found so far is durable: it may find more.
    ScanOn(MirrorId),
    /// Tell the waiter that its barrier is reached.
    Reached(Waiter),
}

/// The state; see the module's picture.
#[derive(Debug)]
pub struct Engine {
    phase: Phase,
    sender: bool,
    /// The number of the next batch.
    next_seq: u64,
    /// Something was noted since the last drain began.
    noted: bool,
    coverage: Vec<Coverage>,
    /// Facts that come of no drain and go with the next one, by mirror.
    told: Vec<Vec<Fact>>,
    /// Mirrors whose scan waits for its last facts to be durable.
    held_scans: BTreeSet<MirrorId>,
    waiting: BTreeSet<Waiter>,
    barriers: BTreeMap<u64, Waiter>,
    /// Barriers whose drain is under way.
    draining_for: BTreeSet<Waiter>,
    next_token: u64,
}

#[derive(Debug)]
enum Phase {
    Quiet,
    Settling,
    Draining,
    InFlight(InFlight),
}

/// A batch that the sender has not called durable yet.
#[derive(Debug)]
struct InFlight {
    seq: u64,
    facts: Vec<(MirrorId, Vec<Fact>)>,
}

impl Engine {
    /// An engine whose mirrors are tainted from the start; without a taint what was before is nobody's concern.
    pub fn new(mirrors: usize, tainted: Option<&Tainted>) -> Self {
        let coverage = (0..mirrors).map(|_| Coverage::new(tainted.cloned())).collect();
        Engine {
            phase: Phase::Quiet,
            sender: false,
            next_seq: 1,
            noted: false,
            coverage,
            told: vec![Vec::new(); mirrors],
            held_scans: BTreeSet::new(),
            waiting: BTreeSet::new(),
            barriers: BTreeMap::new(),
            draining_for: BTreeSet::new(),
            next_token: 1,
        }
    }

    /// What is known of a mirror's coverage.
    pub fn coverage(&self, mirror: MirrorId) -> &Coverage {
        &self.coverage[mirror as usize]
    }

    /// Number of the last batch handed over, and whether it is durable; 0 before the first.
    pub fn last_batch(&self) -> (u64, bool) {
        (self.next_seq - 1, !matches!(self.phase, Phase::InFlight(_)))
    }

    /// Facts that are handed over and not durable yet.
    pub fn in_flight(&self) -> u64 {
        match &self.phase {
            Phase::InFlight(batch) => batch.facts.iter().map(|(_, facts)| facts.len() as u64).sum(),
            _ => 0,
        }
    }

    /// What a state looks like from outside: one word.
    pub fn phase(&self) -> &'static str {
        match self.phase {
            Phase::Quiet => "quiet",
            Phase::Settling => "settling",
            Phase::Draining => "draining",
            Phase::InFlight(_) => "in flight",
        }
    }

    /// Takes what happened, gives what to do, in this order.
    pub fn apply(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Noted => self.noted = true,
            Event::SettleOver => return self.settle_over(),
            Event::Drained(facts) => return self.drained(facts),
            Event::Lost(mirror, why) => self.coverage[mirror as usize].lose(why),
            Event::Found(mirror, facts, last) => self.found(mirror, facts, last),
            Event::Told(mirror, facts) => self.told[mirror as usize].extend(facts),
            Event::RootLost(mirror, why) => self.coverage[mirror as usize].lose_root(why),
            Event::RootBack(mirror, why) => self.coverage[mirror as usize].find_root(why),
            Event::SenderReady => return self.sender_ready(),
            Event::SenderGone => self.sender = false,
            Event::Durable(seq) => return self.durable(seq),
            Event::Wait(waiter) => {
                self.waiting.insert(waiter);
            }
            Event::WaitOver(waiter) => return self.wait_over(waiter),
            Event::Settled(token) => {
                return self.barriers.remove(&token).map(Effect::Reached).into_iter().collect();
            }
        }
        self.go_on()
    }

    fn found(&mut self, mirror: MirrorId, facts: Vec<Fact>, last: bool) {
        self.told[mirror as usize].extend(facts);
        if last {
            self.coverage[mirror as usize].scan_ends();
        } else {
            self.held_scans.insert(mirror);
        }
    }

    /// What to do when nothing is under way.
    fn go_on(&mut self) -> Vec<Effect> {
        let mut effects = self.begin_scans();
        match self.phase {
            Phase::Quiet | Phase::Settling if self.sender && self.wants_a_drain() => {
                effects.extend(self.begin_drain());
            }
            Phase::Quiet if self.noted => {
                self.phase = Phase::Settling;
                effects.push(Effect::Settle);
            }
            _ => {}
        }
        effects
    }

    /// Whether there is reason not to wait for the settle window.
    fn wants_a_drain(&self) -> bool {
        let found = self.coverage.iter().any(|coverage| coverage.wants_a_subtree() || coverage.is_scanned());
        found || self.told.iter().any(|facts| !facts.is_empty()) || self.takes_waiters()
    }

    /// While something is still searched for, nobody can say that everything is handed over.
    fn takes_waiters(&self) -> bool {
        !self.waiting.is_empty() && !self.coverage.iter().any(Coverage::is_searching)
    }

    /// Without a sender a scan would only wait.
    fn begin_scans(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (mirror, coverage) in (0..).zip(&mut self.coverage) {
            if self.sender && coverage.wants_a_scan() {
                coverage.scan_begins();
                effects.push(Effect::Scan(mirror));
            }
        }
        effects
    }

    /// While the sender is away nothing is drained: the bits and the folded hints wait.
    fn settle_over(&mut self) -> Vec<Effect> {
        match self.phase {
            Phase::Settling if self.sender => self.begin_drain(),
            _ => Vec::new(),
        }
    }

    fn begin_drain(&mut self) -> Vec<Effect> {
        self.phase = Phase::Draining;
        self.noted = false;
        if self.takes_waiters() {
            self.draining_for.append(&mut self.waiting);
        }
        vec![Effect::Drain]
    }

    fn drained(&mut self, mut facts: Vec<Facts>) -> Vec<Effect> {
        for (coverage, facts) in self.coverage.iter_mut().zip(&mut facts) {
            if coverage.tainted().is_some() {
                facts.compare_made();
            }
            if coverage.hand_over() {
                facts.add(Fact::Subtree { dir: RelPath::root(), replaced: false });
            }
        }
        for ((told, coverage), facts) in self.told.iter_mut().zip(&self.coverage).zip(&mut facts) {
            // Without its root nothing is true of a mirror; when that is back, all of it is found out anew.
            let told = std::mem::take(told);
            told.into_iter().filter(|_| !coverage.root_lost()).for_each(|fact| facts.add(fact));
        }
        let facts: Vec<_> = (0..).zip(facts).filter(|(_, facts)| !facts.is_empty()).collect();
        let mut effects = Vec::new();
        if facts.is_empty() {
            self.phase = Phase::Quiet;
            effects.extend(self.settle_coverage());
        } else {
            let facts = facts.into_iter().map(|(mirror, facts)| (mirror, facts.into_vec())).collect();
            self.phase = Phase::InFlight(InFlight { seq: self.next_seq, facts });
            self.next_seq += 1;
            effects.extend(self.send_batch());
        }
        effects.extend(self.open_barriers());
        effects.extend(self.go_on());
        effects
    }

    /// Everything that changed before the waiters came is now either durable or in the batch that was just sent; unless
    /// something was lost meanwhile, and is still to be found.
    fn open_barriers(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.coverage.iter().any(Coverage::is_searching) {
            self.waiting.append(&mut self.draining_for);
        }
        for waiter in std::mem::take(&mut self.draining_for) {
            let token = self.next_token;
            self.next_token += 1;
            self.barriers.insert(token, waiter);
            effects.extend(self.send(ToSender::Barrier { token }));
        }
        effects
    }

    fn send_batch(&self) -> Vec<Effect> {
        match &self.phase {
            Phase::InFlight(batch) if self.sender => batch.parts().map(Effect::Send).collect(),
            _ => Vec::new(),
        }
    }

    fn send(&self, message: ToSender) -> Option<Effect> {
        self.sender.then_some(Effect::Send(message))
    }

    /// A new sender gets again what the one before had not called durable, and the open barriers after it.
    fn sender_ready(&mut self) -> Vec<Effect> {
        self.sender = true;
        let mut effects = self.send_batch();
        let barriers = self.barriers.keys().map(|&token| Effect::Send(ToSender::Barrier { token }));
        effects.extend(barriers);
        if matches!(self.phase, Phase::Settling) {
            effects.extend(self.begin_drain());
        }
        effects.extend(self.go_on());
        effects
    }

    fn durable(&mut self, seq: u64) -> Vec<Effect> {
        match &self.phase {
            Phase::InFlight(batch) if batch.seq == seq => {}
            // A sender that was given a batch twice says so twice.
            _ => return Vec::new(),
        }
        self.phase = Phase::Quiet;
        let mut effects = self.settle_coverage();
        effects.extend(self.go_on());
        effects
    }

    /// What the last drain yielded is durable.
    fn settle_coverage(&mut self) -> Vec<Effect> {
        self.coverage.iter_mut().for_each(Coverage::durable);
        let waiting = std::mem::take(&mut self.held_scans);
        let (on, still): (BTreeSet<_>, _) =
            waiting.into_iter().partition(|&mirror| self.told[mirror as usize].is_empty());
        self.held_scans = still;
        let scans = on.into_iter().map(Effect::ScanOn);
        std::iter::once(Effect::Forget).chain(scans).collect()
    }

    fn wait_over(&mut self, waiter: Waiter) -> Vec<Effect> {
        self.waiting.remove(&waiter);
        self.draining_for.remove(&waiter);
        let token = self.barriers.iter().find(|(_, w)| **w == waiter).map(|(&token, _)| token);
        let Some(token) = token else { return Vec::new() };
        self.barriers.remove(&token);
        self.send(ToSender::CancelBarrier { token }).into_iter().collect()
    }
}

impl InFlight {
    /// The batch in messages of bounded size; the last one says so.
    fn parts(&self) -> impl Iterator<Item = ToSender> {
        let mut parts: Vec<_> = self
            .facts
            .iter()
            .flat_map(|(mirror, facts)| facts.chunks(PART).map(|part| (*mirror, part)))
            .collect();
        let last = parts.pop();
        let parts = parts.into_iter().map(|part| (part, false)).chain(last.map(|part| (part, true)));
        parts.map(|((mirror, facts), last)| {
            ToSender::Batch(Batch { seq: self.seq, mirror, last, facts: facts.to_vec() })
        })
    }
}

/// Facts in one message: with the longest paths about 8 MiB, half of what a message may have.
const PART: usize = 1000;
