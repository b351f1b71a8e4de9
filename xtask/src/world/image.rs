//! File systems of our own, each in a sparse file behind a loop device.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::process::run;

/// A file with an ext4 file system in it. Dropping it removes the file.
pub(crate) struct Image {
    file: PathBuf,
}

impl Image {
    /// Makes a sparse file of `size` bytes with an empty file system for up to `inodes` entries.
    pub(crate) fn create(file: &Path, size: u64, inodes: u64) -> Result<Self> {
        let sparse = File::create(file).with_context(|| format!("create {}", file.display()))?;
        sparse.set_len(size).with_context(|| format!("extend {} to {size} bytes", file.display()))?;
        let image = Self { file: file.to_owned() };
        // Without lazy tables, no kernel thread works in the background while something is measured.
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            .args(["-N", &inodes.to_string()])
            .arg(file))?;
        Ok(image)
    }

    /// A second file with the same content. The file system must not be mounted.
    pub(crate) fn copy(&self, file: &Path) -> Result<Self> {
        let copy = Self { file: file.to_owned() };
        run(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(&self.file).arg(file))?;
        Ok(copy)
    }

    /// Mounts it at the folder `at`, which is made.
    pub(crate) fn mount(&self, at: &Path) -> Result<Mounted> {
        fs::create_dir_all(at).with_context(|| format!("create {}", at.display()))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.file).arg(at))?;
        Ok(Mounted { at: at.to_owned() })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// A mounted image. Dropping it takes the mount away.
pub(crate) struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// Where it is mounted.
    pub(crate) fn at(&self) -> &Path {
        &self.at
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A daemon's last child may hold it for a moment after the daemon has ended.
        for _ in 0..50 {
            if run(Command::new("umount").arg(&self.at)).is_ok() {
                let _ = fs::remove_dir(&self.at);
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.at));
    }
}
