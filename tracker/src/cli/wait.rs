//! `ebbtide wait`: the barrier.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::{Failure, status};
use crate::control::{Answer, Client, ClientError, Request};
use crate::daemon::config::RUNTIME_DIR;

/// Wait until everything that changed before this call is acknowledged by every destination.
///
/// Ends with 0 then, and with 1 when the time is over first; what is still pending where is printed in that case.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Seconds to wait at most; fractions are allowed [default: for ever].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// The daemon's runtime folder.
    #[arg(long, value_name = "DIR", default_value = RUNTIME_DIR)]
    runtime_dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let client = Client::connect(&arguments.runtime_dir).map_err(super::unreachable_daemon)?;
    match client.ask(&Request::Wait, arguments.timeout) {
        Ok(Answer::Settled) => Ok(ExitCode::SUCCESS),
        Ok(other) => Err(anyhow::anyhow!("the daemon answered something else: {other:?}").into()),
        Err(ClientError::Timeout) => {
            eprintln!("ebbtide: not everything is acknowledged yet");
            say_pending(&arguments.runtime_dir);
            Ok(ExitCode::FAILURE)
        }
        Err(e) => Err(super::unreachable_daemon(e)),
    }
}

pub(super) fn say_pending(runtime_dir: &Path) {
    match status::ask(runtime_dir) {
        Ok(status) => eprint!("{}", status::pending(&status)),
        Err(failure) => failure.report(),
    }
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "is no number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}
