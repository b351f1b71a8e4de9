//! What was sent lately, so that marks without a change cost nothing.
//!
//! Writeback, access times and our own reading mark inodes although nothing changed. An entry whose attributes,
//! ctime included, are those that were sent has no new ones, provided that its ctime was old enough when we looked:
//! a change within the same tick of the clock leaves ctime as it is.
//!
//! Of its bytes that proves nothing: a store through a mapping moves no time while its page is dirty, and a write moves
//! them when it begins. So a file that may have other bytes is read, and its digest compared with that of what was sent.

use std::time::Duration;

use ebbtide_wire::delta::Digest;
use ebbtide_wire::proto::Checksum;
use lru::LruCache;
use rustix::time::{ClockId, clock_getres, clock_gettime};

use crate::source::{Meta, Time};

/// So many names are remembered for each destination.
pub(crate) const NAMES: usize = 2048;

/// Names and the attributes that the destination has for them.
#[derive(Debug)]
pub(crate) struct Recent {
    sent: LruCache<Box<[u8]>, Known>,
}

/// What the destination has for a name.
#[derive(Clone, Copy, Debug)]
struct Known {
    meta: Meta,
    /// The digest of a file's bytes, if those went over.
    sum: Option<Sum>,
}

/// A digest of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) checksum: Checksum,
    pub(crate) digest: Digest,
}

/// The kernel's coarse clock, from which it takes ctime.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick {
    now: Time,
    length: Duration,
}

impl Tick {
    /// The tick that is running.
    pub(crate) fn now() -> Tick {
        let (now, length) = (clock_gettime(ClockId::RealtimeCoarse), clock_getres(ClockId::RealtimeCoarse));
        Tick { now: time(now), length: Duration::try_from(length).unwrap_or(Duration::from_millis(10)) }
    }

    /// Whether a change made from now on is sure to show in this ctime.
    pub(crate) fn is_past(&self, ctime: Time) -> bool {
        let since_epoch = |time: Time| Some(Duration::new(u64::try_from(time.secs).ok()?, time.nanos));
        match (since_epoch(self.now), since_epoch(ctime)) {
            (Some(now), Some(ctime)) => ctime + 2 * self.length < now,
            _ => false,
        }
    }
}

fn time(spec: rustix::time::Timespec) -> Time {
    // The cast is lossless: nanoseconds of a clock are below 10^9.
    Time { secs: spec.tv_sec, nanos: spec.tv_nsec as u32 }
}

impl Default for Recent {
    fn default() -> Self {
        // Not bounded by itself, because that would take its memory at once.
        Recent { sent: LruCache::unbounded() }
    }
}

impl Recent {
    /// Whether the destination has just this. With `data` its bytes may have changed, too: `read` makes the digest of those
    /// that a file has now.
    pub(crate) fn has(
        &mut self,
        name: &[u8],
        meta: &Meta,
        data: bool,
        read: impl FnOnce(Checksum) -> Option<Digest>,
    ) -> bool {
        let Some(known) = self.sent.get(name).filter(|known| known.meta == *meta) else { return false };
        let is_same = |sum: Sum| read(sum.checksum) == Some(sum.digest);
        !data || !meta.is_file() || known.sum.is_some_and(is_same)
    }

    /// Whether [`Recent::has`] may have to read a file of this name.
    pub(crate) fn may_read(&self, name: &[u8]) -> bool {
        self.sent.peek(name).is_some_and(|known| known.sum.is_some())
    }

    /// The destination has this, which was looked at in `tick`; `sum` is of a file's bytes that it has.
    pub(crate) fn sent(&mut self, name: &[u8], meta: &Meta, tick: Tick, sum: Option<Sum>) {
        let shared = meta.nlink > 1 && !meta.is_dir();
        if tick.is_past(meta.ctime) && !shared {
            self.sent.put(name.into(), Known { meta: *meta, sum });
            if self.sent.len() > NAMES {
                self.sent.pop_lru();
            }
        } else {
            self.sent.pop(name);
        }
    }

    /// Nothing is known of this name any more.
    pub(crate) fn forget(&mut self, name: &[u8]) {
        self.sent.pop(name);
    }

    /// Nothing is known any more: a session failed.
    pub(crate) fn clear(&mut self) {
        self.sent.clear();
    }
}

#[cfg(test)]
mod tests {
    use ebbtide_wire::delta::file_digest;

    use super::*;

    fn at(secs: i64, nanos: u32) -> Meta {
        Meta { mode: 0o100_644, nlink: 1, ctime: Time { secs, nanos }, ..Meta::MISSING }
    }

    fn sum(bytes: &[u8]) -> Option<Sum> {
        Some(Sum { checksum: Checksum::Xxh3, digest: file_digest(Checksum::Xxh3, bytes) })
    }

    impl Recent {
        /// Whether the destination has a file with these bytes.
        fn has_file(&mut self, name: &[u8], meta: &Meta, bytes: &[u8]) -> bool {
            self.has(name, meta, true, |checksum| Some(file_digest(checksum, bytes)))
        }
    }

    const TICK: Tick = Tick { now: Time { secs: 100, nanos: 0 }, length: Duration::from_millis(4) };

    #[test]
    fn an_entry_is_trusted_when_its_ctime_was_two_ticks_old() {
        let mut recent = Recent::default();
        for (ctime, trusted) in
            [(at(99, 991_000_000), true), (at(99, 993_000_000), false), (at(101, 0), false)]
        {
            recent.sent(b"f", &ctime, TICK, sum(b"a"));
            assert_eq!(recent.has_file(b"f", &ctime, b"a"), trusted, "{ctime:?}");
        }
    }

    #[test]
    fn another_ctime_or_inode_is_something_new() {
        let mut recent = Recent::default();
        recent.sent(b"f", &at(90, 0), TICK, sum(b"a"));
        assert!(!recent.has_file(b"f", &at(90, 1), b"a"));
        assert!(!recent.has_file(b"f", &Meta { ino: 5, ..at(90, 0) }, b"a"));
        assert!(!recent.has_file(b"g", &at(90, 0), b"a"));
    }

    #[test]
    fn other_bytes_under_the_same_times_are_something_new() {
        let mut recent = Recent::default();
        recent.sent(b"f", &at(90, 0), TICK, sum(b"a"));
        assert!(recent.has_file(b"f", &at(90, 0), b"a"));
        assert!(!recent.has_file(b"f", &at(90, 0), b"b"));
        assert!(!recent.has(b"f", &at(90, 0), true, |_| None));
    }

    #[test]
    fn a_file_that_passed_for_equal_by_size_and_time_may_still_have_other_data() {
        let mut recent = Recent::default();
        recent.sent(b"f", &at(90, 0), TICK, None);
        assert!(recent.has(b"f", &at(90, 0), false, |_| unreachable!("only its attributes changed")));
        assert!(!recent.has_file(b"f", &at(90, 0), b"a"));
    }

    #[test]
    fn a_file_with_several_names_is_never_trusted() {
        let mut recent = Recent::default();
        let shared = Meta { nlink: 2, ..at(90, 0) };
        recent.sent(b"f", &shared, TICK, sum(b"a"));
        assert!(!recent.has(b"f", &shared, false, |_| None));
    }

    #[test]
    fn the_clock_ticks() {
        assert!(Tick::now().length > Duration::ZERO);
    }
}
