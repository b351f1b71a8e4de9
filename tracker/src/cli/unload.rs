//! `ebbtide unload`: ends what a daemon leaves to the next one.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Failure;
use crate::daemon;
use crate::daemon::config::{RUNTIME_DIR, STATE_DIR};

/// End marking: drop what the last daemon left in the kernel for the next one.
///
/// The programs that mark are unloaded, and what they marked is forgotten. Nothing is lost by it but time: the next
/// `ebbtide run` compares. A daemon that runs must be stopped first.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Folder for what must survive a restart.
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    state_dir: PathBuf,
    /// The daemon's runtime folder.
    #[arg(long, value_name = "DIR", default_value = RUNTIME_DIR)]
    runtime_dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let unloaded = daemon::unload(&arguments.runtime_dir, &arguments.state_dir).map_err(|e| {
        let advice = e.advice();
        Failure::advise(e, advice)
    })?;
    println!("{}", if unloaded { "unloaded" } else { "nothing was left to unload" });
    Ok(ExitCode::SUCCESS)
}
