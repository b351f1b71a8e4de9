//! The store's file, with a digest of each of its blocks in memory.
//!
//! redb checks its checksums when the store is opened, and trusts what it reads after that. A block that the disk gives
//! back in another way later must not lead to another name: what was read or written once is compared with what is
//! read next.

use std::fs::{File, OpenOptions};
use std::hash::Hasher;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};
use twox_hash::XxHash3_64;

/// Length of a block, in bytes: that of redb's smallest page. A digest costs a five hundredth of it in memory.
const BLOCK: u64 = 4096;

/// A file whose blocks are compared with what they were.
#[derive(Debug)]
pub(super) struct Blocks {
    file: FileBackend,
    /// The digest of each block; 0 where none is known.
    digests: Mutex<Vec<u64>>,
}

impl Blocks {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// As `open(2)`.
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let file: File = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Blocks { file: FileBackend::new(file)?, digests: Mutex::default() })
    }

    fn digests(&self) -> MutexGuard<'_, Vec<u64>> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares whole blocks that were just read with their digests, and learns those that are not known yet.
    fn compare(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut digests = self.digests();
        for (at, block) in whole_blocks(offset, bytes) {
            let now = digest(block);
            let known = slot(&mut digests, at);
            if *known != 0 && *known != now {
                let what = format!("the disk does not give back what was in the 4 KiB at {}", at * BLOCK);
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            *known = now;
        }
        Ok(())
    }

    /// What was known of all blocks that this range touches is over.
    fn forget(&self, offset: u64, length: usize) {
        let mut digests = self.digests();
        // The casts are lossless: a block's number is that of a slot in memory.
        let first = (offset / BLOCK) as usize;
        let end = ((offset + length as u64).div_ceil(BLOCK) as usize).min(digests.len());
        if first < end {
            digests[first..end].fill(0);
        }
    }

    fn learn(&self, offset: u64, bytes: &[u8]) {
        let mut digests = self.digests();
        for (at, block) in whole_blocks(offset, bytes) {
            *slot(&mut digests, at) = digest(block);
        }
    }
}

/// The blocks that lie wholly within these bytes, with their numbers.
fn whole_blocks(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let first = offset.div_ceil(BLOCK);
    // The cast is lossless: less than a block.
    let skip = (first * BLOCK - offset) as usize;
    let whole = bytes.get(skip..).unwrap_or_default().chunks_exact(BLOCK as usize);
    (first..).zip(whole)
}

fn slot(digests: &mut Vec<u64>, at: u64) -> &mut u64 {
    // The cast is lossless: see `forget`.
    let at = at as usize;
    if digests.len() <= at {
        digests.resize(at + 1, 0);
    }
    &mut digests[at]
}

/// Never 0.
fn digest(block: &[u8]) -> u64 {
    let mut hasher = XxHash3_64::new();
    hasher.write(block);
    hasher.finish().max(1)
}

impl StorageBackend for Blocks {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)?;
        self.compare(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let blocks = usize::try_from(len / BLOCK).unwrap_or(usize::MAX);
        self.digests().truncate(blocks);
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.forget(offset, data.len());
        self.file.write(offset, data)?;
        self.learn(offset, data);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    #[test]
    fn a_block_that_comes_back_in_another_way_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let blocks = Blocks::open(&path).unwrap();
        blocks.write(0, &[1; 3 * 4096]).unwrap();
        blocks.write(4096 + 10, b"a part of a block").unwrap();
        let mut out = vec![0; 3 * 4096];
        blocks.read(0, &mut out).unwrap();
        let mut other = OpenOptions::new().write(true).open(&path).unwrap();
        other.seek(SeekFrom::Start(2 * 4096 + 7)).unwrap();
        other.write_all(&[3]).unwrap();
        blocks.read(0, &mut out[..2 * 4096]).unwrap();
        let error = blocks.read(4096, &mut out[..2 * 4096]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        blocks.write(2 * 4096, &[4; 4096]).unwrap();
        blocks.read(0, &mut out).unwrap();
    }

    #[test]
    fn only_whole_blocks_are_looked_at() {
        let bytes = [0; 2 * 4096];
        let found = |offset| whole_blocks(offset, &bytes).map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(found(0), [0, 1]);
        assert_eq!(found(4096), [1, 2]);
        assert_eq!(found(1), [1]);
        assert!(whole_blocks(1, &bytes[..4096]).next().is_none());
    }
}
