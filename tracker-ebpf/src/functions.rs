//! The hooks on functions of the kernel, each with its reason. Each is there twice, for fentry and for kprobes; one of
//! them is attached where the kernel permits it. One that is of use only at a function's end is there for fexit alone.
//! Their arguments are bare pointers.

use aya_ebpf::{
    EbpfContext,
    macros::{fentry, fexit, kprobe},
    programs::{FEntryContext, FExitContext, ProbeContext},
};

use crate::{
    kernel::{Inode, inode_of_bare_writable, inode_of_event, inode_of_file},
    note::{Event, Evidence, count_skipped, note, note_event},
};

/// Both forms of a hook: the name of each, the function, and its arguments that are read.
macro_rules! hook {
    ($function:literal: $fentry:ident, $kprobe:ident, $body:ident($($n:tt),*)) => {
        #[fentry(function = $function)]
        fn $fentry(ctx: FEntryContext) -> i32 {
            $body(&ctx, $(ctx.arg($n)),*);
            0
        }

        #[kprobe(function = $function)]
        fn $kprobe(ctx: ProbeContext) -> u32 {
            arguments!(ctx, $body($($n),*));
            0
        }
    };
}

macro_rules! arguments {
    ($ctx:ident, $body:ident(0)) => {
        if let Some(a) = $ctx.arg(0) {
            $body(&$ctx, a);
        }
    };
    ($ctx:ident, $body:ident(0, 1, 2, 3, 5)) => {
        if let (Some(a), Some(b), Some(c), Some(d), Some(e)) =
            ($ctx.arg(0), $ctx.arg(1), $ctx.arg(2), $ctx.arg(3), $ctx.arg(5))
        {
            $body(&$ctx, a, b, c, d, e);
        }
    };
}

/// All that VFS tells of changes, on every file system, when the change is made: content, attributes, extended ones among
/// them, and names. It is reached on a file system that somebody listens to; fanotify's mark for names sees to that.
/// Misses: stores through mappings (`writeback_mark_inode_dirty`, `file_update_time`), writes by libaio
/// (`aio_complete_rw`), and before Linux 6.6 `splice` into a file, which the pages that it dirties tell.
///
/// <https://github.com/torvalds/linux/blob/v6.1/fs/notify/fsnotify.c> (`fsnotify`)
#[inline(always)]
fn told<C: EbpfContext>(ctx: &C, mask: u32, data: *const u8, kind: u32, dir: *const u8, inode: *const u8) {
    if mask & OF_INTEREST == 0 {
        return;
    }
    let inode = if mask & NAMES != 0 && !dir.is_null() {
        Some(Inode::bare(dir))
    } else if !inode.is_null() {
        Some(Inode::bare(inode))
    } else {
        inode_of_event(data, kind)
    };
    let Some(inode) = inode else { return count_skipped() };
    let event = match mask & OF_INTEREST {
        CLOSE_WRITE => Event::Closed,
        mask if mask & MODIFY != 0 => Event::Changed(Evidence::Data),
        _ => Event::Changed(Evidence::Unknown),
    };
    note_event(ctx, inode, event);
}

hook!("fsnotify": fsnotify_fentry, fsnotify_kprobe, told(0, 1, 2, 3, 5));

/// A read or write by libaio has ended, which VFS tells nobody.
///
/// <https://github.com/torvalds/linux/blob/v6.1/fs/aio.c> (`aio_complete_rw`)
#[inline(always)]
fn completed<C: EbpfContext>(ctx: &C, kiocb: *const u8) {
    if let Some(inode) = inode_of_bare_writable(kiocb) {
        note(ctx, inode, Evidence::Data);
    }
}

hook!("aio_complete_rw": aio_complete_rw_fentry, aio_complete_rw_kprobe, completed(0));

/// A direct write to an ext4 file is on the disk, and its blocks count as written: this has run to its end. It tells what
/// `iomap_dio_complete` tells where kernels have that tracepoint, and while nobody listens, when `fsnotify()` is not
/// reached.
///
/// <https://github.com/torvalds/linux/blob/v6.1/fs/ext4/file.c> (`ext4_dio_write_end_io`)
#[fexit(function = "ext4_dio_write_end_io")]
fn ext4_dio_write_end_io_fexit(ctx: FExitContext) -> i32 {
    completed(&ctx, ctx.arg(0));
    0
}

/// A store is about to be made through a shared mapping, to a page that could not be written till now: whether the page
/// is dirty already or not, and whether the clock has ticked or not. Called for some writes, too.
///
/// <https://github.com/torvalds/linux/blob/v6.1/mm/memory.c> (`fault_dirty_shared_page`), each file system's `page_mkwrite`
#[inline(always)]
fn stored<C: EbpfContext>(ctx: &C, file: *const u8) {
    let inode = inode_of_file(file);
    if inode.is_mapped_writable() {
        note(ctx, inode, Evidence::Data);
    }
}

hook!("file_update_time": file_update_time_fentry, file_update_time_kprobe, stored(0));

/// Bits of `fsnotify()`'s mask, the same as in inotify(7).
const MODIFY: u32 = 0x2;
const ATTRIB: u32 = 0x4;
const CLOSE_WRITE: u32 = 0x8;
const MOVED_FROM: u32 = 0x40;
const MOVED_TO: u32 = 0x80;
const CREATE: u32 = 0x100;
const DELETE: u32 = 0x200;
const MOVE_SELF: u32 = 0x800;

const NAMES: u32 = MOVED_FROM | MOVED_TO | CREATE | DELETE;
const OF_INTEREST: u32 = NAMES | MODIFY | ATTRIB | CLOSE_WRITE | MOVE_SELF;
