//! File systems of a test's own: loop images and tmpfs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::skip::Skip;
use crate::{Scratch, eventually, mib, run};

/// The file systems that ebbtide is tested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ext4 in a loop image.
    Ext4,
    /// XFS in a loop image.
    Xfs,
    /// btrfs in a loop image.
    Btrfs,
    /// tmpfs, without an image.
    Tmpfs,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Ext4, Kind::Xfs, Kind::Btrfs, Kind::Tmpfs];

    /// What the kernel calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
            Kind::Tmpfs => "tmpfs",
        }
    }

    /// The command that makes one on an image, without the image's name.
    fn mkfs(self) -> Option<&'static [&'static str]> {
        match self {
            Kind::Ext4 => Some(&["mkfs.ext4", "-q", "-F"]),
            Kind::Xfs => Some(&["mkfs.xfs", "-q", "-f"]),
            Kind::Btrfs => Some(&["mkfs.btrfs", "-q", "-f"]),
            Kind::Tmpfs => None,
        }
    }
}

/// A mounted file system; detached and removed on drop.
#[derive(Debug)]
pub struct FileSystem {
    kind: Kind,
    root: PathBuf,
    /// Not of a tmpfs.
    image: PathBuf,
    scratch: Scratch,
}

impl FileSystem {
    /// Makes and mounts one of 512 MiB (an image takes only the blocks that are written).
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn new(kind: Kind) -> Result<FileSystem, Skip> {
        FileSystem::sized(kind, mib(512))
    }

    /// Makes and mounts one of `size` bytes; XFS wants at least 300 MiB, btrfs 110 MiB.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn sized(kind: Kind, size: usize) -> Result<FileSystem, Skip> {
        if !rustix::process::geteuid().is_root() {
            return Err(Skip(format!("mounting {} needs root", kind.name())));
        }
        let scratch = Scratch::new(kind.name());
        let image = scratch.path().join("image");
        FileSystem::on(kind, size, scratch, image)
    }

    /// The same with its image in memory, so that nothing waits for a disk.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn in_memory(kind: Kind, size: usize) -> Result<FileSystem, Skip> {
        let scratch = Scratch::new(kind.name());
        // A shorter name than `root`, so that it is taken away later.
        let memory = scratch.dir("m");
        // Room for what file systems write besides.
        let option = format!("size={}", size + size / 4);
        mount(Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]), &memory)?;
        FileSystem::on(kind, size, scratch, memory.join("image"))
    }

    fn on(kind: Kind, size: usize, scratch: Scratch, image: PathBuf) -> Result<FileSystem, Skip> {
        let root = scratch.dir("root");
        match kind.mkfs() {
            Some(mkfs) => mount_image(kind, mkfs, &image, size, &root)?,
            None => mount(
                Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]),
                &root,
            )?,
        }
        Ok(FileSystem { kind, root, image, scratch })
    }

    /// Which one it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A new directory on it.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.root.join(name);
        fs::create_dir_all(&path).expect("a fresh file system is writable");
        path
    }

    /// Puts another file system (a tmpfs) on the directory `name` of this one.
    ///
    /// # Errors
    /// This machine allows no mounts.
    pub fn cover(&self, name: &str) -> Result<PathBuf, Skip> {
        let point = self.dir(name);
        mount(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]), &point)?;
        Ok(point)
    }

    /// Takes it off its directory, as `umount` does; lazily when somebody still uses it and `lazily` says so. Who was
    /// killed a moment ago uses it until it is gone.
    ///
    /// # Panics
    /// When it stays in use.
    pub fn unmount(&self, lazily: bool) {
        if lazily {
            run(Command::new("umount").arg("--lazy").arg(&self.root));
        } else {
            eventually("nobody uses the file system", || {
                let end = Command::new("umount").arg(&self.root).stderr(Stdio::null()).status();
                end.expect("umount can be started").success().then_some(())
            });
        }
    }

    /// Puts it back; a tmpfs cannot come back.
    ///
    /// # Panics
    /// When that fails.
    pub fn mount_again(&self) {
        let mut command = Command::new("mount");
        let again = mount(command.args(["-t", self.kind.name(), "-o", "loop"]).arg(&self.image), &self.root);
        again.expect("it was mounted before");
    }

    /// Allocates the blocks of all that was written: later that would mark the files again.
    ///
    /// # Panics
    /// When the disk does not take them.
    pub fn write_back(&self) {
        let root = File::open(&self.root).expect("the file system is mounted");
        rustix::fs::syncfs(root).expect("blocks can be allocated");
    }

    /// A folder beside it on the machine's own disk, removed with it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.scratch.dir(name)
    }
}

fn mount_image(kind: Kind, mkfs: &[&str], image: &Path, size: usize, root: &Path) -> Result<(), Skip> {
    let file = File::create(image).expect("a scratch folder is writable");
    file.set_len(size as u64).expect("a sparse image takes no room");
    let made = Command::new(mkfs[0]).args(&mkfs[1..]).arg(image).output();
    match made {
        Ok(output) if output.status.success() => {}
        Ok(output) => return Err(Skip(format!("{mkfs:?} failed: {}", output.stderr.escape_ascii()))),
        Err(error) => return Err(Skip(format!("cannot run {}: {error}", mkfs[0]))),
    }
    mount(Command::new("mount").args(["-t", kind.name(), "-o", "loop"]).arg(image), root)
}

fn mount(command: &mut Command, point: &Path) -> Result<(), Skip> {
    match command.arg(point).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(Skip(format!("this machine does not allow {command:?}: {}", output.stderr.escape_ascii())))
        }
        Err(error) => Err(Skip(format!("cannot run mount: {error}"))),
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        // A tmpfs that covers a directory goes first, by `Scratch`; syncing keeps the unmount from failing as busy.
        let _ = Command::new("sync").arg("--file-system").arg(&self.root).output();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_system_mounts_takes_a_file_and_leaves_no_mount_behind() {
        for kind in Kind::ALL {
            let fs = crate::needs!(FileSystem::new(kind));
            fs::write(fs.root().join("f"), b"x").unwrap();
            let root = fs.root().to_owned();
            crate::needs!(fs.cover("other"));
            let table = run(Command::new("findmnt").args(["-n", "-o", "FSTYPE"]).arg(&root)).stdout;
            assert_eq!(table.trim_ascii(), kind.name().as_bytes());
            drop(fs);
            let table = fs::read("/proc/self/mountinfo").unwrap();
            assert!(
                !String::from_utf8_lossy(&table).contains(root.to_str().unwrap()),
                "{kind:?} is still mounted"
            );
        }
    }
}
