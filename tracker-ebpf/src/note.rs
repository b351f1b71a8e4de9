//! The body that all programs share: sets the bits of a changed inode.

use aya_log_ebpf::warn;
use ebbtide_abi::{CHUNK_BITS, Chunk, PLANES, Plane, WORDS_PER_PLANE};

use aya_ebpf::{EbpfContext, helpers::bpf_get_smp_processor_id};

use crate::{
    atomic, chunk,
    device::{self, Device},
    epoch::{Pass, count},
    kernel::Inode,
    maps, record,
};

/// What an event proves about the inode's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// They changed, or may have.
    Data,
    /// Nothing; the inode's times may tell.
    Unknown,
}

/// What happened to an inode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// It changed.
    Changed(Evidence),
    /// It was open for writing and is closed, which counts where nothing else tells of stores through a mapping.
    Closed,
}

/// Marks `inode` if its device is watched.
#[inline(always)]
pub(crate) fn note<C: EbpfContext>(ctx: &C, inode: Inode, evidence: Evidence) {
    note_event(ctx, inode, Event::Changed(evidence));
}

/// Marks `inode` if its device is watched and the event counts there.
#[inline(always)]
pub(crate) fn note_event<C: EbpfContext>(ctx: &C, inode: Inode, event: Event) {
    let Some(device) = device::find(inode.dev()) else { return };
    let evidence = match event {
        Event::Changed(evidence) => evidence,
        Event::Closed if device.marks_closes() => Evidence::Data,
        Event::Closed => return,
    };
    note_on(ctx, device, inode, evidence);
}

#[inline(always)]
fn note_on<C: EbpfContext>(ctx: &C, device: Device, inode: Inode, evidence: Evidence) {
    let Some(pass) = Pass::enter() else { return };
    let place = device.number(inode).and_then(|ino| Some((ino, chunk::find_or_take(device.slot, ino)?)));
    match place {
        Some((ino, index)) => mark(&pass, inode, evidence, device, ino, index),
        None => exhausted(ctx, device.slot),
    }
    pass.exit();
}

#[inline(always)]
fn mark(pass: &Pass, inode: Inode, evidence: Evidence, device: Device, ino: u64, index: u32) {
    let Some(chunk) = chunk::memory(index) else { return };
    let bits = Bits { chunk, side: pass.side(), bit: ino as usize % CHUNK_BITS };
    if inode.mode() & FORMAT == REGULAR {
        if !bits.has(Plane::Data) && (evidence == Evidence::Data || inode.times_tell_of_bytes()) {
            bits.set(Plane::Data);
        }
        if !bits.has(Plane::Mapped) && inode.is_mapped_writable() {
            bits.set(Plane::Mapped);
        }
    }
    if bits.has(Plane::Changed) || bits.set(Plane::Changed) {
        return;
    }
    set_dirty(pass.side(), index);
    atomic::fetch_add(count!(pass.cpu, transitions), 1);
    record::write(pass, inode, device, ino);
}

/// The place of one inode in one side of a chunk.
struct Bits {
    chunk: *mut Chunk,
    side: usize,
    bit: usize,
}

impl Bits {
    #[inline(always)]
    fn has(&self, plane: Plane) -> bool {
        atomic::load(self.word(plane)) & self.mask() != 0
    }

    /// Whether the bit was set before.
    #[inline(always)]
    fn set(&self, plane: Plane) -> bool {
        atomic::fetch_or(self.word(plane), self.mask()) & self.mask() != 0
    }

    #[inline(always)]
    fn mask(&self) -> u64 {
        1 << (self.bit % 64)
    }

    #[inline(always)]
    fn word(&self, plane: Plane) -> *mut u64 {
        let word = (self.side * PLANES + plane as usize) * WORDS_PER_PLANE + self.bit / 64 % WORDS_PER_PLANE;
        // SAFETY: `side` is 0 or 1 and `bit` below the size of a plane, so the word is one of the chunk's.
        unsafe { self.chunk.cast::<u64>().add(word) }
    }
}

/// Tells user space that this chunk has bits on this side.
#[inline(always)]
fn set_dirty(side: usize, index: u32) {
    let words = maps::chunks().div_ceil(64);
    let Some(word) = maps::DIRTY.get_ptr_mut(side as u32 * words + index / 64) else { return };
    let bit = 1 << (index % 64);
    if atomic::load(word) & bit == 0 {
        atomic::fetch_or(word, bit);
    }
}

#[inline(always)]
fn exhausted<C: EbpfContext>(ctx: &C, slot: u32) {
    let Some(state) = maps::SLOTS.get_ptr_mut(slot) else { return };
    // SAFETY: the map holds a whole `SlotState` here; only an address is formed.
    if atomic::fetch_add(unsafe { &raw mut (*state).exhausted }, 1) == 0 {
        warn!(ctx, "no chunk left for slot {}: marks are lost", slot);
    }
}

/// Counts a record that found no room.
#[inline(always)]
pub(crate) fn count_lost_record(slot: u32) {
    let Some(state) = maps::SLOTS.get_ptr_mut(slot) else { return };
    // SAFETY: as above.
    atomic::fetch_add(unsafe { &raw mut (*state).records_lost }, 1);
}

/// `S_IFMT` and `S_IFREG` of the inode's mode.
const FORMAT: u16 = 0o170_000;
const REGULAR: u16 = 0o100_000;

/// Counts a change of which nobody can say what it changed: every device's coverage is broken.
#[inline(always)]
pub(crate) fn count_skipped() {
    // SAFETY: this helper has no preconditions.
    if let Some(cpu) = maps::CPUS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() }) {
        atomic::fetch_add(count!(cpu, skipped), 1);
    }
}
