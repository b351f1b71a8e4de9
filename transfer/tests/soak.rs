//! Random changes, told as the tracker tells them, while the sender is killed again and again.
//!
//! `EBBTIDE_SEED` replays a run, `EBBTIDE_SOAK_ROUNDS` makes it longer.
#![allow(clippy::unwrap_used, reason = "helpers of tests too fail by panic")]

mod common;

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::World;
use ebbtide_feed::{Batch, Fact, RelPath, ToSender, ToTracker, codec};
use rustix::fs::{CWD, RenameFlags};

/// A small generator (SplitMix64), so that a seed replays a run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { Some(&of[self.below(of.len() as u64) as usize]) }
    }
}

/// Changes the source and tells facts about it.
struct Changer {
    root: PathBuf,
    dice: Dice,
    facts: Vec<Fact>,
}

impl Changer {
    fn touched(&mut self, at: &RelPath, data: bool) {
        self.facts.push(Fact::Touched { path: at.clone(), data });
    }

    fn parent_touched(&mut self, of: &RelPath) {
        if let Some(parent) = of.parent() {
            self.touched(&parent, false);
        }
    }

    fn at(&self, of: &RelPath) -> PathBuf {
        self.root.join(of.as_path())
    }

    /// Everything below the root: directories and other entries.
    fn entries(&self) -> (Vec<RelPath>, Vec<RelPath>) {
        let (mut dirs, mut others) = (vec![RelPath::root()], Vec::new());
        let mut at = 0;
        while at < dirs.len() {
            let dir = dirs[at].clone();
            at += 1;
            for entry in fs::read_dir(self.at(&dir)).unwrap() {
                let entry = entry.unwrap();
                let child = dir.join(std::os::unix::ffi::OsStrExt::as_bytes(&*entry.file_name())).unwrap();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() { dirs.push(child) } else { others.push(child) }
            }
        }
        (dirs, others)
    }

    fn new_name(&mut self, dirs: &[RelPath]) -> RelPath {
        let dir = self.dice.pick(dirs).unwrap().clone();
        let number = self.dice.below(12);
        let name = match self.dice.below(8) {
            0 => format!("odd\n {number}").into_bytes(),
            1 => vec![b'\xff', b'0' + number as u8],
            2 => format!("{}{number}", "l".repeat(200)).into_bytes(),
            _ => format!("n{number}").into_bytes(),
        };
        dir.join(&name).unwrap()
    }

    fn write(&mut self, at: &RelPath) {
        let length = [0, 3, 700, 70_000][self.dice.below(4) as usize];
        let byte = self.dice.below(256) as u8;
        let found = fs::symlink_metadata(self.at(at));
        let existed = found.is_ok();
        // Opening a FIFO blocks, and a symlink leads to another name.
        if found.is_ok_and(|meta| !meta.is_file()) {
            return;
        }
        if fs::write(self.at(at), vec![byte; length]).is_ok() {
            self.touched(at, true);
            if !existed {
                self.parent_touched(at);
            }
        }
    }

    fn made(&mut self, made: bool, at: &RelPath) {
        if made {
            self.touched(at, true);
            self.parent_touched(at);
        }
    }

    fn rewrite_unseen(&mut self, at: &RelPath) {
        let Ok(meta) = fs::symlink_metadata(self.at(at)) else { return };
        if !meta.is_file() || meta.len() == 0 {
            return;
        }
        let byte = self.dice.below(256) as u8;
        fs::write(self.at(at), vec![byte; meta.len() as usize]).unwrap();
        set_mtime(&self.at(at), meta.modified().unwrap());
        self.touched(at, true);
    }

    fn is_dir(&self, at: &RelPath) -> bool {
        fs::symlink_metadata(self.at(at)).is_ok_and(|meta| meta.is_dir())
    }

    fn remove(&mut self, at: &RelPath) {
        if at.is_root() || fs::symlink_metadata(self.at(at)).is_err() {
            return;
        }
        if self.is_dir(at) {
            fs::remove_dir_all(self.at(at)).unwrap();
        } else {
            fs::remove_file(self.at(at)).unwrap();
        }
        self.facts.push(Fact::Gone { path: at.clone() });
        self.parent_touched(at);
    }

    fn rename(&mut self, from: &RelPath, to: &RelPath, flags: RenameFlags) {
        if from.is_root() || to.is_root() || to.is_within(from) || from.is_within(to) {
            return;
        }
        if rustix::fs::renameat_with(CWD, self.at(from), CWD, self.at(to), flags).is_err() {
            return;
        }
        self.renamed(from, to);
        if flags.contains(RenameFlags::EXCHANGE) {
            self.renamed(to, from);
        }
    }

    fn renamed(&mut self, from: &RelPath, to: &RelPath) {
        self.facts.push(Fact::Gone { path: from.clone() });
        self.facts.push(Fact::Moved { from: from.clone(), to: to.clone() });
        self.touched(to, true);
        if self.is_dir(to) {
            self.facts.push(Fact::Subtree { dir: to.clone(), replaced: true });
        }
        self.parent_touched(from);
        self.parent_touched(to);
    }

    fn change(&mut self) {
        let (dirs, others) = self.entries();
        let new = self.new_name(&dirs);
        let (dir, other) = (self.dice.pick(&dirs).cloned().unwrap(), self.dice.pick(&others).cloned());
        let second = self.dice.pick(&others).cloned();
        let second_dir = self.dice.pick(&dirs).cloned().unwrap();
        match (self.dice.below(24), other, second) {
            (0..4, ..) => self.write(&new),
            (4 | 5, Some(at), _) => self.write(&at),
            (6 | 7, Some(at), _) => self.rewrite_unseen(&at),
            (8 | 9, Some(at), _) => self.remove(&at),
            (10, ..) if dirs.len() > 6 => self.remove(&dir),
            (11 | 12, ..) => {
                let made = fs::create_dir(self.at(&new));
                self.made(made.is_ok(), &new);
            }
            (13 | 14, Some(at), _) => self.rename(&at, &new, RenameFlags::empty()),
            (15, Some(at), Some(to)) => self.rename(&at, &to, RenameFlags::empty()),
            (16, ..) => self.rename(&dir, &new, RenameFlags::empty()),
            (17, Some(at), _) => self.rename(&dir, &at, RenameFlags::EXCHANGE),
            (18, ..) => self.rename(&dir, &second_dir, RenameFlags::EXCHANGE),
            (19, Some(at), _) => {
                let made = fs::hard_link(self.at(&at), self.at(&new));
                self.made(made.is_ok(), &new);
                self.touched(&at, false);
            }
            (20, ..) => {
                let made = symlink("n1", self.at(&new));
                self.made(made.is_ok(), &new);
            }
            (21, ..) => {
                let mode = [0o700, 0o755, 0o751][self.dice.below(3) as usize];
                fs::set_permissions(self.at(&dir), fs::Permissions::from_mode(mode)).unwrap();
                self.touched(&dir, false);
            }
            (22, Some(at), _) if fs::symlink_metadata(self.at(&at)).is_ok_and(|meta| meta.is_file()) => {
                set_mtime(
                    &self.at(&at),
                    SystemTime::UNIX_EPOCH + Duration::from_secs(self.dice.below(1 << 30)),
                );
                self.touched(&at, false);
            }
            (23, ..) => {
                let made = rustix::fs::mkfifoat(CWD, self.at(&new), rustix::fs::Mode::RWXU);
                self.made(made.is_ok(), &new);
            }
            _ => {}
        }
    }
}

fn set_mtime(at: &Path, time: SystemTime) {
    let file = fs::File::options().write(true).open(at).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(time)).unwrap();
}

/// The tracker's side of "nothing is forgotten before it is durable".
struct Tracker {
    sent: VecDeque<Batch>,
}

impl Tracker {
    fn send(&mut self, world: &mut World, facts: Vec<Fact>) {
        world.seq += 1;
        let batch = Batch { seq: world.seq, mirror: 0, last: true, facts };
        self.sent.push_back(batch.clone());
        world.say(&ToSender::Batch(batch));
    }

    fn wait_durable(&mut self, world: &World) {
        while !self.sent.is_empty() {
            if let ToTracker::Durable { seq } = world.hear() {
                self.sent.retain(|batch| batch.seq > seq);
            }
        }
    }

    fn again(&self, world: &World) {
        for batch in &self.sent {
            codec::write(world.feed(), &ToSender::Batch(batch.clone())).unwrap();
        }
    }
}

fn rounds() -> u64 {
    std::env::var("EBBTIDE_SOAK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

fn seed() -> u64 {
    let given = std::env::var("EBBTIDE_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
    })
}

#[test]
fn random_changes_and_killed_senders_leave_nothing_different() {
    let seed = seed();
    eprintln!("EBBTIDE_SEED={seed}");
    let mut world = World::new();
    let mut changer = Changer { root: world.path("src"), dice: Dice(seed), facts: Vec::new() };
    let mut tracker = Tracker { sent: VecDeque::new() };
    fs::write(world.src("n0"), "first").unwrap();
    world.start_sender();
    for round in 0..rounds() {
        for _ in 0..12 {
            for _ in 0..changer.dice.below(20) {
                changer.change();
            }
            let facts = std::mem::take(&mut changer.facts);
            tracker.send(&mut world, facts);
            if changer.dice.below(3) == 0 {
                tracker.wait_durable(&world);
            }
            if changer.dice.below(4) == 0 {
                world.kill_sender();
                world.start_sender();
                tracker.again(&world);
            }
        }
        tracker.wait_durable(&world);
        world.settle();
        eprintln!("round {round}");
        world.assert_same();
    }
    assert!(world.status().destinations[0].failing_names.is_empty());
}
