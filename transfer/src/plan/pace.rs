//! When a file's content may go: not while it is being written, and not over and over if it is large.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::source::{Meta, Time};

/// Files of this size and more may take long, and rest when they did. In bytes.
pub(crate) const LARGE: u64 = 8 << 20;

/// Which files wait, and how long.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    /// A file that changed less than this ago is still being written.
    pub(crate) settle: Duration,
    /// Facts that have waited long enough for their files to be quiet.
    pub(crate) overdue: RoaringBitmap,
    /// Names of files that took long to send, and until when they rest.
    pub(crate) resting: Arc<HashMap<Box<[u8]>, Instant>>,
}

/// Why a file waits, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It is still being written: until it was quiet, or is overdue.
    Settle(Duration),
    /// It took long to send.
    Rest(Duration),
}

impl Pace {
    /// Whether a regular file waits whose content may have changed.
    pub(crate) fn hold(&self, fact: u32, name: &[u8], meta: &Meta) -> Option<Hold> {
        let rest = self.resting.get(name).map(|until| until.saturating_duration_since(Instant::now()));
        let settling = || self.settling(meta).filter(|_| !self.overdue.contains(fact)).map(Hold::Settle);
        rest.filter(|rest| !rest.is_zero()).map(Hold::Rest).or_else(settling)
    }

    /// How long it takes until the file has been quiet for long enough. That is told by its mtime: ctime moves also when it is
    /// renamed or linked, and a program that sets mtime is through with writing.
    fn settling(&self, meta: &Meta) -> Option<Duration> {
        if self.settle.is_zero() {
            return None;
        }
        let now = clock_gettime(ClockId::Realtime);
        let nanos = |secs: i64, nanos: i64| i128::from(secs) * 1_000_000_000 + i128::from(nanos);
        let Time { secs, nanos: part } = meta.mtime;
        let quiet = nanos(now.tv_sec, now.tv_nsec) - nanos(secs, part.into());
        let quiet = Duration::from_nanos(u64::try_from(quiet).ok()?);
        self.settle.checked_sub(quiet).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(before: Duration) -> Meta {
        let now = clock_gettime(ClockId::Realtime);
        let at = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32) - before;
        let mtime = Time { secs: at.as_secs() as i64, nanos: at.subsec_nanos() };
        Meta { mode: 0o100_644, nlink: 1, mtime, ..Meta::MISSING }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_file_waits_until_it_is_quiet_or_overdue() {
        let mut pace = Pace { settle: HOUR, ..Pace::default() };
        let Some(Hold::Settle(left)) = pace.hold(7, b"f", &changed(HOUR / 2)) else { panic!() };
        assert!(left <= HOUR / 2 && left > HOUR / 4);
        assert_eq!(pace.hold(7, b"f", &changed(HOUR * 2)), None);
        pace.overdue.insert(7);
        assert_eq!(pace.hold(7, b"f", &changed(HOUR / 2)), None);
    }

    #[test]
    fn an_mtime_of_the_future_and_a_window_of_nothing_hold_up_nothing() {
        let mut ahead = changed(Duration::ZERO);
        ahead.mtime.secs += 7200;
        assert_eq!(Pace { settle: HOUR, ..Pace::default() }.hold(1, b"f", &ahead), None);
        assert_eq!(Pace::default().hold(1, b"f", &changed(Duration::ZERO)), None);
    }

    #[test]
    fn a_file_rests_though_it_is_overdue() {
        let resting = HashMap::from([((*b"f").into(), Instant::now() + HOUR)]);
        let pace = Pace { overdue: [1].into_iter().collect(), resting: Arc::new(resting), ..Pace::default() };
        assert!(matches!(pace.hold(1, b"f", &changed(HOUR)), Some(Hold::Rest(_))));
        assert_eq!(pace.hold(1, b"g", &changed(HOUR)), None);
    }
}
