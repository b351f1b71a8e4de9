//! Folders of one test's own, and the removal of what dead runs left behind.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::programs::target_dir;
use crate::run;

/// A folder below the target folder that nobody else uses; removed on drop with all mounts in it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

static NEXT: AtomicU32 = AtomicU32::new(0);
static SWEPT: Once = Once::new();

impl Scratch {
    /// Makes the folder. The first one of a process also removes those of runs that are dead.
    pub fn new(label: &str) -> Scratch {
        let worlds = target_dir().join("worlds");
        fs::create_dir_all(&worlds).expect("the target folder is writable");
        SWEPT.call_once(|| sweep(&worlds));
        let pid = std::process::id();
        let born = birth(pid).expect("this process is alive");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = worlds.join(format!("{pid}-{born}-{number}-{label}"));
        fs::create_dir(&path).expect("the name holds our process id and a number of its own");
        Scratch(path)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A new folder in it.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).expect("a scratch folder is writable");
        path
    }

    /// A program in it, by its text. It is written by another process: while ours has it open for writing, a child that is
    /// just being started has, too, and the kernel runs no program that somebody may write to.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let (path, draft) = (self.0.join(name), self.0.join(format!("{name}.draft")));
        fs::write(&draft, text).expect("a scratch folder is writable");
        run(Command::new("install").args(["-m", "755"]).arg(&draft).arg(&path));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes the worlds of processes that are gone.
fn sweep(worlds: &Path) {
    for entry in fs::read_dir(worlds).expect("the folder of worlds was just made").flatten() {
        let name = entry.file_name();
        let mut parts = name.to_str().unwrap_or_default().splitn(3, '-');
        let (Some(pid), Some(born)) = (parts.next(), parts.next()) else { continue };
        let alive = pid.parse().ok().and_then(birth).is_some_and(|b| b == born);
        if !alive {
            remove(&entry.path());
        }
    }
}

/// Start time of a process in clock ticks since boot; with the id it names a process for good.
fn birth(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Field 22; the second field is in parentheses and may hold spaces.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

fn remove(world: &Path) {
    for mount in mounts_below(world) {
        detach(&mount);
    }
    if let Err(error) = fs::remove_dir_all(world) {
        eprintln!("cannot remove {}: {error}", world.display());
    }
}

/// Detaches a mount; lazily when something still holds it.
pub(crate) fn detach(mount: &Path) {
    let quiet = Command::new("umount").arg(mount).output();
    if quiet.is_ok_and(|o| o.status.success()) {
        return;
    }
    match Command::new("umount").arg("--lazy").arg(mount).output() {
        Ok(o) if o.status.success() => eprintln!("{} was busy and is detached lazily", mount.display()),
        other => eprintln!("cannot detach {}: {other:?}", mount.display()),
    }
}

/// Mount points below a folder, innermost first.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut mounts: Vec<PathBuf> = table
        .split(|&b| b == b'\n')
        .filter_map(|line| line.split(|&b| b == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .filter(|mount| mount.starts_with(folder))
        .collect();
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.as_os_str().as_bytes().len()));
    mounts
}

/// The kernel writes space, tab, newline and backslash in mountinfo as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| after.get(..3)).flatten();
        let value = octal.and_then(|o| u8::from_str_radix(std::str::from_utf8(o).ok()?, 8).ok());
        plain.push(value.unwrap_or(byte));
        rest = if value.is_some() { &after[3..] } else { after };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_is_gone_after_a_test_that_panicked() {
        let path = std::sync::Mutex::new(PathBuf::new());
        let result = std::panic::catch_unwind(|| {
            let scratch = Scratch::new("panics");
            scratch.dir("a");
            *path.lock().unwrap() = scratch.path().to_owned();
            panic!("as planned");
        });
        assert!(result.is_err());
        let path = path.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        assert!(!path.as_os_str().is_empty() && !path.exists());
    }

    #[test]
    fn mount_points_with_odd_bytes_are_read_back() {
        assert_eq!(unescape(br"/a\040b\134c\012"), b"/a b\\c\n");
        assert_eq!(unescape(br"/a\04"), br"/a\04");
    }
}
