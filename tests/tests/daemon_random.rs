//! Random operations while ebbtide runs, then the barrier, then the referee, who must have nothing to say. Seeds are
//! printed; `EBBTIDE_SEED` replays one, `EBBTIDE_OPS` makes a run longer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ebbtide_tests::{Kind, Mirror, Ops, eventually, needs, seed};

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
        mirror.daemon().wait();
        stop.store(true, Ordering::SeqCst);
    });
    judge(&mirror, &ops, 0);
}

/// Runs operations and, at the same time, `harm` so many times; then the verdict.
fn while_being_harmed(kind: Kind, times: usize, harm: impl Fn(&Mirror, usize) + Sync) {
    let mirror = needs!(Mirror::on(kind));
    let mut ops = Ops::new(&mirror.source_path(), seed(), WORKERS);
    if !mirror.daemon().sees_mapped_stores() {
        ops = ops.without_mmap();
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..times).for_each(|time| harm(&mirror, time));
            over.store(true, Ordering::SeqCst);
        });
        while !over.load(Ordering::SeqCst) {
            ops.run(50);
        }
    });
    judge(&mirror, &ops, 0);
}

#[test]
fn a_sender_that_is_killed_many_times_loses_nothing() {
    let last = std::sync::atomic::AtomicU32::new(0);
    while_being_harmed(Kind::Ext4, 25, |mirror, _| {
        // Each time another process, at whatever it is doing.
        let killed = eventually("the sender is there again and killed", || {
            let pid = mirror.daemon().kill_sender()?;
            (pid == 0 || pid != last.load(Ordering::SeqCst)).then_some(pid)
        });
        last.store(killed, Ordering::SeqCst);
    });
}
