//! From a request and a file's bytes to what goes on the wire. Independent of the session, so that worker threads
//! can do it.
//!
//! ```text
//! let mut encoder = context.encoder();         // one for each worker, reused for many files
//! encoder.start(&request);
//! while encoder.step(&bytes, &mut pieces)? == Progress::More {
//!     client.push_pieces(&mut pieces, &source)?;  // wherever the session lives
//! }
//! ```

use std::ops::Range;
use std::sync::Arc;

use crate::Error;
use crate::delta::BlockSums;
use crate::proto::{Append, Checksum, Compression};
use crate::sender::Request;

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
    /// Whether requests carry no block sums and only the tail is wanted.
    pub append: Append,
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

    /// Forgets all, keeping the memory.
    pub fn clear(&mut self) {
        self.scratch.clear();
        self.list.clear();
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
    context: AnswerContext,
    sums: Arc<BlockSums>,
    spoiled: bool,
}

impl AnswerContext {
    /// An encoder for one thread; it keeps its tables and compression contexts from file to file.
    pub fn encoder(&self) -> Encoder {
        Encoder { context: self.clone(), sums: Arc::default(), spoiled: false }
    }
}

impl Encoder {
    /// Begins the answer to `request`. An answer that was begun before is forgotten.
    pub fn start(&mut self, request: &Request) {
        self.sums = Arc::clone(&request.sums);
        self.spoiled = false;
    }

    /// Encodes some more: appends at least one piece, and stops after about [`STEP`] bytes of the file.
    ///
    /// `file` must have the same length at each call for one answer; if its content changes in between, the receiver
    /// finds a wrong checksum and asks again.
    ///
    /// # Errors
    /// Misuse: no answer was begun, or the length differs. A failure of the compressor.
    pub fn step(&mut self, file: &[u8], out: &mut Pieces) -> Result<Progress, Error> {
        let _ = (file, out, &self.context, &self.sums, self.spoiled);
        Err(Error::misuse(crate::Stage::Transfer, "encoding is not available yet"))
    }

    /// Makes the file checksum one that cannot match: what was read is not to be trusted. Valid until the last
    /// [`Encoder::step`]; the receiver then throws its result away and asks again, once.
    pub fn spoil(&mut self) {
        self.spoiled = true;
    }
}

/// About how many bytes of a file one [`Encoder::step`] handles: long enough to make calls cheap, short enough for
/// other work in between.
pub const STEP: usize = 1 << 20;
