//! Third names: where the destination keeps what was renamed while its new name is still another one's old name.
//!
//! A third name is one of a few below the root that nothing in the source has. No fact stands for it, so one is recorded
//! first: that it is gone. The take that has this fact may use the name, and removes it with the others; whatever breaks
//! in between, the fact stays pending until the name is removed.

use std::collections::HashMap;

use ebbtide_feed::{Fact, RelPath};

use super::renames::Step;
use super::{Goal, Seen};
use crate::plan::look::{Looker, Sight};

/// So many renames of one plan go over a third name; others are sent as data.
const COUNT: usize = 16;

/// The third names that a plan may use, and what it lacks.
pub(super) struct Thirds {
    /// The facts that ask for the removal of each.
    removals: HashMap<RelPath, Vec<u32>>,
    /// Renames that went over a third name, or would have.
    needing: Vec<u32>,
}

impl Thirds {
    /// Those whose removal is asked for.
    pub(super) fn among(facts: &[Seen]) -> Self {
        let mut removals: HashMap<RelPath, Vec<u32>> = HashMap::new();
        for seen in facts.iter().filter(|seen| is_removal(seen)) {
            removals.entry(seen.path.clone()).or_default().push(seen.id);
        }
        Thirds { removals, needing: Vec::new() }
    }

    /// The ways to a third name and the ways from it, of those renames that find one that fits them.
    pub(super) fn part(
        &mut self,
        steps: Vec<Step>,
        fits: impl Fn(&RelPath, &RelPath) -> bool,
    ) -> (Vec<Step>, Vec<Step>) {
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for step in steps {
            let third = name(self.needing.len());
            if !fits(&third, &step.to) {
                continue;
            }
            self.needing.push(step.id);
            if let Some(removals) = self.removals.get(&third) {
                first.push(Step { to: third.clone(), removals: Vec::new(), ..step.clone() });
                let removals = step.removals.iter().chain([removals]).cloned().collect();
                last.push(Step { from: third, removals, ..step });
            }
        }
        (first, last)
    }

    /// What is to be recorded so that the next plan has all the third names that this one needed; by the facts that did.
    pub(super) fn wanted(&self, looker: &mut Looker) -> Vec<(u32, Vec<Fact>)> {
        let needed = self.needing.iter().take(COUNT).enumerate().map(|(at, id)| (*id, name(at)));
        let lacking = needed.filter(|(_, third)| !self.removals.contains_key(third));
        let free = lacking.filter(|(_, third)| matches!(looker.sight(third), Sight::Missing(_)));
        free.map(|(id, path)| (id, vec![Fact::Gone { path }])).collect()
    }
}

/// Before most other names in a list, as a file below the root.
fn name(at: usize) -> RelPath {
    RelPath::new(format!(".ebbtide-renamed-{at}")).expect("a name without a slash")
}

fn is_removal(seen: &Seen) -> bool {
    matches!(&seen.goal, Goal::Remove { name } if **name == *seen.path.as_bytes())
}
