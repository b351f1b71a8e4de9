//! Why a take could not be worked off.

use std::io;
use std::path::PathBuf;

use ebbtide_wire::ErrorKind;
use tokio::task::JoinError;

use super::courier::Broken;
use super::refusal::Refusal;
use crate::ledger::StoreError;
use crate::session::{SessionError, SessionErrorKind, Stage};
use crate::text::Escaped;

/// Why a take could not be worked off: what it did until then is settled, the rest stays pending.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A session did not run to its end.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The mirror's source cannot be used.
    #[error("source {}: {error}", shown(path))]
    Source {
        /// The source.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What the ledger knows of links cannot be read.
    #[error("ledger: {0}")]
    Ledger(#[from] StoreError),
    /// A person paused the destination.
    #[error("paused")]
    Paused,
    /// Looking at the source ended in a panic.
    #[error("looking at the source failed: {0}")]
    Looking(#[from] JoinError),
}

impl From<Box<Broken>> for Failure {
    fn from(broken: Box<Broken>) -> Self {
        Failure::Session(broken.error)
    }
}

fn shown(path: &std::path::Path) -> String {
    Escaped(path.as_os_str().as_encoded_bytes()).to_string()
}

impl Failure {
    /// Whether a session had come so far that what it carried may be what broke it, and that the daemon may still
    /// be at work with it.
    pub(crate) fn is_late(&self) -> bool {
        let Failure::Session(error) = self else { return false };
        // Options are refused before anything is done.
        self.refusal().is_none() && matches!(error.stage, Stage::List | Stage::Transfer | Stage::Goodbye)
    }

    /// Whether a session ended before the file list.
    pub(crate) fn is_early(&self) -> bool {
        let Failure::Session(error) = self else { return false };
        matches!(error.stage, Stage::Greeting | Stage::Auth | Stage::Setup)
    }

    /// Whether a daemon takes no session with these paths, though it may take one with others: its module's filter rules
    /// hide one of them.
    ///
    /// Peer: rsync 3.0 to 3.5 main.c, for `--link-dest` (code 1) and for the place of the session (code 3).
    pub(crate) fn is_of_paths(&self) -> bool {
        let Failure::Session(SessionError { kind: SessionErrorKind::Wire(kind), .. }) = self else {
            return false;
        };
        matches!(kind, ErrorKind::RemoteExit { code: 3, .. }) || self.refusal() == Some(Refusal::Option)
    }

    /// The refusal behind it, if it is one.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self {
            Failure::Session(error) => Refusal::of(error),
            _ => None,
        }
    }
}
