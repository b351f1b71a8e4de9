//! The programs: what each is for, whether it is attached, and what they see together.

use std::{fmt, os::fd::AsFd, path::Path};

use aya::{
    Ebpf,
    programs::{
        BtfTracePoint, ProgramError, ProgramFd, ProgramInfo,
        links::{FdLink, PinnedLink},
        tp_btf::BtfTracePointLinkId,
    },
};
use aya_log::EbpfLogger;
use rustix::io::Errno;

use super::{
    error::BpfError,
    object::{self, Loaded},
};
use crate::sys::{bpf::recursion_misses, with_causes};

/// A hook: the name of a BTF tracepoint and of the program for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its name.
    pub name: &'static str,
    /// What it marks, for people.
    pub purpose: &'static str,
}

/// A program and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it belongs.
    pub hook: Hook,
    /// Whether it is attached.
    pub state: State,
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
    /// Every change of an inode: attributes, size, times, entries of a directory, and the start of writes. Not
    /// extended attributes, access lists among them: fanotify's `FAN_ATTRIB` tells those.
    pub inodes: bool,
    /// Direct writes, marked when their bytes are in place.
    pub direct_writes: bool,
    /// Stores through shared mappings to pages that were clean.
    pub mapped: bool,
}

impl Program {
    /// Whether it is attached.
    pub fn is_attached(&self) -> bool {
        self.state == State::Attached
    }
}

/// Programs that mark, until dropped.
pub(super) struct Attached {
    /// `None` when they were attached by another process.
    ebpf: Option<Ebpf>,
    /// Those that another process attached.
    found: Vec<ProgramFd>,
    /// Keep programs attached should the pins be removed.
    pinned: Vec<PinnedLink>,
    list: Vec<Program>,
    links: Vec<(Hook, BtfTracePointLinkId)>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
}

/// Loads every program that the kernel has a tracepoint for: first with plain loads of kernel memory; if the
/// verifier refuses any of them, all again without. Says what was refused.
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
    let each = HOOKS.iter().map(|hook| {
        if !loaded.types.has_typedef(&format!("btf_trace_{}", hook.name)) {
            let reason = "this kernel has no such tracepoint, or only in a module".to_owned();
            return Ok((Program { hook: *hook, state: State::Refused(reason) }, false));
        }
        let program = program(&mut loaded.ebpf, hook.name)?;
        Ok(match program.load(hook.name, &loaded.btf) {
            Ok(()) => (Program { hook: *hook, state: State::Attached }, false),
            Err(error) => {
                let rejected = is_rejection(&error);
                (Program { hook: *hook, state: State::Refused(reason(&error)) }, rejected)
            }
        })
    });
    each.collect()
}

impl Attached {
    /// Attaches those of `list` that are loaded, and pins them below `pin`.
    pub(super) fn attach(
        loaded: Loaded,
        mut list: Vec<Program>,
        pin: Option<&Path>,
    ) -> Result<Self, BpfError> {
        let mut ebpf = loaded.ebpf;
        let logger = EbpfLogger::init(&mut ebpf).ok();
        let mut links = Vec::new();
        for entry in list.iter_mut().filter(|entry| entry.is_attached()) {
            match program(&mut ebpf, entry.hook.name)?.attach() {
                Ok(link) => links.push((entry.hook, link)),
                Err(error) => entry.state = State::Refused(reason(&error)),
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
        let mut attached = Attached { ebpf: Some(ebpf), found, pinned, list, links, logger };
        if let Some(dir) = pin {
            attached.pin(dir)?;
        }
        Ok(attached)
    }

    /// The programs that another process attached and pinned below `pin`.
    pub(super) fn of_pins(pin: &Path) -> Result<Self, BpfError> {
        let (mut found, mut pinned) = (Vec::new(), Vec::new());
        let mut list = Vec::new();
        for hook in HOOKS {
            let link = object::pin_path(&link_name(hook.name), pin);
            let state = if link.exists() {
                pinned.push(PinnedLink::from_pin(link).map_err(BpfError::pinned)?);
                let program = ProgramInfo::from_pin(object::pin_path(hook.name, pin));
                found.push(program.and_then(|program| program.fd()).map_err(BpfError::pinned)?);
                State::Attached
            } else {
                State::Refused("it was not attached when the programs were loaded".into())
            };
            list.push(Program { hook, state });
        }
        if pinned.is_empty() {
            return Err(BpfError::NothingAttached { first: "no program is pinned".into() });
        }
        Ok(Attached { ebpf: None, found, pinned, list, links: Vec::new(), logger: None })
    }

    pub(super) fn list(&self) -> &[Program] {
        &self.list
    }

    /// See [`Coverage`].
    pub(super) fn coverage(&self, fs_type: &str) -> Coverage {
        let has = |name| self.list.iter().any(|program| program.hook.name == name && program.is_attached());
        let mapped = has(WRITEBACK);
        if fs_type != "ext4" {
            return Coverage { mapped, ..Coverage::default() };
        }
        Coverage { inodes: has(EXT4_INODE), direct_writes: has(DIRECT), mapped }
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
            let program = program(ebpf, name)?;
            object::pin(name, dir, |path| program.pin(path))?;
            let link = program.take_link(link).map_err(|error| BpfError::Load(Box::new(error.into())))?;
            let link = FdLink::from(link);
            object::pin(&link_name(name), dir, |path| {
                self.pinned.push(link.pin(path)?);
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

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut BtfTracePoint, BpfError> {
    let program = ebpf.program_mut(name).and_then(|program| program.try_into().ok());
    program.ok_or(BpfError::Missing { what: "program", name })
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

/// All hooks; the programs have the same names.
const HOOKS: [Hook; 3] = [
    Hook { name: EXT4_INODE, purpose: "every change of an ext4 inode" },
    Hook { name: WRITEBACK, purpose: "clean pages that become dirty, through mmap too" },
    Hook { name: DIRECT, purpose: "direct writes, when their bytes are on the disk" },
];
