//! Renames since the last drain, as one step each: what moved from a to b and on to c moved from a to c.

use std::collections::HashMap;

use super::fold::{Move, Seen};
use crate::id::{Handle, Inode, Name};

/// Renames kept; the names of further ones are looked at without knowing that they belong together.
const MOVES: usize = 16_384;

/// A name: its directory and the name in it.
type Place = (Handle, Name);

/// Where what stands at a name now was when the drain before ended.
#[derive(Debug, Default)]
pub struct Moves {
    now: HashMap<Place, Origin>,
}

/// Where something came from.
#[derive(Debug)]
struct Origin {
    /// `None` for what was made since the last drain, which no destination has yet.
    at: Option<Place>,
    /// What moved, where it is known.
    child: Option<Inode>,
}

impl Moves {
    /// Takes in a rename. `before` is what was seen of the old name since the last drain.
    ///
    /// An exchange comes as two renames: what the second one takes away is not what the first one brought.
    pub(super) fn note(&mut self, from: &Place, to: &Place, child: Option<Inode>, before: Seen) {
        let brought = self.now.get(from).is_some_and(|origin| is_same(origin.child, child));
        let is_new = before.intersects(Seen::CREATED | Seen::CREATED_DIR) && !self.now.contains_key(from);
        let at = match self.now.get(from) {
            Some(_) if brought => self.now.remove(from).and_then(|origin| origin.at),
            _ if is_new => None,
            _ => Some(from.clone()),
        };
        if self.now.len() < MOVES {
            self.now.insert(to.clone(), Origin { at, child });
        }
    }

    /// Takes out the renames of what was there before: where it was and where it is.
    pub fn take(&mut self) -> Vec<Move> {
        let moved = std::mem::take(&mut self.now).into_iter();
        moved.filter_map(|(to, origin)| Some((origin.at?, to))).filter(|(from, to)| from != to).collect()
    }
}

/// Whether both are one inode, as far as they are known.
fn is_same(one: Option<Inode>, other: Option<Inode>) -> bool {
    one.is_none() || other.is_none() || one == other
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{handle, name};
    use crate::id::{Generation, Ino};

    fn at(text: &[u8]) -> Place {
        (handle(1), name(text))
    }

    fn inode(ino: u64) -> Option<Inode> {
        Some(Inode { ino: Ino(ino), generation: Generation(1) })
    }

    fn after(steps: &[(&[u8], &[u8], u64)]) -> Vec<Move> {
        let mut moves = Moves::default();
        for (from, to, ino) in steps {
            moves.note(&at(from), &at(to), inode(*ino), Seen::empty());
        }
        let mut taken = moves.take();
        taken.sort_by(|one, other| one.1.1.cmp(&other.1.1));
        taken
    }

    #[test]
    fn a_chain_of_renames_is_one_step() {
        assert_eq!(after(&[(b"a", b"b", 5), (b"b", b"c", 5)]), [(at(b"a"), at(b"c"))]);
        assert!(after(&[(b"a", b"b", 5), (b"b", b"a", 5)]).is_empty(), "it is where it was");
    }

    #[test]
    fn an_exchange_moves_both_and_so_does_a_swap_in_three_steps() {
        let both = [(at(b"b"), at(b"a")), (at(b"a"), at(b"b"))];
        assert_eq!(after(&[(b"a", b"b", 5), (b"b", b"a", 6)]), both);
        assert_eq!(after(&[(b"a", b"t", 5), (b"b", b"a", 6), (b"t", b"b", 5)]), both);
    }

    #[test]
    fn a_rotation_moves_each_by_one() {
        let moved = after(&[(b"log.1", b"log.2", 5), (b"log", b"log.1", 6)]);
        assert_eq!(moved, [(at(b"log"), at(b"log.1")), (at(b"log.1"), at(b"log.2"))]);
    }

    #[test]
    fn what_was_made_since_the_last_drain_comes_from_nowhere() {
        let mut moves = Moves::default();
        moves.note(&at(b"f.tmp"), &at(b"f"), inode(5), Seen::CREATED | Seen::DATA);
        moves.note(&at(b"f"), &at(b"g"), inode(5), Seen::CREATED);
        assert!(moves.take().is_empty());
    }
}
