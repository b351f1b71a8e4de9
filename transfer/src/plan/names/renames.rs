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
//! An exchange is a ring: one of its steps goes over a third name.

use std::collections::{HashMap, HashSet};

use ebbtide_feed::{Fact, RelPath};

use super::thirds::Thirds;
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
#[derive(Debug, Default)]
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
    /// What is done with this, but for old names that are to go.
    pub(crate) linked: Vec<Linked>,
    /// The new names are third names, which later lists need.
    pub(crate) parks: bool,
}

/// A new name that shares an inode with its old one at the destination until that is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Linked {
    /// The fact about the new name.
    pub(crate) id: u32,
    /// The facts that ask for the removal of the old one; none if something else is sent there.
    pub(crate) removals: Vec<u32>,
}

/// A directory that was renamed.
#[derive(Debug)]
pub(crate) struct MovedDir {
    /// The name under which the destination has it.
    pub(crate) from: RelPath,
    /// Its new name there. What the destination has there is removed first.
    pub(crate) to: RelPath,
    /// Its name in the source; the new one, unless that is a third name.
    pub(crate) place: RelPath,
    /// The facts about the new name.
    pub(crate) facts: Vec<u32>,
    /// The removal of the new name, if it must wait for another directory that comes from there.
    pub(crate) removal: Job,
    look: Look,
    waits: bool,
}

impl MovedDir {
    /// Whether the new name is a third name, which a later one needs.
    pub(crate) fn parks(&self) -> bool {
        self.to != self.place
    }
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
    /// Third names that would spare data, as facts that ask for their removal, by the fact that needs them.
    pub(crate) wanted: Vec<(u32, Vec<Fact>)>,
    /// The list of each new name of a file, and the facts that ask for the removal of its old names.
    pair_of: HashMap<Box<[u8]>, (usize, Removals)>,
    /// Names whose removal is late.
    late_names: HashSet<Box<[u8]>>,
}

/// A rename that can be followed.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// A fact about the new name.
    pub(super) id: u32,
    pub(super) from: RelPath,
    pub(super) to: RelPath,
    /// The name in the source.
    pub(super) place: RelPath,
    pub(super) look: Look,
    /// The facts that ask for the removal of each old name of a file.
    pub(super) removals: Removals,
}

/// For each of some names: the facts that ask for its removal.
type Removals = Vec<Vec<u32>>;

impl Renames {
    /// Finds the renames that can be followed among what facts came to.
    pub(super) fn find(facts: &[Seen], origins: &Origins, looker: &mut Looker, rules: Rules) -> Renames {
        let mut renames = Renames::default();
        if origins.is_empty() {
            return renames;
        }
        let mut thirds = Thirds::among(facts);
        if rules.pairs {
            let anew: HashSet<&[u8]> = facts.iter().filter_map(sent_anew).collect();
            let mut removed: HashMap<&[u8], Vec<u32>> = HashMap::new();
            for seen in facts {
                if let Goal::Remove { name } = &seen.goal {
                    removed.entry(name).or_default().push(seen.id);
                }
            }
            let mut files =
                steps(facts, origins, |seen, from| file_step(seen, from, &anew, &removed, looker));
            let shared = take_shared(&mut files);
            let (first, last) = thirds.part(shared, is_listed_before);
            let needing = files_needing(&files);
            let (levels, _) = ordered(files, needing);
            renames.add_files(vec![first], true, looker);
            renames.add_files(levels.into_iter().take(LISTS).chain([last]), false, looker);
        }
        if rules.renamed_dirs {
            let replaced: HashSet<&RelPath> = facts.iter().filter_map(replaced_dir).collect();
            let dirs = steps(facts, origins, |seen, from| dir_step(seen, from, &replaced, looker));
            let dirs: Vec<Step> = dirs.into_iter().take(DIRS).collect();
            let (levels, rings) = ordered(dirs, dirs_needing);
            let (first, last) = thirds.part(rings, |_, _| true);
            renames.add_dirs([first, levels.concat(), last].concat(), looker);
        }
        if rules.missing_args {
            renames.wanted = thirds.wanted(looker);
        }
        renames
    }

    fn add_files(&mut self, levels: impl IntoIterator<Item = Vec<Step>>, parks: bool, looker: &mut Looker) {
        for level in levels {
            let (summed, large): (Vec<_>, Vec<_>) =
                level.into_iter().partition(|step| step.look.meta.size <= SUMMED);
            for (steps, summed) in [(summed, true), (large, false)] {
                if !steps.is_empty() {
                    self.add_pairs(steps, summed, parks, looker);
                }
            }
        }
    }

    fn add_pairs(&mut self, steps: Vec<Step>, summed: bool, parks: bool, looker: &mut Looker) {
        let mut pairs = Pairs { summed, parks, ..Pairs::default() };
        for Step { from, to, place, look, removals, .. } in steps {
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
            pairs.job.list.push(old.read_at(place.as_bytes()));
            pairs.job.list.push(entry.read_at(place.as_bytes()));
            self.pair_of.insert(to.as_bytes().into(), (self.pairs.len(), removals));
            pairs.files.push((to, look));
            pairs.old.push(from);
        }
        pairs.job.list.add_parents(looker);
        for from in &pairs.old {
            add_lost_parents(&mut pairs.job.list, from, looker);
        }
        self.pairs.push(pairs);
    }

    fn add_dirs(&mut self, steps: Vec<Step>, looker: &mut Looker) {
        let is_new_name = |name: &RelPath| steps.iter().any(|step| step.to == *name);
        for step in &steps {
            match looker.sight(&step.from) {
                Sight::Missing(name) => drop(self.late_names.insert(name)),
                _ if is_new_name(&step.from) => {}
                _ => drop(self.late_names.insert(step.from.as_bytes().into())),
            }
        }
        let needed: HashSet<RelPath> = steps.iter().map(|step| step.from.clone()).collect();
        for Step { from, to, place, look, .. } in steps {
            let waits = needed.iter().any(|needed| needed.is_within(&to));
            let (facts, removal) = (Vec::new(), Job::default());
            self.dirs.push(MovedDir { from, to, place, facts, removal, look, waits });
        }
    }

    /// How many names are removed for directories.
    pub(super) fn removals(&self) -> usize {
        let of_dirs = self.dirs.iter().map(|moved| moved.removal.list.missing.len());
        of_dirs.sum::<usize>() + self.late.list.missing.len()
    }

    /// Whether nothing can be followed.
    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.dirs.is_empty()
    }

    /// Takes a fact about the new name of a file; tells whether that is all there is to do for it.
    pub(super) fn take_update(&mut self, id: u32, name: &[u8]) -> bool {
        let Some((at, removals)) = self.pair_of.get(name) else { return false };
        let pairs = &mut self.pairs[*at];
        if pairs.summed
            && let Some(at) = pairs.job.list.position(name)
        {
            pairs.job.updates.push((id, vec![at]));
            let linked = removals.iter().map(|removals| Linked { id, removals: removals.clone() });
            pairs.linked.extend(linked);
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
        for moved in self.dirs.iter().filter(|moved| !moved.parks()) {
            self.late.list.add(moved.to.as_bytes(), &moved.look, DirRole::Plain);
        }
        self.late.list.add_parents(looker);
    }
}

/// The first step to each new name.
fn steps(
    facts: &[Seen],
    origins: &Origins,
    mut step: impl FnMut(&Seen, &RelPath) -> Option<(Look, Vec<u32>)>,
) -> Vec<Step> {
    let mut known = HashSet::new();
    let mut found = Vec::new();
    for seen in facts {
        if let Some(from) = origins.get(&seen.path)
            && !known.contains(&seen.path)
            && let Some((look, removals)) = step(seen, from)
        {
            known.insert(&seen.path);
            let (id, from, to) = (seen.id, from.clone(), seen.path.clone());
            found.push(Step { id, from, place: to.clone(), to, look, removals: vec![removals] });
        }
    }
    found
}

/// A file with one name, which the destination may have under its old one, and the facts that ask for the removal of
/// that. Files with several names go with their groups.
fn file_step(
    seen: &Seen,
    from: &RelPath,
    anew: &HashSet<&[u8]>,
    removed: &HashMap<&[u8], Vec<u32>>,
    looker: &mut Looker,
) -> Option<(Look, Vec<u32>)> {
    let Goal::Update { name, look, data: true } = &seen.goal else { return None };
    let fits = **name == *seen.path.as_bytes() && look.meta.is_file() && look.meta.nlink == 1;
    if !fits || look.meta.size < MIN || seen.left.is_some() {
        return None;
    }
    let removals = match looker.sight(from) {
        // A daemon that does not have it any more makes it anew for the pair: a fact must ask for its removal after that.
        Sight::Missing(name) => removed.get(&*name)?.clone(),
        // Something else stands there now. The daemon may lose that to the pair, so it must be sent after it.
        Sight::There(name, other)
            if *name == *from.as_bytes() && !other.meta.is_dir() && anew.contains(&*name) =>
        {
            Vec::new()
        }
        _ => return None,
    };
    Some((look.clone(), removals))
}

/// Takes out the files whose new name is another one's old name and would be compared before their own old name. By
/// then that name is linked to where the other one went: if contents are equal, it would get its new attributes while it
/// is, and if they are not, data would be sent. What is left has no rings: names cannot grow all the way round.
fn take_shared(steps: &mut Vec<Step>) -> Vec<Step> {
    let old: HashSet<RelPath> = steps.iter().map(|step| step.from.clone()).collect();
    let is_shared = |step: &Step| old.contains(&step.to) && !is_listed_before(&step.from, &step.to);
    steps.extract_if(.., |step| is_shared(step)).collect()
}

/// Whether a file comes before another one in a list: directories come after all files, and compare with a slash at
/// their ends.
fn is_listed_before(one: &RelPath, other: &RelPath) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let common = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let dir = one[..common].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (one, other) = (&one[dir..], &other[dir..]);
    (one.contains(&b'/'), one) < (other.contains(&b'/'), other)
}

/// The name of an entry whose content is sent, whatever the destination has there.
fn sent_anew(seen: &Seen) -> Option<&[u8]> {
    match &seen.goal {
        Goal::Update { name, data: true, .. } => Some(name),
        _ => None,
    }
}

/// A directory that replaces what its name led to, and whose old name can be kept until it was followed.
fn dir_step(
    seen: &Seen,
    from: &RelPath,
    replaced: &HashSet<&RelPath>,
    looker: &mut Looker,
) -> Option<(Look, Vec<u32>)> {
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
    (is_kept && !replaced.iter().any(is_below)).then(|| (look, Vec::new()))
}

/// The directory that is removed to be sent anew.
fn replaced_dir(seen: &Seen) -> Option<&RelPath> {
    match &seen.goal {
        Goal::Replace { dir, then: Fact::Subtree { .. } } => Some(dir),
        _ => None,
    }
}

/// Steps in levels, each after all that need what it takes. `needed_by` names, for each step, those whose old name it
/// takes. Also the steps without which what goes round in rings are chains.
fn ordered(
    steps: Vec<Step>,
    needed_by: impl Fn(&[Step], usize) -> Vec<usize>,
) -> (Vec<Vec<Step>>, Vec<Step>) {
    let needed_by: Vec<Vec<usize>> = (0..steps.len()).map(|at| needed_by(&steps, at)).collect();
    let mut waiting: Vec<usize> = needed_by.iter().map(Vec::len).collect();
    let mut taken_by = vec![Vec::new(); steps.len()];
    for (at, others) in needed_by.iter().enumerate() {
        others.iter().for_each(|&other| taken_by[other].push(at));
    }
    let mut steps: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    let mut now: Vec<usize> = (0..steps.len()).filter(|&at| waiting[at] == 0).collect();
    let (mut levels, mut rings) = (Vec::new(), Vec::new());
    let mut left = steps.len();
    while left > 0 {
        if now.is_empty() {
            // A ring: without one of its steps it is a chain.
            let Some(at) = steps.iter().rposition(Option::is_some) else { break };
            rings.extend(steps[at].take());
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
    (levels, rings)
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
