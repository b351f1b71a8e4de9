//! Several mirrors over the same directories: nested, overlapping, the same one twice.

use std::fs;
use std::path::{Path, PathBuf};

use ebbtide_tests::{
    Client, Daemon, FileSystem, Kind, Module, Ops, Referee, Release, Rsyncd, Setup, Skip, Tree, eventually,
    needs, seed,
};

/// A mirror: its source below the file system's root, and its rules.
type Part = (&'static str, &'static [&'static str]);

/// One file system, and mirrors of parts of it, each with a module of its own.
struct World {
    daemon: Daemon,
    _rsyncd: Rsyncd,
    fs: FileSystem,
    parts: Vec<Part>,
}

impl World {
    fn start(kind: Kind, parts: &[Part]) -> Result<World, Skip> {
        if !Client::under_test().is_ours() {
            return Err(Skip("stock rsync has one source".into()));
        }
        let fs = FileSystem::new(kind)?;
        let names = (0..parts.len()).map(|at| format!("m{at}"));
        let modules = names.map(|name| Module::new(&name, &fs.beside(&name)).chroot(true));
        let rsyncd = Rsyncd::start(Release::Installed, modules)?;
        let mirrors = parts.iter().enumerate().map(|(at, (source, rules))| {
            let (source, url) = (fs.dir(source), rsyncd.url(&format!("m{at}")));
            format!(
                "[[mirror]]\nsource = {source:?}\ndelete = true\nfilter = {rules:?}\n[[mirror.to]]\nurl = {url:?}\n"
            )
        });
        let daemon = Setup::from_file(&mirrors.collect::<String>()).start();
        Ok(World { daemon, _rsyncd: rsyncd, fs, parts: parts.to_vec() })
    }

    fn tree(&self) -> Tree {
        Tree::at(self.fs.root())
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.fs.root().join(from), self.fs.root().join(to)).expect("a rename on one file system");
    }

    fn there(&self, at: usize) -> PathBuf {
        self.fs.beside(&format!("m{at}"))
    }

    fn has(&self, at: usize, name: &str) -> bool {
        self.there(at).join(name).symlink_metadata().is_ok()
    }

    /// A file whose blocks are allocated later may be sent once more while the referee looks.
    #[track_caller]
    fn expect_synced(&self) {
        self.daemon.wait();
        for (at, (source, rules)) in self.parts.iter().enumerate() {
            Referee::default().filtered(rules).await_equal(&self.fs.root().join(source), &self.there(at));
        }
    }

    fn await_root_lost(&self, at: usize, lost: bool) {
        let is_lost = || self.daemon.status()["mirrors"][at]["root_lost"] == lost;
        eventually("the root is known to be gone, or back", || is_lost().then_some(()));
    }

    /// Groups of fanotify, and objects of BPF, that the daemon has open.
    fn listeners(&self) -> [usize; 2] {
        let pid = self.daemon.pid().expect("it is running");
        let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it is running").flatten();
        let infos: Vec<_> = infos.filter_map(|info| fs::read_to_string(info.path()).ok()).collect();
        let count = |what: &str| infos.iter().filter(|info| info.contains(what)).count();
        [count("fanotify flags:"), count("prog_id:") + count("map_id:")]
    }
}

const NESTED: [Part; 3] = [("a", &[]), ("a/b", &[]), ("a/b/c", &[])];

fn nested_ones_follow(kind: Kind) {
    let world = needs!(World::start(kind, &NESTED));
    world.tree().file("a/x", b"x").file("a/b/y", b"y").file("a/b/c/z", b"z").file("a/d/e/f", b"f");
    world.expect_synced();
    // From one part to another, files and directories, there and back.
    world.rename("a/x", "a/b/x");
    world.rename("a/d", "a/b/c/d");
    world.expect_synced();
    assert!(!world.has(0, "x") && world.has(1, "c/d/e/f") && world.has(2, "d/e/f"));
    world.rename("a/b/x", "a/b/c/x");
    world.rename("a/b/c/d", "a/d");
    world.tree().file("a/d/e/f", b"changed after it was moved").file("a/b/c/x", b"so was this");
    world.expect_synced();
    // One inode in all of them, changed under each name.
    world.tree().link("a/h", "a/b/c/x").link("a/b/h", "a/h").mode("a/h", 0o600);
    world.expect_synced();
    for name in ["a/h", "a/b/h", "a/b/c/x"] {
        world.tree().file(name, name.as_bytes());
        world.expect_synced();
    }
    world.tree().remove("a/b/h").mode("a/b/c/x", 0o640);
    world.expect_synced();
    // The directories that are roots themselves.
    world.tree().mode("a/b", 0o711).mode("a/b/c", 0o700).mtime("a/b/c", 1_000_000, 5);
    world.expect_synced();
}

#[test]
fn nested_mirrors_follow_what_moves_between_them() {
    nested_ones_follow(Kind::Ext4);
}

#[test]
fn nested_mirrors_follow_what_moves_between_them_with_fanotify() {
    nested_ones_follow(Kind::Xfs);
}

#[test]
fn one_source_goes_to_several_places_by_different_rules() {
    let all: &[&str] = &[];
    let parts: [Part; 3] = [("a", all), ("a", &["- *.tmp", "- /cache/"]), ("a", &["+ */", "+ *.tmp", "- *"])];
    let world = needs!(World::start(Kind::Ext4, &parts));
    world
        .tree()
        .file("a/x", b"x")
        .file("a/d/y.tmp", b"y")
        .file("a/cache/z", b"z")
        .file("a/cache/w.tmp", b"w");
    world.expect_synced();
    assert!(world.has(0, "cache/w.tmp") && !world.has(1, "cache") && world.has(2, "cache/w.tmp"));
    world.rename("a/x", "a/x.tmp");
    world.rename("a/d/y.tmp", "a/d/y");
    world.rename("a/cache", "a/kept");
    world.expect_synced();
    assert!(!world.has(1, "x.tmp") && world.has(1, "kept/z") && !world.has(2, "d/y"));
    world.tree().link("a/kept/z.tmp", "a/kept/z").file("a/kept/z", b"more").file("a/x.tmp", b"more");
    world.expect_synced();
    world.tree().remove("a/kept").file("a/kept/new.tmp", b"n");
    world.expect_synced();
}

#[test]
fn a_nested_root_that_is_removed_stops_its_own_mirror_and_no_other() {
    let world = needs!(World::start(Kind::Ext4, &NESTED[..2]));
    world.tree().file("a/x", b"x").file("a/b/y", b"y").file("a/b/d/z", b"z");
    world.expect_synced();
    // In one step for the tracker: what goes before its root does is removed, as it should be.
    world.daemon.unseen(|| drop(world.tree().remove("a/b")));
    world.await_root_lost(1, true);
    // The whole is waited for by what it gets: the barrier is of both.
    eventually("the whole has lost the part", || (!world.has(0, "b")).then_some(()));
    world.tree().file("a/x", b"goes on");
    eventually("the whole goes on", || {
        fs::read(world.there(0).join("x")).is_ok_and(|text| text == b"goes on").then_some(())
    });
    assert!(world.has(1, "y") && world.has(1, "d/z"), "what is gone removes nothing");
    // Another directory of that name is followed when a person says so.
    world.tree().file("a/b/new", b"n");
    eventually("the whole has the new one", || world.has(0, "b/new").then_some(()));
    assert!(world.has(1, "y") && !world.has(1, "new"));
    assert!(world.daemon.ask(&["release"]).status.success());
    world.await_root_lost(1, false);
    world.expect_synced();
    assert!(world.has(1, "new") && !world.has(1, "y"));
}

#[test]
fn a_nested_root_that_is_moved_away_and_back_is_followed_again() {
    let world = needs!(World::start(Kind::Ext4, &NESTED[..2]));
    world.tree().file("a/b/y", b"y").file("a/b/d/z", b"z");
    world.expect_synced();
    world.rename("a/b", "a/c");
    world.await_root_lost(1, true);
    world.tree().file("a/c/while away", b"w").remove("a/c/d/z");
    eventually("the whole has it where it is", || world.has(0, "c/while away").then_some(()));
    assert!(world.has(1, "y") && world.has(1, "d/z"));
    world.rename("a/c", "a/b");
    world.await_root_lost(1, false);
    world.expect_synced();
    assert!(world.has(1, "while away"));
}

#[test]
fn many_mirrors_on_one_file_system_share_one_set_of_probes() {
    let one = needs!(World::start(Kind::Ext4, &NESTED[..1])).listeners();
    let all: &[&str] = &[];
    let many = [("a", all), ("a", &["- x"]), ("a/b", all), ("a/b/c", all), ("d", all), ("e/f", all)];
    let world = needs!(World::start(Kind::Ext4, &many));
    let shared = || (world.listeners() == one).then_some(());
    eventually("they share one set of probes", shared);
    assert_eq!(one[0], 1);
    world.tree().file("a/b/c/x", b"x").file("d/y", b"y").file("e/f/z", b"z");
    world.expect_synced();
    eventually("they still share one set of probes", shared);
}

#[test]
fn random_operations_in_nested_and_overlapping_mirrors() {
    let parts: [Part; 4] =
        [("a", &[]), ("a/b", &[]), ("a", &["- file1*", "- /b/green/"]), ("a/c", &["- /red/"])];
    let mut world = needs!(World::start(Kind::Ext4, &parts));
    let seed = seed();
    let at = |name: &str, more: u64| Ops::new(&world.fs.root().join(name), seed + more, 2).without_mmap();
    let mut places = [at("a/b", 0), at("a/c", 1)];
    for round in 0..4 {
        places.iter_mut().for_each(|ops| ops.run(300));
        exchange(&world.fs.root().join("a"), round);
        if round == 2 {
            world.daemon.terminate();
            places.iter_mut().for_each(|ops| ops.run(100));
            world.daemon.start_again();
        }
        world.expect_synced();
    }
}

/// Moves the entries of `a/b` and `a/c` whose names sort before the middle into the other one, where the names are free.
fn exchange(a: &Path, round: usize) {
    let (from, to) = if round.is_multiple_of(2) { ("b", "c") } else { ("c", "b") };
    let mut names: Vec<_> =
        fs::read_dir(a.join(from)).expect("it is there").flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in &names[..names.len() / 2] {
        if a.join(to).join(name).symlink_metadata().is_err() {
            fs::rename(a.join(from).join(name), a.join(to).join(name)).expect("a rename on one file system");
        }
    }
}
