//! Finds blocks by their rolling sum.

use super::{BlockSums, Rolling};

/// A filter in front of buckets of block numbers.
///
/// At most offsets of a changed region no block has the rolling sum. The filter says so with a single look: each
/// sum sets two bits of one word.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// A power of two words.
    filter: Vec<u64>,
    /// Hash bits that select a bucket, 1 to 32.
    bucket_bits: u32,
    /// `blocks[starts[n]..starts[n + 1]]` is bucket n.
    starts: Vec<u32>,
    blocks: Vec<u32>,
}

impl Table {
    /// Forgets what it held, keeping the memory, and takes the first `count` blocks of `sums`.
    pub(super) fn fill(&mut self, sums: &BlockSums, count: u32) {
        if count == 0 {
            // Nobody asks a table of nothing.
            self.blocks.clear();
            self.filter.clear();
            return;
        }
        // Two blocks in a bucket on average: large tables are mostly memory that is rarely touched.
        self.bucket_bits = count.max(2).ilog2();
        let words = (count.next_power_of_two() / BLOCKS_PER_WORD).clamp(MIN_WORDS, MAX_WORDS);
        self.filter.clear();
        self.filter.resize(words as usize, 0);
        self.starts.clear();
        self.starts.resize((1 << self.bucket_bits) + 1, 0);
        self.blocks.clear();
        self.blocks.resize(count as usize, 0);
        self.count_buckets(sums);
        self.place_blocks(sums);
    }

    /// Gives back the memory of a large table; a small one is kept for the next file.
    pub(super) fn release(&mut self) {
        if self.blocks.capacity() > MAX_KEPT {
            *self = Table::default();
        }
    }

    /// Whether a block with this rolling sum may exist. `false` is certain.
    #[inline]
    pub(super) fn may_hold(&self, rolling: u32) -> bool {
        let hash = hash(rolling);
        let word = self.filter.get(word(hash, self.filter.len())).copied().unwrap_or(0);
        word >> first_bit(hash) & word >> second_bit(hash) & 1 != 0
    }

    /// Slides a window of `length` bytes until a block may have its sum; returns by how much, or `None` when none
    /// has. `leaving` and `entering` are the bytes at both ends. Not inlined, so that all it needs is in registers.
    #[inline(never)]
    pub(super) fn slide(
        &self,
        sum: &mut Rolling,
        length: u32,
        leaving: &[u8],
        entering: &[u8],
    ) -> Option<usize> {
        let mut here = *sum;
        let mut bytes = leaving.iter().zip(entering);
        let left = bytes.len();
        let found = bytes.any(|(leaves, enters)| {
            here.slide(*leaves, *enters, length);
            self.may_hold(here.value())
        });
        *sum = here;
        found.then(|| left - bytes.len())
    }

    /// The blocks that may have this rolling sum, in order.
    pub(super) fn candidates(&self, rolling: u32) -> &[u32] {
        let bucket = self.bucket(rolling);
        &self.blocks[self.starts[bucket] as usize..self.starts[bucket + 1] as usize]
    }

    fn count_buckets(&mut self, sums: &BlockSums) {
        for rolling in sums.rolling().take(self.blocks.len()) {
            let hash = hash(rolling);
            let words = self.filter.len();
            self.filter[word(hash, words)] |= 1 << first_bit(hash) | 1 << second_bit(hash);
            let bucket = self.bucket(rolling);
            self.starts[bucket] += 1;
        }
        // From counts to the end of each bucket; placing from the back then turns ends into starts.
        let mut end = 0;
        for start in &mut self.starts {
            end += *start;
            *start = end;
        }
    }

    fn place_blocks(&mut self, sums: &BlockSums) {
        for block in (0..self.blocks.len() as u32).rev() {
            let bucket = self.bucket(sums.block(block).0);
            self.starts[bucket] -= 1;
            let at = self.starts[bucket] as usize;
            self.blocks[at] = block;
        }
    }

    fn bucket(&self, rolling: u32) -> usize {
        // Lossless: at most 32 bits are left.
        (hash(rolling) >> (64 - self.bucket_bits)) as usize
    }
}

/// Spreads the rolling sum over the upper 32 bits: its own are far from evenly used.
#[inline]
fn hash(rolling: u32) -> u64 {
    u64::from(rolling).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline]
fn word(hash: u64, words: usize) -> usize {
    (hash >> 32) as usize & words.wrapping_sub(1)
}

#[inline]
fn first_bit(hash: u64) -> u32 {
    (hash >> 58) as u32
}

#[inline]
fn second_bit(hash: u64) -> u32 {
    (hash >> 52) as u32 & 63
}

/// Blocks of a table that is kept: those of a file of 4 GB, in less than 1 MiB.
const MAX_KEPT: usize = 1 << 16;

/// With 16 bits for each block, about one offset in 50 passes by chance.
const BLOCKS_PER_WORD: u32 = 4;

/// 4 KiB of filter cost nothing.
const MIN_WORDS: u32 = 512;

/// The bits of the hash that select a word do not reach those that select a bit.
const MAX_WORDS: u32 = 1 << 20;
