//! The sender as ebbtide's half, against a real rsync daemon: what is told over the feed stands at the destination.
#![allow(clippy::unwrap_used, reason = "helpers of tests too fail by panic")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{World, attributes, data, gone, path, root, wait_until};
use ebbtide_feed::codec;
use ebbtide_feed::{Fact, ToSender};

fn fill(at: &Path) {
    fs::create_dir_all(at.join("a/b")).unwrap();
    fs::create_dir_all(at.join("empty")).unwrap();
    fs::write(at.join("a/one"), "one").unwrap();
    fs::write(at.join("a/b/two"), vec![7; 300_000]).unwrap();
    fs::write(at.join("new\nline"), "odd").unwrap();
    symlink("a/one", at.join("link")).unwrap();
    fs::hard_link(at.join("a/one"), at.join("a/b/one again")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at.join("fifo"), rustix::fs::Mode::RWXU).unwrap();
}

#[test]
fn the_first_sync_copies_everything_and_removes_what_is_extraneous() {
    let mut world = World::new();
    fill(&world.path("src"));
    fs::create_dir_all(world.path("dest").join("old/deep")).unwrap();
    fs::write(world.path("dest").join("old/deep/f"), "x").unwrap();
    world.start_sender();
    world.settle();
    world.assert_same();
}

#[test]
fn changes_told_over_the_feed_stand_at_the_destination() {
    let mut world = World::new();
    fill(&world.path("src"));
    world.start_sender();
    world.settle();

    fs::write(world.src("a/one"), "two").unwrap();
    fs::write(world.src("a/new"), "new").unwrap();
    fs::remove_file(world.src("a/b/two")).unwrap();
    fs::set_permissions(world.src("empty"), fs::Permissions::from_mode(0o700)).unwrap();
    world.send(vec![
        data("a/one"),
        data("a/new"),
        attributes("a"),
        gone("a/b/two"),
        attributes("a/b"),
        attributes("empty"),
    ]);
    world.wait_durable();
    world.settle();
    world.assert_same();

    fs::remove_dir_all(world.src("a")).unwrap();
    fs::remove_file(world.src("link")).unwrap();
    fs::create_dir(world.src("link")).unwrap();
    fs::write(world.src("link/f"), "was a symlink").unwrap();
    world.send(vec![
        gone("a"),
        gone("a/b"),
        gone("a/one"),
        root(),
        gone("link"),
        data("link"),
        data("link/f"),
    ]);
    world.settle();
    world.assert_same();
}

#[test]
fn a_renamed_directory_that_takes_anothers_place_is_compared_after_the_old_one_is_removed() {
    let mut world = World::new();
    for (dir, content) in [("x", "from x"), ("y", "from y")] {
        fs::create_dir(world.src(dir)).unwrap();
        fs::write(world.src(dir).join("f"), content).unwrap();
        let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
        fs::File::options().write(true).open(world.src(dir).join("f")).unwrap().set_times(times).unwrap();
    }
    world.start_sender();
    world.settle();
    fs::remove_dir_all(world.src("y")).unwrap();
    fs::rename(world.src("x"), world.src("y")).unwrap();
    let moved = Fact::Moved { from: path("x"), to: path("y") };
    world.send(vec![
        gone("x"),
        Fact::Subtree { dir: path("y"), replaced: true },
        moved,
        root(),
        attributes("y"),
    ]);
    world.settle();
    world.assert_same();
}

#[test]
fn a_write_that_keeps_size_and_time_is_sent() {
    let mut world = World::new();
    fs::write(world.src("f"), "aaaa").unwrap();
    world.start_sender();
    world.settle();
    let times = fs::metadata(world.src("f")).unwrap().modified().unwrap();
    fs::write(world.src("f"), "bbbb").unwrap();
    let file = fs::File::options().write(true).open(world.src("f")).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(times)).unwrap();
    world.send(vec![data("f")]);
    world.settle();
    world.assert_same();
}

#[test]
fn writing_to_one_name_of_a_file_keeps_the_others_linked() {
    let mut world = World::new();
    fs::write(world.src("one"), "one").unwrap();
    world.start_sender();
    world.settle();
    fs::hard_link(world.src("one"), world.src("two")).unwrap();
    world.send(vec![data("one"), data("two"), root()]);
    world.settle();
    world.assert_same();
    fs::write(world.src("two"), "changed").unwrap();
    world.send(vec![data("two")]);
    world.settle();
    world.assert_same();
}

#[test]
fn a_relisted_directory_is_compared_without_looking_below() {
    let mut world = World::new();
    fill(&world.path("src"));
    world.start_sender();
    world.settle();
    fs::remove_file(world.src("a/one")).unwrap();
    fs::write(world.src("a/three"), "3").unwrap();
    world.send(vec![Fact::Relist { dir: path("a") }, attributes("a/b/one again")]);
    world.settle();
    world.assert_same();
}

#[test]
fn facts_wait_durably_for_a_daemon_that_is_down() {
    let mut world = World::new();
    world.start_sender();
    world.settle();
    world.stop_daemon();
    fs::write(world.src("f"), "later").unwrap();
    world.send(vec![data("f"), root()]);
    world.wait_durable();
    wait_until("the failure is told", || {
        let status = world.status();
        status.destinations[0].last_error.as_ref().is_some_and(|error| error.contains("connecting"))
    });
    world.kill_sender();
    world.start_sender();
    world.start_daemon("");
    world.settle();
    world.assert_same();
}

#[test]
fn a_killed_sender_loses_nothing_that_it_called_durable() {
    let mut world = World::new();
    world.start_sender();
    for round in 0..10 {
        for n in 0..20 {
            let name = format!("{}", (round * 7 + n) % 40);
            if n % 5 == 4 {
                let _ = fs::remove_file(world.src(&name));
                world.send(vec![gone(&name), root()]);
            } else {
                fs::write(world.src(&name), format!("{round} {n}")).unwrap();
                world.send(vec![data(&name), root()]);
            }
        }
        world.wait_durable();
        world.kill_sender();
        world.start_sender();
    }
    world.settle();
    world.assert_same();
}

#[test]
fn a_name_that_fails_does_not_hold_up_the_others() {
    let mut world = World::new();
    fs::create_dir(world.src("d")).unwrap();
    fs::write(world.src("d/f"), "1").unwrap();
    world.start_sender();
    world.settle();
    let locked = world.path("dest").join("d");
    let set = |flag| assert!(Command::new("chattr").arg(flag).arg(&locked).status().unwrap().success());
    if !Command::new("chattr").arg("+i").arg(&locked).status().is_ok_and(|status| status.success()) {
        return;
    }
    fs::write(world.src("d/f"), "22").unwrap();
    fs::write(world.src("g"), "3").unwrap();
    world.send(vec![data("d/f"), data("g"), root()]);
    wait_until("the other file stands", || world.path("dest").join("g").exists());
    wait_until("the failing name is told", || {
        world.status().destinations[0].failing_names.iter().any(|(name, _)| name == "d/f")
    });
    set("-i");
    world.settle();
    assert!(world.status().destinations[0].failing_names.is_empty());
    world.assert_same();
}

/// A listener that treats everyone who connects in the same way.
fn hostile(treat: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(treat));
    format!("rsync://127.0.0.1:{port}/m/")
}

#[test]
fn hostile_destinations_are_told_apart_and_do_not_disturb_the_others() {
    let mut world = World::new();
    world.timeout_s = 2;
    let silent = std::sync::Mutex::new(Vec::new());
    world.others = vec![
        hostile(|mut peer| drop(peer.write_all(&[0xa5; 100_000]))),
        hostile(|mut peer| {
            drop(peer.write_all(b"@RSYNCD: 32.0 sha512 md5\n@RSYNCD: OK\n\xff\xff\xff\xff\xff\xff"));
        }),
        hostile(move |peer| silent.lock().unwrap().push(peer)),
    ];
    fill(&world.path("src"));
    world.start_sender();
    wait_until("the good destination has everything", || world.status().destinations[0].pending == 0);
    world.assert_same();
    wait_until("every hostile one is told", || {
        world.status().destinations[1..].iter().all(|to| to.last_error.is_some() && to.pending == 1)
    });
    let status = world.status();
    for (to, stage) in status.destinations[1..].iter().zip(["greeting", "", "greeting"]) {
        let error = to.last_error.as_ref().unwrap();
        assert!(error.contains(&to.url) && error.contains(stage), "{error}");
    }
}

#[test]
fn a_wrong_password_is_told_and_the_right_one_is_taken_up() {
    let mut world = World::new();
    world.stop_daemon();
    let (secrets, password) = (world.path("secrets"), world.path("password"));
    for (file, text) in [(&secrets, "backup:right\n"), (&password, "wrong\n")] {
        fs::write(file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    world.password_file = Some(password.clone());
    world.user = "backup@".into();
    world.start_daemon(&format!("auth users = backup\nsecrets file = {}", secrets.display()));
    fs::write(world.src("f"), "x").unwrap();
    world.start_sender();
    let refused = |error: &String| error.contains("auth failed") && error.contains("password");
    wait_until("the refusal is told", || {
        world.status().destinations[0].last_error.as_ref().is_some_and(refused)
    });
    fs::write(&password, "right\n").unwrap();
    world.settle();
    world.assert_same();
}

#[test]
fn the_sender_ends_well_when_it_is_told_to_and_when_the_feed_closes() {
    for told in [true, false] {
        let mut world = World::new();
        fs::write(world.src("f"), "x").unwrap();
        world.start_sender();
        let mut sender = world.sender.take().unwrap();
        if told {
            codec::write(&sender.feed, &ToSender::Stop).unwrap();
        } else {
            sender.feed.shutdown(std::net::Shutdown::Both).unwrap();
        }
        assert!(sender.child.wait().unwrap().success());
    }
}

#[test]
fn check_tells_what_each_destination_answers() {
    let mut world = World::new();
    let start = world.start_message();
    for reachable in [true, false] {
        if !reachable {
            world.stop_daemon();
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_ebbtide-send"))
            .arg("--ebbtide-check")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        codec::write(child.stdin.take().unwrap(), &start).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(child.wait().unwrap().success());
        let answers: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answers[0]["ok"], reachable, "{line}");
        assert_eq!(answers[0]["error"].is_null(), reachable, "{line}");
    }
}
