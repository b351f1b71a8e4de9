//! What a daemon will not do is learnt once, done without where that is possible, and told where it is not.
#![allow(clippy::unwrap_used, reason = "helpers of tests too fail by panic")]

mod common;

use std::fs;

use common::{World, data, gone, wait_until};

fn refusing(options: &str) -> World {
    let mut world = World::new();
    world.stop_daemon();
    world.start_daemon(&format!("refuse options = {options}"));
    world
}

#[test]
fn options_that_can_be_done_without_are_asked_for_once_and_never_again() {
    let mut world = refusing("compress delete-missing-args log-format remove-source-files");
    for name in ["a", "b"] {
        fs::write(world.src(name), name.repeat(1000)).unwrap();
    }
    world.start_sender();
    world.settle();
    fs::remove_file(world.src("a")).unwrap();
    fs::write(world.src("b"), "changed").unwrap();
    world.send(vec![gone("a"), data("b")]);
    world.settle();
    world.assert_same();
    let status = world.status().destinations.remove(0);
    // Compression is refused with an error, --delete-missing-args is dropped without one.
    assert_eq!(status.failures, 1, "{status:?}");
    let dialect = status.dialect.unwrap();
    assert!(dialect.contains("refuses --delete-missing-args, --compress"), "{dialect}");
    // What was learnt outlives the process, once a later batch is durable.
    world.send(vec![data("b")]);
    world.settle();
    world.send(vec![data("b")]);
    world.wait_durable();
    world.settle();
    world.kill_sender();
    world.start_sender();
    fs::remove_file(world.src("b")).unwrap();
    fs::write(world.src("c"), "new").unwrap();
    world.send(vec![gone("b"), data("c")]);
    world.settle();
    world.assert_same();
    let status = world.status().destinations.remove(0);
    assert_eq!(status.failures, 0, "{status:?}");
}

#[test]
fn a_module_that_refuses_to_delete_is_told_with_what_to_change() {
    let mut world = refusing("delete");
    fs::write(world.src("a"), "a").unwrap();
    world.start_sender();
    wait_until("the refusal is told", || world.status().destinations[0].last_error.is_some());
    let status = world.status().destinations.remove(0);
    let error = status.last_error.unwrap();
    assert!(error.contains("refuse --delete") && error.contains("set `delete = false`"), "{error}");
    assert!(status.pending > 0);
}

#[test]
fn a_daemon_that_was_trusted_and_now_wants_a_password_is_told() {
    let mut world = World::new();
    fs::write(world.src("a"), "a").unwrap();
    world.start_sender();
    world.settle();
    world.stop_daemon();
    let secrets = world.path("secrets");
    fs::write(&secrets, "u:p\n").unwrap();
    world.start_daemon(&format!("auth users = u\nsecrets file = {}", secrets.display()));
    fs::write(world.src("a"), "changed").unwrap();
    world.send(vec![data("a")]);
    wait_until("the refusal is told", || {
        let error = world.status().destinations.remove(0).last_error;
        error.is_some_and(|error| error.contains("password") || error.contains("auth failed"))
    });
    world.stop_daemon();
    world.start_daemon("");
    world.settle();
    world.assert_same();
}
