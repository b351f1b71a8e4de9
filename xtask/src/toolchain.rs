//! A compiler that can build for `bpfel-unknown-none`: one that comes with the sources of its `core`, and whose LLVM
//! `bpf-linker` knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The compiler for the eBPF programs.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    /// Its `rustc`.
    pub(crate) rustc: PathBuf,
    /// What `rustc -V` says.
    pub(crate) version: String,
    /// Major version of its LLVM.
    pub(crate) llvm: u32,
    /// The LLVM library that it uses: the linker must read its bitcode.
    pub(crate) library: PathBuf,
}

/// LLVM releases that the `bpf-linker` we install can be built for.
const KNOWN_LLVM: std::ops::RangeInclusive<u32> = 20..=22;

/// Where Debian's `rustc-web` is.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The first that will do: Debian's own, then rustup's nightly, then the one in use.
pub(crate) fn find() -> Option<Toolchain> {
    let rustup = |name: &str| Some(sysroot(Command::new("rustc").arg(name))?.join("bin/rustc"));
    let candidates = [Some(PathBuf::from(DEBIAN_RUSTC)), rustup("+nightly"), rustup("-v")];
    candidates.into_iter().flatten().find_map(|rustc| Toolchain::examine(rustc).ok())
}

impl Toolchain {
    fn examine(rustc: PathBuf) -> Result<Self> {
        let root = sysroot(&mut Command::new(&rustc)).context("no sysroot")?;
        let core = root.join("lib/rustlib/src/rust/library/core/src/lib.rs");
        fs::metadata(&core).with_context(|| format!("no {}", core.display()))?;
        let about = Command::new(&rustc).arg("-vV").output()?;
        let about = String::from_utf8_lossy(&about.stdout).into_owned();
        let llvm = llvm_of(&about).context("it does not name its LLVM")?;
        anyhow::ensure!(KNOWN_LLVM.contains(&llvm), "its LLVM {llvm} is too new or too old");
        let library = library(&root, llvm).context("its LLVM library is not there")?;
        Ok(Self { rustc, version: about.lines().next().unwrap_or_default().to_owned(), llvm, library })
    }
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).output().ok().filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

fn llvm_of(about: &str) -> Option<u32> {
    about.lines().find_map(|line| line.strip_prefix("LLVM version: "))?.split('.').next()?.parse().ok()
}

/// In the compiler's own folder (rustup), or the system's (Debian: `lib/<triple>/libLLVM.so.22.1`).
fn library(root: &Path, llvm: u32) -> Option<PathBuf> {
    let lib = root.join("lib");
    let inner = fs::read_dir(&lib).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let names = [format!("libLLVM.so.{llvm}"), format!("libLLVM-{llvm}")];
    std::iter::once(lib.clone()).chain(inner).find_map(|folder| {
        let mut files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
        files.find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            names.iter().any(|start| name.starts_with(start.as_str()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_of_llvm_is_read_from_what_rustc_prints() {
        assert_eq!(llvm_of("rustc 1.96.0\nhost: x\nLLVM version: 22.1.8\n"), Some(22));
        assert_eq!(llvm_of("rustc 1.96.0\n"), None);
    }
}
