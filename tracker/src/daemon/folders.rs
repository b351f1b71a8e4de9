//! The daemon's own folders, locked as long as it runs.
//!
//! | folder | whose | what it holds |
//! | --- | --- | --- |
//! | runtime folder | root | the control socket and what must outlive a crash, but not the machine's next start |
//! | state folder | root, entered by everybody | the two below |
//! | `tracker` in it | root | stamps and notes, of which the sender may change nothing |
//! | `sender` in it | the sender's user | the ledger |
//!
//! The state folder itself is root's also because systemd gives all of a `StateDirectory=` back to root at every start
//! if it is not.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::config::Config;
use super::run::RunError;
use super::sender::User;
use crate::control::PID;

const RUNTIME: &str = "runtime folder";
const STATE: &str = "state folder";

/// The folders of a running daemon.
#[derive(Debug)]
pub(super) struct Folders {
    /// Where the tracker's stamps and notes are.
    pub(super) tracker: File,
    /// Where the sender keeps its ledger.
    pub(super) sender: PathBuf,
    /// Locked as long as they are open.
    _locked: [File; 2],
}

impl Folders {
    /// Makes and locks them, and gives the sender's to its user.
    ///
    /// # Errors
    /// One lies in a source, is in use, or cannot be made.
    pub(super) fn prepare(config: &Config, user: &User) -> Result<Folders, RunError> {
        outside_of_sources(config)?;
        let (runtime, state) = (&config.runtime_dir, &config.state_dir);
        let locked = [make(RUNTIME, runtime, 0o755)?, make(STATE, state, 0o711)?];
        let pid_file = runtime.join(PID);
        let pid = fs::read_to_string(&pid_file).unwrap_or_default();
        lock(RUNTIME, runtime, &locked[0], &pid)?;
        lock(STATE, state, &locked[1], "of another runtime folder")?;
        let number = format!("{}\n", std::process::id());
        // Clients read it at any moment, also while the daemon begins anew under the same number.
        if pid != number {
            fs::write(&pid_file, number).map_err(own("file", &pid_file, "writing"))?;
        }
        ours(&locked[1]).map_err(own(STATE, state, "taking it from the sender's user"))?;
        let (sender, tracker) = (state.join("sender"), state.join("tracker"));
        give(&make(STATE, &sender, 0o700)?, &sender, user).map_err(own(
            STATE,
            &sender,
            "giving it to the sender's user",
        ))?;
        Ok(Folders { tracker: make(STATE, &tracker, 0o700)?, sender, _locked: locked })
    }

    /// Locks those that there are, as long as the files live: no daemon runs meanwhile.
    ///
    /// # Errors
    /// One is in use.
    pub(super) fn lock(runtime: &Path, state: &Path) -> Result<Vec<File>, RunError> {
        let pid = fs::read_to_string(runtime.join(PID)).unwrap_or_default();
        let mut locked = Vec::new();
        for (what, path) in [(RUNTIME, runtime), (STATE, state)].into_iter().filter(|(_, path)| path.exists())
        {
            let folder = make(what, path, 0o700)?;
            lock(what, path, &folder, &pid)?;
            locked.push(folder);
        }
        Ok(locked)
    }
}

/// Refuses folders that would be mirrored.
///
/// # Errors
/// With the source that holds one.
pub(super) fn outside_of_sources(config: &Config) -> Result<(), RunError> {
    for (what, path) in [(RUNTIME, &config.runtime_dir), (STATE, &config.state_dir)] {
        // A folder that is still to be made is where its nearest ancestor is.
        let real =
            |path: &Path| path.ancestors().find_map(|path| path.canonicalize().ok()).unwrap_or_default();
        // A source that is not there holds nothing; that it is not there is said when it is opened.
        let holds = |source: &Path| {
            path.starts_with(source)
                || source.canonicalize().is_ok_and(|source| real(path).starts_with(source))
        };
        if let Some(mirror) = config.mirrors.iter().find(|mirror| holds(&mirror.source)) {
            let source_dir = mirror.source.clone();
            return Err(RunError::Inside { what, path: path.clone(), source_dir });
        }
    }
    Ok(())
}

fn make(what: &'static str, path: &Path, mode: u32) -> Result<File, RunError> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(own(what, path, "creating"))?;
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(own(what, path, "opening"))
}

fn lock(what: &'static str, path: &Path, folder: &File, pid: &str) -> Result<(), RunError> {
    flock(folder, FlockOperation::NonBlockingLockExclusive).map_err(|_| RunError::Locked {
        what,
        path: path.to_owned(),
        pid: pid.trim().to_owned(),
    })
}

/// Lets nobody else write to the state folder, and everybody through it.
fn ours(state: &File) -> io::Result<()> {
    let (found, us) = (state.metadata()?, rustix::process::geteuid().as_raw());
    if found.uid() != us {
        fchown(state, Some(us), None)?;
    }
    let mode = (found.mode() & 0o7755) | 0o111;
    if found.mode() & 0o7777 != mode {
        state.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Gives the sender's folder to its user, and the files in it, which an earlier user may have left, or a `chown -R`. A file
/// that has names elsewhere is not the ledger, whoever put it there.
fn give(folder: &File, path: &Path, user: &User) -> io::Result<()> {
    fchown(folder, Some(user.uid), Some(user.gid))?;
    folder.set_permissions(Permissions::from_mode(0o700))?;
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    for entry in fs::read_dir(path)? {
        // What cannot be opened is no file, or is gone.
        let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(entry?.path()) else {
            continue;
        };
        let found = file.metadata()?;
        if found.is_file() && found.nlink() == 1 && found.uid() != user.uid {
            fchown(&file, Some(user.uid), Some(user.gid))?;
        }
    }
    Ok(())
}

/// For `map_err`: what was done to a file or folder of ours.
pub(super) fn own<'a>(
    what: &'static str,
    path: &'a Path,
    doing: &'static str,
) -> impl Fn(io::Error) -> RunError + use<'a> {
    move |source| RunError::Own { what, path: path.to_owned(), doing, source }
}
