//! A hundred destinations, ten of which fail, each in its own way: the others do not notice.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ebbtide_tests::{
    Client, Daemon, FileSystem, HostileDaemon, Kind, Module, Occupied, Proxy, Referee, Release, Rsyncd,
    Setup, Stage, Step, Tree, bytes, eventually, honest_until, needs, run, skip,
};
use serde_json::Value;

/// Destinations that work.
const HEALTHY: usize = 90;

/// The config of one mirror.
struct Config(String);

impl Config {
    fn new(source: &Path) -> Config {
        Config(format!("[[mirror]]\nsource = {source:?}\ndelete = true\n"))
    }

    fn to(&mut self, url: &str, more: &str) {
        self.0 += &format!("[[mirror.to]]\nurl = {url:?}\n{more}\n");
    }
}

/// Modules of one daemon, each with a folder of its own.
fn modules(folder: &Path, names: impl Iterator<Item = String>) -> Vec<(Module, PathBuf)> {
    let module = |name: String| {
        let path = folder.join(&name);
        fs::create_dir_all(&path).expect("scratch is writable");
        (Module::new(&name, &path).chroot(true), path)
    };
    names.map(module).collect()
}

fn destinations(daemon: &Daemon) -> Vec<Value> {
    daemon.transfer()["destinations"].as_array().cloned().unwrap_or_default()
}

#[test]
fn ninety_destinations_follow_while_ten_fail_in_ten_ways() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync has one destination");
    }
    let fs = needs!(FileSystem::new(Kind::Ext4));
    let source = fs.dir("source");
    Tree::at(&source).file("a/f", bytes(1, 5_000)).file("g", b"first");
    let healthy = modules(&fs.beside("healthy"), (0..HEALTHY).map(|n| format!("m{n}")));
    let good = needs!(Rsyncd::start(Release::Installed, healthy.iter().map(|(module, _)| module.clone())));
    let names = ["read-only", "secret", "limited", "shut", "excluded", "refusing"].map(str::to_owned);
    let ill = modules(&fs.beside("ill"), names.into_iter());
    let lock_file = fs.beside("locks").join("lock");
    let lock = lock_file.display().to_string();
    let shaped = ill.iter().map(|(module, path)| match path.file_name().and_then(|name| name.to_str()) {
        Some("read-only") => module.clone().read_only(),
        Some("secret") => module.clone().password("alice", "secret"),
        Some("limited") => module.clone().option("max connections", "1").option("lock file", &lock),
        Some("excluded") => module.clone().option("exclude", "/g"),
        Some("refusing") => module.clone().refuse("delete"),
        _ => module.clone(),
    });
    let bad = needs!(Rsyncd::start(Release::Installed, shaped));
    // Nothing can be made in a directory that is immutable.
    let shut = Immutable::new(&ill[3].1);
    let _others = Occupied::new(&lock_file);
    let silent = HostileDaemon::playing(honest_until(Stage::Greeting).into_iter().chain([Step::Hang]));
    let noisy = HostileDaemon::playing(vec![Step::Say(bytes(1, 50_000))]);
    let hole = Proxy::to(&good.address());
    hole.hold();
    let wrong = fs.beside("secrets").join("wrong");
    fs::write(&wrong, "wrong\n").expect("scratch is writable");
    fs::set_permissions(&wrong, fs::Permissions::from_mode(0o600)).expect("it is ours");

    let mut config = Config::new(&source);
    for name in ["read-only", "limited", "shut", "excluded", "refusing"] {
        config.to(&bad.url(name), "");
    }
    config.to(&bad.url("secret"), &format!("password-file = {wrong:?}"));
    config.to(&format!("rsync://{}/unknown/", bad.address()), "");
    // A hundred of them on a slow machine may be silent for longer than this: those that work have the usual limits.
    let soon = "timeout = 2\ncontimeout = 2";
    config.to(&format!("rsync://{}/m0/", hole.address()), soon);
    config.to(&silent.url(), soon);
    config.to(&noisy.url(), soon);
    healthy.iter().enumerate().for_each(|(n, _)| config.to(&good.url(&format!("m{n}")), ""));
    let daemon = Setup::from_file(&config.0).start();

    let all_follow = || healthy.iter().for_each(|(_, path)| Referee::default().await_equal(&source, path));
    all_follow();
    let ill_ones = |daemon: &Daemon| {
        let all = destinations(daemon);
        let healthy: Vec<String> = (0..HEALTHY).map(|n| good.url(&format!("m{n}"))).collect();
        all.into_iter().filter(|d| !healthy.iter().any(|url| d["url"] == *url)).collect::<Vec<_>>()
    };
    let says_why = |d: &Value| {
        !d["last_error"].is_null() || d["failing_names"].as_array().is_some_and(|n| !n.is_empty())
    };
    eventually("each of the ten says why it fails", || {
        let ill = ill_ones(&daemon);
        (ill.len() == 10 && ill.iter().all(says_why)).then_some(())
    });
    // They still fail, and all others still follow.
    for round in 0..3u8 {
        Tree::at(&source).file("g", vec![round; 2_000]).file(format!("b/{round}"), b"news").remove("a");
        Tree::at(&source).file("a/f", [round]);
        all_follow();
        for d in ill_ones(&daemon) {
            assert!(d["pending"].as_u64() > Some(0), "nothing of it is done: {d:#}");
        }
    }
    eventually("each healthy one is in step", || {
        let all = destinations(&daemon);
        let done = all.iter().filter(|d| d["pending"] == 0 && d["state"] == "idle").count();
        (done == HEALTHY).then_some(())
    });
    drop(shut);
}

/// A folder in which nothing can be changed, until it is dropped.
struct Immutable(PathBuf);

impl Immutable {
    fn new(path: &Path) -> Immutable {
        run(std::process::Command::new("chattr").arg("+i").arg(path));
        Immutable(path.to_owned())
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = std::process::Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}
