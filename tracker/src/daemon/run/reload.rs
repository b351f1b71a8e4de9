//! HUP: whether the daemon begins anew with the configuration as it is now.

use super::{RunError, sender};
use crate::daemon::config::Config;
use crate::daemon::folders::{outside_of_sources, own};
use crate::sys::signal;

/// Tells whether the configuration can be used that a start would read now; else what is wrong with it.
pub type Reload<'a> = dyn Fn() -> Result<(), String> + 'a;

/// Why the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Stop,
    /// To begin anew in the same process: what it had marked waits for that, and the ledger knows what it has to do.
    Reload,
}

/// Checks what a start would find wrong, as far as that can be told beforehand.
///
/// # Errors
/// A source is not there, or holds a folder of ours, or the sender's user or program is missing.
pub fn check_sources(config: &Config) -> Result<(), RunError> {
    sender::find_user(config.user.as_deref())?;
    sender::find_binary()?;
    outside_of_sources(config)?;
    for mirror in &config.mirrors {
        let opened = std::fs::read_dir(&mirror.source);
        opened.map_err(own("source", &mirror.source, "opening"))?;
    }
    Ok(())
}

/// What a signal asks for: to end, to begin anew with another configuration, or nothing if that one is wrong.
pub(super) fn heed_signal(signal: i32, reload: Option<&Reload<'_>>) -> Option<End> {
    let Some(read) = reload.filter(|_| signal::asks_to_reload(signal)) else {
        tracing::info!(signal, "ending");
        return Some(End::Stop);
    };
    let mut told = vec![sd_notify::NotifyState::Reloading];
    told.extend(sd_notify::NotifyState::monotonic_usec_now());
    let _ = sd_notify::notify(&told);
    match read() {
        Ok(()) => {
            tracing::info!("the configuration is read again: what was marked is taken over");
            Some(End::Reload)
        }
        Err(why) => {
            tracing::error!(why, "the new configuration cannot be used, the old one stays in force");
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            None
        }
    }
}
