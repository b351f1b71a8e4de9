//! Values of extended attributes that the daemon asks for (protocol note, section 5.10).
//!
//! Entries with equal attributes share one set, and the daemon asks for a value once, with the first item that needs
//! it. Answers may go out in another order, and that item may get none, so values belong to the set: they travel with
//! whichever of its items goes out next. Where that would be none for now, they are forgotten and read again for the
//! next one: nothing is held for files that are not sent.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::error::ErrorKind;
use crate::flist::Xattrs;
use crate::wire::varint::put_varint;

/// Values that are wanted, and values that wait to be sent.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// Requests that the driver has not answered: the set, and the attributes' numbers.
    pending: VecDeque<(u32, Vec<u32>)>,
    /// By set: numbers and values.
    owed: HashMap<u32, Vec<(u32, Vec<u8>)>>,
    /// Bytes of those values.
    owed_bytes: usize,
    /// What was asked for, by set and number.
    asked: BTreeSet<(u32, u32)>,
    /// What was asked for and found no way to the receiver: numbers by set.
    lost: HashMap<u32, Vec<u32>>,
}

impl Values {
    /// Takes the request that came with an item of the set, and tells the names of what is wanted: nothing, mostly.
    pub(super) fn ask(
        &mut self,
        set: u32,
        xattrs: &Xattrs,
        numbers: Vec<u32>,
    ) -> Result<Vec<Vec<u8>>, ErrorKind> {
        let lost = self.lost.remove(&set).unwrap_or_default();
        let mut names: Vec<_> =
            lost.iter().filter_map(|number| xattrs.abbreviated(*number)).map(<[u8]>::to_vec).collect();
        for &number in &numbers {
            let wrong = match xattrs.abbreviated(number) {
                None => "has no such attribute, or it was sent whole",
                Some(_) if !self.asked.insert((set, number)) => "was asked for twice",
                Some(name) => {
                    names.push(name.to_vec());
                    continue;
                }
            };
            let found = format!("number {number} of set {set} {wrong}");
            return Err(ErrorKind::misbehaved("request for extended attributes", found));
        }
        if !names.is_empty() {
            self.pending.push_back((set, [lost, numbers].concat()));
        }
        Ok(names)
    }

    /// Whether the driver owes an answer.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes the values of the oldest request; what could not be read is `None`. `false` if there is none, or if it
    /// has another number of values.
    pub(super) fn give(&mut self, values: Vec<Option<Vec<u8>>>) -> bool {
        if self.pending.front().is_none_or(|(_, numbers)| numbers.len() != values.len()) {
            return false;
        }
        let Some((set, numbers)) = self.pending.pop_front() else { return false };
        let owed = self.owed.entry(set).or_default();
        for (number, value) in numbers.into_iter().zip(values) {
            match value {
                Some(value) => {
                    self.owed_bytes += value.len();
                    owed.push((number, value));
                }
                None => self.lost.entry(set).or_default().push(number),
            }
        }
        true
    }

    /// Whether values of this set wait.
    pub(super) fn owes(&self, set: u32) -> bool {
        self.owed.contains_key(&set)
    }

    /// No item of the set is about to go out: its values are asked for again with the next one.
    pub(super) fn lose(&mut self, set: u32) {
        for (number, value) in self.owed.remove(&set).unwrap_or_default() {
            self.owed_bytes -= value.len();
            self.lost.entry(set).or_default().push(number);
        }
    }

    /// The daemon is done with all sets below this one.
    pub(super) fn forget_below(&mut self, set: u32) {
        self.asked = self.asked.split_off(&(set, 0));
        self.lost.retain(|lost, _| *lost >= set);
    }

    /// Appends what an item of the set takes along.
    pub(super) fn put(&mut self, set: u32, out: &mut Vec<u8>) {
        let mut values = self.owed.remove(&set).unwrap_or_default();
        values.sort_unstable_by_key(|(number, _)| *number);
        let mut last = 0;
        for (number, value) in values {
            self.owed_bytes -= value.len();
            put_varint(out, (number - last) as i32);
            put_varint(out, value.len() as i32);
            out.extend_from_slice(&value);
            last = number;
        }
        out.push(0);
    }

    /// Bytes that wait.
    pub(super) fn retained(&self) -> usize {
        self.owed_bytes
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod unit {
    use super::*;

    fn set() -> Xattrs {
        let long: &[u8] = &[b'x'; 40];
        Xattrs::new([(&b"user.a"[..], long), (b"user.b", b"short"), (b"user.c", long)])
    }

    fn sent(values: &mut Values, set: u32) -> Vec<u8> {
        let mut out = Vec::new();
        values.put(set, &mut out);
        out
    }

    #[test]
    fn values_go_with_the_next_item_of_their_set_and_only_once() {
        let mut values = Values::default();
        assert_eq!(values.ask(7, &set(), vec![1, 3]).unwrap(), [b"user.a", b"user.c"]);
        assert!(values.is_pending() && values.give(vec![Some(b"one".to_vec()), Some(b"three".to_vec())]));
        assert_eq!(sent(&mut values, 6), [0]);
        assert_eq!(sent(&mut values, 7), *b"\x01\x03one\x02\x05three\0");
        assert_eq!(sent(&mut values, 7), [0]);
        assert_eq!(values.retained(), 0);
    }

    #[test]
    fn a_value_that_cannot_be_read_is_left_out_and_tried_with_the_next_item() {
        let mut values = Values::default();
        values.ask(7, &set(), vec![1, 3]).unwrap();
        assert!(!values.give(vec![None]));
        assert!(values.give(vec![None, Some(b"3".to_vec())]));
        assert_eq!(sent(&mut values, 7), *b"\x03\x013\0");
        assert_eq!(values.ask(7, &set(), Vec::new()).unwrap(), [b"user.a"]);
        assert!(values.give(vec![Some(b"1".to_vec())]));
        assert_eq!(sent(&mut values, 7), *b"\x01\x011\0");
        assert!(values.ask(7, &set(), Vec::new()).unwrap().is_empty() && !values.is_pending());
    }

    #[test]
    fn nothing_is_held_for_sets_that_nobody_waits_for() {
        let mut values = Values::default();
        values.ask(7, &set(), vec![1]).unwrap();
        values.give(vec![Some(vec![0; 1000])]);
        assert!(values.owes(7) && values.retained() == 1000);
        values.lose(7);
        assert!(!values.owes(7) && values.retained() == 0);
        assert_eq!(values.ask(7, &set(), vec![3]).unwrap(), [b"user.a", b"user.c"]);
        values.forget_below(8);
        assert!(values.asked.is_empty());
    }

    #[test]
    fn numbers_that_do_not_exist_were_sent_whole_or_come_twice_are_refused() {
        for numbers in [vec![2], vec![4], vec![1, 1]] {
            assert!(Values::default().ask(0, &set(), numbers).is_err());
        }
        let mut values = Values::default();
        assert!(values.ask(0, &set(), vec![1]).is_ok());
        assert!(values.ask(0, &set(), vec![1]).is_err());
    }
}
