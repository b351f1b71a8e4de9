//! The session's public face.

use std::sync::Arc;

use super::{Event, Ndx, NoSend};
use crate::answer::{AnswerContext, Pieces, Source};
use crate::flist::FileList;
use crate::proto::{Checksum, Dialect, IoErrors, Protocol, ServerOptions};
use crate::{Error, Stage};

/// What a session needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the module; empty asks for the listing of modules.
    pub module: Vec<u8>,
    /// Path below the module, without a leading slash. End it with `/`, so that it always is a directory.
    pub path: Vec<u8>,
    /// User for authentication; `nobody` if there is none.
    pub user: Option<Vec<u8>>,
    /// Password for authentication.
    pub password: Option<Vec<u8>>,
    /// What the daemon is asked to do.
    pub options: ServerOptions,
    /// Rules for the receiver's deletion, as they travel (protocol note, section 2.4), such as `- *.tmp`. Only sent
    /// with a kind of delete or `-m`.
    pub filters: Vec<Vec<u8>>,
    /// The one checksum to use, or the best that both know.
    pub checksum: Option<Checksum>,
    /// The level of the compression, or its default.
    pub compress_level: Option<i32>,
    /// The newest protocol to speak.
    pub protocol: Protocol,
}

impl Config {
    /// A session for `module` and `path` with the given options and nothing else special.
    pub fn new(module: impl Into<Vec<u8>>, path: impl Into<Vec<u8>>, options: ServerOptions) -> Self {
        Config {
            module: module.into(),
            path: path.into(),
            user: None,
            password: None,
            options,
            filters: Vec::new(),
            checksum: None,
            compress_level: None,
            protocol: Protocol::V32,
        }
    }
}

/// One session with a daemon.
///
/// The driver feeds what arrives into [`Client::handle_input`], then takes all events with [`Client::poll_event`],
/// and writes what [`Client::output`] shows.
#[derive(Debug)]
pub struct Client {
    config: Config,
    stage: Stage,
    dialect: Option<Dialect>,
    list: Option<Arc<FileList>>,
}

impl Client {
    /// A session that has not heard anything yet. The daemon speaks first.
    ///
    /// # Errors
    /// Misuse: options, filters or names that cannot be sent.
    pub fn new(config: Config) -> Result<Self, Error> {
        Ok(Client { config, stage: Stage::Greeting, dialect: None, list: None })
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
        None
    }

    /// Takes bytes that arrived.
    ///
    /// # Errors
    /// The session failed, now or earlier. [`Client::output`] may still hold the error exit for the daemon.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let _ = (bytes, &self.config);
        Ok(())
    }

    /// Takes the news that nothing more will arrive.
    ///
    /// # Errors
    /// The session was not at its end; after an error exit of the daemon this returns its code and text.
    pub fn handle_eof(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Whether the driver should read from the socket. It is `false` while too much that was read waits for answers
    /// or too much output waits to be written; a daemon that stops reading then cannot make us grow.
    pub fn wants_input(&self) -> bool {
        true
    }

    /// The next event. Take all of them after each [`Client::handle_input`].
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// What is to be written, in order, as slices for a gathered write.
    pub fn output(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::empty()
    }

    /// Bytes that wait to be written. The driver encodes ahead only while this is small.
    pub fn output_len(&self) -> usize {
        0
    }

    /// Forgets the first `written` bytes of the output, and makes more of a list that is being sent.
    pub fn advance(&mut self, written: usize) {
        let _ = written;
    }

    /// Gives the list. May be called before [`Event::Ready`], unless entries need checksums.
    ///
    /// # Errors
    /// Misuse: there is one already, or it does not fit the options.
    pub fn send_list(&mut self, list: Arc<FileList>) -> Result<(), Error> {
        self.list = Some(list);
        Ok(())
    }

    /// Begins the answer to a request. Only one answer is open at a time.
    ///
    /// # Errors
    /// Misuse: no such request is unanswered, or another answer is open.
    pub fn begin_answer(&mut self, ndx: Ndx) -> Result<(), Error> {
        let _ = ndx;
        Ok(())
    }

    /// Appends to the open answer and clears `pieces`. The source is kept as long as parts of it wait to be written.
    ///
    /// # Errors
    /// Misuse: no answer is open, or a range lies outside.
    pub fn push_pieces(&mut self, pieces: &mut Pieces, source: &Source) -> Result<(), Error> {
        let _ = source;
        pieces.clear();
        Ok(())
    }

    /// Ends the open answer; its last piece was pushed.
    ///
    /// # Errors
    /// Misuse: no answer is open.
    pub fn end_answer(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Answers a request with: this file will not come.
    ///
    /// # Errors
    /// Misuse: no such request is unanswered, or its answer was begun.
    pub fn no_send(&mut self, ndx: Ndx, why: NoSend) -> Result<(), Error> {
        let _ = (ndx, why);
        Ok(())
    }

    /// Adds to the I/O errors of our side. Before the end of the list they travel with it, later in a message of
    /// their own.
    pub fn add_io_errors(&mut self, errors: IoErrors) {
        let _ = errors;
    }

    /// Puts an empty frame into the output if it is empty and frames are spoken: a sign of life.
    pub fn keep_alive(&mut self) {}

    /// Ends the session from our side: drops the output that was not begun and tells the daemon our exit code, where
    /// the protocol can. Every later call fails.
    pub fn abort(&mut self, error: Error) {
        let _ = error;
    }
}
