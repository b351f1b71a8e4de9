//! Which side of the bitmap to write, and how user space knows that nobody writes the other.
//!
//! A program counts itself in on its CPU for the side that the epoch names, and looks again: if the epoch has
//! moved it counts itself out and tries once more. User space moves the epoch, then waits until the sums of
//! `exit` and `enter` of the old side agree (reading `exit` first). Counting is atomic, since a program may be
//! preempted on some kernels.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use ebbtide_abi::Cpu;

use crate::{atomic, maps};

/// Address of a counter of this CPU.
macro_rules! count {
    ($cpu:expr, $field:ident) => {{
        // SAFETY: the pointer is a whole `Cpu` in its map; only an address is formed here.
        unsafe { &raw mut (*$cpu).$field }
    }};
}
pub(crate) use count;

/// Leave to write one side, until [`Pass::exit`].
pub(crate) struct Pass {
    pub(crate) cpu: *mut Cpu,
    /// The epoch that was entered.
    pub(crate) epoch: u64,
}

impl Pass {
    /// `None`, and counted, if the epoch would not hold still; no drainer flips that fast.
    #[inline(always)]
    pub(crate) fn enter() -> Option<Self> {
        // SAFETY: this helper has no preconditions.
        let cpu = maps::CPUS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() })?;
        let control = maps::CONTROL.get_ptr(0)?;
        // SAFETY: the map holds one whole `Control`; only an address is formed here.
        let epoch = unsafe { &raw const (*control).epoch };
        for _ in 0..TRIES {
            let pass = Self { cpu, epoch: atomic::load(epoch) };
            atomic::fetch_add(pass.entered(), 1);
            if atomic::load(epoch) == pass.epoch {
                return Some(pass);
            }
            atomic::fetch_add(count!(cpu, retries), 1);
            pass.exit();
        }
        atomic::fetch_add(count!(cpu, skipped), 1);
        None
    }

    /// The side to write.
    #[inline(always)]
    pub(crate) fn side(&self) -> usize {
        (self.epoch & 1) as usize
    }

    #[inline(always)]
    pub(crate) fn exit(self) {
        let counters = count!(self.cpu, exit).cast::<u64>();
        // SAFETY: `side` is 0 or 1, and `exit` has two words.
        atomic::fetch_add(unsafe { counters.add(self.side()) }, 1);
    }

    #[inline(always)]
    fn entered(&self) -> *mut u64 {
        let counters = count!(self.cpu, enter).cast::<u64>();
        // SAFETY: `side` is 0 or 1, and `enter` has two words.
        unsafe { counters.add(self.side()) }
    }
}

/// Each try that fails has met a flip, and a flip waits for all who entered before it.
const TRIES: u32 = 3;
