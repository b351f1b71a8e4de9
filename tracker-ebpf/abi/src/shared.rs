//! The double-buffered bitmap and the counters around it, as both sides see them in memory.

/// Inode numbers `n` and `m` share a chunk when `n >> CHUNK_SHIFT == m >> CHUNK_SHIFT`.
pub const CHUNK_SHIFT: u32 = 12;

/// Inodes per chunk.
pub const CHUNK_BITS: usize = 1 << CHUNK_SHIFT;

/// 64-bit words in one plane of one side of a chunk.
pub const WORDS_PER_PLANE: usize = CHUNK_BITS / 64;

/// Sides of the bitmap: programs write one while user space drains the other.
pub const SIDES: usize = 2;

/// Planes per side, see [`Plane`].
pub const PLANES: usize = 3;

/// Devices that can be marked at one time.
pub const MAX_SLOTS: u32 = 256;

/// What a bit says about its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Plane {
    /// Something about the inode changed.
    Changed = 0,
    /// Its bytes may have changed.
    Data = 1,
    /// It was mapped shared and writable while it was marked: its dirty pages may take stores that no program sees.
    Mapped = 2,
}

/// One chunk of the bitmap: `words[side][plane][word]`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Chunk {
    /// Bit `n % 64` of word `n / 64` stands for inode number `high << CHUNK_SHIFT | n`.
    pub words: [[[u64; WORDS_PER_PLANE]; PLANES]; SIDES],
}

/// What steers the programs.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Control {
    /// Programs write side `epoch % 2`. Changed by user space alone.
    pub epoch: u64,
    /// Chunks taken from the slab so far, recycled ones not counted; may run past the number of chunks.
    pub taken: u64,
}

/// Counters of one CPU, on cache lines of their own. They only grow.
#[derive(Clone, Copy)]
#[repr(C, align(128))]
pub struct Cpu {
    /// Programs that began to write side 0 and side 1.
    pub enter: [u64; SIDES],
    /// Programs that stopped writing side 0 and side 1.
    pub exit: [u64; SIDES],
    /// Entries that met a flip and tried again (each is also one `enter` and one `exit`).
    pub retries: u64,
    /// Marks given up because the epoch would not hold still: coverage of every device is broken.
    pub skipped: u64,
    /// Inodes marked for the first time in their epoch.
    pub transitions: u64,
    /// Records written to the ring.
    pub records: u64,
    /// Records that found no room in the ring.
    pub records_lost: u64,
    /// Always zero.
    pub pad: [u64; 5],
}

/// Counters of one slot. They only grow.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SlotState {
    /// Marks lost because no chunk was left: coverage of this device is broken.
    pub exhausted: u64,
    /// Records lost because the ring was full: the bits stand.
    pub records_lost: u64,
}

const _: () = {
    assert!(size_of::<Chunk>() == SIDES * PLANES * CHUNK_BITS / 8);
    assert!(size_of::<Control>() == 16);
    assert!(size_of::<Cpu>() == 128);
    assert!(size_of::<SlotState>() == 16);
};
