//! Which facts wait because their files are still being written, and which files rest because they took long to send.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ebbtide_feed::PaceSpec;
use roaring::RoaringBitmap;
use tokio::time::Instant;

use crate::plan::pace::{Hold, Pace};

/// Sendings that took no longer than this are not followed by a rest.
const SHORT: Duration = Duration::from_secs(1);

/// The facts and files of one destination that wait.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    waits: HashMap<u32, Wait>,
    resting: Arc<HashMap<Box<[u8]>, Instant>>,
}

/// A fact that waits for its file.
#[derive(Clone, Copy, Debug)]
struct Wait {
    /// When it was first found to be still written.
    since: Instant,
    /// When it is looked at again; `None` once it may be.
    until: Option<Instant>,
}

impl Settling {
    /// What waits at the next look.
    pub(crate) fn pace(&self, spec: PaceSpec) -> Pace {
        let (now, most) = (Instant::now(), Duration::from_millis(spec.max_delay_ms));
        let overdue = self.waits.iter().filter(|(_, wait)| now.saturating_duration_since(wait.since) >= most);
        Pace {
            settle: Duration::from_millis(spec.settle_ms),
            overdue: overdue.map(|(id, _)| *id).collect(),
            resting: Arc::clone(&self.resting),
        }
    }

    /// A fact waits.
    pub(crate) fn wait(&mut self, id: u32, hold: Hold, spec: PaceSpec) {
        let now = Instant::now();
        let wait = self.waits.entry(id).or_insert(Wait { since: now, until: None });
        wait.until = Some(match hold {
            Hold::Settle(pause) => (now + pause).min(wait.since + Duration::from_millis(spec.max_delay_ms)),
            Hold::Rest(pause) => now + pause,
        });
    }

    /// Until when each fact waits.
    pub(crate) fn waits(&self) -> impl Iterator<Item = Instant> + '_ {
        self.waits.values().filter_map(|wait| wait.until)
    }

    /// The facts that need not wait any more.
    pub(crate) fn over(&mut self) -> RoaringBitmap {
        let waits = self.waits.iter_mut().map(|(id, wait)| (*id, &mut wait.until));
        over(waits)
    }

    /// A fact is done: what comes of it later is something new.
    pub(crate) fn done(&mut self, id: u32) {
        self.waits.remove(&id);
    }

    /// These files were sent, and took so long.
    pub(crate) fn sent(&mut self, files: Vec<(Box<[u8]>, Duration)>, rest: u32) {
        let now = Instant::now();
        let mut long = files.into_iter().filter(|(_, took)| *took > SHORT && rest > 0).peekable();
        if long.peek().is_some() {
            let resting = Arc::make_mut(&mut self.resting);
            resting.retain(|_, until| *until > now);
            resting.extend(long.map(|(name, took)| (name, now + took.saturating_mul(rest))));
        }
    }
}

/// The facts whose time has come; they wait no longer.
pub(super) fn over<'a>(waits: impl Iterator<Item = (u32, &'a mut Option<Instant>)>) -> RoaringBitmap {
    let now = Instant::now();
    let due = waits.filter_map(|(id, until)| until.take_if(|until| *until <= now).map(|_| id));
    due.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: PaceSpec = PaceSpec { settle_ms: 10, max_delay_ms: 1000, rest: 2 };

    fn ids(of: &[u32]) -> RoaringBitmap {
        of.iter().copied().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fact_that_waited_again_and_again_is_overdue_in_the_end() {
        let mut settling = Settling::default();
        for _ in 0..2 {
            settling.wait(1, Hold::Settle(Duration::from_millis(400)), SPEC);
            assert!(settling.pace(SPEC).overdue.is_empty());
            assert!(settling.over().is_empty());
            tokio::time::advance(Duration::from_millis(400)).await;
            assert_eq!(settling.over(), ids(&[1]));
            assert_eq!(settling.waits().next(), None);
        }
        settling.wait(1, Hold::Settle(Duration::from_millis(400)), SPEC);
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(settling.over(), ids(&[1]));
        assert_eq!(settling.pace(SPEC).overdue, ids(&[1]));
        settling.done(1);
        assert!(settling.pace(SPEC).overdue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_file_that_took_long_rests_and_in_proportion() {
        let mut settling = Settling::default();
        let minute = Duration::from_secs(60);
        settling.sent(vec![((*b"a").into(), minute), ((*b"b").into(), SHORT)], 2);
        let resting = settling.pace(SPEC).resting;
        assert_eq!(resting.get(&b"a"[..]), Some(&(Instant::now() + 2 * minute)));
        assert_eq!(resting.len(), 1);
        tokio::time::advance(3 * minute).await;
        settling.sent(vec![((*b"c").into(), minute)], 2);
        assert!(!settling.pace(SPEC).resting.contains_key(&b"a"[..]));
        settling.sent(vec![((*b"d").into(), minute)], 0);
        assert!(!settling.pace(SPEC).resting.contains_key(&b"d"[..]));
    }
}
