//! Length-prefixed messages over any byte stream.
//!
//! ```text
//! ┌──────────────────────┬───────────────┐
//! │ length, u32 LE       │ postcard body │   length counts the body only, 1 ..= MAX_MESSAGE
//! └──────────────────────┴───────────────┘
//! ```

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest body, in bytes. A batch part of 1000 facts with paths of 4096 bytes is about 4 MiB; the bound keeps a
/// desynchronised stream from asking for gigabytes.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Why a message could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The peer closed the stream between two messages.
    #[error("the feed was closed")]
    Closed,
    /// The stream failed.
    #[error("the feed failed")]
    Io(#[from] io::Error),
    /// A length that no message has.
    #[error("feed message of {0} bytes, limit is {MAX_MESSAGE}")]
    Length(usize),
    /// The body is not such a message.
    #[error("malformed feed message")]
    Malformed(#[from] postcard::Error),
}

/// Encodes one message with its length in front.
///
/// # Errors
/// [`CodecError::Length`] when the message is longer than [`MAX_MESSAGE`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = postcard::to_extend(message, vec![0; 4])?;
    let body = bytes.len() - 4;
    if body > MAX_MESSAGE {
        return Err(CodecError::Length(body));
    }
    // The cast is lossless: body <= MAX_MESSAGE < 2^32.
    bytes[..4].copy_from_slice(&(body as u32).to_le_bytes());
    Ok(bytes)
}

/// Writes one message.
///
/// # Errors
/// As [`encode`], and those of the stream.
pub fn write<T: Serialize>(mut to: impl Write, message: &T) -> Result<(), CodecError> {
    to.write_all(&encode(message)?)?;
    to.flush()?;
    Ok(())
}

/// Reads one message from a blocking stream.
///
/// # Errors
/// [`CodecError::Closed`] at a clean end, otherwise what went wrong.
pub fn read<T: DeserializeOwned>(mut from: impl Read) -> Result<T, CodecError> {
    let mut head = [0; 4];
    let mut have = 0;
    while have < head.len() {
        match from.read(&mut head[have..]) {
            Ok(0) if have == 0 => return Err(CodecError::Closed),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    let mut body = vec![0; body_length(head)?];
    from.read_exact(&mut body)?;
    Ok(postcard::from_bytes(&body)?)
}

/// Collects bytes as they arrive from a non-blocking stream and yields whole messages.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Bytes at the front that were yielded already; `taken <= bytes.len()`.
    taken: usize,
}

impl Decoder {
    /// Takes what arrived.
    pub fn push(&mut self, arrived: &[u8]) {
        if self.taken > 0 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(arrived);
    }

    /// The next whole message, if it is here.
    ///
    /// # Errors
    /// The stream is not a feed; it cannot be used any further.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CodecError> {
        let rest = &self.bytes[self.taken..];
        let Some((head, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = body_length(*head)?;
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = postcard::from_bytes(body)?;
        self.taken += 4 + length;
        Ok(Some(message))
    }
}

fn body_length(head: [u8; 4]) -> Result<usize, CodecError> {
    let length = u32::from_le_bytes(head) as usize;
    if length == 0 || length > MAX_MESSAGE { Err(CodecError::Length(length)) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Fact, RelPath, ToSender};

    fn batch() -> ToSender {
        let path = RelPath::new(&b"dir/na\nme\xff"[..]).unwrap();
        let facts = vec![
            Fact::Touched { path: path.clone(), data: true },
            Fact::Moved { from: path.clone(), to: RelPath::root() },
            Fact::Gone { path },
        ];
        ToSender::Batch(Batch { seq: 7, mirror: 0, last: true, facts })
    }

    #[test]
    fn messages_survive_a_stream_that_arrives_byte_by_byte() {
        let bytes = [encode(&batch()).unwrap(), encode(&ToSender::Stop).unwrap()].concat();
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        for byte in &bytes {
            decoder.push(&[*byte]);
            seen.extend(decoder.next_message::<ToSender>().unwrap());
        }
        assert_eq!(seen, [batch(), ToSender::Stop]);
        let mut stream = &bytes[..];
        assert_eq!(read::<ToSender>(&mut stream).unwrap(), batch());
        assert_eq!(read::<ToSender>(&mut stream).unwrap(), ToSender::Stop);
        assert!(matches!(read::<ToSender>(&mut stream), Err(CodecError::Closed)));
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_anything_is_allocated() {
        let mut decoder = Decoder::default();
        decoder.push(&[0xff; 8]);
        assert!(matches!(decoder.next_message::<ToSender>(), Err(CodecError::Length(_))));
        assert!(matches!(read::<ToSender>(&[0u8; 8][..]), Err(CodecError::Length(0))));
    }

    #[test]
    fn a_path_that_leads_out_is_refused_when_it_comes_over_the_feed() {
        #[derive(serde::Serialize)]
        enum Forged {
            _A,
            Batch(u64, u32, bool, Vec<(u8, Vec<u8>, bool)>),
        }
        let forged = Forged::Batch(1, 0, true, vec![(0, b"../etc".to_vec(), true)]);
        let bytes = postcard::to_stdvec(&forged).unwrap();
        assert!(postcard::from_bytes::<ToSender>(&bytes).is_err());
    }
}
