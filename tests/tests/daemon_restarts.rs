//! What a daemon leaves to the next one: killed at whatever it is doing, or stopped, what was marked before, meanwhile
//! and after is followed up.
//!
//! `EBBTIDE_KILLS` and `EBBTIDE_BURST` make the run of random kills longer: so many times, amid so many changes.
#![expect(clippy::unwrap_used, reason = "a test ends where its world does not obey")]

use std::fs;
use std::path::Path;
use std::thread;

use ebbtide_tests::{
    Client, Daemon, Kind, Manager, Mirror, Ops, Setup, Tree, bytes, eventually, kib, needs, seed, skip,
};
use serde_json::Value;

/// Skips where there is no process of ours to be killed.
macro_rules! ours {
    () => {
        if !Client::under_test().is_ours() {
            skip!("stock rsync leaves nothing to a next start");
        }
    };
}

/// Skips where eBPF does not mark directories.
macro_rules! marking {
    ($mirror:expr) => {
        if first($mirror)["plan"]["directories"] != "ebpf" {
            skip!("no eBPF program of this kernel marks directories");
        }
    };
}

fn first(mirror: &Mirror) -> Value {
    mirror.daemon().status()["mirrors"][0].clone()
}

fn tree(tree: Tree) -> Tree {
    let tree = (0..60).fold(tree, |tree, n| tree.file(format!("quiet/{n}/file"), n.to_string()));
    tree.file("red/a", b"in red")
        .file("red/deep/b", bytes(3, 5_000))
        .file("blue/c", b"in blue")
        .file("file", b"file")
}

fn rename(src: &Path, from: &str, to: &str) {
    fs::rename(src.join(from), src.join(to)).unwrap();
}

/// Changes that only their names' events, or the bits of their directories, tell.
fn change(mirror: &Mirror) {
    let src = mirror.source_path();
    fs::write(src.join("file"), b"written").unwrap();
    fs::create_dir_all(src.join("new/deep/er")).unwrap();
    fs::write(src.join("new/deep/er/file"), bytes(1, kib(9))).unwrap();
    rename(&src, "red/a", "blue/a");
    rename(&src, "red", "green");
    fs::write(src.join("green/deep/in"), b"in what moved").unwrap();
    fs::remove_file(src.join("blue/c")).unwrap();
    fs::remove_dir_all(src.join("quiet/7")).unwrap();
    let beside = mirror.fs().root().join("beside");
    fs::create_dir_all(beside.join("sub")).unwrap();
    fs::write(beside.join("sub/file"), b"came from outside").unwrap();
    fs::rename(beside, src.join("came")).unwrap();
}

/// A file that no comparison by size and time finds.
fn replace(mirror: &Mirror) {
    let (old, new) = (mirror.source_path().join("quiet/8/file"), mirror.fs().root().join("new"));
    fs::write(&new, b"?").unwrap();
    let times = fs::FileTimes::new().set_modified(old.metadata().unwrap().modified().unwrap());
    fs::File::options().write(true).open(&new).unwrap().set_times(times).unwrap();
    fs::rename(new, old).unwrap();
}

fn expect_taken_over(mirror: &Mirror) {
    let status = mirror.daemon().status();
    assert_eq!(status["mirrors"][0]["start"]["way"], "taken-over", "{status:#}\n{}", mirror.daemon().log());
    assert_eq!(status["mirrors"][0]["taints"], 0, "{status:#}");
}

/// Directories that were read for what was missed: those that changed, and what a new or moved one holds.
fn listed(mirror: &Mirror) -> u64 {
    mirror.daemon().status()["tracker"]["listed"].as_u64().unwrap()
}

#[test]
fn what_changed_while_a_killed_daemon_was_away_is_found_without_a_walk() {
    ours!();
    let mut mirror = needs!(Mirror::with(Kind::Ext4, tree, |setup| setup));
    mirror.expect_synced();
    marking!(&mirror);
    mirror.daemon_mut().kill();
    change(&mirror);
    replace(&mirror);
    mirror.daemon_mut().start_again();
    mirror.expect_synced();
    expect_taken_over(&mirror);
    assert!((1..=16).contains(&listed(&mirror)), "{} directories were listed", listed(&mirror));
}

#[test]
fn what_was_noted_before_a_kill_is_known_after_it() {
    ours!();
    // The destination is away and the settle window long, so that all of it is noted and nothing handed over.
    let mut mirror = needs!(Mirror::with(Kind::Ext4, tree, |setup| setup.option("--settle", "20000")));
    mirror.expect_synced();
    marking!(&mirror);
    change(&mirror);
    replace(&mirror);
    eventually("the changes are noted", || {
        (mirror.daemon().status()["tracker"]["pending"].as_u64()? > 10).then_some(())
    });
    mirror.daemon_mut().kill();
    fs::write(mirror.source_path().join("quiet/9/file"), b"meanwhile").unwrap();
    mirror.daemon_mut().start_again();
    mirror.expect_synced();
    expect_taken_over(&mirror);
}

#[test]
fn a_daemon_that_is_stopped_goes_on_where_it_was() {
    ours!();
    let mut mirror = needs!(Mirror::with(Kind::Ext4, tree, |setup| setup));
    mirror.expect_synced();
    marking!(&mirror);
    for _ in 0..2 {
        assert!(mirror.daemon_mut().terminate().success());
        mirror.daemon_mut().start_again();
        mirror.expect_synced();
        expect_taken_over(&mirror);
        assert_eq!(listed(&mirror), 0, "nothing changed");
    }
    assert!(mirror.daemon_mut().terminate().success());
    change(&mirror);
    mirror.daemon_mut().start_again();
    mirror.expect_synced();
    expect_taken_over(&mirror);
}

#[test]
fn where_no_bit_tells_which_directories_changed_a_start_says_so_and_compares() {
    ours!();
    for kind in [Kind::Tmpfs, Kind::Xfs] {
        let mut mirror = needs!(Mirror::with(kind, tree, Setup::fanotify_alone));
        mirror.expect_synced();
        mirror.daemon_mut().kill();
        change(&mirror);
        mirror.daemon_mut().start_again();
        mirror.expect_synced();
        let start = &first(&mirror)["start"];
        assert_eq!(start["way"], "reconcile", "{start:#}");
        assert!(start["reason"].as_str().unwrap().contains("listened"), "{start:#}");
    }
}

#[test]
fn what_is_forgotten_unloaded_or_of_another_build_is_not_taken_over() {
    ours!();
    let mut mirror = needs!(Mirror::with(Kind::Ext4, tree, |setup| setup));
    mirror.expect_synced();
    marking!(&mirror);
    mirror.daemon_mut().kill();
    mirror.daemon().unload();
    change(&mirror);
    mirror.daemon_mut().start_again();
    mirror.expect_synced();
    assert_eq!(first(&mirror)["start"]["way"], "reconcile");

    mirror.daemon_mut().kill();
    fs::write(mirror.source_path().join("file"), b"other build").unwrap();
    mirror.daemon_mut().set_environment([("EBBTIDE_CHUNKS".to_owned(), "999".to_owned())]);
    mirror.daemon_mut().start_again();
    mirror.expect_synced();
    let start = &first(&mirror)["start"];
    assert_eq!(start["way"], "reconcile", "{start:#}");
    assert!(start["reason"].as_str().unwrap().contains("another build"), "{start:#}");

    assert!(mirror.daemon_mut().terminate().success());
    mirror.daemon_mut().add_flag("--forget");
    mirror.daemon_mut().start_again();
    mirror.expect_synced();
    assert_eq!(first(&mirror)["start"]["way"], "first-start");
}

#[test]
fn rules_that_changed_and_a_file_system_that_was_mounted_anew_are_not_taken_over() {
    ours!();
    let mut mirror = needs!(Mirror::with(Kind::Ext4, tree, |setup| setup));
    mirror.expect_synced();
    marking!(&mirror);
    mirror.daemon_mut().kill();
    mirror.fs().unmount(false);
    mirror.fs().mount_again();
    mirror.daemon_mut().start_again();
    mirror.expect_synced();
    let start = &first(&mirror)["start"];
    assert!(start["reason"].as_str().unwrap().contains("mounted anew"), "{start:#}");
    mirror.daemon_mut().kill();
    mirror.daemon_mut().add_flag("--filter=- *.none");
    mirror.daemon_mut().start_again();
    mirror.expect_synced();
    let start = &first(&mirror)["start"];
    assert!(start["reason"].as_str().unwrap().contains("filter rules"), "{start:#}");
}

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().expect("it is a number"))
}

/// Kills both processes amid bursts of changes, each time at another moment. Returns how many directories were listed.
fn kill_amid_changes(
    mut mirror: Mirror,
    always_taken_over: bool,
    mut start_again: impl FnMut(&mut Daemon),
) -> u64 {
    let (kills, burst) = (number("EBBTIDE_KILLS", 5), number("EBBTIDE_BURST", 1_500));
    let seed = seed();
    let mut ops = Ops::new(&mirror.source_path(), seed, 3);
    if !mirror.daemon().sees_mapped_stores() {
        ops = ops.without_mmap();
    }
    let mut listed_in_all = 0;
    for round in 0..kills {
        // A part of the burst, by a generator of its own: seeds repeat what was done, not when.
        let before = burst * ((seed as usize).wrapping_add(round * 7919) % 100) / 100;
        thread::scope(|scope| {
            let burst = scope.spawn(|| {
                ops.run(before);
                // From here on the kill may come at any operation.
                ops.run(burst - before);
            });
            let batch = mirror.daemon().batch();
            if round % 2 == 0 {
                eventually("a batch is durable, or all is done", || {
                    (burst.is_finished() || mirror.daemon().batch() > batch).then_some(())
                });
            }
            mirror.daemon_mut().kill();
            burst.join().unwrap();
        });
        start_again(mirror.daemon_mut());
        if let Some(difference) = mirror.difference() {
            panic!("after kill {round}, seed {seed}: {difference}\n{}", mirror.daemon().log());
        }
        if always_taken_over {
            expect_taken_over(&mirror);
        }
        listed_in_all += listed(&mirror);
    }
    eprintln!("{kills} kills amid {} operations, {listed_in_all} directories listed in all", ops.count());
    listed_in_all
}

#[test]
fn both_processes_killed_amid_changes_on_ext4_lose_nothing_and_need_no_walk() {
    ours!();
    let mirror = needs!(Mirror::with(Kind::Ext4, tree, |setup| setup));
    mirror.expect_synced();
    marking!(&mirror);
    kill_amid_changes(mirror, true, Daemon::start_again);
}

#[test]
fn both_processes_killed_amid_changes_on_xfs_lose_nothing() {
    ours!();
    let mirror = needs!(Mirror::with(Kind::Xfs, tree, |setup| setup));
    mirror.expect_synced();
    kill_amid_changes(mirror, false, Daemon::start_again);
}

/// Whatever marks: no directory is read where the queue of name events goes on.
fn kill_amid_changes_with_a_manager(kind: Kind) {
    let mut mirror = needs!(Mirror::with(kind, tree, |setup| setup));
    mirror.expect_synced();
    let mut manager = Manager::take_charge(mirror.daemon_mut());
    mirror.expect_synced();
    let listed = kill_amid_changes(mirror, true, |daemon| manager.start_again(daemon));
    assert_eq!(listed, 0, "name events tell all that changed");
}

#[test]
fn both_processes_killed_amid_changes_on_xfs_need_no_walk_where_the_queue_is_kept() {
    ours!();
    kill_amid_changes_with_a_manager(Kind::Xfs);
}

#[test]
fn both_processes_killed_amid_changes_on_btrfs_need_no_walk_where_the_queue_is_kept() {
    ours!();
    kill_amid_changes_with_a_manager(Kind::Btrfs);
}

/// A directory goes while no daemon runs, and is made again before any destination was compared with what is left.
fn make_again(mut mirror: Mirror) {
    mirror.expect_synced();
    let (src, daemon) = (mirror.source_path(), mirror.daemon());
    assert!(daemon.ask(&["pause"]).status.success());
    mirror.daemon_mut().kill();
    fs::remove_dir_all(src.join("red")).unwrap();
    mirror.daemon_mut().start_again();
    fs::create_dir_all(src.join("red/deep")).unwrap();
    fs::write(src.join("red/deep/new"), b"new").unwrap();
    eventually("what was made is told", || {
        let status = mirror.daemon().status();
        let pending = status["transfer"]["destinations"][0]["pending"].as_u64();
        (pending > Some(3) && first(&mirror)["tainted"].is_null()).then_some(())
    });
    assert!(mirror.daemon().ask(&["resume"]).status.success());
    mirror.expect_synced();
}

#[test]
fn a_directory_that_went_unseen_and_was_made_again_keeps_nothing_of_the_one_before_it() {
    ours!();
    make_again(needs!(Mirror::with(Kind::Ext4, tree, |setup| setup)));
}

#[test]
fn a_directory_that_went_unseen_and_was_made_again_keeps_nothing_where_a_start_compares() {
    ours!();
    make_again(needs!(Mirror::with(Kind::Xfs, tree, Setup::fanotify_alone)));
}
