//! What a destination's task tells about itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ebbtide_feed::{DestinationState, DestinationStatus, HeldStatus, MirrorId, RestingStatus};
use ebbtide_wire::proto::Dialect;

use super::known::Known;
use crate::session::Report;

/// So many failing names are told.
const NAMES: usize = 100;

/// The account of one destination, shared between its task and whoever asks.
#[derive(Clone, Debug)]
pub(crate) struct Account(Arc<Mutex<Figures>>);

#[derive(Debug)]
struct Figures {
    mirror: MirrorId,
    url: String,
    state: DestinationState,
    acknowledged: u64,
    sessions: u64,
    failures: u64,
    bytes_sent: u64,
    bytes_received: u64,
    last_error: Option<String>,
    retry_at: Option<Instant>,
    /// A session goes on beside the others.
    aside: bool,
    /// How many names wait although nothing failed, and the first moment when one need not wait any more.
    resting: Option<(u64, Instant)>,
    failing: BTreeMap<String, String>,
    dialect: Option<String>,
    held: Option<HeldStatus>,
}

impl Account {
    /// Of a destination that did nothing yet.
    pub(crate) fn new(mirror: MirrorId, url: String) -> Self {
        Account(Arc::new(Mutex::new(Figures {
            mirror,
            url,
            state: DestinationState::Idle,
            acknowledged: 0,
            sessions: 0,
            failures: 0,
            bytes_sent: 0,
            bytes_received: 0,
            last_error: None,
            retry_at: None,
            aside: false,
            resting: None,
            failing: BTreeMap::new(),
            dialect: None,
            held: None,
        })))
    }

    /// The URL as configured.
    pub(crate) fn url(&self) -> String {
        self.lock().url.clone()
    }

    /// The status, with the number of facts that the ledger holds for it.
    pub(crate) fn status(&self, pending: u64) -> DestinationStatus {
        let figures = self.lock();
        let millis = |at: Instant| at.saturating_duration_since(Instant::now()).as_millis();
        let waits = |at: Instant| u64::try_from(millis(at)).unwrap_or(u64::MAX);
        let resting = figures.resting.filter(|_| pending > 0);
        let state = match figures.state {
            DestinationState::Idle if figures.aside => DestinationState::Sending,
            DestinationState::Idle if resting.is_some() => DestinationState::Resting,
            state => state,
        };
        DestinationStatus {
            mirror: figures.mirror,
            url: figures.url.clone(),
            state,
            pending,
            acknowledged: figures.acknowledged,
            sessions: figures.sessions,
            failures: figures.failures,
            bytes_sent: figures.bytes_sent,
            bytes_received: figures.bytes_received,
            last_error: figures.last_error.clone(),
            retry_in_ms: figures.retry_at.map(waits),
            resting: resting.map(|(names, next)| RestingStatus { names, next_in_ms: waits(next) }),
            failing_names: figures.failing.iter().take(NAMES).map(|(a, b)| (a.clone(), b.clone())).collect(),
            dialect: figures.dialect.clone(),
            held: figures.held.clone(),
        }
    }

    /// It works, or has nothing to do.
    pub(crate) fn set_state(&self, state: DestinationState) {
        let mut figures = self.lock();
        figures.state = state;
        figures.retry_at = None;
    }

    /// A session goes on beside the others, or does not any more.
    pub(crate) fn set_aside(&self, aside: bool) {
        self.lock().aside = aside;
    }

    /// A session ran to its end.
    pub(crate) fn session(&self, report: &Report, known: &Known) {
        let mut figures = self.lock();
        figures.bytes_sent += report.bytes_written;
        figures.bytes_received += report.bytes_read;
        let refused: Vec<&str> = known.refused().collect();
        let refused =
            if refused.is_empty() { String::new() } else { format!("; refuses {}", refused.join(", ")) };
        let spoken = report.dialect.as_ref().map(|spoken| dialect(spoken) + &refused);
        figures.dialect = spoken.or(figures.dialect.take());
        if report.partial {
            figures.failures += 1;
        } else {
            figures.sessions += 1;
            figures.last_error = None;
        }
    }

    /// A session failed, and the next one waits for so long. Tells whether that is something new.
    pub(crate) fn failure(&self, error: String, pause: Duration) -> bool {
        let mut figures = self.lock();
        figures.state = DestinationState::Waiting;
        figures.failures += 1;
        figures.retry_at = Some(Instant::now() + pause);
        let old = figures.last_error.replace(error);
        old != figures.last_error
    }

    /// The configuration makes no sense for this destination: its facts wait until that changes.
    pub(crate) fn misconfigured(&self, why: String) {
        let mut figures = self.lock();
        tracing::error!(destination = %figures.url, %why, "this destination cannot be used");
        figures.state = DestinationState::Waiting;
        figures.last_error = Some(why);
    }

    /// So many facts were acknowledged.
    pub(crate) fn acknowledged(&self, count: u64) {
        self.lock().acknowledged += count;
    }

    /// The names that wait although nothing failed: how many, and until when the first of them does.
    pub(crate) fn set_resting(&self, resting: Option<(u64, Instant)>) {
        self.lock().resting = resting;
    }

    /// The names that fail, with their reasons.
    pub(crate) fn set_failing(&self, failing: BTreeMap<String, String>) {
        self.lock().failing = failing;
    }

    /// The removals that are held.
    pub(crate) fn set_held(&self, held: Option<HeldStatus>) {
        self.lock().held = held;
    }

    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Such as `protocol 32, xxh128, zstd`.
pub(crate) fn dialect(dialect: &Dialect) -> String {
    let Dialect { protocol, checksum, compression, .. } = dialect;
    format!("protocol {}, {}, {}", protocol.number(), checksum.name(), compression.name())
}
