//! A file that is written as memory: what is stored in it is in the page cache at once, so it outlives whoever wrote
//! it, however that one ended. It does not outlive the machine's next start where it is on a tmpfs.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, compiler_fence};

use memmap2::{MmapMut, MmapOptions};
use rustix::fs::{FallocateFlags, OFlags};

use super::{Named, Result};

/// The file, and its memory.
#[derive(Debug)]
pub struct Arena {
    path: PathBuf,
    file: File,
    map: MmapMut,
}

impl Arena {
    /// Makes a file of `size` zeroes; one that is there is replaced.
    ///
    /// # Errors
    /// There is no room for it, or the file system cannot promise any.
    pub fn create(path: &Path, size: usize) -> Result<Self> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).named("unlink"),
            _ => {}
        }
        let file = options().create_new(true).mode(0o600).open(path).named("open")?;
        let map = map(&file, size)?;
        Ok(Arena { path: path.to_owned(), file, map })
    }

    /// Opens one that somebody left, whatever its size.
    ///
    /// # Errors
    /// It is not there, or is empty.
    pub fn open(path: &Path) -> Result<Self> {
        let file = options().open(path).named("open")?;
        let size = usize::try_from(file.metadata().named("fstat")?.len()).unwrap_or(usize::MAX);
        let map = map(&file, size)?;
        Ok(Arena { path: path.to_owned(), file, map })
    }

    /// Makes it larger; what is new is zero.
    ///
    /// # Errors
    /// There is no room: it stays as it is.
    pub fn grow(&mut self, size: usize) -> Result<()> {
        if size > self.map.len() {
            self.map = map(&self.file, size)?;
        }
        Ok(())
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// All of it, to write. Between two stores that must not change places is a [`barrier`].
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }

    /// Removes the file.
    pub fn remove(self) {
        // Were it to stay, the next start would find it, and replace it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What is stored before is stored first. Whoever reads does so after this process is gone, on whatever CPU: the kernel
/// orders that; only the compiler must be told.
pub fn barrier() {
    compiler_fence(Ordering::SeqCst);
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// The pages are allocated first: a store must not find the file system full. They are mapped at once, so that the
/// kernel finds them when it copies to them for a process that is being killed.
fn map(file: &File, size: usize) -> Result<MmapMut> {
    rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size as u64).named("fallocate")?;
    // SAFETY: the file is in a folder of root's own, made or opened with `O_NOFOLLOW`, and no process but the one
    // that holds that folder's lock changes or shortens it.
    unsafe { MmapOptions::new().len(size).populate().map_mut(file) }.named("mmap")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_there_for_the_next_who_opens_it_and_growth_is_zero() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut arena = Arena::create(&path, 4096).unwrap();
        arena.bytes_mut()[..3].copy_from_slice(b"abc");
        arena.grow(10_000).unwrap();
        arena.bytes_mut()[9_999] = 7;
        std::mem::forget(arena);
        let arena = Arena::open(&path).unwrap();
        assert_eq!(
            (&arena.bytes()[..4], arena.bytes().len(), arena.bytes()[9_999]),
            (&b"abc\0"[..], 10_000, 7)
        );
        arena.remove();
        assert!(Arena::open(&path).is_err());
    }
}
