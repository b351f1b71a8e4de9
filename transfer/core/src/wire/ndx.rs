//! File indexes, sent as differences (protocol note, section 4, "ndx").
//!
//! Peer: rsync `io.c`: `write_ndx`, `read_ndx`.

use super::{Reader, WireError};

/// End of a phase.
pub const DONE: i32 = -1;
/// End of incremental file lists.
pub const FLIST_EOF: i32 = -2;
/// Five varints about deletions follow.
pub const DEL_STATS: i32 = -3;

/// Less the number of a directory: its list follows, with incremental recursion.
pub const FLIST_OFFSET: i32 = -101;

/// What both directions remember, each for itself.
#[derive(Clone, Copy, Debug)]
pub struct NdxState {
    positive: i32,
    negative: i32,
}

impl Default for NdxState {
    fn default() -> Self {
        NdxState { positive: -1, negative: 1 }
    }
}

impl NdxState {
    /// Writes an index.
    pub fn put(&mut self, out: &mut Vec<u8>, value: i32) {
        if value == DONE {
            out.push(0);
            return;
        }
        let previous = if value < 0 {
            out.push(0xff);
            &mut self.negative
        } else {
            &mut self.positive
        };
        // Only i32::MIN has no absolute value, and no caller has such an index.
        let value = value.saturating_abs();
        let difference = i64::from(value) - i64::from(*previous);
        *previous = value;
        put_difference(out, value, difference);
    }

    /// Reads an index. After an error the state is as before.
    ///
    /// # Errors
    /// Too few bytes, or an index below 0 that was announced as positive.
    pub fn get(&mut self, reader: &mut Reader<'_>) -> Result<i32, WireError> {
        let first = reader.u8()?;
        match first {
            0 => Ok(DONE),
            0xff => {
                let marker = reader.u8()?;
                let value = get_value(reader, marker, self.negative)?;
                self.negative = value;
                Ok(-value)
            }
            _ => {
                let value = get_value(reader, first, self.positive)?;
                self.positive = value;
                Ok(value)
            }
        }
    }
}

fn put_difference(out: &mut Vec<u8>, value: i32, difference: i64) {
    let [b0, b1, b2, b3] = value.to_le_bytes();
    match difference {
        1..=0xfd => out.push(difference as u8),
        0 | 0xfe..=0x7fff => out.extend_from_slice(&[0xfe, (difference >> 8) as u8, difference as u8]),
        _ => out.extend_from_slice(&[0xfe, 0x80 | b3, b0, b1, b2]),
    }
}

fn get_value(reader: &mut Reader<'_>, marker: u8, previous: i32) -> Result<i32, WireError> {
    let too_large = WireError::Malformed("index is larger than 2147483647");
    if marker != 0xfe {
        return previous.checked_add(marker.into()).ok_or(too_large);
    }
    let [high, low] = reader.array()?;
    if high & 0x80 != 0 {
        let [b1, b2] = reader.array()?;
        return Ok(i32::from_le_bytes([low, b1, b2, high & 0x7f]));
    }
    previous.checked_add(i32::from(high) << 8 | i32::from(low)).ok_or(too_large)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(values: &[i32]) -> Vec<u8> {
        let mut state = NdxState::default();
        let mut out = Vec::new();
        values.iter().for_each(|value| state.put(&mut out, *value));
        out
    }

    #[test]
    fn indexes_are_those_of_the_note() {
        let positive = [1, 1, 1, 0xfe, 0x01, 0x2a, 0xfe, 0x80, 0x2b, 0x01, 0, 0xfe, 0x80, 0x40, 0x9c, 0];
        assert_eq!(bytes_of(&[0, 1, 2, 300, 299, 40000]), positive);
        let negative = [0xff, 0x64, 0xff, 0x01, 0xff, 0xfe, 0x80, 0x02, 0, 0];
        assert_eq!(bytes_of(&[-101, -102, -2]), negative);
        assert_eq!(bytes_of(&[-3]), [0xff, 0x02]);
        assert_eq!(bytes_of(&[DONE, 0, DONE]), [0, 1, 0]);
    }

    proptest! {
        #[test]
        fn every_sequence_comes_back(values: Vec<i32>, shift in 0..31u32) {
            let values: Vec<i32> = values.into_iter().map(|v| (v >> shift).max(-i32::MAX)).collect();
            let bytes = bytes_of(&values);
            let mut state = NdxState::default();
            let mut reader = Reader::new(&bytes);
            for value in values {
                prop_assert_eq!(state.get(&mut reader), Ok(value));
            }
            prop_assert!(reader.rest().is_empty());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let mut state = NdxState::default();
            let mut reader = Reader::new(&bytes);
            while state.get(&mut reader).is_ok() {}
        }
    }
}
