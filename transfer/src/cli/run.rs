//! One run of the stand-alone sender.

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebbtide_filter::{FilterError, Filters};
use ebbtide_wire::ErrorKind;
use ebbtide_wire::proto::Protocol;
use tokio::signal::unix::{SignalKind, signal};

use super::args::{Args, UsageError, bytes};
use super::filters;
use super::log::Log;
use super::names::{Named, read_list};
use super::reach;
use super::select::{Streamed, select, stream};
use super::show::Screen;
use super::stats::{self, Counts, Numbers};
use super::stop;
use super::told::{self, Told};
use crate::ExitCode;
use crate::session::{self, Report, SessionError, SessionErrorKind, Spare};
use crate::source::Source;
use crate::text::OsError;
use crate::transport::{Password, Scheme, Target};

/// Runs with this command line, the program's name first; says on standard error why it could not.
pub fn main(line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::parse(line) {
        Ok(args) => args,
        Err(UsageError::Help(text)) => {
            print!("{text}");
            return ExitCode::OK;
        }
        Err(error) => return ending(&Stop::from(error)),
    };
    match run(args) {
        Ok(code) => code,
        Err(stop) => ending(&stop),
    }
}

/// Why a run ends before its session does.
#[derive(Clone)]
pub(super) struct Stop {
    pub(super) code: ExitCode,
    pub(super) text: String,
}

impl From<UsageError> for Stop {
    fn from(error: UsageError) -> Stop {
        let code = match error {
            UsageError::Unsupported(_) => ExitCode::UNSUPPORTED,
            _ => ExitCode::USAGE,
        };
        Stop { code, text: error.to_string() }
    }
}

impl Stop {
    pub(super) fn usage(text: String) -> Stop {
        Stop { code: ExitCode::USAGE, text }
    }

    fn filter(error: &FilterError) -> Stop {
        match error {
            FilterError::Rule(_) => Stop::usage(error.to_string()),
            FilterError::Open { source, .. } => {
                Stop { code: ExitCode::FILE_IO, text: format!("{error}: {}", OsError(source)) }
            }
            FilterError::Depth { .. } => Stop { code: ExitCode::FILE_IO, text: error.to_string() },
        }
    }

    fn session(error: &SessionError) -> Stop {
        Stop { code: error.exit_code(), text: error.to_string() }
    }
}

fn run(mut args: Args) -> Result<ExitCode, Stop> {
    let left = args.given.data.stop.as_ref().map(stop::left).transpose().map_err(Stop::usage)?;
    let told = match told(&args) {
        Err(UsageError::Help(text)) => {
            print!("{text}");
            return Ok(ExitCode::OK);
        }
        other => other?,
    };
    let filters = filters(&mut args)?;
    let mut target = target(&args)?;
    reach::adopt(&mut args, &mut target)?;
    // What is wrong with a password counts only where the daemon wants one.
    let password = password(&args).map(|password| target.password = password);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Stop { code: ExitCode::FILE_IO, text: format!("cannot start: {error}") })?;
    let mut screen = Screen::new(&args, told, log(&args));
    let outcome = if args.sources.is_empty() && args.given.select.files_from.is_none() {
        let listing = list_modules(&args, target, &mut screen);
        runtime.block_on(unless_ended(listing, left))
    } else if args.given.output.list_only {
        Err(Stop::usage("--list-only: this sender lists the modules of a daemon, named alone".to_owned()))
    } else {
        screen.asks = password.is_ok();
        piped(&args).and_then(|piped| {
            let frame =
                Frame { filters, target, piped, no_password: password.err(), runtime: &runtime, left };
            push(&mut args, &frame, &mut screen)
        })
    };
    screen.end();
    screen.flush();
    if let Err(stop) = &outcome {
        screen.mouth.note(&stop.text);
    }
    let code = outcome.as_ref().map_or_else(|stop| stop.code, |code| *code);
    if code != ExitCode::OK {
        screen.mouth.note(last_line(code));
    }
    // A thread that still reads a file for a session that is over must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// The rules of what is sent; those for the receiver join what the session is told.
fn filters(args: &mut Args) -> Result<Arc<Filters>, Stop> {
    let filters = filters::read(&args.given, &|name| std::env::var_os(name));
    let filters = filters.map_err(|error| Stop::filter(&error))?;
    filters.warnings().iter().for_each(|warning| eprintln!("{warning}"));
    args.push.filters = filters.for_receiver();
    Ok(Arc::new(filters))
}

fn told(args: &Args) -> Result<Told, UsageError> {
    told::check_debug(&args.given.output.debug)?;
    Told::of(args)
}

/// The log; without one where its file cannot be opened, as for rsync.
fn log(args: &Args) -> Option<Log> {
    let output = &args.given.output;
    let path = output.log_file.as_ref()?;
    let opened = Log::open(path, output.log_file_format.as_deref());
    let failed = |error: &io::Error| {
        let (path, why) = (path.display(), OsError(error));
        eprintln!("rsync: [client] failed to open log-file {path}: {why}\nIgnoring \"log file\" setting.");
    };
    opened.inspect_err(failed).ok()
}

async fn list_modules(args: &Args, target: Target, screen: &mut Screen) -> Result<ExitCode, Stop> {
    if !target.module.is_empty() || target.scheme == Scheme::Shell {
        return Err(Stop::usage("this sender only pushes: name a source and a destination".to_owned()));
    }
    let listed = session::list_modules(&target, &args.push, screen).await;
    listed.map(|()| ExitCode::OK).map_err(|error| Stop::session(&error))
}

/// What a push needs besides its options.
struct Frame<'a> {
    filters: Arc<Filters>,
    target: Target,
    /// The names that came on standard input: it can be read once, and there may be two sessions.
    piped: Option<Vec<Vec<u8>>>,
    /// Why there is no password, though one was named.
    no_password: Option<Stop>,
    runtime: &'a tokio::runtime::Runtime,
    /// How long it may take.
    left: Option<Duration>,
}

/// Pushes, and once more without what the daemon is told to refuse and we can do without.
fn push(args: &mut Args, frame: &Frame<'_>, screen: &mut Screen) -> Result<ExitCode, Stop> {
    loop {
        let mut refused = None;
        let outcome = push_once(args, frame, screen, &mut refused);
        let Some(spare) = refused else { return outcome };
        spare.leave_out(&mut args.push);
        screen.know_motd();
        screen.mouth.complain(format!(
            "ebbtide-send: {} refuses {}: going on without it",
            frame.target,
            spare.name()
        ));
    }
}

/// How a session's failure stops the command; `refused` takes what the next session can leave out.
fn stopped(error: &SessionError, args: &Args, frame: &Frame<'_>, refused: &mut Option<Spare>) -> Stop {
    // What the user asked for by name is more than a help.
    *refused = Spare::refused(error, &args.push).filter(|spare| *spare != Spare::Acknowledgement);
    match (&error.kind, &frame.no_password) {
        (SessionErrorKind::Wire(ErrorKind::PasswordRequired), Some(why)) => why.clone(),
        _ => Stop::session(error),
    }
}

fn push_once(
    args: &Args,
    frame: &Frame<'_>,
    screen: &mut Screen,
    refused: &mut Option<Spare>,
) -> Result<ExitCode, Stop> {
    screen.listed = Counts::default();
    let started = Instant::now();
    let named = named(args, frame.piped.as_deref())?;
    if let Some(streamed) = stream(args, &frame.filters, &named).map_err(|error| unselectable(&error))? {
        return push_streamed(args, frame, screen, refused, streamed);
    }
    let chosen = select(args, &frame.filters, &named).map_err(|error| unselectable(&error))?;
    // As many names as entries; the session needs the entries.
    drop(named);
    check_rules(&chosen.source)?;
    chosen.problems.iter().for_each(|problem| screen.problem(problem));
    let listing = started.elapsed();
    screen.mouth.note("building file list");
    if screen.told().flist > 0 {
        screen.line("building file list ... done");
    }
    if chosen.list.entries.is_empty() {
        return Ok(verdict(chosen.list.io_errors.exit_code(false)));
    }
    let source = Arc::new(chosen.source);
    screen.begin(args, Arc::clone(&source), chosen.roots);
    screen.count(&chosen.list.entries);
    let session = async {
        let pushed = session::push(&frame.target, &args.push, chosen.list, source, screen).await;
        pushed.map_err(|error| stopped(&error, args, frame, refused))
    };
    let report = frame.runtime.block_on(unless_ended(session, frame.left))?;
    screen.end();
    summarize(args, screen, &report, started.elapsed(), listing);
    Ok(verdict(report.exit))
}

/// Lists while it sends. With arguments that are missing, and nothing else, there is nothing to connect for.
fn push_streamed(
    args: &Args,
    frame: &Frame<'_>,
    screen: &mut Screen,
    refused: &mut Option<Spare>,
    streamed: Streamed,
) -> Result<ExitCode, Stop> {
    check_rules(&streamed.source)?;
    let started = Instant::now();
    let top = streamed.walk.top();
    if top.entries.is_empty() {
        top.problems.iter().for_each(|problem| screen.problem(problem));
        return Ok(verdict(top.io_errors().exit_code(false)));
    }
    screen.mouth.note("building file list");
    if screen.told().flist > 0 {
        screen.line("sending incremental file list");
    }
    let source = streamed.source;
    screen.begin(args, Arc::clone(&source), streamed.roots);
    let rules = Arc::clone(&source);
    let session = async {
        let walk = Box::new(streamed.walk);
        let pushed = session::push_listings(&frame.target, &args.push, walk, source, screen).await;
        pushed.map_err(|error| stopped(&error, args, frame, refused))
    };
    let pushed = frame.runtime.block_on(unless_ended(session, frame.left));
    screen.end();
    // A directory's own rules may be found to be wrong on the way; the walk then stops there.
    check_rules(&rules)?;
    let report = pushed?;
    // Listing went on beside the session, and cost no time of its own.
    summarize(args, screen, &report, started.elapsed(), Duration::ZERO);
    Ok(verdict(report.exit))
}

fn check_rules(source: &Source) -> Result<(), Stop> {
    source.rules_failure().map_or(Ok(()), |error| Err(Stop::filter(error)))
}

fn unselectable(error: &io::Error) -> Stop {
    Stop { code: ExitCode::FILE_SELECT, text: error.to_string() }
}

fn piped(args: &Args) -> Result<Option<Vec<Vec<u8>>>, Stop> {
    let file = args.given.select.files_from.as_deref().filter(|file| *file == Path::new("-"));
    file.map(|file| listed_in(args, file)).transpose()
}

fn listed_in(args: &Args, file: &Path) -> Result<Vec<Vec<u8>>, Stop> {
    read_list(file, args.given.select.from0).map_err(|error| {
        Stop::usage(format!("failed to open files-from file {}: {}", file.display(), OsError(&error)))
    })
}

fn named(args: &Args, piped: Option<&[Vec<u8>]>) -> Result<Vec<Named>, Stop> {
    let relative = args.push.server.relative;
    if let Some(file) = &args.given.select.files_from {
        let root = only_root(args)?;
        return match piped {
            Some(names) => Ok(named_below(root, names, relative)),
            None => Ok(named_below(root, &listed_in(args, file)?, relative)),
        };
    }
    let sources = args.sources.iter().map(|source| bytes(source));
    if !relative {
        return Ok(sources.map(Named::plain).collect());
    }
    let named: Result<Vec<_>, _> = sources.map(Named::relative).collect();
    named.map_err(|error| Stop::usage(error.to_string()))
}

/// What names in a list start from.
fn only_root(args: &Args) -> Result<&OsString, Stop> {
    let [root] = args.sources.as_slice() else {
        return Err(Stop::usage("--files-from needs exactly one source directory".to_owned()));
    };
    Source::open(root).map_err(|error| {
        let path = std::path::absolute(root).unwrap_or_else(|_| PathBuf::from(root));
        let text = format!("change_dir \"{}\" failed: {}", path.display(), OsError(&error));
        Stop { code: ExitCode::FILE_SELECT, text }
    })?;
    Ok(root)
}

fn named_below(root: &OsString, names: &[Vec<u8>], relative: bool) -> Vec<Named> {
    let below = |name: &Vec<u8>| {
        let named = Named::below(PathBuf::from(root), name);
        if relative { named } else { plainly(root, &named, name) }
    };
    names.iter().map(below).collect()
}

/// The same below the root, but with nothing of the way there in its name on the wire.
fn plainly(root: &OsString, named: &Named, name: &[u8]) -> Named {
    let mut path = [bytes(root), b"/", &named.name].concat();
    if name.ends_with(b"/") {
        path.push(b'/');
    }
    Named::plain(&path)
}

fn summarize(args: &Args, screen: &mut Screen, report: &Report, taken: Duration, listing: Duration) {
    let numbers = Numbers { human: args.given.output.human };
    let level = screen.told().stats;
    // Daemons that speak 31 tell how much they deleted where it is more than nothing.
    let newer = report.dialect.as_ref().is_some_and(|dialect| dialect.protocol >= Protocol::V31);
    let deletes = newer || args.push.server.deletes() || args.push.server.delete_missing_args;
    if level > 0 {
        screen.line("");
    }
    if level > 1 {
        let (listed, created) = (screen.listed, screen.created);
        screen.line(&stats::full(report, listed, created, deletes, listing, numbers));
    }
    if level > 0 {
        let dry = if args.push.server.dry_run { " (DRY RUN)" } else { "" };
        screen.line(&format!("{}{dry}", stats::summary(report, taken, numbers)));
    }
    screen.mouth.note(stats::logged(report));
}

fn target(args: &Args) -> Result<Target, Stop> {
    let mut target =
        Target::parse(bytes(&args.destination)).map_err(|error| Stop::usage(error.to_string()))?;
    if let Some(port) = args.given.connection.port.filter(|_| !Target::names_port(bytes(&args.destination))) {
        target.port = port;
    }
    if args.sources.iter().any(|source| Target::looks_remote(bytes(source))) {
        return Err(Stop::usage("The source and destination cannot both be remote.".to_owned()));
    }
    if !args.sources.is_empty() && target.module.is_empty() && target.scheme != Scheme::Shell {
        return Err(Stop::usage(format!("{target} names no module")));
    }
    Ok(target)
}

fn password(args: &Args) -> Result<Option<Password>, Stop> {
    let Some(file) = &args.given.connection.password_file else {
        let variable = std::env::var_os("RSYNC_PASSWORD");
        return Ok(variable.map(|password| Password::new(bytes(&password))));
    };
    let unreadable = |error: io::Error| {
        Stop::usage(format!("could not open password file {}: {}", file.display(), OsError(&error)))
    };
    let mut text = Vec::new();
    if file == Path::new("-") {
        io::stdin().lock().read_to_end(&mut text).map_err(unreadable)?;
    } else {
        let mut opened = std::fs::File::open(file).map_err(unreadable)?;
        check_owner(&opened.metadata().map_err(unreadable)?)?;
        opened.read_to_end(&mut text).map_err(unreadable)?;
    }
    Ok(Some(Password::first_line(&text)))
}

/// Peer: rsync's authenticate.c asks for the same.
fn check_owner(meta: &std::fs::Metadata) -> Result<(), Stop> {
    if meta.mode() & 0o006 != 0 {
        return Err(Stop::usage("password file must not be other-accessible".to_owned()));
    }
    if rustix::process::geteuid().is_root() && meta.uid() != 0 {
        return Err(Stop::usage("password file must be owned by root when running as root".to_owned()));
    }
    Ok(())
}

/// Waits for the end of the work, of the user's patience, or of the time that is left.
async fn unless_ended<T>(
    work: impl Future<Output = Result<T, Stop>>,
    left: Option<Duration>,
) -> Result<T, Stop> {
    let limit = async {
        match left {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // Signals are heard before anything is started.
        biased;
        () = interrupted() => Err(Stop { code: ExitCode::SIGNAL, text: "interrupted".to_owned() }),
        () = limit => Err(Stop { code: ExitCode::TIMEOUT, text: "stopping at requested limit".to_owned() }),
        done = work => done,
    }
}

async fn interrupted() {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let Ok([mut one, mut two, mut three]) = kinds
        .map(signal)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .and_then(|signals| <[_; 3]>::try_from(signals).map_err(|_| io::Error::other("three signals")))
    else {
        return std::future::pending().await;
    };
    tokio::select! { _ = one.recv() => {}, _ = two.recv() => {}, _ = three.recv() => {} }
}

/// Says how an incomplete session ended.
fn verdict(code: ExitCode) -> ExitCode {
    if code != ExitCode::OK {
        eprintln!("{}", last_line(code));
    }
    code
}

fn last_line(code: ExitCode) -> String {
    let grade = if code == ExitCode::VANISHED { "warning" } else { "error" };
    format!("rsync {grade}: {} (code {code}) [ebbtide-send {}]", code.meaning(), env!("CARGO_PKG_VERSION"))
}

fn ending(stop: &Stop) -> ExitCode {
    eprintln!("ebbtide-send: {}", stop.text);
    verdict(stop.code)
}
