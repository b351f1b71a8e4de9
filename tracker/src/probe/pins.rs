//! Where programs and maps are pinned, so that they go on marking when this process ends: a folder in bpffs for each
//! state folder, and in it one for what was loaded together. Nothing in bpffs outlives the machine's next start.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

/// The folder of one state folder.
#[derive(Clone, Debug)]
pub struct Pins {
    dir: PathBuf,
    /// Of the daemon that pins: tells what is pinned apart from what another one pinned.
    session: u64,
    /// What it is called if nothing of it can be taken over.
    next: u64,
}

impl Pins {
    /// The folder for the daemon with this state folder, which must exist; `session` is what the last one called what it
    /// pinned, `next` what it is called when it is pinned anew. The folder is made if need be, and so is the mount
    /// of bpffs.
    ///
    /// # Errors
    /// There is no bpffs, or it cannot be written.
    pub fn open(state_dir: &Path, session: u64, next: u64) -> io::Result<Self> {
        mount()?;
        let dir = folder_of(state_dir)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let link = dir.join(STATE);
        if std::fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(state_dir.canonicalize()?, &link)?;
        }
        Ok(Pins { dir, session, next })
    }

    /// What is pinned from now on is of the next session.
    pub fn begin_session(&mut self) {
        self.session = self.next;
    }

    /// Of which session what is pinned is.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Where the programs with this fingerprint are pinned; `Err` says why there are none.
    ///
    /// # Errors
    /// What is there instead.
    pub fn find(&self, fingerprint: u64) -> Result<PathBuf, &'static str> {
        let path = self.dir.join(name(fingerprint, self.session));
        if path.is_dir() {
            return Ok(path);
        }
        let all = self.all();
        let ours = format!("{fingerprint:016x}-");
        if all.is_empty() {
            Err("nothing marked since the last daemon ended")
        } else if all.iter().any(|name| name.as_bytes().starts_with(ours.as_bytes())) {
            Err("what marks is not what the last daemon knew of")
        } else {
            Err("what marks was left by another build of ebbtide, or with other sizes")
        }
    }

    /// An empty folder to pin to.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn prepare(&self) -> io::Result<PathBuf> {
        let path = self.dir.join(NEW);
        remove(&path)?;
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(path)
    }

    /// All is pinned that belongs there: it is what the next start finds. What was there before goes.
    ///
    /// # Errors
    /// It cannot be given its name.
    pub fn commit(&self, fingerprint: u64) -> io::Result<()> {
        let ours = name(fingerprint, self.session);
        self.all()
            .iter()
            .filter(|other| **other != *ours)
            .try_for_each(|other| remove(&self.dir.join(other)))?;
        std::fs::rename(self.dir.join(NEW), self.dir.join(ours))
    }

    /// Removes all that is pinned: what nobody else holds stops marking.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        remove(&self.dir)
    }

    fn all(&self) -> Vec<std::ffi::OsString> {
        let names = names(&self.dir).unwrap_or_default();
        names.into_iter().filter(|name| name != STATE && name != NEW).collect()
    }
}

/// Removes what is pinned for this state folder, without making anything. Returns whether there was anything.
///
/// # Errors
/// It cannot be removed.
pub fn unload(state_dir: &Path) -> io::Result<bool> {
    let dir = folder_of(state_dir)?;
    let there = dir.exists();
    remove(&dir)?;
    Ok(there)
}

/// Removes what is pinned for state folders that are no more.
pub fn sweep() {
    for name in names(Path::new(TOP)).unwrap_or_default() {
        let dir = Path::new(TOP).join(&name);
        let gone = std::fs::read_link(dir.join(STATE)).is_ok_and(|state| !state.exists());
        if gone && let Err(e) = remove(&dir) {
            tracing::warn!(error = %e, dir = %dir.display(), "what is pinned for a state folder that is gone stays");
        }
    }
}

/// bpffs keeps names with dots to itself, so that a path can't be a name.
fn folder_of(state_dir: &Path) -> io::Result<PathBuf> {
    let path = state_dir.canonicalize()?;
    let hash = path
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME));
    Ok(Path::new(TOP).join(format!("{hash:016x}")))
}

fn name(fingerprint: u64, session: u64) -> String {
    format!("{fingerprint:016x}-{session:016x}")
}

fn mount() -> io::Result<()> {
    let is_bpf = |path: &str| rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == BPF_FS_MAGIC);
    if is_bpf(BPFFS) {
        return Ok(());
    }
    Ok(rustix::mount::mount("bpf", BPFFS, "bpf", MountFlags::empty(), None)?)
}

/// A folder with all that is in it, if it is there.
fn remove(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn names(dir: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
}

const BPFFS: &str = "/sys/fs/bpf";
const TOP: &str = "/sys/fs/bpf/ebbtide";
const BPF_FS_MAGIC: rustix::fs::FsWord = 0xcafe_4a11;

/// In the folder: the state folder it is for.
const STATE: &str = "state";

/// In the folder: what is not complete yet.
const NEW: &str = "new";

/// FNV-1a of 64 bits.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_folder_has_pins_of_its_own_whose_name_bpffs_takes() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.b"), dir.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        std::fs::create_dir(&b).unwrap();
        let (a, b) = (folder_of(&a).unwrap(), folder_of(&b).unwrap());
        assert_ne!(a, b);
        assert!(!a.file_name().unwrap().as_bytes().contains(&b'.'));
    }
}
