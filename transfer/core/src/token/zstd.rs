//! Zstandard (protocol note, section 9.4).
//!
//! The receiver's decoder lives for the whole session and reads any stream of frames. Two kinds are made here:
//!
//! - [`Zstd`]: one frame that stays open from file to file, flushed at the end of each run of literals. Small files are
//!   told in terms of those before them, as the stock sender's are.
//! - [`Framer`]: frames of their own for stretches of large files. They depend on nothing else, so that threads make them
//!   side by side, and so that one made for one destination would serve another.

use std::ops::Range;

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{
    CCtx, CParameter, InBuffer, OutBuffer, ResetDirective, Strategy, compress_bound, get_error_name,
};

use super::compressed::{CHUNK, Compressor, MAX_CHUNK, put_chunks};
use super::failed;
use super::noise::looks_compressed;
use crate::Error;
use crate::answer::Pieces;

/// One frame for many files.
pub(super) struct Zstd {
    context: CCtx<'static>,
    /// Whether the frame was begun.
    open: bool,
    chunk: Box<[u8; MAX_CHUNK]>,
}

impl Zstd {
    /// `level` as zstd has it; `None` or 0 for its default of 3.
    pub(super) fn new(level: Option<i32>) -> Result<Self, Error> {
        let mut context = new_context()?;
        set(&mut context, &[CParameter::CompressionLevel(zstd_level(level).unwrap_or(0))])?;
        Ok(Zstd { context, open: false, chunk: Box::new([0; MAX_CHUNK]) })
    }

    /// Ends the frame, so that one of another maker can follow.
    pub(super) fn close(&mut self, out: &mut Pieces) -> Result<(), Error> {
        if std::mem::take(&mut self.open) {
            self.compress(&[], ZSTD_EndDirective::ZSTD_e_end, out)?;
        }
        Ok(())
    }

    /// Runs the compressor until it has taken all of `bytes` and, with a directive other than continue, has nothing
    /// more to give. Its output goes straight into chunks.
    fn compress(
        &mut self,
        bytes: &[u8],
        directive: ZSTD_EndDirective,
        out: &mut Pieces,
    ) -> Result<(), Error> {
        let mut input = InBuffer::around(bytes);
        loop {
            let mut output = OutBuffer::around(&mut self.chunk[..]);
            let remaining =
                self.context.compress_stream2(&mut output, &mut input, directive).map_err(zstd_failed)?;
            let written = output.pos();
            if written > 0 {
                out.put(&[CHUNK | (written >> 8) as u8, written as u8]);
                out.put(&self.chunk[..written]);
            }
            let taken = input.pos == bytes.len();
            let flushed = remaining == 0 || directive == ZSTD_EndDirective::ZSTD_e_continue;
            if taken && flushed {
                return Ok(());
            }
        }
    }
}

impl Compressor for Zstd {
    fn start(&mut self, _: Option<u64>) -> Result<(), Error> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], out: &mut Pieces) -> Result<(), Error> {
        self.open = true;
        self.compress(bytes, ZSTD_EndDirective::ZSTD_e_continue, out)
    }

    fn flush(&mut self, out: &mut Pieces) -> Result<(), Error> {
        self.compress(&[], ZSTD_EndDirective::ZSTD_e_flush, out)
    }
}

impl std::fmt::Debug for Zstd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Zstd")
    }
}

/// Makes frames of stretches of files, each of them whole: one for each thread.
pub struct Framer {
    context: CCtx<'static>,
    level: Option<i32>,
    /// Room for compressed data, kept from frame to frame.
    room: Vec<u8>,
}

impl Framer {
    pub(crate) fn new(level: Option<i32>) -> Result<Self, Error> {
        Ok(Framer { context: new_context()?, level: zstd_level(level), room: Vec::new() })
    }

    /// Appends the chunks of one or more frames with `file[range]`. What does not get shorter goes as it is, by
    /// reference to the file; all of it does if `as_it_is`.
    ///
    /// # Errors
    /// The compressor failed.
    pub fn encode(
        &mut self,
        file: &[u8],
        range: Range<usize>,
        as_it_is: bool,
        out: &mut Pieces,
    ) -> Result<(), Error> {
        let mut start = range.start;
        while start < range.end {
            let hopeless = |at: usize| -> bool { as_it_is || looks_compressed(&file[at..range.end]) };
            let mut end = range.end.min(start + STRETCH);
            let raw = hopeless(start) && (as_it_is || !self.shrinks(&file[start..end])?);
            // Neighbours of the same kind share a frame. What looks hopeless is tried once for each stretch.
            while end < range.end && (if raw { as_it_is } else { !hopeless(end) }) {
                end = range.end.min(end + STRETCH);
            }
            if raw {
                put_raw_frame(start..end, out);
            } else {
                self.compress(&file[start..end], out)?;
            }
            start = end;
        }
        Ok(())
    }

    /// Whether a sample of bytes that look even gets shorter all the same.
    fn shrinks(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        let sample = &bytes[..bytes.len().min(SAMPLE)];
        Search::Quick.set(&mut self.context)?;
        let length = self.compressed(sample)?;
        Ok(length < sample.len() - sample.len() / 32)
    }

    fn compress(&mut self, bytes: &[u8], out: &mut Pieces) -> Result<(), Error> {
        match self.level {
            Some(level) => {
                self.context.reset(ResetDirective::SessionAndParameters).map_err(zstd_failed)?;
                set(&mut self.context, &[CParameter::CompressionLevel(level)])?;
            }
            None => self.choose(bytes)?.set(&mut self.context)?,
        }
        let length = self.compressed(bytes)?;
        put_chunks(&self.room[..length], out);
        Ok(())
    }

    /// The quick search where it finds nearly all of what the usual one does.
    fn choose(&mut self, bytes: &[u8]) -> Result<Search, Error> {
        if bytes.len() < 8 * SAMPLE {
            return Ok(Search::Usual);
        }
        let middle = bytes.len() / 2;
        let sample = &bytes[middle..middle + SAMPLE];
        Search::Usual.set(&mut self.context)?;
        let usual = self.compressed(sample)?;
        Search::Quick.set(&mut self.context)?;
        let quick = self.compressed(sample)?;
        Ok(if quick <= usual + usual / 100 { Search::Quick } else { Search::Usual })
    }

    /// Compresses into `room` and returns the length.
    fn compressed(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let bound = compress_bound(bytes.len());
        if self.room.len() < bound {
            self.room.resize(bound, 0);
        }
        self.context.compress2(&mut self.room[..], bytes).map_err(zstd_failed)
    }
}

impl std::fmt::Debug for Framer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Framer")
    }
}

/// How matches are looked for, when nobody asks for a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    /// Level 3's, with tables of half the size: they fit into the processor's own cache, which saves a sixth of the time
    /// and costs less than 1 % of the ratio.
    Usual,
    /// Level 2's: one table, and a third of the time less. On logs and tables of words nearly as good, on programs 4 % worse.
    Quick,
}

impl Search {
    fn set(self, context: &mut CCtx<'static>) -> Result<(), Error> {
        use CParameter::{ChainLog, CompressionLevel, HashLog, MinMatch, Strategy as Kind, WindowLog};
        context.reset(ResetDirective::SessionAndParameters).map_err(zstd_failed)?;
        let strategy = Kind(Strategy::ZSTD_dfast);
        match self {
            Search::Usual => set(
                context,
                &[CompressionLevel(3), WindowLog(21), HashLog(16), ChainLog(15), MinMatch(5), strategy],
            ),
            Search::Quick => set(context, &[CompressionLevel(2)]),
        }
    }
}

fn new_context() -> Result<CCtx<'static>, Error> {
    CCtx::try_create().ok_or_else(|| failed("zstd", "no memory for a context"))
}

fn set(context: &mut CCtx<'static>, parameters: &[CParameter]) -> Result<(), Error> {
    parameters
        .iter()
        .try_for_each(|parameter| context.set_parameter(*parameter).map(drop).map_err(zstd_failed))
}

fn zstd_level(level: Option<i32>) -> Option<i32> {
    level.filter(|level| *level != 0).map(|level| level.clamp(MIN_LEVEL, MAX_LEVEL))
}

/// A frame of raw blocks: `range` of the file goes without a copy.
///
/// ```text
/// magic, 4 bytes │ no content size, no checksum: 00 │ window of 128 KiB: 38 │ blocks
/// block: last | type 0 << 1 | size << 3, u24 LE │ size bytes
/// ```
fn put_raw_frame(range: Range<usize>, out: &mut Pieces) {
    let mut chunks = RawChunks { out, left: 6 + range.len() + 3 * range.len().div_ceil(BLOCK), room: 0 };
    chunks.own(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38]);
    let mut start = range.start;
    while start < range.end {
        let end = range.end.min(start + BLOCK);
        let head = ((end - start) << 3 | usize::from(end == range.end)).to_le_bytes();
        chunks.own(&head[..3]);
        chunks.refer(start..end);
        start = end;
    }
}

/// Cuts known bytes into chunks.
struct RawChunks<'a> {
    out: &'a mut Pieces,
    /// Bytes that are still to come.
    left: usize,
    /// Bytes that the chunk begun can take.
    room: usize,
}

impl RawChunks<'_> {
    fn own(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (here, rest) = bytes.split_at(self.next(bytes.len()));
            self.out.put(here);
            bytes = rest;
        }
    }

    fn refer(&mut self, mut range: Range<usize>) {
        while !range.is_empty() {
            let end = range.start + self.next(range.len());
            self.out.refer(range.start..end);
            range.start = end;
        }
    }

    fn next(&mut self, wanted: usize) -> usize {
        if self.room == 0 {
            self.room = self.left.min(MAX_CHUNK);
            self.out.put(&[CHUNK | (self.room >> 8) as u8, self.room as u8]);
        }
        let here = wanted.min(self.room);
        self.room -= here;
        self.left -= here;
        here
    }
}

fn zstd_failed(code: usize) -> Error {
    failed("zstd", get_error_name(code))
}

/// zstd's own lowest level.
const MIN_LEVEL: i32 = -131_072;

/// zstd's own highest level; its window of 2^27 bytes is the largest that receivers accept.
const MAX_LEVEL: i32 = 22;

/// The longest raw block.
const BLOCK: usize = 128 << 10;

/// What is looked at once, whether it can get shorter, in bytes.
const STRETCH: usize = 1 << 20;

/// What is compressed to see how that goes, in bytes.
const SAMPLE: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::tests::{chunks_of, flat};
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn text(length: usize) -> Vec<u8> {
        noise(length).iter().map(|byte| b'a' + byte % 16).collect()
    }

    /// What a receiver's decoder makes of the chunks.
    fn decoded(pieces: &Pieces, file: &[u8]) -> Vec<u8> {
        let stream = chunks_of(&flat(pieces, file));
        let mut out = Vec::new();
        let mut decoder = zstd::stream::read::Decoder::new(&stream[..]).unwrap();
        decoder.read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn frames_of_text_and_noise_come_back() {
        let file = [text(3 << 20), noise((2 << 20) + 77), text(1000), noise(40_000)].concat();
        for level in [None, Some(1), Some(3)] {
            let mut framer = Framer::new(level).unwrap();
            let mut pieces = Pieces::default();
            framer.encode(&file, 5..file.len(), false, &mut pieces).unwrap();
            assert!(decoded(&pieces, &file) == file[5..], "level {level:?}");
            assert!(pieces.scratch.len() < 3 << 20, "the noise was copied");
        }
    }

    #[test]
    fn noise_costs_its_own_length_and_no_copy() {
        let file = noise((3 << 20) + 9);
        let mut pieces = Pieces::default();
        Framer::new(None).unwrap().encode(&file, 0..file.len(), false, &mut pieces).unwrap();
        assert!(pieces.scratch.len() < 1500, "{}", pieces.scratch.len());
        assert!(decoded(&pieces, &file) == file);
    }

    #[test]
    fn even_bytes_that_repeat_are_compressed() {
        let file = noise(16 << 10).repeat(64);
        let mut pieces = Pieces::default();
        Framer::new(None).unwrap().encode(&file, 0..file.len(), false, &mut pieces).unwrap();
        assert!(pieces.len() < 40_000, "{}", pieces.len());
        assert!(decoded(&pieces, &file) == file);
    }

    #[test]
    fn what_goes_as_it_is_is_not_looked_at() {
        let file = text(300_001);
        let mut pieces = Pieces::default();
        Framer::new(None).unwrap().encode(&file, 0..file.len(), true, &mut pieces).unwrap();
        assert!(pieces.len() > file.len());
        assert!(decoded(&pieces, &file) == file);
    }

    #[test]
    fn files_share_a_frame_until_it_is_closed() {
        let file = text(5000);
        let mut zstd = Zstd::new(None).unwrap();
        let mut framer = Framer::new(None).unwrap();
        let mut pieces = Pieces::default();
        let mut lengths = Vec::new();
        for _ in 0..2 {
            zstd.write(&file, &mut pieces).unwrap();
            zstd.flush(&mut pieces).unwrap();
            lengths.push(pieces.len());
        }
        assert!(lengths[1] - lengths[0] < 100, "the second file cost {} bytes", lengths[1] - lengths[0]);
        zstd.close(&mut pieces).unwrap();
        framer.encode(&file, 0..file.len(), false, &mut pieces).unwrap();
        zstd.write(&file, &mut pieces).unwrap();
        zstd.flush(&mut pieces).unwrap();
        // The last frame is still open.
        let stream = chunks_of(&flat(&pieces, &file));
        let mut decoder = zstd::stream::read::Decoder::new(&stream[..]).unwrap();
        let mut out = vec![0; 4 * file.len()];
        decoder.read_exact(&mut out).unwrap();
        assert!(out == file.repeat(4));
    }
}
