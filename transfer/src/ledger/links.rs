//! Which names an inode with several names has, as far as anyone looked.
//!
//! The table is a memory, not a truth: whoever uses a name from it looks first whether it still leads to the inode.
//! It answers without the ledger's thread, so that no session waits for a commit. What is noted is in memory until
//! the thread commits it, together with the acknowledgements that were said after it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ebbtide_feed::RelPath;
use redb::{Database, ReadableDatabase};

use super::key::MirrorNumber;
use super::store::{LINKS, NAMES, StoreError};

/// An inode, by its file system's device number and its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Inode {
    /// `st_dev`
    pub(crate) dev: u64,
    /// `st_ino`
    pub(crate) ino: u64,
}

/// Names that were seen, and names that were seen not to lead to the inode any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkNotes {
    /// Seen with more than one link.
    pub(crate) seen: Vec<(Inode, RelPath)>,
    /// Looked for and not found.
    pub(crate) gone: Vec<(Inode, RelPath)>,
}

impl LinkNotes {
    /// Whether there is nothing to note.
    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.gone.is_empty()
    }
}

/// What was noted since the last commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noted {
    /// Whether a name leads to an inode, by mirror, inode and path.
    pub(crate) links: BTreeMap<Vec<u8>, bool>,
    /// The inode of a name, by mirror and path.
    pub(crate) names: HashMap<Vec<u8>, Option<Inode>>,
}

/// The table, shared by the thread and the destinations.
pub(crate) struct Links {
    database: Arc<Database>,
    /// The number of each mirror.
    mirrors: Vec<MirrorNumber>,
    noted: Mutex<Noted>,
    /// What was met by somebody who read: the thread ends for it.
    damage: OnceLock<String>,
}

impl Links {
    /// The table of this store.
    pub(crate) fn new(database: Arc<Database>, mirrors: Vec<MirrorNumber>) -> Self {
        Links { database, mirrors, noted: Mutex::default(), damage: OnceLock::new() }
    }

    /// The names on record for an inode.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn names(&self, mirror: usize, inode: Inode) -> Result<Vec<RelPath>, StoreError> {
        let prefix = inode_key(self.mirrors[mirror], inode);
        let noted = self.lock();
        let mut names = self.heed(self.committed_names(&prefix))?;
        for (key, present) in noted.links.range(prefix.clone()..) {
            let Some(path) = key.strip_prefix(&*prefix) else { break };
            names.retain(|name| name.as_bytes() != path);
            if *present {
                names.extend(RelPath::new(path).ok());
            }
        }
        Ok(names)
    }

    fn committed_names(&self, prefix: &[u8]) -> Result<Vec<RelPath>, StoreError> {
        let table = self.database.begin_read()?.open_table(LINKS)?;
        let mut names = Vec::new();
        for row in table.range(prefix..)? {
            let (key, _) = row?;
            let Some(path) = key.value().strip_prefix(prefix) else { break };
            names.push(RelPath::new(path).map_err(|e| StoreError::Damaged(e.to_string()))?);
        }
        Ok(names)
    }

    /// Whether no name of this mirror is on record.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn is_empty(&self, mirror: usize) -> Result<bool, StoreError> {
        self.heed(self.has_none(mirror))
    }

    fn has_none(&self, mirror: usize) -> Result<bool, StoreError> {
        let prefix = self.mirrors[mirror].0.to_be_bytes();
        let noted = self.lock();
        if noted.names.keys().any(|key| key.starts_with(&prefix)) {
            return Ok(false);
        }
        let table = self.database.begin_read()?.open_table(NAMES)?;
        let first = table.range(&prefix[..]..)?.next().transpose()?;
        Ok(first.is_none_or(|(key, _)| !key.value().starts_with(&prefix)))
    }

    /// The inode on record for each of these names that has one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn inodes<'p>(
        &self,
        mirror: usize,
        names: impl Iterator<Item = &'p RelPath>,
    ) -> Result<Vec<(&'p RelPath, Inode)>, StoreError> {
        self.heed(self.find_inodes(mirror, names))
    }

    fn find_inodes<'p>(
        &self,
        mirror: usize,
        names: impl Iterator<Item = &'p RelPath>,
    ) -> Result<Vec<(&'p RelPath, Inode)>, StoreError> {
        let noted = self.lock();
        let table = self.database.begin_read()?.open_table(NAMES)?;
        let mut found = Vec::new();
        for name in names {
            let key = name_key(self.mirrors[mirror], name);
            let inode = match noted.names.get(&key) {
                Some(noted) => *noted,
                None => table.get(&*key)?.map(|row| row.value()).map(|(dev, ino)| Inode { dev, ino }),
            };
            found.extend(inode.map(|inode| (name, inode)));
        }
        Ok(found)
    }

    /// Takes in notes. They are seen at once, and committed with what the ledger is told after this.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn note(&self, mirror: usize, notes: &LinkNotes) -> Result<(), StoreError> {
        let gone = self.inodes(mirror, notes.gone.iter().map(|(_, path)| path))?;
        let number = self.mirrors[mirror];
        let still: HashMap<&RelPath, Inode> = gone.into_iter().collect();
        let mut noted = self.lock();
        for (inode, path) in &notes.gone {
            noted.links.insert(link_key(number, *inode, path), false);
            if still.get(path) == Some(inode) {
                noted.names.insert(name_key(number, path), None);
            }
        }
        for (inode, path) in &notes.seen {
            noted.links.insert(link_key(number, *inode, path), true);
            noted.names.insert(name_key(number, path), Some(*inode));
        }
        Ok(())
    }

    /// What somebody who read found to be damaged.
    pub(super) fn damage(&self) -> Option<String> {
        self.damage.get().cloned()
    }

    fn heed<T>(&self, found: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Damaged(why)) = &found {
            // The first one is told.
            let _ = self.damage.set(why.clone());
        }
        found
    }

    /// Everything that is not committed yet.
    pub(crate) fn noted(&self) -> Noted {
        self.lock().clone()
    }

    /// Number of names that are not committed yet.
    pub(crate) fn uncommitted(&self) -> usize {
        self.lock().links.len()
    }

    /// This was committed; what was noted since stays.
    pub(crate) fn committed(&self, written: &Noted) {
        let mut noted = self.lock();
        noted.links.retain(|key, present| written.links.get(key) != Some(present));
        noted.names.retain(|key, inode| written.names.get(key) != Some(inode));
    }

    /// An empty table of one mirror, for tests.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        let backend = redb::backends::InMemoryBackend::new();
        let database = Database::builder().create_with_backend(backend).expect("memory can be written");
        let transaction = database.begin_write().expect("memory can be written");
        transaction.open_table(LINKS).expect("the table is new");
        transaction.open_table(NAMES).expect("the table is new");
        transaction.commit().expect("memory can be written");
        Links::new(Arc::new(database), vec![MirrorNumber(1)])
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the keys of all names of an inode begin with.
fn inode_key(mirror: MirrorNumber, inode: Inode) -> Vec<u8> {
    [&mirror.0.to_be_bytes()[..], &inode.dev.to_be_bytes(), &inode.ino.to_be_bytes()].concat()
}

fn link_key(mirror: MirrorNumber, inode: Inode, path: &RelPath) -> Vec<u8> {
    let mut key = inode_key(mirror, inode);
    key.extend_from_slice(path.as_bytes());
    key
}

fn name_key(mirror: MirrorNumber, path: &RelPath) -> Vec<u8> {
    [&mirror.0.to_be_bytes()[..], path.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &[u8]) -> RelPath {
        RelPath::new(name).unwrap()
    }

    fn table() -> Links {
        Links::in_memory()
    }

    #[test]
    fn notes_are_seen_at_once() {
        let (links, inode, other) = (table(), Inode { dev: 2, ino: 3 }, Inode { dev: 2, ino: 4 });
        assert!(links.is_empty(0).unwrap());
        let seen = vec![(inode, path(b"a")), (inode, path(b"b"))];
        links.note(0, &LinkNotes { seen, gone: vec![] }).unwrap();
        links
            .note(0, &LinkNotes { seen: vec![(other, path(b"b"))], gone: vec![(inode, path(b"b"))] })
            .unwrap();
        assert!(!links.is_empty(0).unwrap());
        assert_eq!(links.names(0, inode).unwrap(), [path(b"a")]);
        assert_eq!(links.names(0, other).unwrap(), [path(b"b")]);
        let names = [path(b"a"), path(b"b"), path(b"c")];
        let inodes = links.inodes(0, names.iter()).unwrap();
        assert_eq!(inodes, [(&names[0], inode), (&names[1], other)]);
    }

    #[test]
    fn a_name_that_left_one_inode_for_another_keeps_the_new_one() {
        let (links, inode, other) = (table(), Inode { dev: 2, ino: 3 }, Inode { dev: 2, ino: 4 });
        links.note(0, &LinkNotes { seen: vec![(other, path(b"b"))], gone: vec![] }).unwrap();
        links.note(0, &LinkNotes { seen: vec![], gone: vec![(inode, path(b"b"))] }).unwrap();
        assert_eq!(links.inodes(0, [path(b"b")].iter()).unwrap().len(), 1);
    }

    #[test]
    fn what_is_noted_during_a_commit_stays_noted() {
        let (links, inode) = (table(), Inode { dev: 2, ino: 3 });
        links.note(0, &LinkNotes { seen: vec![(inode, path(b"a"))], gone: vec![] }).unwrap();
        let written = links.noted();
        links.note(0, &LinkNotes { seen: vec![(inode, path(b"b"))], gone: vec![] }).unwrap();
        links.committed(&written);
        assert_eq!(links.uncommitted(), 1);
    }
}
