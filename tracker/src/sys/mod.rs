//! The one door for system calls: typed arguments, and the call's name in every error.
//!
//! Together with the BPF half this is the only place of the crate where `unsafe` is allowed.

pub mod arena;
pub mod bpf;
pub mod bpf_format;
pub mod btf;
pub mod fanotify;
pub mod file;
pub mod handle;
pub mod memory;
pub mod mounts;
pub mod poll;
pub mod privilege;
pub mod scan;
pub mod signal;
pub mod store;

use std::io;

/// A system call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed")]
pub struct SysError {
    /// Name of the call.
    pub call: &'static str,
    /// What the kernel answered.
    #[source]
    pub source: io::Error,
}

impl SysError {
    pub(crate) fn new(call: &'static str, source: impl Into<io::Error>) -> Self {
        SysError { call, source: source.into() }
    }

    fn is(&self, errno: rustix::io::Errno) -> bool {
        self.source.raw_os_error() == Some(errno.raw_os_error())
    }

    /// The object behind a handle is no more, or never was.
    pub fn is_stale(&self) -> bool {
        self.is(rustix::io::Errno::STALE)
    }

    /// There is no such name.
    pub fn is_not_found(&self) -> bool {
        self.is(rustix::io::Errno::NOENT) || self.is(rustix::io::Errno::NOTDIR)
    }

    /// There is no memory for it, or what is asked for is just being made.
    pub fn is_no_memory(&self) -> bool {
        self.is(rustix::io::Errno::NOMEM)
    }

    /// The caller may not.
    pub fn is_permission(&self) -> bool {
        self.is(rustix::io::Errno::PERM) || self.is(rustix::io::Errno::ACCESS)
    }
}

/// Result of a system call.
pub type Result<T> = std::result::Result<T, SysError>;

/// Names the call in the error.
pub(crate) trait Named<T> {
    fn named(self, call: &'static str) -> Result<T>;
}

impl<T, E: Into<io::Error>> Named<T> for std::result::Result<T, E> {
    fn named(self, call: &'static str) -> Result<T> {
        self.map_err(|source| SysError::new(call, source))
    }
}

/// An error and its causes in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
