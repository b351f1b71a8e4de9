//! Answers to the daemon's requests, made on a thread of their own: reading, searching and compressing block, and
//! must not hold up the socket.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use ebbtide_wire::answer::{AnswerContext, Encoder, Pieces, Progress, Source as Bytes};
use ebbtide_wire::sender::{Ndx, NoSend, Request};
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver, UnboundedSender};

use super::entry::Entry;
use super::report::Outcome;
use crate::source::{Content, OpenFile, Source};

/// The session's end of the answering thread. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Answerer {
    jobs: UnboundedSender<Job>,
    batches: Receiver<Vec<Part>>,
}

/// One request, and the caller's number of the entry that it is for.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) index: usize,
    pub(super) request: Request,
}

/// A part of the answers, in the order in which they go out.
pub(super) enum Part {
    /// Some bytes of the answer to `ndx`; `first` begins it, `end` ends it.
    Bytes { ndx: Ndx, first: bool, pieces: Pieces, source: Bytes, end: Option<End> },
    /// There is no answer.
    NoSend { ndx: Ndx, index: usize, why: NoSend, error: io::Error },
    /// The encoder cannot go on.
    Broken(ebbtide_wire::Error),
}

/// The end of one answer.
#[derive(Debug)]
pub(super) struct End {
    pub(super) index: usize,
    pub(super) outcome: Outcome,
    /// Length of what was sent, in bytes.
    pub(super) size: u64,
    /// How much of it the destination did not have, in bytes.
    pub(super) literal: u64,
}

/// Batches that wait for the session, each of about [`BATCH_BYTES`] or one encoder step.
const BATCHES: usize = 3;

/// A batch goes out when it has this many bytes, or when no more requests are there.
const BATCH_BYTES: usize = 256 * 1024;

impl Answerer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The compressor has no memory.
    pub(super) fn start(
        context: &AnswerContext,
        entries: Arc<Vec<Entry>>,
        source: Arc<Source>,
    ) -> Result<Answerer, ebbtide_wire::Error> {
        let (jobs, requests) = mpsc::unbounded_channel();
        let (sender, batches) = mpsc::channel(BATCHES);
        let encoder = context.encoder()?;
        let worker = Worker { encoder, entries, source, batch: Vec::new(), batch_bytes: 0, batches: sender };
        tokio::task::spawn_blocking(move || worker.run(requests));
        Ok(Answerer { jobs, batches })
    }

    /// Hands over a request. The core bounds how many are open, by no longer wanting input.
    pub(super) fn ask(&self, job: Job) {
        // The thread lives as long as this end does, unless it broke, and then said so as its last batch.
        let _ = self.jobs.send(job);
    }

    /// Waits for the next batch; `None` after the thread has ended.
    pub(super) async fn next(&mut self) -> Option<Vec<Part>> {
        self.batches.recv().await
    }

    /// The next batch, if one is there.
    pub(super) fn next_now(&mut self) -> Option<Vec<Part>> {
        self.batches.try_recv().ok()
    }
}

struct Worker {
    encoder: Encoder,
    entries: Arc<Vec<Entry>>,
    source: Arc<Source>,
    batch: Vec<Part>,
    batch_bytes: usize,
    batches: Sender<Vec<Part>>,
}

/// The session has dropped its end.
struct Unwanted;

impl Worker {
    fn run(mut self, mut jobs: UnboundedReceiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            if self.answer(&job).is_err() {
                return;
            }
            if jobs.is_empty() && self.hand_over().is_err() {
                return;
            }
        }
    }

    fn answer(&mut self, job: &Job) -> Result<(), Unwanted> {
        let ndx = job.request.ndx;
        let index = job.index;
        let entry = &self.entries[index];
        let opened = self.source.open_file(entry.root, &entry.name);
        let read = opened.and_then(|file| file.content(Vec::new()).map(|content| (file, Arc::new(content))));
        match read {
            Ok((file, content)) => self.encode(job, &file, &content),
            Err(error) => {
                let why = if is_gone(&error) { NoSend::Gone } else { NoSend::Other };
                self.add(Part::NoSend { ndx, index, why, error }, 0)
            }
        }
    }

    fn encode(&mut self, job: &Job, file: &OpenFile, content: &Arc<Content>) -> Result<(), Unwanted> {
        if let Err(error) = self.encoder.start(&job.request, content.len()) {
            return self.add(Part::Broken(error), BATCH_BYTES);
        }
        let mut first = true;
        loop {
            let mut pieces = Pieces::default();
            let progress = match self.encoder.step(content.as_ref(), &mut pieces) {
                Ok(progress) => progress,
                Err(error) => return self.add(Part::Broken(error), BATCH_BYTES),
            };
            if content.was_cut() {
                self.spoil(progress, &mut pieces);
            }
            let end = (progress == Progress::Done).then(|| self.end(job, file, content));
            let done = end.is_some();
            // A part of a large file goes out soon, however little it has become: the receiver can work on it.
            let bytes = if done && first { pieces.len() } else { pieces.len().max(BATCH_BYTES / 4) };
            let source: Bytes = Arc::clone(content) as Bytes;
            self.add(Part::Bytes { ndx: job.request.ndx, first, pieces, source, end }, bytes)?;
            first = false;
            if done {
                return Ok(());
            }
        }
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
        let listed = &self.entries[job.index].meta;
        let steady = file.after().is_ok_and(|after| !listed.content_differs(&after)) && !content.was_cut();
        let outcome = if steady { Outcome::Sent } else { Outcome::ChangedWhileRead };
        let literal = self.encoder.literal_bytes();
        End { index: job.index, outcome, size: content.len() as u64, literal }
    }

    fn add(&mut self, part: Part, bytes: usize) -> Result<(), Unwanted> {
        self.batch.push(part);
        // Each part costs something to hold, however few bytes it has.
        self.batch_bytes += bytes + 256;
        if self.batch_bytes >= BATCH_BYTES { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<(), Unwanted> {
        self.batch_bytes = 0;
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batches.blocking_send(std::mem::take(&mut self.batch)).map_err(|_| Unwanted)
    }
}

/// Whether the name is not there any more: nothing stands there, or something that is no regular file, or the way to
/// it leads through a symlink by now.
fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
        || matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput)
}
