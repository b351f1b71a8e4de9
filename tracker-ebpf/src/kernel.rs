//! Reads of kernel structures at the offsets that user space found in the kernel's BTF.
//!
//! An inode that a BTF tracepoint hands us is a pointer the verifier knows: plain loads of its fields compile to
//! single instructions. Where the verifier refuses them, the same reads go through `bpf_probe_read_kernel`. What
//! hangs on a bare pointer (directory entries, arguments of functions) is always read through the helper.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use ebbtide_abi::NO_FIELD;

use crate::maps::layout;

/// The kernel's `struct inode`, by address.
#[derive(Clone, Copy)]
pub(crate) struct Inode {
    at: *const u8,
    /// The verifier knows the pointer.
    known: bool,
}

impl Inode {
    /// By a pointer that the verifier knows.
    #[inline(always)]
    pub(crate) fn known(at: *const u8) -> Self {
        Self { at, known: true }
    }

    /// By any pointer.
    #[inline(always)]
    pub(crate) fn bare(at: *const u8) -> Self {
        Self { at, known: false }
    }

    /// What hangs on an inode of XFS, by any pointer.
    #[inline(always)]
    pub(crate) fn of_xfs(at: *const u8) -> Self {
        Self::bare(at.wrapping_add(layout!(xfs_vnode) as usize))
    }

    /// The subvolume that it is in, if its file system is a btrfs; something else if not.
    #[inline(always)]
    pub(crate) fn subvolume(self) -> u64 {
        // Where no offset is known, verifiers must not even see it added to a pointer.
        if layout!(btrfs_root_id) == NO_FIELD {
            return u64::MAX;
        }
        let inode = self.at.wrapping_sub(layout!(btrfs_vnode) as usize);
        let root: *const u8 = probe(inode, layout!(btrfs_root));
        probe(root, layout!(btrfs_root_id))
    }

    #[inline(always)]
    pub(crate) fn ino(self) -> u64 {
        self.field(self.at, layout!(inode_ino))
    }

    /// The device of its super block, as the kernel encodes it: major in the upper 12 bits, minor below.
    #[inline(always)]
    pub(crate) fn dev(self) -> u32 {
        let sb: *const u8 = self.field(self.at, layout!(inode_sb));
        self.field(sb, layout!(sb_dev))
    }

    #[inline(always)]
    pub(crate) fn generation(self) -> u32 {
        self.field(self.at, layout!(inode_generation))
    }

    #[inline(always)]
    pub(crate) fn nlink(self) -> u32 {
        self.field(self.at, layout!(inode_nlink))
    }

    #[inline(always)]
    pub(crate) fn mode(self) -> u16 {
        self.field(self.at, layout!(inode_mode))
    }

    /// Whether its times say that the last change was one of its bytes: a write sets modification and change time
    /// to now, `chmod` and its like only the latter. A read sets the access time, and leaves what was.
    #[inline(always)]
    pub(crate) fn times_tell_of_bytes(self) -> bool {
        let modified: i64 = self.field(self.at, layout!(inode_mtime_sec));
        let changed: i64 = self.field(self.at, layout!(inode_ctime_sec));
        let modified_nsec = self.nanoseconds(layout!(inode_mtime_nsec));
        if modified != changed || modified_nsec != self.nanoseconds(layout!(inode_ctime_nsec)) {
            return false;
        }
        let read: i64 = self.field(self.at, layout!(inode_atime_sec));
        read < modified || read == modified && self.nanoseconds(layout!(inode_atime_nsec)) <= modified_nsec
    }

    /// The upper bit of the change time's says since 6.13 that somebody has asked for it.
    #[inline(always)]
    fn nanoseconds(self, offset: u32) -> u32 {
        self.field::<u32>(self.at, offset) & 0x7fff_ffff
    }

    /// Whether somebody maps it shared and may write through the mapping.
    #[inline(always)]
    pub(crate) fn is_mapped_writable(self) -> bool {
        let mapping: *const u8 = self.field(self.at, layout!(inode_mapping));
        let writable: i32 = self.field(mapping, layout!(mapping_mmap_writable));
        writable > 0
    }

    /// The first of its directory entries, if any is in the kernel's cache.
    #[inline(always)]
    pub(crate) fn first_dentry(self) -> Option<Dentry> {
        Dentry::of_alias(self.field(self.at, layout!(inode_dentry)))
    }

    #[inline(always)]
    pub(crate) fn is(self, address: *const u8) -> bool {
        core::ptr::eq(self.at, address)
    }

    #[inline(always)]
    fn field<T: Field>(self, base: *const u8, offset: u32) -> T {
        if self.known { field(base, offset) } else { probe(base, offset) }
    }
}

/// The kernel's `struct dentry`, by address.
#[derive(Clone, Copy)]
pub(crate) struct Dentry(*const u8);

impl Dentry {
    #[inline(always)]
    fn of_alias(alias: *const u8) -> Option<Self> {
        (!alias.is_null()).then(|| Self(alias.wrapping_sub(layout!(dentry_alias) as usize)))
    }

    /// The next entry of the same inode.
    #[inline(always)]
    pub(crate) fn next(self) -> Option<Self> {
        Self::of_alias(probe(self.0, layout!(dentry_alias)))
    }

    #[inline(always)]
    pub(crate) fn inode(self) -> *const u8 {
        probe(self.0, layout!(dentry_inode))
    }

    #[inline(always)]
    pub(crate) fn parent(self) -> Self {
        Self(probe(self.0, layout!(dentry_parent)))
    }

    #[inline(always)]
    pub(crate) fn is(self, other: Self) -> bool {
        core::ptr::eq(self.0, other.0)
    }

    /// Grows with each rename; odd while one is under way.
    #[inline(always)]
    pub(crate) fn sequence(self) -> u32 {
        probe(self.0, layout!(dentry_seq))
    }

    /// Length of its name in bytes.
    #[inline(always)]
    pub(crate) fn name_len(self) -> u32 {
        probe(self.0, layout!(dentry_name_len))
    }

    /// Copies `len` bytes of its name to `into`, which has room for them.
    #[inline(always)]
    pub(crate) fn read_name(self, into: *mut u8, len: u32, room: u32) -> bool {
        let name: *const u8 = probe(self.0, layout!(dentry_name));
        // Bounded once more, where the compiler cannot know that it is in vain: older verifiers forget what they knew
        // of a number that was kept on the stack.
        // SAFETY: a local is read.
        let len = unsafe { core::ptr::read_volatile(&len) }.min(room);
        // SAFETY: the verifier proves the room, and the helper checks the source.
        unsafe { bpf_probe_read_kernel(into.cast(), len, name.cast()) == 0 }
    }
}

/// The inode of the file that `kiocb`, a pointer that the verifier knows, goes to; `None` when the file is open for
/// reading only. `IOCB_WRITE` would tell more, but the kernel does not set it for every write.
#[inline(always)]
pub(crate) fn inode_of_writable(kiocb: *const u8) -> Option<Inode> {
    let file: *const u8 = field(kiocb, layout!(kiocb_file));
    if field::<u32>(file, layout!(file_mode)) & FMODE_WRITE == 0 {
        return None;
    }
    Some(Inode::known(field(file, layout!(file_inode))))
}

/// The same by any pointer.
#[inline(always)]
pub(crate) fn inode_of_bare_writable(kiocb: *const u8) -> Option<Inode> {
    let file: *const u8 = probe(kiocb, layout!(kiocb_file));
    (probe::<u32>(file, layout!(file_mode)) & FMODE_WRITE != 0).then(|| inode_of_file(file))
}

/// The inode of an open file, by any pointer.
#[inline(always)]
pub(crate) fn inode_of_file(file: *const u8) -> Inode {
    Inode::bare(probe(file, layout!(file_inode)))
}

/// The inode that the data of a VFS event is about.
#[inline(always)]
pub(crate) fn inode_of_event(data: *const u8, kind: u32) -> Option<Inode> {
    if kind == layout!(event_inode) {
        return Some(Inode::bare(data));
    }
    let dentry = if kind == layout!(event_dentry) {
        data
    } else if kind == layout!(event_path) {
        probe(data, layout!(path_dentry))
    } else {
        return None;
    };
    Some(Inode::bare(Dentry(dentry).inode()))
}

/// As the upper bit of `(O_RDONLY, O_WRONLY, O_RDWR) + 1`, which `FMODE_READ` and `FMODE_WRITE` are by definition.
const FMODE_WRITE: u32 = 2;

/// Reads a field behind a pointer that the verifier knows.
#[inline(always)]
fn field<T: Field>(base: *const u8, offset: u32) -> T {
    if layout!(plain_loads) != 0 {
        // SAFETY: the verifier proves that the field exists, and the kernel turns a fault into zero.
        unsafe { core::ptr::read_volatile(base.wrapping_add(offset as usize).cast()) }
    } else {
        probe(base, offset)
    }
}

/// Reads a field behind any pointer. What cannot be read is zero: the helper sees to that, and a branch for it would
/// double, at each read, the ways that the verifier has to walk.
#[inline(always)]
fn probe<T: Field>(base: *const u8, offset: u32) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    let from = base.wrapping_add(offset as usize);
    // SAFETY: the helper checks the source and writes as many bytes as the destination has, zeros if it cannot read; every
    // bit pattern is a value of each `Field`.
    unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from.cast());
        value.assume_init()
    }
}

/// What a field may hold: every bit pattern is a value, zero among them.
trait Field: Copy {}

macro_rules! fields {
    ($($of:ty),*) => { $(impl Field for $of {})* };
}

fields!(u16, u32, i32, u64, i64, *const u8);
