//! Finds blocks by their rolling sum.

use super::BlockSums;

/// A filter of single bits in front of buckets of block numbers.
///
/// At most offsets of a changed region no block has the rolling sum; the filter says so from the first-level cache.
#[derive(Debug, Default)]
pub(super) struct Table {
    filter: Vec<u64>,
    /// Hash bits that select a bit of the filter, 6 to 32.
    filter_bits: u32,
    /// Hash bits that select a bucket, 0 to 32.
    bucket_bits: u32,
    /// `blocks[starts[n]..starts[n + 1]]` is bucket n.
    starts: Vec<u32>,
    blocks: Vec<u32>,
}

impl Table {
    /// Forgets what it held, keeping the memory, and takes the first `count` blocks of `sums`.
    pub(super) fn fill(&mut self, sums: &BlockSums, count: u32) {
        self.bucket_bits = (count.max(2) - 1).ilog2() + 1;
        self.filter_bits = (self.bucket_bits + FILTER_BITS_PER_BLOCK.ilog2()).clamp(MIN_FILTER_BITS, 32);
        self.filter.clear();
        self.filter.resize(1 << (self.filter_bits - 6), 0);
        self.starts.clear();
        self.starts.resize((1 << self.bucket_bits) + 1, 0);
        self.blocks.clear();
        self.blocks.resize(count as usize, 0);
        self.count_buckets(sums);
        self.place_blocks(sums);
    }

    /// Whether a block with this rolling sum may exist. `false` is certain.
    #[inline]
    pub(super) fn may_hold(&self, rolling: u32) -> bool {
        let bit = hash(rolling) >> (32 - self.filter_bits);
        self.filter[(bit >> 6) as usize] >> (bit & 63) & 1 != 0
    }

    /// The blocks that may have this rolling sum, in order.
    pub(super) fn candidates(&self, rolling: u32) -> &[u32] {
        let bucket = self.bucket(rolling);
        &self.blocks[self.starts[bucket] as usize..self.starts[bucket + 1] as usize]
    }

    fn count_buckets(&mut self, sums: &BlockSums) {
        for rolling in sums.rolling().take(self.blocks.len()) {
            let bit = hash(rolling) >> (32 - self.filter_bits);
            self.filter[(bit >> 6) as usize] |= 1 << (bit & 63);
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

    #[inline]
    fn bucket(&self, rolling: u32) -> usize {
        (u64::from(hash(rolling)) >> (32 - self.bucket_bits)) as usize
    }
}

/// Spreads the rolling sum over the upper bits: its own are far from evenly used.
#[inline]
fn hash(rolling: u32) -> u32 {
    (rolling ^ (rolling >> 15)).wrapping_mul(0x9e37_79b1)
}

/// With 16 bits for each block, at most one offset in 16 passes the filter by chance.
const FILTER_BITS_PER_BLOCK: u32 = 16;

/// 8 KiB of filter cost nothing.
const MIN_FILTER_BITS: u32 = 16;
