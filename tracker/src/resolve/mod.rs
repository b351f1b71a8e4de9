//! From hints to facts: what a drain found is looked up where it is now.
//!
//! Hints name directories by handle and inodes by number. A handle leads to its directory's present path, wherever it
//! moved since. If it moved within a mirror, the rename's own hint makes everything below the new name be compared;
//! if it left, the old name is told gone; so a path that is older or newer than the hint is never wrong, only early or
//! late. What can't be traced to a name taints the coverage.

mod cache;
#[cfg(test)]
mod tests;

use std::collections::hash_map;
use std::rc::Rc;

use ebbtide_feed::{Fact, MirrorId, RelPath};
use roaring::{RoaringTreemap, treemap};

use crate::engine::{DirHints, Fold, Marked, Move, Seen};
use crate::fact::Facts;
use crate::id::{Fs, Generation, Handle, HandleForm, Ino, Inode, Name};
use crate::scope::{Place, Scope};
use cache::Cache;

/// Looks at the file system.
pub trait Look {
    /// The present absolute path of a directory.
    fn directory(&mut self, fs: Fs, dir: &Handle) -> Found;
    /// What a name in a directory stands for at present, symlinks not followed; `None` if there is nothing.
    fn entry(&mut self, fs: Fs, dir: &Handle, name: &Name) -> Option<Entry>;
    /// How many names an inode has at present; `None` when it is no more.
    fn names(&mut self, fs: Fs, inode: &Handle) -> Option<u64>;
    /// A present absolute path of an inode that need not be a directory.
    fn inode(&mut self, fs: Fs, inode: &Handle) -> Found;
    /// Starts writing back the dirty pages of this file, if it is a regular file and this inode. Returns whether
    /// what is stored through a mapping from now on is sure to be marked again.
    fn clean(&mut self, fs: Fs, dir: &Handle, name: &Name, ino: Ino) -> bool;
    /// The same for an inode by handle.
    fn clean_inode(&mut self, fs: Fs, inode: &Handle) -> bool;
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The inode.
    pub ino: Ino,
    /// Number of its names.
    pub nlink: u64,
}

/// Where a handle led.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// To this absolute path.
    At(Vec<u8>),
    /// To nothing: it was removed.
    Gone,
    /// To where no mount of ours shows it.
    Outside,
    /// It exists, but has no path that is known, or looking failed.
    Unknown,
}

/// The bits of the drained side of the bitmap, by inode number.
#[derive(Debug, Default)]
pub struct Bits {
    /// Inodes that changed.
    pub changed: RoaringTreemap,
    /// Those whose content may have changed.
    pub data: RoaringTreemap,
    /// Those that were mapped for writing.
    pub mapped: RoaringTreemap,
}

/// What became of everything that was looked up. The numbers add up to the items of the drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Told as facts.
    pub told: u64,
    /// In no mirror.
    pub outside: u64,
    /// Gone together with its directory, which is told by its own name.
    pub gone: u64,
    /// Could not be traced to a name.
    pub untraced: u64,
}

impl Counts {
    /// Sum of all.
    pub fn total(&self) -> u64 {
        self.told + self.outside + self.gone + self.untraced
    }

    /// Adds those of another drain.
    pub fn add(&mut self, other: Counts) {
        self.told += other.told;
        self.outside += other.outside;
        self.gone += other.gone;
        self.untraced += other.untraced;
    }
}

/// Looks up the drains of one file system.
#[derive(Debug)]
pub struct Resolver {
    fs: Fs,
    form: HandleForm,
    /// Whether generation 0 in a handle stands for any.
    any_generation: bool,
    cache: Cache,
}

/// A drain that is being looked up.
pub struct Work {
    /// Directories that are still to be looked up; their hints stay, since marks are explained by them.
    dirs: Vec<Handle>,
    unlinked: hash_map::IntoIter<Ino, Generation>,
    inodes: hash_map::IntoIter<Handle, Seen>,
    changed: treemap::IntoIter,
    bits: Bits,
    fold: Fold,
    items: u64,
    counts: Counts,
    extra_untraced: u64,
}

impl Work {
    /// What else could not be traced to a name: further names of inodes that lost one.
    pub fn extra_untraced(&self) -> u64 {
        self.extra_untraced
    }

    /// Names and inodes to look up in all.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// What became of what was looked up so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

impl Resolver {
    /// A resolver for this file system, whose handles have this form.
    pub fn new(fs: Fs, form: HandleForm) -> Self {
        let any_generation = matches!(form, HandleForm::Ino32 | HandleForm::Btrfs { .. });
        Resolver { fs, form, any_generation, cache: Cache::default() }
    }

    /// Forgets where things are: the scope changed.
    pub fn forget(&mut self) {
        self.cache.clear();
    }

    /// Begins to look up a drain. What it tells about moves holds for all of it, so it is applied first.
    pub fn begin(&mut self, mut fold: Fold, bits: Bits) -> Work {
        if fold.dirs_moved {
            self.cache.clear();
        }
        fold.stirred.iter().for_each(|&ino| self.cache.stir(ino));
        let named: usize =
            fold.dirs.values().map(|hints| hints.names.len() + usize::from(hints.itself)).sum();
        let items = (named + fold.inodes.len()) as u64 + bits.changed.len();
        let dirs = fold.dirs.keys().cloned().collect();
        let unlinked = std::mem::take(&mut fold.unlinked);
        let unlinked = unlinked.into_iter();
        let inodes = std::mem::take(&mut fold.inodes).into_iter();
        Work {
            dirs,
            unlinked,
            inodes,
            changed: bits.changed.clone().into_iter(),
            bits,
            fold,
            items,
            counts: Counts::default(),
            extra_untraced: 0,
        }
    }

    /// Looks up some more, about `budget` names. Returns whether all is done.
    pub fn step(
        &mut self,
        work: &mut Work,
        scope: &Scope,
        look: &mut impl Look,
        facts: &mut [Facts],
        budget: usize,
    ) -> bool {
        let mut pass = Pass { resolver: self, scope, look, facts, counts: work.counts, extra_untraced: 0 };
        let done = pass.some(work, budget);
        work.counts = pass.counts;
        work.extra_untraced += pass.extra_untraced;
        done
    }
}

/// One call of [`Resolver::step`].
struct Pass<'a, L> {
    resolver: &'a mut Resolver,
    scope: &'a Scope,
    look: &'a mut L,
    facts: &'a mut [Facts],
    counts: Counts,
    extra_untraced: u64,
}

/// What a lookup of a directory came to.
enum Spot {
    Place(Rc<Place>),
    Gone,
    Unknown,
}

impl<L: Look> Pass<'_, L> {
    fn some(&mut self, work: &mut Work, budget: usize) -> bool {
        let mut spent = 0;
        while spent < budget {
            if let Some(dir) = work.dirs.pop() {
                let hints = &work.fold.dirs[&dir];
                spent += 1 + hints.names.len();
                self.directory(&dir, hints);
            } else if let Some((ino, generation)) = work.unlinked.next() {
                spent += 1;
                self.unlinked(Inode { ino, generation }, work);
            } else if let Some((inode, seen)) = work.inodes.next() {
                spent += 1;
                self.by_handle(seen.contains(Seen::DATA), false, Some(inode));
            } else if let Some(ino) = work.changed.next() {
                spent += 1;
                self.mark(Ino(ino), work);
            } else {
                work.fold.moves.drain(..).for_each(|ends| self.moved(ends));
                return true;
            }
        }
        false
    }

    fn spot(&mut self, dir: &Handle) -> Spot {
        if let Some(place) = self.resolver.cache.place(dir) {
            return Spot::Place(place);
        }
        let fs = self.resolver.fs;
        let place = match self.look.directory(fs, dir) {
            Found::At(path) => self.scope.place(fs, &path),
            Found::Outside => Place::default(),
            Found::Gone => return Spot::Gone,
            Found::Unknown => return Spot::Unknown,
        };
        let place = Rc::new(place);
        self.resolver.cache.keep(dir.clone(), Rc::clone(&place));
        Spot::Place(place)
    }

    fn directory(&mut self, dir: &Handle, hints: &DirHints) {
        let items = hints.names.len() as u64 + u64::from(hints.itself);
        match self.spot(dir) {
            Spot::Gone => self.counts.gone += items,
            Spot::Unknown => self.counts.untraced += items,
            Spot::Place(place) if place.is_outside() => self.counts.outside += items,
            Spot::Place(place) => {
                self.itself(&place, hints);
                for (name, &seen) in &hints.names {
                    self.name(&place, name, seen);
                    if seen.intersects(Seen::DATA | Seen::ATTRIBUTES) && !seen.contains(Seen::CREATED) {
                        self.note_shared(dir, name);
                    }
                }
            }
        }
    }

    fn itself(&mut self, place: &Place, hints: &DirHints) {
        for (mirror, dir) in &place.within {
            if hints.relist {
                self.tell(*mirror, Fact::Relist { dir: dir.clone() });
            }
            if hints.itself || hints.relist {
                self.tell(*mirror, Fact::Touched { path: dir.clone(), data: false });
            }
        }
        if hints.itself {
            self.count(!place.within.is_empty());
        }
    }

    fn name(&mut self, place: &Place, name: &Name, seen: Seen) {
        let mut told = false;
        for (mirror, path) in place.entry(name) {
            told = true;
            self.entry(mirror, path, seen);
        }
        self.count(told);
    }

    fn entry(&mut self, mirror: MirrorId, path: RelPath, seen: Seen) {
        if seen.intersects(Seen::NAMES) {
            // The root's own name is not part of the mirror; whether it still is the root is checked elsewhere.
            let Some(dir) = path.parent() else { return };
            self.tell(mirror, Fact::Touched { path: dir, data: false });
        }
        if seen.intersects(Seen::REMOVED | Seen::REMOVED_DIR) {
            self.tell(mirror, Fact::Gone { path: path.clone() });
        }
        // What the destination has in the old directory must not stay in the new one of the same name.
        if seen.contains(Seen::ARRIVED_DIR) || seen.contains(Seen::CREATED_DIR | Seen::REMOVED_DIR) {
            self.tell(mirror, Fact::Subtree { dir: path.clone(), replaced: true });
        }
        if seen.intersects(Seen::CREATED | Seen::CREATED_DIR | Seen::DATA | Seen::ATTRIBUTES) {
            let data = seen.intersects(Seen::CREATED | Seen::DATA);
            self.tell(mirror, Fact::Touched { path, data });
        }
    }

    /// Something with several names changed under this one.
    fn note_shared(&mut self, dir: &Handle, name: &Name) {
        let fs = self.resolver.fs;
        if let Some(entry) = self.look.entry(fs, dir, name).filter(|entry| entry.nlink > 1) {
            self.resolver.cache.keep_shared(entry.ino);
        }
    }

    /// An inode lost a name. What was told under that name, now or before, may not have been looked at yet, so another
    /// name is told. There may be several more: who knows them looks at them together.
    fn unlinked(&mut self, inode: Inode, work: &Work) {
        if !work.fold.written.contains(&inode.ino) && !self.resolver.cache.is_shared(inode.ino) {
            return;
        }
        let handle = self.resolver.form.encode(inode.ino, inode.generation);
        let before = self.counts;
        self.by_handle(true, false, handle);
        // It is no item of the drain of its own, unless it could not be traced.
        let untraced = self.counts.untraced;
        self.counts = before;
        self.extra_untraced += untraced - before.untraced;
    }

    fn mark(&mut self, ino: Ino, work: &Work) {
        if self.resolver.cache.is_outside(ino) {
            self.counts.outside += 1;
            return;
        }
        let about = About {
            ino,
            mapped: work.bits.mapped.contains(ino.0),
            data: work.bits.data.contains(ino.0),
            arrived: work.fold.arrived.contains(&ino),
        };
        // The latest record knows the latest names.
        match work.fold.marks.values().rev().find_map(|marks| marks.get(&ino)) {
            Some(marked) if self.is_told_by_name(&about, marked) => self.counts.told += 1,
            Some(marked) if marked.directory => self.marked_directory(&about, marked),
            Some(marked) => self.marked_file(&about, marked, &work.fold),
            None => self.unrecorded(&about),
        }
    }

    /// Whether its mark was made before it had a name, and the only name it got is among the names, as changed content.
    fn is_told_by_name(&mut self, about: &About, marked: &Marked) -> bool {
        if !marked.nameless || !about.arrived || about.mapped {
            return false;
        }
        let handle = self.resolver.form.encode(about.ino, marked.generation);
        handle.is_some_and(|handle| self.look.names(self.resolver.fs, &handle) == Some(1))
    }

    fn marked_directory(&mut self, about: &About, marked: &Marked) {
        let Some(handle) = self.resolver.form.encode(about.ino, marked.generation) else {
            self.counts.untraced += 1;
            return;
        };
        match self.spot(&handle) {
            Spot::Place(place) => {
                for (mirror, path) in &place.within {
                    self.tell(*mirror, Fact::Touched { path: path.clone(), data: false });
                }
                self.count(!place.within.is_empty());
            }
            Spot::Gone => self.next_user(about),
            Spot::Unknown => self.counts.untraced += 1,
        }
    }

    /// A name that the record told may be another by now: then the rename or removal has a hint of its own, but the
    /// content is told under the name that the inode has now.
    fn marked_file(&mut self, about: &About, marked: &Marked, fold: &Fold) {
        let (mut told, mut outside) = (false, false);
        for (dir, name) in &marked.entries {
            let Spot::Place(place) = self.spot(dir) else { continue };
            if place.is_outside() {
                outside |= self.is_still(about, dir, name);
            } else if self.is_still(about, dir, name) && self.is_clean(about, dir, name) {
                for (mirror, path) in place.entry(name) {
                    told = true;
                    self.tell(mirror, Fact::Touched { path, data: about.data });
                }
            }
        }
        if told {
            self.counts.told += 1;
            // A new or lost name marks the inode, too, and is told by itself.
            if marked.nlink > 1 && (about.data || !(about.arrived || fold.stirred.contains(&about.ino))) {
                self.resolver.cache.keep_shared(about.ino);
            }
        } else if outside {
            self.marked_outside(about, marked);
        } else {
            self.moved_on(about, marked, fold);
        }
    }

    /// No name that the record told is this inode any more: its mark was made when it had another one.
    fn moved_on(&mut self, about: &About, marked: &Marked, fold: &Fold) {
        let before = self.counts;
        match self.resolver.form.encode(about.ino, marked.generation) {
            Some(handle) => self.by_handle_or_next(about, handle),
            None => self.counts.untraced += 1,
        }
        if self.counts.untraced > before.untraced && !about.data && self.only_lost_a_name(about, marked, fold)
        {
            self.counts = Counts { gone: before.gone + 1, ..before };
        }
    }

    /// Whether the name still is this inode.
    fn is_still(&mut self, about: &About, dir: &Handle, name: &Name) -> bool {
        self.look.entry(self.resolver.fs, dir, name).is_some_and(|entry| entry.ino == about.ino)
    }

    /// Whether the next store through a mapping will be seen.
    fn is_clean(&mut self, about: &About, dir: &Handle, name: &Name) -> bool {
        !about.mapped || self.look.clean(self.resolver.fs, dir, name, about.ino)
    }

    /// Whether, as far as can be known, all that happened to an inode is that a name went. Its other names show nothing
    /// of that, and in a tree of hard-linked snapshots nobody could tell them. Had something else happened to it through
    /// another name since, that name would still be in the kernel's cache, and have been found there.
    fn only_lost_a_name(&mut self, about: &About, marked: &Marked, fold: &Fold) -> bool {
        let lost = |(dir, name): &(Handle, Name)| {
            fold.dirs.get(dir).is_some_and(|hints| {
                let seen = hints.names.get(name).copied();
                seen.map_or(hints.relist, |seen| seen.intersects(Seen::NAMES))
            })
        };
        if marked.entries.is_empty() || !marked.entries.iter().all(lost) {
            return false;
        }
        let handle = self.resolver.form.encode(about.ino, marked.generation);
        let now = handle.and_then(|handle| self.look.names(self.resolver.fs, &handle));
        // Had it been marked before the name went, it would have had more names then.
        now == Some(u64::from(marked.nlink))
    }

    /// It is there now, so that no name event that was read by now can be about its way in.
    fn marked_outside(&mut self, about: &About, marked: &Marked) {
        self.counts.outside += 1;
        if marked.nlink == 1 && !marked.incomplete && marked.entries.len() == 1 {
            self.resolver.cache.keep_outside(about.ino);
        }
    }

    /// The record was lost: only the inode number is known.
    fn unrecorded(&mut self, about: &About) {
        let handle = if self.resolver.any_generation {
            self.resolver.form.encode(about.ino, Generation(0))
        } else {
            None
        };
        self.by_handle(about.data, about.mapped, handle);
    }

    /// The inode of the record, or whoever has its number now.
    fn by_handle_or_next(&mut self, about: &About, handle: Handle) {
        let before = self.counts;
        self.by_handle(about.data, about.mapped, Some(handle));
        if self.counts.gone > before.gone {
            self.counts = before;
            self.next_user(about);
        }
    }

    /// The inode of the record is gone, but its number may have a new user whose mark found the bit set, and so made
    /// no record. The event of its creation may have been told with the drain before.
    fn next_user(&mut self, about: &About) {
        if self.resolver.any_generation {
            let handle = self.resolver.form.encode(about.ino, Generation(0));
            self.by_handle(about.data, about.mapped, handle);
        } else {
            self.counts.gone += 1;
        }
    }

    fn by_handle(&mut self, data: bool, mapped: bool, handle: Option<Handle>) {
        let fs = self.resolver.fs;
        let found = handle.as_ref().map_or(Found::Unknown, |handle| self.look.inode(fs, handle));
        match (found, handle) {
            (Found::Gone, _) => self.counts.gone += 1,
            (Found::Outside, _) => self.counts.outside += 1,
            (Found::At(path), Some(handle)) => {
                let places = self.scope.place_of_entry(fs, &path);
                if !places.is_empty() && mapped && !self.look.clean_inode(fs, &handle) {
                    self.counts.untraced += 1;
                    return;
                }
                self.count(!places.is_empty());
                for (mirror, path) in places {
                    self.tell(mirror, Fact::Touched { path, data });
                }
            }
            _ => self.counts.untraced += 1,
        }
    }

    fn moved(&mut self, (from, to): Move) {
        let (Spot::Place(source), Spot::Place(target)) = (self.spot(&from.0), self.spot(&to.0)) else {
            return;
        };
        for (mirror, from) in source.entry(&from.1) {
            for (_, to) in target.entry(&to.1).filter(|(of, to)| *of == mirror && !to.is_root()) {
                if !from.is_root() && from != to {
                    self.tell(mirror, Fact::Moved { from: from.clone(), to });
                }
            }
        }
    }

    fn tell(&mut self, mirror: MirrorId, fact: Fact) {
        self.facts[mirror as usize].add(fact);
    }

    fn count(&mut self, told: bool) {
        if told {
            self.counts.told += 1;
        } else {
            self.counts.outside += 1;
        }
    }
}

/// What the bitmap says of an inode.
struct About {
    ino: Ino,
    data: bool,
    mapped: bool,
    /// A name event of this drain gave it a name.
    arrived: bool,
}

impl Seen {
    /// After these the directory has other entries than before.
    const NAMES: Seen = Seen::CREATED
        .union(Seen::CREATED_DIR)
        .union(Seen::REMOVED)
        .union(Seen::REMOVED_DIR)
        .union(Seen::ARRIVED_DIR);
}
