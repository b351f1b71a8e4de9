//! Whether the program on `fsnotify()` sees what it is for. Kernels differ in when they call that function; newer ones do it
//! only for events that somebody has shown interest in. So it is tried, on a file system in memory that nobody else sees.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use super::bpf::{Bpf, Dev, Slot};
use super::names::{Arming, Asked, Names};
use crate::id::HandleForm;
use crate::sys::{file, mounts, with_causes};

/// What the kernel needs so that content and extended attributes reach the program: tried, without a trace.
///
/// # Errors
/// They do not reach it, or that could not be tried.
pub(super) fn fires(bpf: &mut Bpf) -> Result<Arming, String> {
    let ground = Ground::new(bpf)?;
    let tried = [Arming::None, Arming::Ignored].into_iter().find_map(|arming| {
        let seen = ground.sees(bpf, arming);
        if seen == Ok(false) { None } else { Some(seen.map(|_| arming)) }
    });
    // What was marked is nobody's, and goes with the next drain.
    bpf.disable(ground.slot);
    let why = "it is attached, but the kernel does not call fsnotify() for changes that nobody listens to";
    tried.unwrap_or_else(|| Err(why.into()))
}

/// A file system of our own.
struct Ground {
    root: OwnedFd,
    file: File,
    slot: Slot,
}

impl Ground {
    fn new(bpf: &mut Bpf) -> Result<Self, String> {
        let failed = |what: &'static str| move |why: String| format!("it could not be tried: {what}: {why}");
        let root = mounts::detached("tmpfs", &[]).map_err(|e| failed("tmpfs")(with_causes(&e)))?;
        let file = file::create_in(root.as_fd(), b"ground").map_err(|e| failed("file")(with_causes(&e)))?;
        let dev = file::look_at_open(root.as_fd()).map_err(|e| failed("stat")(with_causes(&e)))?.dev;
        let dev = Dev { major: rustix::fs::major(dev), minor: rustix::fs::minor(dev) };
        let slot = bpf.enable(dev).map_err(|e| failed("device")(with_causes(&e)))?;
        Ok(Ground { root, file: File::from(file), slot })
    }

    /// Whether writes are counted one by one, which no other program does: those on tracepoints see one in each tick of the
    /// clock; and whether a changed attribute is counted at all.
    fn sees(&self, bpf: &Bpf, arming: Arming) -> Result<bool, String> {
        let _listening = Names::listen(self.root.as_fd(), HandleForm::Shmem, Asked::Names, arming)
            .map_err(|e| format!("it could not be tried: {}", with_causes(&e)))?;
        let before = bpf.counters().marks;
        for _ in 0..WRITES {
            self.file.write_all_at(b"x", 0).map_err(|e| format!("it could not be tried: write: {e}"))?;
        }
        let written = bpf.counters().marks - before;
        let before = bpf.counters().marks;
        let extended = file::set_extended(self.file.as_fd(), c"trusted.ebbtide", b"x");
        let attributed = extended.is_err() || bpf.counters().marks > before;
        Ok(written >= WRITES && attributed)
    }
}

/// More than ticks of the clock pass meanwhile.
const WRITES: u64 = 64;
