//! What is not the mirror's business costs nothing and changes nothing.

use std::fs;
use std::process::Command;

use ebbtide_tests::{
    Client, Kind, Mirror, Module, Ops, Referee, Release, Rsyncd, Scratch, Setup, Skip, Tree,
    expect_accounted, needs, program, seed, skip,
};

/// Rules of a mirror: by name, by kind, with an exception, and anchored.
const RULES: [&str; 4] = ["+ keep.tmp", "- *.tmp", "- cache/", "- /top"];

fn filtered(kind: Kind, shape: impl FnOnce(Setup) -> Setup) -> Result<Mirror, Skip> {
    let rules = |setup: Setup| RULES.iter().fold(setup, |setup, rule| setup.filter(rule));
    Mirror::with(kind, |tree| tree, |setup| shape(rules(setup)))
}

#[track_caller]
fn expect_synced(mirror: &Mirror) {
    mirror.daemon().wait();
    Referee::default().filtered(&RULES).expect_equal(&mirror.source_path(), &mirror.destination());
}

#[test]
fn excluded_names_are_neither_sent_nor_removed() {
    let mirror = needs!(filtered(Kind::Ext4, |setup| setup));
    mirror.source().file("a", b"x").file("b.tmp", b"x").file("keep.tmp", b"x").file("d/cache/deep/x", b"x");
    mirror.source().file("top", b"x").file("d/top", b"x").file("e/cache", b"a file").file("gone/x", b"x");
    expect_synced(&mirror);
    assert!(mirror.arrived("keep.tmp") && mirror.arrived("d/top") && mirror.arrived("e/cache"));
    for name in ["b.tmp", "top", "d/cache"] {
        assert!(!mirror.arrived(name), "{name}");
    }
    let there = Tree::at(&mirror.destination());
    there
        .file("theirs.tmp", b"y")
        .file("d/cache/theirs", b"y")
        .file("extra", b"y")
        .file("gone/theirs.tmp", b"y");
    mirror.source().file("new", b"x").file("d/new", b"x").remove("gone");
    mirror.daemon().wait();
    assert!(mirror.arrived("new") && mirror.arrived("d/new") && !mirror.arrived("gone/x"));
    for name in ["theirs.tmp", "d/cache/theirs", "gone/theirs.tmp"] {
        assert!(mirror.arrived(name), "{name} is excluded, so it stays");
    }
}

fn renames_between(mirror: &Mirror) {
    let at = |name: &str| mirror.source_path().join(name);
    let rename = |from: &str, to: &str| fs::rename(at(from), at(to)).expect("a rename on one file system");
    mirror.source().file("a", b"a").file("b.tmp", b"b").file("d/x", b"x").file("d/y/z", b"z");
    mirror.source().file("cache/x", b"x").file("cache/y/z", b"z").file("swap", b"a file");
    expect_synced(mirror);
    rename("a", "a.tmp");
    rename("b.tmp", "b");
    expect_synced(mirror);
    assert!(!mirror.arrived("a") && mirror.arrived("b"));
    rename("cache", "shown");
    rename("d", "cache");
    expect_synced(mirror);
    assert!(mirror.arrived("shown/y/z") && !mirror.arrived("d") && !mirror.arrived("cache"));
    rename("shown/y", "cache/y2");
    rename("cache/y", "shown/y");
    mirror.source().file("cache/y2/z", b"changed").file("shown/y/z", b"changed");
    expect_synced(mirror);
    assert!(mirror.arrived("shown/y/z"));
    // A file of a name that is excluded for directories only, and then such a directory.
    rename("swap", "shown/cache");
    expect_synced(mirror);
    assert!(mirror.arrived("shown/cache"));
    mirror.source().remove("shown/cache").file("shown/cache/x", b"x");
    expect_synced(mirror);
    assert!(!mirror.arrived("shown/cache"));
}

#[test]
fn renames_between_included_and_excluded_places_remove_and_create() {
    renames_between(&needs!(filtered(Kind::Ext4, |setup| setup)));
}

#[test]
fn renames_between_included_and_excluded_places_remove_and_create_with_fanotify_alone() {
    renames_between(&needs!(filtered(Kind::Xfs, Setup::fanotify_alone)));
}

#[test]
fn changes_of_excluded_names_are_no_facts() {
    let mirror = needs!(filtered(Kind::Ext4, |setup| setup));
    if std::env::var_os("EBBTIDE_TEST_CLIENT").is_some() {
        skip!("stock rsync has no counters");
    }
    mirror.source().file("d/cache/log", b"x").file("d/x.tmp", b"x").file("d/y", b"y");
    expect_synced(&mirror);
    // Blocks that are allocated later would mark `d/y` again.
    mirror.fs().write_back();
    expect_synced(&mirror);
    let count = |name: &str| mirror.daemon().status()["tracker"][name].as_u64().expect("a counter");
    let (told, outside) = (count("told"), count("outside"));
    for round in 0..3 {
        mirror.source().file("d/cache/log", format!("{round}")).file("d/x.tmp", format!("{round}"));
        mirror.daemon().wait();
    }
    assert_eq!(count("told"), told, "{:#}", mirror.daemon().status()["tracker"]);
    assert!(count("outside") > outside, "{:#}", mirror.daemon().status()["tracker"]);
}

#[test]
fn random_operations_under_rules() {
    const RANDOM: [&str; 5] = ["+ file*4", "- file1*", "- green/", "- /blue", "- red/file?"];
    let rules = |setup: Setup| RANDOM.iter().fold(setup, |setup, rule| setup.filter(rule));
    let mirror = needs!(Mirror::with(Kind::Ext4, |tree| tree, rules));
    let mut ops = Ops::new(&mirror.source_path(), seed(), 2).without_mmap();
    for round in 0..3 {
        ops.run(400);
        mirror.daemon().wait();
        eprintln!("round {round}, after {} operations", ops.count());
        Referee::default().filtered(&RANDOM).expect_equal(&mirror.source_path(), &mirror.destination());
    }
}

#[test]
fn changes_beside_the_source_are_no_facts() {
    let mirror = needs!(Mirror::on(Kind::Ext4));
    if std::env::var_os("EBBTIDE_TEST_CLIENT").is_some() {
        skip!("stock rsync has no counters");
    }
    mirror.source().file("a", b"x");
    mirror.expect_synced();
    let outside = || mirror.daemon().status()["tracker"]["outside"].as_u64().expect("a counter");
    let before = outside();
    let tree = mirror.outside().file("source-not/a", b"x").file("sourc", b"x").file("elsewhere/deep/b", b"y");
    tree.mode("elsewhere", 0o700).remove("elsewhere").file("source2", b"z");
    mirror.expect_synced();
    assert!(outside() > before, "{:#}", mirror.daemon().status()["tracker"]);
    assert_eq!(fs::read_dir(mirror.destination()).expect("it is there").count(), 1);
}

#[test]
fn every_hint_of_the_kernel_is_accounted_for() {
    let mirror = needs!(Mirror::on(Kind::Ext4));
    if std::env::var_os("EBBTIDE_TEST_CLIENT").is_some() {
        skip!("stock rsync has no counters");
    }
    Tree::rich(&mirror.source_path());
    Tree::rich(&mirror.fs().root().join("outside"));
    mirror.source().remove("sizes").remove("odd-dirs");
    mirror.await_synced();
    expect_accounted(mirror.daemon());
    let status = mirror.daemon().status();
    assert_eq!(status["tracker"]["untraced"].as_u64(), Some(0), "{status:#}");
}

#[test]
fn another_file_system_mounted_in_the_source_is_not_followed() {
    let mirror = needs!(Mirror::on(Kind::Ext4));
    if std::env::var_os("EBBTIDE_TEST_CLIENT").is_some() {
        skip!("stock rsync follows mounts");
    }
    mirror.source().file("a", b"x").dir("mounted");
    mirror.expect_synced();
    let other = needs!(mirror.fs().cover("source/mounted"));
    fs::write(other.join("on the other"), b"not ours").expect("a fresh tmpfs is writable");
    mirror.source().file("b", b"y");
    mirror.daemon().wait();
    assert!(mirror.arrived("b") && !mirror.arrived("mounted/on the other"));
}

#[test]
fn a_wrong_rule_ends_the_start_with_its_file_and_line() {
    let scratch = Scratch::new("rules");
    let config = scratch.path().join("ebbtide.toml");
    let start = |rules: &str| {
        let to = "[[mirror.to]]\nurl = \"rsync://127.0.0.1/m\"\n";
        let text = format!("[[mirror]]\nsource = \"/tmp\"\n{rules}\n{to}");
        fs::write(&config, text).expect("scratch is writable");
        let output = Command::new(program("ebbtide")).args(["run", "-c"]).arg(&config).output();
        let output = output.expect("ebbtide can be started");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = start("filter = [\"- a\",\n  \"wrong\"]");
    assert!(told.contains("ebbtide.toml, line 4: filter: Unknown filter rule: wrong"), "{told}");
    let told = start("filter = [\"dir-merge .rsync-filter\"]");
    assert!(
        told.contains("line 3: filter dir-merge .rsync-filter: a mirror cannot follow merge files"),
        "{told}"
    );
    let told = start("filter = [\"merge /none\"]");
    assert!(told.contains("line 3: filter: failed to open exclude file /none"), "{told}");
}

#[test]
fn other_rules_than_before_compare_everything_anew() {
    if std::env::var_os("EBBTIDE_TEST_CLIENT").is_some() {
        skip!("stock rsync has no memory");
    }
    let source = Scratch::new("source");
    let there = Scratch::new("there");
    let rsyncd = needs!(Rsyncd::start(Release::Installed, [Module::new("m", there.path())]));
    Tree::at(source.path()).file("a.tmp", b"x").file("b", b"x");
    let config = |rules: &str| {
        let source = source.path().display();
        let to = format!("[[mirror.to]]\nurl = \"{}\"\n", rsyncd.url("m"));
        Setup::from_file(&format!("[[mirror]]\nsource = \"{source}\"\ndelete = true\n{rules}\n{to}"))
    };
    let mut daemon = config("exclude = [\"*.tmp\"]").start();
    daemon.wait();
    let arrived = |name: &str| there.path().join(name).exists();
    assert!(arrived("b") && !arrived("a.tmp"));
    daemon.terminate();
    daemon.reconfigure(config("exclude = [\"b\"]"));
    daemon.start_again();
    daemon.wait();
    assert!(arrived("a.tmp") && arrived("b"), "what is excluded now stays");
}

#[test]
fn a_source_that_was_unmounted_and_mounted_again_is_followed_as_before() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync watches nothing");
    }
    let mirror = needs!(Mirror::on(Kind::Ext4));
    mirror.source().file("a/b", b"before");
    mirror.expect_synced();
    mirror.fs().unmount(true);
    mirror.fs().mount_again();
    mirror.source().file("a/b", b"after");
    mirror.expect_synced();
    // Its directories are found where they are now, so nothing more has to be compared as a whole.
    let taints = || mirror.daemon().status()["mirrors"][0]["taints"].as_u64().expect("a counter");
    let before = taints();
    mirror.source().file("a/c", b"news").file("d/e", b"more").remove("a/b");
    mirror.expect_synced();
    assert_eq!(taints(), before, "{}", mirror.daemon().log());
}
