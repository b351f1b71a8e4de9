//! Moves bytes between the socket, the protocol core and the answering thread. One task does all of it, so that
//! reading never waits for writing: a daemon may send all of its requests before it reads anything.

mod give_list;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use ebbtide_wire::ErrorKind;
use ebbtide_wire::answer::{Piece, Pieces};
use ebbtide_wire::flist::FileList;
use ebbtide_wire::proto::{Dialect, ExitCode};
use ebbtide_wire::sender::{self, Client, Event, Iflags, Ndx, Request, ValuesRequest};
use tokio::task::{self, JoinHandle};
use tokio::time::{Instant, sleep_until, timeout};

use super::answer::{Answerer, Batch, Compressing, End, Job, Part};
use super::entry::FileListInput;
use super::error::{SessionErrorKind, Stage};
use super::listings::{Lister, Listing, Listings, Ready};
use super::lists::{Lists, Spot, Whole};
use super::pulse::{Due, Pulse};
use super::report::{Asking, Item, Observer, Outcome, Report, Sent, Text, TextKind};
use super::tally::{Tally, outcome_of};
use crate::options::PushOptions;
use crate::source::Source;
use crate::text::{Escaped, OsError};
use crate::transport::{Password, ShellEnd, Stream};

/// A session on a connected stream.
pub(super) struct Driver<'a> {
    stream: Stream,
    client: Client,
    options: &'a PushOptions,
    source: Arc<Source>,
    observer: &'a mut dyn Observer,
    /// What makes the list, until the daemon has said in which form it takes it.
    listings: Option<Box<dyn Listings>>,
    /// The password, while somebody is asked for it.
    asking: Option<Asking>,
    /// The list, while it is being built.
    building: Option<Building>,
    /// The thread that makes lists of directories.
    lister: Option<Lister>,
    /// What that thread made, and the daemon does not need yet.
    ready: VecDeque<Ready>,
    lists: Lists,
    /// The observer learns what became of each entry.
    settles: bool,
    answerer: Option<Answerer>,
    compressing: Compressing,
    /// Requests without a complete answer.
    open_requests: usize,
    /// Bytes of the answer that is open.
    answer_bytes: u64,
    /// Up to which offset in the file that answer goes.
    answered_until: usize,
    /// When the list began to go out, and how many bytes had been made before.
    list_began: Option<(Instant, u64)>,
    pulse: Pulse,
    tally: Tally,
    finished: Option<sender::Outcome>,
    buffer: Box<[u8]>,
    bytes_read: u64,
    bytes_written: u64,
}

type Building = JoinHandle<Built>;

/// The only list, and what went into it if that was not known before.
type Built = Result<Box<(FileList, Option<Listing>)>, ebbtide_wire::Error>;

/// Where the list comes from.
pub(super) enum Input {
    /// It is known.
    Whole(FileListInput),
    /// It is made while the session runs.
    Listings(Box<dyn Listings>),
}

/// A session that did not run to its end.
pub(super) struct Aborted {
    pub(super) stage: Stage,
    pub(super) kind: SessionErrorKind,
    pub(super) texts: Vec<Text>,
}

/// Why the task woke up.
enum Woken {
    Socket(io::Result<bool>),
    Answers(Option<Batch>),
    Password(Option<Password>),
    Built(Result<Built, task::JoinError>),
    Listed(Option<Vec<Ready>>),
    Tick,
    /// There is nothing to wait for.
    Stuck,
}

/// No more answers are taken in while this many bytes wait to be written.
const HIGH_WATER: usize = 1 << 20;

/// How much one read takes at most.
const READ_SIZE: usize = 128 * 1024;

/// How many slices one gathered write takes at most (the kernel's limit is 1024).
const SLICES: usize = 256;

/// What goes before the data of an answer, but for a basis' name: its index, mostly one byte, and its flags.
const ITEM_BYTES: u64 = 3;

/// How long a session that failed waits for the daemon to take the news, or to close after it gave up.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a remote shell whose exit code counts has to end, unless `--timeout` says something else. One that is far
/// away, or shares its connection with others, takes longer than its last byte.
const SHELL_PATIENCE: Duration = Duration::from_secs(60);

impl<'a> Driver<'a> {
    pub(super) fn new(
        stream: Stream,
        client: Client,
        options: &'a PushOptions,
        started: Instant,
        input: Input,
        source: Arc<Source>,
        observer: &'a mut dyn Observer,
    ) -> Driver<'a> {
        let mut tally = Tally::new();
        let (list, listings) = match input {
            Input::Whole(list) => (list, None),
            Input::Listings(listings) => (FileListInput::default(), Some(listings)),
        };
        tally.listed(&list.entries);
        let mut driver = Driver {
            stream,
            client,
            options,
            source,
            observer,
            listings,
            asking: None,
            building: None,
            lister: None,
            ready: VecDeque::new(),
            settles: false,
            lists: Lists::Whole(Whole::new(list.entries)),
            answerer: None,
            compressing: Compressing { threads: options.threads(), skip: options.skip_compress.clone() },
            open_requests: 0,
            answer_bytes: 0,
            answered_until: 0,
            list_began: None,
            pulse: Pulse::new(options.timeout, options.contimeout, started),
            tally,
            finished: None,
            buffer: vec![0; READ_SIZE].into_boxed_slice(),
            bytes_read: 0,
            bytes_written: 0,
        };
        driver.client.add_io_errors(list.io_errors);
        driver
    }

    /// Runs the session to its end.
    pub(super) async fn run(mut self) -> Result<Report, Aborted> {
        let outcome = self.exchange().await;
        let stage = self.client.stage().into();
        if outcome.is_err() {
            self.say_farewell().await;
        }
        match outcome {
            Ok(outcome) => {
                let exit = self.end_well(outcome.exit).await;
                Ok(self.report(sender::Outcome { exit, ..outcome }))
            }
            Err(kind) => {
                let silent = self.bytes_read == 0 && stage == Stage::Greeting;
                let kind = if silent { kind.without_greeting() } else { kind };
                let patience = if kind.leaves_it_to_shell() { self.shell_patience() } else { FAREWELL };
                let kind = match self.stream.end(patience).await {
                    ShellEnd::Code(code) => kind.with_shell(code),
                    _ => kind,
                };
                Err(Aborted { stage, kind, texts: self.tally.texts })
            }
        }
    }

    /// Ends a stream that is not needed any more; tells the exit code, which is the remote shell's own if it failed.
    ///
    /// Peer: rsync's main.c:client_run, which waits for its shell without end.
    async fn end_well(&mut self, exit: ExitCode) -> ExitCode {
        let patience = self.shell_patience();
        match self.stream.end(patience).await {
            ShellEnd::Fine => exit,
            ShellEnd::Code(code) => ExitCode(code),
            ShellEnd::Crashed => ExitCode::CRASHED,
            ShellEnd::Terminated => ExitCode::TERMINATED,
            ShellEnd::Late => {
                let late = format!("the remote shell did not end within {} s", patience.as_secs());
                self.observer.text(&Text { kind: TextKind::Warning, bytes: late.into_bytes() });
                exit
            }
        }
    }

    fn shell_patience(&self) -> Duration {
        self.options.timeout.unwrap_or(SHELL_PATIENCE)
    }

    async fn exchange(&mut self) -> Result<sender::Outcome, SessionErrorKind> {
        // Without entries only a listing of modules can be meant.
        if !self.options.server.checksum && self.has_entries() {
            self.build_list()?;
        }
        loop {
            self.take_events()?;
            self.push_ready()?;
            self.take_answers()?;
            self.write(true)?;
            if let Some(outcome) = self.finished.filter(|_| !self.has_output()) {
                return Ok(outcome);
            }
            if self.client.is_leaving() {
                self.pulse.leave(FAREWELL);
            }
            match self.wait().await {
                Woken::Socket(readable) => {
                    if readable.map_err(|error| self.broken(error))? {
                        self.read()?;
                    }
                }
                Woken::Answers(batch) => self.on_batch(batch)?,
                Woken::Password(password) => self.on_password(password)?,
                Woken::Built(list) => self.on_list(list)?,
                Woken::Listed(ready) => self.on_listed(ready)?,
                Woken::Tick => self.on_tick()?,
                Woken::Stuck => {
                    return Err(SessionErrorKind::Local("the session waits for nothing".to_owned()));
                }
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let read = self.wants_input();
        let write = self.has_output();
        let room = self.client.output_len() < HIGH_WATER;
        let tick = self.pulse.next();
        let list = self.wants_listings();
        let Driver { stream, answerer, asking, building, lister, .. } = self;
        tokio::select! {
            readable = stream.ready(read, write), if read || write => Woken::Socket(readable),
            batch = next_batch(answerer), if room && answerer.is_some() => Woken::Answers(batch),
            password = asked(asking), if asking.is_some() => Woken::Password(password),
            list = built(building), if building.is_some() => Woken::Built(list),
            ready = next_listings(lister), if list => Woken::Listed(ready),
            () = sleep_until(tick.unwrap_or_else(Instant::now)), if tick.is_some() => Woken::Tick,
            else => Woken::Stuck,
        }
    }

    /// Reads all that is there, as long as the core wants it.
    fn read(&mut self) -> Result<(), SessionErrorKind> {
        while self.wants_input() {
            match self.stream.try_read(&mut self.buffer) {
                Err(error) => return Err(self.broken(error)),
                Ok(None) => return Ok(()),
                Ok(Some(0)) => return self.on_end_of_stream(),
                Ok(Some(count)) => {
                    self.bytes_read += count as u64;
                    self.pulse.read();
                    let taken = self.client.handle_input(&self.buffer[..count]);
                    // What was understood before something was not is still worth showing.
                    self.take_events()?;
                    taken.map_err(wire)?;
                }
            }
        }
        Ok(())
    }

    /// Behind the daemon's last word nothing is read: not even how it closes the connection.
    fn wants_input(&self) -> bool {
        self.finished.is_none() && self.client.wants_input()
    }

    fn on_end_of_stream(&mut self) -> Result<(), SessionErrorKind> {
        self.client.handle_eof().map_err(wire)?;
        self.take_events()?;
        if self.finished.is_some() {
            return Ok(());
        }
        Err(SessionErrorKind::Wire(ErrorKind::Closed { text: Vec::new() }))
    }

    /// Writes as much as the socket takes; `data` tells whether it is more than a sign of life.
    fn write(&mut self, data: bool) -> Result<(), SessionErrorKind> {
        self.client.flush();
        if let Err(error) = self.stream.flush() {
            return self.on_broken_pipe(error);
        }
        while self.client.output_len() > 0 {
            match gathered_write(&mut self.stream, &self.client) {
                Ok(None) => return Ok(()),
                Ok(Some(count)) => {
                    self.bytes_written += count as u64;
                    self.client.advance(count);
                    self.pulse.wrote(data);
                }
                Err(error) => return self.on_broken_pipe(error),
            }
        }
        Ok(())
    }

    /// All bytes of the session so far, written or waiting.
    fn bytes_made(&self) -> u64 {
        self.bytes_written + self.client.output_len() as u64
    }

    /// Whether anything waits to be written, in the core or on its way.
    fn has_output(&self) -> bool {
        self.client.output_len() > 0 || self.stream.holds_output()
    }

    /// The daemon no longer reads. What it said before tells why.
    fn on_broken_pipe(&mut self, error: io::Error) -> Result<(), SessionErrorKind> {
        if self.finished.is_none() {
            self.read()?;
        }
        if self.finished.is_none() {
            return Err(self.broken(error));
        }
        self.client.advance(self.client.output_len());
        self.stream.give_up();
        Ok(())
    }

    /// The daemon's own reason, if it gave one before the connection broke.
    fn broken(&mut self, error: io::Error) -> SessionErrorKind {
        match self.client.handle_eof() {
            Err(reason) if !matches!(reason.kind, ErrorKind::Closed { .. }) => wire(reason),
            _ => SessionErrorKind::of_stream(error),
        }
    }

    fn take_events(&mut self) -> Result<(), SessionErrorKind> {
        while let Some(event) = self.client.poll_event() {
            self.on_event(event)?;
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event) -> Result<(), SessionErrorKind> {
        match event {
            Event::Motd(line) => self.on_text(TextKind::Motd, line),
            Event::Listing(line) => self.on_text(TextKind::Listing, line),
            Event::Message { kind, text } => self.on_text(kind.into(), text),
            Event::PasswordWanted => return self.ask_for_password(),
            Event::Ready(dialect) => return self.on_ready(&dialect),
            Event::Request(request) => return self.on_request(request),
            Event::Values(request) => return self.on_values(&request),
            Event::Item(item) => self.on_item(&item),
            Event::Deleted(deleted) => self.observer.deleted(&deleted.name, deleted.directory),
            Event::DeleteStats(stats) => self.tally.deleted(stats),
            Event::IoTimeout(seconds) => self.pulse.adopt(Duration::from_secs(seconds.into())),
            Event::Finished(outcome) => self.finished = Some(outcome),
            Event::Success(ndx) => {
                if let Some((index, entry)) = self.lists.entry(ndx) {
                    self.observer.stored(index, entry);
                }
            }
            Event::ListDone(_) => {
                let Driver { lists, observer, .. } = self;
                if let Lists::Parts(parts) = lists {
                    parts.settle(|index, entry, outcome| observer.settled(index, entry, outcome));
                }
            }
            Event::ListSent => {
                if let Some((began, before)) = self.list_began.take() {
                    self.tally.totals.list_bytes = self.bytes_made() - before;
                    self.tally.totals.list_time = began.elapsed();
                }
            }
        }
        Ok(())
    }

    fn ask_for_password(&mut self) -> Result<(), SessionErrorKind> {
        self.asking = self.observer.password();
        // How long that takes is up to a person.
        self.pulse.welcomed();
        self.asking.as_ref().map(|_| ()).ok_or(SessionErrorKind::Wire(ErrorKind::PasswordRequired))
    }

    fn on_password(&mut self, password: Option<Password>) -> Result<(), SessionErrorKind> {
        self.asking = None;
        let password = password.ok_or(SessionErrorKind::Wire(ErrorKind::PasswordRequired))?;
        self.client.give_password(password.as_bytes()).map_err(wire)
    }

    fn on_ready(&mut self, dialect: &Dialect) -> Result<(), SessionErrorKind> {
        self.pulse.welcomed();
        self.observer.ready(dialect);
        if self.listings.is_some() {
            self.start_lister();
            return Ok(());
        }
        if self.options.server.checksum || !self.has_entries() { self.build_list() } else { Ok(()) }
    }

    fn on_text(&mut self, kind: TextKind, bytes: Vec<u8>) {
        let text = Text { kind, bytes };
        if let Some(ndx) = self.tally.text(&text) {
            self.lists.note(ndx, Outcome::Failed("its checksum failed twice".to_owned()));
        }
        self.observer.text(&text);
    }

    fn on_item(&mut self, item: &sender::Item) {
        if let Some(outcome) = outcome_of(item, self.options.server.dry_run) {
            self.lists.note(item.ndx, outcome);
        }
        let link_name = item.xname.as_deref();
        let Some((index, entry)) = self.lists.entry(item.ndx) else { return };
        if self.options.server.dry_run && item.iflags.has(Iflags::TRANSFER) {
            self.tally.would_send(entry.meta.size);
        }
        self.observer.item(&Item { index, entry, flags: item.iflags, link_name });
    }

    fn on_request(&mut self, request: Request) -> Result<(), SessionErrorKind> {
        let Some(spot) = self.lists.spot(request.ndx) else { return Ok(()) };
        if request.redo {
            self.tally.redo(request.ndx, &spot.entry().name);
        }
        if self.answerer.is_none()
            && let Some(context) = self.client.answer_context()
        {
            let source = Arc::clone(&self.source);
            let answerer = Answerer::start(&context, source, self.compressing.clone());
            self.answerer = Some(answerer.map_err(wire)?);
        }
        if let Some(answerer) = &self.answerer {
            answerer.ask(Job { spot, request });
            self.open_requests += 1;
        }
        Ok(())
    }

    /// Reads values of extended attributes here and now: they are short, and the file was just looked at.
    fn on_values(&mut self, request: &ValuesRequest) -> Result<(), SessionErrorKind> {
        let spot = self.lists.spot(request.ndx);
        let value = |name: &Vec<u8>| spot.as_ref().and_then(|spot| self.value(request.ndx, spot, name));
        let values = request.names.iter().map(value).collect();
        self.client.give_values(values).map_err(wire)
    }

    fn value(&mut self, ndx: Ndx, spot: &Spot, name: &[u8]) -> Option<Vec<u8>> {
        let entry = spot.entry();
        match self.source.xattr_value(entry.root, entry.place(), &entry.meta, name) {
            Ok(value) => Some(value),
            Err(error) => {
                self.observer.unreadable(entry, &error);
                let why = format!("its attribute {} cannot be read: {}", Escaped(name), OsError(&error));
                self.lists.note(ndx, Outcome::Failed(why));
                None
            }
        }
    }

    fn answered(&mut self, ndx: Ndx, outcome: Outcome) {
        if let Some((index, _)) = self.lists.entry(ndx) {
            self.observer.answered(index, &outcome);
        }
        self.lists.note(ndx, outcome);
    }

    fn has_entries(&self) -> bool {
        matches!(&self.lists, Lists::Whole(whole) if !whole.entries.is_empty())
    }

    /// Takes in what the answering thread has made, as long as there is room.
    fn take_answers(&mut self) -> Result<(), SessionErrorKind> {
        while self.client.output_len() < HIGH_WATER {
            let Some(batch) = self.answerer.as_mut().and_then(Answerer::next_now) else { return Ok(()) };
            self.on_batch(Some(batch))?;
        }
        Ok(())
    }

    fn on_batch(&mut self, batch: Option<Batch>) -> Result<(), SessionErrorKind> {
        let ended = || SessionErrorKind::Local("the answering thread ended".to_owned());
        let Batch { parts, bytes } = batch.ok_or_else(ended)?;
        parts.into_iter().try_for_each(|part| self.on_part(part, &bytes))?;
        if let Some(answerer) = &self.answerer {
            answerer.reuse(bytes);
        }
        Ok(())
    }

    fn on_part(&mut self, part: Part, bytes: &[u8]) -> Result<(), SessionErrorKind> {
        match part {
            Part::Small { ndx, range, end } => {
                let bytes = bytes.get(range).unwrap_or_default();
                self.client.begin_answer(ndx).map_err(wire)?;
                self.client.push_bytes(bytes).map_err(wire)?;
                self.answer_bytes = ITEM_BYTES + bytes.len() as u64;
                self.observer.moved(end.size);
                self.end_answer(ndx, end, &bytes[bytes.len().saturating_sub(self.checksum_length())..])?;
            }
            Part::Bytes { ndx, first, mut pieces, source, until, end } => {
                if first {
                    self.client.begin_answer(ndx).map_err(wire)?;
                    (self.answer_bytes, self.answered_until) = (ITEM_BYTES, 0);
                }
                self.answer_bytes += pieces.len() as u64;
                let checksum = end.as_ref().map(|_| self.file_checksum(&pieces)).unwrap_or_default();
                self.client.push_pieces(&mut pieces, &source).map_err(wire)?;
                self.observer.moved(until.saturating_sub(self.answered_until) as u64);
                self.answered_until = until;
                if let Some(end) = end {
                    self.end_answer(ndx, end, &checksum)?;
                }
            }
            Part::NoSend { ndx, why, error } => {
                self.answered(ndx, unsent(why, &error));
                if let Some((_, entry)) = self.lists.entry(ndx).filter(|_| why != sender::NoSend::Withheld) {
                    self.observer.unreadable(entry, &error);
                }
                self.client.no_send(ndx, why).map_err(wire)?;
                self.open_requests -= 1;
            }
            Part::Broken(error) => return Err(wire(error)),
        }
        Ok(())
    }

    fn end_answer(&mut self, ndx: Ndx, end: End, checksum: &[u8]) -> Result<(), SessionErrorKind> {
        self.tell_sent(ndx, &end, checksum);
        // The daemon may be done with the file's list as soon as it has the answer.
        self.tally.answered(&end);
        self.answered(ndx, end.outcome);
        self.client.end_answer().map_err(wire)?;
        self.open_requests -= 1;
        Ok(())
    }

    fn checksum_length(&self) -> usize {
        self.client.dialect().map_or(0, |dialect| dialect.checksum.digest_len())
    }

    /// The checksum of the file stands at the end of what ends its answer.
    fn file_checksum(&self, pieces: &Pieces) -> Vec<u8> {
        let length = self.checksum_length();
        match pieces.list.last() {
            Some(Piece::Scratch(range)) if range.len() >= length => {
                pieces.scratch.get(range.end - length..range.end).unwrap_or_default().to_vec()
            }
            _ => Vec::new(),
        }
    }

    fn tell_sent(&mut self, ndx: Ndx, end: &End, checksum: &[u8]) {
        let Some((index, entry)) = self.lists.entry(ndx) else { return };
        let place = self.lists.place(ndx).unwrap_or(index);
        let (size, written, sums) = (end.size, self.answer_bytes, end.sums);
        self.observer.sent(&Sent { index, place, entry, size, written, sums, checksum });
    }

    fn on_tick(&mut self) -> Result<(), SessionErrorKind> {
        let answering = self.open_requests > 0 && self.client.output_len() == 0;
        if self.asking.is_some() || self.building.is_some() || self.wants_listings() || answering {
            // The daemon has all that we have made, and waits for more.
            self.pulse.read();
        }
        let mut due = self.pulse.due(Instant::now());
        if let Due::Dead(_) = due {
            // If it was we who were kept from running for so long, what came meanwhile is there.
            self.read()?;
            due = self.pulse.due(Instant::now());
        }
        match due {
            Due::Nothing => Ok(()),
            Due::Dead(kind) => Err(kind),
            Due::Left => self.on_end_of_stream(),
            Due::KeepAlive => {
                self.client.keep_alive();
                self.pulse.wrote(false);
                self.write(false)
            }
        }
    }

    /// Lets the daemon know, where the core has something for it, and does not wait for long.
    async fn say_farewell(&mut self) {
        let _ = timeout(FAREWELL, async {
            while self.client.output_len() > 0 {
                match gathered_write(&mut self.stream, &self.client) {
                    Ok(Some(count)) => self.client.advance(count),
                    Ok(None) => {
                        let _ = self.stream.ready(false, true).await;
                    }
                    Err(_) => return,
                }
            }
        })
        .await;
    }

    fn report(self, outcome: sender::Outcome) -> Report {
        let outcomes = match self.lists {
            Lists::Whole(whole) if self.settles => {
                for (index, entry) in whole.entries.iter().enumerate() {
                    self.observer.settled(index, entry, &whole.outcomes.get(index));
                }
                Vec::new()
            }
            Lists::Whole(whole) => whole.outcomes.all(),
            Lists::Parts(_) => Vec::new(),
        };
        Report {
            exit: outcome.exit,
            partial: outcome.transfer_errors > 0,
            io_errors: outcome.io_errors,
            bytes_written: self.bytes_written,
            bytes_read: self.bytes_read,
            dialect: self.client.dialect().cloned(),
            outcomes,
            texts: self.tally.texts,
            totals: self.tally.totals,
        }
    }
}

async fn next_batch(answerer: &mut Option<Answerer>) -> Option<Batch> {
    match answerer {
        Some(answerer) => answerer.next().await,
        None => None,
    }
}

async fn next_listings(lister: &mut Option<Lister>) -> Option<Vec<Ready>> {
    match lister {
        Some(lister) => lister.next().await,
        None => None,
    }
}

async fn asked(asking: &mut Option<Asking>) -> Option<Password> {
    match asking {
        Some(asking) => asking.as_mut().await,
        None => None,
    }
}

async fn built(building: &mut Option<Building>) -> Result<Built, task::JoinError> {
    match building {
        Some(building) => building.await,
        None => std::future::pending().await,
    }
}

fn gathered_write(stream: &mut Stream, client: &Client) -> io::Result<Option<usize>> {
    let slices: Vec<IoSlice<'_>> = client.output().take(SLICES).map(IoSlice::new).collect();
    match stream.try_write(&slices) {
        // A mapped file was cut short: the kernel finds no page where the signal handler, in our own accesses,
        // finds one to put there.
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
            slices.iter().for_each(|slice| touch(slice));
            stream.try_write(&slices)
        }
        outcome => outcome,
    }
}

/// Reads a byte of each page.
fn touch(slice: &[u8]) {
    let sum = slice.iter().step_by(4096).chain(slice.last()).fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    std::hint::black_box(sum);
}

fn unsent(why: sender::NoSend, error: &io::Error) -> Outcome {
    match why {
        sender::NoSend::Gone => Outcome::Vanished,
        sender::NoSend::Other => Outcome::Failed(OsError(error).to_string()),
        sender::NoSend::Withheld => Outcome::Failed("its content was kept back".to_owned()),
    }
}

fn wire(error: ebbtide_wire::Error) -> SessionErrorKind {
    SessionErrorKind::Wire(error.kind)
}

#[cfg(test)]
mod tests;
