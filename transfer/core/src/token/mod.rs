//! File data as tokens: literals and block references, plain or compressed (protocol note, section 9).

mod compressed;
mod deflate;
mod lz4;
mod noise;
mod plain;
#[cfg(test)]
mod tests;
mod zstd;

pub use noise::looks_compressed;
pub use zstd::Framer;

use crate::answer::Pieces;
use crate::delta::Run;
use crate::proto::Compression;
use crate::{Error, Stage};

/// Writes the tokens of one file after the other.
#[derive(Debug)]
pub struct TokenWriter(Kind);

#[derive(Debug)]
enum Kind {
    Plain,
    Deflate(compressed::Writer<deflate::Deflate>),
    Zstd(compressed::Writer<zstd::Zstd>),
    Lz4(compressed::Writer<lz4::Lz4>),
}

impl TokenWriter {
    /// A writer for this compression; `level` is the compression's own, `None` its default.
    ///
    /// # Errors
    /// The compressor has no memory.
    pub fn new(compression: Compression, level: Option<i32>) -> Result<Self, Error> {
        Ok(TokenWriter(match compression {
            Compression::None => Kind::Plain,
            Compression::Zlib | Compression::Zlibx => {
                Kind::Deflate(compressed::Writer::new(deflate::Deflate::new(level)))
            }
            Compression::Lz4 => Kind::Lz4(compressed::Writer::new(lz4::Lz4::new())),
            Compression::Zstd => Kind::Zstd(compressed::Writer::new(zstd::Zstd::new(level)?)),
        }))
    }

    /// Begins a file. `literal_len` is the number of literal bytes, if it is known already.
    ///
    /// # Errors
    /// The compressor failed.
    pub fn start(&mut self, literal_len: Option<u64>) -> Result<(), Error> {
        match &mut self.0 {
            Kind::Plain => Ok(()),
            Kind::Deflate(writer) => writer.start(literal_len),
            Kind::Zstd(writer) => writer.start(literal_len),
            Kind::Lz4(writer) => writer.start(literal_len),
        }
    }

    /// Writes a stretch of `file`.
    ///
    /// # Errors
    /// The compressor failed.
    pub fn run(&mut self, run: &Run, file: &[u8], out: &mut Pieces) -> Result<(), Error> {
        match (&mut self.0, run) {
            (Kind::Plain, Run::Literal(range)) => plain::literal(range.clone(), file, out),
            (Kind::Plain, Run::Blocks { first, count }) => plain::blocks(*first, *count, out),
            (Kind::Deflate(writer), run) => return writer.run(run, file, out),
            (Kind::Zstd(writer), run) => return writer.run(run, file, out),
            (Kind::Lz4(writer), run) => return writer.run(run, file, out),
        }
        Ok(())
    }

    /// Makes sure that what follows need not be told in terms of what was written before: frames of a [`Framer`] may
    /// come next. Call it after [`TokenWriter::start`]; `false` if this compression has no such frames.
    ///
    /// # Errors
    /// The compressor failed.
    pub fn make_way(&mut self, out: &mut Pieces) -> Result<bool, Error> {
        match &mut self.0 {
            Kind::Zstd(writer) => writer.compressor().close(out).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The compressor failed.
    pub fn end(&mut self, out: &mut Pieces) -> Result<(), Error> {
        match &mut self.0 {
            Kind::Plain => out.put(&[0; 4]),
            Kind::Deflate(writer) => return writer.end(out),
            Kind::Zstd(writer) => return writer.end(out),
            Kind::Lz4(writer) => return writer.end(out),
        }
        Ok(())
    }
}

/// A compressor fails only for want of memory or by a bug of ours.
fn failed(what: &str, why: impl std::fmt::Display) -> Error {
    Error::misuse(Stage::Transfer, format!("{what}: {why}"))
}
