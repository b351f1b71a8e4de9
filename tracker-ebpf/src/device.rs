//! Which devices are watched. A table of our own in an array: looking into it costs no call, and most devices of a
//! machine are found, or found not to be there, at the first look.

use ebbtide_abi::{DEVICE_PLACES, DEVICE_PROBES, NO_DEVICE, slot_of_device, spread};

use crate::{atomic, maps};

/// The slot of a device; `None` if it is not watched.
#[inline(always)]
pub(crate) fn slot(dev: u32) -> Option<u32> {
    let home = spread(dev as u64, DEVICE_PLACES);
    for probe in 0..DEVICE_PROBES {
        let entry = atomic::load(maps::DEVICES.get_ptr((home + probe) % DEVICE_PLACES)?);
        if entry == NO_DEVICE {
            return None;
        }
        if let Some(slot) = slot_of_device(entry, dev) {
            return Some(slot);
        }
    }
    None
}
