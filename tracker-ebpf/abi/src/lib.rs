//! Records and constants that the eBPF programs and user space share.
//!
//! All memory that both sides touch consists of 64-bit words ([`Chunk`], [`Cpu`], [`Control`], [`SlotState`]), so that user space can view it as `AtomicU64`s. Padding is spelled out and sizes are asserted.
#![no_std]
#![forbid(unsafe_code)]

mod key;
mod layout;
mod record;
mod shared;

pub use key::{
    CLOSES, DEVICE_PLACES, DEVICE_PROBES, FORMER_DEVICE, NO_DEVICE, RETIRED, SUBVOLUMES, chunk_key,
    device_entry, first_ino_of, number_in, parts_of, slot_of, slot_of_device, spread,
};
pub use layout::{Layout, NO_FIELD};
pub use record::{MAX_ALIASES, NAME_MAX, Record, RecordHead, SHORT_NAME, ShortRecord, flags};
pub use shared::{
    CHUNK_BITS, CHUNK_SHIFT, Chunk, Control, Cpu, MAX_SLOTS, PLANES, Plane, SIDES, SlotState, WORDS_PER_PLANE,
};

/// Names of the maps in the object file.
pub mod maps {
    /// Mapped array of words: the watched devices, [`DEVICE_PLACES`](crate::DEVICE_PLACES) places, see
    /// [`device_entry`](crate::device_entry). Only devices in it are marked.
    pub const DEVICES: &str = "DEVICES";
    /// Hash: [`chunk_key`](crate::chunk_key) to index of a chunk (`u32`).
    pub const DIRECTORY: &str = "DIRECTORY";
    /// Array of indices of chunks, at the [`spread`](crate::spread) of their keys: where to look before the directory.
    /// The programs' own. A wrong one does no harm: the chunk's head tells.
    pub const HINTS: &str = "HINTS";
    /// Mapped array of [`Chunk`](crate::Chunk).
    pub const SLAB: &str = "SLAB";
    /// Mapped array of words, one per chunk: its [`chunk_key`](crate::chunk_key), perhaps with
    /// [`RETIRED`](crate::RETIRED); 0 before it is used.
    pub const HEADS: &str = "HEADS";
    /// Mapped array of words: one bit per chunk and side, set when a bit of that chunk's side was set.
    pub const DIRTY: &str = "DIRTY";
    /// Queue of chunk indices (`u32`) that user space gave back.
    pub const FREE: &str = "FREE";
    /// Mapped array of one [`Control`](crate::Control).
    pub const CONTROL: &str = "CONTROL";
    /// Mapped array of [`Cpu`](crate::Cpu), one per possible CPU.
    pub const CPUS: &str = "CPUS";
    /// Mapped array of [`SlotState`](crate::SlotState), one per slot.
    pub const SLOTS: &str = "SLOTS";
    /// Ring buffer of [`Record`](crate::Record)s and [`ShortRecord`](crate::ShortRecord)s.
    pub const RECORDS: &str = "RECORDS";
}

/// Names of the read-only globals in the object file, set before loading.
pub mod globals {
    /// [`Layout`](crate::Layout) of the running kernel's structures.
    pub const LAYOUT: &str = "LAYOUT";
    /// Number of chunks in the slab (`u32`).
    pub const CHUNKS: &str = "CHUNKS";
}
