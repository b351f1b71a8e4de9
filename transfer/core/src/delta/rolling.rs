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
        let (lanes, rest) = window.as_chunks::<LANE>();
        let mut sum = Self::of_lanes(lanes);
        for byte in rest {
            sum.a = sum.a.wrapping_add(signed(*byte));
            sum.b = sum.b.wrapping_add(sum.a);
        }
        sum
    }

    /// The sum of whole lanes: each column by itself, without a chain from byte to byte and without a product, so that
    /// the compiler uses vectors. As only 16 bits count in the end, more are nowhere kept.
    fn of_lanes(lanes: &[[u8; LANE]]) -> Self {
        // Of each column the sum so far, and the sum of what that was before each lane.
        let (mut plain, mut before) = ([0_u16; LANE], [0_u16; LANE]);
        for lane in lanes {
            for at in 0..LANE {
                before[at] = before[at].wrapping_add(plain[at]);
                plain[at] = plain[at].wrapping_add(lane[at] as i8 as u16);
            }
        }
        let mut sum = Rolling::default();
        for at in 0..LANE {
            let (plain, before) = (u32::from(plain[at]), u32::from(before[at]));
            // A byte counts once more for each byte behind it: in its lane, and in each lane behind that.
            let behind =
                plain.wrapping_mul((LANE - at) as u32).wrapping_add(before.wrapping_mul(LANE as u32));
            sum.a = sum.a.wrapping_add(plain);
            sum.b = sum.b.wrapping_add(behind);
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
}

#[inline]
fn signed(byte: u8) -> u32 {
    byte as i8 as u32
}

/// Bytes handled at once: their columns fit into the registers of any x86-64 or aarch64 processor.
const LANE: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sum_is_that_of_the_note() {
        assert_eq!(Rolling::new(&[0x80, 0xff, 0x01]).value(), 0xfe7f_ff80);
        assert_eq!(Rolling::new(&[]).value(), 0);
    }

    #[test]
    fn a_long_window_has_the_sum_of_its_definition() {
        for (length, byte) in [(131_072, 0x80), (131_072, 0x7f), (200_001, 0xff), (65_567, 0x9c)] {
            let window: Vec<u8> = (0..length).map(|at| (at as u8).wrapping_mul(7) & 3 ^ byte).collect();
            let (mut a, mut b) = (0_i64, 0_i64);
            for byte in &window {
                a += i64::from(*byte as i8);
                b += a;
            }
            let expected = (a as u32 & 0xffff) | (b as u32) << 16;
            assert_eq!(Rolling::new(&window).value(), expected);
        }
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
