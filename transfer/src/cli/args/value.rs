//! Values of options: numbers, sizes with units, paths.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

/// A number as its type takes it.
pub(super) fn number<N: FromStr>(value: &[u8]) -> Result<N, String> {
    let parsed = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| "invalid numeric value".to_owned())
}

/// A path; an empty one is refused.
pub(super) fn path(value: &[u8]) -> Result<PathBuf, String> {
    if value.is_empty() {
        return Err("the file name is empty".to_owned());
    }
    Ok(PathBuf::from(OsStr::from_bytes(value)))
}

/// A text that must be UTF-8.
pub(super) fn text(value: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(value).map_err(|_| "not UTF-8".to_owned())?;
    Ok(text.to_owned())
}

/// A number of bytes, such as `1.5m`, `2GiB-1` or `700`. `unit` is the unit of a bare number.
///
/// Peer: rsync's manual page, option `--max-size`: a unit by itself or with `ib` is a multiple of 1024, with `b` of
/// 1000; `+1` or `-1` may follow.
pub(super) fn size(value: &[u8], unit: u8) -> Result<u64, String> {
    let wrong = || "not a size".to_owned();
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let number: f64 =
        std::str::from_utf8(&value[..digits]).ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
    let (factor, rest) = factor(&value[digits..], unit).ok_or_else(wrong)?;
    let bytes = number * factor;
    if bytes >= LIMIT {
        return Err("too large".to_owned());
    }
    let bytes = bytes as u64;
    match rest {
        b"" => Ok(bytes),
        b"+1" if bytes > 0 => Ok(bytes + 1),
        b"-1" if bytes > 0 => Ok(bytes - 1),
        _ => Err(wrong()),
    }
}

/// Sizes are signed on the other side.
const LIMIT: f64 = (1_u64 << 63) as f64;

/// What the unit multiplies by, and what follows it.
fn factor(after: &[u8], unit: u8) -> Option<(f64, &[u8])> {
    let (letter, rest) = match after.first() {
        None | Some(b'+' | b'-') => (unit, after),
        Some(letter) => (*letter, &after[1..]),
    };
    let power = match letter.to_ascii_lowercase() {
        b'b' => 0,
        b'k' => 1,
        b'm' => 2,
        b'g' => 3,
        b't' => 4,
        b'p' => 5,
        _ => return None,
    };
    let lower: Vec<u8> = rest.iter().take(2).map(u8::to_ascii_lowercase).collect();
    let (base, taken) = match lower.as_slice() {
        b"ib" => (1024.0, 2),
        [b'b', ..] => (1000.0, 1),
        _ => (1024.0, 0),
    };
    Some((f64::powi(base, power), &rest[taken..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: &str) -> Option<u64> {
        size(value.as_bytes(), b'b').ok()
    }

    #[test]
    fn sizes_have_the_units_of_the_manual() {
        assert_eq!(bytes("700"), Some(700));
        assert_eq!(bytes("1.5mb-1"), Some(1_499_999));
        assert_eq!(bytes("2g+1"), Some(2_147_483_649));
        assert_eq!(bytes("1k"), Some(1024));
        assert_eq!(bytes("1KiB"), Some(1024));
        assert_eq!(bytes("1kb"), Some(1000));
        assert_eq!(bytes("12B"), Some(12));
        assert_eq!(bytes("0"), Some(0));
        assert_eq!(size(b"1.5", b'K'), Ok(1536));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for wrong in ["", "x", "1x", "1kx", "-1", "1k+2", "1..2", "9999999p", "1kib1"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
