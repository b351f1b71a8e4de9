//! The session's public face.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::handshake::Handshake;
use super::lists::Lists;
use super::messages::LastWords;
use super::output::Output;
use super::stream::Stream;
use super::transfer::Transfer;
use super::{Event, Ndx, NoSend};
use crate::answer::{AnswerContext, Piece, Pieces, Source};
use crate::error::ErrorKind;
use crate::flist::{FileList, Layout, ListEncoder};
use crate::proto::filter::put_filters;
use crate::proto::{Checksum, CompatFlags, Compression, Dialect, IoErrors, Protocol, ServerOptions};
use crate::wire::mux::{Code, Demux, frame};
use crate::wire::ndx::{FLIST_EOF, FLIST_OFFSET};
use crate::{Error, Stage};

/// Who is at the other end, and so how a session begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Peer {
    /// `rsync --daemon`, by itself or through a remote shell: greetings, a module, perhaps a password, arguments.
    #[default]
    Daemon,
    /// `rsync --server`, started by a remote shell with its arguments ([`ServerOptions::command`]): both sides begin
    /// with their version as an integer. Peer: rsync's compat.c:setup_protocol.
    Server,
}

/// What a session needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who is at the other end.
    pub peer: Peer,
    /// Name of the module; empty asks a daemon for the listing of modules. A [`Peer::Server`] has none.
    pub module: Vec<u8>,
    /// Path below the module, without a leading slash. End it with `/`, so that it always is a directory.
    pub path: Vec<u8>,
    /// User for authentication; `nobody` if there is none.
    pub user: Option<Vec<u8>>,
    /// Password for authentication. Without one, a daemon that wants one makes an [`Event::PasswordWanted`].
    pub password: Option<Vec<u8>>,
    /// What the daemon is asked to do.
    pub options: ServerOptions,
    /// Rules for the receiver's deletion, as they travel (protocol note, section 2.4), such as `- *.tmp`. Only sent
    /// with a kind of delete or `-m`.
    pub filters: Vec<Vec<u8>>,
    /// The checksums that may be used, the one liked best first; empty for all, in our own order.
    pub checksums: Vec<Checksum>,
    /// The same of compressions, where [`ServerOptions::compress`] leaves the choice open.
    pub compressions: Vec<Compression>,
    /// The level of the compression, or its default.
    pub compress_level: Option<i32>,
    /// The newest protocol to speak.
    pub protocol: Protocol,
    /// Bytes for a daemon's early exec hook, at most 5120; daemons before 3.2.1 refuse them.
    pub early_input: Vec<u8>,
    /// Give a [`Peer::Server`] its arguments in the stream rather than on the command line, where a shell reads them.
    pub secluded: bool,
    /// Send the arguments together with the module's name, or with the answer to the challenge, without waiting for
    /// the daemon's OK: one round trip less. If the daemon then refuses the module, its words may be lost with the connection, so
    /// use it where a session went well before.
    pub eager: bool,
    /// The dialect of an earlier session with this module and the same options, which went well: the list then goes
    /// out behind the arguments, unasked, and the daemon's first requests come with its greeting or, after a
    /// challenge, with its OK. A session in which the daemon turns out to speak otherwise fails with
    /// [`ErrorKind::Changed`]; begin anew without this then. Forget it after any other failure, too, and when an option
    /// changes. Of no use with [`ServerOptions::incremental`], and to a [`Peer::Server`]. Implies `eager`.
    pub known: Option<Dialect>,
}

impl Config {
    /// A session for `module` and `path` with the given options and nothing else special.
    pub fn new(module: impl Into<Vec<u8>>, path: impl Into<Vec<u8>>, options: ServerOptions) -> Self {
        Config {
            peer: Peer::Daemon,
            module: module.into(),
            path: path.into(),
            user: None,
            password: None,
            options,
            filters: Vec::new(),
            checksums: Vec::new(),
            compressions: Vec::new(),
            compress_level: None,
            protocol: Protocol::V32,
            early_input: Vec::new(),
            secluded: false,
            eager: false,
            known: None,
        }
    }
}

/// One session with a daemon.
///
/// The driver feeds what arrives into [`Client::handle_input`], then takes all events with [`Client::poll_event`],
/// and writes what [`Client::output`] shows.
#[derive(Debug)]
pub struct Client {
    pub(super) config: Config,
    pub(super) state: State,
    pub(super) stage: Stage,
    /// The first failure; every later call fails the same way.
    failure: Option<Error>,
    pub(super) handshake: Handshake,
    pub(super) dialect: Option<Dialect>,
    pub(super) demux: Demux,
    pub(super) stream: Stream,
    pub(super) transfer: Transfer,
    pub(super) list: List,
    pub(super) lists: Lists,
    pub(super) events: VecDeque<Event>,
    /// The daemon has lists enough, until it has worked through half of them: they go out together then.
    rests: bool,
    pub(super) output: Output,
    pub(super) last_words: LastWords,
    /// The filter list, if the daemon reads one.
    filters: Vec<u8>,
}

/// A list that is on its way, with incremental recursion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Index of its first entry; the others follow in order.
    pub first: Ndx,
    /// Numbers of the directories in it.
    pub directories: Range<u32>,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Lines and raw numbers.
    Handshake,
    /// Frames.
    Frames,
    /// Frames, until the daemon closes: it said that it gives up with this code.
    Leaving {
        /// The daemon's exit code.
        code: u8,
        /// Bytes that it may still say before we no longer listen.
        patience: usize,
    },
    /// Nothing any more.
    Finished,
}

/// Where the list is.
#[derive(Debug)]
pub(super) enum List {
    /// The driver has not given it.
    Missing,
    /// The session is not ready for it.
    Waiting(Arc<FileList>),
    /// Parts of it are in the output.
    Sending(Arc<FileList>, Box<ListEncoder>),
    /// All of it is in the output.
    Sent,
    /// It comes in parts, with incremental recursion.
    Parts(Box<ListEncoder>),
}

impl Client {
    /// A session that has not heard anything yet. What can be said without hearing is in the output already.
    ///
    /// # Errors
    /// Misuse: options, filters or names that cannot be sent.
    pub fn new(config: Config) -> Result<Self, Error> {
        let handshake = Handshake::new(&config)?;
        let mut filters = Vec::new();
        if config.options.sends_filters() {
            put_filters(&config.filters, &mut filters)?;
        }
        let stage = if config.peer == Peer::Daemon { Stage::Greeting } else { Stage::Setup };
        let mut client = Client {
            config,
            state: State::Handshake,
            stage,
            failure: None,
            handshake,
            dialect: None,
            demux: Demux::default(),
            stream: Stream::default(),
            transfer: Transfer::default(),
            list: List::Missing,
            lists: Lists::default(),
            events: VecDeque::new(),
            rests: false,
            output: Output::default(),
            last_words: LastWords::default(),
            filters,
        };
        client.open();
        Ok(client)
    }

    /// How far the session has come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What was agreed on, once it is.
    pub fn dialect(&self) -> Option<&Dialect> {
        self.dialect.as_ref()
    }

    /// What answers depend on, once the session is set up.
    pub fn answer_context(&self) -> Option<AnswerContext> {
        let dialect = self.dialect.as_ref()?;
        Some(AnswerContext {
            checksum: dialect.checksum,
            seed_first: dialect.compat.has(CompatFlags::CHECKSUM_SEED_FIX),
            seed: dialect.seed,
            compression: dialect.compression,
            level: self.config.compress_level,
            append: self.config.options.append,
        })
    }

    /// Whether [`Event::Finished`] was given out or waits.
    pub fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Takes bytes that arrived.
    ///
    /// # Errors
    /// The session failed, now or earlier. [`Client::output`] may still hold the error exit for the daemon.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.check()?;
        let result = match self.state {
            State::Handshake => self.handle_handshake(bytes),
            State::Frames | State::Leaving { .. } => self.handle_frames(bytes),
            State::Finished => Ok(()),
        };
        self.settle(result)
    }

    /// Takes the news that nothing more will arrive.
    ///
    /// # Errors
    /// The session was not at its end; after an error exit of the daemon this returns its code and text.
    pub fn handle_eof(&mut self) -> Result<(), Error> {
        self.check()?;
        let kind = match self.state {
            State::Finished => return Ok(()),
            State::Leaving { code, .. } => self.last_words.exit(code),
            State::Handshake | State::Frames => self.last_words.closed(),
        };
        let error = kind.at(self.stage);
        self.failure = Some(error.clone());
        Err(error)
    }

    /// Whether the daemon has given up: nothing but the end of the stream is waited for, and a driver need not wait
    /// for long before it calls [`Client::handle_eof`], which tells why.
    pub fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving { .. })
    }

    /// Whether the driver should read from the socket. It is `false` while too much that was read waits for answers
    /// or too much output waits to be written; a daemon that stops reading then cannot make us grow.
    ///
    /// A daemon reads whatever it is sent before it needs anything read, so waiting here cannot block both sides as
    /// long as the driver keeps writing and answering.
    pub fn wants_input(&self) -> bool {
        self.transfer.retained() + self.stream.waiting() <= MAX_RETAINED && self.output.len() <= MAX_OUTPUT
    }

    /// The next event. Take all of them after each [`Client::handle_input`].
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is to be written, in order, as slices for a gathered write.
    pub fn output(&self) -> impl Iterator<Item = &[u8]> {
        self.output.slices()
    }

    /// Bytes that wait to be written. The driver encodes ahead only while this is small, such as 1 MiB.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Forgets the first `written` bytes of the output, and makes more of a list that is being sent.
    pub fn advance(&mut self, written: usize) {
        self.output.advance(written);
        self.refill();
    }

    /// Answers [`Event::PasswordWanted`].
    ///
    /// # Errors
    /// Misuse: no password is wanted, or the session said more than it may before one, as [`Config::eager`] and
    /// [`Config::known`] have it. The daemon offers no digest that we know.
    pub fn give_password(&mut self, password: &[u8]) -> Result<(), Error> {
        self.check()?;
        if !self.waits_for_password() {
            return Err(self.misuse("a password that nobody asked for"));
        }
        self.config.password = Some(password.to_vec());
        let result = self.respond();
        self.settle(result)
    }

    /// Gives the list. May be called before [`Event::Ready`], unless entries need checksums.
    ///
    /// # Errors
    /// Misuse: there is one already, it is empty, or it has entries that the options do not allow for.
    pub fn send_list(&mut self, list: Arc<FileList>) -> Result<(), Error> {
        self.check()?;
        if list.is_empty() {
            return Err(self.misuse("an empty list says nothing to a daemon"));
        }
        if !matches!(self.list, List::Missing) {
            return Err(self.misuse("a session has one list"));
        }
        if let Some(wrong) = list.misfit(&self.config.options) {
            return Err(self.misuse(wrong));
        }
        if self.is_incremental() {
            return Err(self.misuse("with incremental recursion the list comes in parts"));
        }
        self.list = List::Waiting(list);
        self.begin_list();
        Ok(())
    }

    /// Whether the daemon takes the list in parts: [`Client::push_list`] instead of [`Client::send_list`]. Known from
    /// [`Event::Ready`] on.
    pub fn is_incremental(&self) -> bool {
        self.dialect.as_ref().is_some_and(|dialect| dialect.compat.has(CompatFlags::INC_RECURSE))
    }

    /// Whether a part of the list should come now: the daemon will soon have worked through those that it has.
    pub fn wants_list(&self) -> bool {
        self.is_incremental()
            && self.failure.is_none()
            && self.state == State::Frames
            && !self.lists.complete
            && !self.transfer.is_open()
            && self.lists.ahead() < if self.rests { ENTRIES_AHEAD / 2 } else { ENTRIES_AHEAD }
            // What is asked for keeps its list. Where the receiver is slower than the generator, that would become the tree.
            && self.transfer.unanswered() < ENTRIES_AHEAD
            && self.output.len() < PARTS_AHEAD
    }

    /// Whether the daemon may come to the end of its lists at any moment. Otherwise lists may as well be sent a little
    /// later, and together.
    pub fn is_short_of_lists(&self) -> bool {
        self.lists.ahead() < ENTRIES_AHEAD / 10
    }

    /// Sends the list of one directory, with incremental recursion: all of it goes into the output. The first list
    /// has no `dir`; it holds the root of the transfer and what is in it, or whatever else stands at the top. Later
    /// ones name their directory by its number. Returns the numbers of the directories in this list, in the order of
    /// [`FileList::directories`], and the index of its first entry. Each directory needs a list later, except `.`; the
    /// order is free. The index before the first entry's stands for the directory that the list is of.
    ///
    /// I/O errors that were added before travel with the list, unless they did earlier.
    ///
    /// # Errors
    /// Misuse: recursion is not incremental, an answer is open, the directory has its list, the list is of another
    /// kind, or has entries that the options do not allow for.
    pub fn push_list(&mut self, dir: Option<u32>, list: Arc<FileList>) -> Result<Pushed, Error> {
        self.check()?;
        if !self.is_incremental() || self.transfer.is_open() {
            return Err(self.misuse("a part of a list comes at the wrong time"));
        }
        if list.directory().is_none_or(|path| path.is_empty() != dir.is_none()) {
            return Err(self.misuse("a part of a list is not of the directory that it came for"));
        }
        if dir.is_none() && list.is_empty() {
            return Err(self.misuse("an empty list says nothing to a daemon"));
        }
        if let Some(wrong) = list.misfit(&self.config.options) {
            return Err(self.misuse(wrong));
        }
        let start = self.lists.next_start(true);
        let directories = self.lists.add(dir, Arc::clone(&list)).map_err(|wrong| self.misuse(wrong))?;
        self.put_part(dir, list, start);
        self.rests = self.lists.ahead() >= ENTRIES_AHEAD;
        Ok(Pushed { first: Ndx(start), directories })
    }

    /// Says that every directory has its list now.
    ///
    /// # Errors
    /// Misuse: recursion is not incremental, an answer is open, or a directory has no list yet.
    pub fn end_lists(&mut self) -> Result<(), Error> {
        self.check()?;
        if !self.is_incremental() || self.transfer.is_open() || self.lists.complete {
            return Err(self.misuse("the end of the lists comes at the wrong time"));
        }
        if !self.lists.is_every_directory_listed() {
            return Err(self.misuse("a directory has no list"));
        }
        self.lists.complete = true;
        self.transfer.put_index(FLIST_EOF, self.output.data());
        self.events.push_back(Event::ListSent);
        self.output.seal();
        let result = self.read_stream();
        self.settle(result)
    }

    /// Begins the answer to a request. Only one answer is open at a time.
    ///
    /// # Errors
    /// Misuse: no such request is unanswered, or another answer is open.
    pub fn begin_answer(&mut self, ndx: Ndx) -> Result<(), Error> {
        self.check()?;
        if !self.transfer.begin(ndx, self.output.data()) {
            return Err(self.misuse("an answer begins to what is no open request"));
        }
        Ok(())
    }

    /// Appends to the open answer and clears `pieces`. The source is kept as long as parts of it wait to be written.
    ///
    /// # Errors
    /// Misuse: no answer is open, or a range lies outside.
    pub fn push_pieces(&mut self, pieces: &mut Pieces, source: &Source) -> Result<(), Error> {
        self.check()?;
        let file_len = (**source).as_ref().len();
        let fits = |piece: &Piece| match piece {
            Piece::Scratch(range) => range.start <= range.end && range.end <= pieces.scratch.len(),
            Piece::Source(range) => range.start <= range.end && range.end <= file_len,
        };
        if !self.transfer.is_open() || !pieces.list.iter().all(fits) {
            return Err(self.misuse("pieces of no open answer, or outside of their bytes"));
        }
        self.output.pieces(pieces, source);
        pieces.clear();
        Ok(())
    }

    /// Appends to the open answer what lies in memory.
    ///
    /// # Errors
    /// Misuse: no answer is open.
    pub fn push_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.check()?;
        if !self.transfer.is_open() {
            return Err(self.misuse("bytes of no open answer"));
        }
        self.output.data().extend_from_slice(bytes);
        Ok(())
    }

    /// Ends the open answer; its last piece was pushed. What was said is in the output after [`Client::flush`].
    ///
    /// # Errors
    /// Misuse: no answer is open. A failure of the session that what came in meanwhile brings to light.
    pub fn end_answer(&mut self) -> Result<(), Error> {
        self.check()?;
        if !self.transfer.end(self.output.data()) {
            return Err(self.misuse("an answer ends that was not begun"));
        }
        let result = self.read_stream();
        if result.is_ok() && self.transfer.is_busy() {
            // Answers to small files share a frame.
            return Ok(());
        }
        self.settle(result)
    }

    /// Makes sure that all that was said is in the output: answers may wait for the next ones while there are requests
    /// without an answer. Call it before writing, when no more answers are at hand.
    pub fn flush(&mut self) {
        self.output.seal();
    }

    /// Answers the oldest [`Event::Values`]: one value for each name, `None` for one that cannot be read. The receiver
    /// then leaves that attribute as it is, and says so.
    ///
    /// # Errors
    /// Misuse: no values are wanted, or another number of them. A failure of the session that what came in meanwhile
    /// brings to light.
    pub fn give_values(&mut self, values: Vec<Option<Vec<u8>>>) -> Result<(), Error> {
        self.check()?;
        if values.iter().any(Option::is_none) {
            self.add_io_errors(IoErrors::GENERAL);
        }
        if !self.transfer.give_values(values, self.output.data()) {
            return Err(self.misuse("values that nobody asked for"));
        }
        let result = self.read_stream();
        self.settle(result)
    }

    /// Answers a request with: this file will not come.
    ///
    /// # Errors
    /// Misuse: no such request is unanswered, or its answer was begun. A failure of the session that what came in
    /// meanwhile brings to light.
    pub fn no_send(&mut self, ndx: Ndx, why: NoSend) -> Result<(), Error> {
        self.check()?;
        if !self.transfer.drop_request(ndx) {
            return Err(self.misuse("what is no open request is not sent"));
        }
        self.add_io_errors(match why {
            NoSend::Gone => IoErrors::VANISHED,
            NoSend::Other => IoErrors::GENERAL,
            NoSend::Withheld => IoErrors::NONE,
        });
        self.output.message(Code::NoSend, &ndx.0.to_le_bytes());
        let result = self.read_stream();
        self.settle(result)
    }

    /// Adds to the I/O errors of our side. Before the end of the list they travel with it, later in a message of
    /// their own.
    pub fn add_io_errors(&mut self, errors: IoErrors) {
        self.transfer.io_errors.add(errors);
    }

    /// Puts an empty frame into the output if it is empty and frames are spoken: a sign of life.
    pub fn keep_alive(&mut self) {
        if self.state == State::Frames && self.output.len() == 0 && self.failure.is_none() {
            self.output.raw(frame(Code::Data, &[]));
        }
    }

    /// Ends the session from our side: drops the output that was not begun and tells the daemon our exit code, where
    /// the protocol can. Every later call fails with `error`.
    pub fn abort(&mut self, error: &Error) {
        if self.failure.is_some() || self.state == State::Finished {
            return;
        }
        self.failure = Some(error.clone());
        let speaks = self.dialect.as_ref().is_some_and(|dialect| dialect.protocol >= Protocol::V31);
        if self.state == State::Frames && speaks {
            self.output.cut();
            self.output.raw(frame(Code::ErrorExit, &i32::from(error.exit_code().0).to_le_bytes()));
        }
    }

    /// Sends what comes before the list, and the list as far as it should be.
    pub(super) fn begin_list(&mut self) {
        let Some(dialect) = &self.dialect else { return };
        if let List::Waiting(list) = &self.list {
            let mut encoder = ListEncoder::new(Layout::new(&self.config.options, dialect));
            encoder.begin(Arc::clone(list), 0);
            self.output.data().append(&mut self.filters);
            self.list = List::Sending(Arc::clone(list), Box::new(encoder));
            self.refill();
        }
    }

    /// Encodes the list of one directory.
    fn put_part(&mut self, dir: Option<u32>, list: Arc<FileList>, start: u32) {
        if let (List::Missing, Some(dialect)) = (&self.list, &self.dialect) {
            let layout = Layout::new(&self.config.options, dialect);
            self.output.data().append(&mut self.filters);
            self.list = List::Parts(Box::new(ListEncoder::new(layout)));
            self.stage = Stage::Transfer;
        }
        let List::Parts(encoder) = &mut self.list else { return };
        let (all, sent) = (self.transfer.io_errors, self.transfer.io_errors_sent);
        let mut errors = if all == sent || self.config.options.ignore_errors { IoErrors::NONE } else { all };
        self.transfer.io_errors_sent = all;
        if !encoder.end_carries_errors() && errors != IoErrors::NONE {
            // Messages keep their place in the stream: the receiver hears of it before it has the list.
            self.output.message(Code::IoError, &errors.bits().to_le_bytes());
            errors = IoErrors::NONE;
        }
        if let Some(dir) = dir {
            // Lossless: there are fewer directories than indexes.
            self.transfer.put_index(FLIST_OFFSET - dir as i32, self.output.data());
        }
        encoder.begin(list, start);
        encoder.encode(self.output.data(), usize::MAX);
        encoder.end(errors, self.output.data());
        self.output.seal();
    }

    /// A list that went out ahead of the handshake does not end it.
    fn enter_transfer(&mut self) {
        if self.state == State::Frames {
            self.stage = Stage::Transfer;
        }
    }

    fn refill(&mut self) {
        while self.output.len() < LIST_AHEAD {
            let List::Sending(list, encoder) = &mut self.list else { return };
            let done = encoder.encode(self.output.data(), LIST_PART);
            if done {
                let all = self.transfer.io_errors;
                let errors = if self.config.options.ignore_errors { IoErrors::NONE } else { all };
                encoder.end(errors, self.output.data());
                if encoder.end_carries_errors() {
                    self.transfer.io_errors_sent = all;
                }
                self.lists.add_whole(Arc::clone(list));
                self.list = List::Sent;
                self.enter_transfer();
                self.events.push_back(Event::ListSent);
            }
            self.output.seal();
        }
    }

    fn check(&self) -> Result<(), Error> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Frames what was said, or latches the failure.
    fn settle(&mut self, result: Result<(), ErrorKind>) -> Result<(), Error> {
        match result {
            Ok(()) => {
                self.output.seal();
                self.refill();
                Ok(())
            }
            Err(kind) => {
                let error = kind.at(self.stage);
                self.abort(&error);
                Err(error)
            }
        }
    }

    fn misuse(&self, what: &str) -> Error {
        Error::misuse(self.stage, what)
    }
}

/// What may wait for answers before we stop reading, in bytes: the sums of a file of about a TB, or of many smaller
/// ones that a daemon asks for ahead.
const MAX_RETAINED: usize = 64 << 20;

/// What may wait to be written before we stop reading, in bytes: echoes of items are made while reading.
const MAX_OUTPUT: usize = 8 << 20;

/// How many entries and directories the daemon has before it, of those that it did not come to yet, before it gets no
/// more of them. rsync itself keeps 1000 ahead.
const ENTRIES_AHEAD: usize = 10_000;

/// How much of the list is encoded before it is written, in bytes.
const LIST_AHEAD: usize = 256 << 10;

/// How much may wait to be written before no further list of a directory follows, in bytes.
const PARTS_AHEAD: usize = 1 << 20;

/// How much of the list is encoded at once, in bytes.
const LIST_PART: usize = 64 << 10;
