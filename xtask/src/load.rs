//! `cargo xtask load` and `unload`: the programs and maps pinned in bpffs, for looking at them with bpftool.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, as_root, cargo};

/// Loads and pins; marks the file systems of `devices`.
pub(crate) fn load(built: &Path, devices: &[PathBuf]) -> Result<()> {
    if is_loaded() {
        bail!("{PINS} is there already: `cargo xtask unload` removes it");
    }
    mount_bpffs()?;
    let mut build = cargo();
    build.args(["build", "--quiet", "--package", "ebbtide", "--example", "marks"]);
    process::run(&mut build, "the messages above say what does not compile")?;
    process::run(as_root("mkdir").arg(PINS), "this needs root")?;
    let mut marks = as_root(built.join("examples/marks"));
    marks.args(["--pin", PINS]).args(devices);
    let loaded = process::run(&mut marks, "the message above says what the kernel refused; this needs root");
    if loaded.is_err() {
        unload()?;
    }
    loaded?;
    println!("pinned in {PINS}; look with `bpftool prog`, `bpftool map dump pinned {PINS}/CONTROL`");
    Ok(())
}

/// Removes the pins: the kernel detaches the programs.
pub(crate) fn unload() -> Result<()> {
    if !is_loaded() {
        println!("nothing is pinned in {PINS}");
        return Ok(());
    }
    process::run(as_root("rm").args(["-r", PINS]), "this needs root")?;
    println!("removed {PINS}");
    Ok(())
}

/// bpffs hides itself from all but root.
fn is_loaded() -> bool {
    as_root("test").args(["-d", PINS]).status().is_ok_and(|status| status.success())
}

fn mount_bpffs() -> Result<()> {
    let table = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let mounted = table.lines().any(|line| line.split(' ').nth(1) == Some(BPFFS));
    if mounted {
        return Ok(());
    }
    println!("mounting bpffs at {BPFFS}");
    let mut mount: Command = as_root("mount");
    process::run(
        mount.args(["-t", "bpf", "bpf", BPFFS]),
        "this needs root and a kernel with CONFIG_BPF_SYSCALL",
    )
}

const BPFFS: &str = "/sys/fs/bpf";
const PINS: &str = "/sys/fs/bpf/ebbtide-xtask";
