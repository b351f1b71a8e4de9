//! What the fuzz targets in `fuzz/` do with their bytes: whatever a daemon or the other end of the feed sends must
//! end in an error or in a success that was earned, never in a panic, and never in a growth that the bytes did not
//! pay for.
//!
//! The bodies live here, apart from libFuzzer, so that an ordinary test replays the corpus on every machine.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic, reason = "a broken promise is a finding")]

mod deltas;
mod directories;
mod feed;
mod frames;
mod player;
mod rules;
mod sessions;
mod texts;

pub use deltas::{honest_sums, made_up_sums};
pub use directories::directories;
pub use feed::feed;
pub use frames::frames;
pub use rules::rules;
pub use sessions::{handshake, requests, session};
pub use texts::texts;

/// A target's body.
pub type Body = fn(&[u8]);

/// All targets by name: the name is that of the file in `fuzz/fuzz_targets` and of the folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Body); 10] = [
    ("handshake", handshake),
    ("session", session),
    ("requests", requests),
    ("frames", frames),
    ("texts", texts),
    ("honest_sums", honest_sums),
    ("made_up_sums", made_up_sums),
    ("feed", feed),
    ("rules", rules),
    ("directories", directories),
];

/// Takes choices from the front of a target's bytes; without bytes every choice is 0.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn int(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Cuts bytes into the parts in which they arrive: all at once, in equal parts, or in parts of many lengths.
fn parts(bytes: &[u8], how: u8) -> Vec<&[u8]> {
    match how {
        0 => vec![bytes],
        1..=64 => bytes.chunks(how.into()).collect(),
        _ => {
            let mut rest = bytes;
            let mut length = usize::from(how);
            let mut parts = Vec::new();
            while !rest.is_empty() {
                length = (length * 31 + 7) % 97;
                let (part, behind) = rest.split_at((length + 1).min(rest.len()));
                parts.push(part);
                rest = behind;
            }
            parts
        }
    }
}
