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
use crate::id::{Fs, Generation, Handle, HandleForm, Ino, Name};
use crate::scope::{Place, Scope};
use cache::Cache;

/// Looks at the file system.
pub trait Look {
    /// The present absolute path of a directory.
    fn directory(&mut self, fs: Fs, dir: &Handle) -> Found;
    /// The inode that a name in a directory stands for at present, symlinks not followed; `None` if there is none.
    fn entry(&mut self, fs: Fs, dir: &Handle, name: &Name) -> Option<Ino>;
    /// A present absolute path of an inode that need not be a directory.
    fn inode(&mut self, fs: Fs, inode: &Handle) -> Found;
    /// Starts writing back the dirty pages of this file, if it is a regular file and this inode. Returns whether
    /// what is stored through a mapping from now on is sure to be marked again.
    fn clean(&mut self, fs: Fs, dir: &Handle, name: &Name, ino: Ino) -> bool;
    /// The same for an inode by handle.
    fn clean_inode(&mut self, fs: Fs, inode: &Handle) -> bool;
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
    dirs: hash_map::IntoIter<Handle, DirHints>,
    inodes: hash_map::IntoIter<Handle, Seen>,
    changed: treemap::IntoIter,
    bits: Bits,
    fold: Fold,
    items: u64,
    counts: Counts,
}

impl Work {
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
        let dirs = std::mem::take(&mut fold.dirs).into_iter();
        let inodes = std::mem::take(&mut fold.inodes).into_iter();
        Work {
            dirs,
            inodes,
            changed: bits.changed.clone().into_iter(),
            bits,
            fold,
            items,
            counts: Counts::default(),
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
        let mut pass = Pass { resolver: self, scope, look, facts, counts: work.counts };
        let done = pass.some(work, budget);
        work.counts = pass.counts;
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
            if let Some((dir, hints)) = work.dirs.next() {
                spent += 1 + hints.names.len();
                self.directory(&dir, &hints);
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
            // It had no name when it was marked, so it got each of its names later, and every one of them is among
            // the names, as changed content.
            Some(marked) if marked.nameless && about.arrived && !about.mapped => {
                self.counts.told += 1;
            }
            Some(marked) if marked.directory => self.marked_directory(&about, marked),
            Some(marked) => self.marked_file(&about, marked),
            None => self.unrecorded(&about),
        }
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
            Spot::Gone => self.counts.gone += 1,
            Spot::Unknown => self.counts.untraced += 1,
        }
    }

    /// A name that the record told may be another by now: then the rename or removal has a hint of its own, but the
    /// content is told under the name that the inode has now.
    fn marked_file(&mut self, about: &About, marked: &Marked) {
        let fs = self.resolver.fs;
        let (mut told, mut outside) = (false, false);
        for (dir, name) in &marked.entries {
            let Spot::Place(place) = self.spot(dir) else { continue };
            if place.is_outside() {
                outside = true;
                continue;
            }
            if self.look.entry(fs, dir, name) != Some(about.ino) {
                continue;
            }
            if about.mapped && !self.look.clean(fs, dir, name, about.ino) {
                continue;
            }
            for (mirror, path) in place.entry(name) {
                told = true;
                self.tell(mirror, Fact::Touched { path, data: about.data });
            }
        }
        if told {
            self.counts.told += 1;
        } else if outside {
            self.marked_outside(about, marked);
        } else {
            self.by_handle(about.data, about.mapped, self.resolver.form.encode(about.ino, marked.generation));
        }
    }

    fn marked_outside(&mut self, about: &About, marked: &Marked) {
        self.counts.outside += 1;
        if marked.nlink == 1 && marked.entries.len() == 1 {
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
