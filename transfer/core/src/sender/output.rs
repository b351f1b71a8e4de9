//! What waits to be written: whole frames, partly by reference to a file.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use crate::answer::{Piece, Pieces, Source};
use crate::wire::mux::{self, Code, MAX_FRAME};

/// A queue of bytes.
///
/// Data of the stream is collected and becomes a frame when [`Output::seal`] is called, or when there is enough of it.
#[derive(Debug, Default)]
pub(super) struct Output {
    queue: VecDeque<Chunk>,
    /// Bytes of the first chunk that are written already.
    written: usize,
    /// Whether the last chunk that was written left its frame open.
    inside: bool,
    /// Bytes in the queue that are not written.
    len: usize,
    /// Data that is in no frame yet.
    data: Vec<u8>,
}

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    /// Whether a frame (or a raw stretch) ends with this chunk.
    ends_frame: bool,
}

enum Bytes {
    Own(Vec<u8>),
    Shared(Source, Range<usize>),
}

impl Output {
    /// Bytes outside of frames.
    pub(super) fn raw(&mut self, bytes: Vec<u8>) {
        self.push(Bytes::Own(bytes), true);
    }

    /// A message, after all data so far.
    pub(super) fn message(&mut self, code: Code, payload: &[u8]) {
        self.seal();
        self.raw(mux::frame(code, payload));
    }

    /// Where bytes of the data stream are appended.
    pub(super) fn data(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    /// Puts the collected data into frames.
    pub(super) fn seal(&mut self) {
        if self.data.is_empty() {
            return;
        }
        let data = std::mem::take(&mut self.data);
        for part in data.chunks(MAX_FRAME) {
            self.raw(mux::frame(Code::Data, part));
        }
        self.data = data;
        self.data.clear();
    }

    /// Puts pieces of an answer into frames. All ranges lie within their bytes.
    pub(super) fn pieces(&mut self, pieces: &Pieces, source: &Source) {
        self.seal();
        let mut frame_left = 0;
        let mut total = pieces.len();
        let mut own = Vec::new();
        for piece in &pieces.list {
            let (mut range, in_file) = match piece {
                Piece::Scratch(range) => (range.clone(), false),
                Piece::Source(range) => (range.clone(), true),
            };
            while !range.is_empty() {
                if frame_left == 0 {
                    frame_left = total.min(MAX_FRAME);
                    own.extend_from_slice(&mux::header(Code::Data, frame_left));
                }
                let here = range.start..range.end.min(range.start + frame_left);
                range.start = here.end;
                frame_left -= here.len();
                total -= here.len();
                let ends_frame = frame_left == 0;
                if in_file {
                    if !own.is_empty() {
                        self.push(Bytes::Own(std::mem::take(&mut own)), false);
                    }
                    self.push(Bytes::Shared(Source::clone(source), here), ends_frame);
                } else {
                    own.extend_from_slice(&pieces.scratch[here]);
                    if ends_frame {
                        self.push(Bytes::Own(std::mem::take(&mut own)), true);
                    }
                }
            }
        }
        if !own.is_empty() {
            self.push(Bytes::Own(own), true);
        }
    }

    /// All that waits, in order.
    pub(super) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let chunks = self.queue.iter().map(Chunk::as_slice);
        chunks.enumerate().map(|(at, bytes)| if at == 0 { &bytes[self.written..] } else { bytes })
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Forgets the first `written` bytes.
    pub(super) fn advance(&mut self, written: usize) {
        let mut left = written.min(self.len);
        self.len -= left;
        while let Some(chunk) = self.queue.front() {
            let here = chunk.as_slice().len() - self.written;
            if left < here {
                self.written += left;
                return;
            }
            left -= here;
            self.written = 0;
            self.inside = !chunk.ends_frame;
            self.queue.pop_front();
        }
    }

    /// Drops all but the frame that is being written.
    pub(super) fn cut(&mut self) {
        self.data.clear();
        let begun = self.written > 0 || self.inside;
        let keep = if begun {
            self.queue.iter().position(|chunk| chunk.ends_frame).map_or(0, |at| at + 1)
        } else {
            0
        };
        self.queue.truncate(keep);
        self.len = self.slices().map(<[u8]>::len).sum();
    }

    fn push(&mut self, bytes: Bytes, ends_frame: bool) {
        let chunk = Chunk { bytes, ends_frame };
        if !chunk.as_slice().is_empty() {
            self.len += chunk.as_slice().len();
            self.queue.push_back(chunk);
        }
    }
}

impl Chunk {
    fn as_slice(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Own(bytes) => bytes,
            // `push_pieces` checked the range; a source that changes its length shows nothing.
            Bytes::Shared(source, range) => (**source).as_ref().get(range.clone()).unwrap_or(&[]),
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bytes::Own(bytes) => write!(f, "Own({} bytes)", bytes.len()),
            Bytes::Shared(_, range) => write!(f, "Shared({range:?})"),
        }
    }
}
