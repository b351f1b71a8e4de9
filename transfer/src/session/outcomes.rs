//! What became of the entries of a list, in little memory: most lists are long, and few entries fail.

use std::collections::HashMap;

use super::report::Outcome;

/// The outcome of each entry, by its place among them.
#[derive(Debug)]
pub(super) struct Outcomes {
    known: Vec<Known>,
    /// Why those failed that did.
    reasons: HashMap<usize, String>,
}

/// An [`Outcome`] without its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    NotReported,
    Unchanged,
    Updated,
    Sent,
    Vanished,
    ChangedWhileRead,
    Failed,
}

impl Outcomes {
    /// Of so many entries nothing is known.
    pub(super) fn new(entries: usize) -> Self {
        Outcomes { known: vec![Known::NotReported; entries], reasons: HashMap::new() }
    }

    /// Notes what happened to an entry, unless a part of it failed before.
    pub(super) fn note(&mut self, at: usize, outcome: Outcome) {
        let Some(known) = self.known.get_mut(at).filter(|known| **known != Known::Failed) else { return };
        *known = match outcome {
            Outcome::NotReported => Known::NotReported,
            Outcome::Unchanged => Known::Unchanged,
            Outcome::Updated => Known::Updated,
            Outcome::Sent => Known::Sent,
            Outcome::Vanished => Known::Vanished,
            Outcome::ChangedWhileRead => Known::ChangedWhileRead,
            Outcome::Failed(why) => {
                self.reasons.insert(at, why);
                Known::Failed
            }
        };
    }

    /// What is known of an entry.
    pub(super) fn get(&self, at: usize) -> Outcome {
        match self.known.get(at).copied().unwrap_or(Known::NotReported) {
            Known::NotReported => Outcome::NotReported,
            Known::Unchanged => Outcome::Unchanged,
            Known::Updated => Outcome::Updated,
            Known::Sent => Outcome::Sent,
            Known::Vanished => Outcome::Vanished,
            Known::ChangedWhileRead => Outcome::ChangedWhileRead,
            Known::Failed => Outcome::Failed(self.reasons.get(&at).cloned().unwrap_or_default()),
        }
    }

    /// What is known of all of them, in their order.
    pub(super) fn all(&self) -> Vec<Outcome> {
        (0..self.known.len()).map(|at| self.get(at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_told_and_a_failure_stays() {
        let noted = [
            Outcome::NotReported,
            Outcome::Unchanged,
            Outcome::Updated,
            Outcome::Sent,
            Outcome::Vanished,
            Outcome::ChangedWhileRead,
            Outcome::Failed("one".to_owned()),
        ];
        let mut outcomes = Outcomes::new(noted.len());
        for (at, outcome) in noted.iter().enumerate() {
            outcomes.note(at, Outcome::Sent);
            outcomes.note(at, outcome.clone());
        }
        assert_eq!(outcomes.all(), noted);
        outcomes.note(6, Outcome::Sent);
        outcomes.note(6, Outcome::Failed("other".to_owned()));
        outcomes.note(7, Outcome::Sent);
        assert_eq!(outcomes.all(), noted);
        assert_eq!(outcomes.get(7), Outcome::NotReported);
    }
}
