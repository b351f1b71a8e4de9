//! Mapped files that survive being cut short: the one room of this crate for unsafe code.
//!
//! Reading a page behind the end of a mapped file raises SIGBUS. Our handler puts pages of zeros over the rest of
//! the map and remembers that it did, so that the reader goes on to its end and then learns that what it read is
//! not the file.
#![expect(unsafe_code, reason = "maps files, and handles the signal that maps of shrinking files raise")]

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use memmap2::{Advice, Mmap, MmapOptions};

/// A file's content, mapped for reading.
#[derive(Debug)]
pub struct Map {
    map: Mmap,
    slot: &'static Slot,
    /// Pages before this offset were let go.
    released: AtomicUsize,
}

/// The range of one live map, for the signal handler.
#[derive(Debug)]
struct Slot {
    taken: AtomicBool,
    /// First address, 0 while the slot is unused.
    start: AtomicUsize,
    /// The address behind the last page.
    end: AtomicUsize,
    cut: AtomicBool,
}

/// How many maps can live at the same time. A session keeps a handful.
const SLOTS: usize = 4096;

/// Pages are let go in steps of this many bytes, a multiple of any page's size.
const RELEASED_AT_ONCE: usize = 4 << 20;

static REGISTERED: [Slot; SLOTS] = [const { Slot::unused() }; SLOTS];

impl Map {
    /// Maps the first `length` bytes of a file.
    ///
    /// # Errors
    /// The kernel refuses the map or the signal handler, or [`SLOTS`] maps live already.
    pub(super) fn new(file: &File, length: usize) -> io::Result<Map> {
        install_handler()?;
        // SAFETY: the map is read-only and private to this type, which hands it out as bytes alone: no value of
        // them is invalid, so writes of others to the file can give wrong data, which the caller detects by
        // comparing the file's attributes, but no broken invariant. Faults behind its end are handled below.
        let map = unsafe { MmapOptions::new().len(length).map(file)? };
        // Only a hint.
        let _ = map.advise(Advice::Sequential);
        let slot = Slot::take(map.as_ptr() as usize, length)?;
        Ok(Map { map, slot, released: AtomicUsize::new(0) })
    }

    /// Lets the pages before offset `end` go, some MiB at a time. Who reads them all the same has them again.
    pub(super) fn release(&self, end: usize) {
        let start = self.released.load(Ordering::Relaxed);
        let end = end.min(self.map.len()) / RELEASED_AT_ONCE * RELEASED_AT_ONCE;
        if end > start {
            self.released.store(end, Ordering::Relaxed);
            // SAFETY: the map is of a file and never written to, so its pages come back from there as they were, or
            // as others made them, which they could at any time; of what the handler below laid, as zeros.
            let _ = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
            };
        }
    }

    /// Whether pages were missing when they were read.
    pub fn was_cut(&self) -> bool {
        self.slot.cut.load(Ordering::Acquire)
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // Before the range is unmapped and can belong to somebody else.
        self.slot.release();
    }
}

impl Slot {
    const fn unused() -> Slot {
        Slot {
            taken: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            cut: AtomicBool::new(false),
        }
    }

    fn take(start: usize, length: usize) -> io::Result<&'static Slot> {
        let free = |slot: &&Slot| {
            slot.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let slot =
            REGISTERED.iter().find(free).ok_or_else(|| io::Error::other("too many files are mapped"))?;
        slot.cut.store(false, Ordering::Relaxed);
        slot.end.store(start + length.next_multiple_of(page_size()), Ordering::Relaxed);
        slot.start.store(start, Ordering::Release);
        Ok(slot)
    }

    fn release(&self) {
        self.start.store(0, Ordering::Release);
        self.end.store(0, Ordering::Relaxed);
        self.taken.store(false, Ordering::Release);
    }

    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        start != 0 && (start..self.end.load(Ordering::Relaxed)).contains(&address)
    }
}

fn page_size() -> usize {
    rustix::param::page_size()
}

/// What handled SIGBUS before us.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

fn install_handler() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let outcome =
        INSTALLED.get_or_init(|| replace_handler().map_err(|error| error.raw_os_error().unwrap_or(0)));
    outcome.map_err(io::Error::from_raw_os_error)
}

fn replace_handler() -> io::Result<()> {
    // Asked before the handler needs it.
    let _ = page_size();
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_bus_error;
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: an all-zero sigaction is valid: no flags, an empty mask and the default handler, two of which are
    // then set.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both pointers are to live sigactions of this frame.
    let asked = unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), before.as_mut_ptr()) };
    if asked != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was zeroed, which is valid, and the successful call filled it in.
    let _ = PREVIOUS.set(unsafe { before.assume_init() });
    // SAFETY: `action` is initialised; the handler uses nothing but atomics and the calls mmap and sigaction, so it
    // may run at any point of any thread.
    let set = unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn on_bus_error(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel hands a handler set with SA_SIGINFO a valid siginfo; SIGBUS fills in the address.
    let address = unsafe { (*info).si_addr() } as usize;
    let page = address & !(page_size() - 1);
    match REGISTERED.iter().find(|slot| slot.holds(address)) {
        Some(slot) if lay_zeros(page, slot.end.load(Ordering::Relaxed)) => {
            slot.cut.store(true, Ordering::Release);
        }
        _ => give_back_handler(),
    }
}

/// Replaces the pages from `page` to `end` by pages of zeros.
fn lay_zeros(page: usize, end: usize) -> bool {
    let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: the range lies in a live map of ours: its slot is cleared before it is unmapped, and the thread that
    // faulted borrows it. The map is only read, and zeros are as valid as any bytes.
    let laid = unsafe { libc::mmap(page as *mut c_void, end - page, libc::PROT_READ, flags, -1, 0) };
    laid != libc::MAP_FAILED
}

/// Not ours: the instruction runs again, under the handler that was there before.
fn give_back_handler() {
    if let Some(before) = PREVIOUS.get() {
        // SAFETY: `before` is what the kernel told when we replaced it.
        unsafe { libc::sigaction(libc::SIGBUS, before, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_slot_holds_no_address() {
        let slot = Slot::take(0x10000, 5).unwrap();
        assert!(slot.holds(0x10000) && slot.holds(0x10000 + page_size() - 1));
        assert!(!slot.holds(0x10000 + page_size()));
        slot.release();
        assert!(!slot.holds(0x10000));
    }
}
