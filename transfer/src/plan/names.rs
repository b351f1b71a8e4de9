//! The lists for facts about single names.

pub(crate) mod aside;
pub(crate) mod renames;
mod thirds;

use std::collections::{HashMap, HashSet};

use ebbtide_feed::{Fact, RelPath};
use roaring::RoaringBitmap;

use super::list::{Lane, List};
use super::look::{Hidden, Looker, Sight};
use super::pace::{Hold, Pace};
use super::recent::{Recent, Tick};
use super::tree::Start;
use super::{Rules, aliases};
use crate::ledger::{Inode, LinkNotes, Links, StoreError};
use crate::session::DirRole;
use crate::source::Look;
use aside::{Aside, goes_by_itself};
use renames::{Origins, Renames};

/// Files up to this size go with those whose data changed, even if only their attributes did: comparing them by
/// content costs less than a session of its own. In bytes.
const SMALL: u64 = 64 * 1024;

/// The names of inodes with several names.
pub(crate) type LinkGroups = HashMap<Inode, Group>;

/// The names of one inode.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Those that lead to it now.
    pub(crate) names: Vec<(Box<[u8]>, Look)>,
    /// Those on record where nothing stands now.
    pub(crate) gone: Vec<RelPath>,
    /// Those that were looked for and are not on record yet.
    found: Vec<RelPath>,
}

/// Facts, looked at.
#[derive(Debug)]
pub(crate) struct Sights {
    /// When the looking began.
    pub(crate) tick: Tick,
    /// What each fact leads to.
    facts: Vec<Seen>,
    looker: Looker,
    /// Where things were that were renamed.
    origins: Origins,
    pace: Pace,
    aside: Aside,
}

/// A fact, looked at.
#[derive(Debug)]
struct Seen {
    id: u32,
    path: RelPath,
    goal: Goal,
    /// The inode with several names that the path led to before, if it leads elsewhere now: what changed about that
    /// inode is to be seen under its other names.
    left: Option<Inode>,
}

/// What a fact comes to after looking.
#[derive(Debug)]
enum Goal {
    /// Bring this entry up to date.
    Update { name: Box<[u8]>, look: Look, data: bool },
    /// Remove this name.
    Remove { name: Box<[u8]> },
    /// Compare this directory.
    Compare { start: Start },
    /// Remove what the destination has under this name; then the other fact stands in place of this one.
    Replace { dir: RelPath, then: Fact },
    /// It is not sent.
    Nothing,
    /// It cannot be looked at.
    Wait { path: RelPath, why: String },
}

/// What is to be done.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Lists with names, each for one session, in this order.
    pub(crate) lists: Vec<Job>,
    /// Large files that go by themselves, beside everything else.
    pub(crate) aside: Option<Job>,
    /// Facts that wait for what goes by itself.
    pub(crate) behind: RoaringBitmap,
    /// Facts about large files that the next take has again.
    pub(crate) left_out: RoaringBitmap,
    /// Directories to be compared, after the lists.
    pub(crate) trees: Vec<Start>,
    /// What was renamed: files before the lists, directories after them.
    pub(crate) renames: Renames,
    /// Facts that there is nothing to do for.
    pub(crate) done: RoaringBitmap,
    /// Facts whose files are still being written, or rest, and how long they wait.
    pub(crate) unsettled: Vec<(u32, Hold)>,
    /// Facts that cannot be looked at: id, name, reason.
    pub(crate) failed: Vec<(u32, RelPath, String)>,
    /// What is to be noted of inodes with several names when a fact is done.
    pub(crate) notes: HashMap<u32, LinkNotes>,
}

/// A list and the facts that it is for.
#[derive(Debug, Default)]
pub(crate) struct Job {
    /// The list.
    pub(crate) list: List,
    /// Facts and the positions, in the list's entries, that they wait for. A fact may be here and among the
    /// removals.
    pub(crate) updates: Vec<(u32, Vec<usize>)>,
    /// Facts and the names whose removal they wait for.
    pub(crate) removals: Vec<(u32, Box<[u8]>)>,
    /// Facts that go on as another fact when a name is removed.
    pub(crate) replaced: Vec<(u32, Box<[u8]>, Fact)>,
}

impl Plan {
    /// How many names the lists remove.
    pub(crate) fn removals(&self) -> usize {
        let removed = |job: &Job| job.list.missing.len();
        self.lists.iter().map(removed).sum::<usize>() + self.renames.removals()
    }
}

impl Sights {
    /// Looks at the names of facts.
    pub(crate) fn new(facts: &[(u32, Fact)], mut looker: Looker, rules: Rules) -> Self {
        let tick = Tick::now();
        let mut goals = Vec::with_capacity(facts.len());
        for (id, fact) in facts {
            let goal = goal(fact, &mut looker, rules);
            goals.push(Seen { id: *id, path: fact.path().clone(), goal, left: None });
        }
        Sights {
            tick,
            facts: goals,
            looker,
            origins: Origins::new(),
            pace: Pace::default(),
            aside: Aside::Never,
        }
    }

    /// The same with what is known of renames.
    pub(crate) fn with_origins(self, origins: Origins) -> Self {
        Sights { origins, ..self }
    }

    /// The same with what waits.
    pub(crate) fn with_pace(self, pace: Pace) -> Self {
        Sights { pace, ..self }
    }

    /// The same with what goes by itself.
    pub(crate) fn with_aside(self, aside: Aside) -> Self {
        Sights { aside, ..self }
    }

    /// Makes the lists.
    ///
    /// # Errors
    /// The ledger's table of links cannot be read.
    pub(crate) fn plan(
        mut self,
        links: &Links,
        mirror: usize,
        recent: &mut Recent,
        rules: Rules,
    ) -> Result<Plan, StoreError> {
        if rules.hard_links {
            self.find_left(links, mirror, rules)?;
        }
        Drafting::new(self, rules).plan(links, mirror, recent)
    }

    /// Finds the names that do not lead to the inode any more that they led to when they were sent.
    fn find_left(&mut self, links: &Links, mirror: usize, rules: Rules) -> Result<(), StoreError> {
        let on_record = links.inodes(mirror, self.facts.iter().map(|seen| &seen.path))?;
        let on_record: HashMap<RelPath, Inode> =
            on_record.into_iter().map(|(path, inode)| (path.clone(), inode)).collect();
        for seen in &mut self.facts {
            seen.left =
                on_record.get(&seen.path).copied().filter(|inode| seen.goal.leaves(&seen.path, *inode));
            if seen.left.is_some() && rules.delete && rules.missing_args {
                seen.goal.unlink(&seen.path);
            }
        }
        Ok(())
    }
}

impl Goal {
    /// Whether `path` does not lead to this inode any more.
    fn leaves(&self, path: &RelPath, inode: Inode) -> bool {
        match self {
            Goal::Update { name, look, .. } => **name != *path.as_bytes() || !leads_to(look, inode),
            Goal::Remove { .. } => true,
            _ => false,
        }
    }

    /// The destination's entry of this name is still linked to others: new attributes would become theirs too, so
    /// it is removed before the new one comes.
    fn unlink(&mut self, path: &RelPath) {
        if matches!(self, Goal::Update { name, look, .. } if **name == *path.as_bytes() && !look.meta.is_dir())
        {
            let then = Fact::Touched { path: path.clone(), data: true };
            *self = Goal::Replace { dir: path.clone(), then };
        }
    }
}

/// The inode of an entry that may have more than one name.
pub(crate) fn shared_inode(look: &Look) -> Option<Inode> {
    let meta = &look.meta;
    (meta.nlink > 1 && !meta.is_dir()).then_some(Inode { dev: meta.dev, ino: meta.ino })
}

/// Whether this is an entry of the inode, though it may be its only one by now.
fn leads_to(look: &Look, inode: Inode) -> bool {
    !look.meta.is_dir() && (look.meta.dev, look.meta.ino) == (inode.dev, inode.ino)
}

fn goal(fact: &Fact, looker: &mut Looker, rules: Rules) -> Goal {
    let path = fact.path();
    match looker.sight(path) {
        Sight::Blind(why) => Goal::Wait { path: path.clone(), why },
        Sight::Missing(name) => Goal::Remove { name },
        Sight::Hidden(hidden) => hidden_goal(fact, &hidden),
        // Nothing below it is compared, let alone removed.
        Sight::There(name, look) if looker.is_beyond(&name, &look.meta) => {
            Goal::Update { name, look, data: false }
        }
        Sight::There(name, look) => match fact {
            Fact::Relist { dir } if look.meta.is_dir() => Goal::Compare { start: Start::relist(dir.clone()) },
            Fact::Subtree { dir, replaced } if look.meta.is_dir() => match (replaced, rules.delete) {
                (true, true) if !dir.is_root() => {
                    let then = Fact::Subtree { dir: dir.clone(), replaced: false };
                    Goal::Replace { dir: dir.clone(), then }
                }
                _ => Goal::Compare { start: Start::subtree(dir.clone(), *replaced) },
            },
            Fact::Contents { dir } if look.meta.is_dir() => {
                Goal::Compare { start: Start::subtree(dir.clone(), true) }
            }
            // Another directory than the one that went: what the destination has below belongs to that one.
            Fact::Gone { path } if look.meta.is_dir() && !path.is_root() => {
                if !rules.delete {
                    return Goal::Compare { start: Start::subtree(path.clone(), true) };
                }
                let then = Fact::Subtree { dir: path.clone(), replaced: false };
                Goal::Replace { dir: path.clone(), then }
            }
            Fact::Touched { data, .. } => Goal::Update { name, look, data: *data },
            _ => Goal::Update { name, look, data: true },
        },
    }
}

/// The destination keeps what is excluded. Whether that is what it has depends, for some rules, on what stands there:
/// then the daemon decides, by comparing the directory that holds it.
fn hidden_goal(fact: &Fact, hidden: &Hidden) -> Goal {
    let went = hidden.missing || matches!(fact, Fact::Gone { .. });
    match RelPath::new(&*hidden.name).ok().and_then(|path| path.parent()) {
        Some(dir) if hidden.by_kind && went => Goal::Compare { start: Start::relist(dir) },
        _ => Goal::Nothing,
    }
}

/// The lists in the making.
struct Drafting {
    sights: Sights,
    rules: Rules,
    plan: Plan,
    /// Names that are removed before what is there now is compared: nothing below them can be in the same list.
    replaced: Vec<RelPath>,
    /// All names of the inodes with several names.
    groups: LinkGroups,
}

impl Drafting {
    fn new(sights: Sights, rules: Rules) -> Self {
        let replaced = sights.facts.iter().filter_map(|seen| match &seen.goal {
            Goal::Replace { dir, .. } => Some(dir.clone()),
            _ => None,
        });
        Drafting {
            replaced: replaced.collect(),
            sights,
            rules,
            plan: Plan::default(),
            groups: LinkGroups::new(),
        }
    }

    fn plan(mut self, links: &Links, mirror: usize, recent: &mut Recent) -> Result<Plan, StoreError> {
        let facts = std::mem::take(&mut self.sights.facts);
        let facts: Vec<Seen> = facts.into_iter().filter(|seen| !self.comes_later(&seen.goal)).collect();
        let facts = self.set_aside(facts, recent);
        if self.rules.hard_links {
            self.find_groups(&facts, links, mirror)?;
        }
        let origins = std::mem::take(&mut self.sights.origins);
        self.plan.renames = Renames::find(&facts, &origins, &mut self.sights.looker, self.rules);
        // What was sent there lately, the pair may take from the daemon.
        let old_names = self.plan.renames.pairs.iter().flat_map(|pairs| &pairs.old);
        old_names.for_each(|old| recent.forget(old.as_bytes()));
        let exact = self.exact_inodes(&facts);
        let is_exact = |seen: &Seen| seen.left.is_some() || needs_exact(&seen.goal, &exact);
        let only_quick = !facts.iter().any(is_exact);
        let mut exact_job =
            Job { list: List::new(Lane { ignore_times: true, complete: false }), ..Job::default() };
        let mut quick_job = Job::default();
        for seen in facts {
            let is_quick = only_quick || (is_large(&seen.goal) && !is_exact(&seen));
            self.place(seen, if is_quick { &mut quick_job } else { &mut exact_job }, recent);
        }
        for mut job in [exact_job, quick_job] {
            if !job.list.is_empty() {
                job.list.add_parents(&self.sights.looker);
                self.plan.lists.push(job);
            }
        }
        if !self.plan.renames.is_empty() {
            self.plan.renames.finish(&self.sights.looker);
        }
        Ok(self.plan)
    }

    /// Whether a fact lies below a name that is replaced: it stays pending and is looked at again after that.
    fn comes_later(&self, goal: &Goal) -> bool {
        let name = match goal {
            Goal::Update { name, .. } | Goal::Remove { name } => &**name,
            Goal::Compare { start } => start.dir().as_bytes(),
            Goal::Replace { dir, .. } => {
                return self.replaced.iter().any(|other| other != dir && dir.is_within(other));
            }
            Goal::Nothing | Goal::Wait { .. } => return false,
        };
        let within = |dir: &RelPath| {
            name.strip_prefix(dir.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        self.replaced.iter().any(within)
    }

    /// The inodes of regular files whose data may have changed. Where a name on record is missing, what changed under
    /// that name may be all that tells of it.
    fn exact_inodes(&self, facts: &[Seen]) -> HashSet<(u64, u64)> {
        let told = facts.iter().filter_map(|seen| match &seen.goal {
            Goal::Update { look, data: true, .. } if look.meta.is_file() => {
                Some((look.meta.dev, look.meta.ino))
            }
            _ => None,
        });
        let incomplete = self.groups.iter().filter(|(_, group)| !group.gone.is_empty());
        told.chain(incomplete.map(|(inode, _)| (inode.dev, inode.ino))).collect()
    }

    fn place(&mut self, seen: Seen, job: &mut Job, recent: &mut Recent) {
        let Seen { id, path, goal, left } = seen;
        if let Some(inode) = left {
            self.place_group(id, inode, job);
            self.plan.notes.entry(id).or_default().gone.push((inode, path));
        }
        match goal {
            Goal::Wait { path, why } => self.plan.failed.push((id, path, why)),
            Goal::Nothing => drop(self.plan.done.insert(id)),
            Goal::Compare { start } => self.plan.trees.push(start.for_fact(id)),
            Goal::Remove { name } => self.place_removal(id, &name, job),
            Goal::Replace { dir, then } => self.place_replacement(id, dir, then, job),
            Goal::Update { name, .. } if self.plan.renames.take_update(id, &name) => {}
            Goal::Update { name, look, data }
                if left.is_none() && self.is_there(&name, &look, data, recent) =>
            {
                self.plan.done.insert(id);
            }
            Goal::Update { name, look, data } => {
                // A large file's new attributes would bring its data with them.
                let waits = data || goes_by_itself(&look.meta);
                if let Some(hold) = self.hold(id, &name, &look).filter(|_| waits) {
                    self.plan.unsettled.push((id, hold));
                    return;
                }
                let position = job.list.add(&name, &look, DirRole::Plain);
                job.updates.push((id, vec![position]));
                if let Some(inode) = shared_inode(&look) {
                    self.place_group(id, inode, job);
                    let seen = RelPath::new(&*name).map(|path| (inode, path));
                    self.plan.notes.entry(id).or_default().seen.extend(seen);
                }
            }
        }
    }

    fn is_there(&self, name: &[u8], look: &Look, data: bool, recent: &mut Recent) -> bool {
        recent.has(name, &look.meta, data, |checksum| self.sights.looker.digest(name, checksum))
    }

    fn hold(&self, id: u32, name: &[u8], look: &Look) -> Option<Hold> {
        look.meta.is_file().then(|| self.sights.pace.hold(id, name, &look.meta))?
    }

    /// Puts all names of an inode into the list.
    fn place_group(&mut self, id: u32, inode: Inode, job: &mut Job) {
        let Some(group) = self.groups.get(&inode) else { return };
        let add = |(name, look): &(Box<[u8]>, Look)| job.list.add(name, look, DirRole::Plain);
        let positions: Vec<usize> = group.names.iter().map(add).collect();
        if !positions.is_empty() {
            job.updates.push((id, positions));
        }
        let of_inode =
            |paths: &[RelPath]| -> Vec<_> { paths.iter().map(|path| (inode, path.clone())).collect() };
        let notes = self.plan.notes.entry(id).or_default();
        notes.gone.extend(of_inode(&group.gone));
        notes.seen.extend(of_inode(&group.found));
    }

    fn place_replacement(&mut self, id: u32, dir: RelPath, then: Fact, job: &mut Job) {
        if self.rules.missing_args {
            let job = self.plan.renames.replacement(id, &dir).unwrap_or(job);
            job.list.remove(dir.as_bytes());
            job.replaced.push((id, dir.as_bytes().into(), then));
        } else {
            self.plan.trees.push(Start::subtree(dir, true).for_fact(id));
        }
    }

    fn place_removal(&mut self, id: u32, name: &[u8], job: &mut Job) {
        if !self.rules.delete {
            self.plan.done.insert(id);
        } else if self.rules.missing_args {
            let job = self.plan.renames.removal(name).unwrap_or(job);
            job.list.remove(name);
            job.removals.push((id, name.into()));
        } else {
            let path = RelPath::new(name).unwrap_or_else(|_| RelPath::root());
            let parent = path.parent().unwrap_or_else(RelPath::root);
            self.plan.trees.push(Start::relist(parent).without(path).for_fact(id));
        }
    }

    /// Finds all names of the inodes with several names, and looks at each again.
    fn find_groups(&mut self, facts: &[Seen], links: &Links, mirror: usize) -> Result<(), StoreError> {
        for seen in facts {
            if let Some(inode) = seen.left {
                self.groups.entry(inode).or_default();
            }
            let Goal::Update { name, look, .. } = &seen.goal else { continue };
            let Some(inode) = shared_inode(look) else { continue };
            let group = self.groups.entry(inode).or_default();
            group.add(name, look);
        }
        let mut unknown = HashSet::new();
        for (inode, group) in &mut self.groups {
            let mut known = links.names(mirror, *inode)?;
            known.retain(|path| !self.replaced.iter().any(|dir| path.is_within(dir)));
            group.verify(*inode, known.clone(), &mut self.sights.looker);
            // What is on record may be of an earlier inode with this number.
            if group.lacks_names() && !group.has_any(&known) {
                unknown.insert(*inode);
            }
        }
        if !unknown.is_empty() {
            self.find_unknown(&unknown);
        }
        Ok(())
    }

    /// Looks through the source for names that are not on record yet.
    fn find_unknown(&mut self, inodes: &HashSet<Inode>) {
        for (inode, path) in aliases::find(self.sights.looker.root(), inodes) {
            let Some(group) = self.groups.get_mut(&inode) else { continue };
            if !self.replaced.iter().any(|dir| path.is_within(dir)) {
                group.verify(inode, vec![path.clone()], &mut self.sights.looker);
                group.found.push(path);
            }
        }
    }
}

impl Group {
    /// Adds a name that leads to the inode.
    pub(crate) fn add(&mut self, name: &[u8], look: &Look) {
        if !self.names.iter().any(|(known, _)| **known == *name) {
            self.names.push((name.into(), look.clone()));
        }
    }

    /// Whether any of these names leads to the inode.
    pub(crate) fn has_any(&self, paths: &[RelPath]) -> bool {
        paths.iter().any(|path| self.names.iter().any(|(name, _)| **name == *path.as_bytes()))
    }

    /// Whether the inode has more names than these.
    pub(crate) fn lacks_names(&self) -> bool {
        self.names.first().is_some_and(|(_, look)| look.meta.nlink as usize > self.names.len())
    }

    /// Adds the names on record that still lead to the inode, and those where nothing stands.
    pub(crate) fn verify(&mut self, inode: Inode, known: Vec<RelPath>, looker: &mut Looker) {
        for path in known {
            match looker.sight(&path) {
                Sight::There(name, look) if *name == *path.as_bytes() && leads_to(&look, inode) => {
                    self.add(&name, &look);
                }
                Sight::Missing(_) => self.gone.push(path),
                _ => {}
            }
        }
    }
}

/// Whether this is a file whose data may have changed, under this name or another.
fn needs_exact(goal: &Goal, exact: &HashSet<(u64, u64)>) -> bool {
    matches!(goal, Goal::Update { look, .. } if look.meta.is_file() && exact.contains(&(look.meta.dev, look.meta.ino)))
}

fn is_large(goal: &Goal) -> bool {
    matches!(goal, Goal::Update { look, .. } if look.meta.is_file() && look.meta.size > SMALL)
}

#[cfg(test)]
mod tests;
