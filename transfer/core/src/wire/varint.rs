//! Numbers whose length follows their size, and short strings (protocol note, section 4).
//!
//! Peer: rsync `io.c`: `write_varint`, `write_varlong`, `write_vstring`. The number of leading one bits of the first
//! byte is the number of extra bytes; what is left of that byte is the most significant part.

use super::{Reader, WireError};

/// Writes 32 bits in 1 to 5 bytes.
pub fn put_varint(out: &mut Vec<u8>, value: i32) {
    put(out, &value.to_le_bytes(), 1);
}

/// Writes 64 bits in `min` to 9 bytes; `min` is 1 to 8 and known to both sides.
pub fn put_varlong(out: &mut Vec<u8>, value: i64, min: usize) {
    put(out, &value.to_le_bytes(), min);
}

/// Writes a string of at most 32767 bytes; the callers' limits are all below that.
pub fn put_vstring(out: &mut Vec<u8>, text: &[u8]) {
    if text.len() > 0x7f {
        out.push(0x80 | (text.len() >> 8) as u8);
    }
    out.push(text.len() as u8);
    out.extend_from_slice(text);
}

/// Reads what [`put_varint`] wrote.
///
/// # Errors
/// Too few bytes, or a length that no 32 bits have.
pub fn varint(reader: &mut Reader<'_>) -> Result<i32, WireError> {
    let bytes: [u8; 4] = get(reader, 1, "varint is longer than 5 bytes")?;
    Ok(i32::from_le_bytes(bytes))
}

/// Reads what [`put_varlong`] wrote with the same `min`.
///
/// # Errors
/// Too few bytes, or a length that no 64 bits have.
pub fn varlong(reader: &mut Reader<'_>, min: usize) -> Result<i64, WireError> {
    let bytes: [u8; 8] = get(reader, min, "varlong is longer than 9 bytes")?;
    Ok(i64::from_le_bytes(bytes))
}

/// Reads what [`put_vstring`] wrote, at most `limit` bytes of text.
///
/// # Errors
/// Too few bytes, or a text beyond the limit.
pub fn vstring<'a>(reader: &mut Reader<'a>, limit: usize) -> Result<&'a [u8], WireError> {
    let first = usize::from(reader.u8()?);
    let length = if first & 0x80 == 0 { first } else { (first & 0x7f) << 8 | usize::from(reader.u8()?) };
    if length > limit {
        return Err(WireError::Malformed("string is longer than its limit"));
    }
    reader.take(length)
}

/// `value` is little-endian. The first byte written carries the count of extra bytes and, where they fit, the top bits.
fn put(out: &mut Vec<u8>, value: &[u8], min: usize) {
    let mut used = value.len();
    while used > min && value[used - 1] == 0 {
        used -= 1;
    }
    let top = value[used - 1];
    let extra = used - min;
    // With n extra bytes the first byte has n ones and a zero in front of the room for the top bits.
    let room = 0x80_u32 >> extra;
    if u32::from(top) < room {
        out.push(top | ones(extra));
        out.extend_from_slice(&value[..used - 1]);
    } else {
        out.push(ones(extra + 1));
        out.extend_from_slice(&value[..used]);
    }
}

/// A byte with this many leading ones.
fn ones(count: usize) -> u8 {
    !(0xff_u32 >> count) as u8
}

fn get<const N: usize>(
    reader: &mut Reader<'_>,
    min: usize,
    too_long: &'static str,
) -> Result<[u8; N], WireError> {
    let first = reader.u8()?;
    let extra = first.leading_ones() as usize;
    let low = min - 1 + extra;
    if low > N {
        return Err(WireError::Malformed(too_long));
    }
    let mut value = [0; N];
    value[..low].copy_from_slice(reader.take(low)?);
    let top = first & (0xff_u32 >> (extra + 1).min(8)) as u8;
    match value.get_mut(low) {
        Some(byte) => *byte = top,
        None if top == 0 => {}
        None => return Err(WireError::Malformed(too_long)),
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn varint_bytes(value: i32) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        out
    }

    fn varlong_bytes(value: i64, min: usize) -> Vec<u8> {
        let mut out = Vec::new();
        put_varlong(&mut out, value, min);
        out
    }

    #[test]
    fn varints_are_those_of_the_note() {
        let vectors: [(i32, &[u8]); 12] = [
            (0, &[0]),
            (127, &[0x7f]),
            (128, &[0x80, 0x80]),
            (256, &[0x81, 0]),
            (16383, &[0xbf, 0xff]),
            (16384, &[0xc0, 0, 0x40]),
            (65535, &[0xc0, 0xff, 0xff]),
            (2_097_151, &[0xdf, 0xff, 0xff]),
            (2_097_152, &[0xe0, 0, 0, 0x20]),
            (268_435_456, &[0xf0, 0, 0, 0, 0x10]),
            (i32::MAX, &[0xf0, 0xff, 0xff, 0xff, 0x7f]),
            (-1, &[0xf0, 0xff, 0xff, 0xff, 0xff]),
        ];
        for (value, bytes) in vectors {
            assert_eq!(varint_bytes(value), bytes, "{value}");
            assert_eq!(varint(&mut Reader::new(bytes)), Ok(value));
        }
    }

    #[test]
    fn varlongs_are_those_of_the_note() {
        let minus_one = [&[0xf8][..], &[0xff; 8]].concat();
        let vectors: [(usize, i64, &[u8]); 11] = [
            (3, 0, &[0, 0, 0]),
            (3, 13, &[0, 13, 0]),
            (3, 4096, &[0, 0, 0x10]),
            (3, 8_388_607, &[0x7f, 0xff, 0xff]),
            (3, 8_388_608, &[0x80, 0, 0, 0x80]),
            (3, 1 << 30, &[0xc0, 0, 0, 0, 0x40]),
            (3, 1 << 32, &[0xc1, 0, 0, 0, 0]),
            (4, 0, &[0, 0, 0, 0]),
            (4, 1_714_979_289, &[0x66, 0xd9, 0x81, 0x38]),
            (4, 1 << 31, &[0x80, 0, 0, 0, 0x80]),
            (4, -1, &minus_one),
        ];
        for (min, value, bytes) in vectors {
            assert_eq!(varlong_bytes(value, min), bytes, "{value}");
            assert_eq!(varlong(&mut Reader::new(bytes), min), Ok(value));
        }
        assert_eq!(varlong_bytes(1 << 32, 4), [0x81, 0, 0, 0, 0]);
    }

    #[test]
    fn a_string_of_300_bytes_has_a_long_length() {
        let mut out = Vec::new();
        put_vstring(&mut out, &[b'x'; 300]);
        assert_eq!(&out[..2], [0x81, 0x2c]);
        assert_eq!(vstring(&mut Reader::new(&out), 300), Ok(&[b'x'; 300][..]));
        assert!(matches!(vstring(&mut Reader::new(&out), 299), Err(WireError::Malformed(_))));
        assert_eq!(vstring(&mut Reader::new(&out[..299]), 300), Err(WireError::Short));
    }

    #[test]
    fn numbers_longer_than_their_type_are_refused() {
        assert!(matches!(varint(&mut Reader::new(&[0xff; 16])), Err(WireError::Malformed(_))));
        assert!(matches!(varint(&mut Reader::new(&[0xf7; 16])), Err(WireError::Malformed(_))));
        assert!(matches!(varlong(&mut Reader::new(&[0xff; 16]), 3), Err(WireError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn every_varint_comes_back(value: i32) {
            prop_assert_eq!(varint(&mut Reader::new(&varint_bytes(value))), Ok(value));
        }

        #[test]
        fn every_varlong_comes_back(value: i64, shift in 0..64u32, min in 3..=4usize) {
            let value = value >> shift;
            prop_assert_eq!(varlong(&mut Reader::new(&varlong_bytes(value, min)), min), Ok(value));
        }

        #[test]
        fn no_bytes_make_the_decoders_panic(bytes: Vec<u8>) {
            let _ = varint(&mut Reader::new(&bytes));
            let _ = varlong(&mut Reader::new(&bytes), 3);
            let _ = vstring(&mut Reader::new(&bytes), 10);
        }
    }
}
