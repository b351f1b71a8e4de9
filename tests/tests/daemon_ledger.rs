//! A ledger whose file is damaged, while it is used and while it is not: nothing is lost, and what was set aside is said.
//! Bits that are flipped in pages that nobody uses are found by nobody, and matter to nobody.
#![expect(clippy::unwrap_used, reason = "a test ends where its world does not obey")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use ebbtide_tests::{Client, Kind, Mirror, Scratch, Tree, bytes, eventually, kib, needs, run, skip};

/// A mirror whose state lies where the test finds it.
struct World {
    mirror: Mirror,
    state: Scratch,
}

impl World {
    fn new() -> Result<World, ebbtide_tests::Skip> {
        let build =
            |tree: Tree| (0..40).fold(tree, |tree, at| tree.file(format!("d{}/f{at}", at % 5), b"old"));
        let mut mirror = Mirror::with(Kind::Ext4, build, |setup| setup)?;
        let state = Scratch::new("state");
        fs::set_permissions(state.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        mirror.expect_synced();
        mirror.daemon_mut().terminate();
        mirror.daemon_mut().keep_state_in(state.path());
        mirror.daemon_mut().start_again();
        mirror.expect_synced();
        Ok(World { mirror, state })
    }

    /// The store.
    fn ledger(&self) -> PathBuf {
        // The next sender makes a new one.
        eventually("the daemon has a ledger", || find(self.state.path()))
    }

    /// So many were set aside.
    fn set_aside(&self) -> usize {
        let folder = self.ledger().parent().unwrap().to_owned();
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains(".damaged-")).count()
    }

    /// Changes something that a destination which is away has to get later.
    fn change(&self, round: u64) {
        let source = self.mirror.source();
        let source = source.file(format!("d{}/f{}", round % 5, round % 40), bytes(round, kib(2)));
        drop(source.file(format!("new{round}"), b"new").remove(format!(
            "d{}/f{}",
            (round + 1) % 5,
            (round + 1) % 40
        )));
    }

    /// Facts that only the ledger knows, when the daemon is killed then.
    fn change_unsent(&mut self, round: u64) {
        self.mirror.rsyncd().stop();
        self.change(round);
        // It is drained, and cannot be sent.
        let _ = self.mirror.daemon().try_wait(1);
    }

    /// Kills ebbtide. Its sender ends by itself, and writes to the ledger until it has.
    fn kill(&mut self) {
        let sender = self.mirror.daemon().sender();
        self.mirror.daemon_mut().kill();
        if let Some(sender) = sender {
            let folder = PathBuf::from(format!("/proc/{sender}"));
            eventually("its sender is gone", || (!folder.exists()).then_some(()));
        }
    }

    /// Starts the destination and ebbtide over what is left of the ledger.
    fn expect_recovery(&mut self, what: &str) {
        self.mirror.rsyncd().start_again();
        self.mirror.daemon_mut().start_again();
        self.mirror.expect_synced();
        // It may be found damaged at any moment.
        let said = || {
            let log = self.mirror.daemon().log();
            // Who set it aside may have been killed before it could say so; then the next one does.
            ["the ledger is damaged", "the ledger was damaged"]
                .iter()
                .any(|words| log.contains(words))
                .then_some(())
        };
        let (before, aside) = (said(), self.set_aside());
        assert!(
            before.is_none() || aside > 0,
            "{what}: nothing was set aside: {}",
            self.mirror.daemon().log()
        );
        if aside > 0 {
            eventually("it is said why the ledger was set aside", said);
        }
    }
}

fn find(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find_map(|path| match path.file_name() {
        Some(name) if name == "ledger.redb" => Some(path),
        _ if path.is_dir() => find(&path),
        _ => None,
    })
}

/// Flips a bit in each of some places that are spread over a file.
fn flip(path: &Path, seed: u64) {
    // One that was just made is empty for a moment.
    let open = || File::options().read(true).write(true).open(path).ok();
    let file = eventually("the ledger is there", || open().filter(|file| file.metadata().unwrap().len() > 0));
    let length = file.metadata().unwrap().len();
    let dice = bytes(seed, 8 * PLACES);
    for (at, dice) in dice.chunks_exact(8).enumerate() {
        // The first places are in the header and its neighbours.
        let dice = u64::from_le_bytes(dice.try_into().unwrap());
        let at = if at < PLACES / 4 { dice % 1024 } else { dice % length };
        let mut byte = [0];
        // Whoever uses it may cut off its end meanwhile.
        if file.read_exact_at(&mut byte, at).is_ok() {
            file.write_all_at(&[byte[0] ^ 1 << (dice % 8)], at).unwrap();
        }
    }
}

const PLACES: usize = 64;

/// What is done to the file, and by what.
type Damage = (&'static str, fn(&Path));

#[test]
fn a_ledger_that_is_damaged_between_two_runs_is_said_and_loses_nothing() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync has no ledger");
    }
    let mut world = needs!(World::new());
    let damages: [Damage; 5] = [
        ("bits are flipped", |path| flip(path, 1)),
        ("it is cut in half", |path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }),
        ("it is empty", |path| drop(File::create(path).unwrap())),
        ("it is another file", |path| fs::write(path, bytes(7, kib(100))).unwrap()),
        ("a page is of zeros", |path| {
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(&[0; 4096], 4096).unwrap();
        }),
    ];
    for (round, (what, damage)) in (1..).zip(damages) {
        world.change_unsent(round);
        world.kill();
        damage(&world.ledger());
        world.expect_recovery(what);
    }
    assert!(world.set_aside() > 0, "what is no ledger is not taken for one: {}", world.mirror.daemon().log());
}

#[test]
fn a_ledger_that_falls_back_to_an_earlier_state_is_said_and_loses_nothing() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync has no ledger");
    }
    let mut world = needs!(World::new());
    world.change_unsent(1);
    world.kill();
    let earlier = fs::read(world.ledger()).unwrap();
    world.expect_recovery("it is as it was");
    assert_eq!(world.set_aside(), 0);
    world.change_unsent(2);
    world.kill();
    fs::write(world.ledger(), earlier).unwrap();
    world.expect_recovery("it is as it was before");
    assert_eq!(world.set_aside(), 1);
}

#[test]
fn a_ledger_that_is_damaged_while_it_is_used_loses_nothing() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync has no ledger");
    }
    let mut world = needs!(World::new());
    for round in 1..5 {
        flip(&world.ledger(), round);
        world.change(round);
        world.mirror.expect_synced();
        world.change_unsent(round + 10);
        match round % 2 {
            0 => drop(world.mirror.daemon_mut().terminate()),
            _ => world.kill(),
        }
        world.expect_recovery("bits are flipped while it is used");
    }
}

#[test]
fn a_state_folder_that_was_given_to_somebody_else_is_put_right() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync has no ledger");
    }
    let mut world = needs!(World::new());
    let sender = world.ledger().parent().unwrap().to_owned();
    let (user, other) = (sender.metadata().unwrap().uid(), world.state.path().join("other"));
    assert_ne!(user, 0, "the sender is not root");
    world.change_unsent(1);
    world.kill();
    run(Command::new("chown").args(["-R", "root:root"]).arg(world.state.path()));
    // The folder was the sender's, who may put there what is not its own.
    run(Command::new("chown").arg(user.to_string()).arg(world.state.path()));
    fs::write(&other, b"somebody else's").unwrap();
    fs::hard_link(&other, sender.join("ledger.redb.new")).unwrap();
    world.expect_recovery("it was root's");
    assert_eq!(world.set_aside(), 0);
    assert_eq!(other.metadata().unwrap().uid(), 0, "a file with another name is not given away");
    assert_eq!(world.state.path().metadata().unwrap().uid(), 0, "the state folder is root's");
}
