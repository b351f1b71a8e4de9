//! Facts that were acknowledged a moment ago.
//!
//! When a machine loses its power, its file systems lose the newest changes, and their times of change with them: a file
//! can be older again than what a destination was sent, and nothing in the source tells. So a fact stays in the store for a
//! while after every destination has acknowledged it. If the next sender finds itself in another boot, it has these looked
//! at once more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use roaring::RoaringBitmap;

/// Ids that no destination holds any more and that are kept for a while.
#[derive(Debug, Default)]
pub(crate) struct Lately {
    /// Oldest first.
    portions: VecDeque<(Instant, RoaringBitmap)>,
}

impl Lately {
    /// From what an earlier sender in this boot kept.
    pub(crate) fn new(kept: RoaringBitmap, now: Instant) -> Self {
        let mut lately = Lately::default();
        lately.keep(kept, now);
        lately
    }

    /// Keeps these from now on, also those that are kept already: what they stand for has changed since.
    pub(crate) fn keep(&mut self, ids: RoaringBitmap, now: Instant) {
        if ids.is_empty() {
            return;
        }
        self.portions.iter_mut().for_each(|(_, portion)| *portion -= &ids);
        match self.portions.back_mut().filter(|(since, _)| now.duration_since(*since) < PORTION) {
            Some((_, portion)) => *portion |= ids,
            None => self.portions.push_back((now, ids)),
        }
    }

    /// Takes out what was kept long enough.
    pub(crate) fn over(&mut self, now: Instant) -> RoaringBitmap {
        let mut over = RoaringBitmap::new();
        while self.portions.front().is_some_and(|(since, _)| is_over(*since, now)) {
            over |= self.portions.pop_front().map(|(_, ids)| ids).unwrap_or_default();
        }
        over
    }

    /// Takes out everything if it is more than a store should be burdened with.
    pub(crate) fn too_many(&mut self) -> Option<RoaringBitmap> {
        let count: u64 = self.portions.iter().map(|(_, ids)| ids.len()).sum();
        let all = |portions: VecDeque<(Instant, RoaringBitmap)>| portions.into_iter().map(|(_, ids)| ids);
        (count > MOST)
            .then(|| all(std::mem::take(&mut self.portions)).fold(RoaringBitmap::new(), |all, ids| all | ids))
    }

    /// How long until something was kept long enough; `None` if nothing is kept.
    pub(crate) fn patience(&self, now: Instant) -> Option<Duration> {
        let (since, _) = self.portions.front()?;
        Some((*since + KEEP + PORTION).saturating_duration_since(now))
    }
}

fn is_over(since: Instant, now: Instant) -> bool {
    now.duration_since(since) >= KEEP + PORTION
}

/// Linux: a page is written back when it was dirty for 30 s (`dirty_expire_centisecs`), which is looked at every 5 s; ext4
/// commits its journal every 5 s, XFS and btrfs theirs every 30 s. The rest is for disks that are busy.
const KEEP: Duration = Duration::from_secs(90);

/// Ids are forgotten together that came within so long: one commit for all.
const PORTION: Duration = Duration::from_secs(10);

/// The most ids that are kept.
const MOST: u64 = 500_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(of: &[u32]) -> RoaringBitmap {
        of.iter().copied().collect()
    }

    #[test]
    fn ids_are_kept_for_a_while_and_forgotten_together() {
        let start = Instant::now();
        let mut lately = Lately::new(ids(&[1]), start);
        lately.keep(ids(&[2]), start + PORTION / 2);
        lately.keep(ids(&[3]), start + PORTION);
        assert_eq!(lately.patience(start), Some(KEEP + PORTION));
        assert!(lately.over(start + KEEP).is_empty());
        assert_eq!(lately.over(start + KEEP + PORTION), ids(&[1, 2]));
        assert_eq!(lately.over(start + 2 * KEEP), ids(&[3]));
        assert_eq!(lately.patience(start), None);
    }

    #[test]
    fn what_is_acknowledged_once_more_is_kept_as_long_again() {
        let start = Instant::now();
        let mut lately = Lately::new(ids(&[1, 2]), start);
        lately.keep(ids(&[1]), start + KEEP);
        assert_eq!(lately.over(start + KEEP + PORTION), ids(&[2]));
        assert_eq!(lately.over(start + 2 * KEEP + PORTION), ids(&[1]));
    }

    #[test]
    fn too_many_are_not_kept() {
        let now = Instant::now();
        let mut lately = Lately::default();
        lately.keep((0..10).collect(), now);
        assert_eq!(lately.too_many(), None);
        lately.keep((0..=MOST as u32).collect(), now);
        assert_eq!(lately.too_many().map(|ids| ids.len()), Some(MOST + 1));
        assert!(lately.over(now + 2 * KEEP).is_empty());
    }
}
