//! Large files go by themselves, in a session beside the others, so that nothing small waits for them.
//!
//! Only regular files with one name do, whose data changed. While one is under way, facts about its name wait, and so
//! do other large files and comparisons of the directories on the way to it: a comparison would find the session's
//! temporary file, and remove it. Nor does anything but a directory take the place of one of those directories. A
//! large file whose directories are compared by the same take is left to the next one, and what was renamed goes with
//! the others.

use std::collections::HashSet;
use std::sync::Arc;

use ebbtide_feed::RelPath;
use roaring::RoaringBitmap;

use super::{Drafting, Goal, Job, Lane, List, Recent, Rules, Seen};
use crate::plan::look::{ancestors, wire_name};
use crate::plan::pace::LARGE;
use crate::source::Meta;

/// The names of files that go by themselves.
pub(crate) type Names = Arc<HashSet<Box<[u8]>>>;

/// Whether large files go by themselves.
#[derive(Clone, Debug, Default)]
pub(crate) enum Aside {
    /// They go with the others.
    #[default]
    Never,
    /// They may. These were left out of a take already, and go with the others if they still may not.
    Free(RoaringBitmap),
    /// Some are on their way, and facts about some wait.
    Busy { names: Names, waiting: Names },
}

impl Drafting {
    /// Takes out what goes by itself, and what waits for that.
    pub(super) fn set_aside(&mut self, facts: Vec<Seen>, recent: &mut Recent) -> Vec<Seen> {
        match std::mem::take(&mut self.sights.aside) {
            Aside::Never => facts,
            Aside::Free(left_out) => self.choose(facts, &left_out, recent),
            Aside::Busy { names, waiting } => self.leave_behind(&names, &waiting, facts),
        }
    }

    fn choose(&mut self, facts: Vec<Seen>, left_out: &RoaringBitmap, recent: &mut Recent) -> Vec<Seen> {
        let mut large = names_of_large(&facts);
        // What changed about the inode that a path has left goes with the others.
        for name in facts.iter().filter(|seen| seen.left.is_some()).filter_map(|seen| seen.goal.update()) {
            large.remove(name);
        }
        if large.is_empty() {
            return facts;
        }
        let renamed = self.renamed();
        large.retain(|name| !ancestors(name).chain([&**name]).any(|way| renamed.contains(way)));
        let compared = self.compared(&facts);
        let is_compared = |name: &[u8]| ancestors(name).any(|way| compared.contains(way));
        let goes = |seen: &Seen| seen.goal.update().is_some_and(|name| large.contains(name));
        let (large, mut rest) = facts.into_iter().partition::<Vec<_>, _>(goes);
        let list = List::new(Lane { ignore_times: true, complete: false });
        let mut job = Job { list, ..Job::default() };
        for seen in large {
            if !seen.goal.update().is_some_and(is_compared) {
                self.place(seen, &mut job, recent);
            } else if left_out.contains(seen.id) {
                rest.push(seen);
            } else {
                self.plan.left_out.insert(seen.id);
            }
        }
        if !job.list.is_empty() {
            job.list.add_parents(&self.sights.looker);
            self.plan.aside = Some(job);
        }
        rest
    }

    /// Both names of what was renamed.
    fn renamed(&self) -> HashSet<Box<[u8]>> {
        let names = self.sights.origins.iter().flat_map(|(to, from)| [to.as_bytes(), from.as_bytes()]);
        names.map(Into::into).collect()
    }

    /// Directories that are compared.
    fn compared(&self, facts: &[Seen]) -> HashSet<Box<[u8]>> {
        let dirs = facts.iter().filter_map(|seen| match &seen.goal {
            Goal::Compare { start } => Some(wire_name(start.dir())),
            // Without a way to name what is to be removed, its directory is.
            Goal::Remove { name } if !self.rules.missing_args => ancestors(name).last(),
            Goal::Replace { dir, .. } if !self.rules.missing_args => Some(wire_name(dir)),
            _ => None,
        });
        dirs.map(Into::into).collect()
    }

    fn leave_behind(
        &mut self,
        names: &HashSet<Box<[u8]>>,
        waiting: &HashSet<Box<[u8]>>,
        facts: Vec<Seen>,
    ) -> Vec<Seen> {
        let large = names_of_large(&facts);
        // A comparison of attributes would come upon what waits, and send it.
        let comes_upon = |goal: &Goal| match goal {
            Goal::Update { name, look, .. } => {
                goes_by_itself(&look.meta) && (large.contains(name) || waiting.contains(name))
            }
            _ => false,
        };
        let busy = Busy { names, dirs: names.iter().flat_map(|name| ancestors(name)).collect() };
        let waits = |seen: &Seen| comes_upon(&seen.goal) || busy.holds_up(&seen.goal, self.rules);
        let (mut behind, mut rest) = facts.into_iter().partition::<Vec<_>, _>(waits);
        let origins = &mut self.sights.origins;
        // What a large file that was renamed is linked to stays until it goes.
        let old: Vec<RelPath> = behind.iter().filter_map(|seen| origins.get(&seen.path).cloned()).collect();
        let stays: HashSet<&[u8]> =
            old.iter().flat_map(|old| ancestors(old.as_bytes()).chain([old.as_bytes()])).collect();
        behind.extend(rest.extract_if(.., |seen| match &seen.goal {
            Goal::Remove { name } => stays.contains(&**name),
            _ => false,
        }));
        // What is linked to an old name must not change under the daemon's eyes; and a directory that took the place of
        // one of those on the way may have a symlink in it.
        origins.retain(|to, from| !busy.has(to.as_bytes()) && !busy.has(from.as_bytes()));
        self.plan.behind.extend(behind.iter().map(|seen| seen.id));
        rest
    }
}

/// What is on its way by itself.
struct Busy<'a> {
    names: &'a HashSet<Box<[u8]>>,
    /// The directories on the way to those.
    dirs: HashSet<&'a [u8]>,
}

impl Busy<'_> {
    fn has(&self, name: &[u8]) -> bool {
        self.names.contains(name) || self.dirs.contains(name)
    }

    fn holds_up(&self, goal: &Goal, rules: Rules) -> bool {
        match goal {
            // In place of a directory, a symlink would lead the file elsewhere.
            Goal::Update { name, look, .. } if look.meta.is_dir() => self.names.contains(name),
            Goal::Update { name, .. } => self.has(name),
            Goal::Remove { name } if rules.missing_args => self.names.contains(name),
            Goal::Remove { name } => {
                self.names.contains(name) || ancestors(name).last().is_some_and(|dir| self.dirs.contains(dir))
            }
            Goal::Replace { dir, .. } => self.names.contains(dir.as_bytes()) || !rules.missing_args,
            Goal::Compare { start } => self.dirs.contains(wire_name(start.dir())),
            Goal::Nothing | Goal::Wait { .. } => false,
        }
    }
}

impl Goal {
    fn update(&self) -> Option<&[u8]> {
        match self {
            Goal::Update { name, .. } => Some(name),
            _ => None,
        }
    }
}

/// The names of such files whose data changed.
fn names_of_large(facts: &[Seen]) -> HashSet<Box<[u8]>> {
    let names = facts.iter().filter_map(|seen| match &seen.goal {
        Goal::Update { name, look, data: true } if goes_by_itself(&look.meta) && seen.left.is_none() => {
            Some(name.clone())
        }
        _ => None,
    });
    names.collect()
}

/// Whether this is a file that may take long, and has no other names.
pub(crate) fn goes_by_itself(meta: &Meta) -> bool {
    meta.is_file() && meta.size >= LARGE && meta.nlink == 1
}

#[cfg(test)]
mod tests;
