//! Which chunks to take away from inodes that have been quiet, when the slab runs short.
//!
//! A chunk is *retired* (its directory entry removed, then its head flagged) between two flips. Programs that had looked it up before may
//! still set bits in it, all of them in the epoch that runs; so it stays readable, and goes back to the programs
//! only when the flip that ends that epoch has been drained and cleared. Meanwhile programs may take a second chunk
//! for the same inodes: readers join both.

use ebbtide_abi::slot_of;

/// What user space knows about the chunks. A chunk is known once a drain has seen its bits.
#[derive(Debug)]
pub(crate) struct Recycler {
    chunks: Vec<State>,
    /// Chunks in `State::Used`.
    used: usize,
    retired: Vec<Retired>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Never taken, given back, or taken since the last drain.
    Unknown,
    Used(Use),
    Retired,
}

/// Whose bits a chunk holds, and the last epoch that had any.
#[derive(Clone, Copy, Debug)]
struct Use {
    key: u64,
    last: u64,
}

/// A chunk on its way back to the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retired {
    /// Its index.
    pub(crate) index: u32,
    /// Whose bits it held: the directory entry to remove.
    pub(crate) key: u64,
    /// The epoch that ran when it was retired.
    epoch: u64,
}

impl Recycler {
    pub(crate) fn new(chunks: u32) -> Self {
        Recycler { chunks: vec![State::Unknown; chunks as usize], used: 0, retired: Vec::new() }
    }

    /// A chunk had bits in an epoch that ended.
    pub(crate) fn saw(&mut self, index: u32, key: u64, epoch: u64) {
        let Some(state) = self.chunks.get_mut(index as usize) else { return };
        match state {
            State::Retired => return,
            State::Unknown => self.used += 1,
            State::Used(_) => {}
        }
        *state = State::Used(Use { key, last: epoch });
    }

    /// A chunk was retired in the epoch that runs or in one before, by somebody who did not give it back.
    pub(crate) fn was_retired(&mut self, index: u32, key: u64, running: u64) {
        self.chunks[index as usize] = State::Retired;
        self.retired.push(Retired { index, key, epoch: running });
    }

    /// Takes the chunks that no program can hold any more, now that `ended` has been drained and cleared.
    pub(crate) fn take_free(&mut self, ended: u64) -> Vec<Retired> {
        let free: Vec<_> = self.retired.extract_if(.., |retired| retired.epoch <= ended).collect();
        free.iter().for_each(|retired| self.chunks[retired.index as usize] = State::Unknown);
        free
    }

    /// Picks chunks to retire in the epoch that runs: those of slots that are `dropped`, and when more than three
    /// quarters of the slab are in use the longest unused, down to half. `is_dirty` ones are left alone.
    pub(crate) fn retire(
        &mut self,
        running: u64,
        is_dirty: impl Fn(u32) -> bool,
        dropped: impl Fn(u32) -> bool,
    ) -> Vec<Retired> {
        let before = self.retired.len();
        let mut candidates = self.clean(is_dirty);
        candidates.retain(|(index, used)| {
            let retire = dropped(slot_of(used.key));
            if retire {
                self.retire_one(*index, used.key, running);
            }
            !retire
        });
        if self.used > self.chunks.len() / 4 * 3 {
            candidates.sort_unstable_by_key(|(_, used)| used.last);
            let excess = self.used - self.chunks.len() / 2;
            candidates
                .iter()
                .take(excess)
                .for_each(|(index, used)| self.retire_one(*index, used.key, running));
        }
        self.retired[before..].to_vec()
    }

    /// Whether chunks of this slot are in use or on their way back.
    pub(crate) fn holds(&self, slot: u32) -> bool {
        self.retired.iter().any(|retired| slot_of(retired.key) == slot)
            || self.used().any(|(_, used)| slot_of(used.key) == slot)
    }

    fn clean(&self, is_dirty: impl Fn(u32) -> bool) -> Vec<(u32, Use)> {
        self.used().filter(|(index, _)| !is_dirty(*index)).collect()
    }

    fn used(&self) -> impl Iterator<Item = (u32, Use)> {
        (0_u32..).zip(&self.chunks).filter_map(|(index, state)| match state {
            State::Used(used) => Some((index, *used)),
            State::Unknown | State::Retired => None,
        })
    }

    fn retire_one(&mut self, index: u32, key: u64, epoch: u64) {
        self.chunks[index as usize] = State::Retired;
        self.used -= 1;
        self.retired.push(Retired { index, key, epoch });
    }
}

#[cfg(test)]
mod tests {
    use ebbtide_abi::{CHUNK_SHIFT, chunk_key};

    use super::*;

    fn key(slot: u32, chunk: u64) -> u64 {
        chunk_key(slot, chunk << CHUNK_SHIFT)
    }

    fn indices(retired: &[Retired]) -> Vec<u32> {
        retired.iter().map(|retired| retired.index).collect()
    }

    fn full(chunks: u32) -> Recycler {
        let mut recycler = Recycler::new(chunks);
        (0..chunks).for_each(|index| recycler.saw(index, key(0, u64::from(index)), u64::from(index)));
        recycler
    }

    #[test]
    fn nothing_is_retired_while_a_quarter_of_the_slab_is_unused() {
        let mut recycler = Recycler::new(8);
        (0..6).for_each(|index| recycler.saw(index, key(0, 1), 0));
        assert_eq!(recycler.retire(9, |_| false, |_| false), []);
    }

    #[test]
    fn the_longest_unused_chunks_go_first_and_half_of_the_slab_stays() {
        let mut recycler = full(8);
        recycler.saw(0, key(0, 0), 100);
        let retired = recycler.retire(101, |_| false, |_| false);
        assert_eq!(indices(&retired), [1, 2, 3, 4]);
    }

    #[test]
    fn a_chunk_with_bits_is_never_retired() {
        let mut recycler = full(8);
        let retired = recycler.retire(101, |index| index != 5, |_| false);
        assert_eq!(indices(&retired), [5]);
    }

    #[test]
    fn a_retired_chunk_comes_back_only_after_the_epoch_it_was_retired_in_has_ended() {
        let mut recycler = full(8);
        let retired = recycler.retire(20, |_| false, |_| false);
        assert_eq!(recycler.take_free(19), []);
        assert_eq!(recycler.take_free(20), retired);
        assert_eq!(recycler.take_free(21), []);
    }

    #[test]
    fn bits_set_late_in_a_retired_chunk_do_not_bring_it_back_into_use() {
        let mut recycler = full(8);
        let retired = recycler.retire(20, |_| false, |_| false);
        recycler.saw(retired[0].index, retired[0].key, 20);
        assert_eq!(indices(&recycler.take_free(20)).len(), retired.len());
        assert!(!recycler.used().any(|(_, used)| used.key == retired[0].key));
    }

    #[test]
    fn all_clean_chunks_of_a_dropped_slot_are_retired() {
        let mut recycler = Recycler::new(8);
        recycler.saw(2, key(1, 7), 0);
        recycler.saw(3, key(2, 7), 0);
        assert_eq!(indices(&recycler.retire(1, |_| false, |slot| slot == 1)), [2]);
        assert!(recycler.holds(1));
        recycler.take_free(1);
        assert!(!recycler.holds(1));
    }
}
