//! Renames among the facts of a plan: what the destination has under an old name is linked to the new one before the
//! old one is removed, and no data goes over.
//!
//! - A file goes as a pair: its old and its new name are one inode with two links in a list of their own (`-H`). The
//!   daemon finds the old name up to date and links the new one to it.
//! - A directory goes as the root of a session with `--link-dest`: the daemon looks for each file below the old name.
//!
//! Names alone prove nothing: what stands under the old name may be older than the rename, or another file by now. So
//! both compare checksums (`-c`). A pair that is too large for that is linked first and compared by content after,
//! by the facts that tell of it.
//!
//! Who needs an old name goes before whoever takes it, so a rotation of log files is a few lists, one after the other.
//! An exchange is a ring: one of its steps is sent as data.

use std::collections::{HashMap, HashSet};

use ebbtide_feed::{Fact, RelPath};

use super::{Goal, Job, Seen};
use crate::plan::Rules;
use crate::plan::list::List;
use crate::plan::look::{Looker, ROOT, Sight, ancestors};
use crate::session::{DirRole, Entry};
use crate::source::Look;

/// Smaller files are sent: that costs less than a session of its own. In bytes.
const MIN: u64 = 8 * 1024;

/// Larger files are linked without a look at their content, and compared by the transfer of what changed after.
/// In bytes.
const SUMMED: u64 = 16 << 20;

/// So many lists of pairs go one after the other; steps of a longer rotation are sent as data.
const LISTS: usize = 24;

/// So many renamed directories of one plan are followed; others are sent as data.
const DIRS: usize = 256;

/// By new name: the name under which the destination has it.
pub(crate) type Origins = HashMap<RelPath, RelPath>;

/// Files that were renamed.
#[derive(Debug)]
pub(crate) struct Pairs {
    /// Their old and new names, and the directories on the way; and the facts about the new names that are done with
    /// this.
    pub(crate) job: Job,
    /// Whether contents are compared by their checksums.
    pub(crate) summed: bool,
    /// New names and what stands there.
    pub(crate) files: Vec<(RelPath, Look)>,
    /// Old names.
    pub(crate) old: Vec<RelPath>,
}

/// A directory that was renamed.
#[derive(Debug)]
pub(crate) struct MovedDir {
    /// The name under which the destination has it.
    pub(crate) from: RelPath,
    /// Its name now. What the destination has there is removed first.
    pub(crate) to: RelPath,
    /// The facts about the new name.
    pub(crate) facts: Vec<u32>,
    /// The removal of the new name, if it must wait for another directory that comes from there.
    pub(crate) removal: Job,
    look: Look,
    waits: bool,
}

/// The renames of a plan, in the order in which they are followed.
#[derive(Debug, Default)]
pub(crate) struct Renames {
    /// Lists of files.
    pub(crate) pairs: Vec<Pairs>,
    /// Directories, after the lists of names.
    pub(crate) dirs: Vec<MovedDir>,
    /// What is removed when all were followed.
    pub(crate) late: Job,
    /// The list of each new name of a file.
    pair_of: HashMap<Box<[u8]>, usize>,
    /// Names whose removal is late.
    late_names: HashSet<Box<[u8]>>,
}

/// A rename that can be followed.
#[derive(Debug)]
struct Step {
    from: RelPath,
    to: RelPath,
    look: Look,
}

impl Renames {
    /// Finds the renames that can be followed among what facts came to.
    pub(super) fn find(facts: &[Seen], origins: &Origins, looker: &mut Looker, rules: Rules) -> Renames {
        let mut renames = Renames::default();
        if origins.is_empty() {
            return renames;
        }
        if rules.pairs {
            let anew: HashSet<&[u8]> = facts.iter().filter_map(sent_anew).collect();
            let removed: HashSet<&[u8]> = facts.iter().filter_map(removed).collect();
            let files = steps(facts, origins, |seen, from| file_step(seen, from, &anew, &removed, looker));
            let needing = files_needing(&files);
            renames.add_files(ordered(files, needing), looker);
        }
        if rules.renamed_dirs {
            let replaced: HashSet<&RelPath> = facts.iter().filter_map(replaced_dir).collect();
            let dirs = steps(facts, origins, |seen, from| dir_step(seen, from, &replaced, looker));
            let dirs: Vec<Step> = dirs.into_iter().take(DIRS).collect();
            renames.add_dirs(ordered(dirs, dirs_needing), looker);
        }
        renames
    }

    fn add_files(&mut self, levels: Vec<Vec<Step>>, looker: &mut Looker) {
        for level in levels.into_iter().take(LISTS) {
            let (summed, large): (Vec<_>, Vec<_>) =
                level.into_iter().partition(|step| step.look.meta.size <= SUMMED);
            for (steps, summed) in [(summed, true), (large, false)] {
                if !steps.is_empty() {
                    self.add_pairs(steps, summed, looker);
                }
            }
        }
    }

    fn add_pairs(&mut self, steps: Vec<Step>, summed: bool, looker: &mut Looker) {
        let mut pairs = Pairs { job: Job::default(), summed, files: Vec::new(), old: Vec::new() };
        for Step { from, to, look } in steps {
            let list = &pairs.job.list;
            if list.has(from.as_bytes()) || list.has(to.as_bytes()) {
                continue;
            }
            if let Sight::Missing(name) = looker.sight(&from) {
                self.late_names.insert(name);
            }
            let mut entry = Entry::new(to.as_bytes(), look.meta).with_details(look.details.clone());
            entry.meta.nlink = 2;
            let old = Entry { name: from.as_bytes().into(), ..entry.clone() };
            pairs.job.list.push(old.read_at(to.as_bytes()));
            pairs.job.list.push(entry);
            self.pair_of.insert(to.as_bytes().into(), self.pairs.len());
            pairs.files.push((to, look));
            pairs.old.push(from);
        }
        pairs.job.list.add_parents(looker);
        for from in &pairs.old {
            add_lost_parents(&mut pairs.job.list, from, looker);
        }
        self.pairs.push(pairs);
    }

    fn add_dirs(&mut self, levels: Vec<Vec<Step>>, looker: &mut Looker) {
        let steps: Vec<Step> = levels.into_iter().flatten().collect();
        let is_new_name = |name: &RelPath| steps.iter().any(|step| step.to == *name);
        for step in &steps {
            match looker.sight(&step.from) {
                Sight::Missing(name) => drop(self.late_names.insert(name)),
                _ if is_new_name(&step.from) => {}
                _ => drop(self.late_names.insert(step.from.as_bytes().into())),
            }
        }
        let needed: HashSet<RelPath> = steps.iter().map(|step| step.from.clone()).collect();
        for Step { from, to, look } in steps {
            let waits = needed.iter().any(|needed| needed.is_within(&to));
            self.dirs.push(MovedDir { from, to, facts: Vec::new(), removal: Job::default(), look, waits });
        }
    }

    /// Whether nothing can be followed.
    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.dirs.is_empty()
    }

    /// Takes a fact about the new name of a file; tells whether that is all there is to do for it.
    pub(super) fn take_update(&mut self, id: u32, name: &[u8]) -> bool {
        let Some(pairs) = self.pair_of.get(name).map(|&at| &mut self.pairs[at]) else { return false };
        if pairs.summed
            && let Some(at) = pairs.job.list.position(name)
        {
            pairs.job.updates.push((id, vec![at]));
        }
        pairs.summed
    }

    /// The job that removes a name, if that must wait until directories were followed.
    pub(super) fn removal(&mut self, name: &[u8]) -> Option<&mut Job> {
        if self.dirs.is_empty() {
            return None;
        }
        self.late_names.contains(name).then_some(&mut self.late)
    }

    /// Takes note of a fact that asks for the removal of what a name led to before. The job that removes it, if that
    /// must wait.
    pub(super) fn replacement(&mut self, id: u32, dir: &RelPath) -> Option<&mut Job> {
        let Some(at) = self.dirs.iter().position(|moved| moved.to == *dir) else {
            return self.removal(dir.as_bytes());
        };
        let moved = &mut self.dirs[at];
        moved.facts.push(id);
        moved.waits.then_some(&mut moved.removal)
    }

    /// Adds what lists lack.
    pub(super) fn finish(&mut self, looker: &Looker) {
        for moved in &mut self.dirs {
            moved.removal.list.add_parents(looker);
        }
        for moved in &self.dirs {
            self.late.list.add(moved.to.as_bytes(), &moved.look, DirRole::Plain);
        }
        self.late.list.add_parents(looker);
    }
}

/// The first step to each new name.
fn steps(
    facts: &[Seen],
    origins: &Origins,
    mut step: impl FnMut(&Seen, &RelPath) -> Option<Look>,
) -> Vec<Step> {
    let mut known = HashSet::new();
    let mut found = Vec::new();
    for seen in facts {
        if let Some(from) = origins.get(&seen.path)
            && !known.contains(&seen.path)
            && let Some(look) = step(seen, from)
        {
            known.insert(&seen.path);
            found.push(Step { from: from.clone(), to: seen.path.clone(), look });
        }
    }
    found
}

/// A file with one name, which the destination may have under its old one. Files with several names go with their
/// groups.
fn file_step(
    seen: &Seen,
    from: &RelPath,
    anew: &HashSet<&[u8]>,
    removed: &HashSet<&[u8]>,
    looker: &mut Looker,
) -> Option<Look> {
    let Goal::Update { name, look, data: true } = &seen.goal else { return None };
    let fits = **name == *seen.path.as_bytes() && look.meta.is_file() && look.meta.nlink == 1;
    if !fits || look.meta.size < MIN || seen.left.is_some() {
        return None;
    }
    let is_usable = match looker.sight(from) {
        // A daemon that does not have it any more makes it anew for the pair: a fact must ask for its removal after that.
        Sight::Missing(name) => removed.contains(&*name),
        // Something else stands there now. The daemon may lose that to the pair, so it must be sent after it.
        Sight::There(name, other) => {
            *name == *from.as_bytes() && !other.meta.is_dir() && anew.contains(&*name)
        }
        _ => false,
    };
    is_usable.then(|| look.clone())
}

/// The name of an entry whose content is sent, whatever the destination has there.
fn sent_anew(seen: &Seen) -> Option<&[u8]> {
    match &seen.goal {
        Goal::Update { name, data: true, .. } => Some(name),
        _ => None,
    }
}

/// The name that is removed.
fn removed(seen: &Seen) -> Option<&[u8]> {
    match &seen.goal {
        Goal::Remove { name } => Some(name),
        _ => None,
    }
}

/// A directory that replaces what its name led to, and whose old name can be kept until it was followed.
fn dir_step(seen: &Seen, from: &RelPath, replaced: &HashSet<&RelPath>, looker: &mut Looker) -> Option<Look> {
    let to = replaced_dir(seen)?;
    let Sight::There(name, look) = looker.sight(to) else { return None };
    let nested = from.is_within(to) || to.is_within(from);
    if *name != *to.as_bytes() || !look.meta.is_dir() || nested {
        return None;
    }
    let is_kept = match looker.sight(from) {
        Sight::Missing(_) => true,
        Sight::There(..) => replaced.contains(from),
        _ => false,
    };
    let is_below = |dir: &&RelPath| *dir != from && from.is_within(dir);
    (is_kept && !replaced.iter().any(is_below)).then_some(look)
}

/// The directory that is removed to be sent anew.
fn replaced_dir(seen: &Seen) -> Option<&RelPath> {
    match &seen.goal {
        Goal::Replace { dir, then: Fact::Subtree { .. } } => Some(dir),
        _ => None,
    }
}

/// Steps in levels, each after all that need what it takes. `needed_by` names, for each step, those whose old name it
/// takes. What goes round in a ring is left out.
fn ordered(steps: Vec<Step>, needed_by: impl Fn(&[Step], usize) -> Vec<usize>) -> Vec<Vec<Step>> {
    let needed_by: Vec<Vec<usize>> = (0..steps.len()).map(|at| needed_by(&steps, at)).collect();
    let mut waiting: Vec<usize> = needed_by.iter().map(Vec::len).collect();
    let mut taken_by = vec![Vec::new(); steps.len()];
    for (at, others) in needed_by.iter().enumerate() {
        others.iter().for_each(|&other| taken_by[other].push(at));
    }
    let mut steps: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    let mut now: Vec<usize> = (0..steps.len()).filter(|&at| waiting[at] == 0).collect();
    let mut levels = Vec::new();
    let mut left = steps.len();
    while left > 0 {
        if now.is_empty() {
            // A ring: without one of its steps it is a chain.
            let Some(at) = steps.iter().rposition(Option::is_some) else { break };
            steps[at] = None;
            now.push(at);
        }
        left -= now.len();
        let mut next = Vec::new();
        for &at in &now {
            for &other in &taken_by[at] {
                waiting[other] -= 1;
                if waiting[other] == 0 && steps[other].is_some() {
                    next.push(other);
                }
            }
        }
        let level: Vec<Step> = now.iter().filter_map(|&at| steps[at].take()).collect();
        if !level.is_empty() {
            levels.push(level);
        }
        now = next;
    }
    levels
}

/// The file that comes from the name that this one takes.
fn files_needing(steps: &[Step]) -> impl Fn(&[Step], usize) -> Vec<usize> + use<> {
    let by_old: HashMap<RelPath, usize> =
        steps.iter().enumerate().map(|(at, step)| (step.from.clone(), at)).collect();
    move |steps, at| by_old.get(&steps[at].to).copied().filter(|&other| other != at).into_iter().collect()
}

/// The directories that come from the name that this one takes, or from below it.
fn dirs_needing(steps: &[Step], at: usize) -> Vec<usize> {
    let taken = &steps[at].to;
    (0..steps.len()).filter(|&other| other != at && steps[other].from.is_within(taken)).collect()
}

/// Directories of an old name that are gone. The daemon still has them, and removes them with what is in them; until
/// then they may have any attributes.
fn add_lost_parents(list: &mut List, name: &RelPath, looker: &Looker) {
    let Some(root) = looker.known(ROOT).cloned() else { return };
    for parent in ancestors(name.as_bytes()) {
        if !list.has(parent) {
            list.add(parent, &root, DirRole::Plain);
        }
    }
}
