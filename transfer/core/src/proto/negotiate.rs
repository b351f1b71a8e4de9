//! Agreeing on checksum and compression (protocol note, section 2.3).
//!
//! The daemon's list arrives without waiting for ours, so we read it and answer one name. Releases differ in whose
//! order counts, but one name leaves no choice.

use super::{Checksum, CompressWish, Compression};
use crate::error::{ErrorKind, Shown};

/// The checksum to use with a daemon that offers these names.
///
/// # Errors
/// Nothing in common.
pub fn checksum(offer: &[u8], wish: Option<Checksum>) -> Result<Checksum, ErrorKind> {
    let offered = |checksum: &Checksum| names(offer).any(|name| Checksum::from_name(name) == Some(*checksum));
    let mut wanted = Checksum::ALL.into_iter().filter(|checksum| wish.is_none_or(|wish| wish == *checksum));
    wanted.find(offered).ok_or_else(|| nothing("checksum", offer, wish.map(Checksum::name)))
}

/// The checksum with a daemon that does not negotiate: MD5.
///
/// # Errors
/// Another one is wanted.
pub fn implied_checksum(wish: Option<Checksum>) -> Result<Checksum, ErrorKind> {
    match wish {
        None | Some(Checksum::Md5) => Ok(Checksum::Md5),
        Some(wish) => Err(nothing("checksum", b"md5", Some(wish.name()))),
    }
}

/// The compression to use with a daemon that offers these names.
///
/// # Errors
/// Nothing in common.
pub fn compression(offer: &[u8], wish: CompressWish) -> Result<Compression, ErrorKind> {
    let offered = |compression: &Compression| names(offer).any(|name| name == compression.name().as_bytes());
    let (wanted, name) = match wish {
        CompressWish::Off => return Ok(Compression::None),
        CompressWish::Best => (None, None),
        CompressWish::Only(wish) => (Some(wish), Some(wish.name())),
    };
    let all = Compression::ALL.into_iter().chain([Compression::None]);
    let mut wanted = all.filter(|compression| wanted.is_none_or(|wish| wish == *compression));
    wanted.find(offered).ok_or_else(|| nothing("compression", offer, name))
}

/// The compression with a daemon that does not negotiate: zlib. Our form of it serves `zlibx` as well.
///
/// # Errors
/// Another one is wanted.
pub fn implied_compression(wish: CompressWish) -> Result<Compression, ErrorKind> {
    match wish {
        CompressWish::Off | CompressWish::Only(Compression::None) => Ok(Compression::None),
        CompressWish::Best | CompressWish::Only(Compression::Zlib | Compression::Zlibx) => {
            Ok(Compression::Zlib)
        }
        CompressWish::Only(wish) => Err(nothing("compression", b"zlib", Some(wish.name()))),
    }
}

fn names(offer: &[u8]) -> impl Iterator<Item = &[u8]> {
    offer.split(|byte| *byte == b' ')
}

fn nothing(what: &'static str, offer: &[u8], wish: Option<&str>) -> ErrorKind {
    let wish = wish.map_or_else(String::new, |wish| format!(", wanted is {wish}"));
    ErrorKind::unsupported(what, format!("daemon offers \"{}\"{wish}", Shown(offer)))
}

/// Longest list in bytes that rsync sends or reads.
pub const MAX_NAMES: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    const SUMS: &[u8] = b"xxh128 xxh3 xxh64 md5 md4 sha1 none";

    #[test]
    fn the_best_of_what_both_know_is_taken() {
        assert_eq!(checksum(SUMS, None), Ok(Checksum::Xxh128));
        assert_eq!(checksum(b"md5 md4", None), Ok(Checksum::Md5));
        assert_eq!(checksum(b"xxhash md5", None), Ok(Checksum::Xxh64));
        assert_eq!(checksum(SUMS, Some(Checksum::Sha1)), Ok(Checksum::Sha1));
        assert_eq!(compression(b"zstd lz4 zlibx zlib none", CompressWish::Best), Ok(Compression::Zstd));
        assert_eq!(compression(b"zlibx lz4 zlib", CompressWish::Best), Ok(Compression::Lz4));
        assert_eq!(compression(b"zlib zlibx", CompressWish::Best), Ok(Compression::Zlibx));
        assert_eq!(implied_compression(CompressWish::Only(Compression::Zlibx)), Ok(Compression::Zlib));
    }

    #[test]
    fn nothing_in_common_names_both_sides() {
        let error = checksum(b"md4", Some(Checksum::Xxh3)).unwrap_err().to_string();
        assert_eq!(error, "no common checksum: daemon offers \"md4\", wanted is xxh3");
        assert!(compression(b"snappy", CompressWish::Best).is_err());
        assert!(implied_compression(CompressWish::Only(Compression::Zstd)).is_err());
        assert!(implied_checksum(Some(Checksum::Xxh64)).is_err());
    }
}
