//! Select, then apply: waits for the kernel's queues and for time, feeds the engine, and does what it says.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use ebbtide_feed::{Fact, MirrorId, RelPath, ToSender};

use super::beginning::Beginning;
use super::scan::{Scans, Search};
use super::stamp::Stamps;
use super::tracker::{Loss, Tracker};
use crate::control;
use crate::engine::{Effect, Engine, Event, Reason, Remedy, Tainted, Waiter};
use crate::fact::Facts;
use crate::sys::poll::{Poller, Timer};
use crate::sys::{self, SysError, file};

/// The tracker with its engine and its waiting. Messages for the sender are left in [`Core::outbox`].
pub(super) struct Core {
    pub(super) engine: Engine,
    pub(super) tracker: Tracker,
    pub(super) poller: Poller,
    /// What the engine wants done by others.
    pub(super) outbox: VecDeque<Out>,
    pub(super) stamps: Stamps,
    pub(super) scans: Scans,
    /// The last batch when the stamps moved last.
    stamped: u64,
    settle_timer: Timer,
    settle: Duration,
    tick: Duration,
    mount_table: File,
    /// The kernel's queues: in `poller`, unless they were read a moment ago.
    queues: Poller,
    /// When the queues are read next, while they are not waited for.
    read_at: Option<Instant>,
    /// When the first hint came that is in no drain yet.
    noted_at: Option<Instant>,
    resolving: bool,
    /// The drain under way leaves marks to the next one.
    left_marks: bool,
    /// Facts that wait for the clock to tick once since the flip.
    ready: Option<(Instant, Vec<Facts>)>,
    roots_checked: Instant,
}

/// For others to do.
#[derive(Debug)]
pub(super) enum Out {
    Send(ToSender),
    Reached(Waiter),
    /// File systems were mounted or unmounted on these directories.
    Mounts(Vec<(MirrorId, RelPath)>),
}

impl Core {
    /// `beginnings` has one for each mirror, and so does `stamps`.
    pub(super) fn new(
        tracker: Tracker,
        beginnings: &[Beginning],
        stamps: Stamps,
        settle: Duration,
    ) -> sys::Result<Self> {
        let (poller, queues) = (Poller::new()?, Poller::new()?);
        let settle_timer = Timer::new()?;
        let mount_table =
            File::open("/proc/self/mountinfo").map_err(|e| SysError::new("open of mountinfo", e))?;
        for queue in tracker.queues() {
            queues.add(queue, QUEUE)?;
        }
        if let Some(ring) = tracker.ring() {
            queues.add(ring, QUEUE)?;
        }
        poller.add(queues.as_fd(), QUEUE)?;
        poller.add(settle_timer.as_fd(), SETTLE)?;
        poller.add_priority(mount_table.as_fd(), MOUNTS)?;
        let scans = Scans::new(beginnings.len())?;
        poller.add(scans.as_fd(), SCANS)?;
        let mut engine = Engine::new(beginnings.len(), None);
        for (mirror, beginning) in (0..).zip(beginnings) {
            // Nothing is to be done yet: there is no sender.
            let _ = beginning.taint().map(|taint| engine.apply(Event::Lost(mirror, taint)));
        }
        Ok(Core {
            engine,
            tracker,
            poller,
            outbox: VecDeque::new(),
            stamps,
            scans,
            stamped: 0,
            settle_timer,
            settle,
            tick: file::clock_tick(),
            mount_table,
            queues,
            read_at: None,
            noted_at: None,
            resolving: false,
            left_marks: false,
            ready: None,
            roots_checked: Instant::now(),
        })
    }

    /// What was found at the start, and what was lost before it.
    pub(super) fn begin(&mut self, losses: Vec<Loss>) {
        self.lose(losses);
        self.noted();
    }

    /// Waits until something happens, does what concerns the kernel's queues, and returns the tokens of others.
    pub(super) fn turn(&mut self) -> sys::Result<Vec<u64>> {
        let mut others = Vec::new();
        for token in self.poller.wait(Some(self.patience()))? {
            match token {
                QUEUE => self.read()?,
                SETTLE => {
                    self.settle_timer.clear();
                    self.apply(Event::SettleOver);
                }
                MOUNTS => self.mounts_changed(),
                SCANS => self.hear_scans(),
                other => others.push(other),
            }
        }
        if self.read_at.is_some_and(|at| at <= Instant::now()) {
            self.read()?;
        }
        self.advance();
        Ok(others)
    }

    /// Tells the engine, and does what it says.
    pub(super) fn apply(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.engine.apply(event) {
                match effect {
                    Effect::Settle => self.start_settling(),
                    Effect::Drain => events.extend(self.begin_drain()),
                    Effect::Send(message) => self.outbox.push_back(Out::Send(message)),
                    Effect::Forget => self.forget(),
                    Effect::Scan(mirror) => events.extend(self.start_scan(mirror)),
                    Effect::ScanOn(mirror) => {
                        self.scans.go_on(mirror);
                        events.extend(self.found(mirror));
                    }
                    Effect::Reached(waiter) => self.outbox.push_back(Out::Reached(waiter)),
                }
            }
        }
        self.tracker.keep_taints(&self.engine);
    }

    /// How long nothing may happen: not at all while there is something to look up.
    fn patience(&self) -> Duration {
        if self.resolving {
            return Duration::ZERO;
        }
        let ready = self.ready.as_ref().map(|(at, _)| *at);
        let next = ready.into_iter().chain(self.read_at).min();
        next.map_or(ROOTS, |at| at.saturating_duration_since(Instant::now()))
    }

    /// The window counts from the first hint, and ends so that, with the tick that marks need after the flip, it has
    /// the length that was asked for.
    fn start_settling(&mut self) {
        let tick = if self.tracker.has_marks() { self.tick } else { Duration::ZERO };
        let since = self.noted_at.map_or(Duration::ZERO, |at| at.elapsed());
        if let Err(e) = self.settle_timer.set(self.settle.saturating_sub(tick).saturating_sub(since)) {
            tracing::error!(error = %e, cause = %e.source, "the settle timer could not be set");
        }
    }

    /// Queues that are busy are not waited for but read at a pace of our own: being woken for each event would slow
    /// down those who make them.
    fn read(&mut self) -> sys::Result<()> {
        let mut losses = Vec::new();
        let read = self.tracker.read(&mut losses);
        self.lose(losses);
        match (read > 0, self.read_at) {
            (true, None) => self.poller.remove(self.queues.as_fd()),
            (false, Some(_)) => self.poller.add(self.queues.as_fd(), QUEUE)?,
            _ => {}
        }
        self.read_at = (read > 0).then(|| Instant::now() + PACE);
        if read > 0 {
            self.noted();
        }
        Ok(())
    }

    fn noted(&mut self) {
        self.noted_at.get_or_insert_with(Instant::now);
        self.apply(Event::Noted);
    }

    /// The last drain is durable.
    fn forget(&mut self) {
        self.tracker.forget();
        let (batch, _) = self.engine.last_batch();
        let told = std::mem::replace(&mut self.stamped, batch) != batch;
        // The casts are lossless: mirrors are counted in thousands.
        let complete = |mirror: usize| self.engine.coverage(mirror as MirrorId).tainted().is_none();
        self.stamps.durable(complete, told);
    }

    /// Begins to look through a source; gives what is to be done instead where that is not possible.
    fn start_scan(&mut self, mirror: MirrorId) -> Option<Event> {
        let reason = self.engine.coverage(mirror).tainted().map(|tainted| tainted.reason.to_string());
        let reason = reason.unwrap_or_default();
        let source = self.tracker.source_path(mirror).display().to_string();
        let begun = self.stamps.look_back(mirror as usize).and_then(|since| {
            let (root, rules) = self.tracker.scope_of(mirror);
            let search = Search { root, rules, since, reason: reason.clone() };
            self.scans.start(mirror, search).map_err(|e| format!("{e}: {}", e.source))
        });
        match begun {
            Ok(()) => {
                tracing::info!(mirror, source, reason, "looking for what changed since the last drain");
                None
            }
            Err(why) => {
                tracing::warn!(mirror, source, why, "the whole mirror is compared");
                Some(Event::Lost(mirror, compared(Reason::Scan(why))))
            }
        }
    }

    fn hear_scans(&mut self) {
        self.scans.silence();
        for mirror in self.scans.running() {
            if let Some(event) = self.found(mirror) {
                self.apply(event);
            }
        }
    }

    /// What a scan found since the last time.
    fn found(&mut self, mirror: MirrorId) -> Option<Event> {
        let found = self.scans.take(mirror)?;
        if let Some(status) = self.scans.status(mirror).filter(|_| found.last) {
            let source = self.tracker.source_path(mirror).display();
            let control::ScanStatus { ms, directories, entries, picked, unreadable, .. } = status;
            tracing::info!(mirror, %source, ms, directories, entries, picked, unreadable, "looked through the source");
        }
        if found.failed {
            let why = Reason::Scan("a thread of the scan ended with a panic".into());
            return Some(Event::Lost(mirror, compared(why)));
        }
        Some(Event::Found(mirror, found.facts, found.last))
    }

    /// Scans whose answer is not wanted any more.
    fn end_scans(&mut self) {
        for mirror in self.scans.running() {
            if !self.engine.coverage(mirror).is_searching() {
                self.scans.give_up(mirror);
            }
        }
    }

    fn begin_drain(&mut self) -> Vec<Event> {
        let mut losses = Vec::new();
        let mut events = self.check_roots();
        self.stamps.drain_begins();
        self.left_marks = self.tracker.begin_drain(&mut losses);
        self.resolving = true;
        self.noted_at = None;
        // Records of marks that came after the flip were read, too; nothing will wake us for them.
        if self.left_marks || self.tracker.pending() > 0 {
            self.noted_at = Some(Instant::now());
            events.push(Event::Noted);
        }
        let after = if self.tracker.has_marks() { self.tick } else { Duration::ZERO };
        self.ready = Some((Instant::now() + after, Vec::new()));
        events.extend(losses.into_iter().map(|loss| self.event(loss)));
        events
    }

    /// Goes on with what takes longer than a turn.
    fn advance(&mut self) {
        if self.resolving {
            self.resolve_some();
        }
        let over = |at: &Instant| *at <= Instant::now();
        if !self.resolving && self.ready.as_ref().is_some_and(|(at, _)| over(at)) {
            let (_, facts) = self.ready.take().expect("just seen");
            self.apply(Event::Drained(facts));
        }
        self.end_scans();
        if self.roots_checked.elapsed() >= ROOTS {
            let mut losses = Vec::new();
            self.tracker.lost_marks(&mut losses);
            self.lose(losses);
            self.check_roots().into_iter().for_each(|event| self.apply(event));
        }
    }

    /// The roots are checked again before anything is told: had one moved meanwhile, paths below it were taken for
    /// paths outside.
    fn resolve_some(&mut self) {
        let mut losses = Vec::new();
        let done = self.tracker.step_drain(&mut losses);
        self.lose(losses);
        if let Some(facts) = done {
            self.resolving = false;
            self.stamps.drain_ends(self.left_marks || self.tracker.postponed() > 0);
            self.check_roots().into_iter().for_each(|event| self.apply(event));
            if let Some((_, ready)) = &mut self.ready {
                *ready = facts;
            }
            // What was just being made is looked up again.
            if self.tracker.pending() > 0 {
                self.noted();
            }
        }
    }

    fn lose(&mut self, losses: Vec<Loss>) {
        for loss in losses {
            let event = self.event(loss);
            self.apply(event);
        }
    }

    fn check_roots(&mut self) -> Vec<Event> {
        self.roots_checked = Instant::now();
        let changed = self.tracker.check_roots();
        changed
            .into_iter()
            .map(|(mirror, found)| match found {
                Ok(()) => {
                    tracing::info!(mirror, source = %self.tracker.source_path(mirror).display(), "the source directory is back");
                    Event::RootBack(mirror, self.tainted(mirror, Reason::RootWasAway))
                }
                Err(why) => {
                    let source = self.tracker.source_path(mirror).display();
                    tracing::error!(mirror, %source, why, "the source directory is not the one it was: this mirror stops");
                    Event::RootLost(mirror, self.tainted(mirror, Reason::Root(why)))
                }
            })
            .collect()
    }

    fn event(&self, loss: Loss) -> Event {
        let Loss { mirror, reason } = loss;
        let tainted = self.tainted(mirror, reason);
        let answer = match tainted.remedy {
            Remedy::Scan => "what changed since the last drain is looked for",
            Remedy::Compare => "the whole mirror will be compared",
        };
        tracing::warn!(mirror, reason = %tainted.reason, "coverage is lost: {answer}");
        Event::Lost(mirror, tainted)
    }

    /// A loss with what makes up for it at the least cost.
    pub(super) fn tainted(&self, mirror: MirrorId, reason: Reason) -> Tainted {
        let known = self.stamps.look_back(mirror as usize).is_ok();
        let remedy = if known { reason.remedy() } else { Remedy::Compare };
        Tainted { since: SystemTime::now(), reason, remedy }
    }

    fn mounts_changed(&mut self) {
        // Reading it takes note that it changed.
        let _ = std::io::copy(&mut &self.mount_table, &mut std::io::sink());
        let mut losses = Vec::new();
        let moved = self.tracker.mounts_changed(&mut losses);
        self.lose(losses);
        if !moved.is_empty() {
            self.outbox.push_back(Out::Mounts(moved.clone()));
        }
        for (mirror, dir) in moved {
            let source = self.tracker.source_path(mirror).display();
            tracing::warn!("{source}/{dir}: a file system was mounted there, or unmounted");
            // Of what was covered, nothing is known since then.
            self.apply(Event::Told(mirror, vec![Fact::Contents { dir }]));
        }
        self.check_roots().into_iter().for_each(|event| self.apply(event));
    }
}

fn compared(reason: Reason) -> Tainted {
    Tainted { since: SystemTime::now(), reason, remedy: Remedy::Compare }
}

const QUEUE: u64 = 0;
const SETTLE: u64 = 1;
const MOUNTS: u64 = 2;
const SCANS: u64 = 3;
/// Tokens from here on are the caller's.
pub(super) const FIRST_FREE: u64 = 16;

/// How often busy queues are read. The ring has room for some 80,000 records, which take longer than this to make.
const PACE: Duration = Duration::from_millis(2);

/// How often the roots are looked at when nothing else asks for it.
const ROOTS: Duration = Duration::from_secs(2);
