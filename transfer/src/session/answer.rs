//! Answers to the daemon's requests, made on a thread of their own: reading, searching and compressing block, and
//! must not hold up the socket.

use std::io::{self, ErrorKind};
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use ebbtide_wire::answer::{AnswerContext, Encoder, Pieces, Progress, Source as Bytes};
use ebbtide_wire::sender::{Ndx, NoSend, Request};
use ebbtide_wire::token::looks_compressed;
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver, UnboundedSender};

use super::frames::{self, FRAME, FRAMES_FROM, Share};
use super::lists::Spot;
use super::report::Outcome;
use super::skip::SkipCompress;
use crate::source::{Content, OpenFile, Source, Steps};

/// The session's end of the answering thread. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Answerer {
    jobs: UnboundedSender<Job>,
    batches: Receiver<Batch>,
    /// Memory of batches that were taken in.
    used: UnboundedSender<Vec<u8>>,
}

/// One request, and the entry that it is for.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) spot: Spot,
    pub(super) request: Request,
}

/// Some parts of the answers, in the order in which they go out.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) parts: Vec<Part>,
    /// The answers to small files.
    pub(super) bytes: Vec<u8>,
}

/// A part of the answers.
pub(super) enum Part {
    /// A whole answer: a range of the batch's bytes.
    Small { ndx: Ndx, range: Range<usize>, end: End },
    /// Some bytes of the answer to `ndx`, up to what becomes of this offset in the file; `first` begins it, `end` ends it.
    Bytes { ndx: Ndx, first: bool, pieces: Pieces, source: Bytes, until: usize, end: Option<End> },
    /// There is no answer.
    NoSend { ndx: Ndx, why: NoSend, error: io::Error },
    /// The encoder cannot go on.
    Broken(ebbtide_wire::Error),
}

/// The end of one answer.
#[derive(Debug)]
pub(super) struct End {
    pub(super) outcome: Outcome,
    /// Length of what was sent, in bytes.
    pub(super) size: u64,
    /// How much of it the destination did not have, in bytes.
    pub(super) literal: u64,
    /// How many bytes of sums came with the request.
    pub(super) sums: u64,
}

/// Batches that wait for the session, each of about [`BATCH_BYTES`] or one encoder step.
const BATCHES: usize = 3;

/// A batch goes out when it has this many bytes, or when no more requests are there.
const BATCH_BYTES: usize = 256 * 1024;

/// Shorter files are copied into their batch; longer ones are partly sent from where they were read to.
const SMALL: usize = 2 << 10;

/// The header of block sums.
const HEADER_BYTES: u64 = 16;

/// Shorter files that hold compressed data go with the others: the compressor sees quickly that it cannot help.
const RAW_FROM: usize = 64 << 10;

/// How much of a map stays behind what is being encoded, in bytes: about what waits to be written.
const KEPT_MAPPED: usize = 8 << 20;

/// The same while frames are made, which may wait as parts of the map.
const KEPT_FRAMES: usize = (BATCHES + 2) * FRAME;

impl Answerer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The compressor has no memory.
    pub(super) fn start(
        context: &AnswerContext,
        source: Arc<Source>,
        compressing: Compressing,
    ) -> Result<Answerer, ebbtide_wire::Error> {
        let (jobs, requests) = mpsc::unbounded_channel();
        let (sender, batches) = mpsc::channel(BATCHES);
        let (used, spare) = mpsc::unbounded_channel();
        let encoder = context.encoder()?;
        let context = context.clone();
        let worker = Worker {
            context,
            compressing,
            encoder,
            source,
            steps: Steps::default(),
            batch: Batch::default(),
            batch_bytes: 0,
            pieces: Pieces::default(),
            buffer: Vec::new(),
            batches: sender,
            spare,
        };
        tokio::task::spawn_blocking(move || worker.run(requests));
        Ok(Answerer { jobs, batches, used })
    }

    /// Hands over a request. The core bounds how many are open, by no longer wanting input.
    pub(super) fn ask(&self, job: Job) {
        // The thread lives as long as this end does, unless it broke, and then said so as its last batch.
        let _ = self.jobs.send(job);
    }

    /// Waits for the next batch; `None` after the thread has ended.
    pub(super) async fn next(&mut self) -> Option<Batch> {
        self.batches.recv().await
    }

    /// Gives back the memory of a batch's bytes.
    pub(super) fn reuse(&self, bytes: Vec<u8>) {
        // Nobody needs it when the thread has ended.
        let _ = self.used.send(bytes);
    }

    /// The next batch, if one is there.
    pub(super) fn next_now(&mut self) -> Option<Batch> {
        self.batches.try_recv().ok()
    }
}

/// What this side decides about compressing.
#[derive(Clone, Debug)]
pub(super) struct Compressing {
    /// Threads that may compress one large file.
    pub(super) threads: usize,
    /// Files that are taken as compressed.
    pub(super) skip: SkipCompress,
}

struct Worker {
    context: AnswerContext,
    compressing: Compressing,
    encoder: Encoder,
    source: Arc<Source>,
    steps: Steps,
    batch: Batch,
    batch_bytes: usize,
    /// Where small files are read to and their answers are made.
    pieces: Pieces,
    buffer: Vec<u8>,
    batches: Sender<Batch>,
    /// Memory of batches that the session has taken in: fresh memory costs more than what is written to it.
    spare: UnboundedReceiver<Vec<u8>>,
}

/// The session has dropped its end.
struct Unwanted;

impl Worker {
    fn run(mut self, mut jobs: UnboundedReceiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            if self.answer(&job).is_err() {
                return;
            }
            if jobs.is_empty() {
                // Who knows when the next one comes, and where the folder is then.
                self.steps.rest();
                if self.hand_over().is_err() {
                    return;
                }
            }
        }
    }

    fn answer(&mut self, job: &Job) -> Result<(), Unwanted> {
        let ndx = job.request.ndx;
        let entry = job.spot.entry();
        if entry.withheld {
            let (why, error) = (NoSend::Withheld, ErrorKind::Other.into());
            return self.add(Part::NoSend { ndx, why, error }, 0);
        }
        let opened = self.steps.open_listed(&self.source, entry.root, entry.place(), &entry.meta);
        let buffer = mem::take(&mut self.buffer);
        let read = opened.and_then(|file| file.content(buffer).map(|content| (file, content)));
        match read {
            Ok((file, content)) if content.len() < SMALL => self.encode_small(job, &file, content),
            Ok((file, content)) => self.encode(job, &file, &Arc::new(content)),
            Err(error) => {
                let why = if is_gone(&error) { NoSend::Gone } else { NoSend::Other };
                self.add(Part::NoSend { ndx, why, error }, 0)
            }
        }
    }

    /// Makes the answer where the batch has its bytes.
    fn encode_small(&mut self, job: &Job, file: &OpenFile, content: Content) -> Result<(), Unwanted> {
        self.pieces.list.clear();
        self.pieces.scratch = mem::take(&mut self.batch.bytes);
        let start = self.pieces.scratch.len();
        let mut progress = self.encoder.start(&job.request, content.len()).map(|()| Progress::More);
        while let Ok(Progress::More) = progress {
            progress = self.encoder.step(&content, &mut self.pieces);
        }
        self.batch.bytes = mem::take(&mut self.pieces.scratch);
        if let Err(error) = progress {
            return self.broken(error);
        }
        let (ndx, end, bytes) = (job.request.ndx, self.end(job, file, &content), self.pieces.len());
        if !self.pieces.is_own() {
            let pieces = Pieces { scratch: self.batch.bytes.clone(), list: mem::take(&mut self.pieces.list) };
            self.batch.bytes.truncate(start);
            return self.add(
                Part::Bytes {
                    ndx,
                    first: true,
                    until: content.len(),
                    pieces,
                    source: Arc::new(content),
                    end: Some(end),
                },
                bytes,
            );
        }
        if let Content::Read(buffer) = content {
            self.buffer = buffer;
        }
        self.add(Part::Small { ndx, range: start..start + bytes, end }, bytes)
    }

    fn encode(&mut self, job: &Job, file: &OpenFile, content: &Arc<Content>) -> Result<(), Unwanted> {
        if let Err(error) = self.encoder.start(&job.request, content.len()) {
            return self.broken(error);
        }
        if let Some((range, share)) = self.framed(job, content) {
            return self.encode_frames(job, file, content, range, share);
        }
        let mut first = true;
        loop {
            let mut pieces = Pieces::default();
            let progress = match self.encoder.step(content.as_ref(), &mut pieces) {
                Ok(progress) => progress,
                Err(error) => return self.broken(error),
            };
            if content.was_cut() {
                self.spoil(progress, &mut pieces);
            }
            let end = (progress == Progress::Done).then(|| self.end(job, file, content));
            let done = end.is_some();
            // A part of a large file goes out soon, however little it has become: the receiver can work on it.
            let bytes = if done && first { pieces.len() } else { pieces.len().max(BATCH_BYTES / 4) };
            let source: Bytes = Arc::clone(content) as Bytes;
            let until = self.encoder.position();
            self.add(Part::Bytes { ndx: job.request.ndx, first, pieces, source, until, end }, bytes)?;
            content.release(until.saturating_sub(KEPT_MAPPED));
            first = false;
            if done {
                return Ok(());
            }
        }
    }

    /// What of a file goes as frames of its own, and how: large ones, and those that hold compressed data.
    fn framed(&self, job: &Job, content: &Content) -> Option<(Range<usize>, Share)> {
        let range = self.encoder.frames().filter(|range| range.len() >= RAW_FROM)?;
        let as_it_is = self.compressing.skip.holds(&job.spot.entry().name);
        let framed = as_it_is || range.len() >= FRAMES_FROM || looks_compressed(&content[range.clone()]);
        framed.then_some((range, Share { as_it_is, threads: self.compressing.threads }))
    }

    fn encode_frames(
        &mut self,
        job: &Job,
        file: &OpenFile,
        content: &Arc<Content>,
        range: Range<usize>,
        share: Share,
    ) -> Result<(), Unwanted> {
        let ndx = job.request.ndx;
        let part = |pieces, first, until, end| {
            let source: Bytes = Arc::clone(content) as Bytes;
            Part::Bytes { ndx, first, pieces, source, until, end }
        };
        let mut pieces = Pieces::default();
        if let Err(error) = self.encoder.begin_frames(content, &mut pieces) {
            return self.broken(error);
        }
        self.add(part(pieces, true, range.start, None), 0)?;
        let context = self.context.clone();
        frames::make(
            content,
            range,
            share,
            || context.framer(),
            |range, made| {
                let pieces = match made {
                    Ok(pieces) => pieces,
                    Err(error) => return self.broken(error).and(Err(Unwanted)),
                };
                content.release(range.start.saturating_sub(KEPT_FRAMES));
                let until = range.end;
                self.encoder.pass(&content[range]);
                self.add(part(pieces, false, until, None), BATCH_BYTES)
            },
        )?;
        let mut pieces = Pieces::default();
        if content.was_cut() {
            self.encoder.spoil();
        }
        if let Err(error) = self.encoder.end_frames(&mut pieces) {
            return self.broken(error);
        }
        let end = self.end(job, file, content);
        self.add(part(pieces, false, content.len(), Some(end)), 64)
    }

    fn broken(&mut self, error: ebbtide_wire::Error) -> Result<(), Unwanted> {
        self.add(Part::Broken(error), BATCH_BYTES)
    }

    /// Makes sure that the receiver throws away what it gets, as part of it was not in the file.
    fn spoil(&mut self, progress: Progress, pieces: &mut Pieces) {
        match progress {
            Progress::More => self.encoder.spoil(),
            // The checksum stands at the end of what this step made.
            Progress::Done => {
                if let Some(last) = pieces.scratch.last_mut() {
                    *last ^= 0xff;
                }
            }
        }
    }

    fn end(&self, job: &Job, file: &OpenFile, content: &Content) -> End {
        let listed = &job.spot.entry().meta;
        let steady = file.after().is_ok_and(|after| !listed.content_differs(&after)) && !content.was_cut();
        let outcome = if steady { Outcome::Sent } else { Outcome::ChangedWhileRead };
        let literal = self.encoder.literal_bytes();
        let header = job.request.header();
        let sums = HEADER_BYTES + u64::from(header.count) * header.stride() as u64;
        End { outcome, size: content.len() as u64, literal, sums }
    }

    fn add(&mut self, part: Part, bytes: usize) -> Result<(), Unwanted> {
        self.batch.parts.push(part);
        // Each part costs something to hold, however few bytes it has.
        self.batch_bytes += bytes + 256;
        if self.batch_bytes >= BATCH_BYTES { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<(), Unwanted> {
        self.batch_bytes = 0;
        if self.batch.parts.is_empty() {
            return Ok(());
        }
        let batch = mem::take(&mut self.batch);
        // The next one will mostly be as large.
        self.batch.parts.reserve(batch.parts.len());
        self.batch.bytes = self.spare.try_recv().unwrap_or_default();
        self.batch.bytes.clear();
        self.batch.bytes.reserve(batch.bytes.len());
        self.batches.blocking_send(batch).map_err(|_| Unwanted)
    }
}

/// Whether the name is not there any more: nothing stands there, or something that is no regular file, or the way to
/// it leads through a symlink by now.
fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
        || matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput)
}
