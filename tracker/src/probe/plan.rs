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
    /// fanotify alone, as where BPF is not permitted.
    Fanotify,
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
    /// Creations, removals and renames.
    pub names: Via,
    /// Written content.
    pub content: Via,
    /// Mode, owner, times, extended attributes.
    pub attributes: Via,
    /// Stores through a shared mapping.
    pub mapped: Via,
    /// Directories whose entries change, as inodes: what finds them again when name events were lost. Without a bit for
    /// each, only a look at the whole tree does.
    pub directories: Via,
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

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { fs_type, device, dev, names, content, attributes, mapped, .. } = self;
        write!(f, "{fs_type} on {device} ({dev}): names {names}, content {content}, ")?;
        write!(f, "attributes {attributes}, mmap {mapped}")
    }
}
