//! A service manager that holds the daemon's descriptors: the queue of name events outlives the daemon.

use std::fs;

use ebbtide_tests::{Client, Kind, Manager, Mirror, Setup, bytes, kib, needs, skip};

#[test]
fn a_queue_that_the_service_manager_kept_is_taken_over_where_no_bits_tell() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync has no queue");
    }
    let shape = |setup: Setup| setup.fanotify_alone();
    let mut mirror =
        needs!(Mirror::with(Kind::Xfs, |tree| tree.file("red/a", b"a").file("file", b"f"), shape));
    mirror.expect_synced();
    let mut manager = Manager::take_charge(mirror.daemon_mut());
    mirror.expect_synced();
    for round in 0..2 {
        let src = mirror.source_path();
        fs::write(src.join("file"), bytes(round, kib(3))).unwrap();
        mirror.daemon_mut().kill();
        fs::rename(src.join("red"), src.join("blue")).unwrap();
        fs::rename(src.join("blue"), src.join("red")).unwrap();
        fs::create_dir_all(src.join(format!("new{round}/deep"))).unwrap();
        fs::write(src.join(format!("new{round}/deep/file")), b"meanwhile").unwrap();
        fs::write(src.join("red/a"), round.to_string()).unwrap();
        manager.start_again(mirror.daemon_mut());
        mirror.expect_synced();
        let status = mirror.daemon().status();
        assert_eq!(
            status["mirrors"][0]["start"]["way"],
            "taken-over",
            "{status:#}\n{}",
            mirror.daemon().log()
        );
        assert_eq!(status["mirrors"][0]["taints"], 0, "{status:#}");
    }
}
