//! What a session showed of single entries while it ran, whether it came to its end or not.

use std::collections::{HashMap, HashSet};

use ebbtide_wire::delta::Digest;

use crate::plan::pace::LARGE;
use crate::plan::recent::NAMES;
use crate::session::{Entry, Observer, Outcome, Sent, Text, TextKind};

/// What a session showed of single entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness {
    /// Entries that the daemon called stored; only if it was asked to.
    pub(crate) stored: HashSet<usize>,
    /// Entries that changed, vanished or could not be read while their data was asked for.
    pub(crate) spoiled: HashSet<usize>,
    /// Digests of files that went over, as they travelled; of small ones, and of [`NAMES`] at most.
    pub(crate) sums: HashMap<usize, Digest>,
    /// The daemon's transfer errors, within [`ERROR_BYTES`].
    pub(crate) errors: Vec<Vec<u8>>,
    /// There were more errors than were kept.
    pub(crate) lost_errors: bool,
    /// Files in the making stand in a directory of their own, so that errors about them do not say where they belong.
    pub(crate) elsewhere: bool,
    /// The daemon took a name that is to be removed for a file that it need not look at: it was told to refuse
    /// `--delete-missing-args`, and drops the option without an error.
    pub(crate) spares_missing: bool,
    /// Names that the daemon told to have removed; only if it was asked to.
    pub(crate) deleted: u64,
    /// Names that it did not remove because of `--max-delete`.
    pub(crate) skipped: Option<u64>,
    bytes: usize,
}

/// Peer: rsync 3.5.0 generator.c; a mirror's lists hold nothing else that a daemon would say this of.
const SPARED: &[u8] = b"skipping non-regular file ";

/// Peer: rsync 3.0 to 3.5 generator.c, with the number of names in brackets at its end.
const STOPPED: &[u8] = b"Deletions stopped due to --max-delete limit (";

/// So many bytes of transfer errors are kept: about 30,000 of them.
const ERROR_BYTES: usize = 4 << 20;

impl Witness {
    /// Of a session whose files in the making stand in a directory of their own, or beside the files.
    pub(crate) fn new(elsewhere: bool) -> Self {
        Witness { elsewhere, ..Witness::default() }
    }

    /// Whether the daemon is known to have just what the list said of this entry, or newer.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.stored.contains(&index) && !self.spoiled.contains(&index)
    }
}

fn leading_number(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number: u64, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

impl Observer for Witness {
    fn deleted(&mut self, _name: &[u8], _is_dir: bool) {
        self.deleted += 1;
    }

    fn stored(&mut self, index: usize, _entry: &Entry) {
        self.stored.insert(index);
    }

    fn sent(&mut self, sent: &Sent<'_>) {
        // What was sent before under this index was refused.
        self.sums.remove(&sent.index);
        if sent.size < LARGE && self.sums.len() < NAMES {
            self.sums.extend(Digest::from_bytes(sent.checksum).map(|digest| (sent.index, digest)));
        }
    }

    fn answered(&mut self, index: usize, outcome: &Outcome) {
        if *outcome == Outcome::Sent {
            self.spoiled.remove(&index);
        } else {
            self.spoiled.insert(index);
        }
    }

    fn text(&mut self, text: &Text) {
        if text.kind != TextKind::TransferError {
            self.spares_missing |= text.bytes.starts_with(SPARED);
            if let Some(skipped) = text.bytes.strip_prefix(STOPPED) {
                self.skipped = Some(leading_number(skipped).max(1));
            }
            return;
        }
        self.bytes += text.bytes.len() + 1;
        if self.bytes <= ERROR_BYTES {
            self.errors.push(text.bytes.clone());
        } else {
            self.lost_errors = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_while_it_was_read_is_not_there_though_it_is_stored() {
        let mut witness = Witness::default();
        witness.answered(1, &Outcome::ChangedWhileRead);
        witness.answered(2, &Outcome::Sent);
        for index in [0, 1, 2] {
            witness.stored(index, &Entry::missing(*b"a"));
        }
        assert_eq!([0, 1, 2].map(|index| witness.has(index)), [true, false, true]);
    }

    #[test]
    fn errors_beyond_the_limit_are_known_to_be_lost() {
        let mut witness = Witness::default();
        let text = Text { kind: TextKind::TransferError, bytes: vec![b'x'; 1 << 20] };
        for _ in 0..5 {
            witness.text(&text);
        }
        assert!(witness.lost_errors && witness.errors.len() < 5);
    }
}
