//! The hooks, each with its reason. All are BTF tracepoints; each is attached where the kernel has it.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    kernel::{Inode, inode_of_writable},
    maps::layout,
    note::{Evidence, note},
};

/// Every change of an ext4 inode that reaches the disk: attributes, times, size, and the directories that name
/// operations touch, which never pass `__mark_inode_dirty`. Called after the inode in memory has changed.
/// A write is marked when it starts, under the inode's lock, if the clock has ticked since the last one. So whoever
/// reads a marked file waits a tick after the flip, and then for the lock (`lseek` with `SEEK_DATA` takes it). A hook at
/// the end of writes would save that wait, and cost each write on the machine a call.
/// Misses: extended attributes, which only fanotify's FAN_ATTRIB tells.
///
/// <https://github.com/torvalds/linux/blob/v6.18/fs/ext4/inode.c> (`__ext4_mark_inode_dirty`)
#[btf_tracepoint(function = "ext4_mark_inode_dirty")]
fn ext4_mark_inode_dirty(ctx: BtfTracePointContext) -> i32 {
    note(&ctx, Inode::known(ctx.arg(0)), Evidence::Unknown);
    0
}

/// A clean page or inode becomes dirty, through `mmap` too: the store that faults is marked before it lands, so
/// user space starts writeback of mapped files before it reads them.
/// Misses: stores to a page that is already dirty and mapped.
///
/// <https://github.com/torvalds/linux/blob/v6.18/fs/fs-writeback.c> (`__mark_inode_dirty`)
#[btf_tracepoint(function = "writeback_mark_inode_dirty")]
fn writeback_mark_inode_dirty(ctx: BtfTracePointContext) -> i32 {
    // A page alone is dirty: a change of attributes passes all of I_DIRTY.
    let (flags, pages): (u32, u32) = (ctx.arg(1), layout!(dirty_pages));
    let evidence = if flags & pages != 0 && flags & !pages == 0 { Evidence::Data } else { Evidence::Unknown };
    note(&ctx, Inode::known(ctx.arg(0)), evidence);
    0
}

/// A direct write has reached the disk. A direct overwrite marks the inode only before it starts, and not at all in
/// the clock tick of the last mark. Direct reads of a file that is open for writing are marked too.
///
/// <https://github.com/torvalds/linux/blob/v6.18/fs/iomap/direct-io.c> (`iomap_dio_complete`)
#[btf_tracepoint(function = "iomap_dio_complete")]
fn iomap_dio_complete(ctx: BtfTracePointContext) -> i32 {
    if let Some(inode) = inode_of_writable(ctx.arg(0)) {
        note(&ctx, inode, Evidence::Data);
    }
    0
}

/// A store is about to be made through a shared mapping of an XFS file, to a page that could not be written till now:
/// whether it is dirty already or not, and whether the clock has ticked or not.
///
/// <https://github.com/torvalds/linux/blob/v6.18/fs/xfs/xfs_file.c> (`xfs_write_fault`)
#[btf_tracepoint(function = "xfs_write_fault")]
fn xfs_write_fault(ctx: BtfTracePointContext) -> i32 {
    note(&ctx, Inode::of_xfs(ctx.arg(0)), Evidence::Data);
    0
}
