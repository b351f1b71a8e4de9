//! Whether every mark that was ever made is either handled or pending.

use std::mem::offset_of;

use ebbtide_abi::Cpu;

use super::WORD;
use crate::{probe::bitmap::Bitmap, sys};

/// What became of the inodes that were ever marked, each counted once in each epoch. While programs mark, the numbers
/// move, so there are two of the first: it was `seen_before` when the others began to be read, and `seen` after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Marked before the others were read.
    pub seen_before: u64,
    /// Marked.
    pub seen: u64,
    /// Cleared: what they stood for is durable. At least so many, and at most [`Account::unsure`] more.
    pub handled: u64,
    /// Standing in the bitmap.
    pub pending: u64,
    /// Programs that were at work, each of which may have set a bit that it had not counted yet.
    pub at_work: u64,
    /// Marks that were made while a start counted those that were handled before it.
    pub unsure: u64,
}

impl Account {
    /// Whether every mark is either handled or pending.
    pub fn adds_up(&self) -> bool {
        let found = self.handled + self.pending;
        found <= self.seen + self.at_work && self.seen_before <= found + self.unsure
    }
}

/// Marks as they are counted while programs mark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    seen_before: u64,
    seen: u64,
    pending: u64,
    at_work: u64,
}

impl Count {
    /// Counts them.
    pub(super) fn take(bitmap: &Bitmap) -> sys::Result<Self> {
        let sum = |offset: usize| bitmap.sum(offset / WORD);
        let both = |offset: usize| sum(offset) + sum(offset + WORD);
        // A program sets the bit, then counts it, then leaves.
        let seen_before = sum(offset_of!(Cpu, transitions));
        let left = both(offset_of!(Cpu, exit));
        let pending = bitmap.standing()?;
        let seen = sum(offset_of!(Cpu, transitions));
        let entered = both(offset_of!(Cpu, enter));
        Ok(Count { seen_before, seen, pending, at_work: entered.saturating_sub(left) })
    }
}

/// What was handled before this process opened the maps, which may have been in use before: programs mark while it is
/// counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    handled: u64,
    /// How many more it may be.
    unsure: u64,
}

impl Before {
    /// Counts it, some times over if marks come in between.
    pub(super) fn count(bitmap: &Bitmap) -> sys::Result<Self> {
        let mut best = Self::of(Count::take(bitmap)?);
        for _ in 1..TRIES {
            if best.unsure == 0 {
                break;
            }
            best = best.or_surer(Self::of(Count::take(bitmap)?));
        }
        Ok(best)
    }

    fn of(count: Count) -> Self {
        let Count { seen_before, seen, pending, at_work } = count;
        Before { handled: seen_before.saturating_sub(pending), unsure: seen + at_work - seen_before }
    }

    fn or_surer(self, other: Self) -> Self {
        if other.unsure < self.unsure { other } else { self }
    }

    /// What became of all marks, when so many were cleared by this process.
    pub(super) fn account(self, count: Count, cleared: u64) -> Account {
        let Count { seen_before, seen, pending, at_work } = count;
        Account { seen_before, seen, handled: self.handled + cleared, pending, at_work, unsure: self.unsure }
    }
}

/// Under a storm of changes no count stands still.
const TRIES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 marks are handled, 2 stand, and a third is made while it is counted.
    const DURING: Count = Count { seen_before: 12, seen: 13, pending: 3, at_work: 0 };
    const AFTER: Count = Count { seen_before: 13, seen: 13, pending: 0, at_work: 0 };

    #[test]
    fn a_mark_that_is_made_while_a_start_counts_is_not_missing_later() {
        assert!(Before::of(DURING).account(AFTER, 3).adds_up());
        let not_counted_yet = Count { seen: 12, at_work: 1, ..DURING };
        assert!(Before::of(not_counted_yet).account(AFTER, 3).adds_up());
    }

    #[test]
    fn a_mark_that_is_lost_does_not_add_up() {
        let quiet = Count { seen_before: 13, seen: 13, pending: 3, at_work: 0 };
        assert!(Before::of(quiet).account(AFTER, 3).adds_up());
        assert!(!Before::of(quiet).account(AFTER, 2).adds_up());
        assert!(!Before::of(quiet).account(AFTER, 4).adds_up());
        assert!(!Before::of(DURING).account(AFTER, 1).adds_up());
    }

    #[test]
    fn the_count_that_fewest_marks_came_between_is_taken() {
        let quiet = Before::of(Count { seen_before: 13, seen: 13, pending: 3, at_work: 0 });
        assert_eq!(Before::of(DURING).or_surer(quiet).unsure, 0);
        assert_eq!(quiet.or_surer(Before::of(DURING)).unsure, 0);
    }
}
