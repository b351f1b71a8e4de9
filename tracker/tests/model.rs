//! Random changes, and one property: facts suffice.
//!
//! A copy of the tree is kept in memory and brought up to date by looking at nothing but what the facts name. In the end
//! it must equal the source. `EBBTIDE_SEED` and `EBBTIDE_OPS` replay or lengthen a run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails where it is")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::{Mounted, Told, Watch, at};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    kind: Kind,
    mode: u32,
    owner: u32,
    /// Not kept of what is neither file nor directory.
    mtime: (i64, i64),
    ino: Ino,
}

/// Which inode a name led to when it was looked at; no two differ for that.
#[derive(Clone, Copy, Debug)]
struct Ino(u64);

impl PartialEq for Ino {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Ino {}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    File(Vec<u8>),
    Link(Vec<u8>),
    Other,
}

/// What a destination would have.
#[derive(Default)]
struct Copy(BTreeMap<Vec<u8>, Node>);

impl Copy {
    fn apply(&mut self, src: &Path, told: &Told) {
        let path = &told.path;
        self.touch_left(src, path);
        match told.word.as_str() {
            "data" => self.touch(src, path, true),
            "attrs" => self.touch(src, path, false),
            "gone" => match look(src, path) {
                None => self.remove(path),
                // It is back, and may be another one.
                Some(_) => self.replace(src, path),
            },
            "replaced" => self.replace(src, path),
            "subtree" => self.sync(src, path, true),
            "relist" => self.sync(src, path, false),
            _ => {}
        }
    }

    fn touch(&mut self, src: &Path, path: &[u8], data: bool) {
        let Some(now) = look(src, path) else { return };
        let was_directory = self.0.get(path).is_some_and(|node| node.kind == Kind::Directory);
        if was_directory && now.kind != Kind::Directory {
            self.remove(path);
        }
        // A file's other names are the same file; the sender knows them.
        for name in other_names(src, path) {
            self.set(name, &now, data);
        }
        self.set(path.to_vec(), &now, data);
    }

    /// What changed about an inode may be told by a name that does not lead to it any more; the sender knows the others.
    fn touch_left(&mut self, src: &Path, path: &[u8]) {
        let Some(before) = self.0.get(path).filter(|node| node.kind != Kind::Directory) else { return };
        let ino = before.ino.0;
        if look(src, path).is_some_and(|now| now.ino.0 == ino) {
            return;
        }
        let linked = |(name, node): &(&Vec<u8>, &Node)| *name != path && node.ino.0 == ino;
        let names: Vec<Vec<u8>> = self.0.iter().filter(linked).map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(now) = look(src, &name).filter(|now| now.ino.0 == ino) {
                self.set(name, &now, true);
            }
        }
    }

    /// As rsync's quick check: without evidence about the content, equal size and time mean equal content.
    fn set(&mut self, path: Vec<u8>, now: &Node, data: bool) {
        let before = self.0.get(&path).filter(|before| !data && looks_same(before, now));
        let kind = before.map_or_else(|| now.kind.clone(), |before| before.kind.clone());
        self.0.insert(path, Node { kind, ..now.clone() });
    }

    fn remove(&mut self, path: &[u8]) {
        self.0.retain(|name, _| !is_within(name, path));
    }

    fn replace(&mut self, src: &Path, path: &[u8]) {
        self.remove(path);
        self.sync(src, path, true);
    }

    fn sync(&mut self, src: &Path, path: &[u8], deep: bool) {
        let Some(now) = look(src, path) else { return self.remove(path) };
        self.set(path.to_vec(), &now, false);
        if now.kind != Kind::Directory {
            return;
        }
        let names = entries(src, path);
        let kept = |name: &[u8]| names.iter().any(|kept| is_within(name, kept));
        self.0.retain(|name, _| name == path || !is_within(name, path) || kept(name));
        for name in &names {
            match look(src, name) {
                Some(node) if node.kind == Kind::Directory && deep => self.sync(src, name, true),
                Some(_) => self.touch(src, name, false),
                None => {}
            }
        }
    }
}

fn looks_same(a: &Node, b: &Node) -> bool {
    let size = |node: &Node| match &node.kind {
        Kind::File(data) => Some(data.len()),
        _ => None,
    };
    size(a).is_some() && size(a) == size(b) && a.mtime == b.mtime
}

fn is_within(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn look(src: &Path, path: &[u8]) -> Option<Node> {
    let full = at(src, path);
    let meta = fs::symlink_metadata(&full).ok()?;
    let kind = if meta.is_dir() {
        Kind::Directory
    } else if meta.is_file() {
        Kind::File(fs::read(&full).ok()?)
    } else if meta.file_type().is_symlink() {
        Kind::Link(fs::read_link(&full).ok()?.as_os_str().as_bytes().to_vec())
    } else {
        assert!(meta.file_type().is_fifo());
        Kind::Other
    };
    let mtime = if meta.is_dir() || meta.is_file() { (meta.mtime(), meta.mtime_nsec()) } else { (0, 0) };
    Some(Node { kind, mode: meta.mode(), owner: meta.uid(), mtime, ino: Ino(meta.ino()) })
}

fn other_names(src: &Path, path: &[u8]) -> Vec<Vec<u8>> {
    let Ok(meta) = fs::symlink_metadata(at(src, path)) else { return Vec::new() };
    if meta.is_dir() || meta.nlink() < 2 {
        return Vec::new();
    }
    let same =
        |name: &Vec<u8>| fs::symlink_metadata(at(src, name)).is_ok_and(|other| other.ino() == meta.ino());
    all(src).into_iter().filter(same).collect()
}

fn entries(src: &Path, dir: &[u8]) -> Vec<Vec<u8>> {
    let Ok(list) = fs::read_dir(at(src, dir)) else { return Vec::new() };
    let prefix = if dir.is_empty() { Vec::new() } else { [dir, b"/"].concat() };
    list.map(|entry| [&prefix[..], entry.unwrap().file_name().as_bytes()].concat()).collect()
}

fn entries_of(dir: &Path) -> Vec<std::ffi::OsString> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

/// Every path below `src`, itself included.
fn all(src: &Path) -> Vec<Vec<u8>> {
    let mut found = vec![Vec::new()];
    let mut next = 0;
    while next < found.len() {
        let path = found[next].clone();
        next += 1;
        if fs::symlink_metadata(at(src, &path)).is_ok_and(|meta| meta.is_dir()) {
            found.extend(entries(src, &path));
        }
    }
    found
}

/// Numbers that a seed determines (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }

    fn pick<'a>(&mut self, of: &'a [impl AsRef<[u8]>]) -> &'a [u8] {
        of[self.below(of.len())].as_ref()
    }
}

struct World {
    src: PathBuf,
    out: PathBuf,
    dice: Dice,
    /// What was done and told, for when it goes wrong.
    story: Vec<String>,
}

impl World {
    /// One random change. Most fail now and then, since names are picked blindly.
    fn change(&mut self) {
        let all = all(&self.src);
        // Trees that grow for ever make slow tests.
        if all.len() > 150 {
            remove(&self.src.join(entries_of(&self.src).pop().expect("so many are there")));
        }
        let (a, b) = (self.any(), self.any());
        let bytes = vec![b'a' + u8::try_from(self.dice.below(26)).unwrap(); self.dice.below(20_000)];
        let kind = self.dice.below(20);
        let bytes_are = format!("{} bytes {:?}", bytes.len(), bytes.first());
        self.story.push(format!("op {kind} {bytes_are} a={} b={}", self.said(&a), self.said(&b)));
        match kind {
            0..4 => drop(
                open(&self.fresh(), true).and_then(|mut file| std::io::Write::write_all(&mut file, &bytes)),
            ),
            4 => drop(fs::create_dir(self.fresh())),
            5 => drop(fs::create_dir_all(self.fresh().join("x/y"))),
            6 => drop(symlink("nowhere", self.fresh())),
            7 => drop(rustix::fs::mknodat(
                rustix::fs::CWD,
                self.fresh(),
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RUSR,
                0,
            )),
            8 | 9 => rewrite(&a, &bytes, self.dice.below(3) == 0, false),
            10 => drop(open(&a, false).and_then(|f| f.set_len(self.dice.below(9000) as u64))),
            11 => drop(fs::rename(&a, &b)),
            12 => drop(fs::rename(&a, self.fresh())),
            13 => drop(rustix::fs::renameat_with(
                rustix::fs::CWD,
                &a,
                rustix::fs::CWD,
                &b,
                rustix::fs::RenameFlags::EXCHANGE,
            )),
            14 if std::env::var_os("NOLINK").is_none() => drop(fs::hard_link(&a, self.fresh())),
            15 if a != self.src => remove(&a),
            16 if a != self.src => {
                let mode = 0o600 + u32::try_from(self.dice.below(0o100)).unwrap();
                drop(fs::symlink_metadata(&a).map(|m| {
                    !m.is_symlink()
                        && fs::set_permissions(&a, fs::Permissions::from_mode(mode | 0o100)).is_ok()
                }));
            }
            17 => drop(std::os::unix::fs::lchown(&a, Some(self.dice.below(3) as u32), None)),
            18 => self.leave(&a),
            _ => self.come(),
        }
    }

    /// A path below the source with its inode and number of names.
    fn said(&self, path: &Path) -> String {
        let below =
            path.strip_prefix(&self.src).unwrap_or(path).as_os_str().as_bytes().escape_ascii().to_string();
        let inode = fs::symlink_metadata(path).map(|meta| format!(" [{} x{}]", meta.ino(), meta.nlink()));
        below.replace(&"n".repeat(255), "N") + &inode.unwrap_or_default()
    }

    fn learn(&mut self, copy: &mut Copy, watch: &mut Watch) {
        for told in watch.told.drain(..) {
            let path = self.said(&at(&self.src, &told.path));
            self.story.push(format!("told {} {path}", told.word));
            copy.apply(&self.src, &told);
        }
    }

    fn compare(&self, copy: &Copy, seed: u64) {
        let src = &self.src;
        let real: BTreeMap<_, _> =
            all(src).into_iter().map(|path| (path.clone(), look(src, &path).unwrap())).collect();
        let names: std::collections::BTreeSet<_> = real.keys().chain(copy.0.keys()).collect();
        for name in names {
            let (real, copy) = (real.get(name), copy.0.get(name));
            if real != copy {
                self.story.iter().rev().take(STORY).rev().for_each(|line| eprintln!("{line}"));
                panic!(
                    "EBBTIDE_SEED={seed}: {}: source {} copy {}",
                    self.said(&at(src, name)),
                    say(real),
                    say(copy)
                );
            }
        }
    }

    fn any(&mut self) -> PathBuf {
        let all = all(&self.src);
        at(&self.src, self.dice.pick(&all[..]))
    }

    /// A name in some directory, new or not.
    fn fresh(&mut self) -> PathBuf {
        let dirs: Vec<_> = all(&self.src).into_iter().filter(|p| at(&self.src, p).is_dir()).collect();
        let names = [&b"a"[..], b"b", b"c", b"d", b"e\nf", b"\xff\xfe", &[b'n'; 255], b"g (deleted)"];
        let dir = at(&self.src, self.dice.pick(&dirs[..]));
        let fresh = at(&dir, self.dice.pick(&names[..]));
        let fresh = if fresh.components().count() > 15 { self.src.join("a") } else { fresh };
        self.story.push(format!("  name {}", self.said(&fresh)));
        fresh
    }

    fn leave(&mut self, path: &Path) {
        let number = self.dice.below(4);
        if path != self.src {
            drop(fs::rename(path, self.out.join(number.to_string())));
        }
    }

    fn come(&mut self) {
        let from = self.out.join(self.dice.below(4).to_string());
        // What changes while it is outside is part of what comes in.
        if let Ok(list) = fs::read_dir(&from) {
            list.flatten().for_each(|entry| rewrite(&entry.path(), b"changed outside", false, true));
        }
        drop(fs::rename(from, self.fresh()));
    }
}

/// Opens for writing, never waiting at a FIFO.
fn open(path: &Path, create: bool) -> std::io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    fs::File::options().write(true).create(create).truncate(create).custom_flags(flags).open(path)
}

/// Writes in place; with `disguise` size and time are afterwards as before.
fn rewrite(path: &Path, bytes: &[u8], disguise: bool, outside: bool) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    if !meta.is_file() {
        return;
    }
    // A file outside may be one inside as well, and nobody could tell.
    if outside && meta.nlink() > 1 {
        return;
    }
    let length = if disguise { meta.size().min(bytes.len() as u64) as usize } else { bytes.len() };
    let Ok(file) = open(path, false) else { return };
    let _ = std::os::unix::fs::FileExt::write_all_at(&file, &bytes[..length], 0);
    if disguise {
        let mtime = SystemTime::UNIX_EPOCH
            + Duration::new(meta.mtime().unsigned_abs(), u32::try_from(meta.mtime_nsec()).unwrap());
        file.set_modified(mtime).unwrap();
    }
}

fn remove(path: &Path) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    let _ = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

fn from_env(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn facts_suffice(fs_type: &str, probes: &str) {
    let Some(mounted) = Mounted::new(fs_type) else { return };
    let (src, out) = (mounted.dir("src"), mounted.dir("out"));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = from_env("EBBTIDE_SEED", u64::from(now.subsec_nanos()) | 1);
    eprintln!("{fs_type} with {probes}: EBBTIDE_SEED={seed}");
    let mut watch = Watch::start(&src, probes);
    let mut copy = Copy::default();
    copy.sync(&src, b"", true);
    let mut world = World { src: src.clone(), out, dice: Dice(seed), story: Vec::new() };
    for op in 0..from_env("EBBTIDE_OPS", 600) {
        world.change();
        if !src.exists() {
            panic!("the source itself was never to be touched");
        }
        // Look in the middle of things, at any time.
        if world.dice.below(8) == 0 {
            watch.poll();
            world.learn(&mut copy, &mut watch);
        }
        if op % 100 == 99 {
            settle(&src, &mut watch, op);
            world.learn(&mut copy, &mut watch);
            world.compare(&copy, seed);
        }
    }
}

/// Waits until everything that was changed is told: a later change is told, and others that
/// follow in other drains (what is told in one drain has no order).
fn settle(src: &Path, watch: &mut Watch, op: u64) {
    for half in ["first", "second", "third"] {
        let name = format!("sentinel {half} {op}");
        fs::write(src.join(&name), b"").unwrap();
        watch.expect("data", name.as_bytes());
    }
}

/// Lines of a story that are printed when it goes wrong.
const STORY: usize = 1500;

fn say(node: Option<&Node>) -> String {
    let Some(node) = node else { return "nothing".into() };
    let kind = match &node.kind {
        Kind::Directory => "directory".to_owned(),
        Kind::File(data) => format!("file of {} bytes {:?}", data.len(), data.first()),
        Kind::Link(to) => format!("link to {}", to.escape_ascii()),
        Kind::Other => "special".to_owned(),
    };
    format!("{kind} mode {:o} owner {} mtime {:?}", node.mode, node.owner, node.mtime)
}

#[test]
fn facts_suffice_on_ext4_with_all_that_the_kernel_permits() {
    facts_suffice("ext4", "auto");
}

#[test]
fn facts_suffice_on_ext4_with_fanotify_alone() {
    facts_suffice("ext4", "fanotify");
}

#[test]
fn facts_suffice_on_xfs() {
    facts_suffice("xfs", "auto");
}

#[test]
fn facts_suffice_on_btrfs() {
    facts_suffice("btrfs", "auto");
}

#[test]
fn facts_suffice_on_tmpfs() {
    facts_suffice("tmpfs", "fanotify");
}
