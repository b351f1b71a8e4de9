//! The service as administrators run it: started, killed, reloaded and stopped by systemd, and what a reboot leaves of it.
//!
//! `cargo xtask test` runs this in an emulated machine whose first process is systemd: the tests of `start_1`, then a reboot,
//! then those of `start_2`. The disk is the same; what is below `/etc` and every mount are new.
#![expect(clippy::unwrap_used, reason = "a test ends where its world does not obey")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ebbtide_tests::{Referee, Tree, bytes, eventually, kib, program, run};
use serde_json::Value;

const UNIT: &str = "ebbtide.service";

/// The two sources, on ext4 and on XFS. Where functions can be hooked, the second one is taken over only with its queue of
/// name events.
const SOURCES: [&str; 2] = ["/scratch/files", "/scratch/xfs"];

fn destination(source: &str) -> PathBuf {
    Path::new("/scratch/destinations").join(Path::new(source).file_name().unwrap())
}

/// Mounts, stock daemon and config of either start.
fn machine() {
    let image = Path::new("/scratch/xfs.image");
    if !image.exists() {
        fs::File::create(image).unwrap().set_len(512 << 20).unwrap();
        run(Command::new("mkfs.xfs").arg("-q").arg(image));
    }
    fs::create_dir_all(SOURCES[1]).unwrap();
    run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(SOURCES[1]));
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
        configure(SECOND);
        systemctl(&["start", UNIT]);
        expect_synced();
        expect_equal(SOURCES[0], &second());
        expect_start("reconcile");
        let reason = status()["mirrors"][0]["start"]["reason"].to_string();
        assert!(reason.contains("the machine was started anew"), "{reason}");
    }
}
