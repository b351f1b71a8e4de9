//! `ebbtide run`: the daemon.

use std::process::ExitCode;

use super::Failure;
use super::mirror::MirrorArguments;
use crate::daemon;

/// Mirror, until a signal asks to end.
///
/// Tracking starts first, at once on trees of any size; then the first sync runs while changes go on being marked; then
/// ebbtide follows. The destinations are stock rsync daemons.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    mirrors: MirrorArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = arguments.mirrors.config()?;
    super::require_privileges()?;
    daemon::run(&config).map_err(|e| {
        let advice = e.advice();
        Failure::advise(e, advice)
    })?;
    Ok(ExitCode::SUCCESS)
}
