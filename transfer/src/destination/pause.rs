//! How long to wait after a failure: growing, and never in step with others.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A pause that doubles from failure to failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Pause {
    /// Between sessions that break.
    pub(crate) const SESSION: Pause = Pause::new(Duration::from_millis(200), Duration::from_secs(60));

    /// While the daemon refuses us: a person must do something first.
    pub(crate) const REFUSED: Pause = Pause::new(Duration::from_secs(5), Duration::from_secs(120));

    /// Between tries of a name that fails.
    pub(crate) const NAME: Pause = Pause::new(Duration::from_millis(200), Duration::from_secs(60));

    /// Before a file that changed while it was read is read again.
    pub(crate) const CHANGED: Pause = Pause::new(Duration::from_millis(50), Duration::from_secs(2));

    const fn new(first: Duration, most: Duration) -> Self {
        Pause { first, most, failures: 0 }
    }

    /// How many pauses there were.
    pub(crate) fn count(&self) -> u32 {
        self.failures
    }

    /// The shortest pause.
    pub(crate) const fn first(&self) -> Duration {
        self.first
    }

    /// The next pause: up to a quarter shorter or longer than it should be.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.first.saturating_mul(1 << self.failures.min(20)).min(self.most);
        self.failures += 1;
        // 0 to 1023.
        let dice = RandomState::new().hash_one(self.failures) & 1023;
        whole.mul_f64(0.75 + 0.5 * (dice as f64 / 1023.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit() {
        let mut pause = Pause::SESSION;
        let pauses: Vec<_> = std::iter::repeat_with(|| pause.next()).take(40).collect();
        assert!(pauses[0] >= Duration::from_millis(150) && pauses[0] <= Duration::from_millis(250));
        assert!(pauses[3] >= Duration::from_millis(1200));
        assert!(pauses[39] >= Duration::from_secs(45) && pauses[39] <= Duration::from_secs(75));
    }
}
