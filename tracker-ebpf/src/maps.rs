//! The maps and the read-only globals. Sizes given here are placeholders: user space sets them when it loads.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, Queue, RingBuf},
};
use ebbtide_abi::{Chunk, Control, Cpu, DEVICE_PLACES, Layout, MAX_SLOTS, SlotState};

#[map]
pub(crate) static DEVICES: Array<u64> = Array::with_max_entries(DEVICE_PLACES, BPF_F_MMAPABLE);

#[map]
pub(crate) static DIRECTORY: HashMap<u64, u32> = HashMap::with_max_entries(1, 0);

#[map]
pub(crate) static HINTS: Array<u32> = Array::with_max_entries(1, 0);

#[map]
pub(crate) static SLAB: Array<Chunk> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
pub(crate) static HEADS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
pub(crate) static DIRTY: Array<u64> = Array::with_max_entries(2, BPF_F_MMAPABLE);

#[map]
pub(crate) static FREE: Queue<u32> = Queue::with_max_entries(1, 0);

#[map]
pub(crate) static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
pub(crate) static CPUS: Array<Cpu> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
pub(crate) static SLOTS: Array<SlotState> = Array::with_max_entries(MAX_SLOTS, BPF_F_MMAPABLE);

#[map]
pub(crate) static RECORDS: RingBuf = RingBuf::with_byte_size(4096, 0);

#[unsafe(no_mangle)]
pub(crate) static LAYOUT: Layout = Layout {
    inode_ino: 0,
    inode_sb: 0,
    inode_generation: 0,
    inode_nlink: 0,
    inode_mode: 0,
    inode_atime_sec: 0,
    inode_atime_nsec: 0,
    inode_mtime_sec: 0,
    inode_mtime_nsec: 0,
    inode_ctime_sec: 0,
    inode_ctime_nsec: 0,
    inode_mapping: 0,
    inode_dentry: 0,
    mapping_mmap_writable: 0,
    sb_dev: 0,
    dentry_parent: 0,
    dentry_inode: 0,
    dentry_name_len: 0,
    dentry_name: 0,
    dentry_seq: 0,
    dentry_alias: 0,
    kiocb_file: 0,
    file_inode: 0,
    file_mode: 0,
    path_dentry: 0,
    event_path: 0,
    event_inode: 0,
    event_dentry: 0,
    btrfs_vnode: 0,
    btrfs_root: 0,
    btrfs_root_id: 0,
    xfs_vnode: 0,
    dirty_pages: 0,
    plain_loads: 0,
};

#[unsafe(no_mangle)]
static CHUNKS: u32 = 0;

/// One field of the layout, as user space set it.
macro_rules! layout {
    ($field:ident) => {
        $crate::maps::read_global(&raw const $crate::maps::LAYOUT.$field)
    };
}
pub(crate) use layout;

/// Number of chunks in the slab.
#[inline(always)]
pub(crate) fn chunks() -> u32 {
    read_global(&raw const CHUNKS)
}

/// Reads a read-only global as user space set it, not as it was compiled.
#[inline(always)]
pub(crate) fn read_global(global: *const u32) -> u32 {
    // SAFETY: the pointer comes from a reference to a static of this program.
    unsafe { core::ptr::read_volatile(global) }
}
