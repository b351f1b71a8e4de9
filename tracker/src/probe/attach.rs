//! The eBPF half as the tracker uses it: devices become file systems, records become hints.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::bpf::{
    self, Account, Bpf, BpfError, Coverage, Dev, Hooks, Options, Place, Record, Slot, State, TaintReason,
    Told,
};
use super::marks::{Marks, MarksLost};
use super::names::Arming;
use super::pins::Pins;
use super::plan::{Plan, Probe, ProbeChoice, Via};
use super::prove;
use crate::engine::Marked;
use crate::id::{Fs, Generation, HandleForm, Ino, Name};
use crate::resolve::Bits;
use crate::sys::{self, SysError, with_causes};

/// A file system that shall be marked.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// Its super block's number.
    pub dev: (u32, u32),
    /// The form of its handles.
    pub form: HandleForm,
}

/// Loads the programs of `choice`, and marks the inodes of each of these file systems that they see anything of. The plans,
/// in the same order, are changed to what came of it. `None` when there is nothing to gain.
///
/// With pins the programs go on when this process ends, and what another one left there is taken over; `told` is what
/// that one knew of losses.
pub fn attach(
    plans: &mut [Plan],
    devices: &[Device],
    choice: ProbeChoice,
    pins: Option<(&mut Pins, &Told)>,
) -> Option<Box<dyn Marks>> {
    let Some(hooks) = choice.hooks() else {
        plans.iter_mut().for_each(|plan| plan.notes.push("fanotify alone was asked for".into()));
        return None;
    };
    match Attached::new(plans, devices, hooks, pins) {
        Ok(attached) => attached.map(|attached| Box::new(attached) as Box<dyn Marks>),
        Err(e) => {
            let why = format!("eBPF is not used: {}", with_causes(&e));
            plans.iter_mut().for_each(|plan| plan.notes.push(why.clone()));
            None
        }
    }
}

/// An eBPF program, and what came of attaching it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Its tracepoint or function.
    pub program: String,
    /// What it marks.
    pub purpose: String,
    /// How it is attached.
    pub way: Option<String>,
    /// Why the kernel does not permit it; `None` when it is attached.
    pub refused: Option<String>,
}

/// Attaches every program, looks what came of it, and lets go again.
///
/// # Errors
/// As [`Bpf::load`].
pub fn try_programs() -> Result<Vec<Tried>, BpfError> {
    let mut bpf = Bpf::load(&Options::of_this_process())?;
    prove(&mut bpf)?;
    let tried = bpf.programs().iter().map(|tried| Tried {
        program: tried.hook.name.into(),
        purpose: tried.hook.purpose.into(),
        way: tried.way.map(|way| way.to_string()),
        refused: match &tried.state {
            State::Attached => None,
            State::Refused(why) => Some(why.clone()),
        },
    });
    Ok(tried.collect())
}

/// If the program on `fsnotify()` is attached and proves to see nothing, it is let go; otherwise the kernel may need arming.
fn prove(bpf: &mut Bpf) -> Result<Arming, BpfError> {
    if !bpf.coverage("").told {
        return Ok(Arming::None);
    }
    match prove::fires(bpf) {
        Ok(arming) => Ok(arming),
        Err(why) => {
            bpf.refuse_vfs(&why)?;
            Ok(Arming::None)
        }
    }
}

struct Attached {
    bpf: Bpf,
    /// A file system that is seen through several mounts is there once for each.
    slots: BTreeMap<Slot, Vec<(Fs, HandleForm)>>,
    ended: BTreeMap<Fs, Bits>,
    /// By file system: whether its marks were taken over, or why not.
    kept: Vec<Result<(), String>>,
}

impl Attached {
    fn new(
        plans: &mut [Plan],
        devices: &[Device],
        hooks: Hooks,
        mut pins: Option<(&mut Pins, &Told)>,
    ) -> Result<Option<Self>, BpfError> {
        let options = Options { hooks, ..Options::of_this_process() };
        let (mut bpf, taken) = match &mut pins {
            None => (Bpf::load(&options)?, Err("nothing is kept".to_owned())),
            Some((pins, told)) => match take_over(&options, pins, told) {
                Ok(bpf) => (bpf, Ok(())),
                Err(why) => (load_pinned(options, pins, plans)?, Err(why)),
            },
        };
        let arming = prove(&mut bpf)?;
        let devs: Vec<_> = devices.iter().map(|device| Dev::from(*device)).collect();
        bpf.keep_only(&devs);
        let marked = |dev: &Dev| bpf.slot(*dev).map(drop).ok_or("it was not watched before".to_owned());
        let kept = devs.iter().map(|dev| taken.clone().and_then(|()| marked(dev))).collect();
        let mut slots = BTreeMap::<Slot, Vec<_>>::new();
        for (fs, (plan, device)) in plans.iter_mut().zip(devices).enumerate() {
            // tmpfs finds nothing by a handle that nobody asked for: fanotify asks for those that it tells, a program cannot.
            let findable = device.form != HandleForm::Shmem;
            let coverage = if findable { bpf.coverage(&plan.fs_type) } else { Coverage::default() };
            improve(plan, coverage, arming);
            if coverage != Coverage::default() {
                let slot = bpf.enable_as(Dev::from(*device), &plan.fs_type)?;
                slots.entry(slot).or_default().push((Fs(fs), device.form));
            }
        }
        let attached = Attached { bpf, slots, ended: BTreeMap::new(), kept };
        if !attached.slots.is_empty() {
            return Ok(Some(attached));
        }
        if let Some((pins, _)) = pins {
            let _ = pins.remove();
        }
        Ok(None)
    }

    fn of_fs(&self, fs: Fs) -> Option<Slot> {
        self.slots.iter().find(|(_, used)| used.iter().any(|(of, _)| *of == fs)).map(|(slot, _)| *slot)
    }
}

fn take_over(options: &Options, pins: &Pins, told: &Told) -> Result<Bpf, String> {
    let fingerprint = bpf::fingerprint(options).map_err(|e| with_causes(&e))?;
    let dir = pins.find(fingerprint)?;
    let mut bpf = Bpf::take_over(options, &dir).map_err(|e| with_causes(&e))?;
    bpf.set_told(told);
    Ok(bpf)
}

/// Loads anew. Without pins it is not worse off than before, until it ends.
fn load_pinned(mut options: Options, pins: &mut Pins, plans: &mut [Plan]) -> Result<Bpf, BpfError> {
    let fingerprint = bpf::fingerprint(&options)?;
    pins.begin_session();
    let pinned = |e: &dyn std::error::Error| {
        format!("what is marked will not outlive this process: {}", with_causes(e))
    };
    let why = match pins.prepare() {
        Ok(dir) => {
            options.pin = Some(dir);
            match Bpf::load(&options) {
                Ok(bpf) => match pins.commit(fingerprint) {
                    Ok(()) => return Ok(bpf),
                    Err(e) => pinned(&e),
                },
                Err(e @ BpfError::Pin { .. }) => pinned(&e),
                Err(e) => return Err(e),
            }
        }
        Err(e) => pinned(&e),
    };
    let _ = pins.remove();
    plans.iter_mut().for_each(|plan| plan.notes.push(why.clone()));
    options.pin = None;
    Bpf::load(&options)
}

impl From<Device> for Dev {
    fn from(device: Device) -> Self {
        Dev { major: device.dev.0, minor: device.dev.1 }
    }
}

fn all_bits(marks: bpf::Marks) -> Bits {
    Bits { changed: marks.changed, data: marks.data, mapped: marks.mapped }
}

impl Marks for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bpf.ring_fd()
    }

    fn read(
        &mut self,
        keep: &mut dyn FnMut(u64, &[u8]),
        note: &mut dyn FnMut(Fs, Marked),
    ) -> sys::Result<()> {
        let slots = &self.slots;
        self.bpf.read_ring_bytes(|bytes, record| {
            keep(u64::from(record.epoch), bytes);
            for (fs, form) in slots.get(&record.slot).into_iter().flatten() {
                note(*fs, marked(*form, &record));
            }
        });
        self.bpf.log();
        Ok(())
    }

    fn parse(&self, record: &[u8]) -> Vec<(Fs, Marked)> {
        let Some(record) = Record::parse(record) else { return Vec::new() };
        let used = self.slots.get(&record.slot).into_iter().flatten();
        used.map(|(fs, form)| (*fs, marked(*form, &record))).collect()
    }

    fn is_kept(&self, fs: Fs) -> Result<(), String> {
        self.kept[fs.0].clone()
    }

    fn is_resumed(&self) -> bool {
        self.bpf.is_resumed()
    }

    fn all_marked(&self, fs: Fs) -> sys::Result<Bits> {
        let Some(slot) = self.of_fs(fs) else { return Ok(Bits::default()) };
        let mut marked = self.bpf.all_marked().map_err(failed("look at the bitmap"))?;
        Ok(marked.remove(&slot).map(all_bits).unwrap_or_default())
    }

    fn flip(&mut self) -> sys::Result<u64> {
        let ended = self.bpf.flip().map_err(failed("flip of the bitmap"))?;
        let sides = self.bpf.old_side().map_err(failed("look at the bitmap"))?.into_iter();
        let slots = &self.slots;
        self.ended = sides
            .flat_map(|(slot, marks)| {
                let bits = all_bits(marks);
                slots.get(&slot).into_iter().flatten().map(move |(fs, _)| (*fs, bits.clone()))
            })
            .collect();
        Ok(u64::from(ended.low()))
    }

    fn bits(&mut self, fs: Fs) -> Bits {
        self.ended.remove(&fs).unwrap_or_default()
    }

    fn forget(&mut self) -> sys::Result<()> {
        self.bpf.clear_old().map_err(failed("clearing of the bitmap"))
    }

    fn seen(&self) -> u64 {
        self.bpf.counters().marks
    }

    fn account(&self) -> sys::Result<Account> {
        self.bpf.account().map_err(failed("look at the bitmap"))
    }

    fn all_lost(&self) -> (u64, u64) {
        let counters = self.bpf.counters();
        (counters.exhausted + counters.skipped + counters.misses, counters.records_lost)
    }

    fn told(&self) -> Told {
        self.bpf.told()
    }

    fn lost(&mut self) -> Vec<MarksLost> {
        let taints = self.bpf.taints().into_iter();
        let slots = &self.slots;
        taints
            .flat_map(|taint| {
                tracing::error!(reason = ?taint.reason, lost = taint.lost, "marks were lost");
                let full = taint.reason == TaintReason::Exhausted;
                slots
                    .get(&taint.slot)
                    .into_iter()
                    .flatten()
                    .map(move |(fs, _)| MarksLost { fs: Some(*fs), full })
            })
            .collect()
    }
}

/// What the programs see, fanotify need not tell.
fn improve(plan: &mut Plan, coverage: Coverage, arming: Arming) {
    let writes = coverage.inodes && coverage.direct_writes;
    plan.probe = match (coverage.told, arming) {
        (true, Arming::None) => Probe::Fsnotify,
        (true, Arming::Ignored) => Probe::FsnotifyArmed,
        (false, _) if coverage == Coverage::default() => Probe::Fanotify,
        (false, _) => Probe::Tracepoints,
    };
    plan.alone = coverage.alone;
    if coverage.inodes {
        plan.attributes = Via::Ebpf;
        plan.directories = Via::Ebpf;
    }
    if coverage.extended {
        plan.extended = Via::Ebpf;
    }
    if writes {
        plan.content = Via::Ebpf;
    }
    if coverage.mapped {
        plan.mapped = Via::Ebpf;
    }
    if !coverage.inodes {
        plan.notes.push(format!(
            "no eBPF program sees the inodes of {}: fanotify tells content and attributes",
            plan.fs_type
        ));
    } else if !writes {
        plan.notes.push("not every eBPF program for writes is attached: fanotify tells content".into());
    }
}

fn marked(form: HandleForm, record: &Record<'_>) -> Marked {
    let entry = match record.place {
        Place::In { parent_ino, parent_generation, name } if !record.torn => {
            form.encode(Ino(parent_ino), Generation(parent_generation)).zip(Name::new(name))
        }
        _ => None,
    };
    Marked {
        ino: Ino(record.ino),
        generation: Generation(record.generation),
        epoch: u64::from(record.epoch),
        directory: u32::from(record.mode) & libc::S_IFMT == libc::S_IFDIR,
        nlink: record.nlink,
        incomplete: record.more || record.torn,
        nameless: matches!(record.place, Place::Nameless),
        entries: entry.into_iter().collect(),
    }
}

impl ProbeChoice {
    /// The eBPF programs that may be used; `None` for none.
    fn hooks(self) -> Option<Hooks> {
        match self {
            ProbeChoice::Auto => Some(Hooks::All),
            ProbeChoice::Fsnotify => Some(Hooks::Functions),
            ProbeChoice::Tracepoints => Some(Hooks::Tracepoints),
            ProbeChoice::Fanotify => None,
        }
    }
}

fn failed(call: &'static str) -> impl Fn(BpfError) -> SysError {
    move |error| SysError::new(call, std::io::Error::other(with_causes(&error)))
}
