//! A mirror whose bytes and sessions are counted, for tests of what need not be sent.

use std::fs;
use std::path::PathBuf;

use rustix::fs::{CWD, RenameFlags};

use crate::{
    Client, Daemon, FileSystem, Kind, Module, Proxy, Referee, Release, Rsyncd, Setup, Skip, Tree, bytes,
    eventually,
};

/// A running mirror of a source on ext4. The fields end in this order.
#[derive(Debug)]
pub struct Metered {
    /// ebbtide.
    pub daemon: Daemon,
    /// What counts, on the way to the stock daemon.
    pub proxy: Proxy,
    /// The stock daemon.
    pub rsyncd: Rsyncd,
    /// The source's file system.
    pub fs: FileSystem,
    /// Where the destination is below its module.
    below: &'static str,
}

impl Metered {
    /// A mirror of what `build` makes.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn new(build: impl FnOnce(Tree) -> Tree) -> Result<Metered, Skip> {
        Metered::with(Release::Installed, build, |module| module, |setup| setup)
    }

    /// A mirror to a daemon of this release and a module of this kind, started as `shape` says.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn with(
        release: Release,
        build: impl FnOnce(Tree) -> Tree,
        module: impl FnOnce(Module) -> Module,
        shape: impl FnOnce(Setup) -> Setup,
    ) -> Result<Metered, Skip> {
        Metered::below("", release, build, module, shape)
    }

    /// The same to a directory of the module, which ends with a slash.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn below(
        below: &'static str,
        release: Release,
        build: impl FnOnce(Tree) -> Tree,
        module: impl FnOnce(Module) -> Module,
        shape: impl FnOnce(Setup) -> Setup,
    ) -> Result<Metered, Skip> {
        let fs = FileSystem::new(Kind::Ext4)?;
        let source = fs.dir("source");
        build(Tree::at(&source)).aged();
        // Otherwise files may be marked under their new names before anybody knows of the rename, and are sent.
        fs.write_back();
        let place = fs.beside("destination");
        fs::create_dir_all(place.join(below)).expect("a scratch folder is writable");
        let rsyncd = Rsyncd::start(release, [module(Module::new("m", &place))])?;
        let proxy = Proxy::to(&rsyncd.address());
        let url = format!("rsync://{}/m/{below}", proxy.address());
        let daemon = shape(Setup::new(&source).to(url)).start();
        daemon.wait();
        Ok(Metered { daemon, proxy, rsyncd, fs, below })
    }

    /// The source.
    pub fn tree(&self) -> Tree {
        Tree::at(&self.source())
    }

    /// The source's path.
    pub fn source(&self) -> PathBuf {
        self.fs.root().join("source")
    }

    /// The destination's path.
    pub fn destination(&self) -> PathBuf {
        self.fs.beside("destination").join(self.below)
    }

    /// Changes that the sender looks at when all are done, each told in a batch of its own.
    pub fn at_once(&self, changes: &[&dyn Fn(&Metered)]) {
        self.ask("pause");
        changes.iter().for_each(|change| self.tell(change));
        self.ask("resume");
    }

    /// Pauses or resumes the mirror. The sender hears that after all batches before.
    ///
    /// # Panics
    /// When that fails.
    pub fn ask(&self, verb: &str) {
        let source = self.source().display().to_string();
        let is_ours = Client::under_test().is_ours();
        assert!(!is_ours || self.daemon.ask(&[verb, &source]).status.success(), "{verb}");
    }

    /// A change that is told in a batch of its own.
    pub fn tell(&self, change: impl Fn(&Metered)) {
        let is_ours = Client::under_test().is_ours();
        let before = if is_ours { self.daemon.batch() } else { 0 };
        change(self);
        eventually("the change is in a batch of its own", || {
            (!is_ours || self.daemon.batch() > before).then_some(())
        });
    }

    /// Renames something in the source.
    ///
    /// # Panics
    /// When that fails.
    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.source().join(from), self.source().join(to)).expect("the source is writable");
    }

    /// Lets two names of the source change places.
    ///
    /// # Panics
    /// When that fails.
    pub fn exchange(&self, one: &str, other: &str) {
        let (one, other) = (self.source().join(one), self.source().join(other));
        rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
            .expect("the source is writable");
    }

    /// Waits for everything, and asks the referee.
    ///
    /// # Panics
    /// When something differs then.
    #[track_caller]
    pub fn expect_synced(&self) {
        self.daemon.wait();
        let verdict = Referee::default().settled(&self.source(), &self.destination());
        assert!(verdict.is_equal(), "the destination differs:\n{verdict}\n{}", self.daemon.log());
    }

    /// The bytes that a change takes in both directions until the destination has it.
    #[track_caller]
    pub fn cost(&self, change: impl FnOnce(&Metered)) -> u64 {
        let before = self.passed();
        change(self);
        self.expect_synced();
        self.passed() - before
    }

    fn passed(&self) -> u64 {
        self.proxy.sent() + self.proxy.received()
    }

    /// Whether a change sends no more than a few names and sums. That both sides end equal is expected of it in any case.
    #[track_caller]
    pub fn is_cheap(&self, limit: usize, change: impl FnOnce(&Metered)) -> bool {
        let cost = self.cost(change);
        let is_cheap = !Client::under_test().is_ours() || cost < limit as u64;
        if !is_cheap {
            eprintln!("{cost} bytes went over, of {limit}: {}", self.daemon.log());
        }
        is_cheap
    }
}

/// Expects a scene to be cheap. Where a busy machine lets a batch end between a change and the event that tells its name,
/// what was renamed is sent, which is not wrong, but is not the rule either.
///
/// # Panics
/// When it never is.
#[track_caller]
pub fn expect_cheap(scene: impl Fn() -> Result<bool, Skip>) {
    for _ in 0..4 {
        if crate::needs!(scene()) {
            return;
        }
    }
    panic!("data went over each time");
}

/// Files whose bytes do not compress.
pub fn many(tree: Tree, dir: &str, count: u64, size: usize) -> Tree {
    (0..count).fold(tree, |tree, at| tree.file(format!("{dir}/s{}/f{at}", at % 7), bytes(at, size)))
}
