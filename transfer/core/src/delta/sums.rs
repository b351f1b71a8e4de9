//! Block sums of the receiver's basis file.

/// The four numbers in front of block sums (protocol note, section 7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SumHeader {
    /// Number of blocks; 0 means that there is no basis, and the others are 0 too.
    pub count: u32,
    /// Bytes in each block but the last, at most 131072.
    pub block_len: u32,
    /// Bytes of the strong sum that travel, at most the digest's length.
    pub strong_len: u32,
    /// Bytes in the last block, or 0 if it is a whole one; less than `block_len`.
    pub remainder: u32,
}

/// The sums of all blocks of a basis, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockSums {
    /// How the blocks lie.
    pub header: SumHeader,
    /// `count` times the rolling sum (4 bytes, little-endian) and `strong_len` bytes of strong sum.
    pub(crate) bytes: Vec<u8>,
}

impl BlockSums {
    /// No basis: the whole file is wanted.
    pub fn none() -> Self {
        BlockSums::default()
    }

    /// Whether there is no basis.
    pub fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// Memory held, in bytes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}
