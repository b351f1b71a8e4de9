//! What keeps a destination from losing everything: `max-delete`, a source that is empty or another one, and pauses.

use std::fs;
use std::path::{Path, PathBuf};

use ebbtide_tests::{
    Daemon, FileSystem, Kind, Module, Referee, Release, Rsyncd, Setup, Skip, Tree, eventually, needs,
};

/// A source with a hundred files in ten directories, two destinations, and ebbtide between them.
struct World {
    daemon: Daemon,
    rsyncd: Rsyncd,
    fs: FileSystem,
}

impl World {
    fn new(release: Release, shape: impl FnOnce(Setup) -> Setup) -> Result<World, Skip> {
        let fs = FileSystem::new(Kind::Ext4)?;
        let source = Tree::at(&fs.dir("source"));
        (0..100).fold(source, |tree, n| tree.file(format!("d{}/f{n}", n % 10), format!("{n}")));
        let modules = ["a", "b"].map(|name| Module::new(name, &fs.beside(name)).chroot(true));
        let rsyncd = Rsyncd::start(release, modules)?;
        let setup = Setup::new(&fs.root().join("source")).to(rsyncd.url("a")).to(rsyncd.url("b"));
        let daemon = shape(setup).start();
        daemon.wait();
        Ok(World { daemon, rsyncd, fs })
    }

    fn source(&self) -> PathBuf {
        self.fs.root().join("source")
    }

    fn tree(&self) -> Tree {
        Tree::at(&self.source())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.fs.beside(name)
    }

    /// Waits until removals are held at a destination, and tells how many and why.
    fn held(&self, name: &str) -> (u64, String) {
        let to =
            self.daemon.destination(&self.rsyncd.url(name), "removals are held", |to| !to["held"].is_null());
        let reason = to["held"]["reason"].as_str().expect("a text").to_owned();
        (to["held"]["removals"].as_u64().expect("a number"), reason)
    }

    fn expect_equal(&self) {
        self.daemon.wait();
        ["a", "b"].iter().for_each(|name| Referee::default().expect_equal(&self.source(), &self.at(name)));
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.daemon.ask(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("plain text")
    }
}

fn files(below: &Path) -> usize {
    let entries = fs::read_dir(below).expect("a directory").map(|entry| entry.expect("readable").path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[test]
fn more_removals_than_max_delete_are_held_at_each_destination_until_they_are_released() {
    for release in Release::ALL {
        let world = needs!(World::new(release, |setup| setup.option("--max-delete", "20")));
        world.tree().remove("d1/f1").file("d2/fresh", b"1");
        world.expect_equal();
        // One name, and ten below it.
        world.tree().remove("d3").remove("d4").remove("d5").file("d2/fresh", b"22");
        eventually("the change beside the removals arrives", || {
            let arrived =
                |name| fs::read(world.at(name).join("d2/fresh")).is_ok_and(|content| content == b"22");
            (arrived("a") && arrived("b")).then_some(())
        });
        let (removals, reason) = world.held("a");
        assert!(removals > 0, "{removals}");
        assert_eq!(reason, "max-delete is 20");
        world.held("b");
        assert!(files(&world.at("a")) >= 80, "{}", files(&world.at("a")));
        assert!(!world.daemon.try_wait(1).success());
        world.run(&["release", "--to", &world.rsyncd.url("a")]);
        Referee::default().await_equal(&world.source(), &world.at("a"));
        world.held("b");
        world.run(&["release"]);
        world.expect_equal();
    }
}

#[test]
fn what_a_comparison_would_remove_is_held_too_and_stays_held_over_a_restart() {
    let mut world = needs!(World::new(Release::Installed, |setup| setup.option("--max-delete", "20")));
    world.daemon.terminate();
    for name in ["d6", "d7", "d8"] {
        fs::remove_dir_all(world.source().join(name)).unwrap();
    }
    world.tree().file("d9/fresh", b"1");
    for _ in 0..2 {
        world.daemon.start_again();
        world.held("a");
        eventually("what is new arrives", || world.at("a").join("d9/fresh").exists().then_some(()));
        assert!(files(&world.at("a")) >= 80, "{}", files(&world.at("a")));
        world.daemon.terminate();
    }
    let setup = Setup::new(&world.source()).to(world.rsyncd.url("a")).to(world.rsyncd.url("b"));
    world.daemon.reconfigure(setup.option("--max-delete", "90%"));
    world.daemon.start_again();
    world.expect_equal();
}

#[test]
fn a_source_that_is_found_empty_removes_nothing_and_goes_on_when_it_has_something_again() {
    let mut world = needs!(World::new(Release::Installed, |setup| setup));
    world.daemon.terminate();
    let kept = world.fs.root().join("kept");
    fs::create_dir(&kept).unwrap();
    for n in 0..10 {
        let name = format!("d{n}");
        fs::rename(world.source().join(&name), kept.join(&name)).unwrap();
    }
    world.daemon.start_again();
    assert_eq!(world.held("a").1, "the source directory is empty");
    assert_eq!(files(&world.at("a")), 100);
    for n in 0..10 {
        let name = format!("d{n}");
        fs::rename(kept.join(&name), world.source().join(&name)).unwrap();
    }
    world.expect_equal();
}

#[test]
fn another_source_directory_than_before_is_mirrored_only_after_a_release() {
    let mut world = needs!(World::new(Release::Installed, |setup| setup));
    let other = |world: &World| {
        fs::rename(world.source(), world.fs.root().join("old")).unwrap();
        world.tree().file("other", b"x");
    };
    let back = |world: &World| {
        fs::remove_dir_all(world.source()).unwrap();
        fs::rename(world.fs.root().join("old"), world.source()).unwrap();
    };
    let halted = |world: &World| world.daemon.status()["mirrors"][0]["halted"].as_str().map(str::to_owned);
    // Over a restart.
    world.daemon.terminate();
    other(&world);
    world.daemon.start_again();
    assert!(halted(&world).is_some_and(|why| why.contains("another directory")));
    assert!(!world.daemon.try_wait(1).success());
    assert_eq!(files(&world.at("a")), 100);
    world.daemon.terminate();
    back(&world);
    world.daemon.start_again();
    assert_eq!(halted(&world), None);
    world.expect_equal();
    // While it runs.
    other(&world);
    eventually("the mirror stops", || {
        (world.daemon.status()["mirrors"][0]["root_lost"] == true).then_some(())
    });
    assert_eq!(files(&world.at("a")), 100);
    assert!(world.run(&["release"]).contains("accepted"));
    world.expect_equal();
    world.tree().file("later", b"1");
    world.expect_equal();
    world.daemon.terminate();
    world.daemon.start_again();
    assert_eq!(halted(&world), None);
    world.expect_equal();
}

#[test]
fn a_destination_that_is_paused_gets_nothing_over_restarts_and_catches_up_when_it_is_resumed() {
    let mut world = needs!(World::new(Release::Installed, |setup| setup));
    let b = world.rsyncd.url("b");
    assert_eq!(world.run(&["pause", "--to", &b]), format!("paused: {b}\n"));
    world.tree().file("fresh", b"1").remove("d1");
    Referee::default().await_equal(&world.source(), &world.at("a"));
    world.daemon.destination(&b, "it is paused", |to| to["state"] == "paused");
    world.daemon.terminate();
    world.daemon.start_again();
    world.daemon.destination(&b, "it is still paused", |to| to["state"] == "paused");
    world.tree().file("later", b"1");
    Referee::default().await_equal(&world.source(), &world.at("a"));
    assert!(!world.at("b").join("fresh").exists() && world.at("b").join("d1").exists());
    world.run(&["resume", &world.source().display().to_string()]);
    world.expect_equal();
    let output = world.daemon.ask(&["pause", "/no/such/mirror"]);
    assert!(!output.status.success());
}
