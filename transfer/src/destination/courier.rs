//! The way to a destination: one list, one session.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ebbtide_feed::{DestinationSpec, MirrorSpec, RelPath};
use ebbtide_filter::Filters;
use ebbtide_wire::ErrorKind;
use ebbtide_wire::proto::{Checksum, CompressWish, Compression, DeleteMode, ServerOptions};

use super::memory::Memory;
use super::refusal::Refusal;
use super::witness::Witness;
use crate::options::PushOptions;
use crate::plan::list::Lane;
use crate::session::{self, Entry, FileListInput, Report, SessionError, SessionErrorKind, Stage};
use crate::source::{Meta, Source};
use crate::transport::{Password, Scheme, Target, TlsFiles};

/// How a list is to be treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// How it is compared, and whether its directories are complete.
    pub(crate) lane: Lane,
    /// It names entries that are to be removed.
    pub(crate) removes: bool,
    /// The session is to prove what the daemon has.
    pub(crate) verify: bool,
    /// The list has files that were renamed, each with its old name as a hard link: `-H`.
    pub(crate) pairs: bool,
    /// Contents are compared by their checksums, which the list has: `-c`.
    pub(crate) checksum: bool,
    /// Ask for a report of every entry.
    pub(crate) report: bool,
    /// Ask for an acknowledgement of every file: the daemon then works on 50 files at a time at most.
    pub(crate) acknowledge: bool,
    /// No compression.
    pub(crate) plain: bool,
    /// Send the arguments without waiting for the daemon's OK.
    pub(crate) eager: bool,
    /// The most names that may be removed; `None` for any number.
    pub(crate) max_delete: Option<u64>,
    /// Of `bwlimit`.
    pub(crate) share: Share,
}

/// What a session has of a limited bandwidth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Share {
    /// All of it.
    #[default]
    Whole,
    /// What goes by itself while others go beside it: three quarters.
    Most,
    /// The others: one quarter.
    Rest,
}

impl Share {
    fn of(self, limit: u32) -> u32 {
        let rest = limit / 4;
        match self {
            Share::Whole => limit,
            Share::Most => limit - rest,
            // 0 is no limit.
            Share::Rest => rest.max(limit.min(1)),
        }
    }
}

/// What came of a session that ran to its end.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// Its report.
    pub(crate) report: Report,
    /// What it showed of single entries.
    pub(crate) witness: Witness,
}

/// A session that did not run to its end.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Why.
    pub(crate) error: SessionError,
    /// What it showed of single entries until then.
    pub(crate) witness: Witness,
}

/// What a daemon answered when it was asked for all that a mirror may need.
#[derive(Debug)]
pub(crate) struct Probed {
    /// The report of the session that stood.
    pub(crate) report: Report,
    /// What the daemon refuses.
    pub(crate) refused: Vec<Refusal>,
}

/// A directory that was renamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Renamed {
    /// The name under which the destination has it.
    pub(crate) from: RelPath,
    /// The name that it has now.
    pub(crate) to: RelPath,
}

/// Carries lists to one destination.
pub(crate) trait Courier: Send + Sync + 'static {
    /// Runs one session.
    ///
    /// # Errors
    /// It did not run to its end; what it had done until then is known of some entries only.
    fn push(
        &self,
        orders: Orders,
        entries: Vec<Entry>,
        source: Arc<Source>,
    ) -> impl Future<Output = Result<Delivery, Box<Broken>>> + Send;

    /// Runs one session for a directory that was renamed: names are those below its new name, and the daemon links
    /// what it has already below the old one.
    ///
    /// # Errors
    /// As of [`Courier::push`].
    fn push_renamed(
        &self,
        orders: Orders,
        renamed: Renamed,
        entries: Vec<Entry>,
        source: Arc<Source>,
    ) -> impl Future<Output = Result<Delivery, Box<Broken>>> + Send;

    /// Whether this directory can be the root of a session: a daemon takes some characters for wild cards.
    fn can_enter(&self, dir: &RelPath) -> bool;
}

/// Speaks the rsync protocol to a daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    target: Target,
    password_file: Option<PathBuf>,
    deletes: bool,
    /// The mirror has filter rules.
    filtered: bool,
    options: PushOptions,
    /// What the daemon spoke in sessions that went well.
    memory: Memory,
}

impl Daemon {
    /// The destination of a mirror.
    ///
    /// # Errors
    /// The specification makes no sense: why.
    pub(crate) fn new(mirror: &MirrorSpec, spec: &DestinationSpec) -> Result<Self, String> {
        let mut target = Target::parse(spec.url.as_bytes()).map_err(|error| error.to_string())?;
        if target.scheme == Scheme::Shell {
            return Err(format!(
                "{target} needs a remote shell, and the daemon pushes to rsync daemons only"
            ));
        }
        if target.module.is_empty() {
            return Err(format!("{target} names no module"));
        }
        let server = ServerOptions {
            recursive: false,
            hard_links: mirror.hard_links,
            numeric_ids: mirror.numeric_ids,
            acls: mirror.acls,
            xattrs: u8::from(mirror.xattrs),
            bwlimit: spec.bwlimit,
            temp_dir: spec.temp_dir.clone().map(String::into_bytes),
            partial_dir: spec.partial_dir.clone().map(String::into_bytes),
            fsync: spec.fsync,
            compress: compression(spec.compress_choice.as_deref())?,
            ..ServerOptions::archive()
        };
        let mut options = PushOptions::new(server).with_timeout(Duration::from_secs(spec.timeout_s.into()));
        options.contimeout = (spec.contimeout_s > 0).then(|| Duration::from_secs(spec.contimeout_s.into()));
        options.compress_level = spec.compress_level;
        let rules = Filters::from_texts(&mirror.filters).map_err(|error| error.to_string())?;
        options.filters = rules.for_receiver();
        options.checksums.extend(checksum(spec.checksum_choice.as_deref())?);
        if let Some(dir) = spec.partial_dir.as_deref().filter(|dir| !dir.starts_with('/')) {
            // What an earlier session left there is not extraneous. Peer: rsync 3.5.0 options.c.
            options.filters.push(format!("P {}/", dir.trim_end_matches('/')).into_bytes());
        }
        options.way.tls = TlsFiles::new(spec.tls.ca.clone(), spec.tls.cert.clone(), spec.tls.key.clone());
        if !target.path.is_empty() && !target.path.ends_with(b"/") {
            target.path.push(b'/');
        }
        Ok(Daemon {
            target,
            password_file: spec.password_file.clone(),
            deletes: mirror.delete,
            filtered: !rules.is_empty(),
            options,
            memory: Memory::default(),
        })
    }

    /// Asks for all that a mirror may need, and finds out what the daemon refuses of it; nothing is changed there.
    ///
    /// # Errors
    /// The daemon cannot be reached, lets us not in, or cannot be written to.
    pub(crate) async fn probe(&self) -> Result<Probed, SessionError> {
        let lane = Lane { ignore_times: true, complete: true };
        let orders =
            Orders { lane, removes: self.deletes, report: true, acknowledge: true, ..Orders::default() };
        let mut options = self.options(orders);
        options.server.dry_run = true;
        let mut refused = Vec::new();
        loop {
            let mut witness = Witness::default();
            let pushed = self.try_options(&options, &mut witness).await;
            let refusal = pushed.as_ref().err().and_then(Refusal::of);
            match (pushed, refusal) {
                (Ok(report), _) => {
                    refused.extend(witness.spares_missing.then_some(Refusal::MissingArgs));
                    return Ok(Probed { report, refused });
                }
                (Err(_), Some(refusal))
                    if !refused.contains(&refusal) && leave_out(refusal, &mut options) =>
                {
                    refused.push(refusal);
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    async fn try_options(
        &self,
        options: &PushOptions,
        witness: &mut Witness,
    ) -> Result<Report, SessionError> {
        let root = Entry::new(*b".", Meta { mode: 0o040_755, ..Meta::MISSING });
        let nothing = options.server.delete_missing_args.then(|| Entry::missing(*b".ebbtide-check"));
        let list = FileListInput::new(nothing.into_iter().chain([root]).collect());
        session::push(&self.target()?, options, list, Arc::new(Source::none()), witness).await
    }

    /// The target with the password that the file holds now.
    fn target(&self) -> Result<Target, SessionError> {
        let Some(file) = &self.password_file else { return Ok(self.target.clone()) };
        let text = std::fs::read(file).map_err(|error| SessionError {
            destination: self.target.to_string(),
            stage: Stage::Auth,
            kind: SessionErrorKind::Local(format!("cannot read password file {}: {error}", file.display())),
            texts: Vec::new(),
        })?;
        Ok(self.target.clone().with_password(Some(Password::first_line(&text))))
    }

    fn options(&self, orders: Orders) -> PushOptions {
        let mut options = self.options.clone();
        let server = &mut options.server;
        server.bwlimit = server.bwlimit.map(|limit| orders.share.of(limit));
        server.ignore_times = orders.lane.ignore_times;
        server.force = self.deletes;
        server.delete_missing_args = orders.removes;
        // Rules reach the daemon only beside a deletion; without complete directories that one deletes nothing by
        // itself, but what is named to be removed, or is in the way, is removed as the rules say.
        if (orders.lane.complete || self.filtered) && self.deletes {
            server.recursive = true;
            server.delete = Some(DeleteMode::Default);
        }
        if self.deletes
            && let Some(most) = orders.max_delete
        {
            server.max_delete = Some(i32::try_from(most).unwrap_or(i32::MAX));
            // Each removal is told.
            server.report_operations = true;
        }
        server.hard_links |= orders.pairs;
        server.checksum = orders.checksum;
        server.report_all = orders.report;
        server.acknowledge_files = orders.acknowledge;
        if orders.plain {
            server.compress = CompressWish::Off;
        }
        options.eager = orders.eager;
        options
    }
}

/// Makes options that do without what was refused; tells whether that can be done at all.
fn leave_out(refusal: Refusal, options: &mut PushOptions) -> bool {
    let server = &mut options.server;
    match refusal {
        Refusal::Spare(spare) => spare.leave_out(options),
        Refusal::MissingArgs => server.delete_missing_args = false,
        Refusal::Delete => (server.delete, server.delete_missing_args, server.force) = (None, false, false),
        Refusal::LinkDest => server.link_dest.clear(),
        Refusal::Checksum => server.checksum = false,
        Refusal::Entry | Refusal::ReadOnly | Refusal::Option | Refusal::HardLinks => return false,
    }
    true
}

fn checksum(choice: Option<&str>) -> Result<Option<Checksum>, String> {
    let known = |name: &str| Checksum::from_name(name.as_bytes());
    choice.map(|name| known(name).ok_or_else(|| format!("unknown checksum {name:?}"))).transpose()
}

fn compression(choice: Option<&str>) -> Result<CompressWish, String> {
    match choice {
        None | Some("auto") => Ok(CompressWish::Best),
        Some("none") => Ok(CompressWish::Off),
        Some(name) => Compression::from_name(name.as_bytes()).map(CompressWish::Only).ok_or_else(|| {
            format!("unknown compression {name:?}, known are zstd, lz4, zlibx, zlib and none")
        }),
    }
}

/// Lists up to this length may go out ahead of the daemon's answers.
const MAX_AHEAD: usize = 10_000;

impl Daemon {
    async fn carry(
        &self,
        target: Result<Target, SessionError>,
        mut options: PushOptions,
        entries: Vec<Entry>,
        source: Arc<Source>,
    ) -> Result<Delivery, Box<Broken>> {
        let witness = || Witness::new(self.options.server.temp_dir.is_some());
        let target = match target {
            Ok(target) => target,
            Err(error) => return Err(Box::new(Broken { error, witness: witness() })),
        };
        // Which directory is linked to changes nothing about what both sides agree on.
        let kind = ServerOptions { link_dest: Vec::new(), ..options.server.clone() };
        // A long list is not kept twice, and takes longer than the round trips that are saved.
        let ahead = options.eager && entries.len() <= MAX_AHEAD;
        options.known = self.memory.recall(&kind).filter(|_| ahead);
        let again = options.known.is_some().then(|| entries.clone());
        let mut seen = witness();
        let list = FileListInput::new(entries);
        let mut pushed = session::push(&target, &options, list, Arc::clone(&source), &mut seen).await;
        if let (Err(error), Some(entries)) = (&pushed, again)
            && matches!(error.kind, SessionErrorKind::Wire(ErrorKind::Changed))
        {
            options.known = None;
            seen = witness();
            pushed = session::push(&target, &options, FileListInput::new(entries), source, &mut seen).await;
        }
        match pushed.as_ref().ok().and_then(|report| report.dialect.clone()) {
            Some(dialect) => self.memory.learn(kind, dialect),
            None => self.memory.forget(),
        }
        let witness = seen;
        match pushed {
            Ok(report) => Ok(Delivery { report, witness }),
            Err(error) => Err(Box::new(Broken { error, witness })),
        }
    }
}

impl Courier for Daemon {
    async fn push(
        &self,
        orders: Orders,
        entries: Vec<Entry>,
        source: Arc<Source>,
    ) -> Result<Delivery, Box<Broken>> {
        self.carry(self.target(), self.options(orders), entries, source).await
    }

    async fn push_renamed(
        &self,
        orders: Orders,
        renamed: Renamed,
        entries: Vec<Entry>,
        source: Arc<Source>,
    ) -> Result<Delivery, Box<Broken>> {
        let mut options = self.options(orders);
        // A leading slash is the module's root, whether the daemon is confined to it or not.
        options.server.link_dest = vec![[b"/", &*self.target.path, renamed.from.as_bytes()].concat()];
        let target = self.target().map(|mut target| {
            target.path.extend_from_slice(renamed.to.as_bytes());
            target.path.push(b'/');
            target
        });
        self.carry(target, options, entries, source).await
    }

    /// Peer: rsync 3.0 to 3.5 expands `*`, `?` and `[` in the path of a session, and takes ` module/` in it for a second
    /// path.
    fn can_enter(&self, dir: &RelPath) -> bool {
        let path = [&*self.target.path, dir.as_bytes()].concat();
        let again = format!(" {}/", self.target.module);
        let is_split = path.windows(again.len()).any(|part| part == again.as_bytes());
        !is_split && !path.iter().any(|byte| b"*?[\\".contains(byte)) && path.len() < MAX_PATH
    }
}

/// Longer arguments are cut short by daemons (at 5120 bytes), and paths that are no longer than this are no problem
/// to any of them.
const MAX_PATH: usize = 4000;
