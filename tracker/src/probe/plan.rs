//! Which probe sees what on a file system.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which probes may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeChoice {
    /// All that the kernel permits.
    #[default]
    Auto,
    /// An eBPF program on `fsnotify()`, which sees all that VFS tells, and none of one file system's own.
    Fsnotify,
    /// eBPF programs on tracepoints, and fanotify for what they do not see.
    Tracepoints,
    /// fanotify alone, as where BPF is not permitted.
    Fanotify,
}

/// What marks changed inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// No eBPF program: fanotify tells.
    Fanotify,
    /// eBPF programs on tracepoints.
    Tracepoints,
    /// An eBPF program on `fsnotify()`.
    Fsnotify,
    /// The same on a kernel that calls `fsnotify()` only for what somebody shows interest in.
    FsnotifyArmed,
}

/// What sees a kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// A bit that an eBPF program sets.
    Ebpf,
    /// An event of fanotify.
    Fanotify,
    /// Nothing.
    Nothing,
}

/// How one file system is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Such as `ext4`.
    pub fs_type: String,
    /// Such as `/dev/sda1`.
    pub device: String,
    /// `major:minor` of the super block.
    pub dev: String,
    /// What marks its inodes.
    pub probe: Probe,
    /// Creations, removals and renames.
    pub names: Via,
    /// Written content.
    pub content: Via,
    /// Mode, owner, times.
    pub attributes: Via,
    /// Extended attributes, access lists among them.
    pub extended: Via,
    /// Stores through a shared mapping.
    pub mapped: Via,
    /// Directories whose entries change, as inodes: what finds them again when name events were lost. Without a bit for
    /// each, only a look at the whole tree does.
    pub directories: Via,
    /// Inodes are marked while nobody listens through fanotify, too.
    pub alone: bool,
    /// Why it is not more, and what stays unseen.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether eBPF programs tell anything of it.
    pub fn uses_ebpf(&self) -> bool {
        [self.content, self.attributes, self.mapped, self.directories].contains(&Via::Ebpf)
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Via::Ebpf => "eBPF",
            Via::Fanotify => "fanotify",
            Via::Nothing => "not seen",
        })
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Probe::Fanotify => "fanotify",
            Probe::Tracepoints => "tracepoints",
            Probe::Fsnotify => "fsnotify",
            Probe::FsnotifyArmed => "fsnotify (armed)",
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { fs_type, device, dev, probe, names, content, attributes, mapped, .. } = self;
        write!(f, "{fs_type} on {device} ({dev}): by {probe}: names {names}, content {content}, ")?;
        write!(f, "attributes {attributes}, mmap {mapped}")
    }
}
