//! The programs: what each is for, whether it is attached, and what they see together.

mod link;

use std::{fmt, os::fd::AsFd, path::Path};

use aya::{
    Ebpf,
    programs::{ProgramError, ProgramFd, ProgramInfo, links::PinnedLink},
};
use aya_log::EbpfLogger;
use ebbtide_abi::{Layout, NO_FIELD};
use rustix::io::Errno;

use super::{
    error::BpfError,
    object::{self, Hooks, Loaded},
};
use crate::sys::{bpf::recursion_misses, with_causes};
use link::Link;

/// A hook: the name of a BTF tracepoint, or of a function, of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its name.
    pub name: &'static str,
    /// What it marks, for people.
    pub purpose: &'static str,
    /// What it is.
    pub place: HookPlace,
}

/// Where a program can be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPlace {
    /// At a BTF tracepoint. The program has its name.
    Tracepoint,
    /// At the entry of a function.
    Function {
        /// Name of the program for fentry.
        fentry: &'static str,
        /// Name of the program for a kprobe.
        kprobe: &'static str,
    },
    /// At the end of a function.
    FunctionEnd {
        /// Name of the program for fexit.
        fexit: &'static str,
    },
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// At a BTF tracepoint.
    Tracepoint,
    /// At a function's entry, by a call.
    Fentry,
    /// At a function's end, by a call.
    Fexit,
    /// At a function's entry, by a breakpoint or what the kernel makes of it.
    Kprobe,
}

/// A program and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it belongs.
    pub hook: Hook,
    /// Whether it is attached.
    pub state: State,
    /// How it is attached.
    pub way: Option<Way>,
}

/// What became of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is attached.
    Attached,
    /// It is not, for this reason.
    Refused(String),
}

/// What the marks of a file system show. What they do not show must be learned from fanotify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Every change of an inode: attributes, size, times, entries of a directory, and writes, at least their start.
    pub inodes: bool,
    /// Changes of extended attributes, access lists among them.
    pub extended: bool,
    /// Direct writes, marked when their bytes are in place.
    pub direct_writes: bool,
    /// Stores through shared mappings to pages that were clean.
    pub mapped: bool,
    /// What VFS tells, by the program on `fsnotify()`.
    pub told: bool,
    /// All of the above is marked while nobody listens, too, but for extended attributes: `fsnotify()` is not reached then.
    pub alone: bool,
}

impl Program {
    /// Whether it is attached.
    pub fn is_attached(&self) -> bool {
        self.state == State::Attached
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Tracepoint => "tracepoint",
            Way::Fentry => "fentry",
            Way::Fexit => "fexit",
            Way::Kprobe => "kprobe",
        })
    }
}

/// Programs that mark, until dropped.
pub(super) struct Attached {
    /// `None` when they were attached by another process.
    ebpf: Option<Ebpf>,
    /// Those that another process attached.
    found: Vec<ProgramFd>,
    /// Keep programs attached should the pins be removed.
    pinned: Vec<(&'static str, PinnedLink)>,
    list: Vec<Program>,
    links: Vec<(Hook, Link)>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    layout: Layout,
}

/// Loads every program that the kernel has a tracepoint for: first with plain loads of kernel memory; if the
/// verifier refuses any of them, all again without. Says what was refused. Those for functions come when they are attached.
pub(super) fn load(loaded: &mut Loaded) -> Result<Vec<Program>, BpfError> {
    let programs = load_each(loaded)?;
    if programs.iter().all(|(_, rejected)| !rejected) {
        return Ok(programs.into_iter().map(|(program, _)| program).collect());
    }
    loaded.without_plain_loads()?;
    Ok(load_each(loaded)?.into_iter().map(|(program, _)| program).collect())
}

/// Each program, and whether it was the verifier that refused it. Those that are loaded count as attached.
fn load_each(loaded: &mut Loaded) -> Result<Vec<(Program, bool)>, BpfError> {
    let wanted = loaded.options.hooks;
    let each = HOOKS.iter().filter(|hook| is_wanted(hook, wanted)).map(|hook| {
        let program = |state| Program { hook: *hook, state, way: None };
        let refused = |reason: &str| program(State::Refused(reason.to_owned()));
        if hook.name == EXT4_DIRECT && loaded.types.has_typedef(&format!("btf_trace_{DIRECT}")) {
            return Ok((refused("this kernel has iomap_dio_complete, which tells the same"), false));
        }
        if hook.place != HookPlace::Tracepoint {
            return Ok((program(State::Attached), false));
        }
        if !loaded.types.has_typedef(&format!("btf_trace_{}", hook.name)) {
            return Ok((refused("this kernel has no such tracepoint, or only in a module"), false));
        }
        if hook.name == XFS_FAULT && loaded.layout.xfs_vnode == NO_FIELD {
            return Ok((refused("the kernel's types do not tell where XFS keeps its inodes"), false));
        }
        Ok(match link::load_tracepoint(loaded, hook.name)? {
            Ok(()) => (program(State::Attached), false),
            Err(error) => (refused(&reason(&error)), is_rejection(&error)),
        })
    });
    each.collect()
}

fn is_wanted(hook: &Hook, wanted: Hooks) -> bool {
    let function = hook.place != HookPlace::Tracepoint;
    match wanted {
        Hooks::All => true,
        Hooks::Functions => function && hook.name != EXT4_DIRECT || hook.name == WRITEBACK,
        Hooks::Tracepoints => !function,
    }
}

impl Attached {
    /// Attaches those of `list` that are loaded, and pins them below `pin`.
    pub(super) fn attach(
        mut loaded: Loaded,
        mut list: Vec<Program>,
        pin: Option<&Path>,
    ) -> Result<Self, BpfError> {
        let logger = EbpfLogger::init(&mut loaded.ebpf).ok();
        let mut links = Vec::new();
        for entry in list.iter_mut().filter(|entry| entry.is_attached()) {
            match link::attach(&mut loaded, &entry.hook)? {
                Ok(link) => {
                    entry.way = Some(link.way());
                    links.push((entry.hook, link));
                }
                Err(reason) => entry.state = State::Refused(reason),
            }
        }
        if links.is_empty() {
            let refused = list.iter().find_map(|program| match &program.state {
                State::Refused(reason) => Some(format!("{}: {reason}", program.hook.name)),
                State::Attached => None,
            });
            return Err(BpfError::NothingAttached { first: refused.unwrap_or_default() });
        }
        let (found, pinned) = (Vec::new(), Vec::new());
        let (ebpf, layout) = (Some(loaded.ebpf), loaded.layout);
        let mut attached = Attached { ebpf, found, pinned, list, links, logger, layout };
        if let Some(dir) = pin {
            attached.pin(dir)?;
        }
        Ok(attached)
    }

    /// The programs that another process attached and pinned below `pin`.
    pub(super) fn of_pins(pin: &Path, layout: Layout) -> Result<Self, BpfError> {
        let (mut found, mut pinned) = (Vec::new(), Vec::new());
        let mut list = Vec::new();
        for hook in HOOKS {
            let link = object::pin_path(&link_name(hook.name), pin);
            let state = if link.exists() {
                pinned.push((hook.name, PinnedLink::from_pin(link).map_err(BpfError::pinned)?));
                let program = ProgramInfo::from_pin(object::pin_path(hook.name, pin));
                found.push(program.and_then(|program| program.fd()).map_err(BpfError::pinned)?);
                State::Attached
            } else {
                State::Refused("it was not attached when the programs were loaded".into())
            };
            list.push(Program { hook, state, way: None });
        }
        if pinned.is_empty() {
            return Err(BpfError::NothingAttached { first: "no program is pinned".into() });
        }
        Ok(Attached { ebpf: None, found, pinned, list, links: Vec::new(), logger: None, layout })
    }

    pub(super) fn list(&self) -> &[Program] {
        &self.list
    }

    /// Lets go of a program that is attached, and does not do what it is for.
    pub(super) fn refuse(&mut self, name: &str, reason: &str) -> Result<(), BpfError> {
        if let Some(at) = self.links.iter().position(|(hook, _)| hook.name == name) {
            let (_, link) = self.links.swap_remove(at);
            self.ebpf.as_mut().map_or(Ok(()), |ebpf| link.detach(ebpf))?;
        }
        if let Some(at) = self.pinned.iter().position(|(hook, _)| *hook == name) {
            let (_, link) = self.pinned.swap_remove(at);
            drop(link.unpin().map_err(BpfError::pinned)?);
        }
        for program in self.list.iter_mut().filter(|program| program.hook.name == name) {
            program.state = State::Refused(reason.to_owned());
        }
        Ok(())
    }

    /// See [`Coverage`].
    pub(super) fn coverage(&self, fs_type: &str) -> Coverage {
        let has = |name| self.list.iter().any(|program| program.hook.name == name && program.is_attached());
        if fs_type == "btrfs" && self.layout.btrfs_root_id == NO_FIELD {
            return Coverage::default();
        }
        let (told, ext4) = (has(VFS), fs_type == "ext4");
        let direct = ext4 && (has(DIRECT) || has(EXT4_DIRECT));
        Coverage {
            inodes: told || ext4 && has(EXT4_INODE),
            extended: told,
            direct_writes: told || direct,
            mapped: has(WRITEBACK) && !WITHOUT_WRITEBACK.contains(&fs_type),
            told,
            alone: ext4 && has(EXT4_INODE) && (direct || !told),
        }
    }

    /// Runs that the kernel refused because the program was running already on that CPU, of all programs.
    pub(super) fn misses(&self) -> u64 {
        let loaded = self.ebpf.iter().flat_map(Ebpf::programs).filter_map(|(_, program)| program.fd().ok());
        let all = loaded.chain(&self.found);
        all.filter_map(|fd| recursion_misses(fd.as_fd()).ok().flatten()).sum()
    }

    pub(super) fn log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    fn pin(&mut self, dir: &Path) -> Result<(), BpfError> {
        let Some(ebpf) = &mut self.ebpf else { return Ok(()) };
        for (Hook { name, .. }, link) in self.links.drain(..) {
            let link = link.pin(ebpf, name, dir)?;
            object::pin(&link_name(name), dir, |path| {
                self.pinned.push((name, link.pin(path)?));
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached").field("list", &self.list).finish_non_exhaustive()
    }
}

fn link_name(name: &str) -> String {
    format!("{name}_link")
}

/// Whether the verifier looked at the program and did not like it.
fn is_rejection(error: &ProgramError) -> bool {
    let ProgramError::LoadError { io_error, .. } = error else { return false };
    matches!(Errno::from_io_error(io_error), Some(Errno::ACCESS | Errno::INVAL | Errno::TOOBIG))
}

/// The error and its causes in one line; of the verifier's log what it said last.
fn reason(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let said: Vec<_> = log.lines().rev().filter(|line| !line.starts_with("processed ")).take(3).collect();
        let said = said.into_iter().rev().collect::<Vec<_>>().join("; ");
        return format!("the kernel refused to load it: {io_error}: {said}");
    }
    with_causes(error)
}

const EXT4_INODE: &str = "ext4_mark_inode_dirty";
const WRITEBACK: &str = "writeback_mark_inode_dirty";
const DIRECT: &str = "iomap_dio_complete";
const EXT4_DIRECT: &str = "ext4_dio_write_end_io";
const XFS_FAULT: &str = "xfs_write_fault";

/// The hook on all that VFS tells.
pub(super) const VFS: &str = "fsnotify";

/// File systems whose mapped pages become dirty without a word, or are another file system's.
const WITHOUT_WRITEBACK: [&str; 5] = ["tmpfs", "ramfs", "hugetlbfs", "overlay", "zfs"];

/// All hooks.
const HOOKS: [Hook; 8] = [
    Hook {
        name: VFS,
        purpose: "all that VFS tells, on every file system",
        place: HookPlace::Function { fentry: "fsnotify_fentry", kprobe: "fsnotify_kprobe" },
    },
    Hook {
        name: "aio_complete_rw",
        purpose: "writes by libaio, which VFS does not tell",
        place: HookPlace::Function { fentry: "aio_complete_rw_fentry", kprobe: "aio_complete_rw_kprobe" },
    },
    Hook {
        name: "file_update_time",
        purpose: "stores through mappings, to pages that are dirty already",
        place: HookPlace::Function { fentry: "file_update_time_fentry", kprobe: "file_update_time_kprobe" },
    },
    Hook { name: EXT4_INODE, purpose: "every change of an ext4 inode", place: HookPlace::Tracepoint },
    Hook {
        name: WRITEBACK,
        purpose: "clean pages that become dirty, through mmap too",
        place: HookPlace::Tracepoint,
    },
    Hook {
        name: DIRECT,
        purpose: "direct writes, when their bytes are on the disk",
        place: HookPlace::Tracepoint,
    },
    Hook {
        name: EXT4_DIRECT,
        purpose: "direct writes to ext4, when their bytes are on the disk, where there is no tracepoint for it",
        place: HookPlace::FunctionEnd { fexit: "ext4_dio_write_end_io_fexit" },
    },
    Hook {
        name: XFS_FAULT,
        purpose: "stores through mappings on XFS, to pages that are dirty already",
        place: HookPlace::Tracepoint,
    },
];
