//! Raw deflate (protocol note, section 9.3).
//!
//! Each run of literals ends with a *full* flush: nothing behind it refers to what is before it, so the receiver's
//! window may hold matched blocks (`zlib`) or not (`zlibx`). The four bytes `00 00 ff ff` that end a flush do not
//! travel.

use flate2::{Compress, FlushCompress, Status};

use super::compressed::{Compressor, MAX_CHUNK, put_chunks};
use super::failed;
use crate::Error;
use crate::answer::Pieces;

#[derive(Debug)]
pub(super) struct Deflate {
    stream: Compress,
    /// Compressed bytes that are not in a chunk yet.
    waiting: Vec<u8>,
    /// Whether literal bytes were written and not flushed.
    dirty: bool,
}

impl Deflate {
    /// `level` 1 to 9; others mean the default of 6, because level 0 would switch the receiver's decoder off if
    /// it were an option, and is of no use here.
    pub(super) fn new(level: Option<i32>) -> Self {
        let level = level.and_then(|level| u32::try_from(level).ok()).filter(|level| (1..=9).contains(level));
        let stream = Compress::new(flate2::Compression::new(level.unwrap_or(6)), false);
        Deflate { stream, waiting: Vec::new(), dirty: false }
    }

    fn put_whole_chunks(&mut self, out: &mut Pieces) {
        // What stays is at least the end of a flush.
        let chunks = self.waiting.len().saturating_sub(FLUSH_END.len()) / MAX_CHUNK;
        put_chunks(&self.waiting[..chunks * MAX_CHUNK], out);
        self.waiting.drain(..chunks * MAX_CHUNK);
    }
}

impl Compressor for Deflate {
    fn start(&mut self, _: Option<u64>) -> Result<(), Error> {
        self.stream.reset();
        self.waiting.clear();
        self.dirty = false;
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8], out: &mut Pieces) -> Result<(), Error> {
        self.dirty = true;
        while !bytes.is_empty() {
            self.waiting.reserve(RESERVE);
            let before = self.stream.total_in();
            self.stream
                .compress_vec(bytes, &mut self.waiting, FlushCompress::None)
                .map_err(|why| failed("deflate", why))?;
            // Never more than was given, so the cast is lossless.
            bytes = &bytes[(self.stream.total_in() - before) as usize..];
            self.put_whole_chunks(out);
        }
        Ok(())
    }

    fn flush(&mut self, out: &mut Pieces) -> Result<(), Error> {
        if !self.dirty {
            return Ok(());
        }
        loop {
            self.waiting.reserve(RESERVE);
            let status = self
                .stream
                .compress_vec(&[], &mut self.waiting, FlushCompress::Full)
                .map_err(|why| failed("deflate", why))?;
            // Room that is left means that the flush is complete.
            if self.waiting.len() < self.waiting.capacity() || status == Status::BufError {
                break;
            }
        }
        let body =
            self.waiting.strip_suffix(&FLUSH_END).ok_or_else(|| failed("deflate", "flush has no end"))?;
        put_chunks(body, out);
        self.waiting.clear();
        self.dirty = false;
        Ok(())
    }
}

/// How each flush ends: an empty stored block's length.
const FLUSH_END: [u8; 4] = [0, 0, 0xff, 0xff];

/// Room for one call of the compressor, in bytes.
const RESERVE: usize = 32 << 10;
