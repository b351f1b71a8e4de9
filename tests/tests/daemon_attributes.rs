//! ACLs and extended attributes: a change of them alone arrives, whatever watches the file system.

use std::path::Path;
use std::process::Command;

use ebbtide_tests::{FileSystem, Kind, Module, Referee, Release, Rsyncd, Setup, Tree, bytes, needs, run};

/// Whether the file system keeps both.
fn keeps_attributes(root: &Path) -> bool {
    let file = root.join("tried");
    if std::fs::write(&file, "").is_err() {
        return false;
    }
    let sets = |[program, option, what]: [&str; 3]| {
        let status = Command::new(program).args([option, what]).arg(&file).status();
        status.is_ok_and(|status| status.success())
    };
    let kept = [["setfacl", "-m", "u:1:r"], ["setfattr", "-n", "user.a"]].into_iter().all(sets);
    std::fs::remove_file(&file).is_ok() && kept
}

fn set(program: &str, arguments: &[&str], path: &Path) {
    drop(run(Command::new(program).args(arguments).arg(path)));
}

fn module(path: &Path) -> Module {
    Module::new("m", path).chroot(true).option("filter", "-x_trusted.* -x_system.*")
}

#[test]
fn a_change_of_acls_or_extended_attributes_alone_arrives() {
    if std::env::var_os("EBBTIDE_TEST_CLIENT").is_some() {
        // Stock rsync in our place is run with -aHI.
        return;
    }
    for kind in Kind::ALL {
        let source = needs!(FileSystem::new(kind));
        // XFS shows root its ACLs as extended attributes too. The sender is not root and does not see them, so a daemon
        // that does would remove them if its module did not leave them out.
        let destination = needs!(FileSystem::new(kind));
        if !keeps_attributes(source.root()) {
            continue;
        }
        let (tree, path) = (source.dir("tree"), destination.dir("d"));
        Tree::at(&tree).file("plain", b"1").file("d/listed", b"2").file("d/marked", bytes(3, 100_000));
        set("setfattr", &["-n", "user.first", "-v", "there at the start"], &tree.join("d/marked"));
        let rsyncd = needs!(Rsyncd::start(Release::Installed, [module(&path)]));
        let daemon = Setup::new(&tree).to(rsyncd.url("m")).flag("--acls").flag("--xattrs").start();
        daemon.wait();
        Referee::default().expect_equal(&tree, &path);
        set("setfacl", &["-m", "u:1:rw"], &tree.join("d/listed"));
        set("setfattr", &["-n", "user.later", "-v", &"long".repeat(50)], &tree.join("d/marked"));
        set("setfattr", &["-x", "user.first"], &tree.join("d/marked"));
        daemon.wait();
        Referee::default().expect_equal(&tree, &path);
        set("setfacl", &["-d", "-m", "u:2:rwx"], &tree.join("d"));
        set("setfattr", &["-n", "user.of_a_directory", "-v", "x"], &tree.join("d"));
        daemon.wait();
        Referee::default().expect_equal(&tree, &path);
        set("setfacl", &["-b"], &tree.join("d/listed"));
        daemon.wait();
        Referee::default().expect_equal(&tree, &path);
    }
}

#[test]
fn what_changed_of_them_while_a_killed_daemon_was_away_arrives() {
    if std::env::var_os("EBBTIDE_TEST_CLIENT").is_some() {
        return;
    }
    // No bit tells of extended attributes while nobody listens.
    for kind in [Kind::Ext4, Kind::Btrfs] {
        let (source, destination) = (needs!(FileSystem::new(kind)), needs!(FileSystem::new(kind)));
        if !keeps_attributes(source.root()) {
            continue;
        }
        let (tree, path) = (source.dir("tree"), destination.dir("d"));
        Tree::at(&tree).file("plain", b"1").file("d/listed", b"2").file("d/marked", bytes(3, 10_000));
        set("setfattr", &["-n", "user.first", "-v", "there at the start"], &tree.join("d/marked"));
        set("setfacl", &["-m", "u:1:rw"], &tree.join("plain"));
        let rsyncd = needs!(Rsyncd::start(Release::Installed, [module(&path)]));
        let mut daemon = Setup::new(&tree).to(rsyncd.url("m")).flag("--acls").flag("--xattrs").start();
        daemon.wait();
        Referee::default().expect_equal(&tree, &path);
        daemon.kill();
        set("setfattr", &["-n", "user.later", "-v", "meanwhile"], &tree.join("d/listed"));
        set("setfattr", &["-x", "user.first"], &tree.join("d/marked"));
        set("setfacl", &["-b"], &tree.join("plain"));
        set("setfacl", &["-d", "-m", "u:2:rwx"], &tree.join("d"));
        daemon.start_again();
        daemon.wait();
        Referee::default().expect_equal(&tree, &path);
        let start = &daemon.status()["mirrors"][0]["start"];
        assert_eq!(start["way"], "reconcile", "{start:#}");
        assert!(start["reason"].as_str().is_some_and(|why| why.contains("nobody listened")), "{start:#}");
    }
}

#[test]
fn a_mirror_without_them_takes_them_in_when_it_is_told_to() {
    if std::env::var_os("EBBTIDE_TEST_CLIENT").is_some() {
        return;
    }
    let source = needs!(FileSystem::new(Kind::Ext4));
    if !keeps_attributes(source.root()) {
        return;
    }
    let (tree, path) = (source.dir("tree"), source.beside("d"));
    Tree::at(&tree).file("marked", b"1");
    set("setfattr", &["-n", "user.a", "-v", "b"], &tree.join("marked"));
    let rsyncd = needs!(Rsyncd::start(Release::Installed, [Module::new("m", &path).chroot(true)]));
    let mut daemon = Setup::new(&tree).to(rsyncd.url("m")).start();
    daemon.wait();
    daemon.terminate();
    daemon.add_flag("--xattrs");
    daemon.start_again();
    daemon.wait();
    Referee::default().expect_equal(&tree, &path);
}
