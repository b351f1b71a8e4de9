//! What a run happens to: a source and a destination on file systems of their own, a stock daemon behind a proxy, and
//! ebbtide.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::fs::FallocateFlags;
use serde_json::Value;

use super::config::Config;
use super::load::Load;
use super::{Chaos, identity};
use crate::programs::program;
use crate::{
    Daemon, FileSystem, Kind, Module, Proxy, Referee, Release, Rsyncd, Scratch, Setup, Skip, Verdict, mib,
};

/// The fields end in this order.
pub(super) struct World {
    pub(super) daemon: Daemon,
    pub(super) proxy: Proxy,
    pub(super) rsyncd: Rsyncd,
    pub(super) from: FileSystem,
    to: FileSystem,
    _state: FileSystem,
    config: Config,
    /// Copies of the programs under another path.
    copies: Scratch,
    /// The releases of rsync that this machine has.
    releases: Vec<Release>,
    /// What the last start was given: small buffers, and whether the copies were started.
    small: Vec<(String, String)>,
    copy: bool,
    /// How often a start began in which way.
    pub(super) beginnings: BTreeMap<String, u64>,
    story: Vec<String>,
    began: Instant,
}

impl World {
    pub(super) fn new(chaos: &Chaos, random: &mut Rng) -> Result<World, Skip> {
        // Mostly in memory: more happens while nothing waits for a disk.
        let make = if random.u8(..4) == 0 { FileSystem::sized } else { FileSystem::in_memory };
        let (from, to, state) =
            (make(chaos.kind, SIZE)?, make(Kind::Ext4, SIZE)?, make(Kind::Tmpfs, mib(256))?);
        let modules = DESTINATIONS.map(|name| Module::new(name, &to.dir(name)).chroot(true));
        let rsyncd = Rsyncd::start(Release::Installed, modules)?;
        let proxy = Proxy::to(&rsyncd.address());
        let urls = DESTINATIONS.map(|name| rsyncd.url_at(name, &proxy.address()));
        let config = Config::new(from.dir("source"), chaos.fanotify_alone, urls);
        let setup = Setup::from_file(&config.text());
        let releases = Release::ALL.into_iter().filter(|release| release.program().is_ok()).collect();
        let daemon = setup.start_with_state(&state.dir("state"));
        let (copies, began) = (copies(), Instant::now());
        let (small, copy, beginnings, story) = (Vec::new(), false, BTreeMap::new(), Vec::new());
        Ok(World {
            daemon,
            proxy,
            rsyncd,
            from,
            to,
            _state: state,
            config,
            copies,
            releases,
            small,
            copy,
            beginnings,
            story,
            began,
        })
    }

    pub(super) fn source(&self) -> PathBuf {
        self.from.root().join("source")
    }

    /// Those that must be equal to the source.
    fn destinations(&self) -> impl Iterator<Item = PathBuf> {
        let names = DESTINATIONS.into_iter().take(if self.config.both { 2 } else { 1 });
        names.map(|name| self.to.root().join(name))
    }

    /// What watches the source, as `ebbtide status` tells it.
    pub(super) fn plan(&self) -> Value {
        self.daemon.status()["mirrors"][0]["plan"].clone()
    }

    /// For the story of this run.
    pub(super) fn note(&mut self, what: &str) {
        self.story.push(format!("{:9.3} {what}", self.began.elapsed().as_secs_f64()));
    }

    /// Takes all that is left of the destination's disk.
    pub(super) fn fill(&self) {
        let free = rustix::fs::statvfs(self.to.root()).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
        let options = OpenOptions::new().create(true).append(true).open(self.ballast());
        let ballast = options.expect("an entry fits on any disk");
        let length = ballast.metadata().map_or(0, |data| data.len());
        // A part of it may be gone by now; then the next fault tries again.
        let _ = rustix::fs::fallocate(&ballast, FallocateFlags::empty(), length, free.saturating_sub(LEFT));
    }

    pub(super) fn empty(&self) {
        let _ = fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.to.root().join("ballast")
    }

    /// Starts ebbtide if it does not run: mostly as before, so that it takes over what the last one left; at times as
    /// another program, or with buffers of another size.
    pub(super) fn start(&mut self, random: &mut Rng) {
        if self.daemon.is_running() {
            return;
        }
        if random.u8(..4) == 0 {
            self.small = buffers(random);
            self.copy = random.bool();
        }
        self.note(&format!("start, copy: {}, {:?}", self.copy, self.small));
        self.daemon.set_environment(self.small.iter().cloned());
        self.daemon.use_programs(self.copy.then_some(self.copies.path()));
        self.daemon.start_again();
        let beginning = self.daemon.status()["mirrors"][0]["start"].clone();
        let way = beginning["way"].as_str().unwrap_or("unknown").to_owned();
        *self.beginnings.entry(way).or_default() += 1;
        self.note(&format!("began: {beginning}"));
    }

    /// HUP with a config file that says something else, or the same.
    pub(super) fn reload(&mut self, random: &mut Rng) {
        self.config.change(random);
        let text = self.config.text();
        self.note(&format!("reload: {:?}", self.config));
        self.reload_until(&text, "the configuration is read again");
        crate::eventually("ebbtide answers again", || self.answers().then_some(()));
    }

    /// HUP with a config file that cannot be used; then the old one is there again, for the next start.
    pub(super) fn reload_wrongly(&mut self) {
        let good = self.config.text();
        let wrong = good.replace("delete = true", "delte = true");
        self.reload_until(&wrong, "the new configuration cannot be used");
        self.daemon.rewrite(&good);
    }

    fn reload_until(&mut self, text: &str, told: &str) {
        let times = |daemon: &Daemon| daemon.log().matches(told).count();
        let before = times(&self.daemon);
        self.daemon.reload(text);
        crate::eventually(told, || (times(&self.daemon) > before).then_some(()));
    }

    fn answers(&self) -> bool {
        self.daemon.ask(&["status", "--json"]).status.success()
    }

    /// Another release of rsync takes over.
    pub(super) fn change_release(&mut self, random: &mut Rng) {
        let release = self.releases[random.usize(..self.releases.len())];
        self.note(&format!("release {release:?}"));
        self.rsyncd.become_release(release).expect("it was there");
    }

    /// No fault is left.
    pub(super) fn mend(&mut self) {
        self.note("quiet");
        self.proxy.release();
        self.empty();
        self.rsyncd.freeze(false);
        if !self.rsyncd.is_running() {
            self.rsyncd.start_again();
        }
        if !self.daemon.is_running() {
            self.daemon.start_again();
        }
    }

    /// What must hold at rest.
    pub(super) fn judge(&mut self) {
        let began = Instant::now();
        while !self.daemon.try_wait(10).success() {
            assert!(self.daemon.is_running(), "ebbtide was started");
            assert!(began.elapsed() < PATIENCE, "ebbtide wait does not return:\n{:#}", self.daemon.status());
        }
        self.note("settled");
        for destination in self.destinations() {
            let compare = || Referee::default().settled(&self.source(), &destination);
            let verdict = compare();
            // A bitmap that is too small loses marks of no change, too, such as those of blocks that are allocated later,
            // after the barrier: what is compared then touches directories, and is over soon.
            if !verdict.is_equal() && self.has_small_bitmap() && self.is_equal_later(&compare) {
                continue;
            }
            if !verdict.is_equal() {
                let later = (0..50).any(|_| compare().is_equal());
                let what = if later { "for a moment: the barrier came too early" } else { "and stays so" };
                let place = destination.display();
                panic!("after everything was acknowledged, {place} differs {what}:\n{verdict}");
            }
        }
        identity::expect_accounted(&self.daemon);
    }

    fn has_small_bitmap(&self) -> bool {
        self.small.iter().any(|(name, _)| name == "EBBTIDE_CHUNKS")
    }

    fn is_equal_later(&self, compare: &dyn Fn() -> Verdict) -> bool {
        eprintln!("something differs at a barrier with a small bitmap; once more");
        (0..3).any(|_| self.daemon.try_wait(60).success() && compare().is_equal())
    }

    /// The source's file system goes and comes back while ebbtide is down, or, at times, while it runs. Whether that
    /// is possible.
    pub(super) fn remount(&mut self, random: &mut Rng) -> bool {
        if self.from.kind() == Kind::Tmpfs {
            return false;
        }
        let device =
            |root: &Path| fs::metadata(root).map(|data| std::os::unix::fs::MetadataExt::dev(&data)).ok();
        if random.bool() {
            self.note("remount below ebbtide");
            let before = device(self.from.root());
            self.from.unmount(true);
            self.from.mount_again();
            assert_eq!(before, device(self.from.root()), "the same file system came back");
        } else {
            self.note("remount while ebbtide is down");
            assert!(self.daemon.terminate().success(), "ebbtide ends cleanly");
            self.from.unmount(false);
            self.from.mount_again();
            self.start(random);
        }
        true
    }

    /// Copies what a failing run leaves, for a person to look at.
    pub(super) fn keep(&mut self, folder: &Path, load: &Load, why: &str) {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).expect("the target folder is writable");
        fs::write(folder.join("failure"), why).expect("it was just made");
        fs::write(folder.join("story"), self.story.join("\n")).expect("it was just made");
        fs::write(folder.join("ebbtide.log"), self.daemon.log()).expect("it was just made");
        fs::write(folder.join("rsyncd.log"), self.rsyncd.log()).expect("it was just made");
        let status = self.daemon.ask(&["status", "--json"]).stdout;
        fs::write(folder.join("status.json"), status).expect("it was just made");
        load.keep(folder);
        for tree in self.destinations().chain([self.source()]) {
            let _ = Command::new("cp").args(["-a", "--sparse=always"]).arg(tree).arg(folder).status();
        }
        eprintln!("source, destination and logs are in {}", folder.display());
    }
}

/// Sizes of buffers, some of them far too small.
fn buffers(random: &mut Rng) -> Vec<(String, String)> {
    let mut small = Vec::new();
    let mut set = |name: &str, value: u32| small.push((name.to_owned(), value.to_string()));
    if random.u8(..3) == 0 {
        set("EBBTIDE_RING_BYTES", 4096 << random.u32(..4));
    }
    if random.u8(..3) == 0 {
        set("EBBTIDE_CHUNKS", random.u32(1..6));
    }
    if random.u8(..4) == 0 {
        set("EBBTIDE_BOUNDED_QUEUE", 1);
    }
    small
}

/// The two programs under another path, as an upgrade puts them.
fn copies() -> Scratch {
    let scratch = Scratch::new("programs");
    for name in ["ebbtide", "ebbtide-send"] {
        let (from, to) = (program(name), scratch.path().join(name));
        // Another inode each.
        fs::copy(&from, &to).expect("there is room for a copy");
        File::open(&to).and_then(|file| file.sync_all()).expect("it was just written");
    }
    // The sender is another user.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(scratch.path(), open).expect("it is ours");
    scratch
}

/// Modules, and folders at the destination. The second one comes and goes.
const DESTINATIONS: [&str; 2] = ["destination", "other"];
/// Of both file systems.
const SIZE: usize = mib(1024);
/// What filling the disk leaves of it, in bytes.
const LEFT: u64 = 64 << 10;
/// How long `ebbtide wait` may take after a round.
const PATIENCE: Duration = Duration::from_secs(240);
