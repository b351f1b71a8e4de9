//! More than there is room for: small rings, bitmaps and queues overflow, the ledger's disk fills up. Each loss is
//! counted and shown, is answered by a comparison where it must be, and nothing is lost in the end. And at every
//! moment everything that was seen is handled, pending, or counted as lost.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ebbtide_tests::{
    Client, Kind, Mirror, Ops, Tree, bytes, eventually, expect_accounted, mib, needs, run, seed, skip,
};
use serde_json::Value;

/// A mirror that is started again with these variables of its environment, and is in step.
fn with_environment(variables: &[(&str, u32)]) -> Result<Mirror, ebbtide_tests::Skip> {
    let mut mirror = Mirror::on(Kind::Ext4)?;
    let daemon = mirror.daemon_mut();
    daemon.terminate();
    daemon.set_environment(variables.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())));
    daemon.start_again();
    mirror.expect_synced();
    Ok(mirror)
}

fn account(mirror: &Mirror) -> Value {
    mirror.daemon().status()["tracker"]["account"].clone()
}

fn count(account: &Value, name: &str) -> u64 {
    account[name].as_u64().unwrap_or_else(|| panic!("{name} is a counter: {account:#}"))
}

fn many(mirror: &Mirror, count: usize, content: &[u8]) {
    let mut tree = mirror.source();
    for number in 0..count {
        tree = tree.file(format!("{:02}/{number}", number % 50), content);
    }
}

/// Whether there is nothing to be seen of marks here.
fn no_marks(mirror: &Mirror) -> bool {
    !Client::under_test().is_ours() || mirror.daemon().status()["mirrors"][0]["plan"]["attributes"] != "ebpf"
}

#[test]
fn the_counters_add_up_at_every_moment_of_a_storm() {
    for fanotify_alone in [false, true] {
        let mirror =
            needs!(if fanotify_alone { Mirror::with_fanotify_on(Kind::Xfs) } else { Mirror::on(Kind::Ext4) });
        if !Client::under_test().is_ours() {
            skip!("stock rsync counts nothing");
        }
        let (stop, mut looks) = (AtomicBool::new(false), 0);
        let mut ops = Ops::new(&mirror.source_path(), seed(), 3).without_mmap();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    ops.run(100);
                }
            });
            while looks < LOOKS {
                let account = account(&mirror);
                if account["adds_up"] != true {
                    stop.store(true, Ordering::SeqCst);
                    panic!("after {looks} looks: {account:#}");
                }
                looks += 1;
            }
            stop.store(true, Ordering::SeqCst);
        });
        mirror.expect_synced();
        expect_accounted(mirror.daemon());
        let account = account(&mirror);
        assert!(count(&account["hints"], "seen") > 0, "{account:#}");
        assert_eq!(account["marks"]["seen"] != 0, !fanotify_alone, "{account:#}");
    }
}

#[test]
fn a_ring_that_is_full_loses_names_and_no_change() {
    let mirror = needs!(with_environment(&[("EBBTIDE_RING_BYTES", 4096)]));
    if no_marks(&mirror) {
        skip!("this kernel permits no programs that mark");
    }
    many(&mirror, 300, b"first");
    mirror.expect_synced();
    let before = account(&mirror);
    mirror.daemon().unseen(|| many(&mirror, 300, b"other"));
    mirror.expect_synced();
    let after = account(&mirror);
    assert!(count(&after, "lost_records") > count(&before, "lost_records"), "{after:#}");
    assert_eq!(count(&after, "lost_marks"), 0, "a lost name is no lost mark: {after:#}");
    expect_accounted(mirror.daemon());
}

#[test]
fn a_bitmap_that_is_full_is_counted_told_and_answered() {
    let mirror = needs!(with_environment(&[("EBBTIDE_CHUNKS", 1)]));
    if no_marks(&mirror) {
        skip!("this kernel permits no programs that mark");
    }
    // Inodes in more places than one chunk covers: ext4 spreads the directories of a top directory.
    run(Command::new("chattr").arg("+T").arg(mirror.source_path()));
    many(&mirror, 300, b"first");
    mirror.await_synced();
    mirror.daemon().unseen(|| many(&mirror, 300, b"other"));
    mirror.await_synced();
    let account = account(&mirror);
    assert!(count(&account, "lost_marks") > 0, "{account:#}");
    assert!(
        mirror.daemon().log().contains("the bitmap of changed inodes was full"),
        "{}",
        mirror.daemon().log()
    );
    let page = mirror.daemon().ask(&["status"]).stdout;
    assert!(String::from_utf8_lossy(&page).contains("  lost: "), "{}", page.escape_ascii());
    expect_accounted(mirror.daemon());
}

#[test]
fn a_queue_of_events_that_overflows_is_counted_told_and_answered() {
    let limit = fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap_or_default();
    let limit = limit.trim().parse().unwrap_or(usize::MAX);
    if limit > 50_000 || !Client::under_test().is_ours() {
        skip!("this machine queues {limit} events before it drops one");
    }
    let mirror = needs!(with_environment(&[("EBBTIDE_BOUNDED_QUEUE", 1)]));
    mirror.daemon().unseen(|| many(&mirror, limit + 1_000, b""));
    mirror.expect_synced();
    let account = account(&mirror);
    assert!(count(&account, "overflows") > 0, "{account:#}");
    assert!(mirror.daemon().log().contains("queue of name events overflowed"), "{}", mirror.daemon().log());
    expect_accounted(mirror.daemon());
}

#[test]
fn a_ledger_whose_disk_is_full_stops_taking_and_goes_on_when_there_is_room() {
    let mut mirror = needs!(Mirror::on(Kind::Ext4));
    if !Client::under_test().is_ours() {
        skip!("stock rsync keeps no ledger");
    }
    let disk = needs!(ebbtide_tests::FileSystem::sized(Kind::Tmpfs, mib(24)));
    mirror.daemon_mut().terminate();
    mirror.daemon_mut().keep_state_in(&disk.dir("state"));
    mirror.daemon_mut().start_again();
    mirror.expect_synced();
    // The destination is away, and what changes meanwhile finds no room.
    mirror.rsyncd().stop();
    let ballast = Tree::at(disk.root()).file("ballast", b"");
    let filled = fs::write(ballast.path("ballast"), bytes(1, mib(24)));
    assert!(filled.is_err(), "the disk is full");
    let name = "x".repeat(200);
    for round in 0..3 {
        let mut tree = mirror.source();
        for number in 0..1_000 {
            tree = tree.file(format!("{round}/{number}{name}"), b"x");
        }
    }
    eventually("the status says that the disk is full", || {
        let status = mirror.daemon().status().to_string();
        (status.contains("No space left") || mirror.daemon().log().contains("No space left")).then_some(())
    });
    assert!(!mirror.daemon().try_wait(1).success(), "nothing may be called done");
    ballast.remove("ballast");
    mirror.rsyncd().start_again();
    mirror.expect_synced();
    expect_accounted(mirror.daemon());
}

/// Looks at the counters during a storm.
const LOOKS: usize = 60;
