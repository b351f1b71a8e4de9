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
    /// Memory of chunks that are written: fresh memory costs more than what is copied to it.
    spare: Vec<Vec<u8>>,
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
            self.append(&mux::header(Code::Data, part.len()), false);
            self.append(part, true);
        }
        self.data = data;
        self.data.clear();
    }

    /// Puts pieces of an answer into frames, behind the collected data. All ranges lie within their bytes.
    pub(super) fn pieces(&mut self, pieces: &Pieces, source: &Source) {
        let all_own = pieces.list.iter().all(|piece| matches!(piece, Piece::Scratch(_)));
        if all_own && self.data.len() + pieces.len() <= MAX_FRAME {
            return pieces.list.iter().for_each(|piece| self.collect(pieces, piece));
        }
        let mut data = std::mem::take(&mut self.data);
        let mut framer = Framer { out: self, total: data.len() + pieces.len(), frame_left: 0 };
        framer.own(&data);
        for piece in &pieces.list {
            match piece {
                Piece::Scratch(range) => framer.own(&pieces.scratch[range.clone()]),
                Piece::Source(range) => framer.shared(source, range.clone()),
            }
        }
        data.clear();
        self.data = data;
    }

    fn collect(&mut self, pieces: &Pieces, piece: &Piece) {
        if let Piece::Scratch(range) = piece {
            self.data.extend_from_slice(&pieces.scratch[range.clone()]);
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
            self.retire();
        }
    }

    /// Takes the first chunk out, and keeps its memory for another one.
    fn retire(&mut self) {
        if let Some(Chunk { bytes: Bytes::Own(mut bytes), .. }) = self.queue.pop_front()
            && self.spare.len() < SPARES
            && bytes.capacity() > MAX_JOINED / 2
        {
            bytes.clear();
            self.spare.push(bytes);
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

    /// Pushes a copy.
    fn append(&mut self, bytes: &[u8], ends_frame: bool) {
        match self.queue.back_mut() {
            Some(Chunk { bytes: Bytes::Own(last), ends_frame: ends })
                if last.len() + bytes.len() <= MAX_JOINED =>
            {
                last.extend_from_slice(bytes);
                *ends = ends_frame;
                self.len += bytes.len();
            }
            _ => {
                let mut chunk = self.spare.pop().unwrap_or_default();
                chunk.extend_from_slice(bytes);
                self.push(Bytes::Own(chunk), ends_frame);
            }
        }
    }

    /// Small chunks are joined: a write of many small files gathers few slices.
    fn push(&mut self, bytes: Bytes, ends_frame: bool) {
        let chunk = Chunk { bytes, ends_frame };
        let len = chunk.as_slice().len();
        self.len += len;
        match (self.queue.back_mut(), chunk.bytes) {
            _ if len == 0 => {}
            (Some(Chunk { bytes: Bytes::Own(last), ends_frame: ends }), Bytes::Own(new))
                if last.len() + len <= MAX_JOINED =>
            {
                last.extend_from_slice(&new);
                *ends = ends_frame;
            }
            (_, bytes) => self.queue.push_back(Chunk { bytes, ends_frame }),
        }
    }
}

/// Cuts data into frames as it comes.
struct Framer<'a> {
    out: &'a mut Output,
    /// Bytes that are still to come.
    total: usize,
    /// Bytes that the frame begun can take.
    frame_left: usize,
}

impl Framer<'_> {
    fn own(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (here, rest) = bytes.split_at(self.room(bytes.len()));
            self.out.append(here, self.frame_left == 0);
            bytes = rest;
        }
    }

    fn shared(&mut self, source: &Source, mut range: Range<usize>) {
        while !range.is_empty() {
            let end = range.start + self.room(range.len());
            self.out.push(Bytes::Shared(Source::clone(source), range.start..end), self.frame_left == 0);
            range.start = end;
        }
    }

    /// How many of `wanted` bytes come next in the frame; begins one if need be.
    fn room(&mut self, wanted: usize) -> usize {
        if self.frame_left == 0 {
            self.frame_left = self.total.min(MAX_FRAME);
            self.out.append(&mux::header(Code::Data, self.frame_left), false);
        }
        let here = wanted.min(self.frame_left);
        self.frame_left -= here;
        self.total -= here;
        here
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

/// Chunks up to this many bytes are joined.
const MAX_JOINED: usize = 64 << 10;

/// Written chunks whose memory is kept.
const SPARES: usize = 4;

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bytes::Own(bytes) => write!(f, "Own({} bytes)", bytes.len()),
            Bytes::Shared(_, range) => write!(f, "Shared({range:?})"),
        }
    }
}
