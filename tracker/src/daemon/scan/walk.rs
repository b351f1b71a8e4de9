//! Looks through a tree with as many threads as there are processors.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use ebbtide_feed::{Fact, RelPath};
use ebbtide_filter::{Local, Sieve};

use super::pick::{self, Picked, Since};
use crate::sys::scan::{self, Sight, Times};
use crate::sys::{self, SysError};

/// What was looked at so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) directories: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) picked: AtomicU64,
    pub(super) unreadable: AtomicU64,
}

/// A tree that is looked through.
pub(super) struct Walk {
    /// What changed before this did so before everything was known.
    pub(super) since: Since,
    pub(super) rules: Option<Arc<Sieve>>,
    pub(super) dev: (u32, u32),
    pub(super) counts: Arc<Counts>,
    /// Whoever reads this wants no more.
    pub(super) stop: Arc<AtomicBool>,
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

/// Directories that are still to be looked into.
#[derive(Default)]
struct Jobs {
    /// The next one is the last: what is looked into next lies deep, so that few directories stay open.
    waiting: Vec<Job>,
    /// So many are being looked into, and may yield more.
    active: usize,
}

struct Job {
    /// Open, for what is in it. The source directory itself is its own parent.
    parent: Arc<OwnedFd>,
    name: CString,
    path: RelPath,
    /// A fact about a directory above says that entries came and went.
    covered: bool,
}

/// A directory being looked into.
struct Here {
    fd: Arc<OwnedFd>,
    path: RelPath,
    times: Times,
    covered: bool,
}

/// Facts on their way.
pub(super) struct Tell<'a> {
    found: Vec<Fact>,
    to: &'a SyncSender<Vec<Fact>>,
    ring: &'a dyn Fn(),
}

impl<'a> Tell<'a> {
    pub(super) fn new(to: &'a SyncSender<Vec<Fact>>, ring: &'a dyn Fn()) -> Self {
        Tell { found: Vec::new(), to, ring }
    }
}

impl Walk {
    pub(super) fn new(
        since: Since,
        rules: Option<Arc<Sieve>>,
        stop: Arc<AtomicBool>,
        counts: Arc<Counts>,
    ) -> Self {
        Walk { since, rules, dev: (0, 0), counts, stop, jobs: Mutex::default(), changed: Condvar::new() }
    }

    /// Begins at this directory.
    ///
    /// # Errors
    /// It cannot be opened or looked at.
    pub(super) fn begin(&mut self, root: std::os::fd::BorrowedFd<'_>) -> sys::Result<()> {
        let root = scan::reopen_dir(root)?;
        self.dev = scan::sight_of(root.as_fd())?.dev;
        let job = Job { parent: Arc::new(root), name: c".".into(), path: RelPath::root(), covered: false };
        self.jobs = Mutex::new(Jobs { waiting: vec![job], active: 0 });
        Ok(())
    }

    /// Works until nothing is left, or nobody wants more.
    pub(super) fn work(&self, mut tell: Tell<'_>) {
        while let Some(job) = self.next() {
            let guard = Active(self);
            if self.look_into(&job, &mut tell).is_none() {
                self.stop.store(true, Ordering::Relaxed);
            }
            drop(guard);
        }
        tell.flush();
    }

    fn next(&self) -> Option<Job> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(job) = jobs.waiting.pop() {
                jobs.active += 1;
                return Some(job);
            }
            if jobs.active == 0 {
                return None;
            }
            jobs = self.changed.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// `None` when nobody listens any more.
    fn look_into(&self, job: &Job, tell: &mut Tell<'_>) -> Option<()> {
        let opened = match job.path.is_root() {
            true => scan::reopen_dir(job.parent.as_fd()),
            false => scan::open_entry(job.parent.as_fd(), &job.name),
        };
        let here = opened.and_then(|fd| {
            let times = scan::sight_of(fd.as_fd())?.times;
            Ok(Here { fd: Arc::new(fd), path: job.path.clone(), times, covered: job.covered })
        });
        let read = here.and_then(|here| self.entries(&here, tell));
        match read {
            Ok(heard) => heard,
            Err(e) => self.failed(&job.path, &e, tell),
        }
    }

    /// Looks at everything in a directory, a portion at a time; names by inode number, the order in which most file
    /// systems have their inodes on disk.
    fn entries(&self, here: &Here, tell: &mut Tell<'_>) -> sys::Result<Option<()>> {
        self.counts.directories.fetch_add(1, Ordering::Relaxed);
        let mut heard = Some(());
        if here.path.is_root()
            && let Picked::Tell(fact) = pick::root(here.times, self.since)
        {
            heard = self.tell(tell, fact);
        }
        let mut names = Vec::new();
        scan::read_dir(here.fd.as_fd(), |name, ino| {
            names.push((ino, name.to_owned()));
            if names.len() == NAMES && heard.is_some() {
                heard = self.look_at(&mut names, here, tell);
            }
            heard.is_some()
        })?;
        Ok(heard.and_then(|()| self.look_at(&mut names, here, tell)))
    }

    /// What cannot be read here cannot be read by the sender either, which then shows it as a name that fails.
    fn failed(&self, path: &RelPath, e: &SysError, tell: &mut Tell<'_>) -> Option<()> {
        if is_passing(e) {
            return Some(());
        }
        let before = self.counts.unreadable.fetch_add(1, Ordering::Relaxed);
        if before < SAID {
            tracing::warn!(name = %path, error = %e, cause = %e.source, "a directory cannot be looked into");
        }
        self.tell(tell, Fact::Subtree { dir: path.clone(), replaced: false })
    }

    fn look_at(&self, names: &mut Vec<(u64, CString)>, here: &Here, tell: &mut Tell<'_>) -> Option<()> {
        names.sort_unstable_by_key(|(ino, _)| *ino);
        self.counts.entries.fetch_add(names.len() as u64, Ordering::Relaxed);
        let mut below = Vec::new();
        for (_, name) in names.drain(..) {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            match scan::sight(here.fd.as_fd(), &name) {
                Ok(sight) if sight.is_dir => below.extend(self.directory(here, name, &sight, tell)?),
                Ok(sight) => self.entry(here, &name, &sight, tell)?,
                Err(e) if is_passing(&e) => {}
                Err(e) => self.failed(&path_of(here, &name), &e, tell)?,
            }
        }
        self.add(below);
        Some(())
    }

    fn entry(&self, here: &Here, name: &CStr, sight: &Sight, tell: &mut Tell<'_>) -> Option<()> {
        if !pick::is_changed(sight.times, self.since) {
            return Some(());
        }
        let path = path_of(here, name);
        if self.hides(&path, false) {
            return Some(());
        }
        self.tell(tell, Fact::Touched { path, data: true })
    }

    fn directory(
        &self,
        here: &Here,
        name: CString,
        sight: &Sight,
        tell: &mut Tell<'_>,
    ) -> Option<Option<Job>> {
        let path = path_of(here, &name);
        // Another file system, or a subvolume: like `--one-file-system`, nothing in it.
        if self.hides(&path, true) || sight.dev != self.dev || sight.is_mount {
            return Some(None);
        }
        let picked = pick::directory(&path, sight.times, here.times, self.since, here.covered);
        let covered = here.covered || matches!(picked, Picked::Cover(_));
        let job = Job { parent: Arc::clone(&here.fd), name, path, covered };
        match picked {
            Picked::Look => Some(Some(job)),
            Picked::Tell(fact) | Picked::Cover(fact) => self.tell(tell, fact).map(|()| Some(job)),
            Picked::Whole(fact) => self.tell(tell, fact).map(|()| None),
        }
    }

    fn hides(&self, path: &RelPath, dir: bool) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.hides(&Local::default(), path.as_bytes(), dir))
    }

    fn tell(&self, tell: &mut Tell<'_>, fact: Fact) -> Option<()> {
        self.counts.picked.fetch_add(1, Ordering::Relaxed);
        tell.found.push(fact);
        if tell.found.len() < PORTION { Some(()) } else { tell.flush() }
    }

    fn add(&self, below: Vec<Job>) {
        if below.is_empty() {
            return;
        }
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).waiting.extend(below);
        self.changed.notify_all();
    }
}

impl Tell<'_> {
    fn flush(&mut self) -> Option<()> {
        if !self.found.is_empty() {
            self.to.send(std::mem::take(&mut self.found)).ok()?;
            (self.ring)();
        }
        Some(())
    }
}

/// Ends even when the work on a directory panics, so that no other thread waits for what it would have yielded.
struct Active<'a>(&'a Walk);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        let mut jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.active -= 1;
        if jobs.active == 0 && jobs.waiting.is_empty() || self.0.stop.load(Ordering::Relaxed) {
            self.0.changed.notify_all();
        }
    }
}

/// The kernel gives no name that makes no path.
fn path_of(here: &Here, name: &CStr) -> RelPath {
    here.path.join(name.to_bytes()).unwrap_or_else(|_| here.path.clone())
}

/// Whether an error says no more than that the entry is not there, or is no directory to be entered: what came and
/// went since the scan began is told by its own events, and a mount is not entered.
fn is_passing(e: &SysError) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::XDEV, Errno::STALE];
    passing.iter().any(|errno| e.source.raw_os_error() == Some(errno.raw_os_error()))
}

/// Names kept at once by a thread.
const NAMES: usize = 10_000;

/// Facts handed over at once by a thread.
const PORTION: usize = 1000;

/// So many directories that cannot be read are named in the log; all are counted.
const SAID: u64 = 10;
