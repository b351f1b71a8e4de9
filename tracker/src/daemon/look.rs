//! Looks at real file systems for the resolver.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use lru::LruCache;

use crate::id::{Fs, Handle, HandleForm, Ino, Name};
use crate::resolve::{Entry, Found, Look};
use crate::sys::file::{self, Kind};
use crate::sys::{self, handle};

/// A file system's way in: something open on the mount that its sources are seen through.
#[derive(Debug)]
pub(super) struct Anchor {
    /// Open on that mount.
    pub(super) fd: OwnedFd,
    /// The mount shows the whole file system.
    pub(super) shows_all: bool,
    /// The form of its handles.
    pub(super) form: HandleForm,
}

/// Looks through these anchors, by index of file system.
pub(super) struct Looker<'a> {
    anchors: Vec<&'a Anchor>,
    open: LruCache<(Fs, Handle), Rc<OwnedFd>>,
}

impl<'a> Looker<'a> {
    pub(super) fn new(anchors: Vec<&'a Anchor>) -> Self {
        Looker { anchors, open: LruCache::new(OPEN) }
    }

    fn open(&mut self, fs: Fs, dir: &Handle) -> sys::Result<Rc<OwnedFd>> {
        let key = (fs, dir.clone());
        if let Some(fd) = self.open.get(&key) {
            return Ok(Rc::clone(fd));
        }
        let fd = Rc::new(self.open_any(fs, dir)?);
        self.open.put(key, Rc::clone(&fd));
        Ok(fd)
    }

    /// An inode that is just being made is answered with ENOMEM: `iget_locked` gives nothing for one that is
    /// `I_CREATING` (kernel: fs/inode.c), and `ext4_iget` takes that for a lack of memory.
    fn open_any(&self, fs: Fs, inode: &Handle) -> sys::Result<OwnedFd> {
        for _ in 0..TRIES {
            match handle::open_by_handle(self.anchor(fs), inode) {
                Err(e) if e.is_no_memory() => std::thread::yield_now(),
                done => return done,
            }
        }
        handle::open_by_handle(self.anchor(fs), inode)
    }

    fn anchor(&self, fs: Fs) -> BorrowedFd<'a> {
        self.anchors[fs.0].fd.as_fd()
    }

    /// `Outside` only for directories; the kernel refuses to go up from one that the mount does not show.
    fn find_directory(&mut self, fs: Fs, dir: &Handle) -> sys::Result<Found> {
        let fd = self.open(fs, dir)?;
        let look = file::look_at_open(fd.as_fd())?;
        if look.nlink == 0 {
            return Ok(Found::Gone);
        }
        if look.kind != Kind::Directory {
            return Ok(Found::Unknown);
        }
        if !self.anchors[fs.0].shows_all && file::is_outside_of_mount(fd.as_fd())? {
            return Ok(Found::Outside);
        }
        let path = file::path_of(fd.as_fd())?;
        // Removed since it was looked at, or really named like this.
        if path.ends_with(b" (deleted)") && file::look_at_open(fd.as_fd())?.nlink == 0 {
            return Ok(Found::Gone);
        }
        Ok(Found::At(path))
    }

    /// An inode that the kernel knows no name of has a path that leads elsewhere or nowhere.
    fn find_inode(&mut self, fs: Fs, inode: &Handle) -> sys::Result<Found> {
        let fd = self.open_any(fs, inode)?;
        let look = file::look_at_open(fd.as_fd())?;
        if look.nlink == 0 {
            return Ok(Found::Gone);
        }
        // A rename between the two steps shows in the second one.
        for _ in 0..NAME_TRIES {
            let path = file::path_of(fd.as_fd())?;
            match file::look_at_path(&path) {
                Ok(there) if (there.dev, there.ino) == (look.dev, look.ino) => return Ok(Found::At(path)),
                _ if file::look_at_open(fd.as_fd())?.nlink == 0 => return Ok(Found::Gone),
                _ => {}
            }
        }
        Ok(Found::Unknown)
    }
}

impl Look for Looker<'_> {
    fn directory(&mut self, fs: Fs, dir: &Handle) -> Found {
        gone_if_stale(self.find_directory(fs, dir))
    }

    fn entry(&mut self, fs: Fs, dir: &Handle, name: &Name) -> Option<Entry> {
        let fd = self.open(fs, dir).ok()?;
        let look = file::look_at(fd.as_fd().as_fd(), name.as_bytes()).ok()?;
        Some(Entry { ino: self.anchors[fs.0].form.entry_of(dir, look.ino), nlink: look.nlink })
    }

    fn names(&mut self, fs: Fs, inode: &Handle) -> Option<u64> {
        let fd = self.open_any(fs, inode).ok()?;
        Some(file::look_at_open(fd.as_fd()).ok()?.nlink)
    }

    fn inode(&mut self, fs: Fs, inode: &Handle) -> Found {
        gone_if_stale(self.find_inode(fs, inode))
    }

    fn clean(&mut self, fs: Fs, dir: &Handle, name: &Name, ino: Ino) -> bool {
        let Ok(fd) = self.open(fs, dir) else { return false };
        settled(file::start_writeback(
            fd.as_fd().as_fd(),
            name.as_bytes(),
            self.anchors[fs.0].form.shown(ino),
        ))
    }

    fn clean_inode(&mut self, fs: Fs, inode: &Handle) -> bool {
        settled(
            handle::open_by_handle(self.anchor(fs), inode)
                .and_then(|fd| file::start_writeback_of(fd.as_fd())),
        )
    }
}

fn gone_if_stale(found: sys::Result<Found>) -> Found {
    found.unwrap_or_else(|e| match e {
        e if e.is_stale() => Found::Gone,
        e if e.is_no_memory() => Found::Unready,
        e => failed(&e),
    })
}

fn failed(e: &sys::SysError) -> Found {
    tracing::warn!(error = %e, cause = %e.source, "a changed object could not be looked up");
    Found::Unknown
}

/// What is gone takes no more stores that matter.
fn settled(done: sys::Result<bool>) -> bool {
    match done {
        Ok(_) => true,
        Err(e) if e.is_stale() || e.is_not_found() => true,
        Err(e) => {
            tracing::warn!(error = %e, cause = %e.source, "writeback of a mapped file could not be started");
            false
        }
    }
}

/// Directories kept open during a drain, so that marks of files in one need not open it each time.
const OPEN: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// Attempts to see an inode's name between two of its renames.
const NAME_TRIES: usize = 5;

/// Attempts to meet an inode that is made at this moment, which usually takes microseconds.
const TRIES: usize = 20;
