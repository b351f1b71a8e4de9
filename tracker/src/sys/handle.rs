//! File handles: names for inodes that survive renames.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::{Named, Result};
use crate::id::Handle;

/// The handle of what is open.
///
/// # Errors
/// As `name_to_handle_at(2)`; `EOPNOTSUPP` where the file system gives none.
pub fn handle_of(fd: BorrowedFd<'_>) -> Result<Handle> {
    let bytes = fanotify_fid::handle::handle_from_fd(fd).named("name_to_handle_at")?;
    Handle::new(&bytes)
        .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData))
        .named("name_to_handle_at")
}

/// Opens (`O_PATH`) what a handle names, wherever it is now. `mount` is anything open on the same mount.
///
/// # Errors
/// As `open_by_handle_at(2)`: stale when it is no more, `EPERM` without `CAP_DAC_READ_SEARCH`.
pub fn open_by_handle(mount: BorrowedFd<'_>, handle: &Handle) -> Result<OwnedFd> {
    fanotify_fid::handle::open_by_handle_at(mount, handle.as_bytes()).named("open_by_handle_at")
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::file;

    #[test]
    fn a_handle_opens_its_directory_after_a_rename_and_goes_stale_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = file::open_dir(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let Ok(handle) = handle_of(file::open_dir(&dir.path().join("a")).unwrap().as_fd()) else { return };
        std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        match open_by_handle(root.as_fd(), &handle) {
            Ok(found) => assert!(file::path_of(found.as_fd()).unwrap().ends_with(b"/b")),
            Err(e) => return assert!(e.is_permission(), "{e:?}"),
        }
        std::fs::remove_dir(dir.path().join("b")).unwrap();
        assert!(open_by_handle(root.as_fd(), &handle).unwrap_err().is_stale());
    }
}
