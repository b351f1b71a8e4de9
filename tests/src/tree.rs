//! Trees by builder: every kind of entry, every odd name.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

use crate::kib;

/// Builds below one directory. Names are bytes, relative to it, with `/` between components; the empty name is the
/// directory itself. Each call panics where it fails: a tree that cannot be built is the test's fault.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Builds below `root`, which is made if it is missing.
    pub fn at(root: &Path) -> Tree {
        fs::create_dir_all(root).expect("the tree's root can be made");
        Tree { root: root.to_owned() }
    }

    /// One of everything that a file system can hold: the tree that a mirror must get right.
    pub fn rich(root: &Path) -> Tree {
        let tree = Tree::at(root);
        tree.sizes().odd_names().kinds().attributes().deep("deep", 40)
    }

    /// The path of an entry.
    pub fn path(&self, name: impl AsRef<[u8]>) -> PathBuf {
        match name.as_ref() {
            b"" => self.root.clone(),
            name => self.root.join(OsStr::from_bytes(name)),
        }
    }

    /// A directory, with its parents.
    pub fn dir(self, name: impl AsRef<[u8]>) -> Tree {
        fs::create_dir_all(self.path(name)).expect("a directory can be made");
        self
    }

    /// A regular file; what stood there is replaced in place.
    pub fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Tree {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file has a parent")).expect("a directory can be made");
        fs::write(path, content).expect("a file can be written");
        self
    }

    /// A file of `size` bytes with a hole in all of it but its last byte.
    pub fn sparse(self, name: impl AsRef<[u8]>, size: u64) -> Tree {
        let file = File::create(self.path(name)).expect("a file can be made");
        file.write_all_at(b"!", size - 1).expect("a sparse file takes no room");
        self
    }

    /// A symlink; the target need not exist.
    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Tree {
        symlink(OsStr::from_bytes(target.as_ref()), self.path(name)).expect("a symlink can be made");
        self
    }

    /// Another name of an entry.
    pub fn link(self, name: impl AsRef<[u8]>, existing: impl AsRef<[u8]>) -> Tree {
        fs::hard_link(self.path(existing), self.path(name)).expect("a link can be made");
        self
    }

    /// A FIFO.
    pub fn fifo(self, name: impl AsRef<[u8]>) -> Tree {
        self.node(name, FileType::Fifo, 0, 0)
    }

    /// A socket, by its name in the file system; nobody listens. Longer paths than a socket address holds (107 bytes)
    /// work, since it is made by `mknod`.
    pub fn socket(self, name: impl AsRef<[u8]>) -> Tree {
        self.node(name, FileType::Socket, 0, 0)
    }

    /// A socket that somebody listened on, through a short address.
    pub fn bound_socket(self, name: &str) -> Tree {
        let dir = File::open(&self.root).expect("the root can be opened");
        let address = format!("/proc/self/fd/{}/{name}", std::os::fd::AsRawFd::as_raw_fd(&dir));
        UnixListener::bind(address).expect("a socket can be bound");
        self
    }

    /// A character device.
    pub fn device(self, name: impl AsRef<[u8]>, major: u32, minor: u32) -> Tree {
        self.node(name, FileType::CharacterDevice, major, minor)
    }

    /// A block device.
    pub fn block_device(self, name: impl AsRef<[u8]>, major: u32, minor: u32) -> Tree {
        self.node(name, FileType::BlockDevice, major, minor)
    }

    fn node(self, name: impl AsRef<[u8]>, kind: FileType, major: u32, minor: u32) -> Tree {
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(0o640);
        rustix::fs::mknodat(CWD, self.path(name), kind, mode, device).expect("root can make a node");
        self
    }

    /// Permission bits, such as `0o4755`.
    pub fn mode(self, name: impl AsRef<[u8]>, mode: u32) -> Tree {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).expect("a mode can be set");
        self
    }

    /// Owner and group, of a symlink itself too.
    pub fn owner(self, name: impl AsRef<[u8]>, uid: u32, gid: u32) -> Tree {
        lchown(self.path(name), Some(uid), Some(gid)).expect("root can give a file away");
        self
    }

    /// The mtime, in seconds (before 1970 too) and nanoseconds; of a symlink itself too.
    pub fn mtime(self, name: impl AsRef<[u8]>, seconds: i64, nanoseconds: u32) -> Tree {
        set_mtime(&self.path(name), seconds, nanoseconds);
        self
    }

    /// Makes every entry an hour older, the deepest first. A daemon compares whole seconds, so an entry that it made
    /// in the second of its source keeps its own nanoseconds.
    pub fn aged(self) -> Tree {
        age(&self.root);
        self
    }

    /// Gives every entry the mtime that it has in `other`, a tree with the same names: two trees built one after the other
    /// may have been built in two different seconds.
    pub fn timed_as(self, other: &Path) -> Tree {
        time_as(&self.root, other);
        self
    }

    /// Removes an entry, directories whole.
    pub fn remove(self, name: impl AsRef<[u8]>) -> Tree {
        let path = self.path(name);
        let kind = fs::symlink_metadata(&path).expect("what is removed exists").file_type();
        let removed = if kind.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.expect("an entry can be removed");
        self
    }

    /// Files at the sizes where something changes: block lengths, literal limits, frames.
    pub fn sizes(self) -> Tree {
        let sizes = [
            0, 1, 2, 699, 700, 701, 4095, 4096, 32767, 32768, 32769, 65535, 65536, 65537, 300_000, 1_200_003,
        ];
        sizes.iter().fold(self, |tree, &size| tree.file(format!("sizes/{size}"), bytes(size as u64, size)))
    }

    /// Names that break scripts, in a directory, as a directory and as a link's target.
    pub fn odd_names(self) -> Tree {
        ODD_NAMES.iter().fold(self, |tree, odd| {
            let below = |prefix: &[u8]| [prefix, odd].concat();
            tree.file(below(b"odd/"), odd)
                .file([&below(b"odd-dirs/"), &b"/inside"[..]].concat(), odd)
                .dir("odd-links")
                .symlink(below(b"odd-links/"), odd)
        })
    }

    /// Every kind of entry.
    pub fn kinds(self) -> Tree {
        self.dir("kinds/empty")
            .symlink("kinds/dangling", "nowhere/at all")
            .symlink("kinds/absolute", "/etc/passwd")
            .symlink("kinds/upwards", "../../../../etc")
            .symlink("kinds/long", [b'x'; 1000])
            .fifo("kinds/fifo")
            .socket("kinds/socket")
            .device("kinds/null", 1, 3)
            // The largest numbers that XFS keeps.
            .device("kinds/large numbers", 511, 262_143)
            .block_device("kinds/disk", 7, 200)
            .file("kinds/one of three", b"linked")
            .link("kinds/two of three", "kinds/one of three")
            .link("kinds/empty/three of three", "kinds/one of three")
            .fifo("kinds/linked fifo")
            .link("kinds/linked fifo again", "kinds/linked fifo")
            .sparse("kinds/sparse", 3 << 20)
    }

    /// Modes, owners and times at their ends.
    pub fn attributes(self) -> Tree {
        let modes = [0o000, 0o400, 0o644, 0o755, 0o1777, 0o2750, 0o4755, 0o6711, 0o7777];
        let tree = modes.iter().fold(self.dir("modes"), |tree, &mode| {
            let (file, dir) = (format!("modes/f{mode:04o}"), format!("modes/d{mode:04o}"));
            tree.file(&file, &file).mode(&file, mode).dir(&dir).mode(&dir, mode)
        });
        tree.file("owners/known", b"a")
            .owner("owners/known", 1, 2)
            .file("owners/unknown", b"b")
            .owner("owners/unknown", 54_321, 2_000_000_000)
            .symlink("owners/link", "known")
            .owner("owners/link", 3, 4)
            .file("times/old", b"c")
            .mtime("times/old", -86_400 * 365, 0)
            .file("times/epoch", b"d")
            .mtime("times/epoch", 0, 1)
            .file("times/new", b"e")
            .mtime("times/new", 4_102_444_800, 999_999_999)
            .symlink("times/link", "old")
            .mtime("times/link", 1_000_000_000, 123_456_789)
            .dir("times/dir")
            .mtime("times/dir", 1_234_567_890, 1)
    }

    /// A chain of directories with a file at each level.
    pub fn deep(self, name: &str, levels: usize) -> Tree {
        let mut path = name.to_owned();
        (0..levels).fold(self, |tree, level| {
            path.push_str("/and deeper");
            tree.file(format!("{path}/at {level}"), level.to_string())
        })
    }
}

/// Names that have broken programs.
const ODD_NAMES: [&[u8]; 16] = [
    b" leading and trailing space ",
    b"new\nline",
    b"\n",
    b"carriage\rreturn and \t tab",
    b"-rf",
    b"--delete",
    b"*",
    b"what?[ab]",
    b"back\\slash\\",
    b"\\012",
    b"invalid \xff\xfe utf-8 \x80",
    "ünïcödé 日本 🌊".as_bytes(),
    b"quote ' and \" and $(reboot) and `id`",
    b"...",
    b"\x01\x1b[31mred",
    &[b'n'; 255],
];

/// One of the odd names, by number.
pub fn name(number: usize) -> &'static [u8] {
    ODD_NAMES[number % ODD_NAMES.len()]
}

/// `length` bytes that depend on `seed` only. Half of every 4 KiB repeats, so compression has something to do.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut content = vec![b'-'; length];
    for chunk in content.chunks_mut(kib(4)) {
        let half = chunk.len().div_ceil(2);
        random.fill(&mut chunk[..half]);
    }
    content
}

fn age(path: &Path) {
    let found = fs::symlink_metadata(path).expect("nobody else changes the tree");
    if found.is_dir() {
        for entry in fs::read_dir(path).expect("root can read it").flatten() {
            age(&entry.path());
        }
    }
    let nanoseconds = u32::try_from(found.mtime_nsec()).expect("below a thousand million");
    set_mtime(path, found.mtime() - 3_600, nanoseconds);
}

fn time_as(path: &Path, other: &Path) {
    let Ok(found) = fs::symlink_metadata(other) else { return };
    if found.is_dir() {
        for entry in fs::read_dir(path).expect("root can read it").flatten() {
            time_as(&entry.path(), &other.join(entry.file_name()));
        }
    }
    let nanoseconds = u32::try_from(found.mtime_nsec()).expect("below a thousand million");
    set_mtime(path, found.mtime(), nanoseconds);
}

fn set_mtime(path: &Path, seconds: i64, nanoseconds: u32) {
    let at = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
    let times = Timestamps { last_access: at, last_modification: at };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("times can be set");
}
