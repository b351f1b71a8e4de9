//! What the guest's first file system holds: programs of this machine with their libraries, a few modules, a job.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Job;
use super::cpio::Archive;
use super::kernel::Kernel;
use crate::process;

/// Writes the archive to `to`. `smaller` is the folder where programs without their debug information are kept.
pub(super) fn write(to: &Path, kernel: &Kernel, job: &Job, smaller: &Path) -> Result<()> {
    let mut image = Image { archive: Archive::create(to)?, libraries: BTreeSet::new() };
    image.skeleton()?;
    image.modules(kernel)?;
    for name in PROGRAMS {
        image.program(&on_path(name)?)?;
    }
    for (path, built) in &job.programs {
        let small = stripped(built, smaller)?;
        image.libraries_of(&small)?;
        image.archive.copy(path, &small)?;
    }
    for (path, file) in &job.files {
        image.archive.copy(path, file)?;
    }
    if job.systemd {
        image.systemd()?;
    }
    image.archive.file("job", 0o755, job.script.as_bytes())?;
    image.archive.finish()
}

struct Image {
    archive: Archive,
    libraries: BTreeSet<PathBuf>,
}

impl Image {
    fn skeleton(&mut self) -> Result<()> {
        for folder in
            ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "proc", "sys", "dev", "etc", "tmp", "run"]
        {
            self.archive.folder(folder)?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            self.archive.symlink(name, &format!("usr/{name}"))?;
        }
        // Until devtmpfs is there, this is what the first process writes to.
        self.archive.device("dev/console", 5, 1)?;
        self.archive.file("init", 0o755, include_bytes!("init.sh"))?;
        self.archive.file("etc/passwd", 0o644, PASSWD.as_bytes())?;
        self.archive.file("etc/group", 0o644, GROUP.as_bytes())?;
        self.archive.file("etc/nsswitch.conf", 0o644, b"passwd: files\ngroup: files\nhosts: files\n")?;
        self.archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n")?;
        self.archive.file("etc/mke2fs.conf", 0o644, &fs::read("/etc/mke2fs.conf").unwrap_or_default())
    }

    /// The modules that a guest may ask for, with those that they need, and the tables that `modprobe` reads.
    fn modules(&mut self, kernel: &Kernel) -> Result<()> {
        let home = format!("usr/lib/modules/{}", kernel.release);
        let table = fs::read_to_string(kernel.modules.join("modules.dep")).context("read modules.dep")?;
        for module in needed(&table, &MODULES) {
            self.archive.copy(&format!("{home}/{module}"), &kernel.modules.join(&module))?;
        }
        for file in ["modules.dep", "modules.alias", "modules.symbols", "modules.builtin"] {
            let path = kernel.modules.join(file);
            if path.is_file() {
                self.archive.copy(&format!("{home}/{file}"), &path)?;
            }
        }
        Ok(())
    }

    /// The service manager, its units, and one that runs the job. Who starts the machine hands over to it if it is there.
    fn systemd(&mut self) -> Result<()> {
        for path in SYSTEMD {
            self.program(Path::new(path))?;
        }
        let units = Path::new("/usr/lib/systemd/system");
        for unit in fs::read_dir(units).context("read systemd's units")?.flatten() {
            self.unit(&unit.path())?;
        }
        // Without one it takes this for a first start ever, and enables every service that it finds.
        self.archive.file("etc/machine-id", 0o444, b"00000000000000000000000000ebb71d\n")?;
        self.archive.file("etc/systemd/system/job.service", 0o644, include_bytes!("job.service"))?;
        self.archive.file("job-in-service", 0o755, include_bytes!("job.sh"))
    }

    fn unit(&mut self, path: &Path) -> Result<()> {
        if path.is_dir() && !path.is_symlink() {
            let within = fs::read_dir(path).with_context(|| format!("read {}", path.display()))?;
            return within.flatten().try_for_each(|unit| self.unit(&unit.path()));
        }
        match fs::read_link(path) {
            Ok(target) => self.archive.symlink(&place(path)?, &target.to_string_lossy()),
            Err(_) => self.archive.copy(&place(path)?, path),
        }
    }

    /// A program of this machine, at the same place.
    fn program(&mut self, path: &Path) -> Result<()> {
        self.libraries_of(path)?;
        self.archive.copy(&place(path)?, path)
    }

    fn libraries_of(&mut self, program: &Path) -> Result<()> {
        let output = Command::new("ldd").arg(program).output().context("start ldd")?;
        for library in libraries(&String::from_utf8_lossy(&output.stdout)) {
            if self.libraries.insert(library.clone()) {
                self.archive.copy(&place(&library)?, &library)?;
            }
        }
        Ok(())
    }
}

/// A path of this machine without symlinks among its folders: the guest's `/bin` and `/lib` are links as well.
fn place(path: &Path) -> Result<String> {
    let (folder, name) = path.parent().zip(path.file_name()).context("a file has a folder and a name")?;
    let folder = fs::canonicalize(folder).with_context(|| format!("look at {}", folder.display()))?;
    Ok(folder.join(name).to_string_lossy().trim_start_matches('/').to_owned())
}

/// What `ldd` names: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn libraries(said: &str) -> Vec<PathBuf> {
    let words = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    said.lines().filter_map(words).collect()
}

/// Those of these names and what they need, from lines `kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko`. What is built
/// into the kernel is not in the table.
fn needed(table: &str, names: &[&str]) -> BTreeSet<String> {
    let is = |path: &str, name: &str| {
        let file = path.rsplit('/').next().unwrap_or_default();
        file.split('.').next().is_some_and(|stem| stem.replace('-', "_") == name)
    };
    let lines = table.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(path, _)| names.iter().any(|name| is(path, name)))
        .flat_map(|(path, needs)| std::iter::once(path).chain(needs.split_whitespace()).map(str::to_owned))
        .collect()
}

/// The program without its debug information, which is most of it.
fn stripped(program: &Path, folder: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("a program has a name")?;
    let small = folder.join(name);
    let time = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    if time(&small).is_some_and(|made| time(program).is_some_and(|built| built < made)) {
        return Ok(small);
    }
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let mut strip = Command::new("strip");
    strip.args(["--strip-debug", "-o"]).arg(&small).arg(program);
    process::run(&mut strip, "it comes with Debian's binutils")?;
    Ok(small)
}

fn on_path(name: &str) -> Result<PathBuf> {
    let folders = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(Path::new);
    match folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("{name} is not on this machine: `cargo xtask setup` brings what the guest needs"),
    }
}

/// What file systems, loop devices and the disk need, where the kernel has them as modules.
const MODULES: [&str; 12] = [
    "ext4",
    "xfs",
    "btrfs",
    "overlay",
    "loop",
    "virtio_blk",
    "virtio_pci",
    "crc32c_generic",
    "crc32c_intel",
    "xxhash_generic",
    "sha256_generic",
    "blake2b_generic",
];

/// Besides busybox's.
const PROGRAMS: [&str; 22] = [
    "busybox",
    "bash",
    "rsync",
    "mount",
    "umount",
    "findmnt",
    "fsfreeze",
    "setpriv",
    "mkfs.ext4",
    "mkfs.xfs",
    "mkfs.btrfs",
    "btrfs",
    "setfacl",
    "getfacl",
    "setfattr",
    "getfattr",
    "cp",
    "tar",
    "touch",
    "sync",
    "inotifywait",
    "unshare",
];

/// systemd, as far as it starts and stops services and keeps what they print.
const SYSTEMD: [&str; 5] = [
    "/usr/lib/systemd/systemd",
    "/usr/lib/systemd/systemd-journald",
    "/usr/lib/systemd/systemd-shutdown",
    "/usr/bin/systemctl",
    "/usr/bin/journalctl",
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_that_ldd_tells_the_place_of() {
        let said = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        assert_eq!(libraries(said), [Path::new("/lib/libc.so.6"), Path::new("/lib64/ld.so.2")]);
    }

    #[test]
    fn a_module_comes_with_all_that_it_needs() {
        let table =
            "kernel/fs/xfs/xfs.ko: kernel/lib/crc.ko\nkernel/drivers/virtio-blk.ko:\nkernel/net/x.ko: y.ko\n";
        let found = needed(table, &["xfs", "virtio_blk", "ext4"]);
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, ["kernel/drivers/virtio-blk.ko", "kernel/fs/xfs/xfs.ko", "kernel/lib/crc.ko"]);
    }
}
