//! Facts of one drain, gathered by path so that a name is told about once.

use std::collections::BTreeMap;

use bitflags::bitflags;
use ebbtide_feed::{Fact, RelPath};

bitflags! {
    /// What the facts of a drain say about one path.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Said: u8 {
        const TOUCHED = 1;
        const DATA = 1 << 1;
        const GONE = 1 << 2;
        const RELIST = 1 << 3;
        const SUBTREE = 1 << 4;
        const REPLACED = 1 << 5;
        const CONTENTS = 1 << 6;
        const MADE = 1 << 7;
    }
}

/// The facts about one mirror, each path once.
#[derive(Debug, Default)]
pub struct Facts {
    paths: BTreeMap<RelPath, Said>,
    moves: Vec<(RelPath, RelPath)>,
}

impl Facts {
    /// Adds a fact; what was said of the path before stays said.
    pub fn add(&mut self, fact: Fact) {
        let (path, said) = match fact {
            Fact::Touched { path, data: false } => (path, Said::TOUCHED),
            Fact::Touched { path, data: true } => (path, Said::TOUCHED | Said::DATA),
            Fact::Gone { path } => (path, Said::GONE),
            Fact::Relist { dir } => (dir, Said::RELIST),
            Fact::Subtree { dir, replaced: false } => (dir, Said::SUBTREE),
            Fact::Subtree { dir, replaced: true } => (dir, Said::SUBTREE | Said::REPLACED),
            Fact::Contents { dir } => (dir, Said::SUBTREE | Said::CONTENTS),
            Fact::Made { dir } => (dir, Said::MADE),
            Fact::Moved { from, to } => return self.moves.push((from, to)),
        };
        let all = self.paths.entry(path).or_insert(Said::empty());
        *all |= said;
    }

    /// Directories that were made may have taken the place of others of which nobody knows: they are compared.
    pub fn compare_made(&mut self) {
        let made = self.paths.values_mut().filter(|said| said.contains(Said::MADE));
        made.for_each(|said| *said |= Said::RELIST);
    }

    /// Number of paths that something is said about.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.moves.is_empty()
    }

    /// All facts, by path. The moves go first, so that they are known before anything is done about the names that
    /// went.
    pub fn into_vec(self) -> Vec<Fact> {
        let mut facts = Vec::with_capacity(self.paths.len() + self.moves.len());
        facts.extend(self.moves.into_iter().map(|(from, to)| Fact::Moved { from, to }));
        for (path, said) in self.paths {
            facts.extend(spell(path, said));
        }
        facts
    }
}

/// The facts that say this of one path, none that another of them implies.
fn spell(path: RelPath, said: Said) -> impl Iterator<Item = Fact> {
    let subtree = said.contains(Said::SUBTREE);
    let gone = said.contains(Said::GONE).then(|| Fact::Gone { path: path.clone() });
    let touched = (said.contains(Said::TOUCHED) && (!subtree || said.contains(Said::DATA)))
        .then(|| Fact::Touched { path: path.clone(), data: said.contains(Said::DATA) });
    let relist = (said.contains(Said::RELIST) && !subtree).then(|| Fact::Relist { dir: path.clone() });
    let made =
        (said.contains(Said::MADE) && !subtree && relist.is_none()).then(|| Fact::Made { dir: path.clone() });
    // What is replaced is sent whole; comparing contents implies comparing all else.
    let contents = said.contains(Said::CONTENTS) && !said.contains(Said::REPLACED);
    let subtree = subtree.then(|| match contents {
        true => Fact::Contents { dir: path },
        false => Fact::Subtree { dir: path, replaced: said.contains(Said::REPLACED) },
    });
    [gone, touched, relist, made, subtree].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(bytes: &[u8]) -> RelPath {
        RelPath::new(bytes).unwrap()
    }

    #[test]
    fn a_directory_that_was_made_is_compared_where_what_was_before_is_not_known() {
        let mut facts = Facts::default();
        facts.add(Fact::Touched { path: path(b"a"), data: true });
        facts.add(Fact::Made { dir: path(b"d") });
        facts.compare_made();
        assert_eq!(
            facts.into_vec(),
            [Fact::Touched { path: path(b"a"), data: true }, Fact::Relist { dir: path(b"d") }]
        );
    }

    #[test]
    fn a_path_that_was_touched_in_several_ways_is_told_once_with_the_strongest_evidence() {
        let mut facts = Facts::default();
        for data in [false, true, false] {
            facts.add(Fact::Touched { path: path(b"a"), data });
        }
        assert_eq!(facts.into_vec(), [Fact::Touched { path: path(b"a"), data: true }]);
    }

    #[test]
    fn a_subtree_does_not_swallow_content_evidence() {
        let mut facts = Facts::default();
        facts.add(Fact::Subtree { dir: path(b"d"), replaced: false });
        facts.add(Fact::Touched { path: path(b"d"), data: true });
        facts.add(Fact::Touched { path: path(b"d/x"), data: true });
        assert_eq!(
            facts.into_vec(),
            [
                Fact::Touched { path: path(b"d"), data: true },
                Fact::Subtree { dir: path(b"d"), replaced: false },
                Fact::Touched { path: path(b"d/x"), data: true },
            ]
        );
    }

    #[test]
    fn a_name_that_went_and_came_back_says_both() {
        let mut facts = Facts::default();
        facts.add(Fact::Touched { path: path(b"a"), data: true });
        facts.add(Fact::Gone { path: path(b"a") });
        assert_eq!(
            facts.into_vec(),
            [Fact::Gone { path: path(b"a") }, Fact::Touched { path: path(b"a"), data: true }]
        );
    }
}
