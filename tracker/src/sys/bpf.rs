//! What the BPF half needs of the kernel beyond `aya`: memory shared with programs, and a program's misses.

use std::{
    os::fd::{AsRawFd, BorrowedFd},
    sync::atomic::AtomicU64,
};

use ebbtide_abi::Layout;
use memmap2::{MmapMut, MmapOptions, MmapRaw};

use super::{Named, Result};

/// Memory of 64-bit words that others change while we look.
#[derive(Debug)]
pub struct Words {
    map: MmapRaw,
    words: usize,
}

impl Words {
    /// Maps the values of an array map made with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to map it.
    pub fn of_map(map: BorrowedFd<'_>, words: usize) -> Result<Self> {
        let map = MmapOptions::new().len(words * WORD).map_raw(map.as_raw_fd()).named("mmap of a BPF map")?;
        Ok(Words { map, words })
    }

    /// Memory of our own, all zero, for tests of what is built on it.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn anonymous(words: usize) -> Result<Self> {
        let map = MmapMut::map_anon(words * WORD).named("mmap")?;
        Ok(Words { map: MmapRaw::from(map), words })
    }

    /// All words.
    pub fn all(&self) -> &[AtomicU64] {
        let start = self.map.as_mut_ptr().cast::<AtomicU64>();
        // SAFETY: the mapping is page aligned, at least `words` words long (both constructors asked for that) and
        // lives as long as `self`; whoever else writes it uses whole-word loads, stores and atomic operations.
        unsafe { std::slice::from_raw_parts(start, self.words) }
    }
}

/// [`Layout`] as a value that `aya` can hand to programs.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct LayoutGlobal(pub Layout);

// SAFETY: `Layout` is `repr(C)` of `u32`s only, without padding (its size is asserted where it is defined).
unsafe impl aya::Pod for LayoutGlobal {}

/// How often the kernel skipped a program because it was running already on that CPU; `None` on kernels that do not
/// count it.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub fn recursion_misses(program: BorrowedFd<'_>) -> Result<Option<u64>> {
    let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    let text = std::fs::read_to_string(path).named("read of /proc/self/fdinfo")?;
    let count = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    Ok(count.and_then(|count| count.trim().parse().ok()))
}

const WORD: usize = size_of::<u64>();
