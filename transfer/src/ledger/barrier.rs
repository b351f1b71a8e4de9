//! Barriers: when is everything that was known at one moment acknowledged?
//!
//! A fact that was pending when the barrier was opened counts as settled once a take that **started later** is done
//! with it. For a fact that was in flight and not recorded again since, the take under way is late enough. Facts
//! recorded after the barrier do not matter, so a file that changes all the time cannot hold a barrier up.

use roaring::RoaringBitmap;

use super::engine::{DestinationId, TakeNumber, TakeResult};

/// What one barrier still waits for at one destination.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wait {
    /// Settled by any take that is done with them.
    pub(crate) any: RoaringBitmap,
    /// Settled by a take with a number above `seen`.
    pub(crate) later: RoaringBitmap,
    /// The latest take when the barrier was opened.
    pub(crate) seen: TakeNumber,
}

impl Wait {
    fn finished(&mut self, take: TakeNumber, result: &TakeResult) {
        let heirs = self.heirs(result);
        let settled = &result.done | &result.delivered;
        self.any -= &settled;
        if take > self.seen {
            self.later -= &settled;
        }
        self.later |= heirs;
    }

    /// What stands in place of facts that are waited for and now count as done.
    fn heirs(&self, result: &TakeResult) -> RoaringBitmap {
        let mut heirs = RoaringBitmap::new();
        for (done, successors) in &result.successors {
            if self.any.contains(*done) || self.later.contains(*done) {
                heirs |= successors;
            }
        }
        heirs
    }

    fn is_over(&self) -> bool {
        self.any.is_empty() && self.later.is_empty()
    }
}

/// The open barriers.
#[derive(Debug, Default)]
pub(crate) struct Barriers {
    open: Vec<(u64, Vec<Wait>)>,
}

impl Barriers {
    /// Opens a barrier that waits for this at each destination.
    pub(crate) fn open(&mut self, token: u64, waits: Vec<Wait>) {
        self.open.push((token, waits));
    }

    /// Forgets a barrier.
    pub(crate) fn cancel(&mut self, token: u64) {
        self.open.retain(|(open, _)| *open != token);
    }

    /// Takes in how a take ended.
    pub(crate) fn finished(&mut self, at: DestinationId, take: TakeNumber, result: &TakeResult) {
        for (_, waits) in &mut self.open {
            waits[at.0 as usize].finished(take, result);
        }
    }

    /// Closes and names the barriers that wait for nothing any more.
    pub(crate) fn reached(&mut self) -> impl Iterator<Item = u64> {
        self.open.extract_if(.., |(_, waits)| waits.iter().all(Wait::is_over)).map(|(token, _)| token)
    }
}
