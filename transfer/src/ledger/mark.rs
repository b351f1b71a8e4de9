//! How far the store had come, kept beside it: checksums do not tell a store that fell back to an earlier state of itself.
//!
//! A page that was torn, or a file that somebody put back from a copy, can leave a state that is whole and too old: what
//! was called durable since then is not in it. So each commit has a number, in the store and in a file of a few bytes that is
//! written after the commit; a store with a lower number than the file's is damaged. The file is not synced: it survives a
//! program that dies, and after the machine did it may only be older than the store.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use redb::{Error, ReadableTable, WriteTransaction};
use twox_hash::XxHash3_64;

use super::store::{META, StoreError};

/// Name of the file in the state folder.
const FILE: &str = "ledger.mark";

/// Number of the store, number of the commit, and a digest of both, little-endian.
const LENGTH: usize = 24;

/// The number of the last commit, and where it is written down.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    /// Tells one store from another that is begun later in its place.
    store: u64,
    commits: u64,
}

impl Mark {
    /// Compares a store that was just opened with the mark beside it. A store that `is_new` begins anew.
    ///
    /// # Errors
    /// The store is older than its mark, or another one; the mark cannot be opened.
    pub(super) fn open(
        ledger: &Path,
        transaction: &WriteTransaction,
        is_new: bool,
    ) -> Result<Self, StoreError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path(ledger));
        let file = file.map_err(|e| StoreError::from(Error::Io(e)))?;
        let mut meta = transaction.open_table(META)?;
        let store = meta.get("store")?.map(|store| store.value());
        let commits = meta.get("commits")?.map_or(0, |commits| commits.value());
        if let (Some((marked, last)), false) = (read(&file), is_new) {
            if store != Some(marked) {
                return Err(StoreError::Damaged("it is not the one that was used last".into()));
            }
            if commits < last {
                return Err(StoreError::Damaged(format!("it is as old as commit {commits} of {last}")));
            }
        }
        let store = store.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        meta.insert("store", store)?;
        drop(meta);
        Ok(Mark { file, store, commits })
    }

    /// Numbers a transaction that is about to be committed.
    pub(super) fn number(&mut self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        self.commits += 1;
        transaction.open_table(META)?.insert("commits", self.commits)?;
        Ok(())
    }

    /// Writes down what is committed. An older mark only tells less.
    pub(super) fn write(&self) {
        let numbers = [self.store.to_le_bytes(), self.commits.to_le_bytes()].concat();
        let digest = XxHash3_64::oneshot(&numbers).to_le_bytes();
        if let Err(error) = self.file.write_all_at(&[&numbers[..], &digest].concat(), 0) {
            tracing::warn!(%error, "the mark beside the ledger cannot be written");
        }
    }
}

/// Where the mark of a store is.
pub(super) fn path(ledger: &Path) -> PathBuf {
    ledger.with_file_name(FILE)
}

/// The numbers of store and commit; `None` where nothing whole is written.
fn read(file: &File) -> Option<(u64, u64)> {
    let mut bytes = [0; LENGTH];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (numbers, digest) = bytes.split_at(LENGTH - size_of::<u64>());
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
    let (store, commit) = numbers.split_at(size_of::<u64>());
    (number(digest)? == XxHash3_64::oneshot(numbers)).then_some((number(store)?, number(commit)?))
}
