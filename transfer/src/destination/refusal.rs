//! What a daemon will not do, however often it is asked.

use ebbtide_wire::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::session::{SessionError, SessionErrorKind, Spare};

/// A refusal that trying again at once does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Refusal {
    /// It does not let us in: module, host, user or password.
    Entry,
    /// It is too old for `--delete-missing-args`, or is told to refuse it.
    MissingArgs,
    /// It is told to refuse an option that only helps.
    Spare(Spare),
    /// It is told to refuse `--link-dest`, by which renamed directories cost no data.
    LinkDest,
    /// It is told to refuse `--hard-links`, by which renamed files cost no data.
    HardLinks,
    /// It is told to refuse `--checksum`, by which what renamed names are linked to is compared.
    Checksum,
    /// It is told to refuse deleting.
    Delete,
    /// The module is read-only.
    ReadOnly,
    /// It is told to refuse another option that the mirror needs, or is too old for it.
    Option,
}

impl Refusal {
    /// The refusal behind an error, if it is one.
    pub(crate) fn of(error: &SessionError) -> Option<Refusal> {
        match &error.kind {
            SessionErrorKind::Wire(ErrorKind::PasswordRequired) => Some(Refusal::Entry),
            SessionErrorKind::Wire(ErrorKind::DaemonError(text)) => {
                (!contains(text, b"max connections")).then_some(Refusal::Entry)
            }
            SessionErrorKind::Wire(ErrorKind::RemoteExit { code: 1 | 4, text }) => {
                Some(Refusal::of_text(error, text))
            }
            SessionErrorKind::Local(_) if error.stage == crate::session::Stage::Auth => Some(Refusal::Entry),
            _ => None,
        }
    }

    /// The text that says why may not be the last one.
    fn of_text(error: &SessionError, last: &[u8]) -> Refusal {
        let texts = || error.texts.iter().map(|text| &*text.bytes).chain([last]);
        let named = |(what, _): &&(&[u8], Refusal)| texts().any(|text| contains(text, what));
        let other = || TEXTS.iter().find(named).map(|(_, refusal)| *refusal);
        Spare::named_in(error).map(Refusal::Spare).or_else(other).unwrap_or(Refusal::Option)
    }

    /// Whether sessions can go on without it.
    pub(crate) fn can_be_done_without(self) -> bool {
        matches!(
            self,
            Refusal::MissingArgs
                | Refusal::Spare(_)
                | Refusal::LinkDest
                | Refusal::HardLinks
                | Refusal::Checksum
        )
    }

    /// The option that is refused.
    pub(crate) fn option(self) -> Option<&'static str> {
        match self {
            Refusal::MissingArgs => Some("--delete-missing-args"),
            Refusal::Spare(spare) => Some(spare.name()),
            Refusal::Delete => Some("--delete"),
            Refusal::LinkDest => Some("--link-dest"),
            Refusal::HardLinks => Some("--hard-links"),
            Refusal::Checksum => Some("--checksum"),
            Refusal::Entry | Refusal::ReadOnly | Refusal::Option => None,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Refusal::Entry => "check the module's name, `hosts allow`, `auth users` and the password",
            Refusal::MissingArgs => {
                "this daemon does not take --delete-missing-args, so directories are compared where names were removed"
            }
            Refusal::Spare(Spare::Compression) => "this module refuses compression, so data goes as it is",
            Refusal::Spare(_) => {
                "this module refuses the proof of single files, so after an error more of a batch is sent again"
            }
            Refusal::HardLinks => {
                "this module refuses hard links: take `hard-links` out of its `refuse options`, or set `hard-links = false` for the mirror; renamed files are sent again"
            }
            Refusal::LinkDest | Refusal::Checksum => {
                "this module refuses an option by which renamed files and directories cost no data, so they are sent again"
            }
            Refusal::Delete => {
                "this module refuses to delete: take `delete` out of its `refuse options`, or set `delete = false` for the mirror"
            }
            Refusal::ReadOnly => "set `read only = no` in the module",
            Refusal::Option => "check the module's `refuse options`, and the options of the mirror",
        }
    }
}

/// What texts say of which refusal, the more special first. Peer: rsync 3.0 to 3.5 options.c and main.c.
const TEXTS: &[(&[u8], Refusal)] = &[
    (b"--delete-missing-args", Refusal::MissingArgs),
    (b"--delete", Refusal::Delete),
    (b"refuse --link-dest", Refusal::LinkDest),
    (b"refuse --hard-links", Refusal::HardLinks),
    (b"refuse --checksum (", Refusal::Checksum),
    (b"module is read only", Refusal::ReadOnly),
];

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Stage, Text, TextKind};

    fn error(kind: SessionErrorKind, texts: &[&[u8]]) -> SessionError {
        let texts = texts.iter().map(|bytes| Text { kind: TextKind::Error, bytes: bytes.to_vec() });
        SessionError { destination: "d".into(), stage: Stage::List, kind, texts: texts.collect() }
    }

    fn exit(code: u8, texts: &[&[u8]]) -> Option<Refusal> {
        let text = b"rsync error: requested action not supported (code 4)".to_vec();
        Refusal::of(&error(SessionErrorKind::Wire(ErrorKind::RemoteExit { code, text }), texts))
    }

    #[test]
    fn what_a_person_must_change_is_told_apart_from_what_passes() {
        let daemon = |text: &[u8]| {
            Refusal::of(&error(SessionErrorKind::Wire(ErrorKind::DaemonError(text.to_vec())), &[]))
        };
        assert_eq!(daemon(b"auth failed on module m"), Some(Refusal::Entry));
        assert_eq!(daemon(b"max connections (4) reached -- try again later"), None);
        assert_eq!(
            exit(4, &[b"on remote machine: --delete-missing-args: unknown option"]),
            Some(Refusal::MissingArgs)
        );
        assert_eq!(exit(4, &[b"The server is configured to refuse --delete"]), Some(Refusal::Delete));
        let compress = &b"The server is configured to refuse --compress (-z)"[..];
        assert_eq!(exit(4, &[compress]), Some(Refusal::Spare(Spare::Compression)));
        assert_eq!(exit(4, &[b"The server is configured to refuse --fuzzy"]), Some(Refusal::Option));
        assert_eq!(exit(1, &[b"ERROR: module is read only"]), Some(Refusal::ReadOnly));
        assert_eq!(exit(11, &[]), None);
    }
}
