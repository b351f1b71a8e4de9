//! What a daemon will not do, however often it is asked.

use ebbtide_wire::ErrorKind;

use crate::session::{SessionError, SessionErrorKind, Spare};

/// A refusal that trying again at once does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It does not let us in: module, host, user or password.
    Entry,
    /// It is too old for `--delete-missing-args`, or is told to refuse it.
    MissingArgs,
    /// It is told to refuse an option that the next session leaves out.
    Spare(Spare),
    /// It is told to refuse an option that the mirror needs, or the module is read-only.
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
        let mut texts = error.texts.iter().map(|text| &*text.bytes).chain([last]);
        if texts.any(|text| contains(text, b"delete-missing-args")) {
            return Refusal::MissingArgs;
        }
        Spare::named_in(error).map_or(Refusal::Option, Refusal::Spare)
    }

    /// What to do about it.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Refusal::Entry => "check the module's name, `hosts allow`, `auth users` and the password",
            Refusal::MissingArgs => {
                "this daemon does not take --delete-missing-args, so directories are compared where names were removed"
            }
            Refusal::Spare(_) => "the next session goes without this option",
            Refusal::Option => "check the module's `refuse options` and `read only`",
        }
    }
}

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
        assert_eq!(exit(4, &[b"The server is configured to refuse --delete"]), Some(Refusal::Option));
        assert_eq!(
            exit(4, &[b"The server is configured to refuse --compress (-z)"]),
            Some(Refusal::Spare(Spare::Compression))
        );
        assert_eq!(exit(11, &[]), None);
    }
}
