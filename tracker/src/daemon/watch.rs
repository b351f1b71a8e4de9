//! Facts as they happen, without a sender.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebbtide_feed::{Fact, ToSender};

use super::beginning::Beginning;
use super::core::{Core, FIRST_FREE, Out};
use super::stamp::Stamps;
use super::tracker::{TrackError, Tracker, Wish};
use crate::engine::Event;
use crate::probe::{Plan, ProbeChoice};
use crate::sys::SysError;
use crate::sys::signal::EndSignals;

/// Why watching ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// It could not start.
    #[error(transparent)]
    Track(#[from] TrackError),
    /// A system call failed.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// The facts could not be written.
    #[error("writing the facts failed")]
    Output(#[source] std::io::Error),
}

impl WatchError {
    /// What the user can do about it, where that is known.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            WatchError::Track(e) => e.advice(),
            _ => None,
        }
    }
}

/// Gives each fact below `dir` to `tell` until a signal asks to end. `started` is called once, when nothing goes unseen
/// any more.
///
/// # Errors
/// The directory cannot be watched, or `tell` failed.
pub fn watch(
    dir: &Path,
    choice: ProbeChoice,
    settle: Duration,
    started: impl FnOnce(&Plan),
    mut tell: impl FnMut(&[Fact]) -> std::io::Result<()>,
) -> Result<(), WatchError> {
    let signals = EndSignals::block()?;
    let tracker = Tracker::start(&[Wish { path: PathBuf::from(dir), extended: true }], choice, None)?;
    let mut core = Core::new(tracker, &[Beginning::TakenOver], Stamps::none(1), settle)?;
    core.poller.add(signals.as_fd(), FIRST_FREE)?;
    started(core.tracker.plan_of(0));
    core.apply(Event::SenderReady);
    loop {
        while let Some(out) = core.outbox.pop_front() {
            let Out::Send(ToSender::Batch(batch)) = out else { continue };
            tell(&batch.facts).map_err(WatchError::Output)?;
            if batch.last {
                core.apply(Event::Durable(batch.seq));
            }
        }
        if core.turn()?.contains(&FIRST_FREE) && signals.take().is_some() {
            return Ok(());
        }
    }
}
