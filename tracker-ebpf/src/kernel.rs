//! Reads of kernel structures at the offsets that user space found in the kernel's BTF.
//!
//! An inode that a BTF tracepoint hands us is a pointer the verifier knows: plain loads of its fields compile to
//! single instructions. Where the verifier refuses them, the same reads go through `bpf_probe_read_kernel`. What
//! hangs on a bare pointer (directory entries) is always read through the helper.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use crate::maps::layout;

/// The kernel's `struct inode`, by address.
#[derive(Clone, Copy)]
pub(crate) struct Inode(*const u8);

impl Inode {
    #[inline(always)]
    pub(crate) fn new(address: *const u8) -> Self {
        Self(address)
    }

    #[inline(always)]
    pub(crate) fn ino(self) -> u64 {
        field(self.0, layout!(inode_ino))
    }

    /// The device of its super block, as the kernel encodes it: major in the upper 12 bits, minor below.
    #[inline(always)]
    pub(crate) fn dev(self) -> u32 {
        let sb: *const u8 = field(self.0, layout!(inode_sb));
        field(sb, layout!(sb_dev))
    }

    #[inline(always)]
    pub(crate) fn generation(self) -> u32 {
        field(self.0, layout!(inode_generation))
    }

    #[inline(always)]
    pub(crate) fn nlink(self) -> u32 {
        field(self.0, layout!(inode_nlink))
    }

    #[inline(always)]
    pub(crate) fn mode(self) -> u16 {
        field(self.0, layout!(inode_mode))
    }

    /// Whether its times say that the last change was one of its bytes: a write sets modification and change time
    /// to now, `chmod` and its like only the latter. A read sets the access time, and leaves what was.
    #[inline(always)]
    pub(crate) fn times_tell_of_bytes(self) -> bool {
        let modified: i64 = field(self.0, layout!(inode_mtime_sec));
        let changed: i64 = field(self.0, layout!(inode_ctime_sec));
        let modified_nsec = self.nanoseconds(layout!(inode_mtime_nsec));
        if modified != changed || modified_nsec != self.nanoseconds(layout!(inode_ctime_nsec)) {
            return false;
        }
        let read: i64 = field(self.0, layout!(inode_atime_sec));
        read < modified || read == modified && self.nanoseconds(layout!(inode_atime_nsec)) <= modified_nsec
    }

    /// The upper bit of the change time's says since 6.13 that somebody has asked for it.
    #[inline(always)]
    fn nanoseconds(self, offset: u32) -> u32 {
        field::<u32>(self.0, offset) & 0x7fff_ffff
    }

    /// Whether somebody maps it shared and may write through the mapping.
    #[inline(always)]
    pub(crate) fn is_mapped_writable(self) -> bool {
        let mapping: *const u8 = field(self.0, layout!(inode_mapping));
        let writable: i32 = field(mapping, layout!(mapping_mmap_writable));
        writable > 0
    }

    /// The first of its directory entries, if any is in the kernel's cache.
    #[inline(always)]
    pub(crate) fn first_dentry(self) -> Option<Dentry> {
        Dentry::of_alias(field(self.0, layout!(inode_dentry)))
    }

    #[inline(always)]
    pub(crate) fn is(self, address: *const u8) -> bool {
        core::ptr::eq(self.0, address)
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
        Self::of_alias(probe(self.0, layout!(dentry_alias))?)
    }

    #[inline(always)]
    pub(crate) fn inode(self) -> *const u8 {
        probe(self.0, layout!(dentry_inode)).unwrap_or(core::ptr::null())
    }

    #[inline(always)]
    pub(crate) fn parent(self) -> Option<Self> {
        probe(self.0, layout!(dentry_parent)).map(Self)
    }

    #[inline(always)]
    pub(crate) fn is(self, other: Self) -> bool {
        core::ptr::eq(self.0, other.0)
    }

    /// Inode number and generation of what it names.
    #[inline(always)]
    pub(crate) fn identity(self) -> Option<(u64, u32)> {
        let inode: *const u8 = probe(self.0, layout!(dentry_inode))?;
        Some((probe(inode, layout!(inode_ino))?, probe(inode, layout!(inode_generation))?))
    }

    /// Grows with each rename; odd while one is under way.
    #[inline(always)]
    pub(crate) fn sequence(self) -> u32 {
        probe(self.0, layout!(dentry_seq)).unwrap_or(1)
    }

    /// Length of its name in bytes.
    #[inline(always)]
    pub(crate) fn name_len(self) -> u32 {
        probe(self.0, layout!(dentry_name_len)).unwrap_or(0)
    }

    /// Copies `len` bytes of its name to `into`, which has room for them.
    #[inline(always)]
    pub(crate) fn read_name(self, into: *mut u8, len: u32) -> bool {
        let Some(name) = probe::<*const u8>(self.0, layout!(dentry_name)) else { return false };
        // SAFETY: the verifier proves the room, and the helper checks the source.
        unsafe { bpf_probe_read_kernel(into.cast(), len, name.cast()) == 0 }
    }
}

/// The inode of the file that `kiocb` goes to; `None` when the file is open for reading only. `IOCB_WRITE` would tell
/// more, but the kernel does not set it for every write.
#[inline(always)]
pub(crate) fn inode_of_writable(kiocb: *const u8) -> Option<Inode> {
    let file: *const u8 = field(kiocb, layout!(kiocb_file));
    if field::<u32>(file, layout!(file_mode)) & FMODE_WRITE == 0 {
        return None;
    }
    Some(Inode(field(file, layout!(file_inode))))
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
        probe(base, offset).unwrap_or(T::NONE)
    }
}

/// Reads a field behind any pointer.
#[inline(always)]
fn probe<T: Copy>(base: *const u8, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let from = base.wrapping_add(offset as usize);
    // SAFETY: the helper checks the source and writes as many bytes as the destination has.
    unsafe {
        let result = bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from.cast());
        (result == 0).then(|| value.assume_init())
    }
}

/// What a field may hold.
trait Field: Copy {
    /// Stands for a field that could not be read.
    const NONE: Self;
}

macro_rules! fields {
    ($($of:ty: $none:expr),*) => { $(impl Field for $of { const NONE: Self = $none; })* };
}

fields!(u16: 0, u32: 0, i32: 0, u64: 0, i64: 0, *const u8: core::ptr::null());
