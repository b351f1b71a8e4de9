//! The places of directories and the inodes known to be outside, as far as memory is worth it.

use std::num::NonZeroUsize;
use std::rc::Rc;

use lru::LruCache;
use roaring::RoaringTreemap;

use crate::id::{Handle, Ino, Name};
use crate::scope::Place;

/// What is known of where things are, until a directory moves.
#[derive(Debug)]
pub(super) struct Cache {
    dirs: LruCache<Handle, Rc<Place>>,
    /// Inodes with one name, which is in no mirror.
    outside: RoaringTreemap,
    /// Inodes with several names that changed.
    shared: RoaringTreemap,
    /// A name that each of the inodes lately told of had.
    names: LruCache<Ino, (Handle, Name)>,
}

impl Default for Cache {
    fn default() -> Self {
        Cache {
            dirs: LruCache::new(DIRECTORIES),
            outside: RoaringTreemap::new(),
            shared: RoaringTreemap::new(),
            names: LruCache::new(NAMES),
        }
    }
}

impl Cache {
    /// Forgets everything, since a path may be another now.
    pub(super) fn clear(&mut self) {
        self.dirs.clear();
        self.outside.clear();
    }

    /// Where this directory was when it was last looked up.
    pub(super) fn place(&mut self, dir: &Handle) -> Option<Rc<Place>> {
        self.dirs.get(dir).cloned()
    }

    /// Keeps where a directory is.
    pub(super) fn keep(&mut self, dir: Handle, place: Rc<Place>) {
        self.dirs.put(dir, place);
    }

    /// Keeps that an inode, whose only name this is, is in no mirror.
    pub(super) fn keep_outside(&mut self, ino: Ino) {
        if self.outside.len() >= OUTSIDE {
            self.outside.clear();
        }
        self.outside.insert(ino.0);
    }

    /// Whether this inode is known to be in no mirror.
    pub(super) fn is_outside(&self, ino: Ino) -> bool {
        self.outside.contains(ino.0)
    }

    /// Keeps that an inode changed while it had several names: should the name that was told for it go before
    /// anybody looked at it, another one must be told. These are never forgotten.
    pub(super) fn keep_shared(&mut self, ino: Ino) {
        self.shared.insert(ino.0);
    }

    /// Whether this inode changed while it had several names.
    pub(super) fn is_shared(&self, ino: Ino) -> bool {
        self.shared.contains(ino.0)
    }

    /// Keeps a name of an inode, and gives another one that was kept before.
    pub(super) fn swap_name(&mut self, ino: Ino, dir: &Handle, name: &Name) -> Option<(Handle, Name)> {
        let before = self.names.put(ino, (dir.clone(), name.clone()));
        before.filter(|(before_dir, before_name)| (before_dir, before_name) != (dir, name))
    }

    /// A name event was about this inode, so it may be anywhere.
    pub(super) fn stir(&mut self, ino: Ino) {
        self.outside.remove(ino.0);
    }
}

/// Directories whose place is kept: about 300 bytes each with usual paths, so at most some 5 MB.
const DIRECTORIES: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// Inodes of which a name is kept: about 150 bytes each, so at most some 10 MB.
const NAMES: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// Inodes outside that are kept: at most 16 bytes each in the worst spread, 2 in the usual one.
const OUTSIDE: u64 = 1 << 20;
