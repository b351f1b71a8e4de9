//! Writing through a mapping: the one change that no inotify or fanotify ever tells of.
#![expect(
    unsafe_code,
    reason = "a mapping is memory that others can change; memmap2 asks its caller to vouch for that"
)]

use std::fs::OpenOptions;
use std::path::Path;

use memmap2::MmapMut;

/// A file, mapped for writing.
#[derive(Debug)]
pub struct Mapped(MmapMut);

impl Mapped {
    /// Maps an existing file whole.
    ///
    /// # Errors
    /// It cannot be opened or mapped, or it is empty.
    pub fn open(path: &Path) -> std::io::Result<Mapped> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(NO_FOLLOW).open(path)?;
        if !file.metadata()?.is_file() || file.metadata()?.len() == 0 {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the bytes are only ever stored to, never read as anything but bytes. A file that is cut short while
        // mapped raises SIGBUS; the callers map files that nobody truncates.
        Ok(Mapped(unsafe { MmapMut::map_mut(&file)? }))
    }

    /// Stores bytes; what lies beyond the end is left out. Nothing is flushed.
    pub fn store(&mut self, offset: usize, bytes: &[u8]) {
        let end = (offset + bytes.len()).min(self.0.len());
        if let Some(into) = self.0.get_mut(offset..end) {
            into.copy_from_slice(&bytes[..end - offset]);
        }
    }
}

use std::os::unix::fs::OpenOptionsExt as _;

/// `O_NOFOLLOW | O_NONBLOCK`: a name that became a symlink or FIFO is not ours to write.
const NO_FOLLOW: i32 =
    (rustix::fs::OFlags::NOFOLLOW.bits() | rustix::fs::OFlags::NONBLOCK.bits()).cast_signed();
