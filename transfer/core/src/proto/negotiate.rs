//! Agreeing on checksum and compression (protocol note, section 2.3).
//!
//! The daemon's list arrives without waiting for ours, so we read it and answer one name. Releases differ in whose
//! order counts, but one name leaves no choice.

use super::{Checksum, CompressWish, Compression};
use crate::error::{ErrorKind, Shown};

/// The checksum to use with a daemon that offers these names: the first of `liked` that it has. None liked means all.
///
/// # Errors
/// Nothing in common.
pub fn checksum(offer: &[u8], liked: &[Checksum]) -> Result<Checksum, ErrorKind> {
    let offered = |checksum: &Checksum| names(offer).any(|name| Checksum::from_name(name) == Some(*checksum));
    let mut wanted = if liked.is_empty() { &Checksum::ALL[..] } else { liked }.iter().copied();
    wanted.find(offered).ok_or_else(|| nothing("checksum", offer, liked.iter().map(|one| one.name())))
}

/// The checksum with a daemon that does not negotiate: MD5.
///
/// # Errors
/// It is not among those that are liked.
pub fn implied_checksum(liked: &[Checksum]) -> Result<Checksum, ErrorKind> {
    checksum(b"md5", liked)
}

/// The compression to use with a daemon that offers these names: the one that is wished for, or the first of `liked` that
/// it has. None liked means all.
///
/// # Errors
/// Nothing in common.
pub fn compression(
    offer: &[u8],
    wish: CompressWish,
    liked: &[Compression],
) -> Result<Compression, ErrorKind> {
    let offered = |compression: &Compression| names(offer).any(|name| name == compression.name().as_bytes());
    let only;
    let liked = match wish {
        CompressWish::Off => return Ok(Compression::None),
        CompressWish::Best => liked,
        CompressWish::Only(wish) => {
            only = [wish];
            &only
        }
    };
    let mut all = Compression::ALL.into_iter().chain([Compression::None]);
    let found = if liked.is_empty() { all.find(offered) } else { liked.iter().copied().find(offered) };
    found.ok_or_else(|| nothing("compression", offer, liked.iter().map(|one| one.name())))
}

/// The compression with a daemon that does not negotiate: zlib. Our form of it serves `zlibx` as well.
///
/// # Errors
/// It is not among those that are liked.
pub fn implied_compression(wish: CompressWish, liked: &[Compression]) -> Result<Compression, ErrorKind> {
    let found = compression(b"zlib zlibx none", wish, liked)?;
    Ok(if found == Compression::None { found } else { Compression::Zlib })
}

fn names(offer: &[u8]) -> impl Iterator<Item = &[u8]> {
    offer.split(|byte| *byte == b' ')
}

fn nothing<'a>(what: &'static str, offer: &[u8], liked: impl Iterator<Item = &'a str>) -> ErrorKind {
    let liked: Vec<&str> = liked.collect();
    let wish = if liked.is_empty() { String::new() } else { format!(", wanted is {}", liked.join(" or ")) };
    ErrorKind::unsupported(what, format!("daemon offers \"{}\"{wish}", Shown(offer)))
}

/// Longest list in bytes that rsync sends or reads.
pub const MAX_NAMES: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    const SUMS: &[u8] = b"xxh128 xxh3 xxh64 md5 md4 sha1 none";
    const ALL: &[u8] = b"zstd lz4 zlibx zlib none";

    #[test]
    fn the_best_of_what_both_know_is_taken() {
        assert_eq!(checksum(SUMS, &[]), Ok(Checksum::Xxh128));
        assert_eq!(checksum(b"md5 md4", &[]), Ok(Checksum::Md5));
        assert_eq!(checksum(b"xxhash md5", &[]), Ok(Checksum::Xxh64));
        assert_eq!(checksum(SUMS, &[Checksum::Sha1]), Ok(Checksum::Sha1));
        assert_eq!(compression(ALL, CompressWish::Best, &[]), Ok(Compression::Zstd));
        assert_eq!(compression(b"zlibx lz4 zlib", CompressWish::Best, &[]), Ok(Compression::Lz4));
        assert_eq!(compression(b"zlib zlibx", CompressWish::Best, &[]), Ok(Compression::Zlibx));
        let zlibx = CompressWish::Only(Compression::Zlibx);
        assert_eq!(implied_compression(zlibx, &[]), Ok(Compression::Zlib));
        assert_eq!(implied_compression(CompressWish::Off, &[]), Ok(Compression::None));
    }

    #[test]
    fn of_those_that_are_liked_the_first_that_both_know_is_taken() {
        assert_eq!(checksum(SUMS, &[Checksum::Md5, Checksum::Xxh3]), Ok(Checksum::Md5));
        assert_eq!(checksum(b"xxh64 xxh3", &[Checksum::Md5, Checksum::Xxh3]), Ok(Checksum::Xxh3));
        let liked = [Compression::Lz4, Compression::Zstd];
        assert_eq!(compression(ALL, CompressWish::Best, &liked), Ok(Compression::Lz4));
        assert_eq!(compression(b"zstd zlib", CompressWish::Best, &liked), Ok(Compression::Zstd));
        let zlib = CompressWish::Only(Compression::Zlib);
        assert_eq!(compression(ALL, zlib, &liked), Ok(Compression::Zlib));
        assert_eq!(compression(ALL, CompressWish::Off, &liked), Ok(Compression::None));
        assert_eq!(implied_compression(CompressWish::Best, &[Compression::Zlibx]), Ok(Compression::Zlib));
        assert_eq!(implied_compression(CompressWish::Best, &[Compression::None]), Ok(Compression::None));
        assert!(implied_compression(CompressWish::Best, &liked).is_err());
    }

    #[test]
    fn nothing_in_common_names_both_sides() {
        let error = checksum(b"md4", &[Checksum::Xxh3, Checksum::Md5]).unwrap_err().to_string();
        assert_eq!(error, "no common checksum: daemon offers \"md4\", wanted is xxh3 or md5");
        assert!(compression(b"snappy", CompressWish::Best, &[]).is_err());
        assert!(implied_compression(CompressWish::Only(Compression::Zstd), &[]).is_err());
        assert!(implied_checksum(&[Checksum::Xxh64]).is_err());
    }
}
