//! What can go wrong with the eBPF half.

use std::{path::PathBuf, time::Duration};

use crate::sys::{SysError, btf::BtfError};

/// Why marking by eBPF cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// The binary holds no programs.
    #[error("this ebbtide was built without its eBPF programs")]
    NotBuilt,
    /// The kernel's own types do not say what the programs need.
    #[error("cannot tell where this kernel keeps its inodes")]
    Layout(#[from] BtfError),
    /// The object file cannot be loaded: maps could not be made, or it is damaged.
    #[error("cannot load the eBPF programs")]
    Load(#[source] Box<aya::EbpfError>),
    /// The object file lacks a map or a program.
    #[error("the eBPF object has no {what} {name}")]
    Missing {
        /// "map" or "program".
        what: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// A map is not of the kind that was expected, or an operation on it failed.
    #[error("eBPF map {name}: operation failed")]
    Map {
        /// Its name.
        name: &'static str,
        /// What the kernel answered.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// A system call failed.
    #[error("cannot share memory with the eBPF programs")]
    Memory(#[from] SysError),
    /// Not one program could be attached.
    #[error("the kernel attached none of the eBPF programs: {first}")]
    NothingAttached {
        /// Why the first was refused.
        first: String,
    },
    /// A pin failed.
    #[error("cannot pin {}", path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: Box<aya::pin::PinError>,
    },
    /// What is pinned cannot be opened.
    #[error("cannot open what is pinned")]
    Pinned(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Too many devices.
    #[error("all {} devices that can be marked at one time are in use", ebbtide_abi::MAX_SLOTS)]
    NoSlot,
    /// The side that a flip would give to the programs still holds marks.
    #[error("cannot flip the bitmap before its old side is cleared")]
    NotCleared,
    /// A program entered and did not leave.
    #[error("an eBPF program has been writing the old side of the bitmap for {patience:?}")]
    Stuck {
        /// How long we waited.
        patience: Duration,
    },
}

impl BpfError {
    pub(super) fn pinned(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        BpfError::Pinned(Box::new(source))
    }

    pub(super) fn map(name: &'static str, source: aya::maps::MapError) -> Self {
        BpfError::Map { name, source: Box::new(source) }
    }
}
