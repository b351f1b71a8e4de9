//! From a request and a file's bytes to what goes on the wire. Independent of the session, so that worker threads
//! can do it.
//!
//! ```text
//! let mut encoder = context.encoder()?;        // one for each worker, reused for many files
//! encoder.start(&request, bytes.len())?;
//! loop {
//!     let progress = encoder.step(&bytes, &mut pieces)?;
//!     client.push_pieces(&mut pieces, &source)?;  // wherever the session lives, between begin_answer and end_answer
//!     if progress == Progress::Done { break }
//! }
//! ```

use std::ops::Range;
use std::sync::Arc;

use crate::delta::{Digest, FileDigest, Run, Search, StrongSum, SumHeader, file_digest};
use crate::proto::{Append, Checksum, Compression};
use crate::sender::Request;
use crate::token::{Framer, TokenWriter};
use crate::{Error, Stage};

/// The bytes of one version of a file: a buffer, or a mapping.
pub type Source = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// What an answer depends on besides the request: the same for all files of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerContext {
    /// The algorithm of block and file sums.
    pub checksum: Checksum,
    /// Whether MD5 block sums hash the seed before the block.
    pub seed_first: bool,
    /// The seed of block sums.
    pub seed: i32,
    /// The compression of literals.
    pub compression: Compression,
    /// The compression's own level; `None` for its default.
    pub level: Option<i32>,
    /// Whether files are only appended to.
    pub append: Append,
}

impl AnswerContext {
    /// An encoder for one thread; it keeps its tables and compression contexts from file to file.
    ///
    /// # Errors
    /// The compressor has no memory.
    pub fn encoder(&self) -> Result<Encoder, Error> {
        let strong = StrongSum { checksum: self.checksum, seed: self.seed, seed_first: self.seed_first };
        Ok(Encoder {
            checksum: self.checksum,
            append: self.append,
            search: Search::new(strong),
            tokens: TokenWriter::new(self.compression, self.level)?,
            compression: self.compression,
            answer: None,
            literal: 0,
        })
    }

    /// A maker of frames for one more thread, for answers of which [`Encoder::frames`] tells.
    ///
    /// # Errors
    /// The compressor has no memory.
    pub fn framer(&self) -> Result<Framer, Error> {
        Framer::new(self.level)
    }
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A range of [`Pieces::scratch`].
    Scratch(Range<usize>),
    /// A range of the file, which need not be copied.
    Source(Range<usize>),
}

/// Bytes for the stream, in order, partly by reference to the file.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    /// Headers, compressed data, small literals.
    pub scratch: Vec<u8>,
    /// What to send, in order.
    pub list: Vec<Piece>,
}

impl Pieces {
    /// Bytes on the wire, without frame headers.
    pub fn len(&self) -> usize {
        self.list
            .iter()
            .map(|piece| match piece {
                Piece::Scratch(range) | Piece::Source(range) => range.len(),
            })
            .sum()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether nothing of it lies in the file: all is in [`Pieces::scratch`], in order.
    pub fn is_own(&self) -> bool {
        self.list.iter().all(|piece| matches!(piece, Piece::Scratch(_)))
    }

    /// Forgets all, keeping the memory.
    pub fn clear(&mut self) {
        self.scratch.clear();
        self.list.clear();
    }

    /// Appends bytes.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let start = self.scratch.len();
        self.scratch.extend_from_slice(bytes);
        match self.list.last_mut() {
            Some(Piece::Scratch(range)) => range.end = self.scratch.len(),
            _ => self.list.push(Piece::Scratch(start..self.scratch.len())),
        }
    }

    /// Appends a range of the file.
    pub(crate) fn refer(&mut self, range: Range<usize>) {
        self.list.push(Piece::Source(range));
    }
}

/// Whether an answer is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call [`Encoder::step`] again.
    More,
    /// The file checksum was the last thing in the pieces.
    Done,
}

/// Encodes answers, one file after the other.
#[derive(Debug)]
pub struct Encoder {
    checksum: Checksum,
    append: Append,
    search: Search,
    tokens: TokenWriter,
    compression: Compression,
    answer: Option<Answer>,
    /// Bytes of the file that went as they are, in the answer that was begun last.
    literal: u64,
}

/// The answer that is being made.
#[derive(Debug)]
struct Answer {
    /// The header to write first; taken by the first step.
    header: Option<SumHeader>,
    /// Of a file that takes several steps.
    digest: Option<FileDigest>,
    checksum: Checksum,
    len: usize,
    /// Offset from which on the file is sent: not 0 only when appending.
    from: usize,
    /// Whether the receiver has nothing that could be referred to.
    whole: bool,
    spoiled: bool,
}

impl Encoder {
    /// Begins the answer to `request` with a file of `len` bytes. An answer that was begun before is forgotten.
    ///
    /// # Errors
    /// The compressor failed.
    pub fn start(&mut self, request: &Request, len: usize) -> Result<(), Error> {
        let mut header = request.header();
        // Longer sums are no sums of ours (see `SumHeader::strong_len`), and 3.4.0 to 3.4.3 die of their echo.
        header.strong_len = header.strong_len.min(self.checksum.digest_len() as u32);
        let appends = self.append != Append::Off && !request.redo;
        let from = if appends { usize::try_from(header.basis_len()).unwrap_or(len).min(len) } else { 0 };
        if request.sums.is_empty() && !appends {
            header = SumHeader::default();
        }
        let whole = request.sums.is_empty();
        self.tokens.start(whole.then_some((len - from) as u64))?;
        self.search.start(Arc::clone(&request.sums), request.in_place);
        self.search.skip(from);
        self.literal = 0;
        let checksum = self.checksum;
        self.answer =
            Some(Answer { header: Some(header), digest: None, checksum, len, from, whole, spoiled: false });
        Ok(())
    }

    /// Encodes some more: stops after about [`STEP`] bytes of the file.
    ///
    /// `file` must have the length that was announced, at each call for one answer; if its content changes in between,
    /// the receiver finds a wrong checksum and asks again.
    ///
    /// # Errors
    /// Misuse: no answer was begun, or the length differs. A failure of the compressor.
    pub fn step(&mut self, file: &[u8], out: &mut Pieces) -> Result<Progress, Error> {
        let misuse = |what| Error::misuse(Stage::Transfer, what);
        let answer = self.answer.as_mut().ok_or_else(|| misuse("no answer was begun"))?;
        if file.len() != answer.len {
            return Err(misuse("the file's length is not the announced one"));
        }
        answer.put_header(self.append, file, out);
        let start = self.search.position();
        let mut failure = Ok(());
        let (tokens, literal) = (&mut self.tokens, &mut self.literal);
        let done = self.search.step(file, STEP, &mut |run: Run| {
            if let Run::Literal(range) = &run {
                *literal += range.len() as u64;
            }
            if failure.is_ok() {
                failure = tokens.run(&run, file, out);
            }
        });
        failure?;
        let part = &file[start..self.search.position()];
        if done && answer.digest.is_none() {
            let digest = file_digest(answer.checksum, part);
            self.end(Some(digest), out)?;
            return Ok(Progress::Done);
        }
        answer.digest().update(part);
        if !done {
            return Ok(Progress::More);
        }
        self.end(None, out)?;
        Ok(Progress::Done)
    }

    /// What of the file may go as frames that other threads make, right after [`Encoder::start`]: all that is sent, if
    /// the receiver has nothing to refer to and the compression is one of independent frames. The way to send them is
    /// then [`Encoder::begin_frames`], [`Encoder::pass`] for each frame's part of the file, and
    /// [`Encoder::end_frames`], in the place of all steps.
    pub fn frames(&self) -> Option<Range<usize>> {
        let answer = self.answer.as_ref().filter(|answer| answer.whole)?;
        (self.compression == Compression::Zstd).then_some(answer.from..answer.len)
    }

    /// What comes before the frames.
    ///
    /// # Errors
    /// Misuse: [`Encoder::frames`] says nothing. A failure of the compressor.
    pub fn begin_frames(&mut self, file: &[u8], out: &mut Pieces) -> Result<(), Error> {
        let misuse = || Error::misuse(Stage::Transfer, "this answer does not go as frames");
        let answer = self.answer.as_mut().filter(|answer| answer.len == file.len()).ok_or_else(misuse)?;
        answer.put_header(self.append, file, out);
        if self.tokens.make_way(out)? { Ok(()) } else { Err(misuse()) }
    }

    /// Takes note of the next part of the file, which goes as a frame.
    pub fn pass(&mut self, part: &[u8]) {
        self.literal += part.len() as u64;
        if let Some(answer) = &mut self.answer {
            answer.digest().update(part);
        }
    }

    /// What comes behind the last frame.
    ///
    /// # Errors
    /// Misuse: no answer was begun.
    pub fn end_frames(&mut self, out: &mut Pieces) -> Result<(), Error> {
        self.end(None, out)
    }

    /// Ends the answer with the digest of all that was encoded, if it is not the one that was made step by step.
    fn end(&mut self, digest: Option<Digest>, out: &mut Pieces) -> Result<(), Error> {
        self.search.release();
        self.tokens.end(out)?;
        let misuse = || Error::misuse(Stage::Transfer, "no answer was begun");
        let answer = self.answer.take().ok_or_else(misuse)?;
        out.put(answer.checksum(digest).as_bytes());
        Ok(())
    }

    /// Offset in the file up to which the answer that was begun last is encoded.
    pub fn position(&self) -> usize {
        self.search.position()
    }

    /// How many bytes of the file the receiver did not have, in the answer that was begun last and as far as it is made.
    pub fn literal_bytes(&self) -> u64 {
        self.literal
    }

    /// Makes the file checksum one that cannot match: what was read is not to be trusted. Valid until the last
    /// [`Encoder::step`]; the receiver then throws its result away and asks again, once.
    pub fn spoil(&mut self) {
        if let Some(answer) = &mut self.answer {
            answer.spoiled = true;
        }
    }
}

impl Answer {
    /// Writes the header, unless that was done.
    fn put_header(&mut self, append: Append, file: &[u8], out: &mut Pieces) {
        let Some(header) = self.header.take() else { return };
        out.put(&header.to_bytes());
        if append == Append::Verify {
            let from = self.from;
            self.digest().update(&file[..from]);
        }
    }

    fn digest(&mut self) -> &mut FileDigest {
        self.digest.get_or_insert_with(|| FileDigest::new(self.checksum))
    }

    /// The digest, or one that differs from it.
    fn checksum(self, digest: Option<Digest>) -> Digest {
        let made = || self.digest.map_or_else(|| file_digest(self.checksum, &[]), FileDigest::finish);
        let digest = digest.unwrap_or_else(made);
        if self.spoiled { digest.another() } else { digest }
    }
}

/// About how many bytes of a file one [`Encoder::step`] handles: long enough to make calls cheap, short enough for
/// other work in between.
pub const STEP: usize = 1 << 20;

#[cfg(test)]
mod tests;
