//! From hints to facts: what a drain found is looked up where it is now.
//!
//! Hints name directories by handle and inodes by number. A handle leads to its directory's present path, wherever it
//! moved since. If it moved within a mirror, the rename's own hint makes everything below the new name be compared;
//! if it left, the old name is told gone; so a path that is older or newer than the hint is never wrong, only early or
//! late. What can't be traced to a name taints the coverage.

mod cache;
mod look;
#[cfg(test)]
mod tests;

use std::collections::hash_map;
use std::rc::Rc;

use ebbtide_feed::{Fact, MirrorId, RelPath};
use roaring::{RoaringTreemap, treemap};

use crate::engine::{DirHints, Fold, Marked, Move, NameHint, Seen};
use crate::fact::Facts;
use crate::id::{Fs, Generation, Handle, HandleForm, Ino, Inode, Name};
use crate::scope::{Place, Scope};
use cache::Cache;
pub use look::{Entry, Found, Look};

/// The bits of the drained side of the bitmap, by inode number.
#[derive(Clone, Debug, Default)]
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
    /// Nothing to tell of its own: gone, or told by the events of its names.
    pub gone: u64,
    /// Could not be traced to a name.
    pub untraced: u64,
    /// Will be looked up again with the next drain.
    pub again: u64,
}

/// What came of one lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Told,
    Outside,
    Gone,
    Untraced,
    Again,
}

impl Counts {
    /// Sum of all.
    pub fn total(&self) -> u64 {
        self.told + self.outside + self.gone + self.untraced + self.again
    }

    fn note(&mut self, outcome: Outcome, items: u64) {
        let count = match outcome {
            Outcome::Told => &mut self.told,
            Outcome::Outside => &mut self.outside,
            Outcome::Gone => &mut self.gone,
            Outcome::Untraced => &mut self.untraced,
            Outcome::Again => &mut self.again,
        };
        *count += items;
    }

    /// Adds those of another drain.
    pub fn add(&mut self, other: Counts) {
        self.told += other.told;
        self.outside += other.outside;
        self.gone += other.gone;
        self.untraced += other.untraced;
        self.again += other.again;
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
    /// For the next drain.
    again: Vec<(About, Option<Marked>)>,
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
    lost: Lost,
}

/// What could not be traced to a name: the coverage is not complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many names and inodes.
    pub count: u64,
    /// The first of them, as far as it is known.
    pub first: Option<String>,
}

impl Lost {
    fn note(&mut self, items: u64, what: impl FnOnce() -> String) {
        self.count += items;
        self.first.get_or_insert_with(what);
    }
}

impl Work {
    /// What could not be traced to a name so far.
    pub fn lost(&self) -> &Lost {
        &self.lost
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
        let any_generation = matches!(form, HandleForm::Ino32 | HandleForm::Btrfs);
        Resolver { fs, form, any_generation, cache: Cache::default(), again: Vec::new() }
    }

    /// Forgets where things are: the scope changed.
    pub fn forget(&mut self) {
        self.cache.clear();
    }

    /// What waits for the next drain.
    pub fn waiting(&self) -> u64 {
        self.again.len() as u64
    }

    /// What waits for the next drain: the inode, whether its content may have changed, and whether it was mapped.
    pub fn waiting_inodes(&self) -> impl Iterator<Item = (Ino, bool, bool)> {
        self.again.iter().map(|(about, _)| (about.ino, about.data, about.mapped))
    }

    /// Looks this inode up with the next drain, which may have its record.
    pub fn look_again(&mut self, ino: Ino, data: bool, mapped: bool) {
        self.again.push((About { ino, data, mapped, arrived: false }, None));
    }

    /// Begins to look up a drain. What it tells about moves holds for all of it, so it is applied first.
    pub fn begin(&mut self, mut fold: Fold, mut bits: Bits) -> Work {
        for (about, marked) in self.again.drain(..) {
            about.set(&mut bits);
            if let Some(marked) = marked {
                fold.marks.entry(marked.epoch).or_default().entry(about.ino).or_insert(marked);
            }
        }
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
            lost: Lost::default(),
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
        let (counts, lost) = (work.counts, std::mem::take(&mut work.lost));
        let mut pass = Pass { resolver: self, scope, look, facts, counts, lost };
        let done = pass.some(work, budget);
        (work.counts, work.lost) = (pass.counts, pass.lost);
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
    lost: Lost,
}

/// What a lookup of a directory came to.
enum Spot {
    Place(Rc<Place>),
    Gone,
    Unready,
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
                self.unlinked(Inode { ino, generation });
            } else if let Some((inode, seen)) = work.inodes.next() {
                spent += 1;
                // One that is just being made will be told by the event of its creation.
                let outcome = match self.by_handle(seen.contains(Seen::DATA), false, Some(&inode)) {
                    Outcome::Again => Outcome::Gone,
                    outcome => outcome,
                };
                self.score(outcome, 1, || format!("{inode:?}"));
            } else if let Some(ino) = work.changed.next() {
                spent += 1;
                self.mark(Ino(ino), work);
            } else if let Some((dir, inode)) = work.fold.displaced.pop() {
                spent += 1;
                self.displaced(&dir, inode);
            } else {
                work.fold.moves.take().into_iter().for_each(|ends| self.moved(ends));
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
            Found::Unready => return Spot::Unready,
            Found::Unknown => return Spot::Unknown,
        };
        let place = Rc::new(place);
        self.resolver.cache.keep(dir.clone(), Rc::clone(&place));
        Spot::Place(place)
    }

    fn directory(&mut self, dir: &Handle, hints: &DirHints) {
        let items = hints.names.len() as u64 + u64::from(hints.itself);
        match self.spot(dir) {
            Spot::Gone => self.score(Outcome::Gone, items, String::new),
            Spot::Unready | Spot::Unknown => self.score(Outcome::Untraced, items, || format!("{dir:?}")),
            Spot::Place(place) if place.is_outside() => self.score(Outcome::Outside, items, String::new),
            Spot::Place(place) => {
                self.itself(&place, hints);
                for (name, hint) in &hints.names {
                    self.name(&place, name, hint.seen);
                    self.content(dir, name, *hint);
                }
            }
        }
    }

    /// A name of a mirror was told; what was changed through it may have to be told under another one.
    fn content(&mut self, dir: &Handle, name: &Name, hint: NameHint) {
        let changed =
            hint.seen.intersects(Seen::DATA | Seen::ATTRIBUTES) && !hint.seen.contains(Seen::CREATED);
        if hint.seen.contains(Seen::REMOVED)
            && let Some(child) = hint.child
            && (changed || self.resolver.cache.is_shared(child.ino))
        {
            self.another_name(child);
            return;
        }
        if changed {
            self.note_shared(dir, name);
        }
        if let Some(child) = hint.child
            && hint.seen.intersects(Seen::CREATED | Seen::DATA | Seen::ATTRIBUTES)
            && let Some((dir, name)) = self.resolver.cache.swap_name(child.ino, dir, name)
            && hint.seen.contains(Seen::CREATED)
        {
            self.linked(child.ino, &dir, &name);
        }
    }

    /// An inode got a name and had this one before. If it still has it, they are linked now, and whoever sends one of
    /// them must know both.
    fn linked(&mut self, ino: Ino, dir: &Handle, name: &Name) {
        let Spot::Place(place) = self.spot(dir) else { return };
        if self.look.entry(self.resolver.fs, dir, name).is_some_and(|entry| entry.ino == ino) {
            for (mirror, path) in place.entry(name) {
                if self.scope.sends(mirror, &path) {
                    self.tell(mirror, Fact::Touched { path, data: false });
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
            if self.scope.sends(mirror, &path) {
                told = true;
                self.entry(mirror, path, seen);
            } else {
                told |= self.excluded(mirror, &path, seen);
            }
        }
        self.count(told);
    }

    /// A name that is not sent still moves the mtime of the directory that got or lost it.
    fn excluded(&mut self, mirror: MirrorId, path: &RelPath, seen: Seen) -> bool {
        let Some(dir) = path.parent().filter(|_| seen.intersects(Seen::NAMES)) else { return false };
        self.tell(mirror, Fact::Touched { path: dir, data: false });
        true
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
        // A directory that went may be followed by another one of the same name before anybody looks, or even in this
        // drain: what the destination has in the old one must not stay in the new one.
        if seen.intersects(Seen::ARRIVED_DIR | Seen::REMOVED_DIR) {
            self.tell(mirror, Fact::Subtree { dir: path.clone(), replaced: true });
        }
        if seen.contains(Seen::CREATED_DIR) {
            self.tell(mirror, Fact::Made { dir: path.clone() });
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

    /// An inode lost a name which is not known, since another inode was renamed over it.
    fn unlinked(&mut self, inode: Inode) {
        if self.resolver.cache.is_shared(inode.ino) {
            self.another_name(inode);
        }
    }

    fn displaced(&mut self, dir: &Handle, inode: Inode) {
        if matches!(self.spot(dir), Spot::Place(place) if !place.is_outside()) {
            self.another_name(inode);
        }
    }

    /// An inode that changed has lost a name. What was told under that name, now or before, may not have been looked at
    /// yet, so another name is told. There may be several more: who knows them looks at them together.
    fn another_name(&mut self, inode: Inode) {
        let handle = self.resolver.form.encode(inode.ino, inode.generation);
        let outcome = self.by_handle(true, false, handle.as_ref());
        // It is no item of the drain by itself.
        if outcome == Outcome::Untraced {
            self.lost.note(1, || format!("the other names of {inode:?}"));
        }
    }

    fn mark(&mut self, ino: Ino, work: &Work) {
        let about = About {
            ino,
            mapped: work.bits.mapped.contains(ino.0),
            data: work.bits.data.contains(ino.0),
            arrived: work.fold.arrived.contains(&ino),
        };
        // The latest record knows the latest names.
        let marked = work.fold.marks.values().rev().find_map(|marks| marks.get(&ino));
        let outcome = match marked {
            _ if self.resolver.cache.is_outside(ino) => Outcome::Outside,
            Some(marked) if self.is_told_by_name(&about, marked) => Outcome::Gone,
            Some(marked) if marked.directory => self.marked_directory(&about, marked),
            Some(marked) => self.marked_file(&about, marked, &work.fold),
            None if self.is_told_by_its_only_name(&about, Generation(0)) => Outcome::Gone,
            None => self.unrecorded(&about),
        };
        if outcome == Outcome::Again {
            self.resolver.again.push((about, marked.cloned()));
        }
        self.score(outcome, 1, || format!("{ino:?}, last known as {marked:?}"));
    }

    /// Whether its mark was made before it had a name, and the only name it got is among the names, as changed content.
    fn is_told_by_name(&mut self, about: &About, marked: &Marked) -> bool {
        marked.nameless && self.is_told_by_its_only_name(about, marked.generation)
    }

    /// Whether the inode got a name, which is looked at as changed content, and has no other.
    fn is_told_by_its_only_name(&mut self, about: &About, generation: Generation) -> bool {
        let known = generation != Generation(0) || self.resolver.any_generation;
        if !about.arrived || about.mapped || !known {
            return false;
        }
        let handle = self.resolver.form.encode(about.ino, generation);
        handle.is_some_and(|handle| self.look.names(self.resolver.fs, &handle) == Some(1))
    }

    fn marked_directory(&mut self, about: &About, marked: &Marked) -> Outcome {
        let Some(handle) = self.resolver.form.encode(about.ino, marked.generation) else {
            return Outcome::Untraced;
        };
        match self.spot(&handle) {
            Spot::Place(place) => {
                for (mirror, path) in &place.within {
                    self.tell(*mirror, Fact::Touched { path: path.clone(), data: false });
                }
                if place.within.is_empty() { Outcome::Outside } else { Outcome::Told }
            }
            Spot::Gone => self.next_user(about),
            Spot::Unready => Outcome::Again,
            Spot::Unknown => Outcome::Untraced,
        }
    }

    /// A name that the record told may be another by now: then the rename or removal has a hint of its own, but the
    /// content is told under the name that the inode has now.
    fn marked_file(&mut self, about: &About, marked: &Marked, fold: &Fold) -> Outcome {
        let (mut told, mut outside, mut strangers) = (false, false, true);
        for (dir, name) in &marked.entries {
            let place = match self.spot(dir) {
                Spot::Place(place) => place,
                Spot::Gone => continue,
                Spot::Unready | Spot::Unknown => {
                    strangers = false;
                    continue;
                }
            };
            if place.is_outside() || self.scope.excludes(&place, name) {
                outside |= self.is_still(about, dir, name);
                continue;
            }
            strangers = false;
            if self.is_still(about, dir, name) && self.is_clean(about, dir, name) {
                for (mirror, path) in place.entry(name) {
                    if self.scope.sends(mirror, &path) {
                        told = true;
                        self.tell(mirror, Fact::Touched { path, data: about.data });
                    }
                }
            }
        }
        if told {
            // A new or lost name marks the inode, too, and is told by itself.
            if marked.nlink > 1 && (about.data || !(about.arrived || fold.stirred.contains(&about.ino))) {
                self.resolver.cache.keep_shared(about.ino);
            }
            return Outcome::Told;
        }
        if outside {
            self.marked_outside(about, marked)
        } else {
            self.moved_on(about, marked, fold, strangers)
        }
    }

    /// No name that the record told is this inode any more: its mark was made when it had another one. With `strangers`
    /// none of those names was in a mirror.
    fn moved_on(&mut self, about: &About, marked: &Marked, fold: &Fold, strangers: bool) -> Outcome {
        let handle = self.resolver.form.encode(about.ino, marked.generation);
        let outcome = match self.by_handle(about.data, about.mapped, handle.as_ref()) {
            Outcome::Gone => self.next_user(about),
            outcome => outcome,
        };
        match outcome {
            Outcome::Untraced if self.is_told_by_its_only_name(about, marked.generation) => Outcome::Gone,
            Outcome::Untraced if strangers && !marked.entries.is_empty() => Outcome::Outside,
            Outcome::Untraced if !about.data && self.only_lost_a_name(about, marked, fold) => Outcome::Gone,
            outcome => outcome,
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
                hints.names.get(name).map_or(hints.relist, |hint| hint.seen.intersects(Seen::NAMES))
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
    fn marked_outside(&mut self, about: &About, marked: &Marked) -> Outcome {
        if marked.nlink == 1 && !marked.incomplete && marked.entries.len() == 1 {
            self.resolver.cache.keep_outside(about.ino);
        }
        Outcome::Outside
    }

    /// The record was lost: only the inode number is known.
    fn unrecorded(&mut self, about: &About) -> Outcome {
        if !self.resolver.any_generation {
            return Outcome::Untraced;
        }
        let handle = self.resolver.form.encode(about.ino, Generation(0));
        self.by_handle(about.data, about.mapped, handle.as_ref())
    }

    /// The inode of the record is gone, but its number may have a new user whose mark found the bit set, and so made
    /// no record. The event of its creation may have been told with the drain before.
    fn next_user(&mut self, about: &About) -> Outcome {
        if self.resolver.any_generation { self.unrecorded(about) } else { Outcome::Gone }
    }

    fn by_handle(&mut self, data: bool, mapped: bool, handle: Option<&Handle>) -> Outcome {
        let fs = self.resolver.fs;
        let Some(handle) = handle else { return Outcome::Untraced };
        match self.look.inode(fs, handle) {
            Found::Gone => Outcome::Gone,
            Found::Outside => Outcome::Outside,
            Found::Unready => Outcome::Again,
            Found::Unknown => Outcome::Untraced,
            Found::At(path) => {
                let places = self.scope.place_of_entry(fs, &path);
                if places.is_empty() {
                    return Outcome::Outside;
                }
                if mapped && !self.look.clean_inode(fs, handle) {
                    return Outcome::Untraced;
                }
                places.into_iter().for_each(|(mirror, path)| self.tell(mirror, Fact::Touched { path, data }));
                Outcome::Told
            }
        }
    }

    fn moved(&mut self, (from, to): Move) {
        let (Spot::Place(source), Spot::Place(target)) = (self.spot(&from.0), self.spot(&to.0)) else {
            return;
        };
        for (mirror, from) in source.entry(&from.1) {
            for (_, to) in target.entry(&to.1).filter(|(of, to)| *of == mirror && !to.is_root()) {
                let sent = self.scope.sends(mirror, &from) && self.scope.sends(mirror, &to);
                if sent && !from.is_root() && from != to {
                    self.tell(mirror, Fact::Moved { from: from.clone(), to });
                }
            }
        }
    }

    fn tell(&mut self, mirror: MirrorId, fact: Fact) {
        self.facts[mirror as usize].add(fact);
    }

    fn count(&mut self, told: bool) {
        self.score(if told { Outcome::Told } else { Outcome::Outside }, 1, String::new);
    }

    fn score(&mut self, outcome: Outcome, items: u64, what: impl FnOnce() -> String) {
        self.counts.note(outcome, items);
        if outcome == Outcome::Untraced && items > 0 {
            self.lost.note(items, what);
        }
    }
}

/// What the bitmap says of an inode.
#[derive(Clone, Copy, Debug)]
struct About {
    ino: Ino,
    data: bool,
    mapped: bool,
    /// A name event of this drain gave it a name.
    arrived: bool,
}

impl About {
    fn set(self, bits: &mut Bits) {
        bits.changed.insert(self.ino.0);
        if self.data {
            bits.data.insert(self.ino.0);
        }
        if self.mapped {
            bits.mapped.insert(self.ino.0);
        }
    }
}

impl Seen {
    /// After these the directory has other entries than before.
    const NAMES: Seen = Seen::CREATED
        .union(Seen::CREATED_DIR)
        .union(Seen::REMOVED)
        .union(Seen::REMOVED_DIR)
        .union(Seen::ARRIVED_DIR);
}
