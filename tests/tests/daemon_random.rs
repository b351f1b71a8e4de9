//! Random operations while ebbtide runs, then the barrier, then the referee, who must have nothing to say. Seeds are
//! printed; `EBBTIDE_SEED` replays one, `EBBTIDE_OPS` makes a run longer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ebbtide_tests::{Client, Kind, Mirror, Ops, eventually, needs, seed, skip};

/// Operations of each worker in each round.
const OPERATIONS: usize = 1_000;
const WORKERS: usize = 3;
const ROUNDS: usize = 3;

fn operations() -> usize {
    std::env::var("EBBTIDE_OPS").map_or(OPERATIONS, |n| n.parse().expect("EBBTIDE_OPS is a number"))
}

/// Rounds of operations, a sync and a verdict after each.
fn rounds(mirror: &Mirror, mut ops: Ops) {
    for round in 0..ROUNDS {
        ops.run(operations());
        judge(mirror, &ops, round);
    }
}

#[track_caller]
fn judge(mirror: &Mirror, ops: &Ops, round: usize) {
    let Some(difference) = mirror.difference() else { return };
    for name in difference.lines().skip(1).filter_map(|line| line.split(['/', ' ']).next_back()).take(5) {
        eprintln!("what was done to names with {name}:\n{}", ops.log(name));
    }
    panic!("after {} operations, in round {round}: {difference}", ops.count());
}

#[test]
fn random_operations_on_ext4() {
    let mirror = needs!(Mirror::on(Kind::Ext4));
    let ops = Ops::new(&mirror.source_path(), seed(), WORKERS);
    rounds(&mirror, if mirror.daemon().sees_mapped_stores() { ops } else { ops.without_mmap() });
}

fn with_fanotify_alone(kind: Kind) {
    let mirror = needs!(Mirror::with_fanotify_on(kind));
    rounds(&mirror, Ops::new(&mirror.source_path(), seed(), WORKERS).without_mmap());
}

#[test]
fn random_operations_on_ext4_with_fanotify_alone() {
    with_fanotify_alone(Kind::Ext4);
}

#[test]
fn random_operations_on_xfs_with_fanotify_alone() {
    with_fanotify_alone(Kind::Xfs);
}

#[test]
fn random_operations_on_btrfs_with_fanotify_alone() {
    with_fanotify_alone(Kind::Btrfs);
}

#[test]
fn random_operations_on_tmpfs_with_fanotify_alone() {
    with_fanotify_alone(Kind::Tmpfs);
}

/// Says that it is over when it goes out of scope.
struct Stopped<'a>(&'a AtomicBool);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn operations_during_the_first_sync_are_not_lost() {
    // A tree that changes while the first sync walks it.
    let seed = seed();
    let stop = AtomicBool::new(false);
    let mirror = needs!(Mirror::with(
        Kind::Ext4,
        |tree| {
            Ops::new(&tree.path(""), seed, WORKERS).without_mmap().run(3 * OPERATIONS);
            tree
        },
        |setup| setup
    ));
    let mut ops = Ops::new(&mirror.source_path(), seed + 1, WORKERS).without_mmap();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                ops.run(100);
            }
        });
        // The operations end with the wait, also with one that fails: otherwise this would never end.
        let _stopped = Stopped(&stop);
        mirror.daemon().wait();
    });
    judge(&mirror, &ops, 0);
}

#[test]
fn a_sender_that_is_killed_many_times_loses_nothing() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync has no process to be killed");
    }
    let mirror = needs!(Mirror::on(Kind::Ext4));
    let mut ops = Ops::new(&mirror.source_path(), seed(), WORKERS);
    if !mirror.daemon().sees_mapped_stores() {
        ops = ops.without_mmap();
    }
    let mut last = 0;
    for time in 0..KILLS {
        let batch = mirror.daemon().batch();
        thread::scope(|scope| {
            scope.spawn(|| ops.run(operations() / 10));
            if time % 3 == 0 {
                // A sender that did something: otherwise the pauses before it is started again grow long.
                eventually("a batch is durable", || (mirror.daemon().batch() > batch).then_some(()));
            }
            // Each time another process, at whatever it is doing.
            last = eventually("the sender is there again and killed", || {
                (mirror.daemon().sender() != Some(last)).then(|| mirror.daemon().kill_sender())?
            });
        });
    }
    judge(&mirror, &ops, 0);
}

/// How often the sender is killed.
const KILLS: u32 = 18;
