//! Finds the chunk of bits for an inode, and makes one where there is none.
//!
//! Chunks are taken from the slab in order, then from the queue of those that user space gave back. User space
//! gives a chunk back only after all programs that could still hold its index have ended and its bits have been
//! drained. An index, whether from a hint or from the directory (whose freed elements are reused at once), counts only
//! when the chunk's head confirms it.

use aya_ebpf::bindings::BPF_NOEXIST;
use ebbtide_abi::{Chunk, chunk_key, spread};

use crate::{atomic, maps};

/// Index of the chunk that holds inode number `ino` of `slot`; `None` if there is none and none is left.
#[inline(always)]
pub(crate) fn find_or_take(slot: u32, ino: u64) -> Option<u32> {
    let key = chunk_key(slot, ino);
    let hint = maps::HINTS.get_ptr_mut(spread(key, maps::chunks()))?;
    // SAFETY: the map holds a whole number at this address; whatever is read is checked.
    let index = unsafe { hint.read_volatile() };
    if is_of(index, key) {
        return Some(index);
    }
    let index = find(&key).or_else(|| take(&key))?;
    // SAFETY: as above.
    unsafe { hint.write_volatile(index) };
    Some(index)
}

/// The memory of a chunk.
#[inline(always)]
pub(crate) fn memory(index: u32) -> Option<*mut Chunk> {
    maps::SLAB.get_ptr_mut(index)
}

/// Whether a chunk is the one of this key, and is not being taken back.
#[inline(always)]
fn is_of(index: u32, key: u64) -> bool {
    maps::HEADS.get_ptr(index).is_some_and(|head| atomic::load(head) == key)
}

#[inline(always)]
fn find(key: &u64) -> Option<u32> {
    // SAFETY: the element may be reused while we read it; the head tells.
    let index = unsafe { *maps::DIRECTORY.get(key)? };
    is_of(index, *key).then_some(index)
}

fn take(key: &u64) -> Option<u32> {
    let index = unused()?;
    let head = maps::HEADS.get_ptr_mut(index)?;
    // SAFETY: nobody else holds this index, and the map holds a whole word at this address.
    unsafe { head.write_volatile(*key) };
    // When another CPU was first, both chunks hold marks of the same inodes, and user space joins them; this one has
    // no entry, so only its hint leads here, until it is taken back.
    let _ = maps::DIRECTORY.insert(key, index, u64::from(BPF_NOEXIST));
    Some(index)
}

#[inline(always)]
fn unused() -> Option<u32> {
    let control = maps::CONTROL.get_ptr_mut(0)?;
    // SAFETY: the map holds one whole `Control`; only an address is formed here.
    let taken = unsafe { &raw mut (*control).taken };
    let chunks = u64::from(maps::chunks());
    if atomic::load(taken) < chunks {
        let index = atomic::fetch_add(taken, 1);
        if index < chunks {
            return Some(index as u32);
        }
    }
    maps::FREE.pop().ok().flatten()
}
