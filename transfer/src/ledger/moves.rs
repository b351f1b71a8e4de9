//! Renames that outlive the sender: the next one follows what this one did not.
//!
//! They are a hint and stay one ([`crate::plan::moves`]): what cannot be read is left out, and all of a mirror's are
//! dropped when no destination of it has anything pending, or when they become too many. One row is for the renames of
//! one part of a batch.
//!
//! ```text
//! key   │ mirror, u32 BE │ number of the row, u64 BE │
//! value │ number of the first row of the batch, u64 BE │ old name │ 0 │ new name │ 0 │ …
//! ```

use ebbtide_feed::{Fact, RelPath};
use redb::{ReadableTable, WriteTransaction};

use super::key::MirrorNumber;
use super::store::{MOVES, StoreError};
use crate::plan::moves::{KEPT, MovedTogether};

/// Which numbers come next, and how many renames of each mirror are kept.
#[derive(Debug, Default)]
pub(crate) struct MovesKept {
    next: u64,
    /// The latest batch, and the number of its first row.
    latest: Option<(u64, u64)>,
    counts: Vec<usize>,
}

impl MovesKept {
    /// After what an earlier sender kept of each mirror.
    pub(crate) fn new(rows: &[Vec<MovedTogether>], next: u64) -> Self {
        let count = |rows: &Vec<MovedTogether>| rows.iter().map(|row| row.names.len()).sum();
        MovesKept { next, latest: None, counts: rows.iter().map(count).collect() }
    }

    /// The number by which the rows of a batch are known.
    pub(crate) fn batch(&mut self, seq: u64) -> u64 {
        match self.latest {
            Some((of, first)) if of == seq => first,
            _ => {
                self.latest = Some((seq, self.next));
                self.next
            }
        }
    }

    /// The number of a further row, for a mirror by its index; and whether the older ones must make room.
    pub(crate) fn row(&mut self, mirror: usize, moved: &MovedTogether) -> (u64, bool) {
        let number = self.next;
        self.next += 1;
        let count = &mut self.counts[mirror];
        *count += moved.names.len();
        let is_full = *count > KEPT;
        if is_full {
            *count = moved.names.len();
        }
        (number, is_full)
    }

    /// Whether there are any of a mirror; by now there are none.
    pub(crate) fn forget(&mut self, mirror: usize) -> bool {
        std::mem::take(&mut self.counts[mirror]) > 0
    }
}

/// Writes a row.
pub(super) fn write(
    transaction: &WriteTransaction,
    mirror: MirrorNumber,
    number: u64,
    moved: &MovedTogether,
) -> Result<(), StoreError> {
    let key = [&mirror.0.to_be_bytes()[..], &number.to_be_bytes()].concat();
    let mut value = moved.seq.to_be_bytes().to_vec();
    for (from, to) in &moved.names {
        for name in [from, to] {
            value.extend_from_slice(name.as_bytes());
            value.push(0);
        }
    }
    transaction.open_table(MOVES)?.insert(&*key, &*value)?;
    Ok(())
}

/// Removes the rows of a mirror.
pub(super) fn forget(transaction: &WriteTransaction, mirror: MirrorNumber) -> Result<(), StoreError> {
    let (first, end) = (mirror.0.to_be_bytes(), mirror.0.saturating_add(1).to_be_bytes());
    transaction.open_table(MOVES)?.retain_in(&first[..]..&end[..], |_, _| false)?;
    Ok(())
}

/// The rows of each mirror, oldest first, and the number of the next row.
pub(super) fn load(
    transaction: &WriteTransaction,
    mirrors: &[MirrorNumber],
) -> Result<(Vec<Vec<MovedTogether>>, u64), StoreError> {
    let mut rows: Vec<Vec<MovedTogether>> = mirrors.iter().map(|_| Vec::new()).collect();
    let mut next = 0;
    for row in transaction.open_table(MOVES)?.iter()? {
        let (key, value) = row?;
        let Some((mirror, number)) = read_key(key.value()) else { continue };
        next = next.max(number.saturating_add(1));
        let at = mirrors.iter().position(|of| *of == mirror);
        if let Some((at, moved)) = at.zip(read_row(value.value())) {
            rows[at].push(moved);
        }
    }
    Ok((rows, next))
}

fn read_key(key: &[u8]) -> Option<(MirrorNumber, u64)> {
    let (mirror, number) = key.split_first_chunk::<4>()?;
    Some((MirrorNumber(u32::from_be_bytes(*mirror)), u64::from_be_bytes(number.try_into().ok()?)))
}

fn read_row(value: &[u8]) -> Option<MovedTogether> {
    let (seq, names) = value.split_first_chunk::<8>()?;
    let names = names.strip_suffix(&[0])?.split(|byte| *byte == 0);
    let names: Vec<RelPath> = names.map(|name| RelPath::new(name).ok()).collect::<Option<_>>()?;
    let pairs = names.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
    Some(MovedTogether { seq: u64::from_be_bytes(*seq), names: pairs.collect() })
}

/// What is told of a name that something was renamed from. While a destination has not acknowledged one of these, it may
/// not have followed the rename.
pub(super) fn told_of(from: &RelPath) -> [Fact; 3] {
    [
        Fact::Gone { path: from.clone() },
        Fact::Touched { path: from.clone(), data: true },
        Fact::Subtree { dir: from.clone(), replaced: true },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(seq: u64, names: &[(&str, &str)]) -> MovedTogether {
        let path = |name: &str| RelPath::new(name).unwrap();
        MovedTogether { seq, names: names.iter().map(|(from, to)| (path(from), path(to))).collect() }
    }

    #[test]
    fn parts_of_a_batch_have_one_number_and_every_row_its_own() {
        let mut kept = MovesKept::new(&[vec![moved(0, &[("a", "b")])]], 3);
        assert_eq!((kept.batch(7), kept.batch(7)), (3, 3));
        assert_eq!(kept.row(0, &moved(3, &[("a", "b")])), (3, false));
        assert_eq!(kept.batch(7), 3);
        assert_eq!(kept.row(0, &moved(3, &[("c", "d")])), (4, false));
        assert_eq!(kept.batch(8), 5);
        assert!(kept.forget(0) && !kept.forget(0));
    }

    #[test]
    fn what_nobody_wrote_is_left_out() {
        for bad in [&b""[..], b"\0\0\0\0\0\0\0", b"\0\0\0\0\0\0\0\x01", b"\0\0\0\0\0\0\0\x01a\0../b\0"] {
            assert_eq!(read_row(bad), None, "{bad:?}");
        }
        assert_eq!(read_row(b"\0\0\0\0\0\0\0\x01a\0b/c\0"), Some(moved(1, &[("a", "b/c")])));
    }
}
