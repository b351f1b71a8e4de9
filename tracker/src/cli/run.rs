//! `ebbtide run`: the daemon.

use std::process::ExitCode;

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
    daemon::run(&config).map_err(|e| {
        let advice = e.advice();
        Failure::advise(e, advice)
    })?;
    Ok(ExitCode::SUCCESS)
}
