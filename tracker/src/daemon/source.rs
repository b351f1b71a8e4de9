//! Source directories and the file systems they are on.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::id::{Handle, HandleForm};
use crate::sys::file::{self, Kind, Look};
use crate::sys::mounts::{self, Mount};
use crate::sys::scan::{file_system_id, sight_of};
use crate::sys::{self, SysError, handle};

/// The source directory of a mirror.
#[derive(Debug)]
pub(super) struct Source {
    /// Its path without symlinks, as it was at the start.
    pub(super) path: PathBuf,
    /// Keeps it open, and its mount busy.
    pub(super) fd: OwnedFd,
    /// What it was at the start.
    look: Look,
    /// The mount it is on.
    pub(super) mount: Mount,
    /// Its own handle.
    pub(super) handle: Handle,
}

/// Why a source cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such directory, or we may not see it.
    #[error("source {}: cannot be opened as a directory", .path.display())]
    Open {
        /// As configured.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: SysError,
    },
    /// It is on no mount that the mount table shows.
    #[error("source {}: no line of /proc/self/mountinfo is about it", .0.display())]
    NoMount(PathBuf),
    /// The file system gives no handles.
    #[error("source {}: {fs_type} gives no file handles, which changes are traced by", .path.display())]
    NoHandles {
        /// As configured.
        path: PathBuf,
        /// Such as `overlay`.
        fs_type: String,
        /// What the kernel said.
        #[source]
        source: SysError,
    },
}

impl Source {
    pub(super) fn open(configured: &Path, mounts: &[Mount]) -> Result<Self, SourceError> {
        let open = |source| SourceError::Open { path: configured.to_owned(), source };
        let path = mounts::real_path(configured).map_err(open)?;
        let fd = file::open_dir(&path).map_err(open)?;
        let look = file::look_at_open(fd.as_fd()).map_err(open)?;
        let mount = mounts::of_path(mounts, path.as_os_str().as_bytes())
            .ok_or_else(|| SourceError::NoMount(configured.to_owned()))?
            .clone();
        let handle = handle::handle_of(fd.as_fd()).map_err(|source| SourceError::NoHandles {
            path: configured.to_owned(),
            fs_type: mount.fs_type.clone(),
            source,
        })?;
        Ok(Source { path, fd, look, mount, handle })
    }

    /// How inodes and generations are laid into the handles of its file system.
    pub(super) fn form(&self) -> HandleForm {
        HandleForm::of(&self.mount.fs_type, &self.handle)
    }

    /// Opens it again if its path leads to it through another mount than before: what is open on one that was taken
    /// away shows no paths any more. `None` if it does not, or leads to something else.
    pub(super) fn reopened(&self, mounts: &[Mount]) -> Option<Source> {
        let now = mounts::id_of_path(self.path.as_os_str().as_bytes()).ok()?;
        if now == self.mount.id {
            return None;
        }
        let again = Source::open(&self.path, mounts).ok()?;
        ((again.look.dev, again.look.ino) == (self.look.dev, self.look.ino)).then_some(again)
    }

    /// What tells this directory from others, in this boot or in another: its file system, its inode with that one's
    /// generation, and when it was made. Device numbers are given out anew with each boot.
    pub(super) fn identity(&self) -> sys::Result<String> {
        let of = file_system_id(self.fd.as_fd())?;
        let sight = sight_of(self.fd.as_fd())?;
        let handle: String = self.handle.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("{of} {} {handle} {:?}", sight.ino, sight.times.btime))
    }

    /// `st_dev` and `st_ino`, as it was at the start.
    pub(super) fn numbers(&self) -> (u64, u64) {
        (self.look.dev, self.look.ino.0)
    }

    /// Whether its path still leads to it; otherwise what it leads to.
    pub(super) fn check(&self) -> Result<(), String> {
        match file::look_at_path(self.path.as_os_str().as_bytes()) {
            Ok(now) if (now.dev, now.ino) == (self.look.dev, self.look.ino) => Ok(()),
            Ok(now) if now.kind == Kind::Directory => Err("another directory is at its path".into()),
            Ok(_) => Err("something else than a directory is at its path".into()),
            Err(e) => Err(format!("{}: {}", e.call, e.source)),
        }
    }
}

/// Opens the root of the whole file system that this source's mount shows a part of: where that is mounted, or else on a
/// mount that nobody else sees.
pub(super) fn open_whole(source: &Source, mounts: &[Mount]) -> Option<OwnedFd> {
    let part = &source.mount;
    let wholes = mounts.iter().filter(|m| m.dev == part.dev && m.shows_all());
    let mut found = wholes.filter_map(|whole| {
        let fd = file::open_dir(Path::new(std::ffi::OsStr::from_bytes(&whole.point))).ok()?;
        shows(&fd, source).then_some(fd)
    });
    found.next().or_else(|| mount_whole(part).filter(|fd| shows(fd, source)))
}

/// The top of a btrfs, which holds its subvolumes, has this number.
fn mount_whole(part: &Mount) -> Option<OwnedFd> {
    let options = [("source", part.source.as_str()), ("subvolid", "5")];
    let mounted: sys::Result<OwnedFd> = mounts::detached(&part.fs_type, &options);
    match mounted {
        Ok(fd) => Some(fd),
        Err(e) => {
            let cause = &e.source;
            tracing::warn!(device = part.source, error = %e, %cause, "the file system's own root cannot be mounted");
            None
        }
    }
}

/// Whether this is on the source's file system: its handle leads to it from here.
fn shows(fd: &OwnedFd, source: &Source) -> bool {
    let found = handle::open_by_handle(fd.as_fd(), &source.handle);
    let look = found.and_then(|found| file::look_at_open(found.as_fd()));
    look.is_ok_and(|look| (look.dev, look.ino) == (source.look.dev, source.look.ino))
}
