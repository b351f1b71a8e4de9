//! Block sums of the receiver's basis file.

use crate::wire::{Reader, WireError};

/// The four numbers in front of block sums (protocol note, section 7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SumHeader {
    /// Number of blocks; 0 means that there is no basis, and the others are 0 too.
    pub count: u32,
    /// Bytes in each block but the last, at most 131072.
    pub block_len: u32,
    /// Bytes of the strong sum that travel. May be larger than the digest: 3.2 to 3.4.3 announce 16 in a redo with
    /// 8-byte digests, and what is beyond the digest is garbage.
    pub strong_len: u32,
    /// Bytes in the last block, or 0 if it is a whole one; at most `block_len`.
    pub remainder: u32,
}

impl SumHeader {
    /// Reads the header.
    ///
    /// # Errors
    /// Too few bytes, or a number beyond its limit.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = reader.count(MAX_BLOCKS, "count of blocks is negative")?;
        let block_len = reader.count(MAX_BLOCK_LEN, "block length is beyond 131072")?;
        let strong_len = reader.count(MAX_STRONG_LEN, "strong sums are longer than any digest")?;
        let remainder = reader.count(block_len, "last block is longer than the others")?;
        if count == 0 {
            return Ok(SumHeader::default());
        }
        if block_len == 0 || strong_len == 0 {
            return Err(WireError::Malformed("blocks or their sums have no length"));
        }
        Ok(SumHeader { count, block_len, strong_len, remainder })
    }

    /// The header as it travels.
    pub fn to_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let numbers = [self.count, self.block_len, self.strong_len, self.remainder];
        for (place, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Writes the header.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
    }

    /// Bytes from one block's sums to the next one's.
    pub fn stride(&self) -> usize {
        4 + self.strong_len as usize
    }

    /// Length of the basis in bytes.
    pub fn basis_len(&self) -> u64 {
        if self.count == 0 {
            return 0;
        }
        u64::from(self.count - 1) * u64::from(self.block_len) + u64::from(self.last_len())
    }

    /// Length of the last block in bytes.
    pub fn last_len(&self) -> u32 {
        if self.remainder == 0 { self.block_len } else { self.remainder }
    }
}

/// The sums of all blocks of a basis, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockSums {
    header: SumHeader,
    /// `count` times the rolling sum (4 bytes, little-endian) and `strong_len` bytes of strong sum; nothing at all
    /// when there are no sums to use.
    bytes: Vec<u8>,
}

impl BlockSums {
    /// No basis: the whole file is wanted.
    pub fn none() -> Self {
        BlockSums::default()
    }

    /// Sums as they came; `None` unless there are exactly as many bytes as the header says.
    pub fn new(header: SumHeader, bytes: Vec<u8>) -> Option<Self> {
        let expected = u64::from(header.count) * header.stride() as u64;
        (bytes.len() as u64 == expected
            && (header.count == 0 || header.block_len > 0 && header.strong_len > 0))
            .then_some(BlockSums { header, bytes })
    }

    /// A basis whose sums did not travel (`--append`) or are not to be used.
    pub(crate) fn without_sums(header: SumHeader) -> Self {
        BlockSums { header, bytes: Vec::new() }
    }

    /// How the blocks lie.
    pub fn header(&self) -> SumHeader {
        self.header
    }

    /// Whether there is nothing to search for.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Memory held, in bytes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Rolling and strong sum of block `index`, which is below `count`.
    #[inline]
    pub fn block(&self, index: u32) -> (u32, &[u8]) {
        let stride = self.header.stride();
        let at = index as usize * stride;
        let (rolling, strong) = self.bytes[at..at + stride].split_at(4);
        (u32::from_le_bytes([rolling[0], rolling[1], rolling[2], rolling[3]]), strong)
    }

    /// The rolling sums in order.
    pub fn rolling(&self) -> impl Iterator<Item = u32> {
        self.bytes
            .chunks_exact(self.header.stride())
            .map(|sums| u32::from_le_bytes([sums[0], sums[1], sums[2], sums[3]]))
    }
}

/// rsync's own limit of a block's length from protocol 30 on.
const MAX_BLOCK_LEN: u32 = 1 << 17;

/// The longest digest that rsync knows is SHA-512's; a stock generator never says more than 16.
const MAX_STRONG_LEN: u32 = 64;

/// Block references are negative ints.
const MAX_BLOCKS: u32 = i32::MAX as u32;

/// Most bytes of block sums that are kept for one file: those of a basis of about 2 TB. With the table over them they
/// cost less than 300 MiB. The sums of a larger basis are read and thrown away, and the file is sent whole.
pub const MAX_SUM_BYTES: u64 = 128 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(numbers: [i32; 4]) -> Result<SumHeader, WireError> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        SumHeader::read(&mut Reader::new(&bytes))
    }

    #[test]
    fn headers_that_no_generator_sends_are_refused() {
        assert!(header([-1, 700, 2, 0]).is_err());
        assert!(header([1, 131_073, 2, 0]).is_err());
        assert!(header([1, 0, 2, 0]).is_err());
        assert!(header([1, 700, 65, 0]).is_err());
        assert!(header([1, 700, -2, 0]).is_err());
        assert!(header([1, 700, 2, 701]).is_err());
        assert_eq!(header([0, 700, 2, 0]), Ok(SumHeader::default()));
    }

    #[test]
    fn a_header_knows_the_length_of_the_basis() {
        assert_eq!(header([3, 700, 2, 0]).unwrap().basis_len(), 2100);
        assert_eq!(header([3, 700, 2, 1]).unwrap().basis_len(), 1401);
        assert_eq!(header([0, 0, 0, 0]).unwrap().basis_len(), 0);
    }
}
