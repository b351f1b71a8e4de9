//! Keys in one word, so that they are read and written whole: of chunks, and of watched devices.

use crate::{CHUNK_SHIFT, MAX_SLOTS};

/// Key of the chunk that holds inode number `ino` of `slot`; never 0.
///
/// Bit 63 is set, bits 52 to 59 hold the slot, the lower 52 the inode number without its lower 12 bits.
pub const fn chunk_key(slot: u32, ino: u64) -> u64 {
    VALID | (slot as u64) << HIGH_BITS | ino >> CHUNK_SHIFT
}

/// In the head of a chunk, beside its key: the chunk is being taken back, and no program may begin to use it.
pub const RETIRED: u64 = 1 << 62;

/// The slot in a chunk's key or head.
pub const fn slot_of(key: u64) -> u32 {
    (key >> HIGH_BITS) as u32 % MAX_SLOTS
}

/// The first inode number of a chunk, from its key or head.
pub const fn first_ino_of(key: u64) -> u64 {
    (key & ((1 << HIGH_BITS) - 1)) << CHUNK_SHIFT
}

/// Places for watched devices: twice as many as slots, so that most are found at the first look.
pub const DEVICE_PLACES: u32 = 2 * MAX_SLOTS;

/// Places, from [`spread`] on and around the end, that a device may be at.
pub const DEVICE_PROBES: u32 = 16;

/// A place that was never used: looking on is in vain.
pub const NO_DEVICE: u64 = 0;

/// A place that was used: the device looked for may be further on.
pub const FORMER_DEVICE: u64 = 1 << 62;

/// What stands at the place of a device (`super_block.s_dev`) with this slot; never [`NO_DEVICE`].
pub const fn device_entry(dev: u32, slot: u32) -> u64 {
    VALID | (slot as u64) << 32 | dev as u64
}

/// The slot at a place, if it is the place of `dev`.
pub const fn slot_of_device(entry: u64, dev: u32) -> Option<u32> {
    if entry & VALID != 0 && entry as u32 == dev { Some((entry >> 32) as u32 % MAX_SLOTS) } else { None }
}

/// Spreads keys evenly over the numbers below `count`.
pub const fn spread(key: u64, count: u32) -> u32 {
    (((key.wrapping_mul(GOLDEN) >> 32) * count as u64) >> 32) as u32
}

const VALID: u64 = 1 << 63;

/// An inode number of 64 bits without its lower 12.
const HIGH_BITS: u32 = 64 - CHUNK_SHIFT;

/// 2 to the 64th over the golden ratio: multiplying by it mixes low bits into high ones.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

const _: () = {
    assert!(MAX_SLOTS == 256, "slots have 8 bits in a chunk's key");
    assert!(slot_of(chunk_key(255, u64::MAX) | RETIRED) == 255);
    assert!(first_ino_of(chunk_key(255, u64::MAX) | RETIRED) == u64::MAX - 0xfff);
};
