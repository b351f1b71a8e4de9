//! `cargo xtask vm-test`: a machine with another kernel, emulated in software, built from Debian's packages and from
//! what stands in the target folder.
//!
//! Its first serial line is the kernel's console and goes to a file; the second is the job's output and ours. It has no
//! network but loopback, one disk, which is new each time, and a first file system in memory that holds this machine's
//! programs.

mod cpio;
mod image;
mod kernel;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::world;
use kernel::Kernel;

/// The package that stands for Debian's kernel for machines like this.
pub(crate) const KERNEL: &str = "linux-image-cloud-amd64";

/// What a guest is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest<'a> {
    /// The folder of `ebbtide` and `ebbtide-send`.
    pub(crate) built: &'a Path,
    /// Further programs.
    pub(crate) with: &'a [PathBuf],
    /// The package that stands for the kernel.
    pub(crate) kernel: &'a str,
}

/// What a guest does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    /// For its shell.
    pub(crate) script: String,
    /// Programs that were built here, by their paths in the guest.
    pub(crate) programs: Vec<(String, PathBuf)>,
    /// Other files, the same way.
    pub(crate) files: Vec<(String, PathBuf)>,
    /// Whether systemd runs it, as the first process. The machine is then started three times, with the same disk: the
    /// script sees in `$BOOT` which time it is.
    pub(crate) systemd: bool,
}

/// A guest that can be switched on.
pub(crate) struct Prepared {
    /// QEMU; the job's output is its standard output. It may be started again, and finds its disk as it was.
    pub(crate) command: Command,
    /// The kernel's release.
    pub(crate) release: String,
    folder: PathBuf,
}

/// What the guest's last words say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LastWords {
    status: Option<i32>,
    restarts: bool,
}

impl Guest<'_> {
    /// Runs one command, with its output on ours.
    pub(crate) fn run(&self, command: &str) -> Result<()> {
        let mut prepared = self.prepare(Job { script: format!("{command}\n"), ..Job::default() })?;
        let mut machine = prepared.command.stdout(Stdio::piped()).spawn().context("start QEMU")?;
        let out = BufReader::new(machine.stdout.take().context("QEMU's output was piped")?);
        let (mut words, mut screen) = (LastWords::default(), std::io::stdout().lock());
        for line in out.split(b'\n') {
            let line = line.context("read from QEMU")?;
            words.see(&String::from_utf8_lossy(&line));
            let _ = screen.write_all(&line).and_then(|()| screen.write_all(b"\n"));
        }
        machine.wait().context("wait for QEMU")?;
        match words.status {
            Some(0) => Ok(()),
            Some(status) => bail!("the command ended with {status}"),
            None => bail!("the guest died; its kernel's last words:\n{}", prepared.console()),
        }
    }

    /// Builds the guest for a job.
    pub(crate) fn prepare(&self, mut job: Job) -> Result<Prepared> {
        let home = world::target()?.join("vm");
        // Several may run at the same time.
        let folder = home.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let kernel = kernel::get(&home, self.kernel)?;
        let ours = ["ebbtide", "ebbtide-send"].map(|name| self.built.join(name));
        let with = ours.iter().chain(self.with).map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            (format!("usr/local/bin/{name}"), path.clone())
        });
        job.programs.extend(with);
        image::write(&folder.join("initramfs"), &kernel, &job, &home.join("stripped"))?;
        // New and sparse each time.
        let disk = File::create(folder.join("disk")).context("make the guest's disk")?;
        disk.set_len(DISK).context("make the guest's disk")?;
        Ok(Prepared { command: qemu(&kernel, &folder), release: kernel.release, folder })
    }
}

impl Prepared {
    /// The end of what the kernel said.
    pub(crate) fn console(&self) -> String {
        let said = fs::read(self.folder.join("console")).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl LastWords {
    /// Takes a line of the job's output.
    pub(crate) fn see(&mut self, line: &str) {
        match line.trim_end().strip_prefix("guest: ") {
            Some("restarts") => self.restarts = true,
            Some(said) => {
                self.status = said.strip_prefix("ended with ").and_then(|status| status.parse().ok());
            }
            None => {}
        }
    }

    /// Whether the job came to its end.
    pub(crate) fn came(self) -> bool {
        self.status.is_some()
    }

    /// Whether the machine is to be started once more. It is told once.
    pub(crate) fn restarts(&mut self) -> bool {
        std::mem::take(&mut self.restarts)
    }
}

/// A panic ends the machine, so that nobody waits for it.
fn qemu(kernel: &Kernel, folder: &Path) -> Command {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-reboot", "-display", "none", "-cpu", "max", "-smp", "2", "-m", MEMORY])
        // The same on every machine, whatever its processor and its own virtual machine permit.
        .args(["-accel", "tcg"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(folder.join("initramfs"))
        .args(["-append", "console=ttyS0 panic=-1 oops=panic mitigations=off random.trust_cpu=on"])
        .arg("-drive")
        .arg(format!("file={},if=virtio,format=raw,cache=unsafe", folder.join("disk").display()))
        .arg("-serial")
        .arg(format!("file:{}", folder.join("console").display()))
        .args(["-serial", "stdio"])
        .stdin(Stdio::null());
    qemu
}

/// The guest's memory: programs, the images of file systems and what they cache.
const MEMORY: &str = "2560M";
/// The guest's disk in bytes; it takes what is written.
const DISK: u64 = 8 << 30;
/// What is shown of a kernel that died.
const CONSOLE_LINES: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_ended_only_when_the_guest_says_so() {
        let mut words = LastWords::default();
        words.see("guest: up");
        assert!(!words.came());
        words.see("guest: ended with 3\r\n");
        assert_eq!(words.status, Some(3));
    }
}
