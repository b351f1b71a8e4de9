//! What the BPF half needs of the kernel beyond `aya`: memory shared with programs, and a program's misses.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
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
        Self::part_of_map(map, 0, words)
    }

    fn part_of_map(map: BorrowedFd<'_>, from: usize, words: usize) -> Result<Self> {
        let mut part = MmapOptions::new();
        part.offset((from * WORD) as u64).len(words * WORD);
        Ok(Words { map: part.map_raw(map.as_raw_fd()).named("mmap of a BPF map")?, words })
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

/// A large array map of which only what is looked at is mapped. The kernel puts all pages of a mapping of a BPF map in
/// place at once, so a map that is mapped whole counts as this process's memory whole, whether it is in use or not.
#[derive(Debug)]
pub struct Windows {
    map: Pane,
    words: usize,
    /// Words of one window: whole pages on every machine.
    window: usize,
    /// What is mapped, the oldest first; at most [`KEPT`].
    open: Mutex<VecDeque<(usize, Arc<Words>)>>,
}

#[derive(Debug)]
enum Pane {
    Map(OwnedFd),
    Whole(Arc<Words>),
}

impl Windows {
    /// Looks at the values of an array map made with `BPF_F_MMAPABLE`, of so many words, in windows of `window` words.
    ///
    /// # Errors
    ///
    /// There are no more descriptors.
    pub fn of_map(map: BorrowedFd<'_>, words: usize, window: usize) -> Result<Self> {
        let map = map.try_clone_to_owned().named("dup of a BPF map")?;
        Ok(Windows { map: Pane::Map(map), words, window, open: Mutex::default() })
    }

    /// Looks at memory of our own.
    pub fn of_words(whole: Words) -> Self {
        let words = whole.words;
        Windows { map: Pane::Whole(Arc::new(whole)), words, window: words, open: Mutex::default() }
    }

    /// The window in which word `at` is, and the place of that word in it.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory for a mapping.
    pub fn around(&self, at: usize) -> Result<(Arc<Words>, usize)> {
        let map = match &self.map {
            Pane::Map(map) => map,
            Pane::Whole(words) => return Ok((Arc::clone(words), at)),
        };
        let from = at - at % self.window;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, words)) = open.iter().find(|(start, _)| *start == from) {
            return Ok((Arc::clone(words), at - from));
        }
        let words = self.window.min(self.words.saturating_sub(from));
        let words = Arc::new(Words::part_of_map(map.as_fd(), from, words)?);
        if open.len() >= KEPT {
            open.pop_front();
        }
        open.push_back((from, Arc::clone(&words)));
        Ok((words, at - from))
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

/// Windows that stay mapped.
const KEPT: usize = 16;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::Ordering;

    use super::*;

    /// Words of a window here: one page of any machine.
    const WINDOW: usize = 8192;

    #[test]
    fn each_word_is_found_in_its_window_and_few_windows_stay_mapped() {
        let file: File = tempfile::tempfile().unwrap();
        let words = 3 * KEPT * WINDOW - 1000;
        file.set_len((words * WORD).next_multiple_of(WINDOW * WORD) as u64).unwrap();
        let places = (0..3 * KEPT).map(|window| window * WINDOW + window * 7);
        for at in places.clone().chain([words - 1]) {
            file.write_all_at(&(at as u64).to_ne_bytes(), (at * WORD) as u64).unwrap();
        }
        let windows = Windows::of_map(file.as_fd(), words, WINDOW).unwrap();
        let word = |at: usize| {
            let (window, at) = windows.around(at).unwrap();
            window.all()[at].load(Ordering::SeqCst)
        };
        let (first, _) = windows.around(0).unwrap();
        assert!(places.clone().chain([words - 1]).all(|at| word(at) == at as u64));
        assert!(places.clone().rev().all(|at| word(at) == at as u64), "again, in another order");
        assert_eq!(windows.open.lock().unwrap().len(), KEPT);
        first.all()[1].store(5, Ordering::SeqCst);
        assert_eq!(word(1), 5, "whoever still holds a window sees the same memory");
        assert_eq!(
            windows.around(words - 1).unwrap().0.all().len(),
            WINDOW - 1000,
            "the last one is shorter"
        );
    }
}
