//! Why a session did not run to its end.

use std::fmt;
use std::io;

use ebbtide_wire::ErrorKind;
use ebbtide_wire::proto::ExitCode;

use super::report::Text;
use crate::transport::{ProxyError, TlsError};

/// A session that did not run to its end: nothing of it can be taken as done.
#[derive(Debug, thiserror::Error)]
#[error("{destination}: {stage}: {kind}")]
pub struct SessionError {
    /// The destination, as its URL without password.
    pub destination: String,
    /// How far the session had come.
    pub stage: Stage,
    /// What went wrong.
    pub kind: SessionErrorKind,
    /// What the daemon had said until then.
    pub texts: Vec<Text>,
}

/// How far a session had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Finding the host's addresses.
    Resolve,
    /// Connecting.
    Connect,
    /// Shaking hands for TLS.
    Tls,
    /// Lines before the module is chosen.
    Greeting,
    /// Between the module's name and the daemon's OK.
    Auth,
    /// Arguments, compat flags, negotiation.
    Setup,
    /// The file list.
    List,
    /// Requests and file data.
    Transfer,
    /// The closing exchange.
    Goodbye,
}

impl From<ebbtide_wire::Stage> for Stage {
    fn from(stage: ebbtide_wire::Stage) -> Self {
        match stage {
            ebbtide_wire::Stage::Greeting => Stage::Greeting,
            ebbtide_wire::Stage::Auth => Stage::Auth,
            ebbtide_wire::Stage::Setup => Stage::Setup,
            ebbtide_wire::Stage::List => Stage::List,
            ebbtide_wire::Stage::Transfer => Stage::Transfer,
            ebbtide_wire::Stage::Goodbye => Stage::Goodbye,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Stage::Resolve => "resolving the host",
            Stage::Connect => "connecting",
            Stage::Tls => "TLS handshake",
            Stage::Greeting => "greeting",
            Stage::Auth => "authenticating",
            Stage::Setup => "setup",
            Stage::List => "file list",
            Stage::Transfer => "transfer",
            Stage::Goodbye => "goodbye",
        })
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum SessionErrorKind {
    /// The host's name has no address.
    #[error("host {host} has no usable address")]
    Resolve {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// No address could be connected to.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The proxy on the way does not connect us.
    #[error("{0}")]
    Proxy(Box<ProxyError>),
    /// The program that should connect us cannot be started.
    #[error("Failed to exec {program}: {source}")]
    Exec {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The connection ended before a daemon greeted us.
    #[error("{0}, and nobody had greeted: if TLS is spoken there, use rsyncs://")]
    NoGreeting(Box<SessionErrorKind>),
    /// The remote shell ended with a code of its own.
    #[error("{before}; the remote shell ended with code {code}{meaning}")]
    Shell {
        /// Its exit code, above 0.
        code: u8,
        /// What the code says by convention, in brackets, or nothing.
        meaning: &'static str,
        /// What we had seen before.
        before: Box<SessionErrorKind>,
    },
    /// TLS does not stand, or broke.
    #[error("{0}")]
    Tls(Box<TlsError>),
    /// The connection did not stand in time.
    #[error("no connection within {0} s")]
    ConnectTimeout(u64),
    /// The socket failed.
    #[error("the connection broke: {0}")]
    Socket(io::Error),
    /// Nothing arrived for too long.
    #[error("nothing arrived for {0} s")]
    Timeout(u64),
    /// The daemon refused, closed the connection, broke the protocol, or speaks none that we do.
    #[error("{0}")]
    Wire(ErrorKind),
    /// Something on this side cannot go on.
    #[error("{0}")]
    Local(String),
}

impl SessionErrorKind {
    /// A stream's failure: TLS wraps its own in an I/O error.
    pub(crate) fn of_stream(error: io::Error) -> Self {
        match error.downcast::<TlsError>() {
            Ok(error) => SessionErrorKind::Tls(Box::new(error)),
            Err(error) => SessionErrorKind::Socket(error),
        }
    }

    /// The same, when it ended a session that had not begun.
    pub(super) fn without_greeting(self) -> Self {
        match self {
            SessionErrorKind::Socket(_) | SessionErrorKind::Wire(ErrorKind::Closed { .. }) => {
                SessionErrorKind::NoGreeting(Box::new(self))
            }
            other => other,
        }
    }

    /// Whether nobody has said why, so that the exit code of a remote shell says more.
    pub(super) fn leaves_it_to_shell(&self) -> bool {
        match self {
            SessionErrorKind::Socket(_) | SessionErrorKind::NoGreeting(_) => true,
            SessionErrorKind::Wire(ErrorKind::Closed { text }) => text.is_empty(),
            _ => false,
        }
    }

    /// The same, when the remote shell that carried the session ended with this code.
    pub(super) fn with_shell(self, code: u8) -> Self {
        if !self.leaves_it_to_shell() {
            return self;
        }
        let meaning = match code {
            126 => " (command could not be run)",
            127 => " (command not found)",
            255 => " (it failed itself: see its message)",
            _ => "",
        };
        SessionErrorKind::Shell { code, meaning, before: Box::new(self) }
    }
}

impl SessionError {
    /// rsync's exit code for this end.
    pub fn exit_code(&self) -> ExitCode {
        self.exit_code_of(&self.kind)
    }

    fn exit_code_of(&self, kind: &SessionErrorKind) -> ExitCode {
        match kind {
            SessionErrorKind::Resolve { .. } | SessionErrorKind::Connect(_) | SessionErrorKind::Proxy(_) => {
                ExitCode::SOCKET
            }
            SessionErrorKind::Exec { .. } => ExitCode::IPC,
            SessionErrorKind::NoGreeting(before) => self.exit_code_of(before),
            // Peer: rsync's cleanup.c takes the larger of its own code and that of its child.
            SessionErrorKind::Shell { code, before, .. } => ExitCode(self.exit_code_of(before).0.max(*code)),
            SessionErrorKind::ConnectTimeout(_) => ExitCode::CONTIMEOUT,
            SessionErrorKind::Timeout(_) => ExitCode::TIMEOUT,
            SessionErrorKind::Socket(_) | SessionErrorKind::Tls(_) => self.broken_stream(),
            SessionErrorKind::Wire(ErrorKind::Closed { .. }) => self.broken_stream(),
            SessionErrorKind::Wire(kind) => wire_exit_code(kind),
            SessionErrorKind::Local(_) => ExitCode::FILE_IO,
        }
    }

    /// Peer: rsync's clientserver.c exits 5 for an end before the daemon's OK, its io.c 12 later.
    fn broken_stream(&self) -> ExitCode {
        match self.stage {
            Stage::Resolve | Stage::Connect => ExitCode::SOCKET,
            Stage::Tls | Stage::Greeting | Stage::Auth => ExitCode::START_CLIENT,
            _ => ExitCode::STREAM,
        }
    }
}

fn wire_exit_code(kind: &ErrorKind) -> ExitCode {
    ebbtide_wire::Error { stage: ebbtide_wire::Stage::Transfer, kind: kind.clone() }.exit_code()
}
