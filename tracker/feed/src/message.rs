//! The messages of the feed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Fact, RelPath};

/// Version of these messages. Both binaries come from one build; a mismatch means a half-done upgrade.
pub const PROTOCOL_VERSION: u32 = 3;

/// Index of a mirror in [`Start::mirrors`].
pub type MirrorId = u32;

/// From the tracker to the sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSender {
    /// The first message.
    Start(Start),
    /// Part of a batch of facts.
    Batch(Batch),
    /// Asks for [`ToTracker::Settled`] with the same token when every fact of every batch received before this
    /// message is acknowledged by every destination.
    Barrier {
        /// Chosen by the tracker, unique while the barrier is open.
        token: u64,
    },
    /// Forget this barrier; nobody waits for it any more.
    CancelBarrier {
        /// The token of an earlier [`ToSender::Barrier`].
        token: u64,
    },
    /// Asks for [`ToTracker::Status`].
    StatusRequest {
        /// Chosen by the tracker.
        token: u64,
    },
    /// Nothing is sent to this destination, or something again.
    Pause {
        /// Which mirror.
        mirror: MirrorId,
        /// Index in [`MirrorSpec::destinations`].
        destination: u32,
        /// Nothing is sent.
        paused: bool,
    },
    /// Nothing of this mirror is sent, and why; or something again, from the directory with this `st_dev` and
    /// `st_ino`.
    Halt {
        /// Which mirror.
        mirror: MirrorId,
        /// See [`MirrorSpec::halted`].
        halted: Option<String>,
        /// See [`MirrorSpec::root`].
        root: Option<(u64, u64)>,
    },
    /// Other directories than before are closed.
    Close {
        /// Which mirror.
        mirror: MirrorId,
        /// See [`MirrorSpec::closed`].
        closed: Vec<RelPath>,
    },
    /// Removals that [`MirrorSpec::max_delete`] holds at this destination are let go.
    Release {
        /// Which mirror.
        mirror: MirrorId,
        /// Index in [`MirrorSpec::destinations`].
        destination: u32,
    },
    /// End cleanly: finish or abandon sessions, flush the ledger, exit 0.
    Stop,
}

/// From the sender to the tracker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToTracker {
    /// The ledger is open and batches are welcome.
    Ready {
        /// [`PROTOCOL_VERSION`] of the sender.
        version: u32,
    },
    /// All facts of this batch, and of all before it, are in the ledger: they survive the sender's death.
    Durable {
        /// [`Batch::seq`].
        seq: u64,
    },
    /// A barrier was reached.
    Settled {
        /// The token of the [`ToSender::Barrier`].
        token: u64,
    },
    /// The sender cannot go on and ends: its last words.
    Failed {
        /// Why, with the causes.
        why: String,
    },
    /// Answer to [`ToSender::StatusRequest`].
    Status {
        /// The token of the request.
        token: u64,
        /// What the sender knows of itself.
        status: SenderStatus,
    },
}

/// What the sender must know to work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// [`PROTOCOL_VERSION`] of the tracker.
    pub version: u32,
    /// Folder for the ledger; exists and is writable for the sender.
    pub state_dir: PathBuf,
    /// The mirrors, in the order of the configuration.
    pub mirrors: Vec<MirrorSpec>,
}

/// One source tree and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorSpec {
    /// Absolute path of the source directory.
    pub source: PathBuf,
    /// `st_dev` and `st_ino` of the directory that is the source; another one at its path is not mirrored. `None` for
    /// whichever is found first.
    pub root: Option<(u64, u64)>,
    /// Why nothing of this mirror is sent, if so: the source directory is not the one it was.
    pub halted: Option<String>,
    /// Directories that are sent as entries and not looked into: nothing below them is sent or removed. Other file
    /// systems are mounted there, or were.
    pub closed: Vec<RelPath>,
    /// Remove at the destinations what the source does not have.
    pub delete: bool,
    /// Link what was renamed to what the destination has under the old name, rather than send it again.
    pub follow_renames: bool,
    /// Send owner and group as numbers, never as names.
    pub numeric_ids: bool,
    /// Keep hard links between names of this mirror.
    pub hard_links: bool,
    /// Keep access control lists.
    pub acls: bool,
    /// Keep extended attributes.
    pub xattrs: bool,
    /// The most names that may be removed at a destination before a person is asked; `None` for any number.
    pub max_delete: Option<MaxDelete>,
    /// rsync's filter rules in their order, each a text by itself (`- *.tmp`), none of them a merge file.
    pub filters: Vec<Vec<u8>>,
    /// When files that change all the time are sent.
    pub pace: PaceSpec,
    /// Where it goes, in the order of the configuration.
    pub destinations: Vec<DestinationSpec>,
}

/// When files that change all the time are sent. With zeros, whenever they changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceSpec {
    /// A file that changed within so many milliseconds is still being written, and waits.
    pub settle_ms: u64,
    /// After so many milliseconds it waits no longer.
    pub max_delay_ms: u64,
    /// A file whose sending took long rests for so many times as long before it is sent again.
    pub rest: u32,
}

/// How many removals at one destination are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaxDelete {
    /// More names than this.
    Count(u64),
    /// More than this share of the names of the source, in hundredths: 0 to 100.
    Percent(u8),
}

impl std::fmt::Display for MaxDelete {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MaxDelete::Count(count) => write!(f, "{count}"),
            MaxDelete::Percent(share) => write!(f, "{share}%"),
        }
    }
}

/// One destination of a mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationSpec {
    /// `rsync://[user@]host[:port]/module/[path]`, or the same with `rsyncs://` for TLS.
    pub url: String,
    /// What proves who is at the ends of an `rsyncs://` session.
    pub tls: TlsSpec,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// `--compress-choice`: `zstd`, `zlibx`, `none`, or `None` for the best that both know.
    pub compress_choice: Option<String>,
    /// `--compress-level`.
    pub compress_level: Option<i32>,
    /// `--checksum-choice`, or `None` for the best that both know.
    pub checksum_choice: Option<String>,
    /// `--bwlimit`: the most KiB per second that are sent; `None` for no limit.
    pub bwlimit: Option<u32>,
    /// `--temp-dir`: where the daemon makes files before it puts them in their place, as the daemon understands it.
    pub temp_dir: Option<String>,
    /// `--partial-dir`: where the daemon keeps what it has of a file when a session breaks.
    pub partial_dir: Option<String>,
    /// `--fsync`: the daemon writes each file to its disk before it calls it done.
    pub fsync: bool,
    /// Seconds without a byte after which a session is given up; 0 means never.
    pub timeout_s: u32,
    /// Seconds a connection attempt may take; 0 means the system's own limit.
    pub contimeout_s: u32,
    /// Nothing is sent before [`ToSender::Pause`] says otherwise.
    pub paused: bool,
}

/// Files in PEM form for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsSpec {
    /// Certificates of those who may sign the daemon's, or its own; `None` for the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate, if the daemon wants one.
    pub cert: Option<PathBuf>,
    /// Its key; `None` if the certificate's file holds it.
    pub key: Option<PathBuf>,
}

/// Facts that were drained together, in one or more parts.
///
/// A drain may yield more facts than fit one message; all parts carry the same `seq`, and only the last one asks for
/// [`ToTracker::Durable`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Number of the drain; grows by one from drain to drain for the life of the tracker process.
    pub seq: u64,
    /// Which mirror the facts are about.
    pub mirror: MirrorId,
    /// Whether this is the last part of `seq`.
    pub last: bool,
    /// The facts, in no meaningful order.
    pub facts: Vec<Fact>,
}

/// The sender's own account, for `ebbtide status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SenderStatus {
    /// Process id of the sender.
    pub pid: u32,
    /// Facts that the ledger holds for at least one destination.
    pub facts: u64,
    /// One entry for each destination of each mirror, in the order of the configuration.
    pub destinations: Vec<DestinationStatus>,
    /// What an administrator should know besides, such as that the ledger was damaged.
    pub notes: Vec<String>,
}

/// What a destination is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DestinationState {
    /// Nothing is pending.
    Idle,
    /// A session compares a whole tree (the first sync, or after coverage was lost).
    Syncing,
    /// A session sends changed names.
    Sending,
    /// The last attempt failed; the next one waits.
    Waiting,
    /// Nothing else is pending than names that wait by themselves: see [`DestinationStatus::resting`].
    Resting,
    /// A person wants nothing to be sent.
    Paused,
}

/// Names that wait by themselves: their files are still being written, changed while they were read, or took long to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestingStatus {
    /// How many names.
    pub names: u64,
    /// Milliseconds until the first of them is looked at again.
    pub next_in_ms: u64,
}

/// Removals that wait for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldStatus {
    /// How many names, at least.
    pub removals: u64,
    /// Why they wait, such as `max-delete is 10`.
    pub reason: String,
    /// Some of the names, or directories that hold them; at most 10.
    pub examples: Vec<String>,
    /// Milliseconds since the first of them was held.
    pub since_ms: u64,
}

/// The account of one destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DestinationStatus {
    /// Index of the mirror.
    pub mirror: MirrorId,
    /// The URL as configured.
    pub url: String,
    /// What it is doing.
    pub state: DestinationState,
    /// Facts not yet acknowledged.
    pub pending: u64,
    /// Facts ever acknowledged by this process.
    pub acknowledged: u64,
    /// Sessions ended without an error.
    pub sessions: u64,
    /// Sessions that failed.
    pub failures: u64,
    /// Bytes written to this destination's sockets.
    pub bytes_sent: u64,
    /// Bytes read from this destination's sockets.
    pub bytes_received: u64,
    /// Why the last session failed, with the stage; `None` after a success.
    pub last_error: Option<String>,
    /// Milliseconds until the next attempt, while [`DestinationState::Waiting`].
    pub retry_in_ms: Option<u64>,
    /// Names that wait although nothing failed; `None` if there are none.
    pub resting: Option<RestingStatus>,
    /// Names that keep failing, with the reason; at most 100 of them.
    pub failing_names: Vec<(String, String)>,
    /// Removals that `max-delete` holds.
    pub held: Option<HeldStatus>,
    /// The daemon's protocol and chosen algorithms, as learnt from the last session, such as `protocol 32, xxh128, zstd`.
    pub dialect: Option<String>,
}
