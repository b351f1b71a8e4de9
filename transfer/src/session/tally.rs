//! What the session's report will say, while it is being learnt.

use std::collections::HashMap;

use ebbtide_wire::sender::{DeleteStats, Item, MessageKind};

use super::answer::End;
use super::entry::Entry;
use super::report::{Outcome, Report, Text, TextKind, Totals};

#[derive(Debug)]
pub(super) struct Tally {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) texts: Vec<Text>,
    text_bytes: usize,
    pub(super) totals: Totals,
    /// The names of files whose first answer failed its checksum.
    redone: HashMap<Box<[u8]>, usize>,
}

impl Tally {
    pub(super) fn new(entries: &[Entry]) -> Tally {
        let counted = entries.iter().filter(|entry| entry.meta.is_file() || entry.meta.is_symlink());
        let size_listed = counted.map(|entry| entry.meta.size).sum();
        Tally {
            outcomes: vec![Outcome::NotReported; entries.len()],
            texts: Vec::new(),
            text_bytes: 0,
            totals: Totals { size_listed, ..Totals::default() },
            redone: HashMap::new(),
        }
    }

    /// Keeps a message, within the report's limit.
    pub(super) fn text(&mut self, text: &Text) {
        self.text_bytes += text.bytes.len() + 1;
        if self.text_bytes <= Report::TEXT_LIMIT {
            self.texts.push(text.clone());
        }
        if text.kind == TextKind::TransferError {
            self.note_discarded(&text.bytes);
        }
    }

    /// The daemon spoke of an entry. Where it wants data, the answer decides.
    pub(super) fn item(&mut self, index: usize, item: &Item, dry_run: bool) {
        let wants_data = item.iflags.has(ebbtide_wire::sender::Iflags::TRANSFER) && !dry_run;
        if !wants_data && let Some(outcome) = self.outcomes.get_mut(index) {
            *outcome = if item.iflags.0 == 0 { Outcome::Unchanged } else { Outcome::Updated };
        }
    }

    /// The daemon asks a second time for an entry.
    pub(super) fn redo(&mut self, index: usize, name: &[u8]) {
        self.redone.insert(name.into(), index);
    }

    pub(super) fn answered(&mut self, end: End) {
        self.totals.files_sent += 1;
        self.totals.size_sent += end.size;
        self.totals.literal += end.literal;
        self.totals.matched += end.size.saturating_sub(end.literal);
        self.set(end.index, end.outcome);
    }

    pub(super) fn set(&mut self, index: usize, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(index) {
            *slot = outcome;
        }
    }

    pub(super) fn deleted(&mut self, stats: DeleteStats) {
        self.totals.deleted = Some(stats);
    }

    /// Peer: rsync's receiver.c says "ERROR: NAME failed verification -- update discarded." after the second try.
    fn note_discarded(&mut self, text: &[u8]) {
        let Some(rest) = text.strip_prefix(b"ERROR: ") else { return };
        let Some(length) = find(rest, b" failed verification") else { return };
        if let Some(index) = self.redone.get(&rest[..length]).copied() {
            self.set(index, Outcome::Failed("its checksum failed twice".to_owned()));
        }
    }
}

impl From<MessageKind> for TextKind {
    fn from(kind: MessageKind) -> Self {
        match kind {
            MessageKind::TransferError => TextKind::TransferError,
            MessageKind::Info => TextKind::Info,
            MessageKind::Error => TextKind::Error,
            MessageKind::Warning => TextKind::Warning,
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Meta;

    #[test]
    fn a_file_that_fails_twice_is_told_apart_from_its_neighbours() {
        let entries = [Entry::new(*b"a", Meta::MISSING), Entry::new(*b"d/b", Meta::MISSING)];
        let mut tally = Tally::new(&entries);
        tally.redo(1, b"d/b");
        let bytes = b"ERROR: d/b failed verification -- update discarded.".to_vec();
        tally.text(&Text { kind: TextKind::TransferError, bytes });
        assert_eq!(tally.outcomes[0], Outcome::NotReported);
        assert!(matches!(tally.outcomes[1], Outcome::Failed(_)));
    }

    #[test]
    fn texts_are_kept_up_to_a_limit() {
        let mut tally = Tally::new(&[]);
        let text = Text { kind: TextKind::Info, bytes: vec![b'x'; 1000] };
        for _ in 0..1000 {
            tally.text(&text);
        }
        assert!(tally.texts.len() * 1000 <= Report::TEXT_LIMIT);
    }
}
