//! The eBPF half of the probe: loads the programs that mark changed inodes, and drains their marks.
//!
//! One round: [`Bpf::flip`] → [`Bpf::read_ring`] and [`Bpf::old_side`] → hand over → "durable" →
//! [`Bpf::clear_old`]. Between flip and clear the old side stands still; the next flip is refused until it is
//! cleared. [`Bpf::taints`] tells where marks were lost: that is the only way to lose one.

mod account;
mod devices;
mod error;
mod layout;
mod object;
mod pinned;
mod programs;
mod record;

use std::{
    collections::BTreeMap,
    fmt,
    mem::offset_of,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use aya::maps::{HashMap, MapData, Queue, RingBuf};
use serde::{Deserialize, Serialize};

use ebbtide_abi::{CLOSES, Cpu, DEVICE_PLACES, MAX_SLOTS, Plane, SUBVOLUMES, SlotState, slot_of};

use super::bitmap::{Bitmap, Recycler, Retired};
use crate::sys::bpf::Words;

pub use super::bitmap::Marks;
pub use account::Account;
pub use error::BpfError;
pub use object::{Hooks, Object, Options, fingerprint};
pub use programs::{Coverage, Hook, HookPlace, Program, State, Way};
pub use record::{Place, Record};

/// The loaded programs and their maps. Dropping it detaches the programs.
pub struct Bpf {
    programs: programs::Attached,
    bitmap: Bitmap,
    recycler: Recycler,
    slots: Vec<SlotUse>,
    /// The epoch whose side is being drained, from flip to clear.
    ended: Option<Epoch>,
    /// The epoch whose drain the process before had not ended.
    resumed: Option<Epoch>,
    states: Words,
    devices: devices::Devices,
    directory: HashMap<MapData, u64, u32>,
    free: Queue<MapData, u32>,
    ring: RingBuf<MapData>,
    seen: Losses,
    before: account::Before,
    /// Marks that were cleared since, because what they stood for is durable.
    cleared: u64,
}

/// A device as `/proc/self/mountinfo` names it (`super_block.s_dev`; on btrfs that is not `st_dev`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dev {
    /// At most 12 bits.
    pub major: u32,
    /// At most 20 bits.
    pub minor: u32,
}

/// Index of a device whose inodes are marked, below [`MAX_SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u32);

/// One period of marking; grows by one at each flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(u64);

/// What the programs have counted since they were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events of watched devices that set their bit or found it set.
    pub marks: u64,
    /// Inodes marked for the first time in their epoch.
    pub transitions: u64,
    /// Records written to the ring.
    pub records: u64,
    /// Records that found no room in the ring: the bit stands, the name must be found otherwise.
    pub records_lost: u64,
    /// Marks lost because the slab had no chunk left.
    pub exhausted: u64,
    /// Marks lost because the epoch would not hold still.
    pub skipped: u64,
    /// Marks lost because the kernel would not run the program within itself.
    pub misses: u64,
}

/// Marks of a device were lost: what changed on it is no longer known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taint {
    /// The device.
    pub slot: Slot,
    /// What happened.
    pub reason: TaintReason,
    /// Marks lost since the last look.
    pub lost: u64,
}

/// How marks were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaintReason {
    /// The slab had no chunk left: [`Options::chunks`] is too small for what changes.
    Exhausted,
    /// The epoch would not hold still.
    Skipped,
    /// The kernel would not run the program within itself.
    Missed,
}

impl Bpf {
    /// Reads the kernel's types, loads the programs, and attaches each that the kernel has and permits.
    ///
    /// # Errors
    ///
    /// When the binary was built without programs, when the kernel's types lack a field, when maps cannot be made,
    /// or when not one program could be attached. Use fanotify alone then.
    pub fn load(options: &Options) -> Result<Self, BpfError> {
        let mut loaded = object::load(options)?;
        let list = programs::load(&mut loaded)?;
        let chunks = options.chunks();
        if let Some(dir) = &options.pin {
            object::pin_maps(&loaded.ebpf, dir)?;
        }
        let slab = object::slab(&loaded.ebpf, chunks)?;
        let bitmap =
            Bitmap::new(slab, chunks, loaded.cpus, |name, words| object::memory(&loaded.ebpf, name, words))?;
        let states = object::memory(&loaded.ebpf, ebbtide_abi::maps::SLOTS, MAX_SLOTS as usize * SLOT_WORDS)?;
        Ok(Bpf {
            before: account::Before::count(&bitmap)?,
            bitmap,
            recycler: Recycler::new(chunks),
            slots: vec![SlotUse::Free; MAX_SLOTS as usize],
            ended: None,
            resumed: None,
            states,
            devices: devices::Devices::new(object::memory(
                &loaded.ebpf,
                ebbtide_abi::maps::DEVICES,
                DEVICE_PLACES as usize,
            )?),
            directory: object::take(&mut loaded.ebpf, ebbtide_abi::maps::DIRECTORY)?,
            free: object::take(&mut loaded.ebpf, ebbtide_abi::maps::FREE)?,
            ring: object::take(&mut loaded.ebpf, ebbtide_abi::maps::RECORDS)?,
            programs: programs::Attached::attach(loaded, list, options.pin.as_deref())?,
            seen: Losses::default(),
            cleared: 0,
        })
    }

    /// Each program, and whether it is attached or why not.
    pub fn programs(&self) -> &[Program] {
        self.programs.list()
    }

    /// The programs that are not attached, each with the reason, in one line.
    pub fn refusals(&self) -> String {
        let refused = self.programs().iter().filter_map(|program| match &program.state {
            State::Attached => None,
            State::Refused(why) => Some(format!("{}: {why}", program.hook.name)),
        });
        refused.collect::<Vec<_>>().join("; ")
    }

    /// What the attached programs see on a file system of this type (`ext4`, as mountinfo names it).
    pub fn coverage(&self, fs_type: &str) -> Coverage {
        self.programs.coverage(fs_type)
    }

    /// Takes the program on `fsnotify()` away, which does not do what it is for.
    ///
    /// # Errors
    ///
    /// When the kernel does not let go of it.
    pub(super) fn refuse_vfs(&mut self, reason: &str) -> Result<(), BpfError> {
        self.programs.refuse(programs::VFS, reason)
    }

    /// Marks the inodes of this device from now on. A device that is on already keeps its slot.
    ///
    /// # Errors
    ///
    /// When all slots are in use.
    pub fn enable(&mut self, dev: Dev) -> Result<Slot, BpfError> {
        self.enable_as(dev, "")
    }

    /// The same for a device with a file system of this type. The inodes of a btrfs, whose subvolumes each have numbers
    /// of their own, are marked by [`ebbtide_abi::number_in`]; those of a tmpfs when they are closed, too.
    ///
    /// # Errors
    ///
    /// When all slots are in use.
    pub fn enable_as(&mut self, dev: Dev, fs_type: &str) -> Result<Slot, BpfError> {
        let traits = match fs_type {
            "btrfs" => SUBVOLUMES,
            "tmpfs" => CLOSES,
            _ => 0,
        };
        let key = dev.kernel();
        if let Some(slot) = self.slots.iter().position(|used| *used == SlotUse::Active(key)) {
            return Ok(Slot(slot as u32));
        }
        let slot = self.slots.iter().position(|used| *used == SlotUse::Free).ok_or(BpfError::NoSlot)? as u32;
        self.seen.exhausted[slot as usize] = self.slot_count(slot, offset_of!(SlotState, exhausted));
        if !self.devices.insert(key, slot, traits) {
            return Err(BpfError::NoSlot);
        }
        self.slots[slot as usize] = SlotUse::Active(key);
        Ok(Slot(slot))
    }

    /// The slot of a device whose inodes are marked.
    pub fn slot(&self, dev: Dev) -> Option<Slot> {
        let slot = self.slots.iter().position(|used| *used == SlotUse::Active(dev.kernel()));
        slot.map(|slot| Slot(slot as u32))
    }

    /// Stops marking the devices that are not among these.
    pub fn keep_only(&mut self, devices: &[Dev]) {
        let kept: Vec<_> = devices.iter().map(|dev| dev.kernel()).collect();
        let other = |used: &SlotUse| matches!(used, SlotUse::Active(key) if !kept.contains(key));
        let others: Vec<_> =
            (0..).zip(&self.slots).filter(|(_, used)| other(used)).map(|(slot, _)| slot).collect();
        others.into_iter().for_each(|slot| self.disable(Slot(slot)));
    }

    /// Whether the next flip yields what another process had begun to drain, and leaves the programs where they are.
    pub fn is_resumed(&self) -> bool {
        self.resumed.is_some()
    }

    /// All that is marked now, of ended epochs and of the one that runs, per device.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory to show the bitmap with.
    pub fn all_marked(&self) -> Result<BTreeMap<Slot, Marks>, BpfError> {
        let running = self.bitmap.epoch();
        let mut all = self.side(running)?;
        for (slot, marks) in self.side(running.wrapping_sub(1))? {
            let both = all.entry(slot).or_default();
            both.changed |= marks.changed;
            both.data |= marks.data;
            both.mapped |= marks.mapped;
        }
        Ok(all)
    }

    /// Stops marking a device. Its marks are dropped; its slot is used again when its chunks have come back.
    pub fn disable(&mut self, slot: Slot) {
        if let SlotUse::Active(key) = self.slots[slot.0 as usize] {
            self.devices.remove(key);
            self.slots[slot.0 as usize] = SlotUse::Dropped { since: self.bitmap.epoch() };
        }
    }

    /// Readable when records wait.
    pub fn ring_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// Gives each waiting record to `each`; how many there were. Right after a flip the ring holds all records of
    /// the epoch that ended, and may hold some of the one that runs: a record names its epoch.
    pub fn read_ring(&mut self, mut each: impl FnMut(Record<'_>)) -> usize {
        self.read_ring_bytes(|_, record| each(record))
    }

    /// The same, with the bytes of each record. It is consumed when `each` returns.
    pub fn read_ring_bytes(&mut self, mut each: impl FnMut(&[u8], Record<'_>)) -> usize {
        let mut count = 0;
        while let Some(item) = self.ring.next() {
            if let Some(record) = Record::parse(&item) {
                each(&item, record);
                count += 1;
            }
        }
        count
    }

    /// Ends the epoch: programs mark on the other side from now on, and none writes the old one any more. Returns
    /// the epoch that ended.
    ///
    /// # Errors
    ///
    /// [`BpfError::NotCleared`] when the side that would be written next was not cleared; [`BpfError::Stuck`] when
    /// a program does not end.
    pub fn flip(&mut self) -> Result<Epoch, BpfError> {
        if self.ended.is_some() {
            return Err(BpfError::NotCleared);
        }
        if let Some(ended) = self.resumed.take() {
            self.ended = Some(ended);
            self.bitmap.settle(ended.0, PATIENCE).map_err(|_stuck| BpfError::Stuck { patience: PATIENCE })?;
            return Ok(ended);
        }
        let ended = Epoch(self.bitmap.epoch());
        self.ended = Some(ended);
        self.bitmap.flip(PATIENCE).map_err(|_stuck| BpfError::Stuck { patience: PATIENCE })?;
        Ok(ended)
    }

    /// The inodes that were marked in the epoch that ended, per device. Reading changes nothing.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory to show the bitmap with.
    pub fn old_side(&self) -> Result<BTreeMap<Slot, Marks>, BpfError> {
        self.ended.map_or_else(|| Ok(BTreeMap::new()), |ended| self.side(ended.0))
    }

    fn side(&self, epoch: u64) -> Result<BTreeMap<Slot, Marks>, BpfError> {
        let mut all = BTreeMap::<Slot, Marks>::new();
        self.bitmap.read(epoch, |key, bits| {
            let slot = slot_of(key);
            if matches!(self.slots.get(slot as usize), Some(SlotUse::Active(_))) {
                let marks = all.entry(Slot(slot)).or_default();
                bits(Plane::Changed, &mut marks.changed);
                bits(Plane::Data, &mut marks.data);
                bits(Plane::Mapped, &mut marks.mapped);
            }
        })?;
        Ok(all)
    }

    /// Zeroes the old side. To be called only when all it stood for is durable.
    ///
    /// # Errors
    ///
    /// When chunks cannot be given back to the programs; the side is cleared nevertheless. When the kernel has no memory
    /// to show the bitmap with: it is not.
    pub fn clear_old(&mut self) -> Result<(), BpfError> {
        let Some(ended) = self.ended else { return Ok(()) };
        let recycler = &mut self.recycler;
        self.cleared += self.bitmap.clear(ended.0, |index, key| recycler.saw(index, key, ended.0))?;
        self.ended = None;
        self.give_back(ended)?;
        self.retire(ended)
    }

    /// What the programs have counted.
    pub fn counters(&self) -> Counters {
        let sum = |offset: usize| self.bitmap.sum(offset / WORD);
        let entered = sum(offset_of!(Cpu, enter)) + sum(offset_of!(Cpu, enter) + WORD);
        let (retries, skipped) = (sum(offset_of!(Cpu, retries)), sum(offset_of!(Cpu, skipped)));
        let exhausted =
            (0..MAX_SLOTS).map(|slot| self.slot_count(slot, offset_of!(SlotState, exhausted))).sum();
        Counters {
            marks: entered.saturating_sub(retries).saturating_sub(exhausted),
            transitions: sum(offset_of!(Cpu, transitions)),
            records: sum(offset_of!(Cpu, records)),
            records_lost: sum(offset_of!(Cpu, records_lost)),
            exhausted,
            skipped,
            misses: self.programs.misses(),
        }
    }

    /// What became of all marks.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory to show the bitmap with.
    pub fn account(&self) -> Result<Account, BpfError> {
        Ok(self.before.account(account::Count::take(&self.bitmap)?, self.cleared))
    }

    /// Marks lost since the last call, per device that is on. After one the device must be looked at as a whole,
    /// and that look must begin after this call.
    pub fn taints(&mut self) -> Vec<Taint> {
        let skipped = self.bitmap.sum(offset_of!(Cpu, skipped) / WORD);
        let misses = self.programs.misses();
        let everywhere = [
            (TaintReason::Skipped, growth(&mut self.seen.skipped, skipped)),
            (TaintReason::Missed, growth(&mut self.seen.misses, misses)),
        ];
        let mut taints = Vec::new();
        for slot in self.active() {
            let now = self.slot_count(slot.0, offset_of!(SlotState, exhausted));
            let here = (TaintReason::Exhausted, growth(&mut self.seen.exhausted[slot.0 as usize], now));
            let lost = everywhere.into_iter().chain([here]).filter(|(_, lost)| *lost > 0);
            taints.extend(lost.map(|(reason, lost)| Taint { slot, reason, lost }));
        }
        taints
    }

    /// Losses that [`Bpf::taints`] has told, for whoever takes over; see [`Bpf::set_told`].
    pub fn told(&self) -> Told {
        let Losses { skipped, misses, exhausted } = &self.seen;
        Told { skipped: *skipped, misses: *misses, exhausted: exhausted.clone() }
    }

    /// Losses that were told before, and are not told again.
    pub fn set_told(&mut self, told: &Told) {
        self.seen.skipped = told.skipped;
        self.seen.misses = told.misses;
        self.seen.exhausted.iter_mut().zip(&told.exhausted).for_each(|(seen, told)| *seen = *told);
    }

    /// Records of this device that found no room in the ring, since the programs were loaded.
    pub fn records_lost(&self, slot: Slot) -> u64 {
        self.slot_count(slot.0, offset_of!(SlotState, records_lost))
    }

    /// Passes what the programs have to say on to the log.
    pub fn log(&mut self) {
        self.programs.log();
    }

    fn active(&self) -> Vec<Slot> {
        let slots = (0..).zip(&self.slots).filter(|(_, used)| matches!(used, SlotUse::Active(_)));
        slots.map(|(slot, _)| Slot(slot)).collect()
    }

    fn give_back(&mut self, ended: Epoch) -> Result<(), BpfError> {
        for Retired { index, .. } in self.recycler.take_free(ended.0) {
            // Whoever takes over tells by this that it is not waiting any more.
            self.bitmap.vacate(index);
            self.free.push(index, 0).map_err(|source| BpfError::map("FREE", source))?;
        }
        for slot in 0..MAX_SLOTS {
            let drained = matches!(self.slots[slot as usize], SlotUse::Dropped { since } if since <= ended.0);
            if drained && !self.recycler.holds(slot) {
                self.slots[slot as usize] = SlotUse::Free;
            }
        }
        Ok(())
    }

    fn retire(&mut self, ended: Epoch) -> Result<(), BpfError> {
        let (bitmap, slots) = (&self.bitmap, &self.slots);
        let dropped = |slot: u32| matches!(slots.get(slot as usize), Some(SlotUse::Dropped { .. }));
        let retired = self.recycler.retire(ended.0 + 1, |index| bitmap.is_dirty(index), dropped);
        for Retired { index, key, .. } in retired {
            // A chunk taken in a race has no entry of its own. In this order: a program that the flag turns away
            // shall not find the entry either.
            if self.directory.get(&key, 0).is_ok_and(|found| found == index) {
                self.directory.remove(&key).map_err(|source| BpfError::map("DIRECTORY", source))?;
            }
            bitmap.retire(index);
        }
        Ok(())
    }

    fn slot_count(&self, slot: u32, offset: usize) -> u64 {
        let at = slot as usize * SLOT_WORDS + offset / WORD;
        self.states.all()[at].load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl fmt::Debug for Bpf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bpf")
            .field("programs", &self.programs())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Dev {
    /// As the kernel encodes it in `super_block.s_dev`.
    fn kernel(self) -> u32 {
        self.major << 20 | self.minor & 0xf_ffff
    }
}

impl Slot {
    /// The number.
    pub fn index(self) -> u32 {
        self.0
    }
}

impl Epoch {
    /// The half that records carry.
    pub fn low(self) -> u32 {
        // The low half is what is asked for.
        self.0 as u32
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotUse {
    Free,
    /// Of the device with this kernel number.
    Active(u32),
    /// Switched off in this epoch; its chunks are still to be taken back.
    Dropped {
        since: u64,
    },
}

/// Losses that were told, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// See [`TaintReason::Skipped`].
    pub skipped: u64,
    /// See [`TaintReason::Missed`].
    pub misses: u64,
    /// See [`TaintReason::Exhausted`]; per slot.
    pub exhausted: Vec<u64>,
}

/// Losses already told.
#[derive(Debug)]
struct Losses {
    skipped: u64,
    misses: u64,
    /// Per slot.
    exhausted: Vec<u64>,
}

impl Default for Losses {
    fn default() -> Self {
        Losses { skipped: 0, misses: 0, exhausted: vec![0; MAX_SLOTS as usize] }
    }
}

/// By how much a count has grown since it was last asked.
fn growth(seen: &mut u64, now: u64) -> u64 {
    now - std::mem::replace(seen, now).min(now)
}

const WORD: usize = size_of::<u64>();
const SLOT_WORDS: usize = size_of::<SlotState>() / WORD;

/// A program runs for microseconds; one that has not ended after this long never will.
const PATIENCE: Duration = Duration::from_secs(10);
