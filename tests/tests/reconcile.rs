//! What changed while ebbtide did not run is found by looking through the source, and only that is sent.
#![expect(clippy::unwrap_used, reason = "a test ends where its world does not obey")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use ebbtide_tests::{Client, Kind, Mirror, Setup, Skip, Tree, bytes, eventually, needs, run, skip};
use rustix::fs::{CWD, RenameFlags};
use serde_json::Value;

/// Stock rsync knows nothing of what it did before.
macro_rules! ours_only {
    () => {
        if !Client::under_test().is_ours() {
            skip!("stock rsync keeps no state");
        }
    };
}

/// What stands in each area before its change.
fn area(tree: Tree, name: &str) -> Tree {
    tree.file(format!("{name}/file"), bytes(1, 20_000))
        .file(format!("{name}/other"), b"another file")
        .file(format!("{name}/red/a"), b"in red")
        .file(format!("{name}/red/deep/b"), b"red 1234")
        .file(format!("{name}/blue/a"), b"inblue")
        .file(format!("{name}/blue/deep/b"), b"blue5678")
        .file(format!("{name}/twin"), b"twins")
        .link(format!("{name}/red/twin"), format!("{name}/twin"))
        .symlink(format!("{name}/link"), "file")
        .dir(format!("{name}/empty"))
        .fifo(format!("{name}/fifo"))
}

/// A change in an area; it sees the area and a folder beside the source.
type Change = fn(&Path, &Path);

/// Each has its area to itself, so that none hides what another one lacks.
const CHANGES: &[(&str, Change)] = &[
    ("a file was written in place", |at, _| write_at(&at.join("file"), b"written")),
    ("a file grew", |at, _| {
        OpenOptions::new().append(true).open(at.join("file")).unwrap().write_all(b"!").unwrap();
    }),
    ("a file was cut", |at, _| open(&at.join("file")).set_len(5).unwrap()),
    ("content changed under an unchanged size and time", |at, _| {
        let before = fs::metadata(at.join("file")).unwrap().modified().unwrap();
        write_at(&at.join("file"), b"?");
        open(&at.join("file")).set_modified(before).unwrap();
    }),
    ("a mode changed", |at, _| {
        fs::set_permissions(at.join("red/a"), fs::Permissions::from_mode(0o600)).unwrap();
    }),
    ("a directory's mode changed", |at, _| {
        fs::set_permissions(at.join("red"), fs::Permissions::from_mode(0o700)).unwrap();
    }),
    ("an owner changed", |at, _| std::os::unix::fs::chown(at.join("file"), Some(7), Some(8)).unwrap()),
    ("a time was set", |at, _| open(&at.join("file")).set_modified(std::time::UNIX_EPOCH).unwrap()),
    ("a file came", |at, _| fs::write(at.join("red/new"), b"new").unwrap()),
    ("directories came", |at, _| drop(Tree::at(at).file("new/deep/er/file", b"new").file("new/x", b"x"))),
    ("a tree came with old times", |at, beside| {
        let tree = Tree::at(beside).file("old/a", b"old").file("old/deep/b", b"old too").aged();
        drop(run(Command::new("cp").arg("-a").arg(beside.join("old")).arg(beside.join("copy"))));
        fs::rename(beside.join("copy"), at.join("came")).unwrap();
        fs::rename(beside.join("old"), at.join("red/came")).unwrap();
        drop(tree);
    }),
    ("a file went", |at, _| fs::remove_file(at.join("red/a")).unwrap()),
    ("a directory went", |at, _| fs::remove_dir_all(at.join("red")).unwrap()),
    ("everything went", |at, _| fs::remove_dir_all(at).unwrap()),
    ("a symlink was turned", |at, _| {
        fs::remove_file(at.join("link")).unwrap();
        symlink("other", at.join("link")).unwrap();
    }),
    ("a file was renamed", |at, _| rename(at, "file", "renamed")),
    ("a file was renamed into another directory", |at, _| rename(at, "red/a", "blue/deep/a")),
    ("a file was renamed over another", |at, _| rename(at, "file", "other")),
    ("a directory was renamed", |at, _| rename(at, "red", "green")),
    ("a directory was renamed into another", |at, _| rename(at, "red", "blue/deep/red")),
    ("a directory was renamed over an empty one", |at, _| rename(at, "red", "empty")),
    ("a directory was renamed and written into", |at, _| {
        rename(at, "red", "green");
        fs::write(at.join("green/new"), b"new").unwrap();
        fs::write(at.join("green/deep/new"), b"new").unwrap();
    }),
    ("a directory took the name of another", |at, _| {
        rename(at, "red", "old red");
        rename(at, "blue", "red");
    }),
    ("a directory took the name of another and was written into", |at, _| {
        rename(at, "red", "old red");
        rename(at, "blue", "red");
        fs::write(at.join("red/new"), b"new").unwrap();
    }),
    ("two directories changed places", |at, _| exchange(at, "red", "blue")),
    ("two directories on different levels changed places", |at, _| exchange(at, "red/deep", "blue")),
    ("a file and a directory changed places", |at, _| exchange(at, "red", "file")),
    ("two files changed places", |at, _| exchange(at, "file", "other")),
    ("a directory was made anew under its name", |at, beside| {
        drop(run(Command::new("cp").arg("-a").arg(at.join("red")).arg(beside.join("anew"))));
        let b = beside.join("anew/deep/b");
        let before = fs::metadata(&b).unwrap().modified().unwrap();
        write_at(&b, b"RED");
        open(&b).set_modified(before).unwrap();
        fs::remove_dir_all(at.join("red")).unwrap();
        fs::rename(beside.join("anew"), at.join("red")).unwrap();
    }),
    ("a directory left the tree", |at, beside| fs::rename(at.join("red"), beside.join("left")).unwrap()),
    ("a name was added to a file", |at, _| {
        fs::hard_link(at.join("file"), at.join("blue/deep/file")).unwrap();
    }),
    ("a name of a file went", |at, _| fs::remove_file(at.join("red/twin")).unwrap()),
    ("a name of a file became a file of its own", |at, _| {
        fs::remove_file(at.join("twin")).unwrap();
        fs::write(at.join("twin"), b"alone").unwrap();
    }),
    ("a file became a directory", |at, _| {
        fs::remove_file(at.join("file")).unwrap();
        drop(Tree::at(at).file("file/in", b"in"));
    }),
    ("a directory became a file", |at, _| {
        fs::remove_dir_all(at.join("red")).unwrap();
        fs::write(at.join("red"), b"file").unwrap();
    }),
    ("a pipe went and another came", |at, _| {
        fs::remove_file(at.join("fifo")).unwrap();
        drop(Tree::at(at).fifo("pipe"));
    }),
    ("a name that is not UTF-8 came", |at, _| {
        use std::os::unix::ffi::OsStrExt;
        fs::write(at.join(std::ffi::OsStr::from_bytes(b"\xff\n")), b"x").unwrap();
    }),
];

fn open(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

fn write_at(path: &Path, what: &[u8]) {
    open(path).write_all_at(what, 0).unwrap();
}

fn rename(at: &Path, from: &str, to: &str) {
    fs::rename(at.join(from), at.join(to)).unwrap();
}

fn exchange(at: &Path, one: &str, other: &str) {
    rustix::fs::renameat_with(CWD, at.join(one), CWD, at.join(other), RenameFlags::EXCHANGE).unwrap();
}

/// With no margin, what changed shortly before the last drain is not looked at again, so tests can count.
fn exactly(setup: Setup) -> Setup {
    setup.option("--reconcile-margin", "0")
}

fn mirror(daemon: &ebbtide_tests::Daemon) -> Value {
    daemon.status()["mirrors"][0].clone()
}

/// Every change happens while nobody looks, and is looked for by time.
fn everything_changes_while_it_is_down(kind: Kind) {
    ours_only!();
    let mirror_of = needs!(changed_while_it_was_down(kind, true));
    let status = mirror(mirror_of.daemon());
    assert_eq!(status["start"]["way"], "reconcile", "{status:#}");
    assert_eq!(status["scan"]["unreadable"], 0, "{status:#}");
    assert_eq!(status["tainted"], Value::Null, "{status:#}");
    let log = mirror_of.daemon().log();
    assert!(log.contains("looking for what changed since the last drain"), "{log}");
}

/// A mirror that is in step, after every change happened while it was stopped; with `unloaded` nothing marked meanwhile.
fn changed_while_it_was_down(kind: Kind, unloaded: bool) -> Result<Mirror, Skip> {
    let build = |tree: Tree| {
        let tree = CHANGES.iter().fold(tree, |tree, (name, _)| area(tree, name));
        (0..40).fold(tree, |tree, n| tree.file(format!("still/{n}/file"), b"untouched")).aged()
    };
    let mut mirror_of = Mirror::with(kind, build, exactly)?;
    mirror_of.expect_synced();
    assert!(mirror_of.daemon_mut().terminate().success());
    if unloaded {
        mirror_of.daemon().unload();
    }
    for (number, (name, change)) in CHANGES.iter().enumerate() {
        let beside = mirror_of.fs().dir(&format!("beside/{number}"));
        change(&mirror_of.source_path().join(name), &beside);
    }
    mirror_of.daemon_mut().start_again();
    mirror_of.expect_synced();
    Ok(mirror_of)
}

#[test]
fn where_marking_went_on_all_that_changed_meanwhile_is_taken_over_and_no_directory_is_read_that_did_not_change()
 {
    ours_only!();
    let mirror_of = needs!(changed_while_it_was_down(Kind::Ext4, false));
    let status = mirror_of.daemon().status();
    if status["mirrors"][0]["plan"]["directories"] != "ebpf" {
        skip!("no eBPF program of this kernel marks directories");
    }
    assert_eq!(status["mirrors"][0]["start"]["way"], "taken-over", "{status:#}");
    assert_eq!(status["mirrors"][0]["taints"], 0, "{status:#}");
    // An area has six directories, and a change touches less than four of them; there are 40 more that stand still.
    let listed = status["tracker"]["listed"].as_u64().unwrap();
    assert!(listed < 4 * CHANGES.len() as u64, "{listed} directories were listed");
}

#[test]
fn on_ext4_all_that_changed_meanwhile_is_found() {
    everything_changes_while_it_is_down(Kind::Ext4);
}

#[test]
fn on_xfs_all_that_changed_meanwhile_is_found() {
    everything_changes_while_it_is_down(Kind::Xfs);
}

#[test]
fn on_btrfs_all_that_changed_meanwhile_is_found() {
    everything_changes_while_it_is_down(Kind::Btrfs);
}

#[test]
fn on_tmpfs_all_that_changed_meanwhile_is_found() {
    everything_changes_while_it_is_down(Kind::Tmpfs);
}

#[test]
fn what_did_not_change_is_not_sent_and_not_listed() {
    ours_only!();
    let build = |tree: Tree| {
        (0..200).fold(tree, |tree, n| {
            (0..10).fold(tree, |tree, file| tree.file(format!("d{n}/a rather long name {file}"), b"x"))
        })
    };
    let mut mirror_of = needs!(Mirror::with(Kind::Ext4, build, exactly));
    // Blocks that are allocated later would mark the files again, and the next sender knows of none that it has sent it.
    mirror_of.fs().write_back();
    mirror_of.expect_synced();
    assert!(mirror_of.daemon_mut().terminate().success());
    mirror_of.daemon().unload();
    fs::write(mirror_of.source_path().join("d7/a rather long name 3"), b"changed").unwrap();
    fs::remove_file(mirror_of.source_path().join("d9/a rather long name 3")).unwrap();
    mirror_of.daemon_mut().start_again();
    mirror_of.expect_synced();
    let status = mirror_of.daemon().status();
    let scan = &status["mirrors"][0]["scan"];
    assert_eq!((scan["directories"].as_u64(), scan["entries"].as_u64()), (Some(201), Some(2199)), "{scan}");
    assert_eq!(scan["picked"], 2, "one file, and the directory of the other: {scan}");
    let sent = mirror_of.daemon().transfer()["destinations"][0]["bytes_sent"].as_u64().unwrap();
    assert!(sent < 6_000, "{sent} bytes were sent");
}

#[test]
fn a_daemon_that_was_killed_finds_what_it_had_not_drained() {
    ours_only!();
    let mut mirror_of = needs!(Mirror::with(Kind::Xfs, |tree| area(tree, "d"), exactly));
    mirror_of.expect_synced();
    for n in 0..200 {
        fs::write(mirror_of.source_path().join(format!("d/{n}")), n.to_string()).unwrap();
    }
    mirror_of.daemon_mut().kill();
    fs::rename(mirror_of.source_path().join("d/red"), mirror_of.source_path().join("d/green")).unwrap();
    mirror_of.daemon_mut().start_again();
    mirror_of.expect_synced();
}

#[test]
fn a_record_that_is_damaged_or_of_other_rules_is_answered_by_a_comparison_that_says_so() {
    ours_only!();
    let mut mirror_of = needs!(Mirror::with(Kind::Ext4, |tree| area(tree, "d"), exactly));
    mirror_of.expect_synced();
    mirror_of.daemon_mut().terminate();
    mirror_of.daemon().unload();
    let stamp = mirror_of.daemon().runtime_dir().with_file_name("state").join("tracker/stamp");
    let mut text = fs::read(&stamp).unwrap();
    text[40] ^= 4;
    fs::write(&stamp, text).unwrap();
    fs::write(mirror_of.source_path().join("d/new"), b"new").unwrap();
    mirror_of.daemon_mut().start_again();
    mirror_of.expect_synced();
    let start = &mirror(mirror_of.daemon())["start"];
    assert_eq!(start["way"], "first-start");
    assert!(start["reason"].as_str().unwrap().contains("damaged"), "{start}");
    eventually("the new stamp is written", || {
        fs::read_to_string(&stamp).ok().filter(|text| text.contains("real"))
    });
}

#[test]
fn files_that_the_rules_exclude_are_not_found() {
    ours_only!();
    let shape = |setup: Setup| exactly(setup).filter("- *.tmp").filter("- /d/cache/");
    let build = |tree: Tree| area(tree, "d").file("d/cache/x", b"x").file("d/a.tmp", b"x");
    let mut mirror_of = needs!(Mirror::with(Kind::Ext4, build, shape));
    mirror_of.daemon().wait();
    mirror_of.daemon_mut().terminate();
    mirror_of.daemon().unload();
    for name in ["d/cache/x", "d/a.tmp", "d/file"] {
        write_at(&mirror_of.source_path().join(name), b"y");
    }
    mirror_of.daemon_mut().start_again();
    mirror_of.daemon().wait();
    let scan = &mirror(mirror_of.daemon())["scan"];
    assert_eq!(scan["picked"], 1, "{scan}");
    assert!(!mirror_of.arrived("d/a.tmp") && !mirror_of.arrived("d/cache"));
}

/// What `ebbtide verify` says about the mirror's only destination, and how it ends.
fn verified(mirror_of: &mut Mirror, more: &[&str]) -> (Value, Option<i32>) {
    let url = mirror_of.rsyncd().url("m");
    let mut command = Command::new(ebbtide_tests::program("ebbtide"));
    command.env("EBBTIDE_SEND", ebbtide_tests::program("ebbtide-send"));
    command.args(["verify", "--json", "--delete", "--to", &url, "--source"]).arg(mirror_of.source_path());
    let output = command.args(more).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (found[0].clone(), output.status.code())
}

#[test]
fn verify_tells_drift_by_checksum_and_changes_nothing() {
    ours_only!();
    let build = |tree: Tree| area(area(tree, "d"), "e").aged();
    let mut mirror_of = needs!(Mirror::with(Kind::Ext4, build, exactly));
    mirror_of.expect_synced();
    let (found, code) = verified(&mut mirror_of, &[]);
    assert_eq!((&found["equal"], code), (&Value::Bool(true), Some(0)), "{found}");
    // Somebody changes the destination behind our back, without a trace in size and time.
    let there = mirror_of.destination().join("d/other");
    let before = fs::metadata(&there).unwrap().modified().unwrap();
    write_at(&there, b"ANOTHER");
    open(&there).set_modified(before).unwrap();
    fs::write(mirror_of.destination().join("e/extra"), b"extra").unwrap();
    let (found, code) = verified(&mut mirror_of, &[]);
    let drift = found["drift"].to_string();
    assert_eq!(code, Some(1), "{found}");
    assert!(drift.contains("d/other") && drift.contains("*deleting") && drift.contains("e/extra"), "{found}");
    assert_eq!(fs::read(&there).unwrap()[..7], *b"ANOTHER", "verify must not change anything");
    let (found, code) = verified(&mut mirror_of, &["--path", "e/blue"]);
    assert_eq!((&found["equal"], code), (&Value::Bool(true), Some(0)), "{found}");
    let (found, code) = verified(&mut mirror_of, &["--path", "d"]);
    assert_eq!((found["differences"].as_u64(), code), (Some(1), Some(1)), "{found}");
    mirror_of.rsyncd().stop();
    let (found, code) = verified(&mut mirror_of, &[]);
    assert_eq!(code, Some(10), "rsync's code for errors in socket I/O: {found}");
}

#[test]
fn sync_mends_what_somebody_changed_at_the_destination() {
    ours_only!();
    let build = |tree: Tree| area(area(tree, "d"), "e").aged();
    let mirror_of = needs!(Mirror::with(Kind::Ext4, build, exactly));
    // Blocks that are allocated later would mark the files again, and what is missing then would be sent.
    mirror_of.fs().write_back();
    mirror_of.expect_synced();
    let sync = |more: &[&str]| {
        let output = mirror_of.daemon().ask(&[&["sync", "--wait"], more].concat());
        assert!(output.status.success(), "{output:?}");
    };
    let spoil = || {
        for area in ["d", "e"] {
            fs::remove_dir_all(mirror_of.destination().join(area).join("red")).unwrap();
            fs::write(mirror_of.destination().join(area).join("extra"), b"extra").unwrap();
        }
    };
    spoil();
    sync(&[]);
    assert!(!mirror_of.arrived("d/red/a") && mirror_of.arrived("d/extra"), "nothing changed in the source");
    sync(&["--path", "d"]);
    assert!(mirror_of.arrived("d/red/a") && !mirror_of.arrived("d/extra") && mirror_of.arrived("e/extra"));
    sync(&["--path", mirror_of.source_path().join("e").to_str().unwrap()]);
    mirror_of.expect_synced();
    spoil();
    sync(&["--full"]);
    mirror_of.expect_synced();
    let output = mirror_of.daemon().ask(&["sync", "--path", "/nowhere/at/all"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no source has it"));
}
