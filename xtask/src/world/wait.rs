//! Waiting for a state of the world, with a limit, and ended by Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static ENDING: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Between two looks: well below the millisecond that the tables show.
const PAUSE: Duration = Duration::from_micros(200);

/// From now on a signal makes the next wait fail instead of ending the process at once, so that everything
/// that was started and mounted is taken down on the way out.
pub(crate) fn end_on_signals() -> Result<()> {
    let flag = ENDING.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("catch the ending signals")?;
    }
    Ok(())
}

/// Fails when a signal asked us to end.
pub(crate) fn go_on() -> Result<()> {
    if ENDING.get().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
        bail!("interrupted");
    }
    Ok(())
}

/// Looks again and again until `look` says true. Returns the time since `since`.
pub(crate) fn until(
    what: &str,
    since: Instant,
    limit: Duration,
    mut look: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    loop {
        if look()? {
            return Ok(since.elapsed());
        }
        go_on()?;
        if since.elapsed() > limit {
            bail!("{what}: not so after {} s", limit.as_secs());
        }
        thread::sleep(PAUSE);
    }
}
