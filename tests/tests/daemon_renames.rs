//! Renames cost no data: what the destination has under an old name is linked to the new one, and the referee has
//! nothing to say after.
#![expect(clippy::unwrap_used, reason = "a test ends where its world does not obey")]

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use ebbtide_tests::{
    Kind, Metered as World, Mirror, Referee, Release, Setup, Tree, bytes, expect_cheap, kib, links_too_many,
    many, mib, needs, seed,
};
use rustix::fs::{CWD, FileType, Mode, RenameFlags};

/// Renames a file and a directory again and again, each time in a batch of its own.
fn rename_in_chains(world: &World) {
    for (from, to) in [("f", "g"), ("d", "e"), ("g", "h"), ("e", "i"), ("i/s1", "j"), ("h", "k")] {
        world.tell(|world| world.rename(from, to));
    }
}

fn with_each_release(build: fn(Tree) -> Tree, limit: usize, change: fn(&World)) {
    for release in Release::ALL {
        for chroot in [true, false] {
            expect_cheap(|| {
                let world = World::with(release, build, |module| module.chroot(chroot), |setup| setup)?;
                Ok(world.is_cheap(limit, change))
            });
        }
    }
}

#[test]
fn a_renamed_file_sends_no_data() {
    let build = |tree: Tree| tree.file("large", bytes(1, mib(20))).file("small", bytes(2, kib(100)));
    with_each_release(build, kib(200), |world| {
        world.rename("large", "grown");
        world.rename("small", "a");
    });
}

#[test]
fn a_renamed_directory_sends_no_data() {
    let build = |tree: Tree| many(tree, "old", 100, kib(100)).symlink("old/link", "s1/f1").dir("old/empty");
    with_each_release(build, kib(60), |world| world.rename("old", "new"));
}

#[test]
fn renames_across_directories_send_no_data() {
    let build =
        |tree: Tree| many(tree.dir("x/y").dir("z"), "x/d", 40, kib(50)).file("x/f", bytes(9, kib(500)));
    expect_cheap(|| {
        let world = World::new(build)?;
        let mut is_cheap = true;
        is_cheap &= world.is_cheap(kib(100), |world| {
            world.rename("x/d", "z/d");
            world.rename("x/f", "x/y/g");
        });
        is_cheap &= world.is_cheap(kib(100), |world| world.rename("x/y/g", "g"));
        is_cheap &= world.is_cheap(kib(100), |world| world.rename("x", "w"));
        Ok(is_cheap)
    });
}

#[test]
fn chains_of_renames_send_no_data_in_one_drain_or_several() {
    let build = |tree: Tree| many(tree.file("f", bytes(1, mib(1))), "d", 20, kib(50));
    expect_cheap(|| {
        let world = World::new(build)?;
        let mut is_cheap = true;
        is_cheap &= world.is_cheap(kib(100), |world| {
            for (from, to) in
                [("f", "f1"), ("d", "d1"), ("f1", "f2"), ("d1", "d2"), ("f2", "f3"), ("d2", "d3")]
            {
                world.rename(from, to);
            }
        });
        for (from, to) in [("f3", "f4"), ("d3", "d4"), ("f4", "f"), ("d4", "d")] {
            is_cheap &= world.is_cheap(kib(100), |world| world.rename(from, to));
        }
        Ok(is_cheap)
    });
}

#[test]
fn rotations_send_no_data() {
    let build = |tree: Tree| {
        let tree = many(many(tree, "current", 20, kib(50)), "next", 21, kib(51));
        (1..5).fold(tree.file("log", bytes(1, kib(300))), |tree, at| {
            tree.file(format!("log.{at}"), bytes(10 + at, kib(300)))
        })
    };
    expect_cheap(|| {
        let world = World::new(build)?;
        let mut is_cheap = true;
        is_cheap &= world.is_cheap(kib(150), |world| {
            for at in (1..5).rev() {
                world.rename(&format!("log.{at}"), &format!("log.{}", at + 1));
            }
            world.rename("log", "log.1");
            fs::write(world.source().join("log"), "new").unwrap();
            world.rename("current", "previous");
            world.rename("next", "current");
        });
        Ok(is_cheap)
    });
}

/// Files and directories that take each other's names, in one drain.
fn exchange_all(world: &World) {
    world.exchange("a", "b");
    world.exchange("f", "g");
    world.exchange("c/x", "y");
    // Rings of three, and of three with a fourth name on the way.
    for names in [["k", "l", "m"], ["c/k", "c/l", "c/m"]] {
        world.exchange(names[0], names[1]);
        world.exchange(names[1], names[2]);
    }
    for names in [["n", "o", "p"], ["c/n", "c/o", "c/p"]] {
        for (from, to) in [(2, 3), (1, 2), (0, 1), (3, 0)] {
            let name = |at: usize| names.get(at).copied().unwrap_or("t");
            world.rename(name(from), name(to));
        }
    }
}

fn with_much_to_exchange(tree: Tree) -> Tree {
    let tree = many(many(tree, "a", 10, kib(50)), "b", 11, kib(51));
    let tree = tree.file("f", bytes(1, mib(1))).file("g", bytes(2, mib(1)));
    let tree = tree.file("c/x", bytes(3, kib(300))).file("y", bytes(4, kib(301)));
    let dirs = (10..).zip(["k", "l", "m", "c/n", "c/o", "c/p"]);
    let tree = dirs.fold(tree, |tree, (count, name)| many(tree, name, count, kib(30)));
    // Some of these have the same content.
    let files = (0..).zip(["n", "o", "p", "c/k", "c/l", "c/m"]);
    files.fold(tree, |tree, (at, name)| tree.file(name, bytes(at / 2, kib(200))))
}

#[test]
fn exchanges_and_rings_of_renames_send_no_data() {
    with_each_release(with_much_to_exchange, kib(500), exchange_all);
}

#[test]
fn exchanges_that_are_told_one_after_the_other_end_right() {
    let build = |tree| with_much_to_exchange(tree).file("q", bytes(7, mib(17))).file("r", bytes(8, mib(18)));
    let world = needs!(World::new(build));
    world.at_once(&[&exchange_all, &|world| world.exchange("b", "k"), &exchange_all]);
    world.exchange("q", "r");
    world.expect_synced();
    exchange_all(&world);
    exchange_all(&world);
    world.expect_synced();
}

#[test]
fn what_changed_in_a_renamed_directory_is_sent_and_the_rest_is_linked() {
    let build = |tree: Tree| many(tree, "d", 50, kib(100));
    expect_cheap(|| {
        let world = World::new(build)?;
        let mut is_cheap = true;
        is_cheap &= world.is_cheap(kib(300), |world| {
            world.rename("d", "e");
            fs::write(world.source().join("e/s1/f1"), bytes(77, kib(90))).unwrap();
            fs::remove_file(world.source().join("e/s2/f2")).unwrap();
            fs::write(world.source().join("e/new"), "new").unwrap();
            fs::write(world.source().join("later"), "other").unwrap();
        });
        is_cheap &= world.is_cheap(kib(300), |world| {
            fs::write(world.source().join("e/s1/f1"), bytes(78, kib(90))).unwrap();
            world.rename("e", "f");
            fs::create_dir(world.source().join("e")).unwrap();
            fs::write(world.source().join("e/stranger"), "stranger").unwrap();
        });
        Ok(is_cheap)
    });
}

/// Writes other bytes of the same length, and gives the file its old time.
fn forge(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"forged", at).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn content_that_changed_under_an_equal_size_and_time_is_never_taken_from_an_old_name() {
    let build = |tree: Tree| {
        let tree = many(tree.file("large", bytes(3, mib(18))), "d", 10, kib(50));
        tree.file("f", bytes(1, kib(500))).file("g", bytes(2, kib(500)))
    };
    let world = needs!(World::new(build));
    world.cost(|world| {
        forge(&world.source().join("d/s1/f1"), 100);
        forge(&world.source().join("large"), 100);
        world.rename("d", "e");
        world.rename("large", "huge");
        forge(&world.source().join("e/s2/f2"), 200);
        forge(&world.source().join("huge"), 200);
        // Two files of one size and time change places.
        world.exchange("f", "g");
    });
    let content = |name: &str| fs::read(world.destination().join(name)).unwrap();
    assert_eq!(&content("e/s2/f2")[200..206], b"forged");
    assert_eq!(&content("huge")[100..106], b"forged");
}

#[test]
fn a_rename_over_something_replaces_it() {
    let build = |tree: Tree| {
        let tree = many(tree.dir("empty"), "d", 10, kib(50));
        tree.file("f", bytes(1, kib(500))).file("g", bytes(2, kib(400))).file("b", bytes(3, kib(500)))
    };
    expect_cheap(|| {
        let world = World::new(build)?;
        let mut is_cheap = true;
        is_cheap &= world.is_cheap(kib(600), |world| {
            world.rename("d", "empty");
            world.rename("f", "g");
            world.rename("g", "b");
        });
        Ok(is_cheap)
    });
}

#[test]
fn renames_into_and_out_of_an_excluded_place_are_removals_and_creations() {
    let build = |tree: Tree| many(many(tree.dir("hidden"), "d", 10, kib(20)), "hidden/h", 10, kib(20));
    let world = needs!(World::with(
        Release::Installed,
        build,
        |module| module,
        |setup| setup.filter("- /hidden/***")
    ));
    world.rename("d", "hidden/d");
    world.rename("hidden/h", "h");
    world.daemon.wait();
    assert!(!world.destination().join("d").exists());
    let referee = Referee::default().without("/hidden");
    referee.expect_equal(&world.source(), &world.destination());
    world.rename("h", "hidden/h2");
    world.rename("hidden/d", "e");
    world.rename("e", "f");
    world.daemon.wait();
    referee.expect_equal(&world.source(), &world.destination());
}

/// Renames at random among names that meet, of files that differ in little: in content, or in time and mode alone.
struct Storm {
    root: std::path::PathBuf,
    random: fastrand::Rng,
    made: u64,
    /// Hard links too, and devices.
    links: bool,
}

impl Storm {
    fn path(&mut self) -> std::path::PathBuf {
        let mut path = self.root.clone();
        for _ in 0..self.random.usize(..3) {
            path.push(["a", "b", "c"][self.random.usize(..3)]);
        }
        path.push(["a", "b", "c", "f", "g", "h", "i"][self.random.usize(..7)]);
        path
    }

    /// What the tree does not allow fails, and that is fine.
    fn step(&mut self) {
        let (one, other) = (self.path(), self.path());
        let kinds = if self.links { 29 } else { 23 };
        match self.random.usize(..kinds) {
            0..10 => drop(fs::rename(one, other)),
            10..13 => drop(rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)),
            13..15 => drop(fs::create_dir(one)),
            15..18 => {
                self.made += self.random.u64(..2);
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(self.random.u64(1..3));
                if fs::write(&one, bytes(self.made, kib(12))).is_ok()
                    && let Ok(file) = fs::File::options().write(true).open(&one)
                {
                    let _ = file.set_modified(time);
                }
            }
            18 => drop(fs::remove_file(one)),
            19 => drop(fs::remove_dir_all(one)),
            20 => drop(std::os::unix::fs::symlink("a", one)),
            21..23 => {
                drop(fs::set_permissions(one, fs::Permissions::from_mode(self.random.u32(0o600..=0o777))));
            }
            23..28 => drop(fs::hard_link(one, other)),
            // A null device, which swallows what is written to it.
            _ => {
                let null = rustix::fs::makedev(1, 3);
                let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o600));
                let _ = rustix::fs::mknodat(CWD, one, kind, mode, null);
            }
        }
    }
}

fn storm(kind: Kind, links: bool, shape: fn(Setup) -> Setup) {
    let mirror = needs!(Mirror::with(kind, |tree| tree, shape));
    let seed = seed();
    let mut storm =
        Storm { root: mirror.source_path(), random: fastrand::Rng::with_seed(seed), made: seed << 20, links };
    for round in 0..rounds() {
        // Long and short ones: in one drain and in several.
        for _ in 0..storm.random.usize(1..STEPS) {
            storm.step();
        }
        if let Some(difference) = mirror.difference() {
            panic!("in round {round} of seed {seed}: {difference}\n{}", mirror.daemon().log());
        }
        let shared = links_too_many(&mirror.source_path(), &mirror.destination());
        assert!(shared.is_empty(), "in round {round} of seed {seed}: {shared:?}\n{}", mirror.daemon().log());
    }
}

fn rounds() -> usize {
    std::env::var("EBBTIDE_ROUNDS").map_or(ROUNDS, |n| n.parse().expect("EBBTIDE_ROUNDS is a number"))
}

/// `EBBTIDE_ROUNDS` makes a run longer.
const ROUNDS: usize = 25;
const STEPS: usize = 60;

#[test]
fn storms_of_renames_on_ext4() {
    storm(Kind::Ext4, false, |setup| setup);
}

#[test]
fn storms_of_renames_among_hard_links_on_ext4() {
    storm(Kind::Ext4, true, |setup| setup);
}

#[test]
fn storms_of_renames_among_hard_links_on_xfs() {
    storm(Kind::Xfs, true, Setup::fanotify_alone);
}

#[test]
fn storms_of_renames_on_tmpfs_without_hard_links() {
    storm(Kind::Tmpfs, false, |setup| setup.fanotify_alone().flag("--no-hard-links"));
}

/// Something with one name outside of a directory, of every kind that can have several.
fn ones(tree: Tree) -> Tree {
    let tree = many(tree.dir("out"), "old", 3, kib(10));
    tree.device("out/device", 1, 3)
        .fifo("out/fifo")
        .symlink("out/symlink", "x")
        .file("out/file", bytes(5, kib(20)))
}

const KINDS: [&str; 4] = ["device", "fifo", "symlink", "file"];

#[test]
fn what_was_linked_into_a_directory_before_that_was_renamed_is_linked_at_the_destination() {
    let world = needs!(World::with(Release::Installed, ones, |module| module, Setup::fanotify_alone));
    let link = |world: &World| {
        KINDS.iter().fold(world.tree(), |tree, kind| tree.link(format!("old/{kind}"), format!("out/{kind}")));
    };
    world.at_once(&[&link, &|world| world.rename("old", "new")]);
    world.expect_synced();
}

#[test]
fn links_between_a_renamed_directory_and_its_surroundings_stay_links() {
    for release in Release::ALL {
        let build = |tree: Tree| {
            KINDS.iter().fold(ones(tree), |tree, kind| {
                tree.link(format!("old/{kind}"), format!("out/{kind}"))
                    .link(format!("old/s1/{kind}2"), format!("out/{kind}"))
            })
        };
        let world = needs!(World::with(release, build, |module| module, |setup| setup));
        world.rename("old", "new");
        world.expect_synced();
        world.rename("new", "out/newer");
        world.rename("out", "outer");
        world.expect_synced();
        world.rename("outer/newer", "old");
        for kind in KINDS {
            world.rename(&format!("outer/{kind}"), &format!("old/s0/{kind}3"));
        }
        world.expect_synced();
    }
}

#[test]
fn names_that_are_no_links_of_each_other_any_more_share_nothing_after_their_directory_was_renamed() {
    let build = |tree: Tree| {
        KINDS.iter().fold(ones(tree), |tree, kind| {
            tree.link(format!("old/{kind}"), format!("out/{kind}"))
                .link(format!("old/{kind}2"), format!("out/{kind}"))
        })
    };
    let world = needs!(World::new(build));
    // The same again, by itself.
    let renew = |world: &World| {
        for kind in KINDS {
            let name = format!("old/{kind}2");
            let time = world.source().join(&name).symlink_metadata().unwrap().modified().unwrap();
            let tree = world.tree().remove(&name);
            let tree = match kind {
                "device" => tree.device(&name, 1, 3),
                "fifo" => tree.fifo(&name),
                "symlink" => tree.symlink(&name, "x"),
                _ => tree.file(&name, bytes(5, kib(20))),
            };
            let since = time.duration_since(std::time::UNIX_EPOCH).unwrap();
            tree.mtime(&name, since.as_secs().cast_signed(), since.subsec_nanos());
        }
    };
    world.at_once(&[&renew, &|world| world.rename("old", "new")]);
    world.expect_synced();
    let inode = |name: String| {
        let at = world.destination().join(name);
        std::os::unix::fs::MetadataExt::ino(&at.symlink_metadata().unwrap())
    };
    for kind in KINDS {
        assert_ne!(
            inode(format!("new/{kind}")),
            inode(format!("new/{kind}2")),
            "{kind}\n{}",
            world.daemon.log()
        );
    }
}

#[test]
fn a_destination_that_was_away_gets_what_was_renamed_meanwhile() {
    let build = |tree: Tree| many(tree.file("f", bytes(1, mib(1))), "d", 20, kib(50));
    let mut world = needs!(World::new(build));
    world.rsyncd.stop();
    rename_in_chains(&world);
    world.rsyncd.start_again();
    world.expect_synced();
}

#[test]
fn a_destination_that_was_paused_follows_renames_when_it_is_resumed() {
    let build = |tree: Tree| many(tree.file("f", bytes(1, mib(1))), "d", 20, kib(50));
    expect_cheap(|| {
        let world = World::new(build)?;
        let mut is_cheap = true;
        // A take that begins before the last rename is told finds a chain without an end, and the file at its end is sent: it
        // is half a mebibyte when it has been compressed, and so is the directory.
        is_cheap &= world.is_cheap(kib(700), |world| {
            world.ask("pause");
            rename_in_chains(world);
            world.ask("resume");
        });
        Ok(is_cheap)
    });
}

#[test]
fn what_a_sender_that_died_knew_of_renames_is_not_needed() {
    let build = |tree: Tree| {
        let tree = many(tree.file("f", bytes(1, kib(100))), "d", 20, kib(10));
        tree.file("g", bytes(2, kib(100)))
            .link("d/linked", "g")
            .device("d/device", 1, 3)
            .link("null", "d/device")
    };
    let world = needs!(World::new(build));
    world.ask("pause");
    world.tell(|world| world.rename("f", "f2"));
    world.tell(|world| world.rename("d", "e"));
    world.tell(|world| world.exchange("g", "f2"));
    if let Some(sender) = world.daemon.kill_sender() {
        ebbtide_tests::eventually("another sender is there", || {
            world.daemon.sender().filter(|other| *other != sender).map(drop)
        });
    }
    world.tell(|world| world.rename("e", "i"));
    world.ask("resume");
    world.expect_synced();
}

#[test]
fn what_was_renamed_before_the_sender_died_or_everything_was_started_again_sends_no_data() {
    let build = |tree: Tree| {
        let tree = many(many(tree, "d", 20, kib(50)), "s", 20, kib(50));
        tree.file("f", bytes(1, mib(1))).file("t", bytes(2, mib(1)))
    };
    let rename = |world: &World| {
        rename_in_chains(world);
        world.tell(|world| world.exchange("s", "i"));
        world.tell(|world| world.exchange("t", "k"));
    };
    let kill = |world: &mut World| {
        if let Some(sender) = world.daemon.kill_sender() {
            ebbtide_tests::eventually("another sender is there", || {
                world.daemon.sender().filter(|other| *other != sender).map(drop)
            });
        }
    };
    let start_again = |world: &mut World| {
        world.daemon.terminate();
        world.daemon.start_again();
    };
    for end in [&kill as &dyn Fn(&mut World), &start_again] {
        expect_cheap(|| {
            let mut world = World::new(build)?;
            world.rsyncd.stop();
            rename(&world);
            end(&mut world);
            world.rsyncd.start_again();
            Ok(world.is_cheap(kib(300), |_| {}))
        });
    }
}

#[test]
fn daemons_that_refuse_the_options_get_a_plain_transfer_and_are_asked_once() {
    for refused in ["link-dest", "hard-links", "checksum", "link-dest hard-links checksum"] {
        let build = |tree: Tree| many(tree.file("f", bytes(1, kib(100))), "d", 10, kib(20));
        let shape = |setup: Setup| setup.flag("--no-hard-links");
        let world = needs!(World::with(Release::Installed, build, |module| module.refuse(refused), shape));
        world.rename("f", "g");
        world.rename("d", "e");
        world.expect_synced();
        let before = world.proxy.connections();
        // One take, however slow the machine is.
        world.at_once(&[&|world| world.rename("g", "f"), &|world| world.rename("e", "d")]);
        world.expect_synced();
        let sessions = world.proxy.connections() - before;
        assert!(sessions < 8, "{refused}: {sessions} sessions");
    }
}

#[test]
fn names_that_are_wild_cards_at_a_daemon_are_renamed_too() {
    let build = |tree: Tree| many(many(tree, "a*b", 5, kib(20)), "axb", 5, kib(21));
    let world = needs!(World::new(build));
    for (from, to) in
        [("a*b", "c[d]e"), ("axb", "a?b"), ("c[d]e", "sp ace"), ("sp ace", "qu'ote\\"), ("qu'ote\\", "plain")]
    {
        world.rename(from, to);
        world.expect_synced();
    }
}
