//! `ebbtide run`: the parent of it all.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use ebbtide_feed::{MirrorId, PROTOCOL_VERSION, RelPath, SenderStatus, Start, ToSender, ToTracker};

use super::beginning::Beginning;
use super::config::Config;
use super::core::{Core, FIRST_FREE, Out};
use super::folders::{Folders, own};
use super::keeping::{self, Keeping};
use super::known;
use super::notes::Notes;
use super::sender::{self, Pauses, Sender, SenderError, User};
use super::tracker::{TrackError, Tracker, Wish};
use super::wish;
use crate::control::{self, Answer, ClientId, Heard, Request, Server, SyncWhat};
use crate::engine::{Event, Remedy, Waiter};
use crate::sys::poll::Timer;
use crate::sys::signal::EndSignals;
use crate::sys::{self, SysError, memory};

mod mounts;
mod people;
mod reload;
mod roots;

use reload::heed_signal;
pub use reload::{End, Reload, check_sources};

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Tracking cannot start.
    #[error(transparent)]
    Track(#[from] TrackError),
    /// A filter rule is wrong.
    #[error(transparent)]
    Rules(#[from] ebbtide_filter::FilterError),
    /// There is no sender.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// A system call failed.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// A folder or file of our own.
    #[error("{what} {}: {doing} failed", .path.display())]
    Own {
        /// Such as "state folder".
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A folder of our own would be mirrored, and every sync would change it again.
    #[error("{what} {}: lies in the source {}", .path.display(), .source_dir.display())]
    Inside {
        /// Such as "state folder".
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// The source.
        source_dir: PathBuf,
    },
    /// Another daemon has the folder.
    #[error("another ebbtide daemon (process {pid}) uses the {what} {}", .path.display())]
    Locked {
        /// Which folder.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// The other daemon.
        pid: String,
    },
}

impl RunError {
    /// What the user can do about it, where that is known.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            RunError::Track(e) => e.advice(),
            RunError::Sender(e) => Some(e.advice()),
            RunError::Locked { .. } => Some(
                "stop that one, add the mirror to its config, or give other folders with --state-dir and --runtime-dir",
            ),
            RunError::Own { .. } | RunError::Inside { .. } => {
                Some("choose another folder with --state-dir or --runtime-dir")
            }
            RunError::Sys(_) | RunError::Rules(_) => None,
        }
    }
}

/// Tracks, starts the sender, and serves until a signal asks to end.
///
/// # Errors
/// It cannot start, or a system call that nothing works without failed.
pub fn run(config: &Config, reload: Option<&Reload<'_>>) -> Result<End, RunError> {
    let started = Instant::now();
    memory::keep_little();
    let signals = EndSignals::block()?;
    let user = sender::find_user(config.user.as_deref())?;
    let binary = sender::find_binary()?;
    let folders = Folders::prepare(config, &user)?;
    let wishes: Vec<_> = config.mirrors.iter().map(Wish::of).collect();
    let mut keeping = Keeping::open(&config.runtime_dir, &config.state_dir, config.forget).map_err(own(
        "runtime folder",
        &config.runtime_dir,
        "reading what the last daemon left",
    ))?;
    let mut tracker = Tracker::start(&wishes, config.probes, Some(&mut keeping))?;
    tracker.follow(&config.mirrors)?;
    let mut losses = Vec::new();
    let (without, stamps) =
        known::read(&config.mirrors, &tracker, &folders.tracker, config.reconcile_margin)?;
    let without = if config.forget { vec![Beginning::First; without.len()] } else { without };
    let beginnings = tracker.take_over(&config.mirrors, &without, keeping, &mut losses);
    let tracking_after = started.elapsed();
    say_plan(&tracker, config, tracking_after);
    say_beginnings(config, &beginnings);
    let times = (started, tracking_after);
    let core = Core::new(tracker, &beginnings, stamps, config.settle)?;
    let mut daemon = Daemon::new(config, core, beginnings, folders, (user, binary), signals, times)?;
    daemon.core.begin(losses);
    if config.forget {
        daemon.notes = Notes { paused: daemon.notes.paused, ..Notes::default() };
    }
    daemon.apply_notes();
    daemon.serve(reload)
}

/// Drops what a daemon with these folders left in the kernel and in its runtime folder. Returns whether there was
/// anything.
///
/// # Errors
/// A daemon is running, or it cannot be dropped.
pub fn unload(runtime_dir: &Path, state_dir: &Path) -> Result<bool, RunError> {
    let _locked = Folders::lock(runtime_dir, state_dir)?;
    keeping::drop_all(runtime_dir, state_dir).map_err(own("state folder", state_dir, "dropping what is kept"))
}

fn say_plan(tracker: &Tracker, config: &Config, after: Duration) {
    let loading = tracker.loading().as_millis();
    tracing::info!(
        "tracking after {} ms, of which loading the eBPF programs took {loading} ms",
        after.as_millis()
    );
    for plan in tracker.plans() {
        tracing::info!("watching {plan}");
        plan.notes.iter().for_each(|note| tracing::info!("  {note}"));
    }
    for mirror in &config.mirrors {
        for to in &mirror.destinations {
            tracing::info!(source = %mirror.source.display(), to = %to.url, delete = mirror.delete, "mirror");
        }
    }
}

fn say_beginnings(config: &Config, beginnings: &[Beginning]) {
    for (mirror, beginning) in config.mirrors.iter().zip(beginnings) {
        let source = mirror.source.display();
        match beginning {
            Beginning::TakenOver => {
                tracing::info!(%source, "taken over: what was marked before is followed up");
            }
            Beginning::Reconcile(why) => tracing::warn!(%source, %why, "not taken over"),
            Beginning::Distrusted(why) => tracing::warn!(%source, why, "not taken over"),
            Beginning::First => tracing::info!(%source, "nothing was known of this mirror"),
        }
    }
}

struct Daemon {
    core: Core,
    notes: Notes,
    /// Below each source, the directories where file systems were mounted when ebbtide was started.
    mounted: Vec<BTreeSet<RelPath>>,
    /// Directories that were uncovered since: told after this batch.
    uncovered: Vec<(u64, MirrorId, RelPath)>,
    /// How each mirror began.
    beginnings: Vec<Beginning>,
    folders: Folders,
    start: Start,
    user: User,
    binary: PathBuf,
    sender: Option<Sender>,
    pauses: Pauses,
    restart: Timer,
    deaths: u64,
    last_end: Option<String>,
    /// Why the sender said that it ends.
    last_words: Option<String>,
    server: Server,
    /// Who waits for the sender's account, and since when.
    asking: HashMap<u64, (ClientId, Instant)>,
    next_token: u64,
    signals: EndSignals,
    started: Instant,
    tracking_after: Duration,
}

impl Daemon {
    fn new(
        config: &Config,
        core: Core,
        beginnings: Vec<Beginning>,
        folders: Folders,
        (user, binary): (User, PathBuf),
        signals: EndSignals,
        (started, tracking_after): (Instant, Duration),
    ) -> Result<Self, RunError> {
        let mut mirrors = config.mirrors.clone();
        for (mirror, spec) in (0..).zip(&mut mirrors) {
            spec.source.clone_from(core.tracker.source_path(mirror));
        }
        let start = Start { version: PROTOCOL_VERSION, state_dir: folders.sender.clone(), mirrors };
        let socket = config.runtime_dir.join(control::SOCKET);
        let server = Server::listen(&socket).map_err(own("control socket", &socket, "listening"))?;
        let restart = Timer::new()?;
        core.poller.add(signals.as_fd(), SIGNALS)?;
        core.poller.add(restart.as_fd(), RESTART)?;
        core.poller.add(server.as_fd(), CONTROL)?;
        let notes = Notes::read(&folders.tracker);
        Ok(Daemon {
            core,
            notes,
            mounted: Vec::new(),
            uncovered: Vec::new(),
            beginnings,
            folders,
            start,
            user,
            binary,
            sender: None,
            pauses: Pauses::default(),
            restart,
            deaths: 0,
            last_end: None,
            last_words: None,
            server,
            asking: HashMap::new(),
            next_token: 0,
            signals,
            started,
            tracking_after,
        })
    }

    fn serve(&mut self, reload: Option<&Reload<'_>>) -> Result<End, RunError> {
        self.start_sender()?;
        // Without systemd there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        loop {
            self.flush()?;
            for token in self.core.turn()? {
                match token {
                    SIGNALS => {
                        if let Some(signal) = self.signals.take()
                            && let Some(end) = heed_signal(signal, reload)
                        {
                            self.end(end)?;
                            return Ok(end);
                        }
                    }
                    RESTART => {
                        self.restart.clear();
                        self.start_sender()?;
                    }
                    CONTROL => self.accept(),
                    SENDER => self.hear_sender()?,
                    client => self.hear_client(ClientId(client - CLIENTS)),
                }
            }
            self.give_up_asking();
        }
    }

    /// Starts the sender and greets it; a failure is tried again later, as a death is.
    fn start_sender(&mut self) -> Result<(), RunError> {
        if self.sender.is_some() {
            return Ok(());
        }
        match Sender::start(&self.binary, &self.user) {
            Ok(mut sender) => {
                tracing::info!(pid = sender.pid(), user = %self.user.name, "the sender is started");
                sender.send(ToSender::Start(self.start.clone()));
                self.core.poller.add(sender.as_fd(), SENDER)?;
                self.sender = Some(sender);
            }
            Err(e) => {
                let cause = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
                self.pause(format!("{e}: {cause}; {}", e.advice()))?;
            }
        }
        Ok(())
    }

    fn pause(&mut self, end: String) -> sys::Result<()> {
        let pause = self.pauses.next();
        tracing::warn!(end, "the sender is gone; it is started again in {} ms", pause.as_millis());
        self.deaths += 1;
        self.last_end = Some(end);
        self.restart.set(pause)
    }

    /// Passes on what the engine wants done, as far as the sender takes it.
    fn flush(&mut self) -> Result<(), RunError> {
        while let Some(out) = self.core.outbox.pop_front() {
            match (out, &mut self.sender) {
                (Out::Send(message), Some(sender)) => sender.send(message),
                // What a dead sender did not get, the engine says again to the next one.
                (Out::Send(_), None) => {}
                (Out::Reached(waiter), _) => self.answer(ClientId(waiter.0), &Answer::Settled),
                (Out::Mounts(moved), _) => self.follow_mounts(&moved),
            }
        }
        let Some(sender) = &mut self.sender else { return Ok(()) };
        match sender.flush() {
            Ok(more) => {
                if std::mem::replace(&mut sender.is_full, more) != more {
                    self.core.poller.want_write(sender.as_fd(), SENDER, more)?;
                }
                Ok(())
            }
            Err(e) => self.lose_sender(&e.to_string()),
        }
    }

    fn hear_sender(&mut self) -> Result<(), RunError> {
        let Some(sender) = &mut self.sender else { return Ok(()) };
        let mut heard = Vec::new();
        let result = sender.read(&mut heard);
        for message in heard {
            self.sender_says(message)?;
        }
        match result {
            Ok(()) => Ok(()),
            Err(e) => self.lose_sender(&e.to_string()),
        }
    }

    fn sender_says(&mut self, message: ToTracker) -> Result<(), RunError> {
        match message {
            ToTracker::Ready { version: PROTOCOL_VERSION } => {
                if let Some(sender) = &mut self.sender {
                    sender.ready = true;
                    tracing::info!(
                        pid = sender.pid(),
                        after_ms = sender.started.elapsed().as_millis(),
                        "the sender is ready"
                    );
                }
                self.core.apply(Event::SenderReady);
            }
            ToTracker::Ready { version } => {
                let ours = PROTOCOL_VERSION;
                self.lose_sender(&format!(
                    "it speaks version {version} of the feed, this ebbtide version {ours}"
                ))?;
            }
            ToTracker::Durable { seq } => {
                self.pauses.was_of_use();
                self.core.apply(Event::Durable(seq));
                self.settle_uncovered(seq);
            }
            ToTracker::Settled { token } => self.core.apply(Event::Settled(token)),
            ToTracker::Failed { why } => self.last_words = Some(why),
            ToTracker::Status { token, status } => {
                if let Some((client, _)) = self.asking.remove(&token) {
                    self.answer_status(client, Some(status));
                }
            }
        }
        Ok(())
    }

    fn lose_sender(&mut self, why: &str) -> Result<(), RunError> {
        let Some(sender) = self.sender.take() else { return Ok(()) };
        self.core.poller.remove(sender.as_fd());
        let words = self.last_words.take();
        let why = words.as_deref().unwrap_or(why);
        let grace = if words.is_some() { LAST_STEPS } else { Duration::from_millis(100) };
        let end = sender.reap(grace).map_or_else(|| why.to_owned(), |status| say_end(status, why));
        self.core.apply(Event::SenderGone);
        for (_, (client, _)) in std::mem::take(&mut self.asking) {
            self.answer_status(client, None);
        }
        Ok(self.pause(end)?)
    }

    fn accept(&mut self) {
        let Some((id, fd)) = self.server.accept() else { return };
        if let Err(e) = self.core.poller.add(fd, CLIENTS + id.0) {
            tracing::warn!(error = %e, cause = %e.source, "a control client is turned away");
            self.server.part(id);
        }
    }

    fn hear_client(&mut self, id: ClientId) {
        match self.server.hear(id) {
            Heard::Nothing => {}
            Heard::Asked(Request::Wait) => self.core.apply(Event::Wait(Waiter(id.0))),
            Heard::Asked(Request::Pause { pick }) => self.hold(id, &pick, true),
            Heard::Asked(Request::Resume { pick }) => self.hold(id, &pick, false),
            Heard::Asked(Request::Release { pick }) => self.release(id, &pick),
            Heard::Asked(Request::Sync { what, wait }) => self.sync(id, &what, wait),
            Heard::Asked(Request::Status) => self.ask_sender(id),
            Heard::Left => {
                self.core.apply(Event::WaitOver(Waiter(id.0)));
                self.part(id);
            }
        }
    }

    fn sync(&mut self, id: ClientId, what: &SyncWhat, wait: bool) {
        let sources: Vec<_> = self.start.mirrors.iter().map(|mirror| mirror.source.as_path()).collect();
        match wish::events(what, &sources, &self.core) {
            Err(message) => return self.answer(id, &Answer::Error { message }),
            Ok(events) => events.into_iter().for_each(|event| self.core.apply(event)),
        }
        if wait {
            self.core.apply(Event::Wait(Waiter(id.0)));
        } else {
            self.answer(id, &Answer::Begun);
        }
    }

    fn ask_sender(&mut self, id: ClientId) {
        match &mut self.sender {
            Some(sender) if sender.ready => {
                let token = self.next_token;
                self.next_token += 1;
                self.asking.insert(token, (id, Instant::now()));
                sender.send(ToSender::StatusRequest { token });
            }
            _ => self.answer_status(id, None),
        }
    }

    /// A sender that does not answer must not keep the rest of the status from being seen.
    fn give_up_asking(&mut self) {
        let over = |(_, since): &(ClientId, Instant)| since.elapsed() > ANSWER;
        let late: Vec<_> =
            self.asking.iter().filter(|(_, asked)| over(asked)).map(|(&token, _)| token).collect();
        for token in late {
            if let Some((client, _)) = self.asking.remove(&token) {
                self.answer_status(client, None);
            }
        }
    }

    fn answer_status(&mut self, id: ClientId, transfer: Option<SenderStatus>) {
        let status = self.status(transfer);
        self.answer(id, &Answer::Status(Box::new(status)));
    }

    fn answer(&mut self, id: ClientId, answer: &Answer) {
        self.server.answer(id, answer);
        self.part(id);
    }

    fn part(&mut self, id: ClientId) {
        if let Some(fd) = self.server.client_fd(id) {
            self.core.poller.remove(fd);
        }
        self.server.part(id);
    }

    fn status(&self, transfer: Option<SenderStatus>) -> control::Status {
        let mirrors = (0..).zip(&self.start.mirrors).map(|(mirror, spec)| {
            let coverage = self.core.engine.coverage(mirror);
            control::MirrorStatus {
                source: spec.source.display().to_string(),
                plan: self.core.tracker.plan_of(mirror).clone(),
                start: self.beginnings[mirror as usize].status(),
                tainted: coverage.tainted().map(|tainted| control::TaintStatus {
                    since_ms: millis(tainted.since.elapsed().unwrap_or_default()),
                    reason: tainted.reason.to_string(),
                    remedy: match tainted.remedy {
                        Remedy::Scan => control::RemedyStatus::Scan,
                        Remedy::Compare => control::RemedyStatus::Compare,
                    },
                }),
                scan: self.core.scans.status(mirror),
                root_lost: coverage.root_lost(),
                halted: spec.halted.clone(),
                away: self.away(mirror).iter().map(ToString::to_string).collect(),
                taints: coverage.taints(),
                delete: spec.delete,
            }
        });
        control::Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_ms: millis(self.started.elapsed()),
            tracking_after_ms: millis(self.tracking_after),
            loading_ms: millis(self.core.tracker.loading()),
            mirrors: mirrors.collect(),
            tracker: self.tracker_status(),
            sender: control::SenderState {
                pid: self.sender.as_ref().map(Sender::pid),
                ready: self.sender.as_ref().is_some_and(|sender| sender.ready),
                user: self.user.name.clone(),
                deaths: self.deaths,
                last_end: self.last_end.clone(),
            },
            transfer,
        }
    }

    fn tracker_status(&self) -> control::TrackerStatus {
        let (engine, tally) = (&self.core.engine, self.core.tracker.tally());
        let (batch, durable) = engine.last_batch();
        control::TrackerStatus {
            phase: engine.phase().into(),
            events: tally.events,
            marks: self.core.tracker.marks_seen(),
            drains: tally.drains,
            drained: tally.drained,
            told: tally.looked_up.told,
            outside: tally.looked_up.outside,
            gone: tally.looked_up.gone,
            untraced: tally.looked_up.untraced,
            again: tally.looked_up.again,
            folded: tally.folded,
            listed: tally.listed,
            pending: self.core.tracker.pending(),
            in_flight: engine.in_flight(),
            batch,
            durable,
            account: self.account(),
        }
    }

    fn account(&self) -> control::AccountStatus {
        let tally = self.core.tracker.tally();
        let accounts = match self.core.tracker.accounts() {
            Ok(accounts) => accounts,
            // What cannot be counted does not add up.
            Err(e) => {
                tracing::error!(error = %e, cause = %e.source, "marks cannot be counted");
                return control::AccountStatus::default();
            }
        };
        let step = |seen, handled, pending| control::StepStatus { seen, handled, pending };
        let marks = step(accounts.marks.seen, accounts.marks.handled, accounts.marks.pending);
        let hints = step(accounts.noted, tally.taken + accounts.folded, accounts.waiting);
        let lookups = step(tally.drained, tally.looked_up.total(), accounts.open);
        control::AccountStatus {
            adds_up: accounts.marks.adds_up() && hints.adds_up() && lookups.adds_up(),
            marks,
            hints,
            lookups,
            lost_marks: accounts.lost.0,
            lost_records: accounts.lost.1,
            overflows: tally.overflows,
        }
    }

    /// Asks the sender to end, and sees that it does.
    fn end(&mut self, why: End) -> Result<(), RunError> {
        if why == End::Stop {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        }
        let Some(mut sender) = self.sender.take() else { return Ok(()) };
        sender.send(ToSender::Stop);
        let until = Instant::now() + STOP;
        let mut heard = Vec::new();
        let mut gone = false;
        while !gone && Instant::now() < until {
            gone = match sender.flush() {
                Ok(more) => {
                    self.core.poller.want_write(sender.as_fd(), SENDER, more)?;
                    self.core
                        .poller
                        .wait(Some(until.saturating_duration_since(Instant::now()).min(END_STEP)))?;
                    sender.read(&mut heard).is_err()
                }
                Err(_) => true,
            };
            if self.signals.take().is_some() {
                break;
            }
        }
        let grace = if gone { STOP } else { Duration::ZERO };
        if let Some(status) = sender.reap(grace) {
            tracing::info!("the sender ended: {}", say_end(status, "on request"));
        }
        Ok(())
    }
}

fn say_end(status: ExitStatus, why: &str) -> String {
    format!("{status} ({why})")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const SIGNALS: u64 = FIRST_FREE;
const RESTART: u64 = FIRST_FREE + 1;
const CONTROL: u64 = FIRST_FREE + 2;
const SENDER: u64 = FIRST_FREE + 3;
/// Clients from here on.
const CLIENTS: u64 = FIRST_FREE + 4;

/// How long a status waits for the sender's part.
const ANSWER: Duration = Duration::from_secs(1);

/// How long the sender may take to end.
const STOP: Duration = Duration::from_secs(10);

/// How long a sender that said why it ends may take to do so.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// A second signal is looked for so often while the sender ends.
const END_STEP: Duration = Duration::from_millis(500);
