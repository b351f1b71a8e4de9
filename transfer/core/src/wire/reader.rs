//! A reader over bytes that may not all have arrived yet.

/// Why a value could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The bytes end before the value does; try again when more have arrived.
    Short,
    /// The bytes are no such value, whatever follows; the text says what is wrong.
    Malformed(&'static str),
}

/// Reads values from the front of a slice. A failed read leaves it at an unspecified place: start anew then.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the first byte of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let taken = self.rest().get(..n).ok_or(WireError::Short)?;
        self.at += n;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let array = self.rest().first_chunk::<N>().ok_or(WireError::Short)?;
        self.at += N;
        Ok(*array)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A shortint: 2 bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    /// An int: 4 bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_le_bytes)
    }

    /// An int that counts something: 0 to `limit`.
    ///
    /// # Errors
    /// [`WireError::Short`], or [`WireError::Malformed`] with `what` when it is negative or beyond the limit.
    pub fn count(&mut self, limit: u32, what: &'static str) -> Result<u32, WireError> {
        let value = self.i32()?;
        u32::try_from(value).ok().filter(|n| *n <= limit).ok_or(WireError::Malformed(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_slice_is_short_and_a_bad_count_is_malformed() {
        assert_eq!(Reader::new(&[1, 2, 3]).i32(), Err(WireError::Short));
        assert_eq!(Reader::new(&[1, 0, 0, 0]).count(1, "x"), Ok(1));
        assert_eq!(Reader::new(&[2, 0, 0, 0]).count(1, "x"), Err(WireError::Malformed("x")));
        assert_eq!(Reader::new(&[0xff; 4]).count(u32::MAX, "x"), Err(WireError::Malformed("x")));
    }
}
