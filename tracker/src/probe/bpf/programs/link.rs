//! One program's tie to its hook, in each of the ways there are.

use std::path::Path;

use aya::{
    Ebpf,
    programs::{
        BtfTracePoint, FEntry, FExit, KProbe, Program, ProgramError, fentry::FEntryLinkId,
        fexit::FExitLinkId, kprobe::KProbeLinkId, links::FdLink, tp_btf::BtfTracePointLinkId,
    },
};

use super::{Hook, HookPlace, Way, reason};
use crate::probe::bpf::{
    error::BpfError,
    object::{self, Loaded},
};

/// What holds a program at its hook; the program's name comes with it.
pub(super) enum Link {
    Tracepoint(&'static str, BtfTracePointLinkId),
    Fentry(&'static str, FEntryLinkId),
    Fexit(&'static str, FExitLinkId),
    Kprobe(&'static str, KProbeLinkId),
}

/// Loads the program of a tracepoint.
pub(super) fn load_tracepoint(
    loaded: &mut Loaded,
    name: &'static str,
) -> Result<Result<(), ProgramError>, BpfError> {
    let btf = &loaded.btf;
    Ok(program::<BtfTracePoint>(&mut loaded.ebpf, name)?.load(name, btf))
}

/// Attaches the program of a hook: a loaded one to its tracepoint, or one of those for a function, which is loaded for
/// that; or tells why not.
pub(super) fn attach(loaded: &mut Loaded, hook: &Hook) -> Result<Result<Link, String>, BpfError> {
    match hook.place {
        HookPlace::Tracepoint => {
            let attached = program::<BtfTracePoint>(&mut loaded.ebpf, hook.name)?.attach();
            Ok(attached.map(|id| Link::Tracepoint(hook.name, id)).map_err(|e| reason(&e)))
        }
        HookPlace::FunctionEnd { fexit } => Ok(by_fexit(loaded, hook.name, fexit)?.map_err(|e| reason(&e))),
        HookPlace::Function { fentry, kprobe } => {
            let by_call = match by_fentry(loaded, hook.name, fentry)? {
                Ok(link) => return Ok(Ok(link)),
                Err(error) => error,
            };
            Ok(by_kprobe(loaded, hook.name, kprobe)?
                .map_err(|error| format!("by fentry: {}; by kprobe: {}", reason(&by_call), reason(&error))))
        }
    }
}

fn by_fentry(
    loaded: &mut Loaded,
    function: &str,
    name: &'static str,
) -> Result<Result<Link, ProgramError>, BpfError> {
    let btf = &loaded.btf;
    let fentry = program::<FEntry>(&mut loaded.ebpf, name)?;
    let attached = fentry.load(function, btf).and_then(|()| fentry.attach());
    Ok(attached.map(|id| Link::Fentry(name, id)))
}

fn by_fexit(
    loaded: &mut Loaded,
    function: &str,
    name: &'static str,
) -> Result<Result<Link, ProgramError>, BpfError> {
    let btf = &loaded.btf;
    let fexit = program::<FExit>(&mut loaded.ebpf, name)?;
    let attached = fexit.load(function, btf).and_then(|()| fexit.attach());
    Ok(attached.map(|id| Link::Fexit(name, id)))
}

fn by_kprobe(
    loaded: &mut Loaded,
    function: &str,
    name: &'static str,
) -> Result<Result<Link, ProgramError>, BpfError> {
    let kprobe = program::<KProbe>(&mut loaded.ebpf, name)?;
    let attached = kprobe.load().and_then(|()| kprobe.attach(function, 0));
    Ok(attached.map(|id| Link::Kprobe(name, id)))
}

impl Link {
    pub(super) fn way(&self) -> Way {
        match self {
            Link::Tracepoint(..) => Way::Tracepoint,
            Link::Fentry(..) => Way::Fentry,
            Link::Fexit(..) => Way::Fexit,
            Link::Kprobe(..) => Way::Kprobe,
        }
    }

    pub(super) fn detach(self, ebpf: &mut Ebpf) -> Result<(), BpfError> {
        let detached = match self {
            Link::Tracepoint(name, id) => program::<BtfTracePoint>(ebpf, name)?.detach(id),
            Link::Fentry(name, id) => program::<FEntry>(ebpf, name)?.detach(id),
            Link::Fexit(name, id) => program::<FExit>(ebpf, name)?.detach(id),
            Link::Kprobe(name, id) => program::<KProbe>(ebpf, name)?.detach(id),
        };
        detached.map_err(failed)
    }

    /// Pins the program below `dir`, under the hook's name, and gives the link, to be pinned beside it.
    pub(super) fn pin(self, ebpf: &mut Ebpf, hook: &str, dir: &Path) -> Result<FdLink, BpfError> {
        Ok(match self {
            Link::Tracepoint(name, id) => {
                let program = program::<BtfTracePoint>(ebpf, name)?;
                object::pin(hook, dir, |path| program.pin(path))?;
                FdLink::from(program.take_link(id).map_err(failed)?)
            }
            Link::Fentry(name, id) => {
                let program = program::<FEntry>(ebpf, name)?;
                object::pin(hook, dir, |path| program.pin(path))?;
                FdLink::from(program.take_link(id).map_err(failed)?)
            }
            Link::Fexit(name, id) => {
                let program = program::<FExit>(ebpf, name)?;
                object::pin(hook, dir, |path| program.pin(path))?;
                FdLink::from(program.take_link(id).map_err(failed)?)
            }
            Link::Kprobe(name, id) => {
                let program = program::<KProbe>(ebpf, name)?;
                object::pin(hook, dir, |path| program.pin(path))?;
                let link = program.take_link(id).map_err(failed)?;
                // Before Linux 5.15 a kprobe is no link of its own; fanotify needs a newer kernel anyway.
                FdLink::try_from(link).map_err(|_| BpfError::Missing { what: "link of", name })?
            }
        })
    }
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, BpfError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    let program = ebpf.program_mut(name).and_then(|program| program.try_into().ok());
    program.ok_or(BpfError::Missing { what: "program", name })
}

fn failed(error: ProgramError) -> BpfError {
    BpfError::Load(Box::new(error.into()))
}
