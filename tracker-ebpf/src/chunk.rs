//! Finds the chunk of bits for an inode, and makes one where there is none.
//!
//! Chunks are taken from the slab in order, then from the queue of those that user space gave back. User space
//! gives a chunk back only after all programs that could still hold its index have ended and its bits have been
//! drained. The directory is a hash whose freed elements are reused at once, so an index read from it counts only
//! when the chunk's head confirms it.

use aya_ebpf::bindings::BPF_NOEXIST;
use ebbtide_abi::{CHUNK_SHIFT, Chunk, ChunkHead, ChunkKey};

use crate::{atomic, maps};

/// Index of the chunk that holds inode number `ino` of `slot`; `None` if there is none and none is left.
#[inline(always)]
pub(crate) fn find_or_take(slot: u32, ino: u64) -> Option<u32> {
    let key = ChunkKey { high: ino >> CHUNK_SHIFT, slot, pad: 0 };
    find(&key).or_else(|| take(&key))
}

/// The memory of a chunk.
#[inline(always)]
pub(crate) fn memory(index: u32) -> Option<*mut Chunk> {
    maps::SLAB.get_ptr_mut(index)
}

#[inline(always)]
fn find(key: &ChunkKey) -> Option<u32> {
    // SAFETY: the element may be reused while we read it; the head below tells.
    let index = unsafe { *maps::DIRECTORY.get(key)? };
    let head = maps::HEADS.get_ptr(index)?;
    // SAFETY: the map holds a whole head at this address; a torn read fails the comparison.
    let (high, slot) =
        unsafe { (atomic::load(&raw const (*head).high), atomic::load(&raw const (*head).slot)) };
    (high == key.high && slot == u64::from(key.slot)).then_some(index)
}

fn take(key: &ChunkKey) -> Option<u32> {
    let index = unused()?;
    let head = maps::HEADS.get_ptr_mut(index)?;
    // SAFETY: nobody else holds this index, and the map holds a whole head at this address.
    unsafe { *head = ChunkHead { high: key.high, slot: u64::from(key.slot) } };
    if maps::DIRECTORY.insert(key, index, u64::from(BPF_NOEXIST)).is_ok() {
        return Some(index);
    }
    // Another CPU was first, or the directory is full: the chunk is as clean as it was.
    let _ = maps::FREE.push(index, 0);
    find(key)
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
