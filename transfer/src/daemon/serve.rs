//! The loop between the feed, the ledger and the destinations.

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ebbtide_feed::codec::{self, CodecError, Decoder};
use ebbtide_feed::{Batch, MirrorId, PROTOCOL_VERSION, SenderStatus, Start, ToSender, ToTracker};
use roaring::RoaringBitmap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use crate::destination::account::Account;
use crate::destination::courier::Daemon;
use crate::destination::mirror::Mirror;
use crate::destination::{Asked, Destination};
use crate::ledger::{DestinationId, Ledger, Notice, Started, StoreError, Take};

/// How much of the feed is read at once, in bytes.
const READ: usize = 256 * 1024;

/// How long the tracker may take to read what is said last.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why the sender ends before it is told to.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the feed on stdin is no socket")]
    Stdin(#[source] std::io::Error),
    #[error("the feed failed")]
    Feed(#[from] CodecError),
    #[error("the tracker began with something other than a start")]
    NoStart,
    #[error("the tracker speaks version {0} of the feed, this sender {PROTOCOL_VERSION}: upgrade both")]
    Version(u32),
    #[error("the tracker speaks of mirror {0}, which it did not configure")]
    Mirror(u32),
    #[error(transparent)]
    Ledger(#[from] StoreError),
    #[error("the task of a destination ended: {0}")]
    Task(String),
    #[error("signals cannot be handled")]
    Signals(#[source] std::io::Error),
}

/// Works off the feed on stdin until it ends.
pub(super) async fn serve() -> ExitCode {
    let stream = match stdin_stream() {
        Ok(stream) => stream,
        Err(error) => return failed(&End::Stdin(error)),
    };
    match serve_stream(stream).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(end) => failed(&end),
    }
}

/// rsync's number for "error in file IO" where the ledger failed, else 1.
fn failed(end: &End) -> ExitCode {
    tracing::error!(error = %Chain(end), "the sender ends");
    match end {
        End::Ledger(_) => ExitCode::from(11),
        _ => ExitCode::FAILURE,
    }
}

/// An error and its causes, in one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(out, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

fn stdin_stream() -> std::io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    // Fails when stdin is something else.
    stream.peer_addr()?;
    UnixStream::from_std(stream)
}

/// Works off a feed until it ends.
async fn serve_stream(stream: UnixStream) -> Result<(), End> {
    let (read, write) = stream.into_split();
    let mut feed = Feed { read, decoder: Decoder::default(), buffer: vec![0; READ] };
    let Some(message) = feed.next().await? else { return Ok(()) };
    let ToSender::Start(start) = message else { return Err(End::NoStart) };
    if start.version != PROTOCOL_VERSION {
        return Err(End::Version(start.version));
    }
    let (answers, queue) = mpsc::unbounded_channel();
    let writer = tokio::spawn(write_answers(queue, write));
    let end = match Sender::start(start, answers.clone()).await {
        Ok(sender) => sender.run(feed).await,
        Err(end) => Err(end),
    };
    if let Err(end) = &end {
        // The writer is gone when the tracker is.
        let _ = answers.send(ToTracker::Failed { why: Chain(end).to_string() });
    }
    drop(answers);
    // A tracker that reads nothing any more is not waited for.
    let _ = timeout(LAST_WORDS, writer).await;
    end
}

/// Whole messages from the tracker.
struct Feed {
    read: OwnedReadHalf,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Feed {
    /// The next message; `None` when the tracker closed the feed. May be dropped at any moment.
    async fn next(&mut self) -> Result<Option<ToSender>, CodecError> {
        loop {
            if let Some(message) = self.decoder.next_message()? {
                return Ok(Some(message));
            }
            match self.read.read(&mut self.buffer).await {
                Ok(0) => return Ok(None),
                Ok(count) => self.decoder.push(&self.buffer[..count]),
                // A tracker that was killed.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Everything that is alive between the start and the end.
struct Sender {
    ledger: Ledger,
    ledger_thread: std::thread::JoinHandle<()>,
    notices: mpsc::UnboundedReceiver<Notice>,
    tasks: JoinSet<()>,
    accounts: Vec<Account>,
    /// What people ask of each destination.
    asked: Vec<watch::Sender<Asked>>,
    /// Index of the first destination of each mirror among all of them.
    firsts: Vec<usize>,
    sources: Vec<Arc<Mirror>>,
    answers: mpsc::UnboundedSender<ToTracker>,
    /// What the status says besides figures.
    notes: Vec<String>,
    term: Signal,
    interrupt: Signal,
}

impl Sender {
    async fn start(start: Start, answers: mpsc::UnboundedSender<ToTracker>) -> Result<Self, End> {
        let Start { state_dir, mirrors, .. } = start;
        let (started, mirrors) = spawn_blocking(move || (Ledger::start(&state_dir, &mirrors), mirrors))
            .await
            .map_err(|error| End::Task(error.to_string()))?;
        let Started { ledger, takes, leftovers, dialects, damage, notices, thread } = started?;
        let mut sender = Sender {
            ledger,
            ledger_thread: thread,
            notices,
            tasks: JoinSet::new(),
            accounts: Vec::new(),
            asked: Vec::new(),
            firsts: Vec::new(),
            sources: Vec::new(),
            answers,
            notes: damage.into_iter().collect(),
            term: signal(SignalKind::terminate()).map_err(End::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(End::Signals)?,
        };
        let mut takes = takes.into_iter().zip(leftovers.into_iter().zip(dialects));
        for (at, spec) in mirrors.into_iter().enumerate() {
            sender.firsts.push(sender.accounts.len());
            let mirror = Arc::new(Mirror::new(at, spec));
            sender.sources.push(Arc::clone(&mirror));
            for (number, (takes, (leftovers, known))) in (0..mirror.spec.destinations.len()).zip(&mut takes) {
                sender.start_destination(&mirror, number, takes, (leftovers, known));
            }
        }
        sender.answer(ToTracker::Ready { version: PROTOCOL_VERSION });
        Ok(sender)
    }

    fn start_destination(
        &mut self,
        mirror: &Arc<Mirror>,
        number: usize,
        takes: mpsc::UnboundedReceiver<Take>,
        (leftovers, known): (Option<RoaringBitmap>, Option<Vec<u8>>),
    ) {
        let spec = &mirror.spec.destinations[number];
        // The casts are lossless: mirrors and destinations are counted in thousands.
        let account = Account::new(mirror.index as u32, spec.url.clone());
        let id = DestinationId(self.accounts.len() as u32);
        self.accounts.push(account.clone());
        let (ask, asked) = watch::channel(Asked { paused: spec.paused, releases: 0 });
        self.asked.push(ask);
        match Daemon::new(&mirror.spec, spec) {
            Ok(courier) => {
                let (mirror, ledger) = (Arc::clone(mirror), self.ledger.clone());
                self.tasks.spawn(
                    Destination { id, mirror, courier, ledger, takes, leftovers, known, account, asked }
                        .run(),
                );
            }
            Err(why) => account.misconfigured(why),
        }
    }

    async fn run(mut self, mut feed: Feed) -> Result<(), End> {
        loop {
            tokio::select! {
                biased;
                Some(notice) = self.notices.recv() => self.on_notice(notice)?,
                Some(ended) = self.tasks.join_next() => return Err(End::Task(how(ended))),
                _ = self.term.recv() => return self.end().await,
                _ = self.interrupt.recv() => return self.end().await,
                message = feed.next() => match message? {
                    None | Some(ToSender::Stop) => return self.end().await,
                    Some(message) => self.on_message(message).await?,
                },
            }
        }
    }

    async fn on_message(&mut self, message: ToSender) -> Result<(), End> {
        match message {
            ToSender::Batch(batch) => self.on_batch(batch)?,
            ToSender::Barrier { token } => self.ledger.barrier(token),
            ToSender::CancelBarrier { token } => self.ledger.cancel_barrier(token),
            ToSender::StatusRequest { token } => {
                let status = self.status().await;
                self.answer(ToTracker::Status { token, status });
            }
            ToSender::Pause { mirror, destination, paused } => {
                self.ask(mirror, destination, |asked| asked.paused = paused);
            }
            ToSender::Halt { mirror, halted, root } => {
                if let Some(source) = self.sources.get(mirror as usize) {
                    source.halt(halted, root);
                    let destinations = source.spec.destinations.len();
                    (0..destinations as u32).for_each(|at| self.ask(mirror, at, |_| {}));
                }
            }
            ToSender::Close { mirror, closed } => {
                if let Some(source) = self.sources.get(mirror as usize) {
                    source.close(closed);
                }
            }
            ToSender::Release { mirror, destination } => {
                self.ask(mirror, destination, |asked| asked.releases += 1);
            }
            ToSender::Start(_) => return Err(End::NoStart),
            ToSender::Stop => {}
        }
        Ok(())
    }

    fn ask(&self, mirror: MirrorId, destination: u32, what: impl FnOnce(&mut Asked)) {
        let first = self.firsts.get(mirror as usize);
        if let Some(asked) = first.and_then(|first| self.asked.get(first + destination as usize)) {
            asked.send_modify(what);
        }
    }

    fn on_batch(&mut self, batch: Batch) -> Result<(), End> {
        if batch.mirror as usize >= self.sources.len() {
            return Err(End::Mirror(batch.mirror));
        }
        tracing::debug!(seq = batch.seq, facts = batch.facts.len(), last = batch.last, "batch");
        self.ledger.record(batch);
        Ok(())
    }

    fn on_notice(&mut self, notice: Notice) -> Result<(), End> {
        match notice {
            Notice::Durable { seq } => self.answer(ToTracker::Durable { seq }),
            Notice::Settled { token } => self.answer(ToTracker::Settled { token }),
            Notice::Failed(error) => return Err(error.into()),
            Notice::Closed => {}
        }
        Ok(())
    }

    async fn status(&self) -> SenderStatus {
        let facts = self.ledger.count_facts().await;
        let status =
            |(at, account): (usize, &Account)| account.status(self.ledger.pending(DestinationId(at as u32)));
        let destinations = self.accounts.iter().enumerate().map(status).collect();
        SenderStatus { pid: std::process::id(), facts, destinations, notes: self.notes.clone() }
    }

    /// Gives up sessions, and writes down what is known.
    async fn end(mut self) -> Result<(), End> {
        self.tasks.shutdown().await;
        self.ledger.close();
        while let Some(notice) = self.notices.recv().await {
            let closed = matches!(notice, Notice::Closed);
            self.on_notice(notice)?;
            if closed {
                break;
            }
        }
        // The thread said that it is through; a panic of it was told on stderr.
        let _ = self.ledger_thread.join();
        Ok(())
    }

    fn answer(&self, message: ToTracker) {
        // The writer is gone when the tracker is; the end of the feed tells.
        let _ = self.answers.send(message);
    }
}

async fn write_answers(mut queue: mpsc::UnboundedReceiver<ToTracker>, mut write: OwnedWriteHalf) {
    while let Some(message) = queue.recv().await {
        let sent = match codec::encode(&message) {
            Ok(bytes) => write.write_all(&bytes).await.is_ok(),
            Err(error) => {
                tracing::error!(%error, "an answer to the tracker cannot be written");
                true
            }
        };
        if !sent {
            return;
        }
    }
}

fn how(ended: Result<(), tokio::task::JoinError>) -> String {
    ended.map_or_else(|error| error.to_string(), |()| "by itself".to_owned())
}
