//! What the daemon itself remembers between starts: which destinations are paused, which directories the sources are,
//! and where file systems are mounted below them.
//!
//! It is in `tracker/notes.json` in the state folder.

use std::ffi::CStr;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use ebbtide_feed::RelPath;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

/// The notes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Notes {
    /// Source and URL of each destination that is paused.
    pub(super) paused: Vec<(Vec<u8>, String)>,
    /// What each source was: see `Source::identity`.
    pub(super) roots: Vec<(Vec<u8>, String)>,
    /// Source and directory below it, where a file system was mounted at a start.
    pub(super) mounts: Vec<(Vec<u8>, RelPath)>,
    /// The same of what was mounted since: what that covers is compared when it is uncovered.
    pub(super) covered: Vec<(Vec<u8>, RelPath)>,
}

const FILE: &CStr = c"notes.json";
const FRESH: &CStr = c"notes.json.new";

impl Notes {
    /// What was noted; nothing where that cannot be read.
    pub(super) fn read(folder: impl AsFd) -> Notes {
        let read = || -> io::Result<Notes> {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut text = Vec::new();
            std::fs::File::from(rustix::fs::openat(&folder, FILE, flags, Mode::empty())?)
                .read_to_end(&mut text)?;
            Ok(serde_json::from_slice(&text)?)
        };
        match read() {
            Ok(notes) => notes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, "the tracker's notes cannot be read: nothing is paused, any source directory is right");
                }
                Notes::default()
            }
        }
    }

    /// Notes all of it.
    ///
    /// # Errors
    /// The disk is full, or cannot be written.
    pub(super) fn write(&self, folder: impl AsFd) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file =
            std::fs::File::from(rustix::fs::openat(&folder, FRESH, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        Ok(rustix::fs::renameat(&folder, FRESH, &folder, FILE)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_and_none_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let folder = std::fs::File::open(dir.path()).unwrap();
        assert_eq!(Notes::read(&folder), Notes::default());
        let paused = vec![(b"/s\xff".to_vec(), "rsync://h/m/".to_owned())];
        let roots = vec![(b"/s".to_vec(), "7 2 00".to_owned())];
        let mounts = vec![(b"/s".to_vec(), RelPath::new(*b"a/\xfe").unwrap())];
        let notes = Notes { paused, roots, covered: mounts.clone(), mounts };
        notes.write(&folder).unwrap();
        notes.write(&folder).unwrap();
        assert_eq!(Notes::read(&folder), notes);
        std::fs::write(dir.path().join("notes.json"), b"{").unwrap();
        assert_eq!(Notes::read(&folder), Notes::default());
    }
}
