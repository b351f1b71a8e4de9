//! Atomic read-modify-write operations. This target's `Atomic*` types lack them, but the intrinsics compile
//! to the instructions (BPF instruction set v3).

use core::intrinsics::{AtomicOrdering, atomic_or, atomic_xadd};

/// Adds `n` and is a full barrier: the kernel orders BPF atomics that return a value on both sides.
#[inline(always)]
pub(crate) fn fetch_add(word: *mut u64, n: u64) -> u64 {
    // SAFETY: callers pass a pointer into a map value, 8-byte aligned, alive as long as the program runs.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(word, n) }
}

/// Sets `bits`, returns what was there, and is a full barrier.
#[inline(always)]
pub(crate) fn fetch_or(word: *mut u64, bits: u64) -> u64 {
    // SAFETY: as for `fetch_add`.
    unsafe { atomic_or::<u64, u64, { AtomicOrdering::SeqCst }>(word, bits) }
}

/// Reads a word that others change. A plain 8-byte load is whole; this target knows no atomic one.
#[inline(always)]
pub(crate) fn load(word: *const u64) -> u64 {
    // SAFETY: as for `fetch_add`.
    unsafe { word.read_volatile() }
}
