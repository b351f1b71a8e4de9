//! The lists for directories that are compared: as many directories as fit a list, one list after the other.
//!
//! A directory is always whole in one list, because the daemon removes what a complete directory lacks. A tree is
//! spread over as many lists as it needs, so memory does not grow with the tree, and what was compared stays
//! compared when the connection breaks.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use ebbtide_feed::{Fact, RelPath};

use super::list::{Lane, List};
use super::look::{Looker, Sight, wire_name};
use super::names::LinkGroups;
use super::names::aside::goes_by_itself;
use crate::ledger::{Inode, LinkNotes, Links, StoreError};
use crate::session::{DirRole, Entry};
use crate::source::{Look, Source};
use crate::text::OsError;
use crate::walk::{Depth, ProblemKind, Walk};

/// A list gets no further directory when it has this many entries.
const ENTRIES: usize = 40_000;

/// A list gets no further directory when its names have this many bytes.
const NAME_BYTES: usize = 4 << 20;

/// A directory to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    dir: RelPath,
    deep: bool,
    ignore_times: bool,
    /// A name in it that was missing, and is to be removed by this.
    gone: Option<RelPath>,
    fact: u32,
}

impl Start {
    /// The entries of one directory.
    pub(crate) fn relist(dir: RelPath) -> Self {
        Start { dir, deep: false, ignore_times: false, gone: None, fact: 0 }
    }

    /// Everything below a directory; with `ignore_times` an equal size and mtime prove nothing.
    pub(crate) fn subtree(dir: RelPath, ignore_times: bool) -> Self {
        Start { dir, deep: true, ignore_times, gone: None, fact: 0 }
    }

    /// The same, to remove a name that was missing in it.
    pub(crate) fn without(self, gone: RelPath) -> Self {
        Start { gone: Some(gone), ..self }
    }

    /// The same on behalf of a fact.
    pub(crate) fn for_fact(self, fact: u32) -> Self {
        Start { fact, ..self }
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &RelPath {
        &self.dir
    }

    /// Whether this is all of the source.
    pub(crate) fn is_whole(&self) -> bool {
        self.deep && self.dir.is_root()
    }

    /// Whether an equal size and mtime prove nothing.
    pub(crate) fn ignore_times(&self) -> bool {
        self.ignore_times
    }

    /// The fact.
    pub(crate) fn fact(&self) -> u32 {
        self.fact
    }
}

/// Directories that are still to be listed, all in the same way.
#[derive(Debug)]
pub(crate) struct Tree {
    source: Arc<Source>,
    lane: Lane,
    /// The next directory is the last one here.
    pending: Vec<Start>,
    /// The directories that facts named: what is wrong with these is the fact's own failure.
    named: HashSet<RelPath>,
    /// The content of large files goes by itself.
    without_large: bool,
}

/// A list of whole directories.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The list.
    pub(crate) list: List,
    /// The fact that each directory is listed for, by wire name.
    pub(crate) owners: HashMap<Box<[u8]>, u32>,
    /// What must be looked at by itself, and the fact that it came up for.
    pub(crate) successors: Vec<(u32, Fact)>,
    /// Named directories that could not be read.
    pub(crate) failed: Vec<(u32, RelPath, String)>,
    /// Names of inodes with several names, as seen.
    pub(crate) notes: LinkNotes,
    /// Inodes that have more names than were seen, none of which was on record, and the facts that they came up for.
    pub(crate) unknown: HashMap<Inode, u32>,
    looker: Looker,
    name_bytes: usize,
}

impl Tree {
    /// The directories among `starts` that are compared with this `ignore_times`.
    pub(crate) fn new(source: Arc<Source>, starts: &[Start], ignore_times: bool) -> Self {
        let mut pending: Vec<Start> =
            starts.iter().filter(|start| start.ignore_times == ignore_times).cloned().collect();
        pending.reverse();
        let named = pending.iter().map(|start| start.dir.clone()).collect();
        let lane = Lane { ignore_times, complete: true };
        Tree { source, lane, pending, named, without_large: false }
    }

    /// The same, but that the content of large files goes by itself.
    pub(crate) fn without_large(self, without_large: bool) -> Self {
        Tree { without_large, ..self }
    }

    /// The next list; `None` when every directory was listed.
    pub(crate) fn next_chunk(&mut self) -> Option<Chunk> {
        self.pending.last()?;
        let mut chunk = Chunk::new(self.lane, Looker::new(Arc::clone(&self.source)));
        while chunk.has_room()
            && let Some(start) = self.pending.pop()
        {
            self.list(&start, &mut chunk);
        }
        Some(chunk)
    }

    /// Puts one directory and its entries into the list.
    fn list(&mut self, start: &Start, chunk: &mut Chunk) {
        let name = wire_name(&start.dir);
        let look = match chunk.looker.sight(&start.dir) {
            Sight::There(found, look) if *found == *name && look.meta.is_dir() => look,
            Sight::Hidden(_) => return,
            Sight::Blind(why) => return chunk.failed.push((start.fact, start.dir.clone(), why)),
            _ => {
                let look_again = Fact::Touched { path: start.dir.clone(), data: true };
                return chunk.successors.push((start.fact, look_again));
            }
        };
        if chunk.looker.is_beyond(name, &look.meta) {
            // What is mounted here is not tracked: like `--one-file-system`, the directory and nothing in it.
            chunk.list.add(name, &look, DirRole::Plain);
            return chunk.list.add_parents_of(name, &chunk.looker);
        }
        let mut walk = Walk::new(&self.source, 0).keeping(self.source.rules(0));
        walk.below(name, Depth::Entries);
        chunk.list.add(name, &look, DirRole::Content);
        chunk.list.add_parents_of(name, &chunk.looker);
        chunk.owners.insert(name.into(), start.fact);
        let problems = std::mem::take(&mut walk.problems);
        for mut entry in walk.entries.into_iter().rev() {
            if start.deep
                && entry.meta.is_dir()
                && let Ok(dir) = RelPath::new(&*entry.name)
            {
                self.pending.push(Start { dir, gone: None, ..start.clone() });
            }
            if let Some(gone) = start.gone.as_ref().filter(|gone| *gone.as_bytes() == *entry.name)
                && entry.meta.is_dir()
            {
                // It came back, so it is not removed: what the destination has below belongs to the one that went.
                chunk.successors.push((start.fact, Fact::Subtree { dir: gone.clone(), replaced: true }));
            }
            entry.withheld = self.without_large && goes_by_itself(&entry.meta);
            chunk.name_bytes += entry.name.len();
            chunk.list.push(entry);
        }
        for problem in problems {
            let below = problem.path.strip_prefix(self.source.path(0)).unwrap_or(&problem.path);
            let path = RelPath::new(below.as_os_str().as_bytes()).unwrap_or_else(|_| start.dir.clone());
            self.problem(start, path, &problem.kind, chunk);
        }
    }

    /// A directory that could not be read whole is not compared; the rest is looked at by itself.
    fn problem(&self, start: &Start, path: RelPath, kind: &ProblemKind, chunk: &mut Chunk) {
        match kind {
            ProblemKind::OpenDir(error) | ProblemKind::ReadDir(error) => {
                chunk.list.set_plain(wire_name(&start.dir));
                let why = format!("its entries cannot be read: {}", OsError(error));
                if self.named.contains(&start.dir) {
                    chunk.failed.push((start.fact, path, why));
                } else if start.deep {
                    let again = match start.ignore_times {
                        true => Fact::Contents { dir: path },
                        false => Fact::Subtree { dir: path, replaced: false },
                    };
                    chunk.successors.push((start.fact, again));
                }
            }
            ProblemKind::Vanished if path == start.dir => {
                chunk.list.set_plain(wire_name(&start.dir));
                chunk.successors.push((start.fact, Fact::Gone { path }));
            }
            ProblemKind::Vanished
            | ProblemKind::NoReferent
            | ProblemKind::DirectoryNotWanted
            | ProblemKind::Argument(_)
            | ProblemKind::Root(_) => {}
            ProblemKind::Stat(_) | ProblemKind::Attributes(_) | ProblemKind::NameTooLong => {
                // What the list lacks would be removed.
                chunk.list.set_plain(wire_name(&start.dir));
                chunk.successors.push((start.fact, Fact::Touched { path, data: true }));
            }
        }
    }
}

impl Chunk {
    fn new(lane: Lane, looker: Looker) -> Self {
        Chunk {
            list: List::new(lane),
            owners: HashMap::new(),
            successors: Vec::new(),
            failed: Vec::new(),
            notes: LinkNotes::default(),
            unknown: HashMap::new(),
            looker,
            name_bytes: 0,
        }
    }

    fn has_room(&self) -> bool {
        self.list.entries.len() < ENTRIES && self.name_bytes < NAME_BYTES
    }

    /// Adds all names on record of the inodes with several names, so that they are linked at the destination.
    ///
    /// # Errors
    /// The ledger's table of links cannot be read.
    pub(crate) fn add_links(&mut self, links: &Links, mirror: usize) -> Result<(), StoreError> {
        let left = self.look_for_left(links, mirror)?;
        for (inode, mut group) in self.link_groups() {
            let paths = group.names.iter().filter_map(|(name, _)| RelPath::new(&**name).ok());
            self.notes.seen.extend(paths.filter(|path| !left.contains(path)).map(|path| (inode, path)));
            let known = links.names(mirror, inode)?;
            group.verify(inode, known.clone(), &mut self.looker);
            if group.lacks_names() && !group.has_any(&known) {
                let owner = group.names.iter().find_map(|(name, _)| self.owner(name));
                self.unknown.extend(owner.map(|owner| (inode, owner)));
            }
            for (name, look) in group.names {
                self.list.add(&name, &look, DirRole::Plain);
                self.list.add_parents_of(&name, &self.looker);
            }
        }
        Ok(())
    }

    /// Finds names that lead to another inode than when they were sent. They are looked at by themselves once more:
    /// what changed about the old inode is to be seen under its other names, and the destination's entry is still
    /// linked to those.
    fn look_for_left(&mut self, links: &Links, mirror: usize) -> Result<HashSet<RelPath>, StoreError> {
        if links.is_empty(mirror)? {
            return Ok(HashSet::new());
        }
        let entries = &self.list.entries;
        let paths: Vec<RelPath> =
            entries.iter().filter_map(|entry| RelPath::new(&*entry.name).ok()).collect();
        let mut left = HashSet::new();
        for (path, inode) in links.inodes(mirror, paths.iter())? {
            let leads_there = |entry: &Entry| (entry.meta.dev, entry.meta.ino) == (inode.dev, inode.ino);
            if !self.list.get(path.as_bytes()).is_none_or(leads_there) {
                let look_at = Fact::Touched { path: path.clone(), data: true };
                self.successors.extend(self.owner(path.as_bytes()).map(|owner| (owner, look_at)));
                left.insert(path.clone());
            }
        }
        Ok(left)
    }

    fn link_groups(&self) -> LinkGroups {
        let mut groups = LinkGroups::new();
        for entry in &self.list.entries {
            if let Some(inode) = shared_inode_of(entry) {
                let look = Look {
                    meta: entry.meta,
                    link_target: entry.link_target().into(),
                    details: entry.details.clone(),
                };
                groups.entry(inode).or_default().add(&entry.name, &look);
            }
        }
        groups
    }

    /// The fact that an entry is listed for.
    pub(crate) fn owner(&self, name: &[u8]) -> Option<u32> {
        let parent = name.iter().rposition(|&byte| byte == b'/').map_or(super::look::ROOT, |at| &name[..at]);
        self.owners.get(name).or_else(|| self.owners.get(parent)).copied()
    }
}

fn shared_inode_of(entry: &Entry) -> Option<Inode> {
    let meta = &entry.meta;
    (meta.nlink > 1 && !meta.is_dir()).then_some(Inode { dev: meta.dev, ino: meta.ino })
}

#[cfg(test)]
mod tests;
