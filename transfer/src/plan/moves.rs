//! Renames that a destination has not followed yet: under which name it has what stands at a name now.
//!
//! This is a hint and no more. It may be wrong, and whoever uses it lets the daemon compare
//! contents. What the facts about both names say is done in any case.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use ebbtide_feed::{Fact, RelPath};

/// So many renames are kept for a destination that lags behind; older ones are forgotten, and what they moved is sent.
pub(crate) const KEPT: usize = 1 << 16;

/// The renames of one batch. They happened between the same two moments, so their order means nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MovedTogether {
    /// The batch: those of one are next to each other.
    pub(crate) seq: u64,
    /// Old name and new name.
    pub(crate) names: Vec<(RelPath, RelPath)>,
}

impl MovedTogether {
    /// The renames among the facts of a batch; none if there are none.
    pub(crate) fn among(facts: &[Fact], seq: u64) -> Option<Arc<Self>> {
        let names: Vec<_> = facts
            .iter()
            .filter_map(|fact| match fact {
                Fact::Moved { from, to } => Some((from.clone(), to.clone())),
                _ => None,
            })
            .collect();
        (!names.is_empty()).then(|| Arc::new(MovedTogether { seq, names }))
    }
}

/// Renames that wait for the next take of a destination.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    batches: VecDeque<Arc<MovedTogether>>,
    count: usize,
}

impl Waiting {
    /// Adds further ones; when there are too many, the oldest are forgotten.
    pub(crate) fn add(&mut self, moved: &Arc<MovedTogether>) {
        self.count += moved.names.len();
        self.batches.push_back(Arc::clone(moved));
        while self.count > KEPT
            && let Some(oldest) = self.batches.pop_front()
        {
            self.count -= oldest.names.len();
        }
    }

    /// Takes all of them out.
    pub(crate) fn take(&mut self) -> Batches {
        self.count = 0;
        std::mem::take(&mut self.batches).into()
    }
}

/// Batches of renames, oldest first, shared by the destinations of a mirror.
pub(crate) type Batches = Vec<Arc<MovedTogether>>;

/// The renames that one destination has not followed yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    steps: VecDeque<(u64, RelPath, RelPath)>,
}

impl Moves {
    /// Takes in further renames.
    pub(crate) fn add(&mut self, batches: &[Arc<MovedTogether>]) {
        for batch in batches {
            self.steps.extend(batch.names.iter().map(|(from, to)| (batch.seq, from.clone(), to.clone())));
        }
        self.steps.drain(..self.steps.len().saturating_sub(KEPT));
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Forgets the renames of these names, which the destination has followed by now, one way or another.
    pub(crate) fn settle(&mut self, names: &HashSet<&RelPath>) {
        self.steps.retain(|(_, from, to)| !names.contains(from) && !names.contains(to));
    }

    /// The name at the destination of what stands at a name now, for each name that something was renamed to.
    pub(crate) fn origins(&self) -> HashMap<RelPath, RelPath> {
        let mut now = Now::default();
        let mut steps = self.steps.iter().peekable();
        while let Some((seq, ..)) = steps.peek() {
            let seq = *seq;
            let together = std::iter::from_fn(|| steps.next_if(|(of, ..)| *of == seq));
            now.step(&together.map(|(_, from, to)| (from, to)).collect::<Vec<_>>());
        }
        now.came.retain(|to, from| to != from);
        now.came
    }
}

/// Where things are after some of the renames.
#[derive(Default)]
struct Now {
    /// By name: where it was at first.
    came: HashMap<RelPath, RelPath>,
    /// Names whose first bearer has left.
    left: HashSet<RelPath>,
}

impl Now {
    fn step(&mut self, together: &[(&RelPath, &RelPath)]) {
        let dirs: HashMap<&RelPath, &RelPath> = together.iter().map(|(from, to)| (*to, *from)).collect();
        let first_name =
            |from: &RelPath| self.first_name(&before(from, &dirs).unwrap_or_else(|| from.clone()));
        let arrived: Vec<_> =
            together.iter().filter_map(|(from, to)| Some(((*to).clone(), first_name(from)?))).collect();
        for (from, _) in together {
            if self.came.remove(*from).is_none() {
                self.left.insert((*from).clone());
            }
        }
        let mut known: HashSet<RelPath> = self.came.values().cloned().collect();
        for (to, from) in arrived {
            // What came from a directory that was renamed may have been put there after its namesake had left.
            if known.insert(from.clone()) {
                self.came.insert(to, from);
            } else {
                self.came.remove(&to);
            }
        }
    }

    /// The first name of what stood at `name` until now; `None` if it came later.
    fn first_name(&self, name: &RelPath) -> Option<RelPath> {
        if let Some(first) = self.came.get(name) {
            return Some(first.clone());
        }
        if self.left.contains(name) {
            return None;
        }
        let mut way = name.parent();
        while let Some(dir) = way.filter(|dir| !dir.is_root()) {
            if let Some(first) = self.came.get(&dir) {
                let below = &name.as_bytes()[dir.as_bytes().len()..];
                return RelPath::new([first.as_bytes(), below].concat()).ok();
            }
            way = dir.parent();
        }
        Some(name.clone())
    }
}

/// The name that something had before the directory that it is in was renamed: old names are told by the names that
/// their directories have now. `dirs` has the old name of each new one.
fn before(name: &RelPath, dirs: &HashMap<&RelPath, &RelPath>) -> Option<RelPath> {
    let mut way = name.parent()?;
    while !way.is_root() {
        if let Some(old) = dirs.get(&way) {
            let below = &name.as_bytes()[way.as_bytes().len()..];
            return RelPath::new([old.as_bytes(), below].concat()).ok();
        }
        way = way.parent()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    fn moves(batches: &[&[(&str, &str)]]) -> Moves {
        let mut moves = Moves::default();
        for (seq, names) in (1..).zip(batches) {
            let names = names.iter().map(|(from, to)| (path(from), path(to))).collect();
            moves.add(&[Arc::new(MovedTogether { seq, names })]);
        }
        moves
    }

    fn origins(batches: &[&[(&str, &str)]]) -> Vec<(String, String)> {
        let origins = moves(batches).origins();
        let mut all: Vec<_> = origins.iter().map(|(to, from)| (to.to_string(), from.to_string())).collect();
        all.sort();
        all
    }

    fn pair(to: &str, from: &str) -> (String, String) {
        (to.to_owned(), from.to_owned())
    }

    #[test]
    fn chains_over_several_batches_lead_back_to_the_first_name() {
        assert_eq!(origins(&[&[("a", "b")], &[("b", "c")], &[("c", "d/e")]]), [pair("d/e", "a")]);
        assert!(origins(&[&[("a", "b")], &[("b", "a")]]).is_empty());
    }

    #[test]
    fn renames_of_one_batch_have_no_order() {
        let rotated = [pair("log.1", "log"), pair("log.2", "log.1")];
        assert_eq!(origins(&[&[("log", "log.1"), ("log.1", "log.2")]]), rotated);
        assert_eq!(origins(&[&[("log.1", "log.2"), ("log", "log.1")]]), rotated);
        assert_eq!(origins(&[&[("a", "b"), ("b", "a")]]), [pair("a", "b"), pair("b", "a")]);
    }

    #[test]
    fn what_is_in_a_renamed_directory_was_in_it_before() {
        assert_eq!(origins(&[&[("d", "e")], &[("e/f", "g")]]), [pair("e", "d"), pair("g", "d/f")]);
        assert_eq!(origins(&[&[("d", "e"), ("e/f", "g")]]), [pair("e", "d"), pair("g", "d/f")]);
    }

    #[test]
    fn a_name_that_was_left_and_taken_again_leads_nowhere() {
        assert_eq!(origins(&[&[("a", "b")], &[("a", "c")]]), [pair("b", "a")]);
    }

    #[test]
    fn what_was_followed_is_forgotten_and_what_came_later_is_not() {
        let mut moves = moves(&[&[("a", "b")], &[("b", "c")]]);
        moves.settle(&HashSet::from([&path("a")]));
        assert_eq!(moves.origins(), HashMap::from([(path("c"), path("b"))]));
        moves.settle(&HashSet::from([&path("c")]));
        assert!(moves.is_empty());
    }
}
