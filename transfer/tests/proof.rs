//! Success per file: one bad file of a large batch is told apart from the others, which are not sent again, and what a
//! daemon acknowledged before the connection was cut stays done.
#![allow(clippy::unwrap_used, reason = "helpers of tests too fail by panic")]

mod common;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::Command;

use common::{World, data, gone, wait_until};
use ebbtide_feed::{DestinationStatus, Fact};

/// Files of a batch, more than fit one take.
const BATCH: usize = 5_000;

/// The daemon's log tells each file that it received.
const LOGGING: &str = "transfer logging = yes\nlog format = got %f";

fn name(number: usize) -> String {
    format!("d{}/f{number}", number / 100)
}

/// A batch of small files, at the destination too, and the sender at rest.
fn batch(module_lines: &str) -> World {
    let mut world = World::new();
    world.stop_daemon();
    world.start_daemon(&format!("{LOGGING}\n{module_lines}"));
    write(&world, 1);
    world.start_sender();
    world.settle();
    forget_log(&world);
    world
}

/// Every file gets other content of another length.
fn write(world: &World, round: usize) {
    for number in 0..BATCH {
        let path = world.src(&name(number));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![round as u8; 100 + round]).unwrap();
    }
}

fn all() -> Vec<Fact> {
    (0..BATCH).map(|number| data(&name(number))).collect()
}

fn destination(world: &World) -> DestinationStatus {
    world.status().destinations.remove(0)
}

/// Waits until these names, and nothing else, are pending.
fn await_failing(world: &World, names: &[String]) -> DestinationStatus {
    let mut last = None;
    wait_until("only the bad names are pending", || {
        let status = destination(world);
        let mut failing: Vec<&str> = status.failing_names.iter().map(|(name, _)| name.as_str()).collect();
        failing.sort_unstable();
        let reached = failing == names && status.pending == names.len() as u64;
        last = Some(status);
        reached
    });
    last.unwrap()
}

fn forget_log(world: &World) {
    fs::File::options().write(true).truncate(true).open(world.path("daemon.log")).unwrap();
}

/// How often the destination received each file.
fn received(world: &World) -> HashMap<String, usize> {
    let log = fs::read_to_string(world.path("daemon.log")).unwrap();
    let mut received = HashMap::new();
    for (_, name) in log.lines().filter_map(|line| line.split_once("] got ")) {
        *received.entry(name.to_owned()).or_default() += 1;
    }
    received
}

fn assert_good_ones_came_once(world: &World, is_bad: impl Fn(usize) -> bool) {
    let received = received(world);
    let wrong: Vec<_> = (0..BATCH)
        .filter(|&number| !is_bad(number))
        .map(|number| (name(number), received.get(&name(number)).copied().unwrap_or_default()))
        .filter(|(_, times)| *times != 1)
        .take(5)
        .collect();
    assert!(wrong.is_empty(), "not received once: {wrong:?}");
}

fn assert_good_ones_are_equal(world: &World, is_bad: impl Fn(usize) -> bool) {
    let same = |path: &str| {
        let (source, copy) = (world.src(path), world.path("dest").join(path));
        let (of_source, of_copy) = (fs::metadata(&source).unwrap(), fs::metadata(&copy).unwrap());
        of_source.mtime() == of_copy.mtime() && fs::read(source).unwrap() == fs::read(copy).unwrap()
    };
    let wrong: Vec<_> =
        (0..BATCH).filter(|&number| !is_bad(number) && !same(&name(number))).take(5).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The file cannot be replaced until this is dropped.
struct Immutable(PathBuf);

impl Immutable {
    /// `None` where the file system has no such flag.
    fn new(path: PathBuf) -> Option<Immutable> {
        chattr("+i", &path).then(|| Immutable(path))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        chattr("-i", &self.0);
    }
}

fn chattr(change: &str, path: &PathBuf) -> bool {
    Command::new("chattr").arg(change).arg(path).status().is_ok_and(|status| status.success())
}

#[test]
fn a_file_that_cannot_be_replaced_costs_the_others_of_its_batch_nothing() {
    let mut world = batch("");
    let Some(immutable) = Immutable::new(world.path("dest").join(name(4250))) else { return };
    write(&world, 2);
    world.send(all());
    let status = await_failing(&world, &[name(4250)]);
    assert!(status.failing_names[0].1.contains("Operation not permitted"), "{status:?}");
    assert_good_ones_are_equal(&world, |number| number == 4250);
    assert_good_ones_came_once(&world, |number| number == 4250);
    drop(immutable);
    world.settle();
    world.assert_same();
}

#[test]
fn what_the_module_excludes_costs_the_others_of_its_batch_nothing() {
    let mut world = batch("exclude = /d7/extra /secret/");
    write(&world, 2);
    fs::write(world.src("d7/extra"), "never").unwrap();
    fs::create_dir(world.src("secret")).unwrap();
    fs::write(world.src("secret/a"), "nor this").unwrap();
    let more = ["d7/extra", "secret", "secret/a"];
    world.send(all().into_iter().chain(more.iter().map(|name| data(name))).collect());
    let status = await_failing(&world, &more.map(str::to_owned));
    assert!(status.failing_names.iter().all(|(_, why)| why.contains("daemon refused")), "{status:?}");
    assert_good_ones_are_equal(&world, |_| false);
    assert_good_ones_came_once(&world, |_| false);
    for name in ["d7/extra", "secret/a"] {
        fs::remove_file(world.src(name)).unwrap();
    }
    fs::remove_dir(world.src("secret")).unwrap();
    world.send(more.iter().map(|name| gone(name)).collect());
    world.settle();
    world.assert_same();
}

#[test]
fn a_directory_that_a_daemon_without_privileges_cannot_write_costs_the_others_nothing() {
    let mut world = World::new();
    world.stop_daemon();
    world.start_daemon(&format!("{LOGGING}\nuid = 65534\ngid = 65534"));
    for dir in ["", "dest"] {
        chown(world.path(dir), Some(65534), Some(65534)).unwrap();
    }
    write(&world, 1);
    world.start_sender();
    world.settle();
    let locked = world.path("dest").join("d3");
    chown(&locked, Some(0), Some(0)).unwrap();
    forget_log(&world);
    write(&world, 2);
    world.send(all());
    let is_bad = |number: usize| number / 100 == 3;
    wait_until("only the locked directory is pending", || {
        let status = destination(&world);
        let failing = status.failing_names.iter().all(|(name, _)| name == "d3" || name.starts_with("d3/"));
        failing && status.failing_names.len() >= 100 && status.pending <= 101
    });
    assert_good_ones_are_equal(&world, is_bad);
    assert_good_ones_came_once(&world, is_bad);
    chown(&locked, Some(65534), Some(65534)).unwrap();
    world.settle();
    assert_good_ones_are_equal(&world, |_| false);
}

/// A small file system over the destination; gone on drop.
struct Small(PathBuf);

impl Small {
    /// `None` without the right to mount.
    fn over(path: PathBuf) -> Option<Small> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=28m", "tmpfs"]).arg(&path);
        mount.status().is_ok_and(|status| status.success()).then(|| Small(path))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_file_that_is_too_large_for_the_disk_holds_up_nobody() {
    let mut world = World::new();
    world.stop_daemon();
    let Some(_small) = Small::over(world.path("dest")) else { return };
    world.start_daemon(LOGGING);
    write(&world, 1);
    world.start_sender();
    world.settle();
    write(&world, 2);
    fs::write(world.src("d40/huge"), vec![7; 12 << 20]).unwrap();
    world.send(all().into_iter().chain([data("d40/huge")]).collect());
    let status = await_failing(&world, &["d40/huge".to_owned()]);
    assert!(status.failing_names[0].1.contains("No space left"), "{status:?}");
    assert_good_ones_are_equal(&world, |_| false);
    // Tried again and again, it costs the others nothing.
    forget_log(&world);
    wait_until("it is tried again", || destination(&world).failures > status.failures + 1);
    assert!(received(&world).is_empty());
    fs::remove_file(world.src("d40/huge")).unwrap();
    world.send(vec![gone("d40/huge")]);
    world.settle();
    world.assert_same();
}

#[test]
fn what_a_daemon_acknowledged_before_it_died_is_not_sent_again() {
    const FILES: usize = 40;
    const SIZE: usize = 2 << 20;
    let mut world = World::new();
    world.stop_daemon();
    world.start_daemon(LOGGING);
    let name = |number: usize| format!("f{number:02}");
    let fill = |world: &World, round: u8| {
        (0..FILES)
            .for_each(|n| fs::write(world.src(&name(n)), vec![round; SIZE + usize::from(round)]).unwrap());
    };
    fill(&world, 1);
    world.start_sender();
    world.settle();
    forget_log(&world);
    fill(&world, 2);
    world.send((0..FILES).map(|n| data(&name(n))).collect());
    wait_until("the daemon logged half of the files", || received(&world).len() >= FILES / 2);
    world.stop_daemon();
    let mut pending = 0;
    wait_until("what it acknowledged is done", || {
        pending = destination(&world).pending;
        pending < FILES as u64
    });
    let before = received(&world);
    world.start_daemon(LOGGING);
    world.settle();
    world.assert_same();
    // What was logged and not acknowledged was still pending.
    let after = received(&world);
    let again = before.keys().filter(|name| after[*name] > 1).count();
    assert!(again as u64 <= pending, "{again} files were sent again, and {pending} were not done");
}
