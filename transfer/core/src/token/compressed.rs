//! What all compressions share: block references in runs, chunks of compressed data.
//!
//! | byte | meaning |
//! |---|---|
//! | `00` | end of the file |
//! | `40`-`7f`, byte | chunk of this many bytes, high part first |
//! | `80`-`bf` | one block, this far from the last one |
//! | `c0`-`ff`, 2 bytes LE | likewise, and that many more |
//! | `20`, int | one block |
//! | `21`, int, 2 bytes LE | a block, and that many more |

use crate::Error;
use crate::answer::Pieces;
use crate::delta::Run;

/// A compressor of literals.
pub(super) trait Compressor {
    /// Begins a file; `len` is the number of literal bytes, if known.
    fn start(&mut self, len: Option<u64>) -> Result<(), Error>;
    /// Takes literal bytes and appends chunks, or keeps them.
    fn write(&mut self, bytes: &[u8], out: &mut Pieces) -> Result<(), Error>;
    /// Appends chunks until all that was written can be read.
    fn flush(&mut self, out: &mut Pieces) -> Result<(), Error>;
}

/// Tokens of one file after the other.
#[derive(Debug)]
pub(super) struct Writer<C> {
    compressor: C,
    /// The last block that was referred to; 0 at the start of a file.
    number: u32,
    /// Whether literal bytes were written and not flushed.
    dirty: bool,
}

impl<C: Compressor> Writer<C> {
    pub(super) fn new(compressor: C) -> Self {
        Writer { compressor, number: 0, dirty: false }
    }

    pub(super) fn start(&mut self, literal_len: Option<u64>) -> Result<(), Error> {
        (self.number, self.dirty) = (0, false);
        self.compressor.start(literal_len)
    }

    pub(super) fn run(&mut self, run: &Run, file: &[u8], out: &mut Pieces) -> Result<(), Error> {
        match run {
            Run::Literal(range) => {
                self.dirty = true;
                self.compressor.write(&file[range.clone()], out)
            }
            Run::Blocks { first, count } => {
                self.flush(out)?;
                self.blocks(*first, *count, out);
                Ok(())
            }
        }
    }

    pub(super) fn end(&mut self, out: &mut Pieces) -> Result<(), Error> {
        self.flush(out)?;
        out.put(&[END]);
        Ok(())
    }

    /// The compressor, between two files or before the first literal of one.
    pub(super) fn compressor(&mut self) -> &mut C {
        &mut self.compressor
    }

    fn flush(&mut self, out: &mut Pieces) -> Result<(), Error> {
        if std::mem::take(&mut self.dirty) { self.compressor.flush(out) } else { Ok(()) }
    }

    fn blocks(&mut self, mut first: u32, mut count: u32, out: &mut Pieces) {
        while count > 0 {
            let now = count.min(MAX_RUN);
            self.put_run(first, now - 1, out);
            self.number = first + (now - 1);
            first += now;
            count -= now;
        }
    }

    fn put_run(&self, first: u32, more: u32, out: &mut Pieces) {
        let near = first.checked_sub(self.number).filter(|step| *step <= MAX_STEP).map(|step| step as u8);
        match (near, more) {
            (Some(step), 0) => out.put(&[NEAR_ONE | step]),
            (Some(step), _) => out.put(&[NEAR_RUN | step]),
            (None, 0) => out.put(&[FAR_ONE]),
            (None, _) => out.put(&[FAR_RUN]),
        }
        if near.is_none() {
            out.put(&first.to_le_bytes());
        }
        if more > 0 {
            out.put(&(more as u16).to_le_bytes());
        }
    }
}

/// Appends compressed bytes as chunks.
pub(super) fn put_chunks(bytes: &[u8], out: &mut Pieces) {
    for chunk in bytes.chunks(MAX_CHUNK) {
        out.put(&[CHUNK | (chunk.len() >> 8) as u8, chunk.len() as u8]);
        out.put(chunk);
    }
}

/// Longest chunk in bytes: 14 bits.
pub(super) const MAX_CHUNK: usize = 0x3fff;

/// A chunk's first byte, with the high six bits of its length.
pub(super) const CHUNK: u8 = 0x40;

const END: u8 = 0;
const FAR_ONE: u8 = 0x20;
const FAR_RUN: u8 = 0x21;
const NEAR_ONE: u8 = 0x80;
const NEAR_RUN: u8 = 0xc0;

/// Largest step of the near forms: six bits.
const MAX_STEP: u32 = 0x3f;

/// Most blocks in one run: one, and 16 bits of more.
const MAX_RUN: u32 = 0x1_0000;
