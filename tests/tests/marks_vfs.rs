//! The eBPF program on `fsnotify()`, on every file system: each kind of change marks its inode, or the directory whose
//! entries changed. It needs a kernel with kprobes or fentry.
#![expect(clippy::unwrap_used, reason = "a test ends where its world does not obey")]

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ebbtide::id::{HandleForm, Ino};
use ebbtide::probe::bpf::{Bpf, Dev, Hooks, Options, Slot};
use ebbtide::probe::{Arming, Asked, Names};
use ebbtide::sys::with_causes;
use ebbtide_tests::{FileSystem, Kind, Mapped, Skip, kib, needs};
use rustix::fs::{AtFlags, CWD, FallocateFlags, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags};

/// A file system of its own, and the programs on functions alone.
struct World {
    // Before the file system: programs and listener go first.
    bpf: Bpf,
    slot: Slot,
    _names: Names,
    fs: FileSystem,
}

impl World {
    fn new(kind: Kind) -> Result<World, Skip> {
        let fs = FileSystem::new(kind)?;
        let loaded = Bpf::load(&Options { hooks: Hooks::Functions, ..Options::default() });
        let mut bpf = loaded.map_err(|e| Skip(with_causes(&e)))?;
        if !bpf.coverage(kind.name()).told {
            return Err(Skip(format!("no program sees fsnotify() here: {}", bpf.refusals())));
        }
        let slot = bpf.enable_as(device(fs.root()), kind.name()).unwrap();
        let root = File::open(fs.root()).unwrap();
        // Names alone, as the tracker asks; newer kernels want interest in the rest to be shown.
        let names = Names::listen(root.as_fd(), HandleForm::Opaque, Asked::Names, Arming::Ignored).unwrap();
        Ok(World { bpf, slot, _names: names, fs })
    }

    /// Inode numbers that are marked, and those whose bytes may have changed, as `stat` shows them.
    fn drain(&mut self) -> [BTreeSet<u64>; 2] {
        let btrfs = self.fs.kind() == Kind::Btrfs;
        self.bpf.flip().unwrap();
        let marks = self.bpf.old_side().unwrap().remove(&self.slot).unwrap_or_default();
        self.bpf.clear_old().unwrap();
        self.bpf.read_ring(|_| {});
        let shown = |number: u64| if btrfs { HandleForm::Btrfs.shown(Ino(number)).0 } else { number };
        [marks.changed, marks.data].map(|marks| marks.into_iter().map(shown).collect())
    }
}

/// As the mount table has it: on btrfs it is not `st_dev`.
fn device(root: &Path) -> Dev {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.split(' ').nth(4) == root.to_str()).unwrap();
    let (major, minor) = line.split(' ').nth(2).unwrap().split_once(':').unwrap();
    Dev { major: major.parse().unwrap(), minor: minor.parse().unwrap() }
}

fn ino(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

/// What must be marked after a change, by name below the source; a `!` before a name: as changed bytes.
type Change = (&'static str, &'static [&'static str], fn(&Path));

fn open(path: PathBuf) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn direct(path: PathBuf) -> Option<File> {
    let flags = OFlags::DIRECT.bits().cast_signed();
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok()
}

fn punch(src: &Path, flags: FallocateFlags) {
    // Not on every file system; then it is written instead, and nothing is proven.
    if rustix::fs::fallocate(open(src.join("f")), flags, 4096, 4096).is_err() {
        open(src.join("f")).write_all_at(b"instead", 0).unwrap();
    }
}

const THEN: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 1_000_000_000, tv_nsec: 5 },
    last_modification: Timespec { tv_sec: 1_000_000_000, tv_nsec: 5 },
};

const CHANGES: &[Change] = &[
    ("write", &["!f"], |src| fs::write(src.join("f"), [2; 16384]).unwrap()),
    ("rewrite", &["!f"], |src| open(src.join("f")).write_all_at(b"x", 5).unwrap()),
    ("rewrite of the same", &["!f"], |src| open(src.join("f")).write_all_at(b"x", 5).unwrap()),
    ("direct write", &["!f"], |src| {
        let mut page = memmap2::MmapMut::map_anon(4096).unwrap();
        page.fill(3);
        direct(src.join("f")).unwrap_or_else(|| open(src.join("f"))).write_all_at(&page, 4096).unwrap();
    }),
    ("store through a mapping", &[], |src| {
        Mapped::open(&src.join("f")).unwrap().store(8192, b"mapped");
    }),
    ("sendfile", &["!f"], |src| {
        rustix::fs::sendfile(open(src.join("f")), File::open(src.join("large")).unwrap(), None, 8192)
            .map(drop)
            .unwrap();
    }),
    ("splice", &["!f"], |src| {
        let (from, to) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&to, &[7; 4096]).unwrap();
        let flags = rustix::pipe::SpliceFlags::empty();
        rustix::pipe::splice(&from, None, open(src.join("f")), Some(&mut 0), 4096, flags).map(drop).unwrap();
    }),
    ("copy_file_range", &["!f"], |src| {
        let from = File::open(src.join("large")).unwrap();
        rustix::fs::copy_file_range(from, Some(&mut 0), open(src.join("f")), Some(&mut 100), 50)
            .map(drop)
            .unwrap();
    }),
    ("reflink", &["!f"], |src| {
        let from = File::open(src.join("large")).unwrap();
        if rustix::fs::ioctl_ficlone(open(src.join("f")), from).is_err() {
            open(src.join("f")).write_all_at(b"instead", 0).unwrap();
        }
    }),
    ("fallocate", &["f"], |src| punch(src, FallocateFlags::empty())),
    ("punch a hole", &["!f"], |src| punch(src, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE)),
    ("collapse", &["!f"], |src| punch(src, FallocateFlags::COLLAPSE_RANGE)),
    ("truncate", &["!f"], |src| open(src.join("f")).set_len(9000).unwrap()),
    ("O_TRUNC", &["!f"], |src| drop(File::create(src.join("f")).unwrap())),
    ("chmod", &["f"], |src| fs::set_permissions(src.join("f"), fs::Permissions::from_mode(0o640)).unwrap()),
    ("chown", &["f"], |src| std::os::unix::fs::chown(src.join("f"), Some(7), Some(8)).unwrap()),
    ("utimes", &["f"], |src| rustix::fs::utimensat(CWD, src.join("f"), &THEN, AtFlags::empty()).unwrap()),
    ("setxattr", &["f"], |src| {
        rustix::fs::setxattr(src.join("f"), "trusted.x", b"y", XattrFlags::empty()).unwrap();
    }),
    ("removexattr", &["f"], |src| rustix::fs::removexattr(src.join("f"), "trusted.x").unwrap()),
    ("chmod of a directory", &["d"], |src| {
        fs::set_permissions(src.join("d"), fs::Permissions::from_mode(0o750)).unwrap();
    }),
    ("create", &["d"], |src| drop(File::create(src.join("d/new")).unwrap())),
    ("mkdir", &["d"], |src| fs::create_dir(src.join("d/sub")).unwrap()),
    ("mknod", &["d"], |src| {
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(CWD, src.join("d/pipe"), kind, mode, 0).unwrap();
    }),
    ("symlink", &["d"], |src| symlink("new", src.join("d/symlink")).unwrap()),
    ("chown of a symlink", &["d/symlink"], |src| {
        std::os::unix::fs::lchown(src.join("d/symlink"), Some(3), None).unwrap();
    }),
    ("link", &["d", "f"], |src| fs::hard_link(src.join("f"), src.join("d/link")).unwrap()),
    ("a file without a name that gets one", &["d"], |src| {
        let made =
            rustix::fs::openat(CWD, src.join("d"), OFlags::TMPFILE | OFlags::RDWR, 0o644.into()).unwrap();
        rustix::io::write(&made, b"was nameless").unwrap();
        let it = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&made));
        rustix::fs::linkat(CWD, it, CWD, src.join("d/named"), AtFlags::SYMLINK_FOLLOW).unwrap();
    }),
    ("rename within", &["d"], |src| fs::rename(src.join("d/new"), src.join("d/newer")).unwrap()),
    ("rename across", &["d", "e"], |src| fs::rename(src.join("d/newer"), src.join("e/newer")).unwrap()),
    ("rename over", &["d", "e"], |src| fs::rename(src.join("e/newer"), src.join("d/link")).unwrap()),
    ("rename of a directory", &["d", "e", "e/sub"], |src| {
        fs::rename(src.join("d/sub"), src.join("e/sub")).unwrap();
    }),
    ("exchange", &["d", "e"], |src| {
        rustix::fs::renameat_with(CWD, src.join("d/named"), CWD, src.join("e/sub"), RenameFlags::EXCHANGE)
            .unwrap();
    }),
    ("moved in", &["e"], |src| fs::rename(src.with_file_name("outside"), src.join("e/in")).unwrap()),
    ("moved out", &["e"], |src| fs::rename(src.join("e/in"), src.with_file_name("out")).unwrap()),
    ("unlink", &["d"], |src| fs::remove_file(src.join("d/pipe")).unwrap()),
    ("rmdir", &["d"], |src| fs::remove_dir(src.join("d/named")).unwrap()),
    ("unlink of one of two names", &["e", "e/stays"], |src| {
        fs::hard_link(src.join("e/sub"), src.join("e/stays")).unwrap();
        fs::remove_file(src.join("e/sub")).unwrap();
    }),
];

fn every_kind_marks(kind: Kind) {
    let mut world = needs!(World::new(kind));
    let src = world.fs.dir("src");
    fs::write(src.join("f"), [1; 16384]).unwrap();
    fs::write(src.join("large"), [5; kib(64)]).unwrap();
    fs::write(world.fs.root().join("outside"), b"outside").unwrap();
    ["d", "e"].iter().for_each(|dir| fs::create_dir(src.join(dir)).unwrap());
    let mut missed = Vec::new();
    for (what, marked, change) in CHANGES {
        rustix::fs::syncfs(File::open(&src).unwrap()).unwrap();
        world.drain();
        change(&src);
        let [changed, data] = world.drain();
        for name in *marked {
            let (set, name) = name.strip_prefix('!').map_or((&changed, *name), |name| (&data, name));
            if !set.contains(&ino(&src.join(name))) {
                missed.push(format!("{what}: {name} is not among {set:?}"));
            }
        }
    }
    assert!(missed.is_empty(), "{kind:?}: {missed:#?}");
}

#[test]
fn every_kind_of_change_marks_on_ext4() {
    every_kind_marks(Kind::Ext4);
}

#[test]
fn every_kind_of_change_marks_on_xfs() {
    every_kind_marks(Kind::Xfs);
}

#[test]
fn every_kind_of_change_marks_on_btrfs() {
    every_kind_marks(Kind::Btrfs);
}

#[test]
fn every_kind_of_change_marks_on_tmpfs() {
    every_kind_marks(Kind::Tmpfs);
}

/// Nothing is synced in between: the page is dirty, and the clock may not have ticked since.
fn a_store_to_a_dirty_page_marks(kind: Kind) {
    let mut world = needs!(World::new(kind));
    let path = world.fs.root().join("f");
    fs::write(&path, [0; 8192]).unwrap();
    for round in 0..5_u8 {
        open(path.clone()).write_all_at(&[round; 8192], 0).unwrap();
        world.drain();
        let mut mapped = Mapped::open(&path).unwrap();
        mapped.store(5000, &[round]);
        assert!(world.drain()[1].contains(&ino(&path)), "{kind:?}, round {round}");
    }
}

#[test]
fn the_first_store_through_a_mapping_marks_though_its_page_is_dirty_already() {
    [Kind::Ext4, Kind::Xfs, Kind::Btrfs].into_iter().for_each(a_store_to_a_dirty_page_marks);
}

#[test]
fn stores_through_a_mapping_on_tmpfs_are_marked_at_the_last_close() {
    let mut world = needs!(World::new(Kind::Tmpfs));
    let path = world.fs.root().join("f");
    fs::write(&path, [0; 8192]).unwrap();
    let mut mapped = Mapped::open(&path).unwrap();
    mapped.store(1, b"once");
    world.drain();
    mapped.store(5000, b"again");
    drop(mapped);
    assert!(world.drain()[1].contains(&ino(&path)));
}
