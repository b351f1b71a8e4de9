//! Looking through the source for what changed since coverage was complete.
//!
//! ```text
//!   engine: Scan ──► threads look through the tree ──► a few facts ──► engine: Found ──► a batch ──► durable
//!                        └── wait while what they found is on its way ◄────── ScanOn ◄──────────────────┘
//! ```
//!
//! What happens below the source meanwhile is tracked as ever, so a name that comes, goes or moves under the eyes of a
//! scan is told by its own events. Memory is what is found and not handed over yet, which is bounded.

mod pick;
mod walk;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ebbtide_feed::{Fact, MirrorId};
use ebbtide_filter::Sieve;

use crate::control::ScanStatus;
use crate::sys::scan;
use crate::sys::{self, SysError};
pub(super) use pick::Since;
use walk::{Counts, Tell, Walk};

/// What a scan found.
pub(super) struct Found {
    pub(super) facts: Vec<Fact>,
    /// There is no more.
    pub(super) last: bool,
    /// It ended before it was through.
    pub(super) failed: bool,
}

/// What to look for, and where.
pub(super) struct Search<'a> {
    /// The source directory.
    pub(super) root: BorrowedFd<'a>,
    /// What counts of it.
    pub(super) rules: Option<Arc<Sieve>>,
    /// From when on.
    pub(super) since: Since,
    /// Why.
    pub(super) reason: String,
}

/// The scans of all mirrors.
pub(super) struct Scans {
    bell: Arc<OwnedFd>,
    scans: Vec<Option<Scan>>,
}

/// The latest scan of one mirror.
struct Scan {
    reason: String,
    counts: Arc<Counts>,
    began: Instant,
    /// How long it took, once it is over.
    took: Option<Duration>,
    running: Option<Running>,
}

struct Running {
    found: Receiver<Vec<Fact>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// What it found last is not durable yet.
    held: bool,
}

impl Scans {
    pub(super) fn new(mirrors: usize) -> sys::Result<Self> {
        let scans = std::iter::repeat_with(|| None).take(mirrors).collect();
        Ok(Scans { bell: Arc::new(scan::bell()?), scans })
    }

    /// Begins a scan; one that is under way is given up.
    ///
    /// # Errors
    /// The source directory cannot be read, or there is no room for threads.
    pub(super) fn start(&mut self, mirror: MirrorId, search: Search<'_>) -> sys::Result<()> {
        let counts: Arc<Counts> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let mut walk = Walk::new(search.since, search.rules, Arc::clone(&stop), Arc::clone(&counts));
        walk.begin(search.root)?;
        let (walk, (to, found)) = (Arc::new(walk), sync_channel(1));
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = (0..threads).map(|_| self.thread(&walk, to.clone())).collect::<Result<_, _>>()?;
        let running = Some(Running { found, stop, threads, held: false });
        let scan = Scan { reason: search.reason, counts, began: Instant::now(), took: None, running };
        self.scans[mirror as usize] = Some(scan);
        Ok(())
    }

    fn thread(&self, walk: &Arc<Walk>, to: SyncSender<Vec<Fact>>) -> sys::Result<JoinHandle<()>> {
        let (walk, bell) = (Arc::clone(walk), Arc::clone(&self.bell));
        let work = move || {
            // The channel is closed before that is told, also when this panics.
            let _ring = Ring(&bell);
            let to = to;
            walk.work(Tell::new(&to, &|| scan::ring(bell.as_fd())));
        };
        std::thread::Builder::new()
            .name("scan".into())
            .spawn(work)
            .map_err(|e| SysError::new("clone of a thread", e))
    }

    /// What this scan found, if it found something, is through, and is not waited for.
    pub(super) fn take(&mut self, mirror: MirrorId) -> Option<Found> {
        let scan = self.scans[mirror as usize].as_mut()?;
        let running = scan.running.as_mut().filter(|running| !running.held)?;
        let mut found = Found { facts: Vec::new(), last: false, failed: false };
        while found.facts.len() < BATCH && !found.last {
            match running.found.try_recv() {
                Ok(facts) => found.facts.extend(facts),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => found.last = true,
            }
        }
        running.held = !found.last;
        if found.last {
            let ended = scan.running.take().into_iter().flat_map(|mut r| std::mem::take(&mut r.threads));
            found.failed = ended.map(JoinHandle::join).filter(Result::is_err).count() > 0;
            scan.took = Some(scan.began.elapsed());
        } else if found.facts.is_empty() {
            running.held = false;
            return None;
        }
        Some(found)
    }

    /// What it found last is durable.
    pub(super) fn go_on(&mut self, mirror: MirrorId) {
        if let Some(running) = self.scans[mirror as usize].as_mut().and_then(|scan| scan.running.as_mut()) {
            running.held = false;
        }
    }

    /// Nobody wants it any more.
    pub(super) fn give_up(&mut self, mirror: MirrorId) {
        if let Some(scan) = &mut self.scans[mirror as usize]
            && scan.running.take().is_some()
        {
            scan.took = Some(scan.began.elapsed());
        }
    }

    /// Mirrors whose scan is under way.
    pub(super) fn running(&self) -> Vec<MirrorId> {
        let running = (0..)
            .zip(&self.scans)
            .filter(|(_, scan)| scan.as_ref().is_some_and(|scan| scan.running.is_some()));
        running.map(|(mirror, _)| mirror).collect()
    }

    /// Takes note that something was found.
    pub(super) fn silence(&self) {
        scan::silence(self.bell.as_fd());
    }

    /// What the latest scan of a mirror saw.
    pub(super) fn status(&self, mirror: MirrorId) -> Option<ScanStatus> {
        let scan = self.scans[mirror as usize].as_ref()?;
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let took = scan.took.unwrap_or_else(|| scan.began.elapsed());
        Some(ScanStatus {
            reason: scan.reason.clone(),
            running: scan.running.is_some(),
            ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            directories: count(&scan.counts.directories),
            entries: count(&scan.counts.entries),
            picked: count(&scan.counts.picked),
            unreadable: count(&scan.counts.unreadable),
        })
    }
}

impl AsFd for Scans {
    /// Readable when a scan found something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// The threads see it when they look at the next entry, or when they tell what they found.
impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Rings when the thread ends, however it does.
struct Ring<'a>(&'a OwnedFd);

impl Drop for Ring<'_> {
    fn drop(&mut self) {
        scan::ring(self.0.as_fd());
    }
}

/// A batch gets no further facts of a scan when it has so many of them.
const BATCH: usize = 10_000;
