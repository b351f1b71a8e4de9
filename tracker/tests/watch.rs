//! `ebbtide watch` on real file systems: each kind of change is told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails where it is")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use common::{Mounted, Watch, at, skipped};

/// The longest name there is, and names that are no text.
fn odd_names() -> Vec<Vec<u8>> {
    vec![
        b"new\nline".to_vec(),
        b"\xff\xfe".to_vec(),
        vec![b'n'; 255],
        b" (deleted)".to_vec(),
        b"\\x41".to_vec(),
    ]
}

fn every_kind_of_change(fs_type: &str, probes: &str) {
    let Some(mounted) = Mounted::new(fs_type) else { return };
    let (src, out) = (mounted.dir("src"), mounted.dir("out"));
    fs::create_dir(src.join("old")).unwrap();
    fs::write(src.join("old/f"), b"1").unwrap();
    fs::write(out.join("o"), b"1").unwrap();
    fs::create_dir_all(out.join("od/sub")).unwrap();
    let mut watch = Watch::start(&src, probes);

    names(&src, &mut watch);
    renames(&src, &out, &mut watch);
    contents_and_attributes(&src, &mut watch);

    for name in odd_names() {
        fs::write(at(&src, &name), b"x").unwrap();
        watch.expect("data", &name);
        let inside = [&name[..], b"d"].concat();
        let inside = &inside[..inside.len().min(255)];
        fs::remove_file(at(&src, &name)).unwrap();
        watch.expect("gone", &name);
        fs::create_dir_all(at(&src, inside).join("x")).unwrap();
        watch.expect("attrs", &[inside, b"/x"].concat());
    }
}

fn names(src: &Path, watch: &mut Watch) {
    fs::write(src.join("a"), b"1").unwrap();
    watch.expect("data", b"a");
    watch.expect("attrs", b"");
    fs::create_dir(src.join("d")).unwrap();
    watch.expect("attrs", b"d");
    fs::write(src.join("d/x"), b"1").unwrap();
    watch.expect("data", b"d/x");
    fs::hard_link(src.join("a"), src.join("d/link")).unwrap();
    watch.expect("data", b"d/link");
    symlink("nowhere", src.join("sym")).unwrap();
    watch.expect("data", b"sym");
    assert!(Command::new("mkfifo").arg(src.join("fifo")).status().unwrap().success());
    watch.expect("data", b"fifo");
    fs::remove_file(src.join("sym")).unwrap();
    watch.expect("gone", b"sym");
}

fn renames(src: &Path, out: &Path, watch: &mut Watch) {
    fs::rename(src.join("a"), src.join("d/b")).unwrap();
    watch.expect("gone", b"a");
    watch.expect("data", b"d/b");
    watch.expect("moved", b"d/b");
    watch.forget();
    fs::rename(src.join("d"), src.join("e")).unwrap();
    watch.expect("gone", b"d");
    watch.expect("replaced", b"e");
    fs::write(src.join("e/x"), b"22").unwrap();
    watch.expect("data", b"e/x");

    fs::rename(src.join("e/x"), out.join("x")).unwrap();
    watch.expect("gone", b"e/x");
    fs::rename(out.join("o"), src.join("o")).unwrap();
    watch.expect("data", b"o");
    fs::rename(out.join("od"), src.join("od")).unwrap();
    watch.expect("replaced", b"od");
    watch.forget();
    fs::write(src.join("od/sub/f"), b"1").unwrap();
    watch.expect("data", b"od/sub/f");
    fs::rename(src.join("e"), out.join("e")).unwrap();
    watch.expect("gone", b"e");
    watch.forget();
    exchange(&src.join("old"), &src.join("od"));
    for name in [&b"old"[..], b"od"] {
        watch.expect("replaced", name);
    }
    fs::remove_dir_all(src.join("old")).unwrap();
    watch.expect("gone", b"old");
}

fn exchange(a: &Path, b: &Path) {
    use rustix::fs::{CWD, RenameFlags};
    rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
}

fn contents_and_attributes(src: &Path, watch: &mut Watch) {
    let path = src.join("o");
    let changes: [(&str, &dyn Fn()); 5] = [
        ("data", &|| fs::write(&path, b"three").unwrap()),
        ("data", &|| fs::File::options().write(true).open(&path).unwrap().set_len(2).unwrap()),
        ("attrs", &|| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap()),
        ("attrs", &|| std::os::unix::fs::chown(&path, Some(1), Some(1)).unwrap()),
        ("attrs", &|| {
            let long_ago = std::time::SystemTime::UNIX_EPOCH;
            fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        }),
    ];
    for (word, change) in changes {
        watch.forget();
        change();
        // Attributes may be told as content: that is too much, never too little.
        let told = |w: &str| common::Told { word: w.into(), path: b"o".to_vec() };
        watch
            .until(|all| all.contains(&told("data")) || (word == "attrs" && all.contains(&told(word))), word);
    }
    watch.forget();
    fs::set_permissions(src, fs::Permissions::from_mode(0o700)).unwrap();
    watch.expect("attrs", b"");
}

#[test]
fn every_kind_of_change_is_told_on_ext4_with_all_that_the_kernel_permits() {
    every_kind_of_change("ext4", "auto");
}

#[test]
fn every_kind_of_change_is_told_on_ext4_with_fanotify_alone() {
    every_kind_of_change("ext4", "fanotify");
}

#[test]
fn every_kind_of_change_is_told_on_xfs() {
    every_kind_of_change("xfs", "auto");
    every_kind_of_change("xfs", "fanotify");
}

#[test]
fn every_kind_of_change_is_told_on_btrfs() {
    every_kind_of_change("btrfs", "auto");
    every_kind_of_change("btrfs", "fanotify");
}

#[test]
fn every_kind_of_change_is_told_on_tmpfs() {
    every_kind_of_change("tmpfs", "auto");
    every_kind_of_change("tmpfs", "fanotify");
}

#[test]
fn a_subvolume_of_btrfs_is_watched_through_the_root_of_its_file_system() {
    let Some(mounted) = Mounted::new("btrfs") else { return };
    let top = mounted.dir("top");
    let sub = top.join("sub");
    let made = Command::new("btrfs").args(["subvolume", "create"]).arg(&sub).output();
    if !made.is_ok_and(|made| made.status.success()) {
        return skipped("btrfs-progs are not there");
    }
    let mut watch = Watch::start(&sub, "fanotify");
    fs::create_dir(sub.join("d")).unwrap();
    fs::write(sub.join("d/a"), b"1").unwrap();
    watch.expect("data", b"d/a");
}

#[test]
fn a_bind_mount_of_a_part_of_a_file_system_tells_only_that_part() {
    let Some(mounted) = Mounted::new("ext4") else { return };
    let part = mounted.dir("part");
    fs::create_dir(part.join("src")).unwrap();
    let bound = mounted.beside().join("bound");
    fs::create_dir(&bound).unwrap();
    assert!(Command::new("mount").arg("--bind").arg(&part).arg(&bound).status().unwrap().success());
    {
        let mut watch = Watch::start(&bound.join("src"), "auto");
        fs::write(mounted.dir("elsewhere").join("n"), b"1").unwrap();
        // Through the other path: it is the same file system.
        fs::write(part.join("src/a"), b"1").unwrap();
        watch.expect("data", b"a");
        assert!(watch.told.iter().all(|told| told.path.is_empty() || told.path == b"a"), "{:?}", watch.told);
    }
    assert!(Command::new("umount").arg("--lazy").arg(&bound).status().unwrap().success());
}

#[test]
fn what_cannot_be_watched_is_refused_with_advice() {
    let output = common::ebbtide().args(["watch", "/proc"]).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("try: "), "{text}");
}
