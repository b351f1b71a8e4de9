//! File systems of our own, and the commands under test.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "shared between test binaries")]

#[path = "../../../tests/src/skip.rs"]
mod skip;

use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longer than anything here takes, so that a hang becomes a failure.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The command under test.
pub fn ebbtide() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ebbtide"))
}

/// The sender of the tests: logs facts, see `examples/feed_log.rs`.
pub fn feed_log() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_ebbtide")).with_file_name("examples").join("feed_log");
    assert!(path.exists(), "{} is missing: cargo build --package ebbtide --examples", path.display());
    path
}

/// Whether tests of the kernel can run here; the test counts as skipped when not.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped("needs root");
    }
    root
}

/// Counts this test as skipped.
pub fn skipped(why: &str) {
    skip::report(std::thread::current().name().unwrap_or("?"), why);
}

/// A mounted file system that goes away by itself.
pub struct Mounted {
    dir: tempfile::TempDir,
    point: PathBuf,
}

impl Mounted {
    /// A fresh file system of this type; `None`, and the test counts as skipped, where this machine cannot make one.
    pub fn new(fs_type: &str) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().join("mnt");
        std::fs::create_dir(&point).unwrap();
        let mut mount = Command::new("mount");
        if fs_type == "tmpfs" {
            mount.args(["-t", "tmpfs", "none"]);
        } else {
            let image = dir.path().join("image");
            std::fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
            let made = Command::new(format!("mkfs.{fs_type}")).arg("-q").arg(&image).output();
            if !made.is_ok_and(|made| made.status.success()) {
                skipped(&format!("mkfs.{fs_type} does not work here"));
                return None;
            }
            mount.args(["-o", "loop"]).arg(&image);
        }
        let mounted = mount.arg(&point).output().unwrap();
        if !mounted.status.success() {
            skipped(&format!("cannot mount {fs_type}: {}", String::from_utf8_lossy(&mounted.stderr)));
            return None;
        }
        Some(Mounted { dir, point })
    }

    /// A new directory on it.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.point.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// A folder that is not on it.
    pub fn beside(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.point).status();
    }
}

/// A fact as `ebbtide watch --json` tells it: word, path, and the path before a move.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Told {
    pub word: String,
    pub path: Vec<u8>,
}

/// A running `ebbtide watch`.
pub struct Watch {
    child: Child,
    lines: Receiver<Told>,
    /// Everything told so far.
    pub told: Vec<Told>,
}

impl Watch {
    pub fn start(dir: &Path, probes: &str) -> Self {
        let mut command = ebbtide();
        command.args(["watch", "--json", "--probes", probes]).arg(dir);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        loop {
            let line = log.next().unwrap_or_else(|| panic!("watch ended: {said:?}")).unwrap();
            if line.starts_with("watching") {
                break;
            }
            said.push(line);
        }
        std::thread::spawn(move || log.for_each(|line| eprintln!("watch: {}", line.unwrap_or_default())));
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(told(&line)).is_err() {
                    break;
                }
            }
        });
        Watch { child, lines, told: Vec::new() }
    }

    /// Waits until this was told, by this call or an earlier one.
    pub fn expect(&mut self, word: &str, path: &[u8]) {
        let wanted = Told { word: word.into(), path: path.to_vec() };
        self.until(|told| told.contains(&wanted), &format!("{word} {}", path.escape_ascii()));
    }

    /// Waits until what was told is enough.
    pub fn until(&mut self, enough: impl Fn(&[Told]) -> bool, what: &str) {
        let end = Instant::now() + PATIENCE;
        while !enough(&self.told) {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(told) => self.told.push(told),
                Err(e) => panic!("{e} while waiting for {what}; told: {:#?}", self.told),
            }
        }
    }

    /// Takes what is there without waiting.
    pub fn poll(&mut self) {
        self.told.extend(self.lines.try_iter());
    }

    /// Forgets what was told.
    pub fn forget(&mut self) {
        self.told.clear();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn told(line: &str) -> Told {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let bytes = value["path_bytes"].as_array().map(|bytes| {
        bytes.iter().map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap()).collect::<Vec<_>>()
    });
    let path = bytes.unwrap_or_else(|| value["path"].as_str().unwrap().as_bytes().to_vec());
    Told { word: value["fact"].as_str().unwrap().into(), path }
}

/// A path below `dir` by bytes.
pub fn at(dir: &Path, name: &[u8]) -> PathBuf {
    dir.join(std::ffi::OsStr::from_bytes(name))
}
