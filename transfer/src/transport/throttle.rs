//! `--bwlimit`: a bucket of bytes that fills at the limit's rate, and that writes drain.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket of bytes.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Bytes per second.
    rate: u64,
    /// Most bytes that it holds: what may be written at once.
    depth: u64,
    /// Bytes in it at `at`.
    level: u64,
    at: Instant,
}

impl Throttle {
    /// A full bucket for a rate of KiB per second, above 0.
    pub(super) fn new(kib_per_s: u32, now: Instant) -> Throttle {
        let rate = u64::from(kib_per_s.max(1)) << 10;
        // Peer: rsync's io.c writes at most an eighth of a second's bytes at once, and 512 at least.
        let depth = (rate / 8).max(512);
        Throttle { rate, depth, level: depth, at: now }
    }

    /// How many bytes may be written now.
    pub(super) fn allowed(&mut self, now: Instant) -> usize {
        let passed = now.saturating_duration_since(self.at);
        let gained = u64::try_from(passed.as_nanos() * u128::from(self.rate) / NANOS).unwrap_or(u64::MAX);
        // The rest of a byte is kept by not moving on before there is a whole one.
        if gained > 0 {
            self.level = self.level.saturating_add(gained).min(self.depth);
            self.at = now;
        }
        usize::try_from(self.level).unwrap_or(usize::MAX)
    }

    /// Takes bytes that were written.
    pub(super) fn take(&mut self, written: usize) {
        self.level = self.level.saturating_sub(written as u64);
    }

    /// When to write again, if not now: not for single bytes, but when half of the bucket is full.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        if self.allowed(now) > 0 {
            return None;
        }
        Some(self.at + Duration::from_nanos((self.depth / 2) * 1_000_000_000 / self.rate))
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_any_stretch_of_time_no_more_than_the_limit_and_one_bucket_passes() {
        let start = Instant::now();
        let mut throttle = Throttle::new(100, start);
        let (mut now, mut written) = (start, 0);
        while now < start + Duration::from_secs(10) {
            let allowed = throttle.allowed(now);
            throttle.take(allowed);
            written += allowed;
            now = throttle.next(now).expect("it was emptied");
        }
        let limit = 100 * 1024 * 10;
        assert!(written <= limit + limit / 80 + 512, "{written}");
        assert!(written >= limit * 95 / 100, "{written}");
    }

    #[test]
    fn a_bucket_holds_an_eighth_of_a_second_however_long_nothing_is_written() {
        let start = Instant::now();
        let mut throttle = Throttle::new(8, start);
        assert_eq!(throttle.allowed(start + Duration::from_secs(3600)), 1024);
        assert_eq!(Throttle::new(1, start).allowed(start), 512);
    }
}
