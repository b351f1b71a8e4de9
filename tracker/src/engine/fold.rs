//! Hints, folded by name: what arrives a million times is kept once.

use std::collections::{BTreeMap, HashMap, HashSet};

use bitflags::bitflags;

use super::moves::Moves;
use crate::id::{Generation, Handle, Ino, Inode, Name};

/// Something the kernel said about where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A name in a directory.
    Entry {
        /// The directory.
        dir: Handle,
        /// The name in it.
        name: Name,
        /// What happened to it; equal events come merged.
        seen: Seen,
        /// The inode that the name stood for, where it is known.
        child: Option<Inode>,
    },
    /// An inode lost a name, by removal or because another one was renamed over it.
    Unlinked {
        /// The inode.
        inode: Inode,
    },
    /// A directory, said of itself.
    Directory {
        /// The directory.
        dir: Handle,
    },
    /// An inode of which no name is known, such as a file that an NFS server opened by its handle.
    Inode {
        /// The inode.
        inode: Handle,
        /// What happened to it.
        seen: Seen,
    },
    /// A rename.
    Renamed {
        /// Directory and name before.
        from: (Handle, Name),
        /// Directory and name after.
        to: (Handle, Name),
        /// What was renamed is a directory.
        directory: bool,
        /// The inode that was renamed, where it is known.
        child: Option<Inode>,
    },
    /// An inode was marked; its bit in the bitmap is set, too.
    Marked(Marked),
}

bitflags! {
    /// What was seen of a name.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Seen: u16 {
        /// Something else than a directory appeared here: created, linked or renamed.
        const CREATED = 1;
        /// A directory was made here.
        const CREATED_DIR = 1 << 1;
        /// Something else than a directory went.
        const REMOVED = 1 << 2;
        /// A directory went.
        const REMOVED_DIR = 1 << 3;
        /// A directory was renamed to here.
        const ARRIVED_DIR = 1 << 4;
        /// Content may have changed.
        const DATA = 1 << 5;
        /// Attributes changed.
        const ATTRIBUTES = 1 << 6;
    }
}

/// What the records of an inode's first mark in an epoch say, one record for each of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// The inode.
    pub ino: Ino,
    /// Its generation.
    pub generation: Generation,
    /// The epoch of the bitmap that the mark belongs to.
    pub epoch: u64,
    /// It is a directory.
    pub directory: bool,
    /// Its number of names when it was marked.
    pub nlink: u32,
    /// There may be names that no record tells.
    pub incomplete: bool,
    /// It had no name in the kernel's cache, such as a file that is just being created.
    pub nameless: bool,
    /// The names that the kernel's dentries told, each with the directory it is in.
    pub entries: Vec<(Handle, Name)>,
}

/// Hints since the last drain.
#[derive(Debug, Default)]
pub struct Fold {
    /// By directory.
    pub dirs: HashMap<Handle, DirHints>,
    /// Inodes without a known name.
    pub inodes: HashMap<Handle, Seen>,
    /// Renames, both ends: hints about what to reuse. Both names are among `dirs`, too.
    pub moves: Moves,
    /// Records of marks, by epoch and inode. An inode may be marked again in the next epoch before this one is drained.
    pub marks: BTreeMap<u64, HashMap<Ino, Marked>>,
    /// Inodes that name events were about: what was known of their whereabouts no longer holds.
    pub stirred: HashSet<Ino>,
    /// Inodes that lost a name which is not told.
    pub unlinked: HashMap<Ino, Generation>,
    /// Inodes that changed under a name in this directory, which is another inode's since.
    pub displaced: Vec<(Handle, Inode)>,
    /// Those among them that got a name, other than directories: under that name their content is looked at.
    pub arrived: HashSet<Ino>,
    /// A directory was renamed or removed: what was known of paths no longer holds.
    pub dirs_moved: bool,
    items: u64,
    folded: u64,
    /// Items that ever were, those that were folded among them.
    noted: u64,
}

/// Both ends of a rename.
pub type Move = ((Handle, Name), (Handle, Name));

/// What was seen of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameHint {
    /// All that happened.
    pub seen: Seen,
    /// The inode that the last of it happened to, where it is known.
    pub child: Option<Inode>,
}

impl NameHint {
    /// The inode changed under this name, which it had before.
    fn is_changed(self) -> bool {
        self.seen.intersects(Seen::DATA | Seen::ATTRIBUTES) && !self.seen.contains(Seen::CREATED)
    }
}

/// What was seen in one directory.
#[derive(Debug, Default)]
pub struct DirHints {
    /// By name.
    pub names: HashMap<Name, NameHint>,
    /// So many names went that they are looked up by listing the directory.
    pub relist: bool,
    /// The directory itself was touched.
    pub itself: bool,
}

impl Fold {
    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty() && self.inodes.is_empty() && self.marks.is_empty()
    }

    /// Names, directories and marked inodes to look at.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Names that are covered by listing their directory.
    pub fn folded(&self) -> u64 {
        self.folded
    }

    /// Everything that was noted anew: what is in it now, and what was folded.
    pub fn noted(&self) -> u64 {
        self.noted
    }

    /// Takes a hint.
    pub fn note(&mut self, hint: Hint) {
        match hint {
            Hint::Entry { dir, name, seen, child } => {
                self.stir(child, seen);
                self.dirs_moved |= seen.contains(Seen::REMOVED_DIR);
                self.entry(dir, name, NameHint { seen, child });
            }
            Hint::Unlinked { inode } => {
                self.unlinked.insert(inode.ino, inode.generation);
            }
            Hint::Directory { dir } => {
                let hints = self.dir(dir);
                if !std::mem::replace(&mut hints.itself, true) {
                    self.item();
                }
            }
            Hint::Inode { inode, seen } => self.inode(inode, seen),
            Hint::Renamed { from, to, directory, child } => self.renamed(from, to, directory, child),
            Hint::Marked(marked) => self.marked(marked),
        }
    }

    fn renamed(&mut self, from: (Handle, Name), to: (Handle, Name), directory: bool, child: Option<Inode>) {
        let (went, came) = if directory {
            (Seen::REMOVED_DIR, Seen::ARRIVED_DIR)
        } else {
            (Seen::REMOVED, Seen::CREATED | Seen::DATA)
        };
        self.dirs_moved |= directory;
        self.stir(child, came);
        let before = self.dirs.get(&from.0).and_then(|hints| hints.names.get(&from.1));
        self.moves.note(&from, &to, child, before.map_or(Seen::empty(), |hint| hint.seen));
        self.entry(from.0, from.1, NameHint { seen: went, child: None });
        self.entry(to.0, to.1, NameHint { seen: came, child });
    }

    fn entry(&mut self, dir: Handle, name: Name, hint: NameHint) {
        let hints = self.dirs.entry(dir.clone()).or_default();
        if let Some(before) = hints.names.get_mut(&name) {
            if let Some(gone) =
                before.child.filter(|gone| before.is_changed() && hint.child.is_some_and(|c| c != *gone))
            {
                self.displaced.push((dir, gone));
            }
            before.seen |= hint.seen;
            before.child = hint.child.or(before.child);
            return;
        }
        if hints.relist && hint.seen.is_covered_by_listing() {
            self.folded += 1;
            self.noted += 1;
            return;
        }
        hints.names.insert(name, hint);
        self.items += 1;
        self.noted += 1;
        if hints.names.len() >= NAMES && !hints.relist {
            let folded = hints.fold();
            self.folded += folded;
            self.items -= folded;
        }
    }

    /// This directory's entries are to be compared.
    pub fn relist(&mut self, dir: Handle) {
        let hints = self.dir(dir);
        hints.relist = true;
        if !std::mem::replace(&mut hints.itself, true) {
            self.item();
        }
    }

    fn inode(&mut self, inode: Handle, seen: Seen) {
        let before = self.inodes.entry(inode).or_insert_with(|| {
            self.items += 1;
            self.noted += 1;
            seen
        });
        *before |= seen;
    }

    fn dir(&mut self, dir: Handle) -> &mut DirHints {
        self.dirs.entry(dir).or_default()
    }

    /// Takes out what is for a drain of marks up to this epoch, and leaves the records of later ones.
    pub fn take_until(&mut self, epoch: u64) -> Fold {
        let mut taken = std::mem::take(self);
        self.marks = taken.marks.split_off(&epoch.saturating_add(1));
        self.items = self.marks.values().map(|marks| marks.len() as u64).sum();
        taken.items -= self.items;
        // They are noted where they stay.
        self.noted = self.items;
        taken.noted -= self.items;
        taken
    }

    fn item(&mut self) {
        self.items += 1;
        self.noted += 1;
    }

    fn stir(&mut self, child: Option<Inode>, seen: Seen) {
        let Some(Inode { ino, .. }) = child else { return };
        if seen.intersects(Seen::STIRS) {
            self.stirred.insert(ino);
        }
        if seen.contains(Seen::CREATED) {
            self.arrived.insert(ino);
        }
    }

    /// A further record of the same mark tells a further name; one of another generation is of the inode's next user.
    fn marked(&mut self, marked: Marked) {
        let marks = self.marks.entry(marked.epoch).or_default();
        match marks.get_mut(&marked.ino) {
            Some(before) => {
                before.entries.extend(marked.entries);
                *before = Marked { entries: std::mem::take(&mut before.entries), ..marked };
            }
            None => {
                marks.insert(marked.ino, marked);
                self.item();
            }
        }
    }
}

impl DirHints {
    /// Leaves to a listing what a listing finds; returns the number of names it took.
    fn fold(&mut self) -> u64 {
        let before = self.names.len();
        self.names.retain(|_, hint| !hint.seen.is_covered_by_listing());
        self.relist = before > self.names.len();
        (before - self.names.len()) as u64
    }
}

impl Seen {
    /// After these the inode's whereabouts may be others.
    const STIRS: Seen = Seen::CREATED
        .union(Seen::CREATED_DIR)
        .union(Seen::REMOVED)
        .union(Seen::REMOVED_DIR)
        .union(Seen::ARRIVED_DIR);

    /// Whether comparing the directory's entries finds this, too. It does not find changed content under an
    /// unchanged size and time, nor that a directory is another one than before.
    fn is_covered_by_listing(self) -> bool {
        (Seen::REMOVED | Seen::ATTRIBUTES).contains(self)
    }
}

/// Names in one directory from which on a listing may be cheaper than single looks.
const NAMES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{entry, handle, name};

    #[test]
    fn what_happens_a_million_times_is_kept_once() {
        let mut fold = Fold::default();
        for _ in 0..1000 {
            fold.note(entry(1, b"a", Seen::DATA));
            fold.note(Hint::Directory { dir: handle(1) });
        }
        assert_eq!(fold.items(), 2);
    }

    #[test]
    fn many_removed_names_become_one_listing_but_changed_content_is_never_left_to_it() {
        let mut fold = Fold::default();
        for i in 0..10_000 {
            fold.note(entry(1, format!("gone{i}").as_bytes(), Seen::REMOVED));
            if i % 100 == 0 {
                fold.note(entry(1, format!("data{i}").as_bytes(), Seen::DATA));
            }
        }
        let hints = &fold.dirs[&handle(1)];
        assert!(hints.relist);
        assert_eq!(hints.names.len(), 100);
        assert!(hints.names.values().all(|hint| hint.seen == Seen::DATA));
        assert_eq!((fold.items(), fold.folded(), fold.noted()), (100, 10_000, 10_100));
    }

    #[test]
    fn a_directory_full_of_changed_content_is_not_listed_for_nothing() {
        let mut fold = Fold::default();
        for i in 0..5000 {
            fold.note(entry(1, format!("{i}").as_bytes(), Seen::DATA));
        }
        assert!(!fold.dirs[&handle(1)].relist);
        assert_eq!(fold.items(), 5000);
    }

    #[test]
    fn a_removed_directory_is_never_folded_since_its_name_may_come_back() {
        let mut fold = Fold::default();
        for i in 0..5000 {
            fold.note(entry(1, format!("{i}").as_bytes(), Seen::REMOVED_DIR));
        }
        assert_eq!(fold.dirs[&handle(1)].names.len(), 5000);
        assert!(fold.dirs_moved);
    }

    #[test]
    fn a_rename_is_noted_at_both_names() {
        let mut fold = Fold::default();
        let ends = ((handle(1), name(b"a")), (handle(2), name(b"b")));
        let (from, to) = ends.clone();
        fold.note(Hint::Renamed {
            from,
            to,
            directory: true,
            child: Some(Inode { ino: Ino(9), generation: Generation(1) }),
        });
        assert_eq!(fold.dirs[&handle(1)].names[&name(b"a")].seen, Seen::REMOVED_DIR);
        assert_eq!(fold.dirs[&handle(2)].names[&name(b"b")].seen, Seen::ARRIVED_DIR);
        assert_eq!(fold.moves.take(), [ends]);
        assert!(fold.stirred.contains(&Ino(9)));
        assert!(fold.arrived.is_empty(), "a directory's own mark is looked at by itself");
    }

    fn mark(ino: u64, epoch: u64, entry: &[u8]) -> Hint {
        Hint::Marked(Marked {
            ino: Ino(ino),
            generation: Generation(1),
            epoch,
            directory: false,
            nlink: 1,
            incomplete: false,
            nameless: false,
            entries: vec![(handle(1), name(entry))],
        })
    }

    #[test]
    fn every_name_that_the_records_of_one_mark_tell_is_kept() {
        let mut fold = Fold::default();
        fold.note(mark(5, 1, b"a"));
        fold.note(mark(5, 1, b"b"));
        assert_eq!(fold.marks[&1][&Ino(5)].entries.len(), 2);
        assert_eq!(fold.items(), 1);
    }

    #[test]
    fn the_record_of_the_next_epoch_stays_for_the_next_drain() {
        let mut fold = Fold::default();
        for hint in [mark(5, 1, b"a"), mark(5, 2, b"a"), mark(6, 2, b"b")] {
            fold.note(hint);
        }
        let taken = fold.take_until(1);
        assert_eq!((taken.items(), fold.items()), (1, 2));
        assert_eq!((taken.noted(), fold.noted()), (1, 2));
        assert!(taken.marks[&1].contains_key(&Ino(5)));
        assert!(fold.marks[&2].contains_key(&Ino(5)), "its bit is set on the new side, too");
    }
}
