//! Destinations that fail in every way that destinations do, beside one that works. Each failure is told with its plain
//! reason, ends by itself when its cause does, marks nothing as done that was not sent, and holds up nobody else.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use ebbtide_tests::{
    Client, Daemon, FileSystem, Kind, Module, Occupied, Proxy, Referee, Release, Rsyncd, Scratch, Setup,
    Skip, Tree, bytes, eventually, mib, needs, rsyncd_has_begun, run, skip,
};

/// A source, a destination that is going to fail, and one that works.
struct Pair {
    daemon: Daemon,
    failing: Rsyncd,
    /// Between ebbtide and the one that fails.
    proxy: Proxy,
    _working: Rsyncd,
    fs: FileSystem,
    changes: u32,
}

impl Pair {
    /// Both in step with a tree of everything.
    fn new() -> Result<Pair, Skip> {
        Pair::with(|module| module, |setup, _| setup)
    }

    fn with(
        shape: impl FnOnce(Module) -> Module,
        options: impl FnOnce(Setup, &Rsyncd) -> Setup,
    ) -> Result<Pair, Skip> {
        let fs = FileSystem::new(Kind::Ext4)?;
        Tree::rich(&fs.dir("source"));
        let module = |name: &str| Module::new("m", &fs.beside(name)).chroot(true);
        let failing = Rsyncd::start(Release::Installed, [shape(module("failing"))])?;
        let working = Rsyncd::start(Release::Installed, [module("working")])?;
        let proxy = Proxy::to(&failing.address());
        let setup = Setup::new(&fs.root().join("source"))
            .to(failing.url_at("m", &proxy.address()))
            .to(working.url("m"))
            .option("--timeout", "3")
            .option("--contimeout", "3");
        let daemon = options(setup, &failing).start();
        daemon.wait();
        Ok(Pair { daemon, failing, proxy, _working: working, fs, changes: 0 })
    }

    fn source(&self) -> PathBuf {
        self.fs.root().join("source")
    }

    fn destination(&self, name: &str) -> PathBuf {
        self.fs.beside(name)
    }

    fn module(&self) -> Module {
        Module::new("m", &self.destination("failing")).chroot(true)
    }

    /// Some changes of all kinds, another one each time.
    fn change(&mut self) {
        self.changes += 1;
        let n = self.changes;
        Tree::at(&self.source())
            .file(format!("fresh/{n}"), bytes(u64::from(n), 50_000))
            .file("sizes/4096", format!("changed {n}"))
            .mode("modes/f0644", 0o600 + (n % 2) * 0o44);
    }

    /// While the one fails the other follows; and the reason is told.
    #[track_caller]
    fn expect_failing(&mut self, reason: &str) {
        self.change();
        let (source, working) = (self.source(), self.destination("working"));
        Referee::default().await_equal(&source, &working);
        let url = self.failing.url_at("m", &self.proxy.address());
        let status = self.daemon.destination(&url, reason, |d| {
            let said = |text: &serde_json::Value| text.to_string().contains(reason);
            said(&d["last_error"]) || said(&d["failing_names"])
        });
        assert!(status["pending"].as_u64() > Some(0), "{status:#}");
        assert!(!self.daemon.try_wait(1).success(), "nothing may be called done");
        // A second look: it fails again, and the other one follows again.
        self.change();
        Referee::default().await_equal(&source, &working);
    }

    /// It recovers by itself.
    #[track_caller]
    fn expect_recovery(&mut self) {
        self.daemon.wait();
        Referee::default().expect_equal(&self.source(), &self.destination("failing"));
        self.change();
        self.daemon.wait();
        for name in ["failing", "working"] {
            Referee::default().expect_equal(&self.source(), &self.destination(name));
        }
        let url = self.failing.url_at("m", &self.proxy.address());
        self.daemon.destination(&url, "no error is left", |d| d["last_error"].is_null() && d["pending"] == 0);
    }
}

/// Whether there is no ebbtide to be asked how it is.
fn stock() -> bool {
    !Client::under_test().is_ours()
}

#[test]
fn a_connection_that_is_refused() {
    if stock() {
        skip!("stock rsync has no status");
    }
    let mut pair = needs!(Pair::new());
    pair.failing.stop();
    // The proxy accepts, and the daemon behind it is not there.
    pair.expect_failing("greeting");
    pair.failing.start_again();
    pair.expect_recovery();
}

#[test]
fn a_connection_that_is_cut_again_and_again() {
    if stock() {
        skip!("stock rsync has no status");
    }
    let mut pair = needs!(Pair::new());
    let destination = pair.destination("failing");
    for round in 0..3u8 {
        Tree::at(&pair.source()).file("huge", vec![round; mib(40)]);
        rsyncd_has_begun(&destination, "huge", round);
        pair.proxy.cut();
    }
    pair.expect_recovery();
}

#[test]
fn a_network_that_swallows_everything() {
    if stock() {
        skip!("stock rsync has no status");
    }
    let mut pair = needs!(Pair::new());
    pair.proxy.hold();
    pair.expect_failing("no connection within 3 s");
    pair.proxy.release();
    pair.expect_recovery();
}

#[test]
fn a_password_that_is_changed() {
    if stock() {
        skip!("stock rsync has no status");
    }
    let secrets = Scratch::new("secrets");
    let file = secrets.path().join("password");
    let write = |password: &str| {
        fs::write(&file, format!("{password}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("first");
    let set = |setup: Setup, _: &Rsyncd| setup.password_file(file.clone());
    let mut pair = needs!(Pair::with(|module| module.password("alice", "first"), set));
    let changed = pair.module().password("alice", "second");
    pair.failing.set_modules([changed]);
    pair.expect_failing("auth failed on module m");
    write("second");
    pair.expect_recovery();
}

#[test]
fn a_module_that_is_removed() {
    if stock() {
        skip!("stock rsync has no status");
    }
    let mut pair = needs!(Pair::new());
    let module = pair.module();
    pair.failing.set_modules([Module::new("another", &pair.destination("failing"))]);
    pair.changes += 1;
    Tree::at(&pair.source()).file("fresh/while-removed", b"x");
    let url = format!("rsync://{}/m/", pair.proxy.address());
    let status = pair.daemon.destination(&url, "the module is unknown", |d| {
        d["last_error"].as_str().is_some_and(|e| e.contains("Unknown module 'm'"))
    });
    assert!(status["pending"].as_u64() > Some(0), "{status:#}");
    pair.failing.set_modules([module]);
    pair.expect_recovery();
}

#[test]
fn a_module_that_becomes_read_only() {
    if stock() {
        skip!("stock rsync has no status");
    }
    let mut pair = needs!(Pair::new());
    let module = pair.module();
    pair.failing.set_modules([module.clone().read_only()]);
    pair.expect_failing("module is read only");
    pair.failing.set_modules([module]);
    pair.expect_recovery();
}

#[test]
fn a_daemon_that_has_no_connection_left() {
    if stock() {
        skip!("stock rsync has no status");
    }
    let mut pair = needs!(Pair::new());
    let lock_file = pair.fs.beside("locks").join("lock");
    let lock = lock_file.display().to_string();
    let module = pair.module().option("max connections", "1").option("lock file", &lock);
    pair.failing.set_modules([module]);
    let others = Occupied::new(&lock_file);
    pair.expect_failing("max connections (1) reached");
    drop(others);
    pair.expect_recovery();
}

#[test]
fn a_directory_that_may_not_be_written() {
    if stock() {
        skip!("stock rsync has no status");
    }
    let fs = needs!(FileSystem::new(Kind::Ext4));
    let (source, destination) = (fs.dir("source"), fs.beside("destination"));
    // The daemon is nobody, who may write what is nobody's.
    let own = |path: &Path| chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    let tree = |n: u32| {
        Tree::at(&source).file("open/f", format!("{n}")).file("shut/f", format!("{n}"));
        for name in ["", "open", "open/f", "shut", "shut/f"] {
            own(&source.join(name));
        }
    };
    tree(1);
    own(&destination);
    let user = NOBODY.to_string();
    let module = Module::new("m", &destination).option("uid", &user).option("gid", &user);
    let rsyncd = needs!(Rsyncd::start(Release::Installed, [module]));
    for folder in destination.ancestors().take(3) {
        let mode = fs::metadata(folder).unwrap().mode() | 0o711;
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    }
    let daemon = Setup::new(&source).to(rsyncd.url("m")).start();
    daemon.wait();
    chown(destination.join("shut"), Some(0), Some(0)).unwrap();
    tree(2);
    Referee::default().without("/shut").await_equal(&source, &destination);
    let status = daemon.destination(&rsyncd.url("m"), "the reason is shown with the name", |d| {
        let names = d["failing_names"].as_array().cloned().unwrap_or_default();
        names.iter().any(|name| name[0] == "shut/f" && name[1].to_string().contains("Permission denied"))
    });
    assert!(status["pending"].as_u64() > Some(0), "{status:#}");
    Tree::at(&source).file("open/g", b"others go on");
    own(&source.join("open/g"));
    Referee::default().without("/shut").await_equal(&source, &destination);
    own(&destination.join("shut"));
    daemon.wait();
    Referee::default().expect_equal(&source, &destination);
}

#[test]
fn a_daemon_that_is_upgraded_between_sessions_and_back() {
    let mut pair = needs!(Pair::new());
    for release in [Release::Old, Release::Installed, Release::Old, Release::Installed] {
        pair.failing.terminate();
        needs!(pair.failing.become_release(release));
        pair.failing.start_again();
        pair.change();
        let tree = Tree::at(&pair.source());
        tree.remove("sizes/4096").file(format!("of {release:?}"), b"x");
        pair.daemon.wait();
        for name in ["failing", "working"] {
            Referee::default().expect_equal(&pair.source(), &pair.destination(name));
        }
    }
}

/// Years ahead and back again, for the programs of one process group.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
#include <stdlib.h>
static long skew(void) { const char *s = getenv("SKEW"); return s ? atol(s) : 0; }
time_t time(time_t *t) { struct timespec n; clock_gettime(CLOCK_REALTIME, &n); if (t) *t = n.tv_sec; return n.tv_sec; }
int gettimeofday(struct timeval *restrict v, void *restrict z) {
  struct timespec n; (void)z; clock_gettime(CLOCK_REALTIME, &n); v->tv_sec = n.tv_sec; v->tv_usec = n.tv_nsec / 1000; return 0; }
int clock_gettime(clockid_t c, struct timespec *t) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int r = real(c, t); if (!r && c == CLOCK_REALTIME) t->tv_sec += skew(); return r; }
"#;

#[test]
fn a_daemon_whose_clock_is_wrong() {
    let scratch = Scratch::new("clock");
    let (text, library) = (scratch.path().join("clock.c"), scratch.path().join("clock.so"));
    fs::write(&text, CLOCK).unwrap();
    run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&text).arg("-ldl"));
    for skew in ["-300000000", "300000000"] {
        let mut pair = needs!(Pair::new());
        pair.failing.terminate();
        pair.failing.add_environment("LD_PRELOAD", &library.display().to_string());
        pair.failing.add_environment("SKEW", skew);
        pair.failing.start_again();
        pair.change();
        pair.expect_recovery();
    }
}

/// lsyncd beside ebbtide, each with a destination of its own.
#[test]
fn a_file_that_lsyncd_calls_done_and_never_sends_arrives_by_ebbtide() {
    if stock() || Command::new("lsyncd").arg("--version").output().is_err() {
        skip!("this is about ebbtide and lsyncd");
    }
    let fs = needs!(FileSystem::new(Kind::Ext4));
    let source = fs.dir("source");
    Tree::at(&source).file("kept/f", b"first").file("other", b"first");
    let daemon_of = |name: &str| {
        let module = Module::new("m", &fs.dir(name)).chroot(true);
        Rsyncd::start(Release::Installed, [module])
    };
    let (theirs, ours) = (needs!(daemon_of("theirs")), needs!(daemon_of("ours")));
    let daemon = Setup::new(&source).to(ours.url("m")).start();
    daemon.wait();
    let scratch = Scratch::new("lsyncd");
    let _lsyncd = Lsyncd::start(&source, &theirs.url("m"), scratch.path());
    let at = |name: &str, file: &str| fs.root().join(name).join(file);
    let has = |name: &str, file: &str, content: &[u8]| fs::read(at(name, file)).is_ok_and(|it| it == content);
    eventually("lsyncd has compared both sides", || has("theirs", "kept/f", b"first").then_some(()));

    // For a moment neither destination can take the file: rsync ends with code 23.
    let immutable = |change: &str| {
        for name in ["theirs", "ours"] {
            run(Command::new("chattr").arg(change).arg(at(name, "kept/f")));
        }
    };
    immutable("+i");
    Tree::at(&source).file("kept/f", b"second");
    let refused = |daemon: &Rsyncd| daemon.log().contains("Operation not permitted");
    eventually("both have tried", || (refused(&theirs) && refused(&ours)).then_some(()));
    // What lsyncd does next shows that it is done with it.
    Tree::at(&source).file("other", b"second");
    eventually("lsyncd goes on", || has("theirs", "other", b"second").then_some(()));
    immutable("-i");

    daemon.wait();
    assert!(has("ours", "kept/f", b"second"), "ebbtide kept it, and sent it when that was possible");
    Tree::at(&source).file("other", b"third");
    eventually("lsyncd still follows", || has("theirs", "other", b"third").then_some(()));
    assert!(has("theirs", "kept/f", b"first"), "lsyncd took exit code 23 for success");
    daemon.wait();
    Referee::default().expect_equal(&source, &fs.root().join("ours"));
}

/// lsyncd, which ends on drop.
struct Lsyncd(std::process::Child);

impl Lsyncd {
    fn start(source: &Path, url: &str, scratch: &Path) -> Lsyncd {
        let config = scratch.join("lsyncd.lua");
        let text = format!(
            "settings {{ nodaemon = true }}\nsync {{ default.rsync, source = {source:?}, target = {url:?}, \
             delay = 0, rsync = {{ archive = true }} }}\n"
        );
        fs::write(&config, text).expect("scratch is writable");
        let log = fs::File::create(scratch.join("lsyncd.log")).expect("scratch is writable");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "lsyncd"]).arg(&config);
        Lsyncd(
            command
                .stdout(log.try_clone().expect("descriptors are left"))
                .stderr(log)
                .spawn()
                .expect("lsyncd is installed"),
        )
    }
}

impl Drop for Lsyncd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The user and group that a daemon without privileges often is.
const NOBODY: u32 = 65_534;
