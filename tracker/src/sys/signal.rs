//! Signals as something to read.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Named, Result};

/// Whether this signal asks a daemon to read its configuration again.
pub fn asks_to_reload(signal: i32) -> bool {
    signal == libc::SIGHUP
}

/// The signals that ask this process to end, held back from their usual effect.
#[derive(Debug)]
pub struct EndSignals(OwnedFd);

impl EndSignals {
    /// Blocks SIGTERM, SIGINT and SIGHUP in this thread (and those it starts) and makes them readable.
    ///
    /// # Errors
    /// As `signalfd(2)`.
    pub fn block() -> Result<Self> {
        // SAFETY: an all-zero `sigset_t` is a valid object for `sigemptyset` to fill in.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is a valid `sigset_t` for all of these calls, and the signal numbers are valid.
        let fd = unsafe {
            libc::sigemptyset(&raw mut set);
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                libc::sigaddset(&raw mut set, signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(std::io::Error::last_os_error()).named("signalfd");
        }
        // SAFETY: `signalfd` just returned this descriptor, so nobody else owns it.
        Ok(EndSignals(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The signal that arrived, if one did.
    pub fn take(&self) -> Option<i32> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        let read = rustix::io::read(&self.0, &mut info).ok()?;
        let number = *info[..read].first_chunk::<4>()?;
        i32::try_from(u32::from_ne_bytes(number)).ok()
    }
}

impl AsFd for EndSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for EndSignals {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}
