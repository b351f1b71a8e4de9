//! The stamps on disk: `tracker/stamp` in the state folder.
//!
//! ```text
//! {"version":1,"mirrors":[{"source":…,"root":…,"rules":…,"known":{…}},…]}\n
//! checksum of the line above, 16 hexadecimal digits\n
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Moment;

/// What a stamp is about. Two of the same kind and different content are of different things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::daemon) struct Subject {
    /// The source's path, escaped.
    pub(in crate::daemon) source: String,
    /// The source directory: its file system, its inode, when it was made.
    pub(in crate::daemon) root: String,
    /// A checksum of its filter rules.
    pub(in crate::daemon) rules: String,
}

impl Subject {
    /// The mirror with this source path, identity and rules.
    pub(in crate::daemon) fn new(source: &[u8], root: String, rules: &[Vec<u8>]) -> Self {
        let rules = rules.iter().flat_map(|rule| rule.iter().copied().chain([0]));
        Subject {
            source: source.escape_ascii().to_string(),
            root,
            rules: format!("{:016x}", checksum(rules)),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    mirrors: Vec<KeptMirror>,
}

#[derive(Serialize, Deserialize)]
struct KeptMirror {
    #[serde(flatten)]
    subject: Subject,
    known: Option<Moment>,
}

/// What an earlier keeper left of a mirror: its stamp, or why that cannot be used; `None` where there was nothing.
pub(in crate::daemon) type Left = Option<Result<Moment, String>>;

/// Keeps stamps on disk, behind the back of whoever has them: at most one write a second, the latest.
pub(in crate::daemon) struct Keeper {
    subjects: Vec<Subject>,
    texts: Sender<String>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Keeps them in this folder, and gives what an earlier keeper left there of each mirror.
    ///
    /// # Errors
    /// There is no room for another descriptor or thread.
    pub(in crate::daemon) fn open(folder: &File, subjects: Vec<Subject>) -> io::Result<(Self, Vec<Left>)> {
        let folder = folder.try_clone()?;
        let found = read(&folder);
        let left = subjects.iter().map(|subject| left_for(subject, &found)).collect();
        let (texts, queue) = channel();
        let thread =
            std::thread::Builder::new().name("stamp".into()).spawn(move || write_all(&folder, &queue))?;
        Ok((Keeper { subjects, texts, thread }, left))
    }

    /// Writes these down soon.
    pub(super) fn keep(&mut self, known: &[Option<Moment>]) {
        // The thread is gone only when it panicked, and said so.
        let _ = self.texts.send(self.text(known));
    }

    /// Writes these down now.
    pub(super) fn close(self, known: &[Option<Moment>]) {
        let _ = self.texts.send(self.text(known));
        drop(self.texts);
        let _ = self.thread.join();
    }

    fn text(&self, known: &[Option<Moment>]) -> String {
        let mirrors = self.subjects.iter().zip(known);
        let mirrors =
            mirrors.map(|(subject, known)| KeptMirror { subject: subject.clone(), known: known.clone() });
        let kept = Kept { version: VERSION, mirrors: mirrors.collect() };
        let line = serde_json::to_string(&kept).expect("it has no maps with keys that are no text");
        format!("{line}\n{:016x}\n", checksum(line.bytes()))
    }
}

fn left_for(subject: &Subject, found: &Result<Option<Kept>, String>) -> Left {
    let kept = match found {
        Ok(kept) => kept.as_ref()?,
        Err(why) => return Some(Err(why.clone())),
    };
    let of = kept.mirrors.iter().find(|kept| kept.subject.source == subject.source)?;
    if of.subject.root != subject.root {
        return Some(Err("another directory is at the source's path than at the last drain".into()));
    }
    if of.subject.rules != subject.rules {
        return Some(Err("the filter rules are others than at the last drain".into()));
    }
    of.known.clone().map(Ok)
}

fn read(folder: &File) -> Result<Option<Kept>, String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, NAME, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(format!("the stamp of the last drain cannot be read: {e}")),
    };
    let mut text = String::new();
    file.take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|e| format!("the stamp of the last drain cannot be read: {e}"))?;
    parse(&text).map(Some).ok_or_else(|| "the stamp of the last drain is damaged".into())
}

fn parse(text: &str) -> Option<Kept> {
    let (line, rest) = text.split_once('\n')?;
    let sum = rest.strip_suffix('\n')?;
    let kept: Kept = serde_json::from_str(line).ok()?;
    (sum == format!("{:016x}", checksum(line.bytes())) && kept.version == VERSION).then_some(kept)
}

/// Writes the latest text until nobody sends any more.
fn write_all(folder: &File, texts: &Receiver<String>) {
    let mut next = Instant::now();
    while let Ok(mut text) = texts.recv() {
        while let Ok(later) = texts.recv_timeout(next.saturating_duration_since(Instant::now())) {
            text = later;
        }
        if let Err(e) = write(folder, &text) {
            tracing::warn!(error = %e, "the stamp of the last drain could not be written");
        }
        next = Instant::now() + PACE;
    }
}

/// Replaces the file as a whole. The folder itself is synced, so that the file has its name after a crash.
fn write(folder: &File, text: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(folder, NEW_NAME, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    rustix::fs::renameat(folder, NEW_NAME, folder, NAME)?;
    Ok(rustix::fs::fsync(folder)?)
}

/// FNV-1a with 64 bits: finds damage, not malice, from which the folder's owner protects.
fn checksum(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

const NAME: &str = "stamp";
const NEW_NAME: &str = "stamp.new";

/// Of the file's format.
const VERSION: u32 = 1;

/// The longest stamp that is read: thousands of mirrors.
const LONGEST: u64 = 16 << 20;

/// At most one write in so long.
const PACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(root: &str) -> Subject {
        Subject::new(b"/srv/a\xff", root.into(), &[b"- *.tmp".to_vec()])
    }

    fn moment() -> Moment {
        Moment { real: 5, since_boot: 3, boot: "b".into() }
    }

    fn folder() -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().unwrap();
        let file = File::open(dir.path()).unwrap();
        (dir, file)
    }

    fn left(folder: &File, subject: Subject) -> Left {
        Keeper::open(folder, vec![subject]).unwrap().1.remove(0)
    }

    fn kept() -> (tempfile::TempDir, File) {
        let (dir, folder) = folder();
        let (keeper, left) = Keeper::open(&folder, vec![subject("r")]).unwrap();
        assert_eq!(left, [None]);
        keeper.close(&[Some(moment())]);
        (dir, folder)
    }

    #[test]
    fn a_stamp_is_there_for_the_next_daemon() {
        let (_dir, folder) = kept();
        assert_eq!(left(&folder, subject("r")), Some(Ok(moment())));
        assert!(left(&folder, subject("other")).unwrap().unwrap_err().contains("another directory"));
        let other_rules = Subject::new(b"/srv/a\xff", "r".into(), &[]);
        assert!(left(&folder, other_rules).unwrap().unwrap_err().contains("filter rules"));
        assert_eq!(left(&folder, Subject::new(b"/srv/b", "r".into(), &[])), None, "a new mirror");
    }

    #[test]
    fn a_stamp_with_any_byte_changed_or_cut_off_is_damaged() {
        let (dir, folder) = kept();
        let path = dir.path().join(NAME);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(left(&folder, subject("r")).unwrap().is_err(), "byte {at}");
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(left(&folder, subject("r")).unwrap().is_err(), "cut at {at}");
        }
    }
}
