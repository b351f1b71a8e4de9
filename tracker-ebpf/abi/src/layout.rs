//! Where the running kernel keeps what the programs read.

/// Offset of a field that this kernel does not have.
pub const NO_FIELD: u32 = u32::MAX;

/// Byte offsets in kernel structures, taken from the running kernel's BTF, and the few values that differ
/// between kernels. All are constants to the verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Layout {
    /// `inode.i_ino`, 8 bytes.
    pub inode_ino: u32,
    /// `inode.i_sb`, a pointer.
    pub inode_sb: u32,
    /// `inode.i_generation`, 4 bytes.
    pub inode_generation: u32,
    /// `inode.i_nlink`, 4 bytes.
    pub inode_nlink: u32,
    /// `inode.i_mode`, 2 bytes.
    pub inode_mode: u32,
    /// Seconds of the access time, 8 bytes: `inode.i_atime_sec` or `inode.i_atime.tv_sec`.
    pub inode_atime_sec: u32,
    /// Nanoseconds of it, in the lower 4 bytes of what is there.
    pub inode_atime_nsec: u32,
    /// Seconds of the modification time, 8 bytes.
    pub inode_mtime_sec: u32,
    /// Nanoseconds of it, in the lower 4 bytes of what is there.
    pub inode_mtime_nsec: u32,
    /// Seconds of the change time, 8 bytes.
    pub inode_ctime_sec: u32,
    /// Nanoseconds of it, in the lower 31 bits of what is there; the upper bit has another meaning since 6.13.
    pub inode_ctime_nsec: u32,
    /// `inode.i_mapping`, a pointer.
    pub inode_mapping: u32,
    /// `inode.i_dentry.first`, a pointer to a `dentry.d_u.d_alias`.
    pub inode_dentry: u32,
    /// `address_space.i_mmap_writable`, 4 bytes.
    pub mapping_mmap_writable: u32,
    /// `super_block.s_dev`, 4 bytes.
    pub sb_dev: u32,
    /// `dentry.d_parent`, a pointer.
    pub dentry_parent: u32,
    /// `dentry.d_inode`, a pointer.
    pub dentry_inode: u32,
    /// `dentry.d_name.len`, 4 bytes.
    pub dentry_name_len: u32,
    /// `dentry.d_name.name`, a pointer.
    pub dentry_name: u32,
    /// `dentry.d_seq`, its count in the first 4 bytes.
    pub dentry_seq: u32,
    /// `dentry.d_u.d_alias`; its `next` pointer is its first field.
    pub dentry_alias: u32,
    /// `kiocb.ki_filp`, a pointer; [`NO_FIELD`] when unknown.
    pub kiocb_file: u32,
    /// `file.f_inode`, a pointer; [`NO_FIELD`] when unknown.
    pub file_inode: u32,
    /// `file.f_mode`, 4 bytes; [`NO_FIELD`] when unknown.
    pub file_mode: u32,
    /// `path.dentry`, a pointer.
    pub path_dentry: u32,
    /// The kernel's `FSNOTIFY_EVENT_PATH`; [`NO_FIELD`] when unknown, as the next two.
    pub event_path: u32,
    /// The kernel's `FSNOTIFY_EVENT_INODE`.
    pub event_inode: u32,
    /// The kernel's `FSNOTIFY_EVENT_DENTRY`.
    pub event_dentry: u32,
    /// `btrfs_inode.vfs_inode`; [`NO_FIELD`] where there is no btrfs, as the next two.
    pub btrfs_vnode: u32,
    /// `btrfs_inode.root`, a pointer.
    pub btrfs_root: u32,
    /// `btrfs_root.root_key.objectid`, 8 bytes.
    pub btrfs_root_id: u32,
    /// `xfs_inode.i_vnode`; [`NO_FIELD`] where there is no XFS.
    pub xfs_vnode: u32,
    /// The kernel's `I_DIRTY_PAGES`, as a mask.
    pub dirty_pages: u32,
    /// Not 0: read kernel memory by plain loads, else by `bpf_probe_read_kernel`.
    pub plain_loads: u32,
}

const _: () = assert!(size_of::<Layout>() == 34 * 4);
