//! Capabilities, and giving them up on the way into the sender.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Gid, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{Named, Result};

/// The capabilities that this process can use.
///
/// # Errors
/// As `capget(2)`.
pub fn effective() -> Result<CapabilitySet> {
    Ok(rustix::thread::capabilities(None).named("capget")?.effective)
}

/// Lets `command` run as this user and group with CAP_DAC_READ_SEARCH and no other capability, nothing to gain by
/// executing set-user-ID programs, and an end when we end.
///
/// Where this process lacks the right to change users, the command starts as the same user; a capability that we do
/// not have is not handed on.
pub fn confine(command: &mut Command, uid: u32, gid: u32) {
    let drop = move || -> io::Result<()> {
        drop_to(Uid::from_raw(uid), Gid::from_raw(gid)).map_err(io::Error::from)
    };
    // SAFETY: `drop` runs between fork and exec. It makes system calls only, without allocating or taking locks.
    unsafe { command.pre_exec(drop) };
}

fn drop_to(uid: Uid, gid: Gid) -> rustix::io::Result<()> {
    use rustix::thread;
    const KEPT: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;
    let had = thread::capabilities(None)?;
    if had.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(KEPT).iter() {
            // Unknown to an older kernel: nothing to remove.
            let _ = thread::remove_capability_from_bounding_set(capability);
        }
    }
    if had.effective.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        thread::set_keep_capabilities(true)?;
        thread::set_thread_groups(&[])?;
        thread::set_thread_res_gid(gid, gid, gid)?;
        thread::set_thread_res_uid(uid, uid, uid)?;
    }
    let kept = KEPT & had.permitted;
    thread::set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: kept })?;
    if !kept.is_empty() {
        thread::configure_capability_in_ambient_set(kept, true)?;
    }
    thread::set_no_new_privs(true)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confined_child_keeps_one_capability_and_can_gain_none() {
        if !effective().unwrap().contains(CapabilitySet::SETUID | CapabilitySet::SETPCAP) {
            return;
        }
        let mut command = Command::new("cat");
        command.arg("/proc/self/status");
        confine(&mut command, 65534, 65534);
        let status = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let field = |name: &str| {
            status.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned()).unwrap()
        };
        // CAP_DAC_READ_SEARCH is bit 2.
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000004", "{set}");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        assert_eq!(field("Uid:").split_whitespace().next(), Some("65534"));
        assert_eq!(field("Groups:"), "");
    }
}
