//! Large files go by themselves: they hold up no small change, and both sides are equal after.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

use ebbtide_tests::{
    Client, Daemon, FileSystem, Kind, Module, Referee, Release, Rsyncd, Setup, Tree, bytes, eventually, kib,
    mib, needs, skip,
};

/// Stock rsync sends one thing after the other.
macro_rules! ours_only {
    () => {
        if !Client::under_test().is_ours() {
            skip!("stock rsync sends one thing after the other");
        }
    };
}

/// A source and a daemon.
struct World {
    fs: FileSystem,
    rsyncd: Rsyncd,
}

impl World {
    fn new(shape: impl FnOnce(Module, &FileSystem) -> Module) -> Result<World, ebbtide_tests::Skip> {
        let fs = FileSystem::new(Kind::Ext4)?;
        Tree::at(&fs.dir("source")).file("d/small", b"1").file("a", b"1");
        let module = shape(Module::new("m", &fs.beside("destination")).chroot(true), &fs);
        Ok(World { rsyncd: Rsyncd::start(Release::Installed, [module])?, fs })
    }

    fn setup(&self) -> Setup {
        Setup::new(&self.fs.root().join("source")).to(self.rsyncd.url("m"))
    }

    fn source(&self) -> Tree {
        Tree::at(&self.fs.root().join("source"))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.fs.root().join("source").join(name)
    }

    /// Whether the destination has a temporary file that begins so.
    fn has_begun(&self, dir: &str, name: &str) -> bool {
        let dir = fs::read_dir(self.fs.beside("destination").join(dir));
        dir.into_iter().flatten().flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(name))
    }

    fn there(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.fs.beside("destination").join(name)).ok()
    }

    fn start_without_limit(&self, daemon: &mut Daemon) {
        daemon.terminate();
        daemon.reconfigure(self.setup());
        daemon.start_again();
    }

    fn expect_synced(&self, daemon: &Daemon) {
        daemon.wait();
        Referee::default().expect_equal(&self.fs.root().join("source"), &self.fs.beside("destination"));
    }
}

/// A world in which a large file is under way that takes minutes at this rate.
fn with_a_large_file_under_way() -> Result<(World, Daemon), ebbtide_tests::Skip> {
    let world = World::new(|module, _| module)?;
    let daemon = world.setup().option("--bwlimit", "64").option("--compress-choice", "none").start();
    world.expect_synced(&daemon);
    // In one step: while it is written it is still small, and goes with the others.
    Tree::at(world.fs.root()).file("large", bytes(1, mib(9)));
    fs::rename(world.fs.root().join("large"), world.path("d/large")).expect("a new file can be put there");
    eventually("the large file is under way", || world.has_begun("d", ".large.").then_some(()));
    Ok((world, daemon))
}

#[test]
fn small_changes_arrive_while_a_large_file_is_under_way() {
    ours_only!();
    let (world, mut daemon) = needs!(with_a_large_file_under_way());
    for round in 2..5 {
        let content = format!("{round}");
        world.source().file("a", content.clone()).file("d/small", content.clone()).dir(format!("new{round}"));
        let arrived = |name| world.there(name).is_some_and(|there| there == content.as_bytes());
        eventually("the small files arrive", || (arrived("a") && arrived("d/small")).then_some(()));
    }
    world.source().remove("a");
    eventually("what is removed goes", || world.there("a").is_none().then_some(()));
    assert!(world.there("d/large").is_none(), "it cannot have come already");
    assert!(!daemon.try_wait(1).success(), "the large file is waited for");
    world.start_without_limit(&mut daemon);
    world.expect_synced(&daemon);
}

#[test]
fn a_sender_that_is_killed_while_two_sessions_are_under_way_loses_nothing() {
    ours_only!();
    let (world, mut daemon) = needs!(with_a_large_file_under_way());
    world.source().file("d/small", bytes(3, kib(30))).file("d/other", bytes(4, mib(1)));
    eventually("a second session is under way", || world.has_begun("d", ".other.").then_some(()));
    fs::rename(world.path("d"), world.path("e")).unwrap();
    daemon.kill_sender();
    world.source().file("e/small", b"after");
    world.start_without_limit(&mut daemon);
    world.expect_synced(&daemon);
}

#[test]
fn a_pause_breaks_off_a_large_file_that_is_under_way() {
    ours_only!();
    let (world, mut daemon) = needs!(with_a_large_file_under_way());
    assert!(daemon.ask(&["pause"]).status.success());
    eventually("it is broken off", || (!world.has_begun("d", ".large.")).then_some(()));
    world.source().file("a", b"meanwhile");
    world.start_without_limit(&mut daemon);
    assert!(daemon.ask(&["resume"]).status.success());
    world.expect_synced(&daemon);
}

#[test]
fn a_large_file_that_changes_again_and_again_beside_others_ends_equal() {
    let world = needs!(World::new(|module, _| module));
    let daemon = world.setup().option("--rest", "0").start();
    world.source().file("d/large", bytes(1, mib(9)));
    world.expect_synced(&daemon);
    for round in 0..3_u32 {
        let file = fs::File::options().write(true).open(world.path("d/large")).unwrap();
        for at in 0..50_u64 {
            file.write_all_at(&bytes(at, 10), at * 4099).unwrap();
            world.source().file("d/small", bytes(at, kib(3))).file(format!("new{round}/{at}"), b"f");
            fs::set_permissions(world.path("d"), fs::Permissions::from_mode(0o700 + round)).unwrap();
            fs::set_permissions(world.path("d/large"), fs::Permissions::from_mode(0o600 + round)).unwrap();
        }
        world.expect_synced(&daemon);
    }
    fs::write(world.path("d/large"), bytes(3, mib(10))).unwrap();
    fs::rename(world.path("d"), world.path("e")).unwrap();
    world.source().file("e/large", bytes(2, mib(9)));
    world.expect_synced(&daemon);
    fs::remove_file(world.path("e/large")).unwrap();
    world.expect_synced(&daemon);
}

#[test]
fn a_daemon_that_lets_one_session_in_gets_large_and_small_files() {
    let world = needs!(World::new(|module, fs| {
        let lock = fs.beside("locks").join("lock").display().to_string();
        module.option("max connections", "1").option("lock file", &lock)
    }));
    let daemon = world.setup().start();
    for round in 0..2 {
        world.source().file("d/large", bytes(round, mib(9))).file("a", bytes(round, kib(5)));
        daemon.wait();
        world.source().file("d/large", bytes(round + 10, mib(8))).file("d/small", bytes(round, kib(1)));
    }
    world.expect_synced(&daemon);
}
