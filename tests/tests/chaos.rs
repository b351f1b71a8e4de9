//! Two minutes of chaos on each file system, and the seeds that once failed. `cargo xtask chaos` runs longer ones.

use std::process::{Command, Stdio};

use ebbtide_tests::{Client, Kind, Mirror, needs, program, skip};

/// Runs it in a process of its own, and expects that it goes well. `EBBTIDE_CHAOS_MINUTES` makes it longer or shorter.
fn chaos(arguments: &[&str]) {
    if !Client::under_test().is_ours() {
        skip!("stock rsync has no process to be killed");
    }
    let minutes = std::env::var("EBBTIDE_CHAOS_MINUTES").unwrap_or_else(|_| MINUTES.into());
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    command.args(["--minutes", &minutes]).args(arguments);
    command.env("EBBTIDE_BIN", program("ebbtide")).env("EBBTIDE_SEND_BIN", program("ebbtide-send"));
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("it was built");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}");
    if let Some(why) = said.strip_prefix("SKIPPED ") {
        skip!("{why}");
    }
}

#[test]
fn chaos_on_ext4_leaves_both_sides_equal() {
    chaos(&["--fs", "ext4", "--plan", "auto"]);
}

#[test]
fn chaos_on_xfs_leaves_both_sides_equal() {
    chaos(&["--fs", "xfs", "--plan", "auto"]);
}

#[test]
fn chaos_on_btrfs_leaves_both_sides_equal() {
    chaos(&["--fs", "btrfs", "--plan", "auto"]);
}

#[test]
fn chaos_on_tmpfs_leaves_both_sides_equal() {
    chaos(&["--fs", "tmpfs", "--plan", "auto"]);
}

/// Found by seeds 810318435 and 4228734284 on ext4, when a start compared the tree by size and time.
#[test]
fn what_was_disguised_while_nobody_ran_arrives_after_any_end() {
    for (kind, killed) in [(Kind::Ext4, true), (Kind::Ext4, false), (Kind::Xfs, true), (Kind::Tmpfs, false)] {
        let mut mirror = needs!(Mirror::on(kind));
        if !Client::under_test().is_ours() {
            skip!("stock rsync has no process to be killed");
        }
        mirror.source().file("a/f", b"before").mtime("a/f", 1_000, 0).mtime("a", 1_000, 0);
        mirror.expect_synced();
        if killed {
            mirror.daemon_mut().kill();
        } else {
            mirror.daemon_mut().terminate();
        }
        // Neither its size nor its time tell of it.
        mirror.source().file("a/f", b"behind").mtime("a/f", 1_000, 0).mtime("a", 1_000, 0);
        mirror.daemon_mut().start_again();
        mirror.expect_synced();
    }
}

/// Of each file system.
const MINUTES: &str = "2";
