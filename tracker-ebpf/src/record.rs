//! Tells user space who an inode is when its first bit of an epoch is set: identity, and each name the kernel's
//! cache has for it. A lost record loses detail, not the change.
//!
//! The list of names is read without the inode's lock. Entries are freed by RCU and read through a checking
//! helper, so this is safe; a list that changes meanwhile is told by `MORE`, a name by `TORN`.

use ebbtide_abi::{MAX_ALIASES, NAME_MAX, Record, RecordHead, SHORT_NAME, ShortRecord, flags};

use crate::{
    atomic,
    device::Device,
    epoch::{Pass, count},
    kernel::{Dentry, Inode},
    maps, note,
};

/// Writes one record for each name of `inode`, or one without a name.
#[inline(always)]
pub(crate) fn write(pass: &Pass, inode: Inode, device: Device, ino: u64) {
    let mut head = RecordHead {
        ino,
        parent_ino: 0,
        slot: device.slot,
        epoch: pass.epoch as u32,
        generation: inode.generation(),
        parent_generation: 0,
        nlink: inode.nlink(),
        flags: flags::NAMELESS,
        mode: inode.mode(),
        name_len: 0,
        alias: 0,
        pad: 0,
    };
    let Some(mut dentry) = inode.first_dentry() else { return emit::<ShortRecord>(pass, &head, None) };
    for alias in 0..MAX_ALIASES {
        head.alias = alias as u16;
        head.flags = if inode.is(dentry.inode()) { 0 } else { flags::MORE };
        let next = dentry.next();
        if next.is_some() && alias + 1 == MAX_ALIASES {
            head.flags |= flags::MORE;
        }
        write_name(pass, device, &mut head, dentry);
        match next {
            Some(next) => dentry = next,
            None => break,
        }
    }
}

#[inline(always)]
fn write_name(pass: &Pass, device: Device, head: &mut RecordHead, dentry: Dentry) {
    let sequence = dentry.sequence();
    head.parent_ino = 0;
    head.parent_generation = 0;
    let parent = dentry.parent();
    if parent.is(dentry) {
        head.flags |= flags::ROOT;
    }
    let inode = Inode::bare(parent.inode());
    if let Some(ino) = device.number(inode) {
        head.parent_ino = ino;
        head.parent_generation = inode.generation();
    }
    let len = dentry.name_len();
    if len > NAME_MAX as u32 {
        head.flags |= flags::CUT;
    }
    let name = Some(Name { dentry, sequence, len });
    if len <= SHORT_NAME as u32 {
        emit::<ShortRecord>(pass, head, name);
    } else {
        emit::<Record>(pass, head, name);
    }
}

/// A name still to be copied.
struct Name {
    dentry: Dentry,
    /// The entry's sequence count before anything of it was read.
    sequence: u32,
    /// In bytes, as first read.
    len: u32,
}

#[inline(always)]
fn emit<R: Form>(pass: &Pass, head: &RecordHead, name: Option<Name>) {
    let Some(mut entry) = maps::RECORDS.reserve::<R>(0) else { return lost(pass, head.slot) };
    let record = entry.as_mut_ptr();
    let mut head = *head;
    if let Some(Name { dentry, sequence, len }) = name {
        let len = len.min(R::ROOM);
        head.name_len = len as u16;
        if !dentry.read_name(R::name(record), len, R::ROOM)
            || sequence & 1 != 0
            || dentry.sequence() != sequence
        {
            head.flags |= flags::TORN;
        }
    }
    // SAFETY: the ring reserved a whole record at this address, aligned to 8 bytes.
    unsafe { R::head(record).write(head) };
    entry.submit(0);
    atomic::fetch_add(count!(pass.cpu, records), 1);
}

#[inline(always)]
fn lost(pass: &Pass, slot: u32) {
    atomic::fetch_add(count!(pass.cpu, records_lost), 1);
    note::count_lost_record(slot);
}

/// The two sizes of records.
trait Form: 'static {
    /// Bytes of name it holds.
    const ROOM: u32;
    /// Address of its head.
    fn head(record: *mut Self) -> *mut RecordHead;
    /// Address of its name.
    fn name(record: *mut Self) -> *mut u8;
}

macro_rules! form {
    ($record:ty, $room:expr) => {
        impl Form for $record {
            const ROOM: u32 = $room as u32;

            #[inline(always)]
            fn head(record: *mut Self) -> *mut RecordHead {
                // SAFETY: `record` is a reserved record; only an address is formed here.
                unsafe { &raw mut (*record).head }
            }

            #[inline(always)]
            fn name(record: *mut Self) -> *mut u8 {
                // SAFETY: as above.
                unsafe { (&raw mut (*record).name).cast() }
            }
        }
    };
}

form!(ShortRecord, SHORT_NAME);
form!(Record, NAME_MAX);
