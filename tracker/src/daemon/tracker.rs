//! Everything that listens, put together: file systems, their queues, their resolvers and the scope.

mod takeover;

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebbtide_feed::{MirrorId, MirrorSpec, RelPath};
use ebbtide_filter::{FilterError, Filters, Sieve};

use super::keeping::Keeping;
use super::look::{Anchor, Looker};
use super::source::{self, Source, SourceError};
use super::spool::Spool;
use crate::engine::{Fold, Hint, Reason};
use crate::fact::Facts;
use crate::id::{Fs, HandleForm};
use crate::probe::bpf::Account;
use crate::probe::{self, Arming, Asked, Device, Marks, Names, NamesError, Plan, Probe, ProbeChoice, Via};
use crate::resolve::{Bits, Counts, Resolver, Work};
use crate::scope::{Root, Scope};
use crate::sys::mounts::{self, Mount};
use crate::sys::{self, SysError};
use takeover::{Scratch, Sheet};

/// Why tracking cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TrackError {
    /// A source cannot be watched.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The kernel refuses name events.
    #[error("source {}: its file system ({fs_type}) cannot be listened to", .path.display())]
    Names {
        /// The first source on it.
        path: PathBuf,
        /// Such as `overlay`.
        fs_type: String,
        /// Why.
        #[source]
        source: NamesError,
    },
    /// The mount table.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl TrackError {
    /// What the user can do about it, where that is known.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            TrackError::Names { source, .. } => Some(source.advice()),
            TrackError::Source(SourceError::NoHandles { .. }) => {
                Some("mirror the file system underneath, or one that can be exported over NFS")
            }
            _ => None,
        }
    }
}

/// A file system that is listened to.
struct Watched {
    anchor: Anchor,
    /// Its super block's number.
    device: u32,
    form: HandleForm,
    names: Names,
    asked: Asked,
    /// Changes of extended attributes alone count.
    extended: bool,
    /// The queue of names is one that another process began.
    goes_on: bool,
    resolver: Resolver,
    fold: Fold,
    plan: Plan,
}

/// What has been seen, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events of fanotify.
    pub events: u64,
    /// Names and inodes drained.
    pub drained: u64,
    /// What became of them, as far as they are looked up.
    pub looked_up: Counts,
    /// Drains.
    pub drains: u64,
    /// Removed names that were left to a listing of their directory.
    pub folded: u64,
    /// Names and inodes that were noted in folds that are drained.
    pub noted: u64,
    /// Of them taken out, to be looked up.
    pub taken: u64,
    /// Times that the kernel dropped events, or told some that were not understood.
    pub overflows: u64,
    /// Directories that were listed to find what changed while nobody listened.
    pub listed: u64,
}

/// What was seen and what became of it, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accounts {
    /// Inodes in the bitmap.
    pub(super) marks: Account,
    /// Names and inodes in the folds: noted ever, left to a listing, and waiting now.
    pub(super) noted: u64,
    pub(super) folded: u64,
    pub(super) waiting: u64,
    /// What the drain under way is about.
    pub(super) open: u64,
    /// Marks, and records of marks, that were lost.
    pub(super) lost: (u64, u64),
}

/// Something of a mirror's coverage broke.
pub(super) struct Loss {
    pub(super) mirror: MirrorId,
    pub(super) reason: Reason,
}

/// All that listens.
pub(super) struct Tracker {
    watched: Vec<Watched>,
    sources: Vec<Source>,
    scope: Scope,
    marks: Option<Box<dyn Marks>>,
    drain: Option<Drain>,
    tally: Tally,
    loading: Duration,
    /// What is kept for the next daemon, once it is.
    spool: Option<Spool>,
    keeping: Option<Keeping>,
    scratch: Scratch,
}

/// A source, and what of it counts.
pub(super) struct Wish {
    pub(super) path: PathBuf,
    /// A change of ACLs or extended attributes alone counts.
    pub(super) extended: bool,
}

impl Wish {
    /// What a mirror needs.
    pub(super) fn of(mirror: &MirrorSpec) -> Wish {
        Wish { path: mirror.source.clone(), extended: mirror.acls || mirror.xattrs }
    }
}

/// A drain under way.
struct Drain {
    work: Vec<(Fs, Work)>,
    facts: Vec<Facts>,
}

impl Tracker {
    /// Listens to the file systems of all sources. When this returns, nothing that happens below them goes unseen.
    /// What `keeping` has of programs and queues is used.
    pub(super) fn start(
        wishes: &[Wish],
        choice: ProbeChoice,
        mut keeping: Option<&mut Keeping>,
    ) -> Result<Self, TrackError> {
        let table = mounts::read()?;
        let sources: Vec<_> =
            wishes.iter().map(|wish| Source::open(&wish.path, &table)).collect::<Result<_, _>>()?;
        let mut firsts: Vec<&Source> = Vec::new();
        let mut extended = Vec::new();
        let mut roots = Vec::new();
        for (source, wish) in sources.iter().zip(wishes) {
            // Of each mount its own: what one mount shows has no path in another.
            let known = firsts.iter().position(|first| first.mount.id == source.mount.id);
            let fs = Fs(known.unwrap_or(firsts.len()));
            if known.is_none() {
                firsts.push(source);
                extended.push(false);
            }
            extended[fs.0] |= wish.extended;
            roots.push(Root { fs, path: Some(source.path.as_os_str().as_bytes().to_vec()), rules: None });
        }
        let mut plans: Vec<_> = firsts.iter().map(|source| plan(&source.mount)).collect();
        let devices = firsts.iter().map(|source| Device { dev: source.mount.dev, form: source.form() });
        let devices: Vec<_> = devices.collect();
        let began = Instant::now();
        let pins = match choice {
            ProbeChoice::Fanotify => {
                keeping.iter_mut().for_each(|keeping| keeping.unpin());
                None
            }
            _ => keeping.as_mut().and_then(|keeping| keeping.pins()),
        };
        let marks = probe::attach(&mut plans, &devices, choice, pins);
        let loading = began.elapsed();
        let watched = firsts.iter().zip(plans).zip(extended).enumerate();
        let watched = watched
            .map(|(fs, ((source, plan), extended))| {
                watch(Fs(fs), source, plan, extended, &table, keeping.as_deref_mut())
            })
            .collect::<Result<_, _>>()?;
        let scope = Scope { roots, mount_points: Vec::new() };
        let mut tracker = Tracker {
            watched,
            sources,
            scope,
            marks,
            drain: None,
            tally: Tally::default(),
            loading,
            spool: None,
            keeping: None,
            scratch: Scratch::default(),
        };
        tracker.scope.mount_points = tracker.points_below(&table);
        tracker.warn_of_mounts();
        Ok(tracker)
    }

    /// One message, however many there are: a source such as `/tmp` may have dozens.
    fn warn_of_mounts(&self) {
        let points = &self.scope.mount_points;
        if !points.is_empty() {
            let shown: Vec<String> =
                points.iter().take(SHOWN_MOUNTS).map(|point| point.escape_ascii().to_string()).collect();
            let more = points.len() - shown.len();
            let at = shown.join(", ");
            tracing::warn!(%at, more, "other file systems are mounted below a source: they are not tracked");
        }
    }

    /// Follows the filter rules of these mirrors; before anything is drained.
    ///
    /// # Errors
    /// A rule is wrong.
    pub(super) fn follow(&mut self, mirrors: &[MirrorSpec]) -> Result<(), FilterError> {
        for (root, mirror) in self.scope.roots.iter_mut().zip(mirrors) {
            if !mirror.filters.is_empty() {
                let filters = Arc::new(Filters::from_texts(&mirror.filters)?);
                root.rules = Some(Arc::new(Sieve::new(filters, mirror.source.as_os_str().as_bytes())));
            }
        }
        Ok(())
    }

    /// How long it took to load the eBPF programs, or to be refused.
    pub(super) fn loading(&self) -> Duration {
        self.loading
    }

    /// Queues to wait for, by index of file system.
    pub(super) fn queues(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.watched.iter().map(|watched| watched.names.as_fd())
    }

    /// The ring of records to wait for, where there is one.
    pub(super) fn ring(&self) -> Option<BorrowedFd<'_>> {
        self.marks.as_ref().map(|marks| marks.as_fd())
    }

    /// How each file system is watched.
    pub(super) fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.watched.iter().map(|watched| &watched.plan)
    }

    /// The plan of the file system that a mirror is on.
    pub(super) fn plan_of(&self, mirror: MirrorId) -> &Plan {
        &self.watched[self.scope.roots[mirror as usize].fs.0].plan
    }

    /// The path of a mirror's source.
    pub(super) fn source_path(&self, mirror: MirrorId) -> &PathBuf {
        &self.sources[mirror as usize].path
    }

    /// The source directory of a mirror, and what of it counts.
    pub(super) fn scope_of(&self, mirror: MirrorId) -> (BorrowedFd<'_>, Option<Arc<Sieve>>) {
        let root = &self.scope.roots[mirror as usize];
        (self.sources[mirror as usize].fd.as_fd(), root.rules.clone())
    }

    /// What tells the source directory of a mirror from others that may come to stand at its path, in this boot or in
    /// another.
    pub(super) fn identity_of(&self, mirror: MirrorId) -> sys::Result<String> {
        self.sources[mirror as usize].identity()
    }

    /// Names and inodes that the last drain left for the next one.
    pub(super) fn postponed(&self) -> u64 {
        self.watched.iter().map(|watched| watched.resolver.waiting()).sum()
    }

    /// Marks of the eBPF programs.
    pub(super) fn marks_seen(&self) -> u64 {
        self.marks.as_ref().map_or(0, |marks| marks.seen())
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// What is noted and not looked up yet.
    pub(super) fn pending(&self) -> u64 {
        self.watched.iter().map(|watched| watched.fold.items() + watched.resolver.waiting()).sum()
    }

    pub(super) fn accounts(&self) -> sys::Result<Accounts> {
        let folds = || self.watched.iter().map(|watched| &watched.fold);
        let waiting = folds().map(Fold::items).sum();
        let marks = self.marks.as_ref().map_or_else(|| Ok(Default::default()), |marks| marks.account())?;
        Ok(Accounts {
            marks,
            noted: self.tally.noted + folds().map(Fold::noted).sum::<u64>(),
            folded: self.tally.folded + folds().map(Fold::folded).sum::<u64>(),
            waiting,
            open: self.drain.iter().flat_map(|drain| &drain.work).map(|(_, work)| work.items()).sum(),
            lost: self.marks.as_ref().map(|marks| marks.all_lost()).unwrap_or_default(),
        })
    }

    /// Whether marks are in use, so that a tick of the clock must pass between a flip and the hand-over.
    pub(super) fn has_marks(&self) -> bool {
        self.marks.is_some()
    }

    /// Takes what the kernel's queues hold. Returns how many events and records that were.
    pub(super) fn read(&mut self, losses: &mut Vec<Loss>) -> u64 {
        let records = self.read_marks(losses);
        records + (0..self.watched.len()).map(|fs| self.read_names(Fs(fs), losses)).sum::<u64>()
    }

    fn read_names(&mut self, fs: Fs, losses: &mut Vec<Loss>) -> u64 {
        let Watched { names, fold, device, .. } = &mut self.watched[fs.0];
        let note = |hint| fold.note(hint);
        let read = match &mut self.spool {
            Some(spool) => names.read(&mut Sheet(spool, *device), note),
            None => names.read(&mut self.scratch, note),
        };
        match read {
            Ok(pass) => {
                self.tally.events += pass.events;
                if pass.lost {
                    self.tally.overflows += 1;
                    self.lose(Some(fs), &Reason::QueueOverflow, losses);
                }
                pass.events
            }
            Err(e) => {
                self.lose(Some(fs), &Reason::Failed(e.to_string()), losses);
                0
            }
        }
    }

    fn read_marks(&mut self, losses: &mut Vec<Loss>) -> u64 {
        let Some(marks) = &mut self.marks else { return 0 };
        let (watched, spool, mut records) = (&mut self.watched, &mut self.spool, 0);
        let mut keep = |epoch, record: &[u8]| {
            if let Some(spool) = spool {
                spool.record(epoch, record);
            }
        };
        let read = marks.read(&mut keep, &mut |fs, marked| {
            records += 1;
            watched[fs.0].fold.note(Hint::Marked(marked));
        });
        if let Err(e) = read {
            self.lose(None, &Reason::Failed(e.to_string()), losses);
        }
        records
    }

    /// Marks that were lost since this was asked last.
    pub(super) fn lost_marks(&mut self, losses: &mut Vec<Loss>) {
        let lost = self.marks.as_mut().map(|marks| marks.lost()).unwrap_or_default();
        for lost in lost {
            let reason = if lost.full { Reason::BitmapFull } else { Reason::MarksSkipped };
            self.lose(lost.fs, &reason, losses);
        }
    }

    fn lose(&self, fs: Option<Fs>, reason: &Reason, losses: &mut Vec<Loss>) {
        for (mirror, root) in (0..).zip(&self.scope.roots) {
            if fs.is_none_or(|fs| fs == root.fs) {
                losses.push(Loss { mirror, reason: reason.clone() });
            }
        }
    }

    /// Begins to look up everything that is known by now. Returns whether marks were left to the next drain, because
    /// this one ends what another process began.
    pub(super) fn begin_drain(&mut self, losses: &mut Vec<Loss>) -> bool {
        let resumed = self.marks.as_ref().is_some_and(|marks| marks.is_resumed());
        let flipped = self.marks.as_mut().map(|marks| marks.flip());
        if let Some(spool) = &mut self.spool {
            let epoch = flipped.as_ref().and_then(|flipped| flipped.as_ref().ok());
            spool.begin_drain(epoch.copied().unwrap_or(u64::MAX));
        }
        // Names are read after the flip: whatever moved before an inode was marked on the old side is among them.
        self.read(losses);
        if let Some(spool) = &mut self.spool {
            spool.drain_begun(resumed);
        }
        self.lost_marks(losses);
        let epoch = match flipped {
            None => 0,
            Some(Ok(epoch)) => epoch,
            Some(Err(e)) => {
                self.lose(None, &Reason::Failed(format!("{e}: {}", e.source)), losses);
                u64::MAX
            }
        };
        let mut work = Vec::new();
        for (fs, watched) in self.watched.iter_mut().enumerate() {
            let fs = Fs(fs);
            let bits = self.marks.as_mut().map_or_else(Bits::default, |marks| marks.bits(fs));
            let fold = watched.fold.take_until(epoch);
            self.tally.folded += fold.folded();
            self.tally.noted += fold.noted();
            self.tally.taken += fold.items();
            let lookups = watched.resolver.begin(fold, bits);
            self.tally.drained += lookups.items();
            work.push((fs, lookups));
        }
        self.tally.drains += 1;
        let facts = self.sources.iter().map(|_| Facts::default()).collect();
        self.drain = Some(Drain { work, facts });
        resumed
    }

    /// Looks up some more of the drain; gives the facts when all is looked up.
    pub(super) fn step_drain(&mut self, losses: &mut Vec<Loss>) -> Option<Vec<Facts>> {
        let mut drain = self.drain.take()?;
        let mut untraced = Vec::new();
        let (anchors, mut rest): (Vec<_>, Vec<_>) =
            self.watched.iter_mut().map(|watched| (&watched.anchor, &mut watched.resolver)).unzip();
        let mut look = Looker::new(anchors);
        if let Some((fs, work)) = drain.work.last_mut() {
            let resolver = &mut rest[fs.0];
            if resolver.step(work, &self.scope, &mut look, &mut drain.facts, STEP) {
                let counts = work.counts();
                self.tally.looked_up.add(counts);
                untraced.push((*fs, work.lost().clone()));
                drain.work.pop();
            }
        }
        for (fs, lost) in untraced.into_iter().filter(|(_, lost)| lost.count > 0) {
            let what = lost.first.unwrap_or_default();
            tracing::warn!(count = lost.count, what, "a change could not be traced to a name");
            self.lose(Some(fs), &Reason::Untraceable(lost.count), losses);
        }
        if drain.work.is_empty() {
            self.keep_waiting();
            return Some(drain.facts);
        }
        self.drain = Some(drain);
        None
    }

    /// What the last drain was about is durable.
    pub(super) fn forget(&mut self) {
        if let Some(Err(e)) = self.marks.as_mut().map(|marks| marks.forget()) {
            tracing::error!(error = %e, cause = %e.source, "the bitmap of changed inodes runs short");
        }
        self.forget_kept();
    }

    /// Looks whether each root is where it was. Tells the mirrors whose root went or came back, with the reason.
    pub(super) fn check_roots(&mut self) -> Vec<(MirrorId, Result<(), String>)> {
        let mut changed = Vec::new();
        for (mirror, (root, source)) in (0..).zip(self.scope.roots.iter_mut().zip(&self.sources)) {
            let found = source.check();
            if found.is_ok() != root.path.is_some() {
                root.path = found.is_ok().then(|| source.path.as_os_str().as_bytes().to_vec());
                changed.push((mirror, found));
            }
        }
        if !changed.is_empty() {
            self.watched.iter_mut().for_each(|watched| watched.resolver.forget());
        }
        changed
    }

    /// What a mirror's source is.
    pub(super) fn source(&self, mirror: MirrorId) -> &Source {
        &self.sources[mirror as usize]
    }

    /// Takes the directory that is at a source's path now for the right one.
    ///
    /// # Errors
    /// There is none, or it is on a file system that is not watched: why.
    pub(super) fn accept_root(&mut self, mirror: MirrorId) -> Result<(), String> {
        let at = mirror as usize;
        let table = mounts::read().map_err(|e| e.to_string())?;
        let now = Source::open(&self.sources[at].path, &table).map_err(|e| e.to_string())?;
        let fs = self.scope.roots[at].fs;
        let anchor = self.sources.iter().zip(&self.scope.roots).find(|(_, root)| root.fs == fs);
        if anchor.is_none_or(|(source, _)| source.mount.dev != now.mount.dev) {
            return Err("it is on another file system than before: start ebbtide again".to_owned());
        }
        self.scope.roots[at].path = Some(now.path.as_os_str().as_bytes().to_vec());
        self.sources[at] = now;
        self.watched.iter_mut().for_each(|watched| watched.resolver.forget());
        Ok(())
    }

    /// Reads the mount table again. Tells on which directories below a source something was mounted or unmounted.
    pub(super) fn mounts_changed(&mut self, losses: &mut Vec<Loss>) -> Vec<(MirrorId, RelPath)> {
        let Ok(table) = mounts::read() else {
            self.lose(None, &Reason::Failed("the mount table is not readable".into()), losses);
            return Vec::new();
        };
        self.reopen(&table, losses);
        let points = self.points_below(&table);
        if points == self.scope.mount_points {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.scope.mount_points, points);
        let now = &self.scope.mount_points;
        let other = |point: &&Vec<u8>| !(before.contains(point) && now.contains(point));
        let mut moved = Vec::new();
        for point in now.iter().chain(&before).filter(other) {
            let sources = (0..).zip(&self.sources);
            moved.extend(sources.filter_map(|(mirror, source)| Some((mirror, below(point, source)?))));
        }
        self.watched.iter_mut().for_each(|watched| watched.resolver.forget());
        moved
    }

    /// A source that was unmounted and mounted again is open on a mount that is no more. What was looked up through it
    /// meanwhile was taken for something outside.
    fn reopen(&mut self, table: &[Mount], losses: &mut Vec<Loss>) {
        for (mirror, source) in self.sources.iter_mut().enumerate() {
            let Some(again) = source.reopened(table) else { continue };
            let Ok(fd) = again.fd.try_clone() else { continue };
            tracing::info!(source = %again.path.display(), "the source was mounted again");
            let watched = &mut self.watched[self.scope.roots[mirror].fs.0];
            watched.anchor = Anchor { fd, shows_all: again.mount.shows_all(), form: again.form() };
            watched.resolver.forget();
            *source = again;
            losses.push(Loss { mirror: mirror as MirrorId, reason: Reason::RootWasAway });
        }
    }

    /// Directories below a mirror's source that something is mounted on.
    pub(super) fn mounts_of(&self, mirror: MirrorId) -> BTreeSet<RelPath> {
        let source = self.source(mirror);
        self.scope.mount_points.iter().filter_map(|point| below(point, source)).collect()
    }

    /// Mount points below one source.
    fn points_of(&self, source: &Source) -> Vec<Vec<u8>> {
        self.scope.mount_points.iter().filter(|point| is_below(point, source)).cloned().collect()
    }

    fn points_below(&self, table: &[Mount]) -> Vec<Vec<u8>> {
        let below =
            table.iter().filter(|mount| self.sources.iter().any(|source| is_below(&mount.point, source)));
        below.map(|mount| mount.point.clone()).collect()
    }
}

/// How a source would be watched: tried, and let go again.
///
/// # Errors
/// It cannot be watched.
pub fn try_source(source: &MirrorSpec, choice: ProbeChoice) -> Result<Plan, TrackError> {
    let tracker = Tracker::start(&[Wish::of(source)], choice, None)?;
    Ok(tracker.plan_of(0).clone())
}

fn is_below(point: &[u8], source: &Source) -> bool {
    below(point, source).is_some()
}

/// The path of what lies below a source.
fn below(point: &[u8], source: &Source) -> Option<RelPath> {
    let rest = point.strip_prefix(source.path.as_os_str().as_bytes())?;
    let rest = if source.path == Path::new("/") { rest } else { rest.strip_prefix(b"/")? };
    RelPath::new(rest).ok().filter(|path| !path.is_root())
}

fn plan(mount: &Mount) -> Plan {
    Plan {
        fs_type: mount.fs_type.clone(),
        device: mount.source.clone(),
        dev: format!("{}:{}", mount.dev.0, mount.dev.1),
        probe: Probe::Fanotify,
        names: Via::Fanotify,
        content: Via::Fanotify,
        attributes: Via::Fanotify,
        extended: Via::Fanotify,
        mapped: Via::Nothing,
        directories: Via::Fanotify,
        alone: false,
        notes: Vec::new(),
    }
}

fn watch(
    fs: Fs,
    source: &Source,
    mut plan: Plan,
    extended: bool,
    table: &[Mount],
    keeping: Option<&mut Keeping>,
) -> Result<Watched, TrackError> {
    let refused = |error| TrackError::Names {
        path: source.path.clone(),
        fs_type: source.mount.fs_type.clone(),
        source: error,
    };
    let closes = source.mount.fs_type == "tmpfs";
    let asked = if plan.content == Via::Fanotify || plan.attributes == Via::Fanotify {
        if closes { Asked::ContentsAndCloses } else { Asked::Contents }
    } else if extended && plan.extended == Via::Fanotify {
        plan.notes.push(
            "fanotify tells changes of ACLs and extended attributes, which no eBPF program sees".into(),
        );
        Asked::Attributes
    } else {
        Asked::Names
    };
    let arming = if plan.probe == Probe::FsnotifyArmed { Arming::Ignored } else { Arming::None };
    let device = source.mount.kernel_dev();
    let queue = keeping.and_then(|keeping| keeping.queue(device));
    let anchor = source.fd.as_fd();
    let adopted = queue.and_then(|queue| Names::adopt(queue, device, anchor, source.form(), asked, arming));
    let goes_on = adopted.is_some();
    let names = match adopted {
        Some(names) => Ok(names),
        None => listen(source, asked, arming, table),
    };
    if plan.mapped == Via::Nothing {
        plan.notes.push(if closes {
            "stores through a shared mapping are seen when the mapping and the file it is of are closed"
                .into()
        } else {
            "stores through a shared mapping are seen only when the file changes otherwise".into()
        });
    }
    let fd = source.fd.try_clone().map_err(|e| SysError::new("dup", e))?;
    Ok(Watched {
        anchor: Anchor { fd, shows_all: source.mount.shows_all(), form: source.form() },
        device,
        form: source.form(),
        names: names.map_err(refused)?,
        asked,
        extended,
        goes_on,
        resolver: Resolver::new(fs, source.form()),
        fold: Fold::default(),
        plan,
    })
}

fn listen(source: &Source, asked: Asked, arming: Arming, table: &[Mount]) -> Result<Names, NamesError> {
    let listen = |anchor: BorrowedFd<'_>| Names::listen(anchor, source.form(), asked, arming);
    match listen(source.fd.as_fd()) {
        Err(NamesError::Subvolume(why)) => match source::open_whole(source, table) {
            Some(whole) => listen(whole.as_fd()),
            None => Err(NamesError::Subvolume(why)),
        },
        other => other,
    }
}

/// So many mount points are named in a message.
const SHOWN_MOUNTS: usize = 5;

/// Names looked up between two looks at the kernel's queues and at the clients: some 5 ms.
const STEP: usize = 2000;
