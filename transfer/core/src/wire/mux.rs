//! Frames: the data stream and messages on one connection (protocol note, section 3).
//!
//! ```text
//! ┌───────────────────┬──────────┬───────────────┐
//! │ length, u24 LE    │ 7 + code │ length bytes  │
//! └───────────────────┴──────────┴───────────────┘
//! ```

use crate::error::ErrorKind;

/// What a frame carries. Codes that exist only between the daemon's own processes are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// Part of the data stream.
    Data = 0,
    /// Text: an entry could not be brought up to date.
    ErrorXfer = 1,
    /// Text for the user.
    Info = 2,
    /// Text: an error.
    Error = 3,
    /// Text: a warning.
    Warning = 4,
    /// I/O error bits.
    IoError = 22,
    /// The daemon's timeout.
    IoTimeout = 33,
    /// A sign of life.
    Noop = 42,
    /// The peer gives up.
    ErrorExit = 86,
    /// A file is in place.
    Success = 100,
    /// An entry was removed.
    Deleted = 101,
    /// A file will not come.
    NoSend = 102,
}

impl Code {
    fn from_tag(tag: u8) -> Option<Self> {
        let all = [
            Code::Data,
            Code::ErrorXfer,
            Code::Info,
            Code::Error,
            Code::Warning,
            Code::IoError,
            Code::IoTimeout,
            Code::Noop,
            Code::ErrorExit,
            Code::Success,
            Code::Deleted,
            Code::NoSend,
        ];
        all.into_iter().find(|code| BASE + *code as u8 == tag)
    }
}

/// The four bytes in front of a frame of `length` bytes; at most [`MAX_FRAME`] by the callers' cutting.
pub fn header(code: Code, length: usize) -> [u8; 4] {
    debug_assert!(length <= MAX_FRAME);
    let [b0, b1, b2, ..] = length.to_le_bytes();
    [b0, b1, b2, BASE + code as u8]
}

/// A whole frame.
pub fn frame(code: Code, payload: &[u8]) -> Vec<u8> {
    [&header(code, payload.len()), payload].concat()
}

/// Takes a byte stream apart, keeping no more than one message.
#[derive(Debug, Default)]
pub struct Demux {
    head: [u8; 4],
    /// Bytes of `head` that have arrived, 0 to 4.
    head_len: usize,
    /// The frame that is being read; `head_len` is 4 then.
    code: Option<Code>,
    /// Bytes of the frame that have not arrived.
    missing: usize,
    message: Vec<u8>,
}

/// What [`Demux::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Bytes of the data stream, at least one.
    Data(&'a [u8]),
    /// A whole message.
    Message(Code, Vec<u8>),
}

impl Demux {
    /// Takes the next part from the front of `input`; `None` when all of it is taken.
    ///
    /// # Errors
    /// A code that has no business on a socket, or a message beyond [`MAX_MESSAGE`].
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Part<'a>>, ErrorKind> {
        loop {
            let Some(code) = self.code else {
                if !self.take_header(input)? {
                    return Ok(None);
                }
                continue;
            };
            if self.missing > 0 && input.is_empty() {
                return Ok(None);
            }
            let (here, rest) = input.split_at(self.missing.min(input.len()));
            *input = rest;
            self.missing -= here.len();
            let whole = self.missing == 0;
            if whole {
                self.code = None;
                self.head_len = 0;
            }
            if code == Code::Data {
                if !here.is_empty() {
                    return Ok(Some(Part::Data(here)));
                }
            } else {
                self.message.extend_from_slice(here);
                if whole {
                    return Ok(Some(Part::Message(code, std::mem::take(&mut self.message))));
                }
            }
        }
    }

    /// Whether the header is complete now.
    fn take_header(&mut self, input: &mut &[u8]) -> Result<bool, ErrorKind> {
        let (here, rest) = input.split_at((4 - self.head_len).min(input.len()));
        *input = rest;
        self.head[self.head_len..self.head_len + here.len()].copy_from_slice(here);
        self.head_len += here.len();
        if self.head_len < 4 {
            return Ok(false);
        }
        let [b0, b1, b2, tag] = self.head;
        let code = Code::from_tag(tag).ok_or_else(|| {
            ErrorKind::malformed(
                "frame",
                format!("tag {tag} is none of a daemon's, the stream is out of step"),
            )
        })?;
        self.missing = u32::from_le_bytes([b0, b1, b2, 0]) as usize;
        if code != Code::Data && self.missing > MAX_MESSAGE {
            let found = format!("{code:?} of {} bytes, limit is {MAX_MESSAGE}", self.missing);
            return Err(ErrorKind::misbehaved("message", found));
        }
        self.code = Some(code);
        Ok(true)
    }
}

/// Tags begin here.
const BASE: u8 = 7;

/// Longest frame we write, in bytes: 3.0.9 allocates a buffer as large as the frame.
pub const MAX_FRAME: usize = 64 << 10;

/// Longest message we take, in bytes. rsync itself keeps text below 5120 bytes and names below 4096.
pub const MAX_MESSAGE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parts = (Vec<u8>, Vec<(Code, Vec<u8>)>);

    fn parts(bytes: &[u8], step: usize) -> Result<Parts, ErrorKind> {
        let mut demux = Demux::default();
        let (mut data, mut messages) = (Vec::new(), Vec::new());
        for mut input in bytes.chunks(step) {
            while let Some(part) = demux.next(&mut input)? {
                match part {
                    Part::Data(bytes) => data.extend_from_slice(bytes),
                    Part::Message(code, text) => messages.push((code, text)),
                }
            }
        }
        Ok((data, messages))
    }

    #[test]
    fn the_success_of_index_two_is_that_of_the_note() {
        assert_eq!(frame(Code::Success, &2i32.to_le_bytes()), [4, 0, 0, 0x6b, 2, 0, 0, 0]);
        assert_eq!(frame(Code::ErrorExit, &[]), [0, 0, 0, 0x5d]);
    }

    #[test]
    fn frames_come_apart_wherever_they_are_cut() {
        let bytes = [
            frame(Code::Data, b"ab"),
            frame(Code::Data, b""),
            frame(Code::Info, b"hello\n"),
            frame(Code::Data, b"cd"),
            frame(Code::ErrorExit, b""),
        ]
        .concat();
        for step in 1..=bytes.len() {
            let (data, messages) = parts(&bytes, step).unwrap();
            assert_eq!(data, b"abcd");
            assert_eq!(messages, [(Code::Info, b"hello\n".to_vec()), (Code::ErrorExit, vec![])]);
        }
    }

    #[test]
    fn a_huge_message_and_an_unknown_tag_are_refused_at_their_header() {
        assert!(matches!(parts(&[0xff, 0xff, 0xff, 9], 1), Err(ErrorKind::PeerMisbehaved { .. })));
        assert!(matches!(parts(b"HTTP", 1), Err(ErrorKind::Malformed { .. })));
        assert!(matches!(parts(&[4, 0, 0, 7 + 9], 1), Err(ErrorKind::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_demux_panic(bytes: Vec<u8>, step in 1..20usize) {
            let _ = parts(&bytes, step);
        }
    }
}
