//! The sender as ebbtide's half: facts come in over the feed, and go out to the destinations.
//!
//! ```text
//!   tracker ──feed (stdin)──► serve ──► ledger ──takes──► destination tasks ──► daemons
//!           ◄── durable, settled ┘ ◄── notices ┘ ◄── finished ──┘
//! ```
//!
//! The feed's end is the process's end: when the tracker closes it, or says so, everything that is known goes to
//! the ledger and the process exits with 0.

mod check;
mod serve;

use std::ffi::OsStr;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

/// The sender's variable for what it logs, in the words of `tracing`.
const LOG: &str = "EBBTIDE_LOG";

/// Does what the tracker asks for if this process was started by it: `--ebbtide-feed` works off the feed on stdin,
/// `--ebbtide-check` reads one [`ebbtide_feed::Start`] from stdin and prints what each destination answers. `None`
/// when the process was started in another way.
pub fn from_arguments() -> Option<ExitCode> {
    let role = std::env::args_os().nth(1)?;
    if role == *OsStr::new("--ebbtide-feed") {
        Some(run(serve::serve()))
    } else if role == *OsStr::new("--ebbtide-check") {
        Some(run(check::check()))
    } else {
        None
    }
}

fn run(what: impl Future<Output = ExitCode>) -> ExitCode {
    let filter = EnvFilter::try_from_env(LOG).unwrap_or_else(|_| EnvFilter::new("info"));
    // Fails only if something in this process logs already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(what);
            // Reads of the source that are under way need not be waited for.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            ExitCode::FAILURE
        }
    }
}
