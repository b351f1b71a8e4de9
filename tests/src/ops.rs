//! Random operations on a tree, from several threads, from a seed.
//!
//! Names come from a fixed space, so operations meet: they overwrite, rename over each other, remove what another
//! thread is writing. An operation that the tree's state does not allow fails, and that is fine. A bounded number of
//! operations is done rather than a bounded time, so a seed means the same on every machine; with one worker it
//! replays exactly, with several up to their interleaving.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use fastrand::Rng;
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};

use crate::{Mapped, bytes, name};

/// The seed of this run: `EBBTIDE_SEED`, which `cargo xtask test` sets, or a new one. Printed, so that a failure can be
/// replayed.
pub fn seed() -> u64 {
    let given = std::env::var("EBBTIDE_SEED").ok().map(|s| s.parse().expect("EBBTIDE_SEED is a number"));
    let seed = given.unwrap_or_else(|| fastrand::u64(..1 << 32));
    eprintln!("random operations: EBBTIDE_SEED={seed}");
    seed
}

/// Random operations below one directory.
#[derive(Debug)]
pub struct Ops {
    workers: Vec<Worker>,
    log: Mutex<Log>,
}

/// What was done.
#[derive(Debug, Default)]
struct Log {
    /// The last [`MOST_LINES`].
    lines: VecDeque<String>,
    done: usize,
    /// Of them those that the tree's state did not allow.
    refused: usize,
}

/// Lines of the log that are kept: about 20 MB.
const MOST_LINES: usize = 200_000;

/// How files are written through mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stores {
    /// Not at all: fanotify alone cannot see it.
    None,
    /// To pages that are clean: where nothing sees the first store to one that a write has dirtied.
    Clean,
    /// To any page.
    Any,
}

impl Ops {
    /// Operations below `root`, by `workers` threads.
    pub fn new(root: &Path, seed: u64, workers: usize) -> Ops {
        let mut random = Rng::with_seed(seed);
        let mut worker =
            || Worker { root: root.into(), random: Rng::with_seed(random.u64(..)), stores: Stores::Any };
        Ops { workers: (0..workers).map(|_| worker()).collect(), log: Mutex::default() }
    }

    /// Leaves out writes through mappings, which fanotify alone cannot see.
    pub fn without_mmap(self) -> Ops {
        self.storing(Stores::None)
    }

    /// Writes through mappings in this way.
    pub fn storing(mut self, stores: Stores) -> Ops {
        self.workers.iter_mut().for_each(|worker| worker.stores = stores);
        self
    }

    /// Does `count` operations with each worker, and returns when all are done.
    pub fn run(&mut self, count: usize) {
        let log = &self.log;
        thread::scope(|scope| {
            for (number, worker) in self.workers.iter_mut().enumerate() {
                scope.spawn(move || {
                    for _ in 0..count {
                        let (line, refused) = worker.one();
                        log.lock().expect("no worker panicked").note(format!("{number}: {line}"), refused);
                    }
                });
            }
        });
    }

    /// What was done, of everything that names `part`; the last thousand lines.
    pub fn log(&self, part: &str) -> String {
        let log = self.log.lock().expect("no worker panicked");
        let about: Vec<&String> = log.lines.iter().filter(|line| line.contains(part)).collect();
        about.iter().skip(about.len().saturating_sub(1000)).fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    }

    /// How many operations were done.
    pub fn count(&self) -> usize {
        self.log.lock().expect("no worker panicked").done
    }

    /// How many of them the tree's state did not allow, so that nothing, or only a part, was changed.
    pub fn refused(&self) -> usize {
        self.log.lock().expect("no worker panicked").refused
    }
}

impl Log {
    fn note(&mut self, line: String, refused: bool) {
        self.done += 1;
        self.refused += usize::from(refused);
        if self.lines.len() == MOST_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

#[derive(Debug)]
struct Worker {
    root: PathBuf,
    random: Rng,
    stores: Stores,
}

impl Worker {
    /// Does one operation, and tells which and whether it was refused.
    fn one(&mut self) -> (String, bool) {
        let total: usize = KINDS.iter().map(|(weight, ..)| weight).sum();
        let kind = self.random.usize(..total);
        let mut passed = 0;
        let (_, label, act) = KINDS
            .iter()
            .find(|(weight, ..)| {
                passed += weight;
                kind < passed
            })
            .expect("the weights were summed a line above");
        let path = self.path();
        let result = act(self, &path);
        let relative = path.strip_prefix(&self.root).expect("made below the root").as_os_str().as_bytes();
        let refused = result.is_err();
        let end = result.unwrap_or_else(|e| format!("failed, {e}"));
        (format!("{label} {} {end}", relative.escape_ascii()), refused)
    }

    /// A name somewhere in the space: up to four directories deep.
    fn path(&mut self) -> PathBuf {
        let mut path = self.root.clone();
        for _ in 0..self.random.usize(..4) {
            path.push(self.directory_name());
        }
        path.push(self.file_name());
        path
    }

    fn directory(&mut self) -> PathBuf {
        let mut path = self.path();
        path.pop();
        path.push(self.directory_name());
        path
    }

    fn directory_name(&mut self) -> PathBuf {
        const NAMES: [&[u8]; 6] = [b"red", b"green", b"blue", b"new\nline", b"in\xffvalid", b"-rf *"];
        PathBuf::from(OsStr::from_bytes(NAMES[self.random.usize(..NAMES.len())]))
    }

    fn file_name(&mut self) -> PathBuf {
        let odd = self.random.u8(..8) == 0;
        let number = self.random.usize(..24);
        if odd {
            PathBuf::from(OsStr::from_bytes(name(number)))
        } else {
            PathBuf::from(format!("file{number}"))
        }
    }

    /// Content of a size that favours small files.
    fn content(&mut self) -> Vec<u8> {
        let most = *self
            .random
            .choice([0, 10, 1_000, 5_000, 70_000, 300_000].iter())
            .expect("the list is not empty");
        let length = self.random.usize(..=most);
        bytes(self.random.u64(..), length)
    }

    fn create(&mut self, path: &Path) -> io::Result<String> {
        if self.random.bool() {
            fs::create_dir_all(path.parent().expect("a name below the root"))?;
        }
        let content = self.content();
        open(path, OpenOptions::new().write(true).create(true).truncate(true))?.write_all_at(&content, 0)?;
        Ok(format!("with {} bytes", content.len()))
    }

    /// Several small writes with the file open in between, as programs do.
    fn append(&mut self, path: &Path) -> io::Result<String> {
        let file = open(path, OpenOptions::new().append(true))?;
        for _ in 0..self.random.u8(1..5) {
            let content = self.content();
            io::Write::write_all(&mut &file, &content)?;
        }
        Ok(String::new())
    }

    fn overwrite(&mut self, path: &Path) -> io::Result<String> {
        let file = open(path, OpenOptions::new().write(true))?;
        let offset = self.random.u64(..=file.metadata()?.len());
        let content = self.content();
        file.write_all_at(&content, offset)?;
        Ok(format!("{} bytes at {offset}", content.len()))
    }

    /// Changes content under an unchanged size and mtime: what rsync's quick check cannot see.
    fn disguise(&mut self, path: &Path) -> io::Result<String> {
        let file = open(path, OpenOptions::new().write(true))?;
        let before = file.metadata()?;
        if before.len() == 0 {
            return Ok("of an empty file".into());
        }
        let offset = self.random.u64(..before.len());
        file.write_all_at(&[self.random.u8(..)], offset)?;
        file.set_modified(before.modified()?)?;
        Ok(format!("at {offset}"))
    }

    fn truncate(&mut self, path: &Path) -> io::Result<String> {
        let length = self.random.u64(..100_000);
        open(path, OpenOptions::new().write(true))?.set_len(length)?;
        Ok(format!("to {length}"))
    }

    fn map(&mut self, path: &Path) -> io::Result<String> {
        if self.stores == Stores::None {
            return Ok("left out".into());
        }
        // A private copy under a name that nobody truncates: a store beyond a file's end would kill this process.
        let mut own = path.as_os_str().to_owned();
        own.push(".mapped");
        if self.stores == Stores::Clean {
            // And that nobody else dirties.
            own.push(format!("{}-{:?}", std::process::id(), thread::current().id()));
        }
        let own = PathBuf::from(own);
        if self.random.bool() || !own.exists() {
            let length = self.random.usize(1..50_000);
            open(&own, OpenOptions::new().write(true).create(true))?.write_all_at(&bytes(1, length), 0)?;
        }
        if self.stores == Stores::Clean {
            open(&own, OpenOptions::new().read(true))?.sync_data()?;
        }
        let mut mapped = Mapped::open(&own)?;
        for _ in 0..self.random.u8(1..4) {
            let (offset, value) = (self.random.usize(..50_000), self.random.u8(..));
            mapped.store(offset, &[value; 7]);
            thread::yield_now();
        }
        Ok(String::new())
    }

    /// To another file's name, to a directory's name, over what is there.
    fn rename(&mut self, path: &Path) -> io::Result<String> {
        let to = self.path();
        fs::rename(path, &to)?;
        Ok(self.to(&to))
    }

    fn rename_directory(&mut self, _: &Path) -> io::Result<String> {
        let (from, to) = (self.directory(), self.directory());
        fs::rename(&from, &to)?;
        Ok(format!("(directory {}) {}", self.relative(&from), self.to(&to)))
    }

    /// Two entries of any kinds change places.
    fn exchange(&mut self, path: &Path) -> io::Result<String> {
        let (from, to) = match self.random.u8(..3) {
            0 => (path.to_owned(), self.path()),
            1 => (path.to_owned(), self.directory()),
            _ => (self.directory(), self.directory()),
        };
        rustix::fs::renameat_with(CWD, &from, CWD, &to, RenameFlags::EXCHANGE)?;
        Ok(format!("({}) {}", self.relative(&from), self.to(&to)))
    }

    fn link(&mut self, path: &Path) -> io::Result<String> {
        let to = self.path();
        fs::hard_link(path, &to)?;
        Ok(self.to(&to))
    }

    fn unlink(&mut self, path: &Path) -> io::Result<String> {
        fs::remove_file(path)?;
        Ok(String::new())
    }

    fn make_directory(&mut self, _: &Path) -> io::Result<String> {
        let path = self.directory();
        fs::create_dir_all(&path)?;
        Ok(format!("(directory {})", self.relative(&path)))
    }

    fn remove_directory(&mut self, _: &Path) -> io::Result<String> {
        let path = self.directory();
        if self.random.bool() {
            fs::remove_dir(&path)?;
        } else {
            fs::remove_dir_all(&path)?;
        }
        Ok(format!("(directory {})", self.relative(&path)))
    }

    fn chmod(&mut self, path: &Path) -> io::Result<String> {
        let mode =
            *self.random.choice([0o000, 0o600, 0o644, 0o755, 0o4755, 0o1777].iter()).expect("not empty");
        let path = if self.random.bool() { path.to_owned() } else { self.directory() };
        if fs::symlink_metadata(&path)?.is_symlink() {
            return Ok("left out: a symlink".into());
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(format!("({}) {mode:o}", self.relative(&path)))
    }

    fn chown(&mut self, path: &Path) -> io::Result<String> {
        let (uid, gid) = (self.random.u32(..5), self.random.u32(..5));
        let path = if self.random.bool() { path.to_owned() } else { self.directory() };
        lchown(&path, Some(uid), Some(gid))?;
        Ok(format!("({}) {uid}:{gid}", self.relative(&path)))
    }

    fn utimes(&mut self, path: &Path) -> io::Result<String> {
        let (seconds, nanoseconds) = (self.random.i64(1..2_000_000_000), self.random.u32(..1_000_000_000));
        let path = if self.random.bool() { path.to_owned() } else { self.directory() };
        fs::symlink_metadata(&path)?;
        let at = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
        let times = rustix::fs::Timestamps { last_access: at, last_modification: at };
        rustix::fs::utimensat(CWD, &path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(format!("({}) {seconds}.{nanoseconds:09}", self.relative(&path)))
    }

    fn symlink(&mut self, path: &Path) -> io::Result<String> {
        let target = self.file_name();
        symlink(&target, path)?;
        Ok(format!("-> {}", target.as_os_str().as_bytes().escape_ascii()))
    }

    fn special(&mut self, path: &Path) -> io::Result<String> {
        let kind = *self
            .random
            .choice([FileType::Fifo, FileType::Socket, FileType::CharacterDevice].iter())
            .expect("the list is not empty");
        let device = rustix::fs::makedev(1, self.random.u32(3..9));
        rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), device)?;
        Ok(format!("{kind:?}"))
    }

    /// Written beside its name and renamed over it, as careful editors do.
    fn replace(&mut self, path: &Path) -> io::Result<String> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let content = self.content();
        let file = open(Path::new(&beside), OpenOptions::new().write(true).create(true).truncate(true))?;
        file.write_all_at(&content, 0)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        Ok(format!("with {} bytes", content.len()))
    }

    /// A whole directory with content, made elsewhere on the file system and moved in; or moved out.
    fn move_across(&mut self, _: &Path) -> io::Result<String> {
        let inside = self.directory();
        let mut outside = self.root.as_os_str().to_owned();
        outside.push(format!(".outside{}", self.random.u8(..3)));
        let outside = PathBuf::from(outside);
        if self.random.bool() {
            fs::rename(&inside, &outside)?;
            return Ok(format!("out ({})", self.relative(&inside)));
        }
        fs::create_dir_all(outside.join("red"))?;
        let content = self.content();
        let file = open(&outside.join("red/file1"), OpenOptions::new().write(true).create(true))?;
        file.write_all_at(&content, 0)?;
        fs::rename(&outside, &inside)?;
        Ok(format!("in ({})", self.relative(&inside)))
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).as_os_str().as_bytes().escape_ascii().to_string()
    }

    fn to(&self, path: &Path) -> String {
        format!("to {}", self.relative(path))
    }
}

type Act = fn(&mut Worker, &Path) -> io::Result<String>;

/// How often each operation comes, its name, and itself.
const KINDS: [(usize, &str, Act); 20] = [
    (20, "create", Worker::create),
    (10, "append", Worker::append),
    (10, "overwrite", Worker::overwrite),
    (6, "disguise", Worker::disguise),
    (4, "truncate", Worker::truncate),
    (6, "map", Worker::map),
    (8, "rename", Worker::rename),
    (5, "rename-directory", Worker::rename_directory),
    (4, "exchange", Worker::exchange),
    (6, "link", Worker::link),
    (8, "unlink", Worker::unlink),
    (8, "mkdir", Worker::make_directory),
    (2, "rmdir", Worker::remove_directory),
    (5, "chmod", Worker::chmod),
    (4, "chown", Worker::chown),
    (4, "utimes", Worker::utimes),
    (4, "symlink", Worker::symlink),
    (2, "mknod", Worker::special),
    (6, "replace", Worker::replace),
    (2, "move-across", Worker::move_across),
];

/// Opens a regular file and nothing else: never through a symlink, never waiting for a FIFO's other end.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = options.custom_flags(flags).open(path)?;
    if file.metadata()?.mode() & 0o170_000 != 0o100_000 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Referee, Scratch};

    #[test]
    fn one_seed_makes_one_tree() {
        let scratch = Scratch::new("ops");
        let trees: Vec<PathBuf> = (0..2)
            .map(|number| {
                let root = scratch.dir(&format!("tree{number}/root"));
                let mut ops = Ops::new(&root, 7, 1);
                ops.run(2_000);
                assert_eq!(ops.count(), 2_000);
                root
            })
            .collect();
        Referee::with("-nrlpogDHc")
            .compare(&trees[0], &trees[1])
            .is_equal()
            .then_some(())
            .expect("equal trees");
        assert!(fs::read_dir(&trees[0]).unwrap().count() > 10, "most operations fail");
    }

    #[test]
    fn every_kind_of_operation_succeeds_at_times() {
        let scratch = Scratch::new("ops");
        let root = scratch.dir("root");
        let mut ops = Ops::new(&root, 11, 2);
        ops.run(4_000);
        let log = ops.log.lock().unwrap();
        for (_, label, _) in KINDS {
            let done = |line: &&String| line.contains(&format!(": {label} ")) && !line.contains("failed");
            assert!(log.lines.iter().any(|line| done(&line)), "{label} never succeeded");
        }
    }
}
