//! The records that tell names, and what happens when room runs out.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use ebbtide::probe::bpf::{Bpf, Dev, Options, Place, Slot, TaintReason};
use ebbtide::sys::with_causes;
use ebbtide_tests::{FileSystem, Kind, Skip, mib, needs};

struct World {
    bpf: Bpf,
    slot: Slot,
    fs: FileSystem,
    /// What records of the next epoch said already: writeback may mark a file right after a flip.
    early: BTreeMap<u64, Vec<Named>>,
}

/// What a record said of a name: directory and name, or nothing.
type Named = Option<(u64, Vec<u8>)>;

impl World {
    fn new(options: &Options) -> Result<World, Skip> {
        World::on(FileSystem::new(Kind::Ext4)?, options)
    }

    fn on(fs: FileSystem, options: &Options) -> Result<World, Skip> {
        let mut bpf = match Bpf::load(options) {
            Ok(bpf) if bpf.coverage("ext4").inodes => bpf,
            Ok(bpf) => {
                return Err(Skip(format!("this kernel lacks programs for ext4: {}", bpf.refusals())));
            }
            Err(error) => return Err(Skip(with_causes(&error))),
        };
        let dev = fs::metadata(fs.root()).expect("a file system of our own does what it is asked").dev();
        let dev = Dev { major: rustix::fs::major(dev), minor: rustix::fs::minor(dev) };
        let slot = bpf.enable(dev).expect("a slot is free");
        Ok(World { bpf, slot, fs, early: BTreeMap::new() })
    }

    /// Ends an epoch: its marks, and what its records said of each inode.
    fn drain(&mut self) -> (BTreeSet<u64>, BTreeMap<u64, Vec<Named>>) {
        let ended = self.bpf.flip().expect("the old side is clear");
        let mut names = mem::take(&mut self.early);
        let early = &mut self.early;
        self.bpf.read_ring(|record| {
            let named = match record.place {
                Place::In { parent_ino, name, .. } => Some((parent_ino, name.to_vec())),
                Place::Root | Place::Nameless => None,
            };
            let of = if record.epoch == ended.low() { &mut names } else { &mut *early };
            of.entry(record.ino).or_default().push(named);
        });
        let marks =
            self.bpf.old_side().expect("the bitmap can be read").remove(&self.slot).unwrap_or_default();
        self.bpf.clear_old().expect("chunks can be given back");
        (marks.changed.iter().collect(), names)
    }
}

fn ino(path: impl AsRef<Path>) -> u64 {
    fs::symlink_metadata(path).expect("a file system of our own does what it is asked").ino()
}

#[test]
fn a_record_tells_directory_and_name_whatever_bytes_it_has() {
    let mut world = needs!(World::new(&Options::default()));
    let dir = world.fs.dir("directory");
    let names: [&[u8]; 6] =
        [b"plain", b"new\nline", b"\xff\xfe invalid", &[b'n'; 48], &[b'm'; 49], &[b'l'; 255]];
    let paths: Vec<_> = names.iter().map(|name| dir.join(OsStr::from_bytes(name))).collect();
    paths.iter().for_each(|path| fs::write(path, b"x").unwrap());
    world.drain();
    paths.iter().for_each(|path| fs::write(path, b"y").unwrap());
    let (marks, records) = world.drain();
    for (path, name) in paths.iter().zip(names) {
        assert!(marks.contains(&ino(path)));
        assert_eq!(records[&ino(path)], [Some((ino(&dir), name.to_vec()))]);
    }
}

#[test]
fn a_mark_makes_one_record_in_its_epoch_and_one_more_in_the_next() {
    let mut world = needs!(World::new(&Options::default()));
    let path = world.fs.root().join("f");
    fs::write(&path, b"x").unwrap();
    world.drain();
    for _ in 0..3 {
        (0..100).for_each(|_| fs::write(&path, b"y").unwrap());
        let (_, records) = world.drain();
        assert_eq!(records[&ino(&path)], [Some((ino(world.fs.root()), b"f".to_vec()))]);
    }
}

#[test]
fn every_name_of_a_hard_linked_file_that_is_in_use_is_told() {
    let mut world = needs!(World::new(&Options::default()));
    let (one, two) = (world.fs.dir("one"), world.fs.dir("two"));
    fs::write(one.join("a"), b"x").unwrap();
    fs::hard_link(one.join("a"), two.join("b")).unwrap();
    fs::hard_link(one.join("a"), two.join("c")).unwrap();
    world.drain();
    fs::write(one.join("a"), b"y").unwrap();
    let (_, records) = world.drain();
    let told: BTreeSet<_> = records[&ino(one.join("a"))].iter().cloned().collect();
    let wanted = [(&one, "a"), (&two, "b"), (&two, "c")];
    let wanted = wanted.map(|(dir, name)| Some((ino(dir), name.as_bytes().to_vec())));
    assert_eq!(told, BTreeSet::from(wanted));
}

#[test]
fn a_renamed_file_is_told_by_its_new_name() {
    let mut world = needs!(World::new(&Options::default()));
    let (one, two) = (world.fs.dir("one"), world.fs.dir("two"));
    fs::write(one.join("old"), b"x").unwrap();
    let open = OpenOptions::new().write(true).open(one.join("old")).unwrap();
    fs::rename(one.join("old"), two.join("new")).unwrap();
    // A page that is dirty already takes a write in the same clock tick without a mark.
    open.sync_data().unwrap();
    world.drain();
    open.write_all_at(b"y", 0).unwrap();
    let (_, records) = world.drain();
    assert_eq!(records[&ino(two.join("new"))], [Some((ino(&two), b"new".to_vec()))]);
}

#[test]
fn a_file_without_a_name_is_marked_all_the_same() {
    let mut world = needs!(World::new(&Options::default()));
    let path = world.fs.root().join("f");
    let open = File::create(&path).unwrap();
    let number = ino(&path);
    fs::hard_link(&path, world.fs.root().join("g")).unwrap();
    drop(open);
    world.drain();
    let (marks, _) = {
        fs::remove_file(&path).unwrap();
        world.drain()
    };
    assert!(marks.contains(&number));
}

#[test]
fn lost_records_are_counted_and_their_bits_stand() {
    let mut world = needs!(World::new(&Options { ring_bytes: 4096, ..Options::default() }));
    let files: Vec<_> = (0..1000).map(|file| world.fs.root().join(file.to_string())).collect();
    let before = world.bpf.counters();
    files.iter().for_each(|path| fs::write(path, b"x").unwrap());
    let after = world.bpf.counters();
    let lost = after.records_lost - before.records_lost;
    assert!(lost > 900, "{after:?}");
    // Writeback may mark one more at any moment.
    let of_the_device = world.bpf.records_lost(world.slot);
    assert!((after.records_lost..=world.bpf.counters().records_lost).contains(&of_the_device), "{after:?}");
    let told = after.records - before.records;
    assert!(told + lost >= after.transitions - before.transitions, "{before:?} {after:?}");
    let (marks, _) = world.drain();
    assert!(files.iter().all(|path| marks.contains(&ino(path))));
    assert_eq!(world.bpf.taints(), []);
}

/// One file in each of `count` directories whose inode numbers lie in different chunks.
fn spread(fs: &FileSystem, count: usize) -> Vec<PathBuf> {
    let mut chunks = BTreeMap::new();
    for dir in 0..10_000 {
        let dir = fs.dir(&format!("{dir}"));
        chunks.entry(ino(&dir) >> 12).or_insert(dir);
        if chunks.len() == count {
            break;
        }
    }
    assert_eq!(chunks.len(), count, "ext4 spreads directories over its groups");
    let files = chunks.into_values().map(|dir| dir.join("f"));
    files
        .inspect(|path| fs::write(path, b"x").expect("a file system of our own does what it is asked"))
        .collect()
}

#[test]
fn a_slab_that_is_too_small_taints_the_device_once_for_each_look() {
    let mut world = needs!(World::new(&Options { chunks: 1, ..Options::default() }));
    spread(&world.fs, 3);
    // Otherwise writeback may mark them once more between the looks.
    world.fs.write_back();
    let taints = world.bpf.taints();
    assert_eq!(taints.len(), 1, "{taints:?}");
    assert_eq!((taints[0].slot, taints[0].reason), (world.slot, TaintReason::Exhausted));
    assert_eq!(taints[0].lost, world.bpf.counters().exhausted);
    assert_eq!(world.bpf.taints(), [], "told once");
}

#[test]
fn chunks_of_quiet_inodes_are_used_again_and_no_mark_is_lost() {
    let fs = needs!(FileSystem::sized(Kind::Ext4, mib(4096)));
    let files = spread(&fs, 12);
    // Writeback that allocates blocks marks files too: all of them at once would be too many.
    fs.write_back();
    // Room for two thirds of them at a time.
    let mut world = needs!(World::on(fs, &Options { chunks: 8, ..Options::default() }));
    for round in 0..300_u64 {
        let path = &files[round as usize % files.len()];
        // Within its block, and always another length.
        OpenOptions::new().write(true).open(path).unwrap().set_len(2 + round).unwrap();
        let (marks, _) = world.drain();
        assert!(marks.contains(&ino(path)), "round {round}");
        assert_eq!(world.bpf.taints(), [], "round {round}");
    }
}
