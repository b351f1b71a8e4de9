//! The eBPF programs on a real ext4: what marks an inode, and that no mark is lost.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use ebbtide::id::HandleForm;
use ebbtide::probe::bpf::{Bpf, BpfError, Dev, Marks, Options, Slot};
use ebbtide::probe::{Arming, Asked, Names};
use ebbtide::sys::with_causes;
use ebbtide_tests::{FileSystem, Kind, Mapped, Skip, needs};
use memmap2::MmapMut;
use rustix::fs::{AtFlags, CWD, FallocateFlags, OFlags, RenameFlags, Timespec, Timestamps};

/// An ext4 of its own whose inodes are marked.
struct World {
    // Before the file system: programs go first.
    bpf: Bpf,
    slot: Slot,
    fs: FileSystem,
}

impl World {
    fn new() -> Result<World, Skip> {
        World::with(&Options::default())
    }

    fn with(options: &Options) -> Result<World, Skip> {
        let fs = FileSystem::new(Kind::Ext4)?;
        let mut bpf = load(options)?;
        let slot = bpf.enable(device(fs.root())).expect("a slot is free");
        Ok(World { bpf, slot, fs })
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.fs.root().join(name)
    }

    /// A file that stood before, and is as clean as the disk.
    fn file(&mut self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("a file system of our own does what it is asked");
        File::open(self.fs.root())
            .expect("a file system of our own does what it is asked")
            .sync_all()
            .expect("a file system of our own does what it is asked");
        rustix::fs::syncfs(File::open(&path).expect("a file system of our own does what it is asked"))
            .expect("a file system of our own does what it is asked");
        path
    }

    /// All marks since the last call, forgotten at once.
    fn drain(&mut self) -> Marks {
        self.bpf.flip().expect("the old side is clear");
        let marks =
            self.bpf.old_side().expect("the bitmap can be read").remove(&self.slot).unwrap_or_default();
        self.bpf.clear_old().expect("chunks can be given back");
        self.bpf.read_ring(|_| {});
        marks
    }
}

fn load(options: &Options) -> Result<Bpf, Skip> {
    match Bpf::load(options) {
        Ok(bpf) if bpf.coverage("ext4").inodes => Ok(bpf),
        Ok(bpf) => Err(Skip(format!("this kernel lacks programs for ext4: {}", bpf.refusals()))),
        Err(error) => Err(Skip(with_causes(&error))),
    }
}

fn device(path: &Path) -> Dev {
    let dev = fs::metadata(path).expect("a file system of our own does what it is asked").dev();
    Dev { major: rustix::fs::major(dev), minor: rustix::fs::minor(dev) }
}

fn ino(path: impl AsRef<Path>) -> u64 {
    fs::symlink_metadata(path).expect("a file system of our own does what it is asked").ino()
}

/// Memory as O_DIRECT wants it.
fn page(byte: u8) -> MmapMut {
    let mut page = MmapMut::map_anon(4096).expect("a file system of our own does what it is asked");
    page.fill(byte);
    page
}

fn direct(path: &Path) -> File {
    let flags = OFlags::DIRECT.bits() as i32;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)
        .expect("a file system of our own does what it is asked")
}

/// Whether the change must count as one of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bytes {
    Changed,
    Same,
    Either,
}

/// Expects that `change` marks the inodes of the paths that it returns.
#[track_caller]
fn expect_marks(world: &mut World, what: &str, bytes: Bytes, change: impl FnOnce(&World) -> Vec<u64>) {
    world.drain();
    let inodes = change(world);
    let marks = world.drain();
    for ino in inodes {
        assert!(marks.changed.contains(ino), "{what}: {ino} is not among {:?}", marks.changed);
        if bytes != Bytes::Either {
            assert_eq!(marks.data.contains(ino), bytes == Bytes::Changed, "{what}: data of {ino}");
        }
    }
}

#[test]
fn every_way_to_change_bytes_marks_them() {
    let mut world = needs!(World::new());
    let path = world.file("f", &[1; 16384]);
    let number = ino(&path);
    let open = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let aside = direct(&path);
    let mut mapped = Mapped::open(&path).unwrap();
    let ways: [(&str, &mut dyn FnMut()); 11] = [
        ("write", &mut || fs::write(&path, [2; 16384]).unwrap()),
        ("pwrite through an open file", &mut || open.write_all_at(b"x", 5).unwrap()),
        ("the same bytes again", &mut || open.write_all_at(b"x", 5).unwrap()),
        ("append", &mut || {
            let mut end = OpenOptions::new().append(true).open(&path).unwrap();
            std::io::Write::write_all(&mut end, b"end").unwrap();
        }),
        ("direct write", &mut || aside.write_all_at(&page(3), 4096).unwrap()),
        ("store through a mapping", &mut || mapped.store(8192, b"mapped")),
        ("cut", &mut || open.set_len(16000).unwrap()),
        ("extend", &mut || open.set_len(20000).unwrap()),
        ("allocate", &mut || rustix::fs::fallocate(&open, FallocateFlags::empty(), 0, 30000).unwrap()),
        ("punch a hole", &mut || {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&open, flags, 4096, 4096).unwrap();
        }),
        ("copy_file_range", &mut || {
            let (mut from, mut to) = (0, 100);
            rustix::fs::copy_file_range(&open, Some(&mut from), &open, Some(&mut to), 50).unwrap();
        }),
    ];
    for (what, change) in ways {
        // A page that is dirty already takes a write in the same clock tick without a mark; whoever reads waits for it.
        open.sync_data().unwrap();
        expect_marks(&mut world, what, Bytes::Changed, |_| {
            change();
            vec![number]
        });
    }
}

#[test]
fn changes_of_attributes_mark_the_inode_and_not_its_bytes() {
    let mut world = needs!(World::new());
    let path = world.file("f", b"content");
    let number = ino(&path);
    // Times of long ago, so that they differ from the next change's.
    let then = Timestamps {
        last_access: Timespec { tv_sec: 1_000_000_000, tv_nsec: 5 },
        last_modification: Timespec { tv_sec: 1_000_000_000, tv_nsec: 5 },
    };
    rustix::fs::utimensat(CWD, &path, &then, AtFlags::empty()).unwrap();
    let ways: [(&str, &dyn Fn()); 4] = [
        ("chmod", &|| fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap()),
        ("chown", &|| std::os::unix::fs::chown(&path, Some(7), Some(8)).unwrap()),
        ("utimes", &|| rustix::fs::utimensat(CWD, &path, &then, AtFlags::empty()).unwrap()),
        ("link", &|| fs::hard_link(&path, path.with_file_name("g")).unwrap()),
    ];
    for (what, change) in ways {
        expect_marks(&mut world, what, Bytes::Same, |_| {
            change();
            vec![number]
        });
    }
}

/// What is done, the names whose inodes it must mark, and how.
type Way<'a> = (&'a str, &'a [&'a str], &'a dyn Fn());

#[test]
fn changes_of_names_mark_the_directories_they_happen_in() {
    let mut world = needs!(World::new());
    world.file("a", b"a");
    world.fs.dir("one");
    world.fs.dir("two");
    let root = world.fs.root().to_owned();
    let at = |name: &str| root.join(name);
    let ways: [Way<'_>; 10] = [
        ("create", &["one", "one/f"], &|| drop(File::create(at("one/f")).unwrap())),
        ("mkdir", &["one", "one/d"], &|| fs::create_dir(at("one/d")).unwrap()),
        ("symlink", &["one", "one/l"], &|| symlink("f", at("one/l")).unwrap()),
        ("mknod", &["one", "one/p"], &|| {
            let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
            rustix::fs::mknodat(CWD, at("one/p"), kind, mode, 0).unwrap();
        }),
        ("chown of a symlink", &["one/l"], &|| {
            std::os::unix::fs::lchown(at("one/l"), Some(3), None).unwrap();
        }),
        ("rename", &["one", "two", "two/f"], &|| fs::rename(at("one/f"), at("two/f")).unwrap()),
        ("exchange", &["one", "two"], &|| {
            rustix::fs::renameat_with(CWD, at("one/d"), CWD, at("two/f"), RenameFlags::EXCHANGE).unwrap();
        }),
        ("link", &["two", "two/a"], &|| fs::hard_link(at("a"), at("two/a")).unwrap()),
        ("unlink", &["two", "a"], &|| fs::remove_file(at("two/a")).unwrap()),
        ("rmdir", &["two"], &|| fs::remove_dir(at("two/f")).unwrap()),
    ];
    for (what, marked, change) in ways {
        expect_marks(&mut world, what, Bytes::Either, |_| {
            change();
            marked.iter().map(|name| ino(at(name))).collect()
        });
    }
}

#[test]
fn a_direct_write_right_after_a_flip_is_marked() {
    let mut world = needs!(World::new());
    if !world.bpf.coverage("ext4").direct_writes {
        ebbtide_tests::skip!("this kernel has no hook at the end of direct writes");
    }
    // The program on fsnotify() is reached while somebody listens, as the tracker does; where another one is for the end
    // of direct writes, nobody need.
    let root = File::open(world.fs.root()).expect("a file system of our own does what it is asked");
    let listen = || Names::listen(root.as_fd(), HandleForm::Opaque, Asked::Names, Arming::Ignored);
    let _names = (!world.bpf.coverage("ext4").alone).then(|| listen().expect("root may listen to names"));
    let path = world.file("f", &[0; 4096]);
    let (open, page) = (direct(&path), page(1));
    for _ in 0..500 {
        open.write_all_at(&page, 0).unwrap();
        assert!(world.drain().data.contains(ino(&path)));
    }
}

#[test]
fn reading_past_the_cache_is_no_change_of_bytes() {
    let mut world = needs!(World::new());
    let path = world.file("f", &[7; 4096]);
    let flags = OFlags::DIRECT.bits() as i32;
    let open = OpenOptions::new().read(true).custom_flags(flags).open(&path).unwrap();
    world.drain();
    open.read_exact_at(&mut page(0), 0).unwrap();
    assert!(!world.drain().data.contains(ino(&path)));
}

#[test]
fn a_mapped_file_says_so_and_its_next_store_marks_again_once_its_pages_are_written_back() {
    let mut world = needs!(World::new());
    let path = world.file("f", &[0; 8192]);
    let mut mapped = Mapped::open(&path).unwrap();
    let open = File::open(&path).unwrap();
    for round in 0..50_u8 {
        mapped.store(5000, &[round]);
        let marks = world.drain();
        assert!(marks.mapped.contains(ino(&path)), "round {round}: {marks:?}");
        assert!(marks.data.contains(ino(&path)));
        // What the tracker does before such a file is read: the pages are clean and watched again.
        open.sync_data().unwrap();
        world.drain();
    }
    drop(mapped);
    fs::write(&path, b"x").unwrap();
    assert!(!world.drain().mapped.contains(ino(&path)));
}

#[test]
fn no_write_is_lost_while_the_bitmap_is_flipped_all_the_time() {
    let mut world = needs!(World::new());
    let (threads, files) = (4_usize, 1_000);
    let dirs: Vec<_> = (0..threads).map(|thread| world.fs.dir(&thread.to_string())).collect();
    let mut seen = BTreeSet::new();
    let flips = AtomicU32::new(0);
    let writer = |dir: &PathBuf| {
        let paths: Vec<_> = (0..files).map(|file| dir.join(file.to_string())).collect();
        let half = paths.len() / 2;
        for (at, path) in paths.iter().enumerate() {
            // Not all of it between two of them, however busy the machine is.
            while at == half && flips.load(Ordering::Relaxed) < 10 {
                thread::yield_now();
            }
            fs::write(path, b"first").unwrap();
        }
        paths.iter().map(ino).collect::<Vec<_>>()
    };
    let written: BTreeSet<u64> = thread::scope(|scope| {
        let writers: Vec<_> = dirs.iter().map(|dir| scope.spawn(|| writer(dir))).collect();
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            seen.extend(world.drain().data);
            flips.fetch_add(1, Ordering::Relaxed);
        }
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    seen.extend(world.drain().data);
    assert_eq!(written.difference(&seen).count(), 0, "after {flips:?} flips");
}

#[test]
fn a_write_that_has_returned_is_in_the_next_flip_whatever_else_goes_on() {
    let mut world = needs!(World::new());
    let (mine, noise) = (world.file("mine", b"x"), world.file("noise", b"x"));
    let stop = AtomicBool::new(false);
    let open = |path: &Path| OpenOptions::new().write(true).open(path).unwrap();
    let (mine_open, noise_open) = (open(&mine), open(&noise));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                noise_open.write_all_at(b"n", 0).unwrap();
            }
        });
        let missed = (0..3_000_u32).find(|round| {
            mine_open.set_len(u64::from(*round)).unwrap();
            !world.drain().changed.contains(ino(&mine))
        });
        stop.store(true, Ordering::Relaxed);
        assert_eq!(missed, None);
    });
}

#[test]
fn a_flip_is_refused_until_the_old_side_is_cleared() {
    let mut world = needs!(World::new());
    let path = world.file("f", b"x");
    world.drain();
    fs::write(&path, b"y").unwrap();
    world.bpf.flip().unwrap();
    assert!(matches!(world.bpf.flip(), Err(BpfError::NotCleared)));
    assert!(world.bpf.old_side().expect("the bitmap can be read")[&world.slot].changed.contains(ino(&path)));
    assert!(
        world.bpf.old_side().expect("the bitmap can be read")[&world.slot].changed.contains(ino(&path)),
        "reading changes nothing"
    );
    world.bpf.clear_old().unwrap();
    assert!(world.bpf.flip().is_ok());
}

#[test]
fn another_file_system_is_not_marked_until_it_is_enabled_nor_after_it_is_disabled() {
    let mut world = needs!(World::new());
    let other = needs!(FileSystem::new(Kind::Ext4));
    let file = other.root().join("f");
    let drain = |world: &mut World, slot: Slot| {
        fs::write(&file, b"x").unwrap();
        world.bpf.flip().unwrap();
        let marked = world
            .bpf
            .old_side()
            .expect("the bitmap can be read")
            .remove(&slot)
            .is_some_and(|marks| marks.changed.contains(ino(&file)));
        world.bpf.clear_old().unwrap();
        marked
    };
    let first = world.bpf.enable(device(other.root())).unwrap();
    assert_eq!(world.bpf.enable(device(other.root())).unwrap(), first, "once is enough");
    assert!(drain(&mut world, first));
    world.bpf.disable(first);
    let before = world.bpf.counters().marks;
    assert!(!drain(&mut world, first));
    assert_eq!(world.bpf.counters().marks, before);
    (0..3).for_each(|_| assert!(!drain(&mut world, first)));
    assert_eq!(world.bpf.enable(device(other.root())).unwrap(), first, "its slot has come back");
    assert!(drain(&mut world, first));
}
