//! `ebbtide run`: the daemon.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use super::Failure;
use super::mirror::MirrorArguments;
use crate::daemon;

/// Mirror, until a signal asks to end.
///
/// Tracking starts first, at once on trees of any size; then the first sync runs while changes go on being marked; then
/// ebbtide follows. The destinations are stock rsync daemons.
///
/// However it ends, the kernel goes on marking what changes, and the next `ebbtide run` with the same folders takes that
/// over, so that nothing need be compared. To end that, too, run `ebbtide unload`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    mirrors: MirrorArguments,
    /// Drop what the last daemon left, its marks and all: everything is compared anew.
    #[arg(long)]
    forget: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut config = arguments.mirrors.config()?;
    config.forget = arguments.forget;
    super::require_privileges()?;
    let read = || match arguments.mirrors.config() {
        Ok(config) => daemon::check_sources(&config).map_err(|e| e.to_string()),
        Err(failure) => Err(failure.error.to_string()),
    };
    // Without a config file there is nothing to read again, and a hangup is the end.
    let reload: Option<&daemon::Reload<'_>> = if arguments.mirrors.has_file() { Some(&read) } else { None };
    let end = daemon::run(&config, reload).map_err(|e| {
        let advice = e.advice();
        Failure::advise(e, advice)
    })?;
    match end {
        daemon::End::Stop => Ok(ExitCode::SUCCESS),
        daemon::End::Reload => Err(start_anew().into()),
    }
}

/// Runs the program anew in this process, under the same number: returns only if that fails.
fn start_anew() -> std::io::Error {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    // Dropping state was asked for once.
    let arguments = arguments.filter(|argument| argument != "--forget");
    match std::env::current_exe() {
        Ok(program) => Command::new(present(program)).arg0(name).args(arguments).exec(),
        Err(error) => error,
    }
}

/// Where the program's file is now: an upgrade has put another file in the place of the one that runs, and the kernel
/// then adds a word to its path.
fn present(program: PathBuf) -> PathBuf {
    match program.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(path) if !program.exists() => OsStr::from_bytes(path).into(),
        _ => program,
    }
}
