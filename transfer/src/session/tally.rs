//! What the session's report will say, while it is being learnt.

use std::collections::HashMap;

use ebbtide_wire::sender::{DeleteStats, Iflags, Item, MessageKind, Ndx};

use super::answer::End;
use super::entry::Entry;
use super::report::{Outcome, Report, Text, TextKind, Totals};

#[derive(Debug)]
pub(super) struct Tally {
    pub(super) texts: Vec<Text>,
    text_bytes: usize,
    pub(super) totals: Totals,
    /// The names of files whose first answer failed its checksum.
    redone: HashMap<Box<[u8]>, Ndx>,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally { texts: Vec::new(), text_bytes: 0, totals: Totals::default(), redone: HashMap::new() }
    }

    /// Counts entries of the list.
    pub(super) fn listed(&mut self, entries: &[Entry]) {
        let counted = entries.iter().filter(|entry| entry.meta.is_file() || entry.meta.is_symlink());
        self.totals.size_listed += counted.map(|entry| entry.meta.size).sum::<u64>();
    }

    /// Keeps a message, within the report's limit; returns the entry that it declares failed, if it does.
    pub(super) fn text(&mut self, text: &Text) -> Option<Ndx> {
        self.text_bytes += text.bytes.len() + 1;
        if self.text_bytes <= Report::TEXT_LIMIT {
            self.texts.push(text.clone());
        }
        if text.kind == TextKind::TransferError { self.discarded(&text.bytes) } else { None }
    }

    /// The daemon asks a second time for an entry.
    pub(super) fn redo(&mut self, ndx: Ndx, name: &[u8]) {
        self.redone.insert(name.into(), ndx);
    }

    pub(super) fn answered(&mut self, end: &End) {
        self.totals.files_sent += 1;
        self.totals.size_sent += end.size;
        self.totals.literal += end.literal;
        self.totals.matched += end.size.saturating_sub(end.literal);
    }

    /// A dry run counts what it would send.
    pub(super) fn would_send(&mut self, size: u64) {
        self.totals.files_sent += 1;
        self.totals.size_sent += size;
    }

    pub(super) fn deleted(&mut self, stats: DeleteStats) {
        self.totals.deleted = Some(stats);
    }

    /// Peer: rsync's receiver.c says "ERROR: NAME failed verification -- update discarded." after the second try.
    fn discarded(&self, text: &[u8]) -> Option<Ndx> {
        let rest = text.strip_prefix(b"ERROR: ")?;
        let length = find(rest, b" failed verification")?;
        self.redone.get(&rest[..length]).copied()
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

/// What the daemon's word about an entry says of it. Where it wants data, the answer decides.
pub(super) fn outcome_of(item: &Item, dry_run: bool) -> Option<Outcome> {
    let wants_data = item.iflags.has(Iflags::TRANSFER) && !dry_run;
    let said = if item.iflags.0 == 0 { Outcome::Unchanged } else { Outcome::Updated };
    (!wants_data).then_some(said)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_fails_twice_is_told_apart_from_its_neighbours() {
        let mut tally = Tally::new();
        tally.redo(Ndx(1), b"d/b");
        let text = |bytes: &[u8]| Text { kind: TextKind::TransferError, bytes: bytes.to_vec() };
        assert_eq!(tally.text(&text(b"ERROR: a failed verification -- update discarded.")), None);
        assert_eq!(tally.text(&text(b"ERROR: d/b failed verification -- update discarded.")), Some(Ndx(1)));
    }

    #[test]
    fn texts_are_kept_up_to_a_limit() {
        let mut tally = Tally::new();
        let text = Text { kind: TextKind::Info, bytes: vec![b'x'; 1000] };
        for _ in 0..1000 {
            tally.text(&text);
        }
        assert!(tally.texts.len() * 1000 <= Report::TEXT_LIMIT);
    }
}
