//! The service as administrators run it: started, killed, reloaded and stopped by systemd, and what a reboot leaves of it.
//!
//! `cargo xtask test` runs this in an emulated machine whose first process is systemd: the tests of `start_1`, then a reboot,
//! then those of `start_2`, then the power goes, and those of `start_3`. The disk is the same; what is below `/etc` and every
//! mount are new.
#![expect(clippy::unwrap_used, reason = "a test ends where its world does not obey")]

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use ebbtide_tests::{Referee, Tree, bytes, eventually, kib, program, run};
use serde_json::Value;

const UNIT: &str = "ebbtide.service";

/// The two sources, named by their file systems. Where functions can be hooked, the second one is taken over only with its
/// queue of name events. Neither shares a file system with the ledger, whose commits would save it when the power goes.
const SOURCES: [&str; 2] = ["/scratch/ext4", "/scratch/xfs"];

fn destination(source: &str) -> PathBuf {
    Path::new("/scratch/destinations").join(Path::new(source).file_name().unwrap())
}

/// Mounts, stock daemon and config of either start.
fn machine() {
    for source in SOURCES.map(Path::new) {
        let image = source.with_extension("image");
        if !image.exists() {
            File::create(&image).unwrap().set_len(512 << 20).unwrap();
            let kind = source.file_name().unwrap().to_string_lossy();
            run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image));
        }
        fs::create_dir_all(source).unwrap();
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(source));
    }
    let mut modules =
        "use chroot = no\nuid = root\ngid = root\nread only = no\nmunge symlinks = no\n".to_owned();
    for folder in SOURCES.map(destination).into_iter().chain([second()]) {
        fs::create_dir_all(&folder).unwrap();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        modules.push_str(&format!("[{name}]\npath = {}\n", folder.display()));
    }
    fs::write("/etc/rsyncd.conf", modules).unwrap();
    let _ = fs::remove_file("/usr/sbin/ebbtide");
    std::os::unix::fs::symlink(program("ebbtide"), "/usr/sbin/ebbtide").unwrap();
    systemctl(&["start", "rsync.service"]);
}

/// A second destination of the first source.
fn second() -> PathBuf {
    destination("second")
}

fn configure(more: &str) {
    let mut config = String::new();
    for source in SOURCES {
        let name = Path::new(source).file_name().unwrap().to_string_lossy();
        config.push_str(&format!(
            "[[mirror]]\nsource = \"{source}\"\ndelete = true\n[[mirror.to]]\nurl = \"rsync://127.0.0.1/{name}/\"\n"
        ));
        if source == SOURCES[0] {
            config.push_str(more);
        }
    }
    fs::write("/etc/ebbtide.toml", config).unwrap();
}

const SECOND: &str = "[[mirror.to]]\nurl = \"rsync://127.0.0.1/second/\"\n";

fn systemctl(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).output().unwrap();
    assert!(output.status.success(), "systemctl {arguments:?}: {output:?}\n{}", journal());
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn property(name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, UNIT])
}

fn journal() -> String {
    let output = Command::new("journalctl").args(["--no-pager", "--unit", UNIT]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ask(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program("ebbtide")).args(arguments).output().unwrap();
    assert!(output.status.success(), "ebbtide {arguments:?}: {output:?}\n{}", journal());
    output.stdout
}

fn status() -> Value {
    serde_json::from_slice(&ask(&["status", "--json"])).unwrap()
}

fn expect_equal(source: &str, destination: &Path) {
    ask(&["wait", "--timeout", "300"]);
    Referee::default().expect_equal(Path::new(source), destination);
}

fn expect_synced() {
    SOURCES.iter().for_each(|source| expect_equal(source, &destination(source)));
}

fn expect_start(way: &str) {
    let status = status();
    for mirror in status["mirrors"].as_array().unwrap() {
        assert_eq!(mirror["start"]["way"], way, "{mirror:#}\n{}", journal());
    }
}

/// Changes of content and of names in both sources.
fn change(round: u64) {
    for source in SOURCES.map(Path::new) {
        fs::write(source.join("file"), bytes(round, kib(9))).unwrap();
        fs::create_dir_all(source.join(format!("new/{round}"))).unwrap();
        fs::write(source.join(format!("new/{round}/file")), round.to_string()).unwrap();
        fs::rename(source.join(format!("moving/{}", round - 1)), source.join(format!("moving/{round}")))
            .unwrap();
        fs::remove_file(source.join(format!("going/{round}"))).unwrap();
    }
}

/// What [`change_what_is_lost`] finds.
fn prepare_loss() {
    for source in SOURCES {
        let tree = Tree::at(Path::new(source));
        let tree = ["rewritten", "appended", "truncated", "attributes", "removed", "replaced", "old name"]
            .iter()
            .fold(tree, |tree, name| tree.file(format!("lost/{name}"), bytes(7, kib(9))));
        tree.file("lost/old directory/file", b"in a directory").file("lost/emptied/file", b"is removed");
    }
}

/// Keeps what the disk of a source will hold when the power has gone: of what is changed later, nothing is written back.
fn keep(source: &Path) {
    run(Command::new("fsfreeze").arg("-f").arg(source));
    run(Command::new("cp").arg("--sparse=always").args([source.with_extension("image"), kept(source)]));
    run(Command::new("fsfreeze").arg("-u").arg(source));
}

fn kept(source: &Path) -> PathBuf {
    source.with_extension("kept")
}

/// Changes that the source will not remember.
fn change_what_is_lost() {
    for lost in SOURCES.map(|source| Path::new(source).join("lost")) {
        let open = |name: &str| OpenOptions::new().write(true).open(lost.join(name)).unwrap();
        open("rewritten").write_all_at(&bytes(8, kib(9)), 0).unwrap();
        open("appended").write_all_at(&bytes(9, kib(5)), 9 << 10).unwrap();
        open("truncated").set_len(100).unwrap();
        fs::set_permissions(lost.join("attributes"), Permissions::from_mode(0o711)).unwrap();
        fs::remove_file(lost.join("removed")).unwrap();
        fs::remove_file(lost.join("replaced")).unwrap();
        fs::create_dir(lost.join("replaced")).unwrap();
        fs::write(lost.join("replaced/file"), b"in what was a file").unwrap();
        fs::rename(lost.join("old name"), lost.join("new name")).unwrap();
        fs::rename(lost.join("old directory"), lost.join("new directory")).unwrap();
        fs::remove_dir_all(lost.join("emptied")).unwrap();
        fs::write(lost.join("new"), bytes(10, kib(20))).unwrap();
    }
}

/// Changes without an end, of which some are always under way.
fn change_on_and_on() {
    let script = "mkdir burst; cd burst; i=0
                  while :; do
                      i=$((i + 1)); echo $i >a$((i % 9)); mv a$((i % 9)) b$((i % 5))
                      mkdir -p d$((i % 3)); echo $i >>d$((i % 3))/file; rm -rf d$(((i + 1) % 3))
                  done";
    for source in SOURCES {
        drop(Command::new("setsid").args(["sh", "-c", script]).current_dir(source).spawn().unwrap());
    }
}

mod start_1 {
    use super::*;

    #[test]
    fn a_service_that_is_killed_stopped_and_reloaded_goes_on_where_it_was() {
        machine();
        for source in SOURCES {
            let tree = Tree::at(Path::new(source)).file("moving/0/file", b"moving").file("file", b"file");
            let tree = (1..9).fold(tree, |tree, n| tree.file(format!("going/{n}"), n.to_string()));
            (0..60).fold(tree, |tree, n| tree.file(format!("quiet/{n}/file"), n.to_string()));
        }
        configure("");
        systemctl(&["start", UNIT]);
        expect_synced();
        expect_start("first-start");
        assert!(!journal().contains(" WARN "), "the unit lets it do all that it wants to:\n{}", journal());

        eventually("a queue of names for each file system is in the store", || {
            (property("NFileDescriptorStore") == "2").then_some(())
        });
        let before = property("MainPID");
        change(1);
        systemctl(&["kill", "--signal=KILL", "--kill-who=all", UNIT]);
        change(2);
        eventually("systemd has started it again", || {
            (property("MainPID") != before && property("ActiveState") == "active").then_some(())
        });
        change(3);
        expect_synced();
        expect_start("taken-over");

        configure(SECOND);
        systemctl(&["reload", UNIT]);
        eventually("the second destination is known", || {
            (status()["transfer"]["destinations"].as_array()?.len() == 3).then_some(())
        });
        expect_equal(SOURCES[0], &second());
        assert_eq!(property("NRestarts"), "1", "{}", journal());

        systemctl(&["restart", UNIT]);
        change(4);
        expect_synced();
        expect_start("taken-over");

        systemctl(&["stop", UNIT]);
        assert_eq!(property("Result"), "success", "{}", journal());
        change(5);
    }
}

mod start_2 {
    use super::*;

    #[test]
    fn after_a_reboot_the_sources_are_looked_through_by_times_of_change() {
        machine();
        change(6);
        prepare_loss();
        configure(SECOND);
        systemctl(&["start", UNIT]);
        expect_synced();
        expect_equal(SOURCES[0], &second());
        expect_start("reconcile");
        let reason = status()["mirrors"][0]["start"]["reason"].to_string();
        assert!(reason.contains("the machine was started anew"), "{reason}");

        SOURCES.map(Path::new).into_iter().for_each(keep);
        change_what_is_lost();
        expect_synced();
        run(Command::new("sync").arg("-f").arg(second()));
        change_on_and_on();
        for source in SOURCES {
            eventually("some of it has arrived", || {
                destination(source).join("burst/b1").exists().then_some(())
            });
        }
    }
}

mod start_3 {
    use super::*;

    #[test]
    fn what_the_sources_lost_with_the_power_is_at_the_destination_as_it_is_in_them() {
        for source in SOURCES.map(Path::new) {
            fs::rename(kept(source), source.with_extension("image")).unwrap();
        }
        machine();
        for source in SOURCES.map(Path::new) {
            let rewritten = |at: &Path| fs::read(at.join("lost/rewritten")).unwrap();
            let destination = destination(source.to_str().unwrap());
            assert_ne!(rewritten(source), rewritten(&destination), "{}", source.display());
        }
        configure(SECOND);
        // As if the trees were old: by their times of change nothing of it would be found.
        let config = fs::read_to_string("/etc/ebbtide.toml").unwrap();
        fs::write("/etc/ebbtide.toml", format!("reconcile-margin = 0\n{config}")).unwrap();
        systemctl(&["start", UNIT]);
        expect_synced();
        expect_equal(SOURCES[0], &second());
        expect_start("reconcile");
    }
}
