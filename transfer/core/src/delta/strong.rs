//! Strong sums of blocks and files (protocol note, section 8.3).

use md5::Md5;
use sha1::Sha1;
use sha1::digest::Digest as _;
use twox_hash::{XxHash3_64, XxHash3_128, XxHash64, xxhash3_64, xxhash3_128};

use crate::proto::Checksum;

/// A digest of 8 to 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    bytes: [u8; 20],
    /// 8, 16 or 20.
    len: u8,
}

impl Digest {
    fn new(bytes: &[u8]) -> Self {
        let mut digest = Digest { bytes: [0; 20], len: bytes.len() as u8 };
        digest.bytes[..bytes.len()].copy_from_slice(bytes);
        digest
    }

    /// One that travelled; `None` if no checksum has digests of this length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        matches!(bytes.len(), 8 | 16 | 20).then(|| Digest::new(bytes))
    }

    /// One that differs.
    pub(crate) fn another(mut self) -> Self {
        let bytes = &mut self.bytes[..usize::from(self.len)];
        let zero = bytes.iter().all(|byte| *byte == 0);
        bytes.fill(0);
        if let Some(last) = bytes.last_mut() {
            *last = zero.into();
        }
        self
    }

    /// As it travels.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// How blocks are summed in one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrongSum {
    /// The algorithm.
    pub checksum: Checksum,
    /// The session's seed.
    pub seed: i32,
    /// Whether MD5 hashes the seed before the block, not after it.
    pub seed_first: bool,
}

impl StrongSum {
    /// The sum of a block.
    pub fn block(&self, block: &[u8]) -> Digest {
        // xxhash takes the seed sign-extended.
        let seed64 = i64::from(self.seed) as u64;
        match self.checksum {
            Checksum::Xxh128 => xxh128_bytes(XxHash3_128::oneshot_with_seed(seed64, block)),
            Checksum::Xxh3 => Digest::new(&XxHash3_64::oneshot_with_seed(seed64, block).to_le_bytes()),
            Checksum::Xxh64 => Digest::new(&XxHash64::oneshot(seed64, block).to_le_bytes()),
            Checksum::Md5 if !self.seed_first => {
                Digest::new(&Md5::new().chain_update(block).chain_update(self.seed_bytes()).finalize())
            }
            Checksum::Md5 => {
                Digest::new(&Md5::new().chain_update(self.seed_bytes()).chain_update(block).finalize())
            }
            Checksum::Sha1 => {
                Digest::new(&Sha1::new().chain_update(self.seed_bytes()).chain_update(block).finalize())
            }
        }
    }

    /// Nothing for a seed of 0.
    fn seed_bytes(&self) -> Vec<u8> {
        if self.seed == 0 { Vec::new() } else { self.seed.to_le_bytes().to_vec() }
    }
}

/// The unseeded digest of a whole file, part by part.
#[derive(Clone, Debug)]
pub struct FileDigest(State);

#[derive(Clone)]
enum State {
    Xxh128(Box<xxhash3_128::Hasher>),
    Xxh3(Box<xxhash3_64::Hasher>),
    Xxh64(XxHash64),
    Md5(Md5),
    Sha1(Sha1),
}

impl FileDigest {
    /// The digest of nothing yet.
    pub fn new(checksum: Checksum) -> Self {
        FileDigest(match checksum {
            Checksum::Xxh128 => State::Xxh128(Box::new(xxhash3_128::Hasher::new())),
            Checksum::Xxh3 => State::Xxh3(Box::new(xxhash3_64::Hasher::new())),
            Checksum::Xxh64 => State::Xxh64(XxHash64::with_seed(0)),
            Checksum::Md5 => State::Md5(Md5::new()),
            Checksum::Sha1 => State::Sha1(Sha1::new()),
        })
    }

    /// Appends bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        use std::hash::Hasher as _;
        match &mut self.0 {
            State::Xxh128(state) => state.write(bytes),
            State::Xxh3(state) => state.write(bytes),
            State::Xxh64(state) => state.write(bytes),
            State::Md5(state) => state.update(bytes),
            State::Sha1(state) => state.update(bytes),
        }
    }

    /// The digest of all that was appended.
    pub fn finish(self) -> Digest {
        use std::hash::Hasher as _;
        match self.0 {
            State::Xxh128(state) => xxh128_bytes(state.finish_128()),
            State::Xxh3(state) => Digest::new(&state.finish().to_le_bytes()),
            State::Xxh64(state) => Digest::new(&state.finish().to_le_bytes()),
            State::Md5(state) => Digest::new(&state.finalize()),
            State::Sha1(state) => Digest::new(&state.finalize()),
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

/// The unseeded digest of a file, as entries carry it with `-c` and as it ends an answer.
pub fn file_digest(checksum: Checksum, file: &[u8]) -> Digest {
    match checksum {
        Checksum::Xxh128 => xxh128_bytes(XxHash3_128::oneshot(file)),
        Checksum::Xxh3 => Digest::new(&XxHash3_64::oneshot(file).to_le_bytes()),
        Checksum::Xxh64 => Digest::new(&XxHash64::oneshot(0, file).to_le_bytes()),
        Checksum::Md5 => Digest::new(&Md5::digest(file)),
        Checksum::Sha1 => Digest::new(&Sha1::digest(file)),
    }
}

/// Low 64 bits first, each half little-endian: the same as all 128 bits little-endian.
fn xxh128_bytes(sum: u128) -> Digest {
    Digest::new(&sum.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_sum_is_that_of_the_captured_session() {
        let captured =
            [0xb8, 0x2c, 0x42, 0xcc, 0xef, 0xfa, 0xc4, 0x2f, 0x63, 0x1a, 0xa1, 0x64, 0x33, 0xd7, 0xf7, 0xae];
        assert_eq!(file_digest(Checksum::Xxh128, b"hello, world\n").as_bytes(), captured);
    }

    #[test]
    fn parts_and_the_whole_have_one_digest() {
        let bytes: Vec<u8> = (0..100_000u32).map(|n| (n * 7 + n / 300) as u8).collect();
        for checksum in Checksum::ALL {
            let mut digest = FileDigest::new(checksum);
            bytes.chunks(777).for_each(|part| digest.update(part));
            let digest = digest.finish();
            assert_eq!(digest, file_digest(checksum, &bytes));
            assert_eq!(digest.as_bytes().len(), checksum.digest_len());
            // An unseeded block sum is the file sum.
            let strong = StrongSum { checksum, seed: 0, seed_first: true };
            assert_eq!(strong.block(&bytes), digest);
        }
    }

    #[test]
    fn the_seed_goes_where_the_note_says() {
        let sum = |seed_first| StrongSum { checksum: Checksum::Md5, seed: -5, seed_first }.block(b"block");
        let seed = (-5i32).to_le_bytes();
        assert_eq!(sum(true), file_digest(Checksum::Md5, &[&seed[..], b"block"].concat()));
        assert_eq!(sum(false), file_digest(Checksum::Md5, &[b"block", &seed[..]].concat()));
    }
}
