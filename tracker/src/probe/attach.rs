//! The eBPF half as the tracker uses it: devices become file systems, records become hints.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::bpf::{Account, Bpf, BpfError, Coverage, Dev, Options, Place, Record, Slot, State, TaintReason};
use super::marks::{Marks, MarksLost};
use super::plan::{Plan, Via};
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

/// Loads the programs, and marks the inodes of each of these file systems that they see anything of. The plans, in the
/// same order, are changed to what came of it. `None` when there is nothing to gain.
pub fn attach(plans: &mut [Plan], devices: &[Device]) -> Option<Box<dyn Marks>> {
    match Attached::new(plans, devices) {
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
    /// Its tracepoint.
    pub program: String,
    /// What it marks.
    pub purpose: String,
    /// Why the kernel does not permit it; `None` when it is attached.
    pub refused: Option<String>,
}

/// Attaches every program, looks what came of it, and lets go again.
///
/// # Errors
/// As [`Bpf::load`].
pub fn try_programs() -> Result<Vec<Tried>, BpfError> {
    let bpf = Bpf::load(&Options::of_this_process())?;
    let tried = bpf.programs().iter().map(|tried| Tried {
        program: tried.hook.name.into(),
        purpose: tried.hook.purpose.into(),
        refused: match &tried.state {
            State::Attached => None,
            State::Refused(why) => Some(why.clone()),
        },
    });
    Ok(tried.collect())
}

struct Attached {
    bpf: Bpf,
    slots: BTreeMap<Slot, (Fs, HandleForm)>,
    ended: BTreeMap<Fs, Bits>,
}

impl Attached {
    fn new(plans: &mut [Plan], devices: &[Device]) -> Result<Option<Self>, BpfError> {
        let mut bpf = Bpf::load(&Options::of_this_process())?;
        let mut slots = BTreeMap::new();
        for (fs, (plan, device)) in plans.iter_mut().zip(devices).enumerate() {
            let coverage = bpf.coverage(&plan.fs_type);
            improve(plan, coverage);
            if coverage != Coverage::default() {
                let slot = bpf.enable(Dev { major: device.dev.0, minor: device.dev.1 })?;
                slots.insert(slot, (Fs(fs), device.form));
            }
        }
        let attached = Attached { bpf, slots, ended: BTreeMap::new() };
        Ok(if attached.slots.is_empty() { None } else { Some(attached) })
    }
}

impl Marks for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bpf.ring_fd()
    }

    fn read(&mut self, note: &mut dyn FnMut(Fs, Marked)) -> sys::Result<()> {
        let slots = &self.slots;
        self.bpf.read_ring(|record| {
            if let Some((fs, form)) = slots.get(&record.slot) {
                note(*fs, marked(*form, &record));
            }
        });
        self.bpf.log();
        Ok(())
    }

    fn flip(&mut self) -> sys::Result<u64> {
        let ended = self.bpf.flip().map_err(failed("flip of the bitmap"))?;
        let sides = self.bpf.old_side().into_iter();
        let slots = &self.slots;
        self.ended = sides
            .filter_map(|(slot, marks)| {
                let (fs, _) = slots.get(&slot)?;
                Some((*fs, Bits { changed: marks.changed, data: marks.data, mapped: marks.mapped }))
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

    fn account(&self) -> Account {
        self.bpf.account()
    }

    fn all_lost(&self) -> (u64, u64) {
        let counters = self.bpf.counters();
        (counters.exhausted + counters.skipped + counters.misses, counters.records_lost)
    }

    fn lost(&mut self) -> Vec<MarksLost> {
        let taints = self.bpf.taints().into_iter();
        let slots = &self.slots;
        taints
            .filter_map(|taint| {
                let (fs, _) = slots.get(&taint.slot)?;
                tracing::error!(reason = ?taint.reason, lost = taint.lost, "marks were lost");
                Some(MarksLost { fs: Some(*fs), full: taint.reason == TaintReason::Exhausted })
            })
            .collect()
    }
}

/// What the programs see, fanotify need not tell.
fn improve(plan: &mut Plan, coverage: Coverage) {
    let writes = coverage.inodes && coverage.direct_writes;
    if coverage.inodes {
        plan.attributes = Via::Ebpf;
        plan.directories = Via::Ebpf;
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

fn failed(call: &'static str) -> impl Fn(BpfError) -> SysError {
    move |error| SysError::new(call, std::io::Error::other(with_causes(&error)))
}
