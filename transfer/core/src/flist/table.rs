//! Values that many entries share, each kept once.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;

/// Different values, numbered in the order in which they came. Number 0 is the default value.
#[derive(Debug)]
pub(super) struct Table<T> {
    values: Vec<T>,
    numbers: HashTable<u32>,
    hasher: RandomState,
}

impl<T: Default + Hash + Eq> Default for Table<T> {
    fn default() -> Self {
        let mut table = Table { values: Vec::new(), numbers: HashTable::new(), hasher: RandomState::new() };
        table.keep(T::default());
        table
    }
}

impl<T: Hash + Eq> Table<T> {
    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The number of a value; a new one if it was not seen before.
    pub(super) fn keep(&mut self, value: T) -> u32 {
        let hash = self.hasher.hash_one(&value);
        if let Some(number) = self.numbers.find(hash, |number| self.values[*number as usize] == value) {
            return *number;
        }
        // Lossless: there are no more values than entries.
        let number = self.values.len() as u32;
        self.values.push(value);
        let (values, hasher) = (&self.values, &self.hasher);
        self.numbers.insert_unique(hash, number, |number| hasher.hash_one(&values[*number as usize]));
        number
    }

    /// The value with a number that [`Table::keep`] gave.
    pub(super) fn get(&self, number: u32) -> &T {
        &self.values[number as usize]
    }
}

/// Which values of a table were sent, and as which number.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// By number in the table: one more than the number on the wire, 0 if it was not sent.
    numbers: Vec<u32>,
    count: u32,
}

impl Sent {
    /// Another table follows. The numbers on the wire go on.
    pub(super) fn forget(&mut self) {
        self.numbers.clear();
    }

    /// What stands on the wire before a value: one more than its number there, or 0 when it follows in full, which
    /// gives it the next number.
    pub(super) fn reference(&mut self, number: u32) -> u32 {
        let at = number as usize;
        if self.numbers.len() <= at {
            self.numbers.resize(at + 1, 0);
        }
        if self.numbers[at] == 0 {
            self.count += 1;
            self.numbers[at] = self.count;
            return 0;
        }
        self.numbers[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_one_number_and_are_sent_in_full_once() {
        let mut table = Table::<Vec<u8>>::default();
        let numbers = [vec![1], vec![], vec![2], vec![1]].map(|value| table.keep(value));
        assert_eq!(numbers, [1, 0, 2, 1]);
        assert_eq!(table.get(2), &[2]);
        let mut sent = Sent::default();
        assert_eq!(numbers.map(|number| sent.reference(number)), [0, 0, 0, 1]);
        assert_eq!([2, 0].map(|number| sent.reference(number)), [3, 2]);
    }
}
