//! File systems that are seen in parts, twice, or not at all: subvolumes, bind mounts, overlays.
#![expect(clippy::unwrap_used, reason = "a test ends where its world does not obey")]

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use ebbtide_tests::{
    Client, Daemon, FileSystem, Kind, Mapped, Mirror, Module, Referee, Release, Rsyncd, Setup, Skip, Tree,
    needs, program, skip,
};

/// A mount of a test's own, which goes before what it is of.
struct Mounted(PathBuf);

impl Mounted {
    fn new(point: &Path, arguments: &[&str]) -> Result<Mounted, Skip> {
        fs::create_dir_all(point).unwrap();
        let output = Command::new("mount").args(arguments).arg(point).output();
        match output {
            Ok(output) if output.status.success() => Ok(Mounted(point.to_owned())),
            other => Err(Skip(format!("mount {arguments:?}: {other:?}"))),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

/// Two sources, each with a module of its own.
struct Pair {
    daemon: Daemon,
    _rsyncd: Rsyncd,
    sides: [(PathBuf, PathBuf); 2],
}

impl Pair {
    fn start(fs: &FileSystem, sources: [&Path; 2]) -> Result<Pair, Skip> {
        let to = ["to a", "to b"].map(|name| fs.beside(name));
        let modules = [Module::new("a", &to[0]).chroot(true), Module::new("b", &to[1]).chroot(true)];
        let rsyncd = Rsyncd::start(Release::Installed, modules)?;
        let mirror = |source: &Path, module: &str| {
            format!(
                "[[mirror]]\nsource = \"{}\"\ndelete = true\n[[mirror.to]]\nurl = \"{}\"\n",
                source.display(),
                rsyncd.url(module)
            )
        };
        let daemon = Setup::from_file(&(mirror(sources[0], "a") + &mirror(sources[1], "b"))).start();
        let [a, b] = to;
        Ok(Pair { daemon, _rsyncd: rsyncd, sides: [(sources[0].into(), a), (sources[1].into(), b)] })
    }

    #[track_caller]
    fn expect_synced(&self) {
        self.daemon.wait();
        self.sides.iter().for_each(|(from, to)| Referee::default().expect_equal(from, to));
    }

    /// The same is done on both sides at the same time, to inodes that may have the same numbers.
    fn change_all(&self) {
        let both = |change: &dyn Fn(&Path)| self.sides.iter().for_each(|(source, _)| change(source));
        self.expect_synced();
        both(&|source| drop(Tree::at(source).file("f", b"one").file("d/g", b"one").link("d/h", "f")));
        self.expect_synced();
        both(&|source| drop(Tree::at(source).file("f", source.as_os_str().as_encoded_bytes())));
        self.expect_synced();
        both(&|source| {
            fs::rename(source.join("d"), source.join("e")).unwrap();
            fs::write(source.join("e/g"), b"two").unwrap();
        });
        self.expect_synced();
        both(&|source| fs::remove_file(source.join("f")).unwrap());
        self.expect_synced();
        if self.daemon.sees_mapped_stores() {
            both(&|source| Mapped::open(&source.join("e/g")).unwrap().store(0, b"map"));
            self.expect_synced();
        }
    }
}

fn subvolume(path: &Path) -> Result<(), Skip> {
    let made = Command::new("btrfs").args(["subvolume", "create"]).arg(path).output();
    match made {
        Ok(made) if made.status.success() => Ok(()),
        other => Err(Skip(format!("btrfs subvolume create: {other:?}"))),
    }
}

#[test]
fn two_subvolumes_with_the_same_inode_numbers_are_mirrored_at_once() {
    let fs = needs!(FileSystem::new(Kind::Btrfs));
    let (a, b) = (fs.root().join("a"), fs.root().join("b"));
    needs!(subvolume(&a).and_then(|()| subvolume(&b)));
    needs!(Pair::start(&fs, [&a, &b])).change_all();
}

#[test]
fn subvolumes_are_mirrored_where_the_root_of_their_file_system_is_not_mounted() {
    let fs = needs!(FileSystem::new(Kind::Btrfs));
    needs!(subvolume(&fs.root().join("a")).and_then(|()| subvolume(&fs.root().join("b"))));
    let device = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(fs.root()).output().unwrap();
    let device = String::from_utf8(device.stdout).unwrap().trim().to_owned();
    let point = |name: &str| fs.beside("points").join(name);
    let a = needs!(Mounted::new(&point("a"), &["-o", "subvol=a", &device]));
    let b = needs!(Mounted::new(&point("b"), &["-o", "subvol=b", &device]));
    fs.unmount(false);
    let pair = needs!(Pair::start(&fs, [&a.0, &b.0]));
    pair.change_all();
    drop(pair);
    drop((a, b));
}

#[test]
fn two_bind_mounts_of_one_file_system_are_mirrored_at_once() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let fs = needs!(FileSystem::new(kind));
        let (part, other) = (fs.dir("part"), fs.dir("other"));
        let bound = needs!(Mounted::new(&fs.beside("bound"), &["--bind", part.to_str().unwrap()]));
        let pair = needs!(Pair::start(&fs, [&other, &bound.0]));
        pair.change_all();
        // Through the path that is not the source.
        fs::write(part.join("e/g"), b"from elsewhere").unwrap();
        pair.expect_synced();
        drop(pair);
        drop(bound);
    }
}

#[test]
fn a_store_through_a_mapping_to_a_page_that_a_write_had_dirtied_arrives() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let mirror = needs!(Mirror::on(kind));
        if !mirror.daemon().sees_mapped_stores() {
            skip!("nothing sees stores through mappings here");
        }
        let path = mirror.source_path().join("f");
        for round in 0..5_u8 {
            fs::write(&path, [round; 8192]).unwrap();
            mirror.expect_synced();
            // Its page is dirty still.
            let mut mapped = Mapped::open(&path).unwrap();
            mapped.store(5000, b"first");
            mirror.expect_synced();
            mapped.store(5000, b"again");
            mirror.expect_synced();
        }
    }
}

#[test]
fn stores_through_a_mapping_on_tmpfs_arrive_when_the_file_is_closed() {
    let mirror = needs!(Mirror::on(Kind::Tmpfs));
    let path = mirror.source_path().join("f");
    fs::write(&path, [0; 8192]).unwrap();
    mirror.expect_synced();
    let mut mapped = Mapped::open(&path).unwrap();
    mapped.store(1, b"once");
    mapped.store(5000, b"again");
    // Stores move no time, so that the quick check of the referee would not do; it compares bytes.
    drop(mapped);
    mirror.expect_synced();
}

#[test]
fn what_is_mounted_over_a_directory_hides_it_and_uncovers_it_again_without_a_loss() {
    let mut mirror = needs!(Mirror::on(Kind::Ext4));
    if !Client::under_test().is_ours() {
        skip!("stock rsync watches nothing");
    }
    let (source, there) = (mirror.source_path(), mirror.destination());
    let taints = |mirror: &Mirror| mirror.daemon().status()["mirrors"][0]["taints"].as_u64().unwrap();
    mirror.source().file("d/x", b"before").file("d/sub/y", b"y").file("e/z", b"z");
    mirror.expect_synced();
    let before = taints(&mirror);
    // Whoever has it open goes on changing it.
    let hidden = File::open(source.join("d")).unwrap();
    let mounted = needs!(Mounted::new(&source.join("d"), &["-t", "tmpfs", "tmpfs"]));
    fs::write(format!("/proc/self/fd/{}/x", hidden.as_raw_fd()), b"behind").unwrap();
    mirror.source().file("d/other", b"not ours").file("d/sub/y", b"nor this").file("e/z", b"goes on");
    mirror.daemon().wait();
    let staying = || Referee::with("-naHAXcx").await_equal(&source, &there);
    staying();
    assert_eq!(fs::read(there.join("d/x")).unwrap(), b"before");
    assert_eq!(fs::read(there.join("d/sub/y")).unwrap(), b"y");
    assert!(!mirror.arrived("d/other"));
    mirror.daemon().full_sync();
    staying();
    assert_eq!(fs::read(there.join("d/sub/y")).unwrap(), b"y");
    assert!(!mirror.arrived("d/other"));
    let asked = taints(&mirror);
    drop(hidden);
    drop(mounted);
    mirror.await_synced();
    assert_eq!(fs::read(there.join("d/x")).unwrap(), b"behind");
    assert_eq!(
        (before + 1, taints(&mirror)),
        (asked, asked),
        "only what was asked for compares the whole mirror"
    );
    mirror.source().file("d/x", b"after").remove("d/sub");
    mirror.await_synced();
    // Uncovered while nobody watches.
    let hidden = File::open(source.join("d")).unwrap();
    let mounted = needs!(Mounted::new(&source.join("d"), &["-t", "tmpfs", "tmpfs"]));
    mirror.daemon().wait();
    fs::write(format!("/proc/self/fd/{}/x", hidden.as_raw_fd()), b"again").unwrap();
    mirror.daemon().wait();
    mirror.daemon_mut().terminate();
    drop(hidden);
    drop(mounted);
    mirror.daemon_mut().start_again();
    mirror.await_synced();
    assert_eq!(fs::read(there.join("d/x")).unwrap(), b"again");
}

#[test]
fn a_file_system_that_is_unmounted_below_the_source_removes_nothing_before_it_is_released() {
    let fs = needs!(FileSystem::new(Kind::Ext4));
    if !Client::under_test().is_ours() {
        skip!("stock rsync watches nothing");
    }
    let (source, there) = (fs.dir("source"), fs.beside("there"));
    let point = source.join("d");
    let mount = || Mounted::new(&point, &["-t", "tmpfs", "tmpfs"]);
    let first = needs!(mount());
    Tree::at(&source).file("a", b"a");
    let rsyncd = needs!(Rsyncd::start(Release::Installed, [Module::new("m", &there).chroot(true)]));
    let mut daemon = Setup::new(&source).to(rsyncd.url("m")).start();
    daemon.wait();
    // As a mirror of that file system to the same place would have put it there.
    Tree::at(&there).file("d/theirs/x", b"x");
    let away = |daemon: &Daemon| daemon.status()["mirrors"][0]["away"].as_array().unwrap().len();
    let kept = |daemon: &Daemon, text: &[u8]| {
        Tree::at(&source).file("a", text).file("d/log", text);
        daemon.full_sync();
        assert_eq!(fs::read(there.join("a")).unwrap(), text);
        assert!(there.join("d/theirs/x").exists() && !there.join("d/log").exists());
    };
    assert_eq!(away(&daemon), 0);
    kept(&daemon, b"mounted");
    drop(first);
    daemon.wait();
    assert_eq!(away(&daemon), 1);
    kept(&daemon, b"unmounted");
    fs::remove_file(point.join("log")).unwrap();
    daemon.wait();
    kept(&daemon, b"and bare");
    daemon.terminate();
    daemon.start_again();
    assert_eq!(away(&daemon), 1);
    kept(&daemon, b"started again");
    let second = needs!(mount());
    daemon.wait();
    assert_eq!(away(&daemon), 0);
    kept(&daemon, b"mounted again");
    drop(second);
    daemon.wait();
    assert_eq!(away(&daemon), 1);
    assert!(daemon.ask(&["release"]).status.success());
    daemon.wait();
    assert_eq!(away(&daemon), 0);
    Referee::default().await_equal(&source, &there);
    assert!(there.join("d/log").exists() && !there.join("d/theirs").exists());
    Tree::at(&source).file("d/new", b"n");
    daemon.wait();
    Referee::default().await_equal(&source, &there);
    daemon.terminate();
    daemon.start_again();
    assert_eq!(away(&daemon), 0);
}

#[test]
fn what_is_bound_below_the_source_is_mirrored_where_it_is_and_nowhere_else() {
    let mirror = needs!(Mirror::on(Kind::Ext4));
    if !Client::under_test().is_ours() {
        skip!("stock rsync watches nothing");
    }
    let source = mirror.source_path();
    mirror.source().file("a/x", b"x").file("b/y", b"y");
    mirror.expect_synced();
    let a = source.join("a");
    let bound = needs!(Mounted::new(&source.join("b"), &["--bind", a.to_str().unwrap()]));
    mirror.source().file("b/x", b"changed through the other name").file("b/new", b"n");
    mirror.daemon().wait();
    mirror.daemon().full_sync();
    let there = mirror.destination();
    assert_eq!(fs::read(there.join("a/x")).unwrap(), b"changed through the other name");
    assert!(mirror.arrived("a/new") && mirror.arrived("b/y") && !mirror.arrived("b/x"));
    drop(bound);
    mirror.await_synced();
    mirror.source().file("b/y", b"z");
    mirror.await_synced();
}

#[test]
fn an_overlay_is_mirrored_or_refused_with_what_to_do() {
    let fs = needs!(FileSystem::new(Kind::Ext4));
    let dirs = ["lower", "upper", "work"].map(|name| fs.dir(name).display().to_string());
    let options = format!("lowerdir={},upperdir={},workdir={}", dirs[0], dirs[1], dirs[2]);
    let merged = needs!(Mounted::new(&fs.beside("merged"), &["-t", "overlay", "overlay", "-o", &options]));
    let output = Command::new(program("ebbtide")).arg("watch").arg(&merged.0).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("upper directory") || text.contains("underneath"), "{text}");
}
