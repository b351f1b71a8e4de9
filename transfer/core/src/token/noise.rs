//! Tells what no compressor makes shorter, from a look at little of it.

/// Whether these bytes look evenly spread, as encrypted and compressed data do; text, programs and numbers do not.
///
/// Even bytes can still repeat, so this is a reason to try and not to give up. Only the first [`LOOK`] bytes are looked
/// at; fewer than [`LEAST`] say nothing.
pub fn looks_compressed(bytes: &[u8]) -> bool {
    let bytes = &bytes[..bytes.len().min(LOOK)];
    if bytes.len() < LEAST {
        return false;
    }
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    // Pearson's chi-squared over the mean count: about 255 for noise, several thousand for anything with a structure.
    let mean = bytes.len() as f64 / 256.0;
    let spread: f64 = counts.iter().map(|count| (f64::from(*count) - mean).powi(2)).sum();
    spread / mean < MAX_SPREAD
}

/// Bytes that are looked at.
const LOOK: usize = 16 << 10;

/// Below this many bytes chance decides.
const LEAST: usize = 4 << 10;

/// Noise stays below 400 nearly always; JPEG and gzip data stay below 1500.
const MAX_SPREAD: f64 = 2000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_told_from_text_and_numbers() {
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..LOOK)
            .map(|_| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                (state >> 56) as u8
            })
            .collect();
        assert!(looks_compressed(&noise));
        assert!(!looks_compressed(&noise[..100]));
        let text: Vec<u8> = noise.iter().map(|byte| b'a' + byte % 26).collect();
        assert!(!looks_compressed(&text));
        let numbers: Vec<u8> = (0..LOOK as u32 / 4).flat_map(u32::to_le_bytes).collect();
        assert!(!looks_compressed(&numbers));
    }
}
