//! The guest's kernel: Debian's cloud kernel of this release, from its package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::setup;

/// A kernel, unpacked.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// Such as `6.1.0-56-cloud-amd64`.
    pub(super) release: String,
    /// The image that a machine boots.
    pub(super) image: PathBuf,
    /// The folder that holds `kernel/` and `modules.dep`.
    pub(super) modules: PathBuf,
}

/// The kernel of the package that `meta` stands for, downloaded and unpacked below `folder` unless it is there.
pub(super) fn get(folder: &Path, meta: &str) -> Result<Kernel> {
    let package = package(meta)?;
    let home = folder.join(&package);
    if !home.join("ready").is_file() {
        println!("vm-test: unpacking {package} into {}, the kernel of the guest", home.display());
        fetch(&package, &home)?;
    }
    let modules = only_entry(&home.join("lib/modules"))?;
    let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Kernel { image: home.join("boot").join(format!("vmlinuz-{release}")), release, modules })
}

/// The newest package that a meta package stands for.
fn package(meta: &str) -> Result<String> {
    let ask = || {
        let output = Command::new("apt-cache").args(["depends", meta]).output().context("start apt-cache")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok::<_, anyhow::Error>(depends(&text))
    };
    if let Some(package) = ask()? {
        return Ok(package);
    }
    setup::update()?;
    ask()?.with_context(|| format!("no package {meta}: the guest's kernel comes from Debian's archive"))
}

fn depends(text: &str) -> Option<String> {
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    named.map(str::to_owned).find(|name| name.starts_with("linux-image-"))
}

/// Leaves out what the guest does not use; the last thing written is the mark that it is all there.
fn fetch(package: &str, home: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(home);
    setup::download(package, home)?;
    let modules = only_entry(&home.join("lib/modules"))?;
    for folder in ["drivers/net", "drivers/gpu", "drivers/infiniband", "sound"] {
        let _ = fs::remove_dir_all(modules.join("kernel").join(folder));
    }
    let release = modules.file_name().unwrap_or_default();
    // The package's own script would make it after an installation.
    let mut depmod = Command::new("busybox");
    depmod.args(["depmod", "-b"]).arg(home).arg(release);
    process::run(&mut depmod, "the kernel's package is damaged")?;
    fs::write(home.join("ready"), "").with_context(|| format!("write below {}", home.display()))
}

fn only_entry(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?.flatten();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry.path()),
        _ => bail!("{} does not hold one entry", folder.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_behind_a_meta_package_is_the_image_that_it_depends_on() {
        let said = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(depends(said).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(depends("E: No packages found\n"), None);
    }
}
