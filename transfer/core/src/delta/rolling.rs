//! The rolling sum (protocol note, section 8.1), over signed bytes.

/// The sum of a window that can slide by a byte.
///
/// With k bytes x_0 … x_{k-1}: a = Σ x_i, b = Σ (k - i)·x_i; only the low 16 bits of each count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rolling {
    a: u32,
    b: u32,
}

impl Rolling {
    /// The sum of a window.
    pub fn new(window: &[u8]) -> Self {
        let mut sum = Rolling::default();
        let (lanes, rest) = window.as_chunks::<LANE>();
        for lane in lanes {
            sum.add_lane(lane);
        }
        for byte in rest {
            sum.a = sum.a.wrapping_add(signed(*byte));
            sum.b = sum.b.wrapping_add(sum.a);
        }
        sum
    }

    /// The 32 bits that travel.
    #[inline]
    pub fn value(self) -> u32 {
        (self.a & 0xffff) | (self.b << 16)
    }

    /// Slides a window of `length` bytes by one: `leaves` was its first byte, `enters` is its new last one.
    #[inline]
    pub fn slide(&mut self, leaves: u8, enters: u8, length: u32) {
        let leaves = signed(leaves);
        self.a = self.a.wrapping_sub(leaves).wrapping_add(signed(enters));
        self.b = self.b.wrapping_sub(length.wrapping_mul(leaves)).wrapping_add(self.a);
    }

    /// Appends a lane at once, without a chain from byte to byte, so that the compiler can use vectors.
    #[inline]
    fn add_lane(&mut self, lane: &[u8; LANE]) {
        let (mut plain, mut weighted) = (0i32, 0i32);
        for (byte, weight) in lane.iter().zip(&WEIGHTS) {
            let byte = i16::from(*byte as i8);
            plain += i32::from(byte);
            weighted += i32::from(byte) * i32::from(*weight);
        }
        self.b = self.b.wrapping_add(self.a.wrapping_mul(LANE as u32)).wrapping_add(weighted as u32);
        self.a = self.a.wrapping_add(plain as u32);
    }
}

#[inline]
fn signed(byte: u8) -> u32 {
    byte as i8 as u32
}

/// Bytes handled at once; 64 products of at most 64 times 128 stay far from overflow.
const LANE: usize = 64;

/// What each byte of a lane counts: `LANE` for the first, 1 for the last.
const WEIGHTS: [i16; LANE] = {
    let mut weights = [0; LANE];
    let mut at = 0;
    while at < LANE {
        weights[at] = (LANE - at) as i16;
        at += 1;
    }
    weights
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sum_is_that_of_the_note() {
        assert_eq!(Rolling::new(&[0x80, 0xff, 0x01]).value(), 0xfe7f_ff80);
        assert_eq!(Rolling::new(&[]).value(), 0);
    }

    proptest! {
        #[test]
        fn sliding_equals_summing_anew(bytes in prop::collection::vec(any::<u8>(), 2..300), length in 1..200usize) {
            let length = length.min(bytes.len() - 1);
            let mut sum = Rolling::new(&bytes[..length]);
            for start in 1..=bytes.len() - length {
                sum.slide(bytes[start - 1], bytes[start + length - 1], length as u32);
                prop_assert_eq!(sum.value(), Rolling::new(&bytes[start..start + length]).value());
            }
        }
    }
}
