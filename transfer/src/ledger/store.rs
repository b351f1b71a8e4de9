//! The store on disk: which tables there are, and how they are read and written.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `format` | [`FORMAT`] |
//! | `meta` | `boot` | beginning of the boot's id, as a number |
//! | `meta` | `store`, `commits` | what [`super::mark`] compares |
//! | `mirrors` | the source's path | number of the mirror |
//! | `destinations` | mirror (u32 BE), URL | number of the destination, flags |
//! | `facts` | id of a fact | its key ([`super::key`]) |
//! | `ids` | key of a fact | its id |
//! | `pending` | destination, high half of ids | a serialized `RoaringBitmap` of ids with that high half |
//! | `links` | mirror, device, inode (BE), path | nothing |
//! | `moves` | mirror, number (BE) | renames ([`super::moves`]) |
//! | `dialects` | number of a destination | what is known of its daemon, as JSON |
//! | `names` | mirror (BE), path | device, inode; only of inodes that have several names |
//!
//! Ids are dense so that bitmaps stay small: an id that nobody holds is given out again. A commit rewrites only the
//! pieces of bitmaps that changed.

use std::io;
use std::sync::Arc;

use ebbtide_feed::Fact;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use roaring::RoaringBitmap;

use super::key::{self, MirrorNumber};
use super::links::Noted;
use super::mark::Mark;
use super::moves;
use crate::plan::moves::MovedTogether;

/// Version of the tables and of what they hold.
pub(crate) const FORMAT: u64 = 1;

pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(crate) const MIRRORS: TableDefinition<'_, &[u8], u32> = TableDefinition::new("mirrors");
pub(crate) const DESTINATIONS: TableDefinition<'_, &[u8], (u32, u32)> = TableDefinition::new("destinations");
pub(crate) const FACTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("facts");
pub(crate) const IDS: TableDefinition<'_, &[u8], u32> = TableDefinition::new("ids");
pub(crate) const PENDING: TableDefinition<'_, (u32, u16), &[u8]> = TableDefinition::new("pending");
pub(crate) const LINKS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("links");
pub(crate) const MOVES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("moves");
pub(crate) const DIALECTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("dialects");
pub(crate) const NAMES: TableDefinition<'_, &[u8], (u64, u64)> = TableDefinition::new("names");

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another process has it open.
    #[error("the ledger is in use by another process")]
    Busy,
    /// It is not what this program wrote.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
    /// There is no room for it.
    #[error("the disk of the ledger is full, and nothing is recorded until it has room: free some")]
    Full(#[source] io::Error),
    /// The disk or the file system failed.
    #[error("the ledger cannot be used")]
    Failed(#[source] redb::Error),
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        use redb::Error as E;
        match error {
            E::DatabaseAlreadyOpen | E::LockProtocolMismatch => StoreError::Busy,
            E::Corrupted(what) => StoreError::Damaged(what),
            E::Io(e) if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                StoreError::Damaged(e.to_string())
            }
            E::Io(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                StoreError::Full(e)
            }
            E::UpgradeRequired(_)
            | E::RepairAborted
            | E::TableTypeMismatch { .. }
            | E::TableIsMultimap(_)
            | E::TableIsNotMultimap(_)
            | E::TypeDefinitionChanged { .. }
            | E::TableDoesNotExist(_) => StoreError::Damaged(error.to_string()),
            error => StoreError::Failed(error),
        }
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}
from_redb!(StorageError, TableError, TransactionError, CommitError, DatabaseError);

/// Number of a destination in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DestinationNumber(pub(crate) u32);

/// Ids that are in use and those that are free.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    /// Free ids below `next`.
    free: RoaringBitmap,
    /// The lowest id that was never given out.
    next: u32,
}

impl Ids {
    /// From the ids in use.
    pub(crate) fn new(used: &RoaringBitmap) -> Self {
        let next = used.max().map_or(0, |max| max.saturating_add(1));
        let mut free = RoaringBitmap::new();
        free.insert_range(..next);
        free -= used;
        Ids { free, next }
    }

    fn allocate(&mut self) -> Result<u32, StoreError> {
        if let Some(id) = self.free.min() {
            self.free.remove(id);
            return Ok(id);
        }
        let id = self.next;
        self.next = id.checked_add(1).ok_or_else(|| StoreError::Damaged("all 2^32 ids are in use".into()))?;
        Ok(id)
    }
}

/// The open store. Writes gather in one transaction until [`Store::commit`].
pub(crate) struct Store {
    database: Arc<Database>,
    transaction: Option<WriteTransaction>,
    ids: Ids,
    mark: Mark,
}

impl Store {
    /// Takes an opened database, and a transaction of it that made the tables and is to be committed with what
    /// follows.
    pub(super) fn within(database: Database, transaction: WriteTransaction, ids: Ids, mark: Mark) -> Self {
        Store { database: Arc::new(database), transaction: Some(transaction), ids, mark }
    }

    /// The ids of these facts, new where a fact is new. Moves have none and are left out.
    pub(crate) fn intern<'f>(
        &mut self,
        mirror: MirrorNumber,
        facts: impl IntoIterator<Item = &'f Fact>,
    ) -> Result<Vec<(u32, &'f Fact)>, StoreError> {
        let transaction = begin(&mut self.transaction, &self.database)?;
        let mut by_key = transaction.open_table(IDS)?;
        let mut by_id = transaction.open_table(FACTS)?;
        let mut interned = Vec::new();
        for fact in facts {
            let Some(key) = key::encode(mirror, fact) else { continue };
            let known = by_key.get(&*key)?.map(|id| id.value());
            let id = match known {
                Some(id) => id,
                None => {
                    let id = self.ids.allocate()?;
                    by_key.insert(&*key, id)?;
                    by_id.insert(id, &*key)?;
                    id
                }
            };
            interned.push((id, fact));
        }
        Ok(interned)
    }

    /// The id of a fact, also of one that is not committed yet; `None` when it has none.
    pub(crate) fn id_of(&self, mirror: MirrorNumber, fact: &Fact) -> Result<Option<u32>, StoreError> {
        let Some(key) = key::encode(mirror, fact) else { return Ok(None) };
        let found = match &self.transaction {
            Some(transaction) => transaction.open_table(IDS)?.get(&*key)?.map(|id| id.value()),
            None => self.database.begin_read()?.open_table(IDS)?.get(&*key)?.map(|id| id.value()),
        };
        Ok(found)
    }

    /// Makes these ids free.
    pub(crate) fn forget(&mut self, ids: &RoaringBitmap) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let transaction = begin(&mut self.transaction, &self.database)?;
        let mut by_key = transaction.open_table(IDS)?;
        let mut by_id = transaction.open_table(FACTS)?;
        for id in ids {
            if let Some(key) = by_id.remove(id)? {
                by_key.remove(key.value())?;
            }
            self.ids.free.insert(id);
        }
        Ok(())
    }

    /// The mirrors of facts.
    pub(crate) fn mirrors_of(&mut self, ids: &RoaringBitmap) -> Result<Vec<(u32, MirrorNumber)>, StoreError> {
        let transaction = begin(&mut self.transaction, &self.database)?;
        let table = transaction.open_table(FACTS)?;
        let mut mirrors = Vec::new();
        for id in ids {
            let known = table.get(id)?.and_then(|row| key::decode(row.value()));
            let (mirror, _) =
                known.ok_or_else(|| StoreError::Damaged(format!("fact {id} is missing or means nothing")))?;
            mirrors.push((id, mirror));
        }
        Ok(mirrors)
    }

    /// Pretends that the last sender ran in another boot.
    #[cfg(test)]
    pub(crate) fn set_boot(&mut self, boot: u64) -> Result<(), StoreError> {
        let transaction = begin(&mut self.transaction, &self.database)?;
        transaction.open_table(META)?.insert("boot", boot)?;
        Ok(())
    }

    /// Reads facts back, in the order of their ids.
    pub(crate) fn facts(&self, ids: &RoaringBitmap) -> Result<Vec<(u32, Fact)>, StoreError> {
        match &self.transaction {
            Some(transaction) => {
                read_facts(&transaction.open_table(FACTS)?, &transaction.open_table(IDS)?, ids)
            }
            None => {
                let transaction = self.database.begin_read()?;
                read_facts(&transaction.open_table(FACTS)?, &transaction.open_table(IDS)?, ids)
            }
        }
    }

    /// Writes one piece of a destination's bitmap.
    pub(crate) fn write_chunk(
        &mut self,
        of: DestinationNumber,
        high: u16,
        pending: &RoaringBitmap,
    ) -> Result<(), StoreError> {
        let transaction = begin(&mut self.transaction, &self.database)?;
        let mut table = transaction.open_table(PENDING)?;
        let first = u32::from(high) << 16;
        let chunk: RoaringBitmap = pending.range(first..=first | 0xffff).collect();
        if chunk.is_empty() {
            table.remove((of.0, high))?;
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(chunk.serialized_size());
        chunk.serialize_into(&mut bytes).expect("writing to a vector does not fail");
        table.insert((of.0, high), &*bytes)?;
        Ok(())
    }

    /// Remembers that this destination had its first full comparison.
    pub(crate) fn set_flags(
        &mut self,
        key: &[u8],
        number: DestinationNumber,
        flags: u32,
    ) -> Result<(), StoreError> {
        let transaction = begin(&mut self.transaction, &self.database)?;
        transaction.open_table(DESTINATIONS)?.insert(key, (number.0, flags))?;
        Ok(())
    }

    /// Keeps what is known of a destination's daemon.
    pub(crate) fn keep_dialect(&mut self, of: DestinationNumber, known: &[u8]) -> Result<(), StoreError> {
        let transaction = begin(&mut self.transaction, &self.database)?;
        transaction.open_table(DIALECTS)?.insert(of.0, known)?;
        Ok(())
    }

    /// Keeps renames of a mirror, as the row of this number.
    pub(crate) fn keep_moves(
        &mut self,
        mirror: MirrorNumber,
        number: u64,
        moved: &MovedTogether,
    ) -> Result<(), StoreError> {
        moves::write(begin(&mut self.transaction, &self.database)?, mirror, number, moved)
    }

    /// Forgets the renames of a mirror.
    pub(crate) fn forget_moves(&mut self, mirror: MirrorNumber) -> Result<(), StoreError> {
        moves::forget(begin(&mut self.transaction, &self.database)?, mirror)
    }

    /// Writes and removes names of inodes with several names.
    pub(crate) fn write_links(&mut self, noted: &Noted) -> Result<(), StoreError> {
        if noted.links.is_empty() && noted.names.is_empty() {
            return Ok(());
        }
        let transaction = begin(&mut self.transaction, &self.database)?;
        let mut links = transaction.open_table(LINKS)?;
        for (key, present) in &noted.links {
            if *present {
                links.insert(&**key, ())?;
            } else {
                links.remove(&**key)?;
            }
        }
        let mut names = transaction.open_table(NAMES)?;
        for (key, inode) in &noted.names {
            match inode {
                Some(inode) => drop(names.insert(&**key, (inode.dev, inode.ino))?),
                None => drop(names.remove(&**key)?),
            }
        }
        Ok(())
    }

    /// The database itself, for those who only read.
    pub(crate) fn database(&self) -> Arc<Database> {
        Arc::clone(&self.database)
    }

    /// Makes everything written since the last commit durable.
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        let Some(transaction) = self.transaction.take() else { return Ok(()) };
        self.mark.number(&transaction)?;
        transaction.commit()?;
        self.mark.write();
        Ok(())
    }
}

/// The transaction that is open, or a new one.
fn begin<'t>(
    open: &'t mut Option<WriteTransaction>,
    database: &Database,
) -> Result<&'t WriteTransaction, StoreError> {
    let transaction = match open.take() {
        Some(transaction) => transaction,
        None => database.begin_write()?,
    };
    Ok(open.insert(transaction))
}

/// Both tables must say the same: a name that is not the one that was recorded would be sent in its stead.
fn read_facts(
    table: &impl ReadableTable<u32, &'static [u8]>,
    by_key: &impl ReadableTable<&'static [u8], u32>,
    ids: &RoaringBitmap,
) -> Result<Vec<(u32, Fact)>, StoreError> {
    let mut facts = Vec::new();
    for id in ids {
        let row = table.get(id)?.ok_or_else(|| StoreError::Damaged(format!("fact {id} is missing")))?;
        let (_, fact) = key::decode(row.value())
            .ok_or_else(|| StoreError::Damaged(format!("fact {id} has a key that means nothing")))?;
        if by_key.get(row.value())?.map(|id| id.value()) != Some(id) {
            return Err(StoreError::Damaged(format!("fact {id} does not match its key")));
        }
        facts.push((id, fact));
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ids_are_given_out_again_lowest_first() {
        let used: RoaringBitmap = [0, 2, 5].into_iter().collect();
        let mut ids = Ids::new(&used);
        let given: Vec<u32> = std::iter::repeat_with(|| ids.allocate().unwrap()).take(5).collect();
        assert_eq!(given, [1, 3, 4, 6, 7]);
    }
}
