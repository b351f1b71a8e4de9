//! Renames where the destination is not as it was, or lets not everything be done: what cannot be linked is sent, and
//! nothing is linked that should not be.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use ebbtide_tests::{
    Metered, Module, Referee, Release, Setup, Skip, Tree, bytes, eventually, expect_cheap, kib,
    links_too_many, many, needs,
};

/// A file and a directory.
fn both(tree: Tree) -> Tree {
    many(tree.file("f", bytes(100, kib(300))), "d", 20, kib(20))
}

#[track_caller]
fn expect_separate(world: &Metered) {
    let shared = links_too_many(&world.source(), &world.destination());
    assert!(shared.is_empty(), "these share an inode with others: {shared:?}\n{}", world.daemon.log());
}

#[test]
fn files_of_equal_content_that_take_each_others_names_keep_their_own_attributes() {
    for [young, old, oldest] in [["a", "b", "c"], ["c", "b", "a"], ["z", "d/m", "d/a"]] {
        let build = |tree: Tree| {
            tree.dir("d")
                .file(young, bytes(1, kib(20)))
                .file(old, bytes(1, kib(20)))
                .file("d/m", bytes(1, kib(20)))
        };
        let world = needs!(Metered::new(build));
        world.tree().mtime(young, 2000, 0).mtime(old, 1000, 0).mode(old, 0o600);
        world.expect_synced();
        world.at_once(&[&|world| world.rename(old, oldest), &|world| world.rename(young, old)]);
        world.expect_synced();
        expect_separate(&world);
    }
}

#[test]
fn what_a_module_hides_holds_up_no_rename() {
    for release in Release::ALL {
        let hide = |module: Module| module.option("exclude", "*.tmp");
        let world = needs!(Metered::with(release, both, hide, |setup| setup));
        // It refuses these.
        let tree = many(world.tree().file("g.tmp", bytes(7, kib(50))), "e.tmp", 5, kib(20));
        eventually("they were refused", || (!world.daemon.try_wait(1).success()).then_some(()));
        drop(tree);
        world.rename("g.tmp", "g");
        world.rename("e.tmp", "e");
        world.expect_synced();
        world.rename("g", "g.tmp");
        world.rename("d", "d.tmp");
        world.rename("e", "n");
        let referee = Referee::default().without("*.tmp");
        referee.await_equal(&world.source(), &world.destination());
        world.rename("d.tmp", "d");
        world.rename("g.tmp", "f");
        world.expect_synced();
    }
}

#[test]
fn old_names_whose_removal_is_held_are_linked_to_nothing() {
    let build = |tree: Tree| (0..5).fold(tree, |tree, n| tree.file(format!("f{n}"), bytes(n, kib(20))));
    let limit = |setup: Setup| setup.option("--max-delete", "0");
    let world = needs!(Metered::with(Release::Installed, build, |module| module, limit));
    (0..5).for_each(|n| world.rename(&format!("f{n}"), &format!("g{n}")));
    let at = |name: &str, n: u32| world.destination().join(format!("{name}{n}"));
    eventually("the new names arrive", || (0..5).all(|n| at("g", n).exists()).then_some(()));
    for n in 0..5 {
        assert!(at("f", n).exists(), "it is held");
        assert_eq!(at("g", n).metadata().unwrap().nlink(), 1, "{}", world.daemon.log());
    }
    eventually("they are let go", || {
        let released = world.daemon.ask(&["release"]).status.success();
        (released && (0..5).all(|n| !at("f", n).exists())).then_some(())
    });
    world.expect_synced();
}

/// A tmpfs of a test's own.
struct Mounted(PathBuf);

impl Mounted {
    fn over(point: PathBuf) -> Result<Mounted, Skip> {
        let output = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&point).output();
        match output {
            Ok(output) if output.status.success() => Ok(Mounted(point)),
            other => Err(Skip(format!("mount: {other:?}"))),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[test]
fn what_is_renamed_to_another_file_system_of_the_destination_arrives() {
    for release in Release::ALL {
        let world =
            needs!(Metered::with(release, |tree| both(tree).dir("z"), |module| module, |setup| setup));
        let _mounted = needs!(Mounted::over(world.destination().join("z")));
        world.rename("f", "z/f");
        world.rename("d", "z/d");
        world.expect_synced();
        world.rename("z/f", "g");
        world.rename("z/d", "e");
        world.expect_synced();
    }
}

#[test]
fn a_destination_that_was_changed_behind_our_back_ends_equal() {
    let build = |tree: Tree| many(both(tree).file("g", bytes(3, kib(100))), "e", 5, kib(20));
    let spoils: [&dyn Fn(&Path); 5] = [
        &|at| drop(Tree::at(at).remove("f").remove("d")),
        &|at| drop(many(Tree::at(at).remove("f").remove("d").file("d", "x"), "f", 5, kib(1))),
        &|at| drop(Tree::at(at).remove("f").symlink("f", "g").remove("d").symlink("d", "e")),
        &|at| {
            drop(
                Tree::at(at).remove("f").link("f", "g").remove("d/s1").file("d/s2/f2", "x").mode("d", 0o500),
            );
        },
        &|at| drop(many(Tree::at(at), "f2", 5, kib(1)).file("d2", "x")),
    ];
    for spoil in spoils {
        let mut world = needs!(Metered::new(build));
        // Blocks that are allocated late may make it send something at any moment.
        world.rsyncd.stop();
        spoil(&world.destination());
        world.rsyncd.start_again();
        world.at_once(&[&|world| world.rename("f", "f2"), &|world| world.rename("d", "d2")]);
        world.expect_synced();
        world.tree().mode("f2", 0o640).mode("g", 0o444);
        world.expect_synced();
    }
}

#[test]
fn a_directory_of_a_module_is_a_destination_that_follows_renames() {
    for release in Release::ALL {
        for chroot in [true, false] {
            expect_cheap(|| {
                let module = |module: Module| module.chroot(chroot);
                let world = Metered::below("deep/in it/", release, both, module, |setup| setup)?;
                Ok(world.is_cheap(kib(60), |world| {
                    world.rename("f", "g");
                    world.rename("d", "e");
                }))
            });
        }
    }
}

#[test]
fn a_daemon_that_stores_attributes_its_own_way_follows_renames() {
    let nobody = ("uid", "65534");
    let own = ("pre-xfer exec", "chown 65534 \"$RSYNC_MODULE_PATH\"");
    let ways: [(&[(&str, &str)], &str); 3] = [
        (&[("fake super", "yes")], "-nrlHc"),
        (&[("incoming chmod", "D700,F600")], "-nrltogHc"),
        (&[nobody, own, ("use chroot", "yes")], "-nrlptHc"),
    ];
    for (options, letters) in ways {
        expect_cheap(|| {
            let module = |module: Module| {
                options.iter().fold(module, |module, (option, value)| module.option(option, value))
            };
            let world = Metered::with(Release::Installed, both, module, |setup| setup)?;
            let before = world.proxy.sent();
            world.rename("f", "g");
            world.rename("d", "e");
            world.daemon.wait();
            let sent = world.proxy.sent() - before;
            Referee::with(letters).expect_equal(&world.source(), &world.destination());
            Ok(sent < kib(60) as u64)
        });
    }
}

#[test]
fn attributes_of_all_kinds_come_along() {
    let shape = |setup: Setup| setup.flag("--acls").flag("--xattrs");
    let world = needs!(Metered::with(Release::Installed, both, |module| module, shape));
    let mark = |world: &Metered, name: &str| {
        let at = world.source().join(name);
        assert!(
            Command::new("setfattr").args(["-n", "user.x", "-v", "y"]).arg(&at).status().unwrap().success()
        );
        assert!(Command::new("setfacl").args(["-m", "u:7:r"]).arg(&at).status().unwrap().success());
        fs::set_permissions(at, fs::Permissions::from_mode(0o751)).unwrap();
    };
    mark(&world, "f");
    mark(&world, "d/s1/f1");
    world.expect_synced();
    world.at_once(&[
        &|world| mark(world, "d/s2/f2"),
        &|world| world.rename("f", "g"),
        &|world| world.rename("d", "e"),
        &|world| mark(world, "e/s3/f3"),
    ]);
    world.expect_synced();
}

/// What stands for a while where exchanges go over it.
const THIRD: &str = ".ebbtide-renamed-0";

#[test]
fn an_exchange_that_breaks_off_half_way_ends_right() {
    let breaks: [&dyn Fn(&mut Metered); 2] = [
        &|world| {
            world.rsyncd.stop();
            world.rsyncd.start_again();
        },
        &|world| _ = world.daemon.kill_sender(),
    ];
    for break_off in breaks {
        let build = |tree: Tree| {
            let tree = many(many(tree, "a", 40, kib(20)), "b", 41, kib(20));
            tree.file("f", bytes(1, kib(300))).file("g", bytes(2, kib(301)))
        };
        let mut world = needs!(Metered::new(build));
        for round in 0..4 {
            let names = if round % 2 == 0 { ["a", "b"] } else { ["f", "g"] };
            world.exchange(names[0], names[1]);
            let is_there = |world: &Metered| {
                // It passes by, and nobody may have seen it.
                let size = |root: PathBuf| root.join("f").metadata().map_or(0, |meta| meta.len());
                let is_through = names[0] == "f" && size(world.source()) == size(world.destination());
                let files = |root: PathBuf| root.join("a/s5/f40").exists();
                let is_through =
                    is_through || names[0] == "a" && files(world.source()) == files(world.destination());
                world.destination().join(THIRD).exists() || is_through
            };
            eventually("an exchange is under way", || is_there(&world).then_some(()));
            break_off(&mut world);
            world.expect_synced();
        }
    }
}
