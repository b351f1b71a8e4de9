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

/// In a device's entry: inode numbers are told apart by their subvolume, see [`number_in`].
pub const SUBVOLUMES: u64 = 1 << 61;

/// In a device's entry: stores through mappings show nowhere, so that the last close of a file is a mark, too.
pub const CLOSES: u64 = 1 << 60;

/// What stands at the place of a device (`super_block.s_dev`) with this slot; never [`NO_DEVICE`]. `traits` is any of
/// [`SUBVOLUMES`] and [`CLOSES`].
pub const fn device_entry(dev: u32, slot: u32, traits: u64) -> u64 {
    VALID | traits | (slot as u64) << 32 | dev as u64
}

/// One number for an inode of a subvolume: the subvolume above, the inode below. `None` for numbers beyond what there
/// is room for; btrfs gives both out in order, inodes from 256 on, and has no such numbers in practice.
pub const fn number_in(subvolume: u64, ino: u64) -> Option<u64> {
    if ino >> INO_BITS == 0 && subvolume >> (64 - INO_BITS) == 0 {
        Some(subvolume << INO_BITS | ino)
    } else {
        None
    }
}

/// Subvolume and inode of such a number.
pub const fn parts_of(number: u64) -> (u64, u64) {
    (number >> INO_BITS, number & ((1 << INO_BITS) - 1))
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

/// Room for an inode number beside the number of its subvolume.
const INO_BITS: u32 = 40;

/// An inode number of 64 bits without its lower 12.
const HIGH_BITS: u32 = 64 - CHUNK_SHIFT;

/// 2 to the 64th over the golden ratio: multiplying by it mixes low bits into high ones.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

const _: () = {
    assert!(MAX_SLOTS == 256, "slots have 8 bits in a chunk's key");
    assert!(matches!(number_in(257, 258), Some(number) if matches!(parts_of(number), (257, 258))));
    assert!(number_in(1, 1 << INO_BITS).is_none());
    assert!(slot_of(chunk_key(255, u64::MAX) | RETIRED) == 255);
    assert!(first_ino_of(chunk_key(255, u64::MAX) | RETIRED) == u64::MAX - 0xfff);
};
