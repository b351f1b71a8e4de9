//! What was agreed on with one daemon.

use std::fmt;

/// A protocol version, 30 to 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(u8);

impl Protocol {
    /// rsync 3.0.
    pub const V30: Protocol = Protocol(30);
    /// rsync 3.1 to 3.3.
    pub const V31: Protocol = Protocol(31);
    /// rsync 3.4 and later.
    pub const V32: Protocol = Protocol(32);

    /// The version with this number, if we speak it.
    pub fn new(number: u32) -> Option<Self> {
        (30..=32).contains(&number).then_some(Protocol(number as u8))
    }

    /// The number.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// A checksum algorithm for blocks and files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// XXH3 with 128 bits.
    Xxh128,
    /// XXH3 with 64 bits.
    Xxh3,
    /// XXH64.
    Xxh64,
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
}

impl Checksum {
    /// All of them, the one we like best first.
    pub const ALL: [Checksum; 5] =
        [Checksum::Xxh128, Checksum::Xxh3, Checksum::Xxh64, Checksum::Md5, Checksum::Sha1];

    /// rsync's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Checksum::Xxh128 => "xxh128",
            Checksum::Xxh3 => "xxh3",
            Checksum::Xxh64 => "xxh64",
            Checksum::Md5 => "md5",
            Checksum::Sha1 => "sha1",
        }
    }

    /// The algorithm with this name; `xxhash` is another name of `xxh64`.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        if name == b"xxhash" {
            return Some(Checksum::Xxh64);
        }
        Checksum::ALL.into_iter().find(|c| c.name().as_bytes() == name)
    }

    /// Length of a whole digest in bytes.
    pub fn digest_len(self) -> usize {
        match self {
            Checksum::Xxh3 | Checksum::Xxh64 => 8,
            Checksum::Xxh128 | Checksum::Md5 => 16,
            Checksum::Sha1 => 20,
        }
    }
}

/// A compression of file data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Tokens as they are.
    None,
    /// Deflate. We flush so that no history is needed, which serves `zlib` and `zlibx` alike.
    Zlib,
    /// Deflate, matched blocks not in the window.
    Zlibx,
    /// Zstandard.
    Zstd,
    /// LZ4 blocks.
    Lz4,
}

impl Compression {
    /// All that compress, the one we like best first.
    pub const ALL: [Compression; 4] =
        [Compression::Zstd, Compression::Lz4, Compression::Zlibx, Compression::Zlib];

    /// rsync's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Zlib => "zlib",
            Compression::Zlibx => "zlibx",
            Compression::Zstd => "zstd",
            Compression::Lz4 => "lz4",
        }
    }

    /// The compression with this name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Compression::None].into_iter().chain(Compression::ALL).find(|c| c.name().as_bytes() == name)
    }
}

/// The daemon's compat flags (protocol note, section 2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompatFlags(pub u32);

impl CompatFlags {
    /// The file list comes in chunks; never asked for by us.
    pub const INC_RECURSE: u32 = 1 << 0;
    /// The receiver can set the times of symlinks.
    pub const SYMLINK_TIMES: u32 = 1 << 1;
    /// The end of the file list may carry I/O errors.
    pub const SAFE_FLIST: u32 = 1 << 3;
    /// Items that hard links come with ask for no extended attributes' values only where this is clear.
    pub const AVOID_XATTR_OPTIM: u32 = 1 << 4;
    /// MD5 block sums hash the seed first.
    pub const CHECKSUM_SEED_FIX: u32 = 1 << 5;
    /// A basis in the partial directory is updated in place.
    pub const INPLACE_PARTIAL_DIR: u32 = 1 << 6;
    /// Flags of list entries are varints, and strings are negotiated.
    pub const VARINT_FLIST_FLAGS: u32 = 1 << 7;
    /// Id lists end with the name of id 0.
    pub const ID0_NAMES: u32 = 1 << 8;

    /// Whether `flag` is set.
    pub fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }
}

/// All that was learnt and agreed on when the file list is about to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The protocol spoken: the lower of both sides' versions.
    pub protocol: Protocol,
    /// The version number in the daemon's greeting; may be beyond what we speak.
    pub daemon_protocol: u32,
    /// The auth digests in the daemon's greeting; empty before 3.2.7.
    pub digests: Vec<String>,
    /// The daemon's compat flags.
    pub compat: CompatFlags,
    /// The algorithm of block sums, file sums and `-c` sums.
    pub checksum: Checksum,
    /// The compression of file data.
    pub compression: Compression,
    /// The seed of block sums.
    pub seed: i32,
}

impl Dialect {
    /// Whether a session of this dialect looks the same to a daemon that speaks `other`: all but the seed, and what
    /// the daemon could speak besides.
    pub(crate) fn is_spoken_by(&self, other: &Dialect) -> bool {
        (self.protocol, self.compat, self.checksum, self.compression)
            == (other.protocol, other.compat, other.checksum, other.compression)
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "protocol {}, {}, {}", self.protocol.0, self.checksum.name(), self.compression.name())
    }
}
