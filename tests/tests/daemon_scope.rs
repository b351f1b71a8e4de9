//! What is not the mirror's business costs nothing and changes nothing.

use std::fs;

use ebbtide_tests::{Kind, Mirror, Tree, needs, skip};

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
    mirror.expect_synced();
    let status = mirror.daemon().status();
    let count = |name: &str| status["tracker"][name].as_u64().expect("a counter");
    assert_eq!(
        count("drained"),
        count("told") + count("outside") + count("gone") + count("untraced"),
        "{status:#}"
    );
    assert_eq!(count("untraced"), 0, "{status:#}");
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
