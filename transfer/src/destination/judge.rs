//! What a session's report says about each entry of its list.

use std::collections::{HashMap, HashSet};

use super::blame::{accused, in_the_making};
use super::courier::{Delivery, Orders};
use super::witness::Witness;
use crate::plan::look::ancestors;
use crate::session::{Entry, Outcome};

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

/// Judges a session that ran to its end.
///
/// Without transfer errors everything that is not said to have failed is done. Each failure of an entry has an error
/// text that names it (peer: rsync 3.0 to 3.5, receiver.c and generator.c: only the entries below a directory that
/// could not be made are passed over without a word, and without an item). So with errors, an entry is done when the
/// daemon changed it or took its data, every error means some entry, and none may mean this one. Where that is not
/// enough the verdict is [`Verdict::Unknown`], unless the session asked for proof ([`Orders::verify`]).
pub(crate) fn judge(entries: &[Entry], orders: Orders, delivery: &Delivery) -> Judgement {
    let outcome = |at: usize| delivery.report.outcomes.get(at).cloned().unwrap_or_default();
    let own = |at: usize| match outcome(at) {
        Outcome::Failed(why) => Some(Verdict::Failed(why)),
        Outcome::ChangedWhileRead => Some(Verdict::Changed),
        Outcome::Vanished => Some(Verdict::Vanished),
        _ => None,
    };
    if !delivery.report.partial {
        let verdicts = (0..entries.len()).map(|at| own(at).unwrap_or(Verdict::Done)).collect();
        return Judgement { verdicts, unexplained: Vec::new() };
    }
    let charges = Charges::new(entries, &delivery.witness);
    let verdict = |(at, entry): (usize, &Entry)| {
        own(at).unwrap_or_else(|| charges.verdict(at, entry, orders, &outcome(at), &delivery.witness))
    };
    let verdicts = entries.iter().enumerate().map(verdict).collect();
    Judgement { verdicts, unexplained: charges.unexplained }
}

/// The entries that the errors of a session surely mean, and why they failed. Also of one that broke.
pub(crate) fn accused_entries(entries: &[Entry], witness: &Witness) -> HashMap<usize, String> {
    if witness.errors.is_empty() { HashMap::new() } else { Charges::new(entries, witness).failed }
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

/// What the transfer errors of a session say about its entries.
struct Charges<'a> {
    /// Position of each name.
    at: HashMap<&'a [u8], usize>,
    /// Entries that failed, and why.
    failed: HashMap<usize, String>,
    /// Entries that an error may mean as well.
    suspected: HashSet<usize>,
    /// Error texts that name no entry.
    unexplained: Vec<Vec<u8>>,
    /// Some error may have hit any entry.
    anybody: bool,
    first: Option<String>,
}

impl<'a> Charges<'a> {
    fn new(entries: &'a [Entry], witness: &Witness) -> Self {
        let at: HashMap<&[u8], usize> =
            entries.iter().enumerate().map(|(at, entry)| (&*entry.name, at)).collect();
        let mut charges = Charges {
            at,
            failed: HashMap::new(),
            suspected: HashSet::new(),
            unexplained: Vec::new(),
            anybody: witness.lost_errors || witness.errors.is_empty(),
            first: None,
        };
        for text in &witness.errors {
            charges.charge(text, entries, witness.elsewhere);
        }
        charges
    }

    fn charge(&mut self, text: &[u8], entries: &[Entry], elsewhere: bool) {
        let said = shown(text);
        self.first.get_or_insert_with(|| said.clone());
        let mut meant = accused(text, |name| self.find(name, entries)).into_iter();
        let base = in_the_making(text).filter(|_| elsewhere);
        let namesakes = base.as_ref().map(|base| namesakes(entries, base)).unwrap_or_default();
        match meant.next() {
            // It may be any of several, or the one that the text only seems to mean.
            _ if namesakes.len() > 1 => self.suspected.extend(namesakes),
            Some(first) => drop(self.failed.entry(first).or_insert(said)),
            None if namesakes.len() == 1 => drop(self.failed.entry(namesakes[0]).or_insert(said)),
            None => {
                self.anybody |= !is_about_deleting(text);
                self.unexplained.push(text.to_vec());
            }
        }
        self.suspected.extend(meant);
    }

    /// The entry of this name; for what lies in a directory that is removed, that directory.
    fn find(&self, name: &[u8], entries: &[Entry]) -> Option<usize> {
        let below = || {
            let removed = |name: &[u8]| self.at.get(name).copied().filter(|&at| entries[at].meta.mode == 0);
            ancestors(name).find_map(removed)
        };
        self.at.get(name).copied().or_else(below)
    }

    fn verdict(
        &self,
        at: usize,
        entry: &Entry,
        orders: Orders,
        outcome: &Outcome,
        witness: &Witness,
    ) -> Verdict {
        if let Some(why) = self.failed.get(&at) {
            return Verdict::Failed(why.clone());
        }
        let innocent = !self.anybody && !self.suspected.contains(&at);
        let stored = orders.acknowledge && witness.has(at);
        if stored || (orders.verify && is_proven(entry, orders, outcome, stored)) {
            return Verdict::Done;
        }
        if innocent && self.is_enough(entry, outcome) {
            return Verdict::Done;
        }
        match self.passed_over(entry) {
            Some(why) if *outcome == Outcome::NotReported => Verdict::Failed(why),
            _ if orders.verify => Verdict::Failed(self.any()),
            _ => Verdict::Unknown,
        }
    }

    /// Whether this is proof, where no error means the entry: of a removal there is never a report.
    fn is_enough(&self, entry: &Entry, outcome: &Outcome) -> bool {
        entry.meta.mode == 0 || matches!(outcome, Outcome::Sent | Outcome::Updated)
    }

    /// Why everything below a directory on the way to this entry was passed over.
    fn passed_over(&self, entry: &Entry) -> Option<String> {
        let failed = |dir: &[u8]| self.failed.get(self.at.get(dir)?).cloned();
        if self.failed.is_empty() { None } else { ancestors(&entry.name).find_map(failed) }
    }

    fn any(&self) -> String {
        self.first.clone().unwrap_or_else(|| "the daemon reported a failed transfer".to_owned())
    }
}

/// The regular files with this last component.
fn namesakes(entries: &[Entry], base: &[u8]) -> Vec<usize> {
    let last = |name: &[u8]| name.rsplit(|&byte| byte == b'/').next() == Some(base);
    let same = entries.iter().enumerate().filter(|(_, entry)| entry.meta.is_file() && last(&entry.name));
    same.map(|(at, _)| at).collect()
}

/// Whether a text speaks of a removal, which cannot have hit an entry that is to stay.
///
/// Peer: rsync 3.0 to 3.5 delete.c.
fn is_about_deleting(text: &[u8]) -> bool {
    text.windows(DELETING.len()).any(|part| part == DELETING)
}

const DELETING: &[u8] = b"delete_file: ";

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
        let lane = Lane { ignore_times, complete: false };
        Orders { lane, verify, acknowledge: verify, ..Orders::default() }
    }

    const MKSTEMP_B: &[u8] = b"rsync: [receiver] mkstemp \"/.b.aBc123\" (in m) failed: x";

    fn failed(verdict: &Verdict, with: &str) -> bool {
        matches!(verdict, Verdict::Failed(why) if why.contains(with))
    }

    #[test]
    fn without_errors_everything_that_did_not_fail_is_done() {
        let outcomes = vec![Outcome::NotReported, Outcome::Sent, Outcome::ChangedWhileRead];
        let judgement = judge(&entries(), orders(false, true), &delivery(outcomes, false, &[], &[]));
        assert_eq!(judgement.verdicts, [Verdict::Done, Verdict::Done, Verdict::Changed]);
    }

    #[test]
    fn after_an_error_without_a_name_nothing_is_done_without_proof() {
        for texts in [&[][..], &[&b"something is wrong"[..]], &[MKSTEMP_B, b"something is wrong"]] {
            let outcomes = vec![Outcome::Updated, Outcome::Sent, Outcome::Failed("x".into())];
            let judgement = judge(&entries(), orders(false, false), &delivery(outcomes, true, &[], texts));
            assert_eq!(judgement.verdicts, [Verdict::Unknown, Verdict::Unknown, Verdict::Failed("x".into())]);
        }
    }

    #[test]
    fn an_error_that_names_its_file_leaves_the_others_done() {
        let outcomes = vec![Outcome::NotReported, Outcome::Sent, Outcome::Sent];
        let judgement = judge(&entries(), orders(false, true), &delivery(outcomes, true, &[], &[MKSTEMP_B]));
        assert_eq!(judgement.verdicts[..2], [Verdict::Unknown, Verdict::Done]);
        assert!(failed(&judgement.verdicts[2], "mkstemp"));
        assert!(judgement.unexplained.is_empty());
    }

    #[test]
    fn an_error_that_may_mean_another_file_too_leaves_that_one_open() {
        let entries = [
            Entry::new(*b".", DIR),
            Entry::new(*b"d", DIR),
            Entry::new(*b"d/b", FILE),
            Entry::new(*b"b", FILE),
        ];
        let outcomes = vec![Outcome::Sent; 4];
        let text = b"rsync: [receiver] mkstemp \"/d/.b.aBc123\" (in m) failed: x";
        let got = delivery(outcomes, true, &[], &[text]);
        let judgement = judge(&entries, orders(false, true), &got);
        assert!(failed(&judgement.verdicts[2], "mkstemp"));
        assert_eq!(judgement.verdicts[3], Verdict::Unknown);
    }

    #[test]
    fn a_file_in_the_making_elsewhere_may_be_any_of_its_name() {
        let entries = [
            Entry::new(*b"d/b", FILE),
            Entry::new(*b"b", FILE),
            Entry::new(*b"a", FILE),
            Entry::new(*b"d", DIR),
        ];
        let text = b"rsync: [receiver] mkstemp \"/tmp/.b.aBc123\" (in m) failed: x";
        let mut got = delivery(vec![Outcome::Sent; 4], true, &[], &[text]);
        got.witness.elsewhere = true;
        let judgement = judge(&entries, orders(false, true), &got);
        assert_eq!(judgement.verdicts[..3], [Verdict::Unknown, Verdict::Unknown, Verdict::Done]);
    }

    #[test]
    fn what_lies_below_a_directory_that_could_not_be_made_failed_with_it() {
        let entries = [Entry::new(*b"d", DIR), Entry::new(*b"d/b", FILE), Entry::new(*b"b", FILE)];
        let outcomes = vec![Outcome::NotReported, Outcome::NotReported, Outcome::Sent];
        let text = b"rsync: [generator] recv_generator: mkdir \"/d\" (in m) failed: Permission denied (13)";
        let judgement = judge(&entries, orders(false, true), &delivery(outcomes, true, &[], &[text]));
        assert!(failed(&judgement.verdicts[0], "mkdir") && failed(&judgement.verdicts[1], "mkdir"));
        assert_eq!(judgement.verdicts[2], Verdict::Done);
    }

    #[test]
    fn removals_fail_with_what_is_below_them_and_harm_no_file() {
        let entries = [Entry::missing(*b"d"), Entry::missing(*b"e"), Entry::new(*b"b", FILE)];
        let outcomes = vec![Outcome::NotReported, Outcome::NotReported, Outcome::Sent];
        let text = b"rsync: [generator] delete_file: unlink(d/x/y) failed: Operation not permitted (1)";
        let judgement = judge(&entries, orders(false, true), &delivery(outcomes, true, &[], &[text]));
        assert!(failed(&judgement.verdicts[0], "d/x/y"));
        assert_eq!(judgement.verdicts[1..], [Verdict::Done, Verdict::Done]);
    }

    #[test]
    fn proof_is_being_stored_or_unchanged_where_that_means_something() {
        let outcomes = vec![Outcome::Unchanged, Outcome::Sent, Outcome::Unchanged];
        let got = delivery(outcomes, true, &[1], &[MKSTEMP_B]);
        let judgement = judge(&entries(), orders(true, true), &got);
        assert_eq!(judgement.verdicts[..2], [Verdict::Done, Verdict::Done]);
        assert!(failed(&judgement.verdicts[2], "mkstemp"));
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
