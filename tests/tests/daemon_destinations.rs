//! Several destinations, some of them down, silent, hostile, full or locked: each goes its own way, and what was not
//! acknowledged waits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ebbtide_tests::{
    Authority, Client, Daemon, FileSystem, HostileDaemon, Kind, Module, Referee, Release, Rsyncd, Setup,
    Skip, Stage, Step, TlsProxy, Tree, bytes, honest_until, mib, needs, rsyncd_has_begun, run,
};

/// A source with something in it.
struct Source {
    fs: FileSystem,
}

impl Source {
    fn new() -> Result<Source, Skip> {
        let fs = FileSystem::new(Kind::Ext4)?;
        Tree::rich(&fs.dir("source"));
        Ok(Source { fs })
    }

    fn path(&self) -> PathBuf {
        self.fs.root().join("source")
    }

    fn tree(&self) -> Tree {
        Tree::at(&self.path())
    }

    fn destination(&self, name: &str) -> (PathBuf, Module) {
        let path = self.fs.beside(name);
        (path.clone(), Module::new("m", &path).chroot(true))
    }

    #[track_caller]
    fn equals(&self, destination: &Path) {
        Referee::default().expect_equal(&self.path(), destination);
    }
}

#[test]
fn a_tree_of_everything_is_synced_first() {
    for release in Release::ALL {
        let source = needs!(Source::new());
        let (path, module) = source.destination("d");
        Tree::at(&path).file("extra/file", b"x").file("kinds", b"in the way");
        let rsyncd = needs!(Rsyncd::start(release, [module]));
        let daemon = Setup::new(&source.path()).to(rsyncd.url("m")).start();
        daemon.wait();
        source.equals(&path);
    }
}

#[test]
fn a_destination_behind_a_tls_proxy_is_mirrored() {
    if !Client::under_test().is_ours() {
        // The stock client speaks no TLS by itself.
        return;
    }
    let source = needs!(Source::new());
    let (path, module) = source.destination("d");
    let rsyncd = needs!(Rsyncd::start(Release::Installed, [module]));
    let authority = Authority::new("test authority");
    let proxy = needs!(TlsProxy::stunnel(&rsyncd.address(), &authority.sign(&["localhost"]), None));
    let ca = authority.certificate().display().to_string();
    let daemon = Setup::new(&source.path()).to(proxy.url("localhost", "m")).option("--tls-ca", &ca).start();
    daemon.wait();
    source.equals(&path);
    source.tree().file("later", b"x");
    daemon.wait();
    source.equals(&path);
}

#[test]
fn without_delete_nothing_is_removed() {
    let source = needs!(Source::new());
    let (path, module) = source.destination("d");
    Tree::at(&path).file("extra/file", b"x");
    let rsyncd = needs!(Rsyncd::start(Release::Installed, [module]));
    let daemon = Setup::new(&source.path()).to(rsyncd.url("m")).keeping().start();
    daemon.wait();
    source.tree().remove("sizes/4096").file("fresh", b"news");
    daemon.wait();
    assert!(path.join("extra/file").exists() && path.join("sizes/4096").exists());
    Referee::default().without("/extra").without("/sizes/4096").expect_equal(&source.path(), &path);
}

#[test]
fn a_module_with_a_password_and_a_path_in_it_is_synced() {
    let source = needs!(Source::new());
    let (path, module) = source.destination("d");
    fs::create_dir(path.join("below")).unwrap();
    let rsyncd = needs!(Rsyncd::start(Release::Installed, [module.password("alice", "secret")]));
    let setup = Setup::new(&source.path()).to(format!("{}below/", rsyncd.url("m")));
    let daemon = setup.password_file(rsyncd.password_file("m")).start();
    daemon.wait();
    source.equals(&path.join("below"));
}

/// Runs one good destination beside `bad`, and expects that it follows whatever `bad` does.
fn good_beside(bad: &str, more: &[(&str, &str)]) -> Result<(Source, Daemon, Rsyncd), Skip> {
    let source = Source::new()?;
    let (path, module) = source.destination("good");
    let rsyncd = Rsyncd::start(Release::Installed, [module])?;
    let setup = Setup::new(&source.path()).to(bad).to(rsyncd.url("m"));
    let daemon = more.iter().fold(setup, |setup, (option, value)| setup.option(option, value)).start();
    Referee::default().await_equal(&source.path(), &path);
    source.tree().file("fresh", bytes(5, 100_000)).remove("sizes").mode("modes/f0644", 0o600);
    Referee::default().await_equal(&source.path(), &path);
    Ok((source, daemon, rsyncd))
}

#[test]
fn a_destination_that_is_down_waits_alone_and_catches_up() {
    let source = needs!(Source::new());
    let [(first, module), (second, other)] = ["first", "second"].map(|name| source.destination(name));
    let mut down = needs!(Rsyncd::start(Release::Installed, [module]));
    let up = needs!(Rsyncd::start(Release::Old, [other]));
    let daemon = Setup::new(&source.path()).to(down.url("m")).to(up.url("m")).start();
    daemon.wait();
    down.stop();
    source.tree().file("fresh", b"news").remove("owners").file("sizes/4096", b"changed");
    Referee::default().await_equal(&source.path(), &second);
    // A session that was under way ends with another error first.
    let waiting = daemon.destination(&down.url("m"), "the dead destination waits", |d| {
        d["state"] == "waiting" && d["last_error"].as_str().is_some_and(|e| e.contains("connect"))
    });
    assert!(waiting["pending"].as_u64() > Some(0), "{waiting:#}");
    assert!(!daemon.try_wait(1).success());
    down.start_again();
    daemon.wait();
    source.equals(&first);
    source.equals(&second);
}

#[test]
fn a_destination_that_dies_in_the_middle_of_a_session_catches_up() {
    let source = needs!(Source::new());
    let (path, module) = source.destination("d");
    let mut rsyncd = needs!(Rsyncd::start(Release::Installed, [module]));
    let daemon = Setup::new(&source.path()).to(rsyncd.url("m")).start();
    daemon.wait();
    for round in 0..5u8 {
        source.tree().file("huge", vec![round; mib(60)]);
        rsyncd_has_begun(&path, "huge", round);
        rsyncd.stop();
        rsyncd.start_again();
        // What a killed daemon leaves behind is not ours.
        daemon.wait();
    }
    for entry in fs::read_dir(&path).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".huge.") {
            // One of a session that sends it once more goes by itself.
            let _ = fs::remove_file(entry.path());
        }
    }
    Referee::with("-naHXAcO").expect_equal(&source.path(), &path);
}

#[test]
fn a_destination_that_falls_silent_does_not_hold_up_the_other() {
    for stage in [Stage::Greeting, Stage::Setup, Stage::Items] {
        let silent = HostileDaemon::playing(honest_until(stage).into_iter().chain([Step::Hang]));
        let (_source, daemon, _rsyncd) = needs!(good_beside(&silent.url(), &[("--timeout", "2")]));
        let failed = daemon
            .destination(&silent.url(), "its silence is a failure", |d| d["failures"].as_u64() > Some(0));
        assert!(failed["pending"].as_u64() > Some(0), "{failed:#}");
        assert!(silent.clients() > 0);
    }
}

#[test]
fn a_hostile_destination_does_not_hold_up_the_other() {
    let scripts = [
        vec![Step::SayForever(b"welcome\n".repeat(1_000))],
        vec![Step::Say(bytes(1, 50_000))],
        honest_until(Stage::Items).into_iter().chain([Step::request(i32::MAX, 131_072, 16, 0)]).collect(),
        honest_until(Stage::Items)
            .into_iter()
            .chain([Step::frame_that_claims(0, 0xff_ffff, &[0x55; 70_000])])
            .collect(),
        honest_until(Stage::Greeting)
            .into_iter()
            .chain([Step::Drip(b"@RSYNCD: 32.0 sha512\n".repeat(50))])
            .collect(),
    ];
    for script in scripts {
        let hostile = HostileDaemon::playing(script);
        let (_source, daemon, _rsyncd) = needs!(good_beside(&hostile.url(), &[("--timeout", "2")]));
        let failed =
            daemon.destination(&hostile.url(), "the hostile one fails", |d| !d["last_error"].is_null());
        let error = failed["last_error"].as_str().unwrap_or_default();
        assert!(error.contains(&hostile.address()) || failed["url"] == hostile.url(), "{failed:#}");
        assert!(failed["pending"].as_u64() > Some(0), "{failed:#}");
        let pid = daemon.sender().expect("the sender lives");
        let memory = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let peak = memory
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap()
            .trim_end_matches("kB")
            .trim();
        assert!(peak.parse::<usize>().unwrap() < 300_000, "the sender took {peak} KiB");
    }
}

#[test]
fn a_password_that_is_wrong_is_told_and_tried_again() {
    let source = needs!(Source::new());
    let (path, module) = source.destination("d");
    let rsyncd = needs!(Rsyncd::start(Release::Installed, [module.password("alice", "right")]));
    let right = rsyncd.password_file("m");
    let wrong = source.fs.beside("secrets").join("password");
    fs::write(&wrong, "wrong\n").unwrap();
    fs::set_permissions(&wrong, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let daemon = Setup::new(&source.path()).to(rsyncd.url("m")).password_file(wrong.clone()).start();
    let failed =
        daemon.destination(&rsyncd.url("m"), "the password is refused", |d| !d["last_error"].is_null());
    assert!(failed["last_error"].as_str().is_some_and(|e| e.contains("auth failed")), "{failed:#}");
    // The administrator mends it; nothing needs to be started again.
    fs::copy(right, &wrong).unwrap();
    daemon.wait();
    source.equals(&path);
}

/// Waits until the status shows `name` as one that keeps failing.
fn shown_as_failing(daemon: &Daemon, url: &str, name: &str) {
    let shown = daemon.destination(url, "the name is shown as failing", |d| {
        d["failing_names"].as_array().is_some_and(|names| names.iter().any(|n| n[0] == name))
    });
    assert!(shown["pending"].as_u64() > Some(0), "{shown:#}");
}

#[test]
fn a_name_that_cannot_be_stored_waits_by_itself_and_is_shown() {
    let source = needs!(Source::new());
    let small = needs!(FileSystem::sized(Kind::Ext4, mib(64)));
    let path = small.dir("d");
    let rsyncd = needs!(Rsyncd::start(Release::Installed, [Module::new("m", &path).chroot(true)]));
    let daemon = Setup::new(&source.path()).to(rsyncd.url("m")).start();
    daemon.wait();
    let immutable = |change: &str| drop(run(Command::new("chattr").arg(change).arg(path.join("sizes/4096"))));
    immutable("+i");
    source.tree().file("sizes/4096", b"cannot be replaced").file("fresh", b"news").remove("owners");
    let others = Referee::default().without("/sizes/4096");
    others.await_equal(&source.path(), &path);
    shown_as_failing(&daemon, &rsyncd.url("m"), "sizes/4096");
    source.tree().file("later", b"still going");
    others.await_equal(&source.path(), &path);
    immutable("-i");
    daemon.wait();
    source.equals(&path);
}

#[test]
fn a_name_that_the_daemon_protects_is_shown_until_it_is_gone() {
    let source = needs!(Source::new());
    let (path, module) = source.destination("d");
    let rsyncd = needs!(Rsyncd::start(Release::Installed, [module.option("exclude", "/refused")]));
    let daemon = Setup::new(&source.path()).to(rsyncd.url("m")).start();
    daemon.wait();
    source.tree().file("refused", b"never").file("fresh", b"news").remove("sizes");
    Referee::default().without("/refused").await_equal(&source.path(), &path);
    shown_as_failing(&daemon, &rsyncd.url("m"), "refused");
    // Gone from the source, there is nothing left that could fail: rsync's own deletion spares it without a word.
    source.tree().remove("refused");
    daemon.wait();
    source.equals(&path);
}

#[test]
fn a_destination_that_was_full_catches_up_when_there_is_room() {
    let source = needs!(Source::new());
    let small = needs!(FileSystem::sized(Kind::Ext4, mib(64)));
    fs::remove_dir(small.root().join("lost+found")).unwrap();
    let ballast = Tree::at(small.root()).file("d/ballast", vec![1; mib(50)]).remove("d/ballast");
    let path = ballast.path("d");
    Tree::at(small.root()).file("ballast", vec![1; mib(45)]);
    let rsyncd = needs!(Rsyncd::start(Release::Installed, [Module::new("m", &path).chroot(true)]));
    source.tree().file("big", bytes(3, mib(20)));
    let daemon = Setup::new(&source.path()).to(rsyncd.url("m")).start();
    daemon.destination(&rsyncd.url("m"), "the disk is full", |d| {
        let said = |text: &serde_json::Value| text.to_string().contains("No space left");
        said(&d["last_error"]) || said(&d["failing_names"])
    });
    Tree::at(small.root()).remove("ballast");
    daemon.wait();
    source.equals(&path);
}

#[test]
fn a_daemon_that_is_started_again_follows_on() {
    for clean in [true, false] {
        let source = needs!(Source::new());
        let (path, module) = source.destination("d");
        let rsyncd = needs!(Rsyncd::start(Release::Installed, [module]));
        let mut daemon = Setup::new(&source.path()).to(rsyncd.url("m")).start();
        daemon.wait();
        if clean {
            assert!(daemon.terminate().success(), "{}", daemon.log());
        } else {
            daemon.kill();
        }
        source
            .tree()
            .file("meanwhile", b"changed while nobody looked")
            .remove("owners")
            .file("sizes/4096", b"too");
        daemon.start_again();
        daemon.wait();
        source.tree().file("after", b"and after");
        daemon.wait();
        source.equals(&path);
    }
}

#[test]
fn term_during_a_long_session_ends_soon_and_loses_nothing() {
    let source = needs!(Source::new());
    let (path, module) = source.destination("d");
    let rsyncd = needs!(Rsyncd::start(Release::Installed, [module]));
    source.tree().file("huge", bytes(8, mib(60)));
    // What is sent a second time need not wait for what the first time took.
    let mut daemon = Setup::new(&source.path()).to(rsyncd.url("m")).option("--rest", "0").start();
    assert!(daemon.terminate().success(), "{}", daemon.log());
    daemon.start_again();
    daemon.wait();
    source.equals(&path);
}
