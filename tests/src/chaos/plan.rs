//! What watches the source of a run, and whether this machine permits more.
#![expect(unsafe_code, reason = "no safe interface asks the kernel for a BPF map and nothing else")]

use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

use serde_json::Value;

use crate::Kind;

/// In a few words, of a plan as `ebbtide status --json` has it.
pub(super) fn describe(plan: &Value) -> String {
    let via = |what: &str| format!("{what} by {}", plan[what].as_str().unwrap_or("nothing"));
    let parts = ["names", "content", "attributes", "mapped", "directories"].map(via);
    format!("probe {}, {}", plan["probe"].as_str().unwrap_or("unknown"), parts.join(", "))
}

/// What is not seen by eBPF although a kernel that permits BPF at all lets it be.
pub(super) fn lacks(kind: Kind, plan: &Value) -> Option<String> {
    let all: &[&str] = match kind {
        Kind::Ext4 => &["content", "attributes", "mapped", "directories"],
        Kind::Xfs | Kind::Btrfs => &["mapped"],
        Kind::Tmpfs => &[],
    };
    let lacking: Vec<&str> = all.iter().copied().filter(|what| plan[*what] != "ebpf").collect();
    (!lacking.is_empty() && permits_bpf()).then(|| {
        format!(
            "this machine permits BPF, and eBPF sees none of {}: {}\n{:#}",
            lacking.join(", "),
            describe(plan),
            plan["notes"]
        )
    })
}

/// Whether the kernel tells its types, which the programs need, and lets us have a map.
fn permits_bpf() -> bool {
    Path::new("/sys/kernel/btf/vmlinux").exists() && map().is_some()
}

/// A map of one number. Kernel: `include/uapi/linux/bpf.h`, the part of `bpf_attr` for `BPF_MAP_CREATE`.
fn map() -> Option<OwnedFd> {
    #[repr(C)]
    struct Create {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    }
    const MAP_CREATE: libc::c_int = 0;
    const ARRAY: u32 = 2;
    let create = Create { map_type: ARRAY, key_size: 4, value_size: 4, max_entries: 1 };
    // SAFETY: the kernel reads as many bytes as it is told there are.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, MAP_CREATE, &raw const create, size_of::<Create>()) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made it for us.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
