//! Opens what an earlier process pinned: the maps with all that is marked, while the programs go on marking.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering;

use aya::maps::{HashMap, Map, MapData, Queue, RingBuf};
use ebbtide_abi::{MAX_SLOTS, RETIRED, maps, slot_of};

use super::{
    BpfError, DEVICE_PLACES, Losses, SLOT_WORDS, SlotUse, account, devices::Devices, layout, object,
    object::Options, programs,
};
use crate::probe::bitmap::{Bitmap, Recycler, slab_words};
use crate::sys::bpf::{Windows, Words};

impl super::Bpf {
    /// Takes over what [`Bpf::load`](super::Bpf::load) with these options and this `pin` left: marks of the epoch that
    /// runs, and, if its drain was not ended, of the one before.
    ///
    /// # Errors
    ///
    /// When a map or a program is not there. Nothing is changed then.
    pub fn take_over(options: &Options, pin: &Path) -> Result<Self, BpfError> {
        let chunks = options.chunks();
        let layout = layout::find(&layout::kernel_types()?)?;
        let (words, window) = slab_words(chunks);
        let slab = Windows::of_map(open(pin, maps::SLAB)?.fd().as_fd(), words, window)?;
        let cpus = object::possible_cpus();
        let bitmap = Bitmap::new(slab, chunks, cpus, |name, words| memory(pin, name, words))?;
        let devices = Devices::new(memory(pin, maps::DEVICES, DEVICE_PLACES as usize)?);
        let mut bpf = super::Bpf {
            before: account::Before::count(&bitmap)?,
            cleared: 0,
            recycler: Recycler::new(chunks),
            slots: vec![SlotUse::Free; MAX_SLOTS as usize],
            ended: None,
            resumed: None,
            states: memory(pin, maps::SLOTS, MAX_SLOTS as usize * SLOT_WORDS)?,
            devices,
            directory: take(pin, maps::DIRECTORY, Map::HashMap, HashMap::try_from)?,
            free: take(pin, maps::FREE, Map::Queue, Queue::try_from)?,
            ring: take(pin, maps::RECORDS, Map::RingBuf, RingBuf::try_from)?,
            programs: programs::Attached::of_pins(pin, layout)?,
            seen: Losses::default(),
            bitmap,
        };
        bpf.learn();
        Ok(bpf)
    }

    /// Finds out from the shared memory what the process before knew.
    fn learn(&mut self) {
        let running = self.bitmap.epoch();
        for (dev, slot) in self.devices.all() {
            self.slots[slot as usize] = SlotUse::Active(dev);
        }
        for (index, head) in (0..).zip(self.bitmap.heads()) {
            let head = head.load(Ordering::SeqCst);
            if head == 0 {
                continue;
            }
            let key = head & !RETIRED;
            let slot = &mut self.slots[slot_of(key) as usize];
            if *slot == SlotUse::Free {
                *slot = SlotUse::Dropped { since: running };
            }
            match head & RETIRED {
                0 => self.recycler.saw(index, key, running),
                _ => self.recycler.was_retired(index, key, running),
            }
        }
        let before = running.wrapping_sub(1);
        self.resumed = self.bitmap.has_marks(before).then_some(super::Epoch(before));
    }
}

fn memory(pin: &Path, name: &'static str, words: usize) -> Result<Words, BpfError> {
    let map = open(pin, name)?;
    Ok(Words::of_map(map.fd().as_fd(), words)?)
}

fn take<M>(
    pin: &Path,
    name: &'static str,
    kind: fn(MapData) -> Map,
    map: fn(Map) -> Result<M, aya::maps::MapError>,
) -> Result<M, BpfError> {
    map(kind(open(pin, name)?)).map_err(|source| BpfError::map(name, source))
}

fn open(pin: &Path, name: &'static str) -> Result<MapData, BpfError> {
    MapData::from_pin(object::pin_path(name, pin)).map_err(|source| BpfError::map(name, source))
}
