//! What a session's report says about each entry of its list.

use std::collections::{HashMap, HashSet};

use super::blame::blamed;
use super::courier::{Delivery, Orders};
use crate::session::{Entry, Outcome, Text, TextKind};

/// What is known about an entry after a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The destination has it.
    Done,
    /// It changed while it was read; the destination may have a mixture.
    Changed,
    /// It was gone when it was to be read.
    Vanished,
    /// It failed, and this is why.
    Failed(String),
    /// The session had errors that do not say which entries they hit.
    Unknown,
}

/// Verdicts about the entries of one session's list, and what its errors did not explain.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// One for each entry.
    pub(crate) verdicts: Vec<Verdict>,
    /// Error texts that name no entry of the list.
    pub(crate) unexplained: Vec<Vec<u8>>,
}

/// Judges a session.
///
/// Without transfer errors everything that is not said to have failed is done. With them, nothing is done unless the
/// session asked for proof ([`Orders::verify`]): then an entry is done when the daemon called it stored, or reported
/// it as unchanged where that means something, and no error names it.
pub(crate) fn judge(entries: &[Entry], orders: Orders, delivery: &Delivery) -> Judgement {
    let mut errors = Errors::new(entries, &delivery.report.texts);
    let clean = !delivery.report.partial;
    let verdicts = entries.iter().enumerate().map(|(at, entry)| {
        let outcome = delivery.report.outcomes.get(at).cloned().unwrap_or_default();
        match outcome {
            Outcome::Failed(why) => Verdict::Failed(why),
            Outcome::ChangedWhileRead => Verdict::Changed,
            Outcome::Vanished => Verdict::Vanished,
            _ if clean => Verdict::Done,
            _ if !orders.verify => Verdict::Unknown,
            outcome => match errors.by_name.remove(&*entry.name) {
                Some(why) => Verdict::Failed(why),
                None if is_proven(entry, orders, &outcome, delivery.stored.contains(&at)) => Verdict::Done,
                None => Verdict::Failed(errors.any()),
            },
        }
    });
    let verdicts = verdicts.collect();
    Judgement { verdicts, unexplained: if clean { Vec::new() } else { errors.unexplained } }
}

fn is_proven(entry: &Entry, orders: Orders, outcome: &Outcome, stored: bool) -> bool {
    let unchanged = *outcome == Outcome::Unchanged;
    match entry.meta.is_file() {
        // With -I a file is always asked for; without, size and mtime were compared.
        true => stored || (unchanged && !orders.lane.ignore_times),
        false if entry.meta.is_dir() => unchanged,
        false => stored || unchanged,
    }
}

/// The transfer errors of a session.
struct Errors {
    by_name: HashMap<Box<[u8]>, String>,
    unexplained: Vec<Vec<u8>>,
    first: Option<String>,
}

impl Errors {
    fn new(entries: &[Entry], texts: &[Text]) -> Self {
        let mut errors = Errors { by_name: HashMap::new(), unexplained: Vec::new(), first: None };
        let relevant: Vec<&Text> = texts.iter().filter(|text| text.kind == TextKind::TransferError).collect();
        if relevant.is_empty() {
            return errors;
        }
        let listed: HashSet<&[u8]> = entries.iter().map(|entry| &*entry.name).collect();
        for text in relevant {
            let shown = shown(&text.bytes);
            errors.first.get_or_insert_with(|| shown.clone());
            match blamed(&text.bytes, |name| listed.contains(name)) {
                Some(name) => drop(errors.by_name.insert(name, shown)),
                None => errors.unexplained.push(text.bytes.clone()),
            }
        }
        errors
    }

    fn any(&self) -> String {
        self.first.clone().unwrap_or_else(|| "the daemon reported a failed transfer".to_owned())
    }
}

/// A daemon's text for people.
pub(crate) fn shown(text: &[u8]) -> String {
    crate::text::Escaped(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::fake::delivery;
    use super::*;
    use crate::plan::list::Lane;
    use crate::source::Meta;

    const FILE: Meta = Meta { mode: 0o100_644, ..Meta::MISSING };
    const DIR: Meta = Meta { mode: 0o040_755, ..Meta::MISSING };

    fn entries() -> Vec<Entry> {
        vec![Entry::new(*b".", DIR), Entry::new(*b"a", FILE), Entry::new(*b"b", FILE)]
    }

    fn orders(verify: bool, ignore_times: bool) -> Orders {
        Orders { lane: Lane { ignore_times, complete: false }, verify, ..Orders::default() }
    }

    #[test]
    fn without_errors_everything_that_did_not_fail_is_done() {
        let outcomes = vec![Outcome::NotReported, Outcome::Sent, Outcome::ChangedWhileRead];
        let judgement = judge(&entries(), orders(false, true), &delivery(outcomes, false, &[], &[]));
        assert_eq!(judgement.verdicts, [Verdict::Done, Verdict::Done, Verdict::Changed]);
    }

    #[test]
    fn after_a_transfer_error_nothing_is_done_without_proof() {
        let outcomes = vec![Outcome::Updated, Outcome::Sent, Outcome::Failed("x".into())];
        let judgement = judge(&entries(), orders(false, false), &delivery(outcomes, true, &[], &[]));
        assert_eq!(judgement.verdicts, [Verdict::Unknown, Verdict::Unknown, Verdict::Failed("x".into())]);
    }

    #[test]
    fn proof_is_being_stored_or_unchanged_where_that_means_something() {
        let outcomes = vec![Outcome::Unchanged, Outcome::Sent, Outcome::Unchanged];
        let texts = [&b"rsync: [receiver] mkstemp \"/b\" (in m) failed: x"[..]];
        let got = delivery(outcomes, true, &[1], &texts);
        let judgement = judge(&entries(), orders(true, true), &got);
        assert_eq!(judgement.verdicts[..2], [Verdict::Done, Verdict::Done]);
        assert!(matches!(&judgement.verdicts[2], Verdict::Failed(why) if why.contains("mkstemp")));
        assert!(judgement.unexplained.is_empty());
        let unnamed = delivery(vec![Outcome::Unchanged; 3], true, &[], &[b"something is wrong"]);
        let judgement = judge(&entries(), orders(true, false), &unnamed);
        assert_eq!(judgement.verdicts, [Verdict::Done, Verdict::Done, Verdict::Done]);
        assert_eq!(judgement.unexplained, [b"something is wrong"]);
    }

    #[test]
    fn an_entry_that_an_error_names_is_not_done_even_if_it_was_stored() {
        let got = delivery(vec![Outcome::Sent; 3], true, &[1, 2], &[b"rsync: chgrp \"/a\" (in m) failed: x"]);
        let judgement = judge(&entries(), orders(true, true), &got);
        assert!(matches!(judgement.verdicts[1], Verdict::Failed(_)));
        assert_eq!(judgement.verdicts[2], Verdict::Done);
    }
}
