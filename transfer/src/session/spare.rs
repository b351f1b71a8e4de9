//! What a push can do without when a daemon is told to refuse it (`refuse options` in its configuration).

use ebbtide_wire::ErrorKind;
use ebbtide_wire::proto::CompressWish;
use serde::{Deserialize, Serialize};

use super::error::{SessionError, SessionErrorKind};
use crate::options::PushOptions;

/// An option that makes a push cheaper or tells more about it, and does not change what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spare {
    /// `--compress` in any of its forms.
    Compression,
    /// `--log-format`: the daemon tells what it changes.
    Itemizing,
    /// `--stats`: the daemon counts what it deletes.
    Stats,
    /// `--remove-source-files`: the daemon tells what it has stored.
    Acknowledgement,
}

impl Spare {
    /// The option behind the failure of a session, if it was refused, can be spared, and was asked for.
    pub fn refused(error: &SessionError, options: &PushOptions) -> Option<Spare> {
        Spare::named_in(error).filter(|spare| spare.is_in(options))
    }

    /// The option behind the failure of a session, if it was refused and can be spared.
    pub(crate) fn named_in(error: &SessionError) -> Option<Spare> {
        let SessionErrorKind::Wire(ErrorKind::RemoteExit { text: last, .. }) = &error.kind else {
            return None;
        };
        let texts = error.texts.iter().map(|text| &*text.bytes).chain([&**last]);
        texts.filter_map(refused_option).find_map(Spare::named)
    }

    /// What the option is called.
    pub fn name(self) -> &'static str {
        match self {
            Spare::Compression => "--compress",
            Spare::Itemizing => "--log-format",
            Spare::Stats => "--stats",
            Spare::Acknowledgement => "--remove-source-files",
        }
    }

    /// Makes options that do without it.
    pub fn leave_out(self, options: &mut PushOptions) {
        let server = &mut options.server;
        match self {
            Spare::Compression => server.compress = CompressWish::Off,
            Spare::Itemizing => {
                (server.report_all, server.itemize) = (false, false);
                (server.report_operations, server.report_names) = (false, false);
            }
            Spare::Stats => server.stats = false,
            Spare::Acknowledgement => server.acknowledge_files = false,
        }
    }

    fn named(option: &[u8]) -> Option<Spare> {
        match option {
            b"log-format" | b"out-format" => Some(Spare::Itemizing),
            b"stats" => Some(Spare::Stats),
            b"remove-source-files" => Some(Spare::Acknowledgement),
            _ => option.ends_with(b"compress").then_some(Spare::Compression),
        }
    }

    fn is_in(self, options: &PushOptions) -> bool {
        let server = &options.server;
        match self {
            Spare::Compression => server.compress != CompressWish::Off,
            Spare::Itemizing => {
                server.report_all || server.itemize || server.report_operations || server.report_names
            }
            Spare::Stats => server.stats,
            Spare::Acknowledgement => server.acknowledge_files,
        }
    }
}

/// The long name in a refusal. Peer: rsync's options.c says "The server is configured to refuse --compress (-z)".
fn refused_option(text: &[u8]) -> Option<&[u8]> {
    let at = text.windows(REFUSES.len()).position(|window| window == REFUSES)?;
    let rest = &text[at + REFUSES.len()..];
    let end = rest.iter().position(|byte| !byte.is_ascii_lowercase() && *byte != b'-').unwrap_or(rest.len());
    Some(&rest[..end])
}

const REFUSES: &[u8] = b"is configured to refuse --";

#[cfg(test)]
mod tests {
    use ebbtide_wire::proto::ServerOptions;

    use super::*;
    use crate::session::{Stage, Text, TextKind};

    fn refusal(text: &[u8]) -> SessionError {
        let kind = SessionErrorKind::Wire(ErrorKind::RemoteExit { code: 4, text: b"(code 4)".to_vec() });
        let texts = vec![Text { kind: TextKind::Error, bytes: text.to_vec() }];
        SessionError { destination: "d".into(), stage: Stage::List, kind, texts }
    }

    #[test]
    fn what_only_helps_is_left_out_once() {
        let server = ServerOptions {
            compress: CompressWish::Best,
            report_all: true,
            stats: true,
            acknowledge_files: true,
            ..ServerOptions::archive()
        };
        let mut options = PushOptions::new(server);
        for (text, spare) in [
            (&b"rsync: The server is configured to refuse --compress (-z)"[..], Spare::Compression),
            (b"The server is configured to refuse --log-format", Spare::Itemizing),
            (b"The server is configured to refuse --stats\n", Spare::Stats),
            (b"The server is configured to refuse --remove-source-files", Spare::Acknowledgement),
        ] {
            let error = refusal(text);
            assert_eq!(Spare::refused(&error, &options), Some(spare));
            spare.leave_out(&mut options);
            assert_eq!(Spare::refused(&error, &options), None, "{spare:?}");
        }
    }

    #[test]
    fn what_changes_the_outcome_is_not_spared() {
        let options =
            PushOptions::new(ServerOptions { compress: CompressWish::Best, ..ServerOptions::archive() });
        for option in ["delete", "checksum", "owner", "force", "inplace"] {
            let text = format!("rsync: The server is configured to refuse --{option}");
            assert_eq!(Spare::refused(&refusal(text.as_bytes()), &options), None);
        }
    }
}
