//! Two minutes of chaos on each file system, and the seeds that once failed. `cargo xtask chaos` runs longer ones.

use std::process::{Command, Stdio};

use ebbtide_tests::{Client, program, skip};

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
    chaos(&["--fs", "ext4"]);
}

#[test]
fn chaos_on_xfs_leaves_both_sides_equal() {
    chaos(&["--fs", "xfs"]);
}

#[test]
fn chaos_on_btrfs_leaves_both_sides_equal() {
    chaos(&["--fs", "btrfs"]);
}

#[test]
fn chaos_on_tmpfs_leaves_both_sides_equal() {
    chaos(&["--fs", "tmpfs"]);
}

/// Of each file system.
const MINUTES: &str = "2";
