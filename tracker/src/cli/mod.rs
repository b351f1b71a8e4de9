//! The command line: one file per verb.

mod check;
mod mirror;
mod people;
mod run;
mod status;
mod sync;
mod unload;
mod verify;
mod wait;
mod watch;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::control::ClientError;
use crate::sys;

/// Mirrors changed files of large trees to stock rsync daemons, milliseconds after they change.
#[derive(Debug, Parser)]
#[command(name = "ebbtide", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Arguments),
    Status(status::Arguments),
    Wait(wait::Arguments),
    Pause(people::Pause),
    Resume(people::Resume),
    Release(people::Release),
    Check(check::Arguments),
    Watch(watch::Arguments),
    Unload(unload::Arguments),
    Sync(sync::Arguments),
    Verify(verify::Arguments),
}

/// The command line as clap knows it, for the man pages.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log();
    let done = match arguments.verb {
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Status(arguments) => status::run(&arguments),
        Verb::Wait(arguments) => wait::run(&arguments),
        Verb::Pause(arguments) => people::pause(&arguments),
        Verb::Resume(arguments) => people::resume(&arguments),
        Verb::Release(arguments) => people::release(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Watch(arguments) => watch::run(&arguments),
        Verb::Unload(arguments) => unload::run(&arguments),
        Verb::Sync(arguments) => sync::run(&arguments),
        Verb::Verify(arguments) => verify::run(&arguments),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            failure.report();
            ExitCode::FAILURE
        }
    }
}

/// Why a command failed, and what the user can do about it.
struct Failure {
    error: anyhow::Error,
    advice: Option<String>,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure { error: error.into(), advice: None }
    }
}

impl Failure {
    fn advise(error: impl Into<anyhow::Error>, advice: Option<impl Into<String>>) -> Self {
        Failure { error: error.into(), advice: advice.map(Into::into) }
    }

    /// What failed, each cause on a line of its own.
    fn report(&self) {
        eprintln!("ebbtide: {}", self.error);
        for cause in self.error.chain().skip(1) {
            eprintln!("  because: {cause}");
        }
        if let Some(advice) = &self.advice {
            eprintln!("  try: {advice}");
        }
    }
}

fn unreachable_daemon(e: ClientError) -> Failure {
    let advice = e.advice();
    Failure::advise(e, advice)
}

/// Log lines go to standard error; `RUST_LOG` chooses which, `info` and above by default. Under systemd the journal
/// adds the time itself.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let log = log.with_ansi(std::io::stderr().is_terminal());
    if std::env::var_os("JOURNAL_STREAM").is_some() { log.without_time().init() } else { log.init() }
}

/// Fails with advice when this process lacks a capability that every way of watching needs.
fn require_privileges() -> Result<(), Failure> {
    use rustix::thread::CapabilitySet;
    let have = sys::privilege::effective()?;
    let needed = [
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (CapabilitySet::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
    ];
    let missing: Vec<_> =
        needed.iter().filter(|(cap, _)| !have.contains(*cap)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let error =
        anyhow::anyhow!("this process lacks {}, which watching a file system needs", missing.join(" and "));
    Err(Failure::advise(error, Some("run it as root, outside of an unprivileged container")))
}
