//! The table of watched devices, in memory that the programs look into.

use std::sync::atomic::{AtomicU64, Ordering};

use ebbtide_abi::{
    DEVICE_PLACES, DEVICE_PROBES, FORMER_DEVICE, NO_DEVICE, device_entry, slot_of_device, spread,
};

use crate::sys::bpf::Words;

/// The user side of the table: only it writes.
#[derive(Debug)]
pub(super) struct Devices(Words);

impl Devices {
    pub(super) fn new(places: Words) -> Self {
        Devices(places)
    }

    /// Puts a device in that is not there. Whether there was a place for it.
    pub(super) fn insert(&self, dev: u32, slot: u32, traits: u64) -> bool {
        let unused = |place: &&AtomicU64| matches!(place.load(Ordering::SeqCst), NO_DEVICE | FORMER_DEVICE);
        let place = self.places(dev).find(unused);
        place.map(|place| place.store(device_entry(dev, slot, traits), Ordering::SeqCst)).is_some()
    }

    /// Takes a device out.
    pub(super) fn remove(&self, dev: u32) {
        let is_it = |place: &&AtomicU64| slot_of_device(place.load(Ordering::SeqCst), dev).is_some();
        if let Some(place) = self.places(dev).find(is_it) {
            place.store(FORMER_DEVICE, Ordering::SeqCst);
        }
    }

    /// All devices that are in, each with its slot.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.all().iter().filter_map(|place| {
            let entry = place.load(Ordering::SeqCst);
            // The lower half of an entry is its device.
            let dev = entry as u32;
            slot_of_device(entry, dev).map(|slot| (dev, slot))
        })
    }

    fn places(&self, dev: u32) -> impl Iterator<Item = &AtomicU64> {
        let home = spread(u64::from(dev), DEVICE_PLACES);
        (0..DEVICE_PROBES).map(move |probe| &self.0.all()[((home + probe) % DEVICE_PLACES) as usize])
    }
}

#[cfg(test)]
mod tests {
    use ebbtide_abi::{CLOSES, SUBVOLUMES};

    use super::*;

    fn devices() -> Devices {
        Devices::new(Words::anonymous(DEVICE_PLACES as usize).unwrap())
    }

    /// What a program does.
    fn find(devices: &Devices, dev: u32) -> Option<u32> {
        let entries = devices.places(dev).map(|place| place.load(Ordering::SeqCst));
        entries.take_while(|entry| *entry != NO_DEVICE).find_map(|entry| slot_of_device(entry, dev))
    }

    #[test]
    fn every_device_of_a_full_table_is_found_by_its_slot_and_no_other() {
        let devices = devices();
        // As loop devices are numbered.
        let dev = |slot: u32| 7 << 20 | slot;
        assert!((0..256).all(|slot| devices.insert(dev(slot), slot, CLOSES)));
        assert!((0..256).all(|slot| find(&devices, dev(slot)) == Some(slot)));
        assert_eq!(find(&devices, 0), None);
    }

    #[test]
    fn a_device_that_is_taken_out_hides_no_other() {
        let devices = devices();
        assert!((0..200).all(|dev| devices.insert(dev, dev, 0)));
        (0..200).step_by(2).for_each(|dev| devices.remove(dev));
        assert!((0..200).all(|dev| find(&devices, dev).is_some() == (dev % 2 == 1)));
        assert!((0..200).step_by(2).all(|dev| devices.insert(dev, dev, SUBVOLUMES)));
        assert!((0..200).all(|dev| find(&devices, dev) == Some(dev)));
    }
}
