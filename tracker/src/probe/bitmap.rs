//! User space's half of the double-buffered bitmap: flips it, reads and zeroes the side that the programs left, and
//! gives chunks that nobody needs back to them.
//!
//! The programs write side `epoch % 2`. [`Bitmap::flip`] moves the epoch and waits until no program still writes
//! the old side; then the old side stands still until it is zeroed and flipped to again.

mod recycle;

use std::{
    mem::offset_of,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering, fence},
    },
    time::{Duration, Instant},
};

use ebbtide_abi::{Chunk, Control, Cpu, PLANES, Plane, RETIRED, SIDES, WORDS_PER_PLANE, first_ino_of};
use roaring::RoaringTreemap;

use crate::sys;
use crate::sys::bpf::{Windows, Words};

pub(crate) use recycle::{Recycler, Retired};

/// The shared memory of the bitmap.
#[derive(Debug)]
pub(crate) struct Bitmap {
    slab: Windows,
    heads: Words,
    dirty: Words,
    control: Words,
    cpus: Words,
    chunks: u32,
}

/// The inodes of one device that were marked in one epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Marks {
    /// Something about them changed.
    pub changed: RoaringTreemap,
    /// Their bytes may have changed; each is also in `changed`.
    pub data: RoaringTreemap,
    /// They were mapped shared and writable while they were marked; each is also in `changed`. Before such a file
    /// is read, and after the flip, its dirty pages must be written back (`sync_file_range` with
    /// `SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE`), so that the next store faults and marks again.
    pub mapped: RoaringTreemap,
}

/// A program entered the old side and did not leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stuck;

/// A chunk that is looked at.
struct Shown {
    window: Arc<Words>,
    /// Its first word there.
    at: usize,
}

impl Bitmap {
    /// `slab` shows the chunks, `map` gives the memory of any other map: its name in the object, and its length in words.
    pub(crate) fn new<E>(
        slab: Windows,
        chunks: u32,
        cpus: u32,
        map: impl Fn(&'static str, usize) -> Result<Words, E>,
    ) -> Result<Self, E> {
        use ebbtide_abi::maps;
        let count = chunks as usize;
        Ok(Bitmap {
            slab,
            heads: map(maps::HEADS, count)?,
            dirty: map(maps::DIRTY, SIDES * dirty_words(chunks))?,
            control: map(maps::CONTROL, words::<Control>())?,
            cpus: map(maps::CPUS, cpus as usize * words::<Cpu>())?,
            chunks,
        })
    }

    /// The epoch that programs mark in.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch_word().load(Ordering::SeqCst)
    }

    /// Starts a new epoch on the other side, and returns when no program writes the old one.
    pub(crate) fn flip(&self, patience: Duration) -> Result<u64, Stuck> {
        let ended = self.epoch_word().fetch_add(1, Ordering::SeqCst);
        self.settle(ended, patience)?;
        Ok(ended)
    }

    /// Returns when no program writes the side of an ended epoch any more.
    pub(crate) fn settle(&self, ended: u64, patience: Duration) -> Result<(), Stuck> {
        let deadline = Instant::now() + patience;
        let mut tries = 0_u32;
        while !self.is_quiet(side_of(ended)) {
            if Instant::now() > deadline {
                return Err(Stuck);
            }
            match tries {
                ..SPINS => std::thread::yield_now(),
                _ => std::thread::sleep(NAP),
            }
            tries = tries.saturating_add(1);
        }
        Ok(())
    }

    /// Whether every program that entered this side has left it. Leavings are summed first: one that is counted
    /// belongs to an entry that the second sum counts too.
    fn is_quiet(&self, side: usize) -> bool {
        let exits = self.sum(offset_of!(Cpu, exit) / WORD + side);
        fence(Ordering::SeqCst);
        exits == self.sum(offset_of!(Cpu, enter) / WORD + side)
    }

    /// The sum over all CPUs of word `at` of their [`Cpu`].
    pub(crate) fn sum(&self, at: usize) -> u64 {
        let cpus = self.cpus.all().chunks_exact(words::<Cpu>());
        cpus.map(|cpu| cpu[at].load(Ordering::SeqCst)).fold(0, u64::wrapping_add)
    }

    /// What the side of an ended epoch holds, given to `each` chunk by chunk with the chunk's key.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory to show it with, here and below.
    pub(crate) fn read(
        &self,
        epoch: u64,
        mut each: impl FnMut(u64, &dyn Fn(Plane, &mut RoaringTreemap)),
    ) -> sys::Result<()> {
        let side = side_of(epoch);
        self.dirty_chunks(side, |index| {
            let (key, chunk) = (self.key(index), self.chunk(index)?);
            each(key, &|plane, into| collect(chunk.plane(side, plane), first_ino_of(key), into));
            Ok(())
        })
    }

    /// Zeroes the side of an ended epoch; `each` is told the chunks that had bits, by index and key. Returns how many
    /// marks that were.
    pub(crate) fn clear(&self, epoch: u64, mut each: impl FnMut(u32, u64)) -> sys::Result<u64> {
        let side = side_of(epoch);
        let standing = self.standing_on(side)?;
        self.dirty_chunks(side, |index| {
            let chunk = self.chunk(index)?;
            for plane in [Plane::Changed, Plane::Data, Plane::Mapped] {
                chunk.plane(side, plane).iter().for_each(|word| word.store(0, Ordering::Relaxed));
            }
            each(index, self.key(index));
            Ok(())
        })?;
        self.dirty_side(side).iter().for_each(|word| word.store(0, Ordering::Relaxed));
        fence(Ordering::SeqCst);
        Ok(standing)
    }

    /// Marks that stand on either side.
    pub(crate) fn standing(&self) -> sys::Result<u64> {
        (0..SIDES).map(|side| self.standing_on(side)).sum()
    }

    fn standing_on(&self, side: usize) -> sys::Result<u64> {
        let mut standing = 0;
        self.dirty_chunks(side, |index| {
            let chunk = self.chunk(index)?;
            let words = chunk.plane(side, Plane::Changed).iter();
            standing += words.map(|word| u64::from(word.load(Ordering::SeqCst).count_ones())).sum::<u64>();
            Ok(())
        })?;
        Ok(standing)
    }

    /// Whether a chunk has bits on either side, as far as programs have got.
    pub(crate) fn is_dirty(&self, index: u32) -> bool {
        let (word, bit) = (index as usize / 64, 1 << (index % 64));
        (0..SIDES).any(|side| self.dirty_side(side)[word].load(Ordering::SeqCst) & bit != 0)
    }

    /// The head of each chunk.
    pub(crate) fn heads(&self) -> &[AtomicU64] {
        self.heads.all()
    }

    /// Whether the side of this epoch has marks, as far as programs have got.
    pub(crate) fn has_marks(&self, epoch: u64) -> bool {
        self.dirty_side(side_of(epoch)).iter().any(|word| word.load(Ordering::SeqCst) != 0)
    }

    /// A retired chunk holds nothing for anybody any more.
    pub(crate) fn vacate(&self, index: u32) {
        self.heads.all()[index as usize].store(0, Ordering::SeqCst);
    }

    /// No program begins to use this chunk from now on.
    pub(crate) fn retire(&self, index: u32) {
        self.heads.all()[index as usize].fetch_or(RETIRED, Ordering::SeqCst);
    }

    /// The key of a chunk that has bits.
    fn key(&self, index: u32) -> u64 {
        self.heads.all()[index as usize].load(Ordering::SeqCst) & !RETIRED
    }

    fn dirty_chunks(&self, side: usize, mut each: impl FnMut(u32) -> sys::Result<()>) -> sys::Result<()> {
        let mut done = Ok(());
        for (i, word) in self.dirty_side(side).iter().enumerate() {
            for_each_bit(word.load(Ordering::SeqCst), |bit| {
                let index = i as u32 * 64 + bit;
                if index < self.chunks && done.is_ok() {
                    done = each(index);
                }
            });
        }
        done
    }

    fn dirty_side(&self, side: usize) -> &[AtomicU64] {
        let count = dirty_words(self.chunks);
        &self.dirty.all()[side * count..][..count]
    }

    fn chunk(&self, index: u32) -> sys::Result<Shown> {
        let (window, at) = self.slab.around(index as usize * words::<Chunk>())?;
        Ok(Shown { window, at })
    }

    fn epoch_word(&self) -> &AtomicU64 {
        &self.control.all()[offset_of!(Control, epoch) / WORD]
    }
}

impl Shown {
    fn plane(&self, side: usize, plane: Plane) -> &[AtomicU64] {
        let at = self.at + (side * PLANES + plane as usize) * WORDS_PER_PLANE;
        &self.window.all()[at..][..WORDS_PER_PLANE]
    }
}

/// Adds the numbers of the set bits, which come in order.
fn collect(plane: &[AtomicU64], base: u64, into: &mut RoaringTreemap) {
    for (i, word) in plane.iter().enumerate() {
        for_each_bit(word.load(Ordering::SeqCst), |bit| {
            into.insert(base + i as u64 * 64 + u64::from(bit));
        });
    }
}

fn for_each_bit(mut word: u64, mut each: impl FnMut(u32)) {
    while word != 0 {
        each(word.trailing_zeros());
        word &= word - 1;
    }
}

fn side_of(epoch: u64) -> usize {
    epoch as usize % SIDES
}

/// Words of one side of the summary.
fn dirty_words(chunks: u32) -> usize {
    chunks.div_ceil(64) as usize
}

/// Words of the slab for so many chunks, and of one window of it: 192 KiB.
pub(crate) fn slab_words(chunks: u32) -> (usize, usize) {
    (chunks as usize * words::<Chunk>(), 64 * words::<Chunk>())
}

fn words<T>() -> usize {
    size_of::<T>() / WORD
}

const WORD: usize = size_of::<u64>();

/// Looks at the counters before the flip stops burning CPU: a program ends within microseconds.
const SPINS: u32 = 200;

/// Pause between further looks.
const NAP: Duration = Duration::from_micros(50);

#[cfg(test)]
mod tests;
