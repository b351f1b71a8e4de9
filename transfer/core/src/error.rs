//! Every failure, sorted by who is to blame.

use std::fmt;

use crate::proto::ExitCode;

/// A failure of a session: at which stage, and what happened.
///
/// After a [`Client`](crate::sender::Client) has returned one, each later call returns the same one again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// How far the session had come.
    pub stage: Stage,
    /// What happened.
    pub kind: ErrorKind,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Lines before a module is chosen.
    Greeting,
    /// Between the module's name and the daemon's OK.
    Auth,
    /// Arguments, compat flags, negotiation and seed.
    Setup,
    /// Filter list, file list, id lists.
    List,
    /// Requests and file data.
    Transfer,
    /// After the last file: the closing exchange.
    Goodbye,
}

/// Who has to change something for it to work next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The peer's bytes do not parse.
    Malformed,
    /// The peer's bytes parse and break the rules.
    PeerMisbehaved,
    /// The two sides have nothing in common.
    Unsupported,
    /// The daemon said no: `@ERROR`, or an error exit.
    Refused,
    /// The connection ended early.
    Closed,
    /// Our caller broke the rules of this crate.
    Misuse,
}

/// What happened. All text from the peer is kept as bytes and escaped when displayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Bytes that are no such thing: what was read, what was found.
    Malformed {
        /// The thing that was being read.
        what: &'static str,
        /// What was found, what was expected.
        found: String,
    },
    /// The peer broke the protocol's rules.
    PeerMisbehaved {
        /// The thing that was being read.
        what: &'static str,
        /// What was found, what was expected.
        found: String,
    },
    /// Nothing in common.
    Unsupported {
        /// What was to be agreed on.
        what: &'static str,
        /// What the peer offers, what we wanted.
        found: String,
    },
    /// The daemon ended the session with `@ERROR: …`; this is the text behind the colon.
    DaemonError(Vec<u8>),
    /// The daemon no longer speaks as in the earlier session that was taken for granted: begin anew without
    /// [`Config::known`](crate::sender::Config::known).
    Changed,
    /// The module wants a password and none was given.
    PasswordRequired,
    /// The daemon ended the session with an error code.
    RemoteExit {
        /// The daemon's exit code.
        code: u8,
        /// The last error text before, empty if there was none.
        text: Vec<u8>,
    },
    /// The stream ended before the protocol did.
    Closed {
        /// The last error text before, empty if there was none.
        text: Vec<u8>,
    },
    /// Our caller broke the rules of this crate.
    Misuse(String),
}

impl Error {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self.kind {
            ErrorKind::Malformed { .. } => Blame::Malformed,
            ErrorKind::PeerMisbehaved { .. } => Blame::PeerMisbehaved,
            ErrorKind::Unsupported { .. } | ErrorKind::Changed => Blame::Unsupported,
            ErrorKind::DaemonError(_) | ErrorKind::PasswordRequired | ErrorKind::RemoteExit { .. } => {
                Blame::Refused
            }
            ErrorKind::Closed { .. } => Blame::Closed,
            ErrorKind::Misuse(_) => Blame::Misuse,
        }
    }

    /// rsync's exit code for this failure.
    pub fn exit_code(&self) -> ExitCode {
        match self.kind {
            ErrorKind::Malformed { .. } | ErrorKind::PeerMisbehaved { .. } => ExitCode::PROTOCOL,
            ErrorKind::Unsupported { .. } | ErrorKind::Changed => ExitCode::UNSUPPORTED,
            ErrorKind::DaemonError(_) | ErrorKind::PasswordRequired => ExitCode::START_CLIENT,
            ErrorKind::RemoteExit { code, .. } => ExitCode(code),
            ErrorKind::Closed { .. } => ExitCode::STREAM,
            ErrorKind::Misuse(_) => ExitCode::USAGE,
        }
    }

    pub(crate) fn misuse(stage: Stage, what: impl Into<String>) -> Self {
        Error { stage, kind: ErrorKind::Misuse(what.into()) }
    }
}

impl ErrorKind {
    pub(crate) fn at(self, stage: Stage) -> Error {
        Error { stage, kind: self }
    }

    pub(crate) fn malformed(what: &'static str, found: impl Into<String>) -> Self {
        ErrorKind::Malformed { what, found: found.into() }
    }

    pub(crate) fn misbehaved(what: &'static str, found: impl Into<String>) -> Self {
        ErrorKind::PeerMisbehaved { what, found: found.into() }
    }

    pub(crate) fn unsupported(what: &'static str, found: impl Into<String>) -> Self {
        ErrorKind::Unsupported { what, found: found.into() }
    }
}

/// Bytes from outside, for people: what could confuse a terminal or a log is escaped.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    c if c.is_control() => write!(f, "{}", c.escape_default())?,
                    c => write!(f, "{c}")?,
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Greeting => "greeting",
            Stage::Auth => "authentication",
            Stage::Setup => "setup",
            Stage::List => "file list",
            Stage::Transfer => "transfer",
            Stage::Goodbye => "goodbye",
        })
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::Malformed { what, found } => write!(f, "malformed {what}: {found}"),
            ErrorKind::PeerMisbehaved { what, found } => {
                write!(f, "daemon broke the protocol: {what}: {found}")
            }
            ErrorKind::Unsupported { what, found } => write!(f, "no common {what}: {found}"),
            ErrorKind::DaemonError(text) => write!(f, "daemon answered @ERROR: {}", Shown(text)),
            ErrorKind::Changed => {
                f.write_str("daemon no longer speaks as it did before; a session that asks first will do")
            }
            ErrorKind::PasswordRequired => f.write_str("module wants a password and none was given"),
            ErrorKind::RemoteExit { code, text } if text.is_empty() => {
                write!(f, "daemon exited with code {code}")
            }
            ErrorKind::RemoteExit { code, text } => {
                write!(f, "daemon exited with code {code}: {}", Shown(text))
            }
            ErrorKind::Closed { text } if text.is_empty() => f.write_str("connection ended in mid-session"),
            ErrorKind::Closed { text } => {
                write!(f, "connection ended in mid-session after: {}", Shown(text))
            }
            ErrorKind::Misuse(what) => write!(f, "misuse of the protocol core: {what}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.kind)
    }
}

impl std::error::Error for Error {}
