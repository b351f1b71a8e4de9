//! Requests and answers.

use ebbtide_feed::SenderStatus;
use serde::{Deserialize, Serialize};

use crate::probe::Plan;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// How it is.
    Status,
    /// To send nothing to these destinations.
    Pause {
        /// Which.
        pick: Pick,
    },
    /// To send to these destinations again.
    Resume {
        /// Which.
        pick: Pick,
    },
    /// To let go what is held there.
    Release {
        /// Which.
        pick: Pick,
    },
    /// To be told when everything that changed before is acknowledged by every destination. Hanging up cancels.
    Wait,
    /// That something is compared that need not be.
    Sync {
        /// What.
        what: SyncWhat,
        /// To be told when all of that is acknowledged, as with [`Request::Wait`].
        wait: bool,
    },
}

/// Destinations: all of them, those of one mirror, or one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pick {
    /// The mirror's source.
    pub mirror: Option<String>,
    /// The destination's URL.
    pub to: Option<String>,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Wait`], and to a [`Request::Sync`] that waits.
    Settled,
    /// To what asks for something to be done.
    Done {
        /// What was done, line by line.
        said: Vec<String>,
    },
    /// To another [`Request::Sync`]: it is begun.
    Begun,
    /// The request was not understood.
    Error {
        /// Why.
        message: String,
    },
}

/// What is to be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncWhat {
    /// What has changed since the last drain, by its times of change.
    Changed,
    /// Everything.
    Everything,
    /// Everything at and below this path: absolute, or relative to a source.
    Below(Vec<u8>),
}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// Milliseconds since it was started.
    pub uptime_ms: u64,
    /// Milliseconds from its start until nothing went unseen any more.
    pub tracking_after_ms: u64,
    /// Milliseconds of these that loading the eBPF programs took.
    pub loading_ms: u64,
    /// The mirrors, in the order of the configuration.
    pub mirrors: Vec<MirrorStatus>,
    /// What was seen, and what became of it.
    pub tracker: TrackerStatus,
    /// The sender's process.
    pub sender: SenderState,
    /// The sender's own account; `None` while it cannot be asked.
    pub transfer: Option<SenderStatus>,
}

/// One mirror.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MirrorStatus {
    /// Its source directory.
    pub source: String,
    /// How its file system is watched.
    pub plan: Plan,
    /// What was known of it when the daemon started.
    pub start: BeginningStatus,
    /// Why not everything that changed is known, if so.
    pub tainted: Option<TaintStatus>,
    /// The latest search for what changed since the last drain.
    pub scan: Option<ScanStatus>,
    /// The source directory is not there: the mirror stands still.
    pub root_lost: bool,
    /// Why nothing of it is sent until `ebbtide release`: the source directory is another one than before.
    pub halted: Option<String>,
    /// Directories below the source that a file system was mounted on and is not now: nothing below them is sent or
    /// removed until it is back, or until `ebbtide release`.
    pub away: Vec<String>,
    /// How often coverage broke, the start included.
    pub taints: u64,
    /// Whether the destinations lose what the source does not have.
    pub delete: bool,
}

/// What was known of a mirror when the daemon started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginningStatus {
    /// How it was begun.
    pub way: Way,
    /// Why nothing could be taken over, where something might have been.
    pub reason: Option<String>,
}

/// How a mirror was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// What was marked before was followed up: nothing was compared.
    TakenOver,
    /// What changed since the last durable drain was looked for.
    Reconcile,
    /// Nothing was known.
    FirstStart,
}

/// Why coverage is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaintStatus {
    /// Milliseconds since it was noticed.
    pub since_ms: u64,
    /// What was lost.
    pub reason: String,
    /// What makes up for it.
    pub remedy: RemedyStatus,
}

/// What makes up for what was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemedyStatus {
    /// What changed since the last drain is looked for in the source.
    Scan,
    /// The whole mirror is compared with its destinations.
    Compare,
}

/// A search through the source for what changed since the last drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanStatus {
    /// Why.
    pub reason: String,
    /// Whether it is under way.
    pub running: bool,
    /// Milliseconds that it took, until now if it is under way; waiting for the ledger included.
    pub ms: u64,
    /// Directories that were read.
    pub directories: u64,
    /// Entries that were looked at.
    pub entries: u64,
    /// Facts that were told.
    pub picked: u64,
    /// Entries that could not be looked at.
    pub unreadable: u64,
}

/// Counters since the start. When nothing is being looked up, `drained` = `told` + `outside` + `gone` + `untraced` +
/// `again`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackerStatus {
    /// What it is doing: quiet, settling, draining or in flight.
    pub phase: String,
    /// Events of fanotify.
    pub events: u64,
    /// Marks of the eBPF programs; 0 without them.
    pub marks: u64,
    /// Drains.
    pub drains: u64,
    /// Names and inodes that were drained.
    pub drained: u64,
    /// Of them told as facts.
    pub told: u64,
    /// In no mirror.
    pub outside: u64,
    /// With nothing to tell of their own: gone, or told by the events of their names.
    pub gone: u64,
    /// Not traced to a name; each such drain tainted its mirrors.
    pub untraced: u64,
    /// Looked up again with the next drain, which counts them anew.
    pub again: u64,
    /// Removed names that were left to a listing of their directory.
    pub folded: u64,
    /// Directories that were listed to find names that changed while nobody listened: what a start after a crash read.
    pub listed: u64,
    /// Noted and not drained yet.
    pub pending: u64,
    /// Facts handed over and not durable yet.
    pub in_flight: u64,
    /// Number of the last batch.
    pub batch: u64,
    /// Whether it is durable.
    pub durable: bool,
    /// What was seen, and what became of it, step by step.
    pub account: AccountStatus,
}

/// Everything that was seen is handled, pending, or counted as lost. Each step begins with what the one before handled;
/// what is lost breaks the coverage of its mirrors, which are then compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountStatus {
    /// Whether every step adds up at this moment.
    pub adds_up: bool,
    /// Inodes marked in the bitmap, each once in each epoch; handled when what they stand for is durable.
    pub marks: StepStatus,
    /// Names and inodes noted from events and records; handled when they are drained, or left to a listing.
    pub hints: StepStatus,
    /// Lookups; handled when they came to an end.
    pub lookups: StepStatus,
    /// Marks lost, because the bitmap was full or its programs could not run.
    pub lost_marks: u64,
    /// Records of marks that found no room in the ring: the mark stands, and its name is found otherwise.
    pub lost_records: u64,
    /// Times that the kernel's queue of events overflowed.
    pub overflows: u64,
}

/// One step. `seen` = `handled` + `pending`; of marks, which come while this is counted, nearly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepStatus {
    /// Since the start.
    pub seen: u64,
    /// Done with.
    pub handled: u64,
    /// Still to be done.
    pub pending: u64,
}

impl StepStatus {
    /// Whether nothing is missing.
    pub fn adds_up(self) -> bool {
        self.seen == self.handled + self.pending
    }
}

/// The sender's process, as its parent sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderState {
    /// Its process id, while there is one.
    pub pid: Option<u32>,
    /// It is ready for batches.
    pub ready: bool,
    /// The user it runs as.
    pub user: String,
    /// How often it died.
    pub deaths: u64,
    /// How the last one ended.
    pub last_end: Option<String>,
}
