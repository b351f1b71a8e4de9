//! `ebbtide sync`: a comparison that was asked for.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::Failure;
use super::wait::{say_pending, seconds};
use crate::control::{Answer, Client, ClientError, Request, SyncWhat};
use crate::daemon::config::RUNTIME_DIR;

/// Ask the daemon to look for changes that it may have missed.
///
/// Without options it looks through the sources for what has changed since the last drain, by times of change, which
/// takes a moment. Nothing is ever missed without being told in `ebbtide status`; this is for those who want to be sure, and for
/// destinations that somebody else changed.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Compare everything with every destination, by size and time.
    #[arg(long, conflicts_with = "path")]
    full: bool,
    /// Compare everything at and below this path, which is absolute or relative to a source.
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// Wait until every destination has acknowledged all of it.
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most; fractions are allowed [default: for ever].
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "wait")]
    timeout: Option<Duration>,
    /// The daemon's runtime folder.
    #[arg(long, value_name = "DIR", default_value = RUNTIME_DIR)]
    runtime_dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let what = match &arguments.path {
        Some(path) => SyncWhat::Below(real(path).as_os_str().as_bytes().to_vec()),
        None if arguments.full => SyncWhat::Everything,
        None => SyncWhat::Changed,
    };
    let client = Client::connect(&arguments.runtime_dir).map_err(super::unreachable_daemon)?;
    let timeout = if arguments.wait { arguments.timeout } else { Some(PATIENCE) };
    match client.ask(&Request::Sync { what, wait: arguments.wait }, timeout) {
        Ok(Answer::Settled | Answer::Begun) => Ok(ExitCode::SUCCESS),
        Ok(Answer::Error { message }) => Err(anyhow::anyhow!(message).into()),
        Ok(other) => Err(anyhow::anyhow!("the daemon answered something else: {other:?}").into()),
        Err(ClientError::Timeout) if arguments.wait => {
            eprintln!("ebbtide: not everything is acknowledged yet");
            say_pending(&arguments.runtime_dir);
            Ok(ExitCode::FAILURE)
        }
        Err(e) => Err(super::unreachable_daemon(e)),
    }
}

/// The daemon knows its sources without symlinks. The last component may be one itself, or be gone.
fn real(path: &Path) -> PathBuf {
    match (path.is_absolute(), path.parent(), path.file_name()) {
        (true, Some(parent), Some(name)) => {
            parent.canonicalize().map_or_else(|_| path.to_owned(), |parent| parent.join(name))
        }
        _ => path.to_owned(),
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
