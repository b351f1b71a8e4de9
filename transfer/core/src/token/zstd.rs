//! Zstandard (protocol note, section 9.4): an independent frame for each file.
//!
//! The receiver's decoder lives for the whole session and reads one frame after the other. As no frame depends on
//! another, the compressed form of a file does not depend on the session.

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

use super::compressed::{CHUNK, Compressor, MAX_CHUNK};
use super::failed;
use crate::Error;
use crate::answer::Pieces;

pub(super) struct Zstd {
    context: CCtx<'static>,
}

impl Zstd {
    /// `level` as zstd has it, `None` or 0 for its default of 3.
    pub(super) fn new(level: Option<i32>) -> Result<Self, Error> {
        let mut context = CCtx::try_create().ok_or_else(|| failed("zstd", "no memory for a context"))?;
        let level = level.unwrap_or(0).clamp(MIN_LEVEL, MAX_LEVEL);
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(zstd_failed)?;
        Ok(Zstd { context })
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
            let mut chunk = [0; MAX_CHUNK];
            let mut output = OutBuffer::around(&mut chunk[..]);
            let remaining =
                self.context.compress_stream2(&mut output, &mut input, directive).map_err(zstd_failed)?;
            let written = output.pos();
            if written > 0 {
                out.put(&[CHUNK | (written >> 8) as u8, written as u8]);
                out.put(&chunk[..written]);
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
    fn start(&mut self, len: Option<u64>) -> Result<(), Error> {
        self.context.reset(ResetDirective::SessionOnly).map_err(zstd_failed)?;
        self.context.set_pledged_src_size(len).map_err(zstd_failed)?;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], out: &mut Pieces) -> Result<(), Error> {
        self.compress(bytes, ZSTD_EndDirective::ZSTD_e_continue, out)
    }

    fn flush(&mut self, out: &mut Pieces) -> Result<(), Error> {
        self.compress(&[], ZSTD_EndDirective::ZSTD_e_flush, out)
    }

    fn end(&mut self, out: &mut Pieces) -> Result<(), Error> {
        self.compress(&[], ZSTD_EndDirective::ZSTD_e_end, out)
    }
}

impl std::fmt::Debug for Zstd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Zstd")
    }
}

fn zstd_failed(code: usize) -> Error {
    failed("zstd", get_error_name(code))
}

/// zstd's own lowest level.
const MIN_LEVEL: i32 = -131_072;

/// zstd's own highest level; its window of 2^27 bytes is the largest that receivers accept.
const MAX_LEVEL: i32 = 22;
