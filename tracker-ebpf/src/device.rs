//! Which devices are watched. A table of our own in an array: looking into it costs no call, and most devices of a
//! machine are found, or found not to be there, at the first look.

use ebbtide_abi::{
    CLOSES, DEVICE_PLACES, DEVICE_PROBES, NO_DEVICE, SUBVOLUMES, number_in, slot_of_device, spread,
};

use crate::{atomic, kernel::Inode, maps};

/// A watched device.
#[derive(Clone, Copy)]
pub(crate) struct Device {
    pub(crate) slot: u32,
    /// The traits in its entry.
    traits: u64,
}

impl Device {
    /// What stands for this inode in the bitmap; `None` if there is no room for it.
    #[inline(always)]
    pub(crate) fn number(self, inode: Inode) -> Option<u64> {
        if self.traits & SUBVOLUMES == 0 {
            Some(inode.ino())
        } else {
            number_in(inode.subvolume(), inode.ino())
        }
    }

    /// Whether the last close of a file may be all that tells of a store.
    #[inline(always)]
    pub(crate) fn marks_closes(self) -> bool {
        self.traits & CLOSES != 0
    }
}

/// A device; `None` if it is not watched.
#[inline(always)]
pub(crate) fn find(dev: u32) -> Option<Device> {
    let home = spread(dev as u64, DEVICE_PLACES);
    for probe in 0..DEVICE_PROBES {
        let entry = atomic::load(maps::DEVICES.get_ptr((home + probe) % DEVICE_PLACES)?);
        if entry == NO_DEVICE {
            return None;
        }
        if let Some(slot) = slot_of_device(entry, dev) {
            return Some(Device { slot, traits: entry });
        }
    }
    None
}
