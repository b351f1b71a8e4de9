//! `cargo xtask build`: the eBPF programs for the kernel's instruction set, then the two binaries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{self, cargo};
use crate::setup;
use crate::toolchain::{self, Toolchain};
use crate::world;

/// How the binaries are built. The eBPF programs are always optimized: the verifier wants that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For tests.
    Debug,
    /// For use and measurements.
    Release,
}

impl Profile {
    /// By the flag of the command line.
    pub(crate) fn of(release: bool) -> Self {
        if release { Self::Release } else { Self::Debug }
    }
}

/// Builds all.
pub(crate) fn run(profile: Profile) -> Result<()> {
    programs()?;
    let mut build = cargo();
    build.args(["build", "--quiet", "--package", "ebbtide", "--package", "ebbtide-transfer", "--bins"]);
    if profile == Profile::Release {
        build.arg("--release");
    }
    process::run(&mut build, "the messages above say what does not compile")
}

/// Where the binaries are.
pub(crate) fn folder(profile: Profile) -> Result<PathBuf> {
    Ok(world::target()?.join(match profile {
        Profile::Debug => "debug",
        Profile::Release => "release",
    }))
}

/// Where the tracker's build looks for the programs.
pub(crate) fn object() -> PathBuf {
    world::top().join("target/ebpf/ebbtide.o")
}

/// Builds the eBPF programs. Their file is written only when it changes, so that nothing else is built in vain, or when
/// its sources are newer: the tracker's build refuses programs that are older than their sources.
fn programs() -> Result<()> {
    let toolchain = toolchain::find().context("no compiler for eBPF: `cargo xtask setup` installs one")?;
    let target = world::target()?.join("ebpf-build");
    let mut build = cargo();
    build
        .args(["build", "--quiet", "--release", "--package", "tracker-ebpf", "-Z", "build-std=core"])
        .args(["--target", TARGET])
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", &target)
        .env(
            FLAGS,
            format!(
                "-Cdebuginfo=2 -Clinker={} -Clink-arg=--btf -Ctarget-cpu=v3",
                linker(&toolchain)?.display()
            ),
        );
    process::run(&mut build, "the eBPF programs do not build with this compiler")?;
    let built = target.join(TARGET).join("release/ebbtide-ebpf");
    copy_if_changed(&built, &object())
}

/// A linker command that reads the bitcode of this compiler: bpf-linker takes the first LLVM library that it finds on
/// its search path, so that path must hold the right one and no other.
fn linker(toolchain: &Toolchain) -> Result<PathBuf> {
    let folder = setup::tools()?.join("llvm");
    let library = folder.join(toolchain.library.file_name().context("the LLVM library has no name")?);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    std::os::unix::fs::symlink(&toolchain.library, &library)
        .with_context(|| format!("link {}", library.display()))?;
    let script = folder.join("link");
    let text = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n",
        folder.display(),
        setup::bpf_linker()?.display()
    );
    fs::write(&script, text).with_context(|| format!("write {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", script.display()))?;
    Ok(script)
}

fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    if fs::read(to).is_ok_and(|old| old == new) && modified(from) <= modified(to) {
        return Ok(());
    }
    let folder = to.parent().context("the object has no folder")?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    fs::write(to, new).with_context(|| format!("write {}", to.display()))
}

const TARGET: &str = "bpfel-unknown-none";
const FLAGS: &str = "CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS";
