//! Rules in the form in which they are asked.

use hashbrown::HashMap;

use crate::flags::Flags;
use crate::local::Chain;
use crate::pattern::{Ends, Pattern, Query, Test};
use crate::rule::{Rule, What};

/// What else a list leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linked<'a> {
    /// The lists of per-directory merge files, by number.
    pub(crate) local: &'a [Chain],
    /// What CVS ignores.
    pub(crate) cvs: Option<&'a List>,
}

/// What the first rule that applies says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Include,
    Exclude,
}

/// Rules of a sender, in their order.
#[derive(Debug, Default)]
pub(crate) struct List {
    steps: Vec<Step>,
    /// Rules for one name, where there are many of them: not each has to be asked.
    bases: HashMap<Box<[u8]>, Vec<Named>>,
    /// The same for one path.
    wholes: HashMap<Box<[u8]>, Vec<Named>>,
}

#[derive(Clone, Debug)]
struct Step {
    /// What a name's last component must begin and end with; most rules are passed over by this alone.
    ends: Ends,
    place: usize,
    /// It is about names of extended attributes.
    xattr: bool,
    what: What,
    verdict: Verdict,
}

/// A rule for one name.
#[derive(Clone, Copy, Debug)]
struct Named {
    place: usize,
    dirs_only: bool,
    verdict: Verdict,
}

impl List {
    /// The rules that are about what is sent.
    pub(crate) fn new(rules: &[Rule]) -> List {
        let mut list = List::default();
        for (place, rule) in rules.iter().enumerate().filter(|(_, rule)| !rule.flags.receiver_only()) {
            let xattr = rule.flags.contains(Flags::XATTR);
            let what = rule.what.clone();
            let ends = if let What::Pattern(pattern) = &what { pattern.ends() } else { Ends::default() };
            list.steps.push(Step { ends, place, xattr, what, verdict: verdict(rule.flags) });
        }
        list.index();
        list
    }

    /// Moves rules for one name into tables, where there are enough of them.
    fn index(&mut self) {
        let count = self.steps.iter().filter(|step| step.key().is_some()).count();
        if count < MANY {
            return;
        }
        let mut others = Vec::new();
        for step in std::mem::take(&mut self.steps) {
            match step.key() {
                Some((Key::Base, name, named)) => self.bases.entry(name).or_default().push(named),
                Some((Key::Whole, name, named)) => self.wholes.entry(name).or_default().push(named),
                None => others.push(step),
            }
        }
        self.steps = others;
    }

    /// What the first rule that applies says.
    pub(crate) fn check(&self, query: &Query<'_>, linked: Linked<'_>) -> Option<Verdict> {
        let named = self.named(query);
        let end = named.map_or(usize::MAX, |named| named.place);
        let (first, last) = (query.base.first(), query.base.last());
        for step in self.steps.iter().take_while(|step| step.place < end) {
            if !step.ends.allow(first, last) {
                continue;
            }
            let said = match &step.what {
                What::Pattern(pattern) => {
                    (step.xattr == query.xattr && pattern.applies(query)).then_some(step.verdict)
                }
                What::PerDir(number) => check_chain(linked.local.get(*number), query, linked),
                What::Cvs => linked.cvs.and_then(|cvs| cvs.check(query, linked)),
            };
            if said.is_some() {
                return said;
            }
        }
        named.map(|named| named.verdict)
    }

    fn named(&self, query: &Query<'_>) -> Option<Named> {
        if query.xattr || self.bases.is_empty() && self.wholes.is_empty() {
            return None;
        }
        let first = |table: &HashMap<Box<[u8]>, Vec<Named>>, name: &[u8]| {
            table.get(name)?.iter().find(|named| query.dir || !named.dirs_only).copied()
        };
        let (base, whole) = (first(&self.bases, query.base), first(&self.wholes, query.name));
        base.into_iter().chain(whole).min_by_key(|named| named.place)
    }
}

enum Key {
    Base,
    Whole,
}

impl Step {
    fn key(&self) -> Option<(Key, Box<[u8]>, Named)> {
        if self.xattr {
            return None;
        }
        let What::Pattern(Pattern { test, dirs_only, negated: false }) = &self.what else { return None };
        let named = Named { place: self.place, dirs_only: *dirs_only, verdict: self.verdict };
        match test {
            Test::Base(name) => Some((Key::Base, name.clone(), named)),
            Test::Whole(name) => Some((Key::Whole, name.clone(), named)),
            _ => None,
        }
    }
}

fn check_chain(chain: Option<&Chain>, query: &Query<'_>, linked: Linked<'_>) -> Option<Verdict> {
    let mut next = chain?.as_deref();
    while let Some(link) = next {
        let said = link.list.check(query, linked);
        if said.is_some() {
            return said;
        }
        next = link.above.as_deref();
    }
    None
}

fn verdict(flags: Flags) -> Verdict {
    if flags.contains(Flags::INCLUDE) { Verdict::Include } else { Verdict::Exclude }
}

/// From how many rules for one name on a table is faster than asking each.
const MANY: usize = 8;
