//! The usual world: a file system of its own as the source, a stock daemon as the destination, ebbtide between them.

use std::path::{Path, PathBuf};

use crate::{Daemon, FileSystem, Kind, Module, Referee, Release, Rsyncd, Setup, Skip, Tree};

/// A running mirror. The fields end in this order.
#[derive(Debug)]
pub struct Mirror {
    daemon: Daemon,
    rsyncd: Rsyncd,
    fs: FileSystem,
}

impl Mirror {
    /// A mirror of an empty directory on a file system of this kind, with whatever probes this kernel permits.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn on(kind: Kind) -> Result<Mirror, Skip> {
        Mirror::with(kind, |tree| tree, |setup| setup)
    }

    /// The same with fanotify alone.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn with_fanotify_on(kind: Kind) -> Result<Mirror, Skip> {
        Mirror::with(kind, |tree| tree, Setup::fanotify_alone)
    }

    /// A mirror of what `build` makes, started as `shape` says.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn with(
        kind: Kind,
        build: impl FnOnce(Tree) -> Tree,
        shape: impl FnOnce(Setup) -> Setup,
    ) -> Result<Mirror, Skip> {
        let fs = FileSystem::new(kind)?;
        let source = fs.dir("source");
        build(Tree::at(&source));
        // Confined, so that symlinks are stored as they are.
        let module = Module::new("m", &fs.beside("destination")).chroot(true);
        let rsyncd = Rsyncd::start(Release::Installed, [module])?;
        let daemon = shape(Setup::new(&source).to(rsyncd.url("m"))).start();
        Ok(Mirror { daemon, rsyncd, fs })
    }

    /// The source.
    pub fn source(&self) -> Tree {
        Tree::at(&self.source_path())
    }

    /// The source's path.
    pub fn source_path(&self) -> PathBuf {
        self.fs.root().join("source")
    }

    /// What lies beside the source on the same file system.
    pub fn outside(&self) -> Tree {
        Tree::at(self.fs.root())
    }

    /// The source's file system.
    pub fn fs(&self) -> &FileSystem {
        &self.fs
    }

    /// The destination.
    pub fn destination(&self) -> PathBuf {
        self.fs.beside("destination")
    }

    /// ebbtide.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// ebbtide, to be ended and started.
    pub fn daemon_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// The stock daemon.
    pub fn rsyncd(&mut self) -> &mut Rsyncd {
        &mut self.rsyncd
    }

    /// Waits for everything, and asks the referee.
    ///
    /// # Panics
    /// When something differs then.
    #[track_caller]
    pub fn expect_synced(&self) {
        if let Some(difference) = self.difference() {
            panic!("{difference}");
        }
    }

    /// Waits for everything, and until the referee has nothing to say. For tests in which a mark of no change, such as that
    /// of blocks that are allocated later, may be lost after the barrier: what is compared then touches directories.
    ///
    /// # Panics
    /// When something still differs after [`crate::PATIENCE`].
    #[track_caller]
    pub fn await_synced(&self) {
        self.daemon.wait();
        Referee::default().await_equal(&self.source_path(), &self.destination());
    }

    /// Waits for everything, and tells what differs then, and whether it still does a while later.
    #[track_caller]
    pub fn difference(&self) -> Option<String> {
        self.daemon.wait();
        let compare = || Referee::default().settled(&self.source_path(), &self.destination());
        let verdict = compare();
        if verdict.is_equal() {
            return None;
        }
        let later = (0..100).any(|_| compare().is_equal());
        let what = if later { "for a moment: the barrier came too early" } else { "and stays so" };
        Some(format!("after everything was acknowledged, the destination differs {what}:\n{verdict}"))
    }

    /// Whether the destination has this name.
    pub fn arrived(&self, name: impl AsRef<Path>) -> bool {
        self.destination().join(name).symlink_metadata().is_ok()
    }
}
