//! The daemon with a sender that sends nothing: barriers, deaths, locks and ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails where it is")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use common::{Mounted, PATIENCE, ebbtide, feed_log, is_root};

struct World {
    // Dropped first: a mounted file system does not go while somebody uses it.
    daemon: Option<Daemon>,
    base: PathBuf,
    src: PathBuf,
    _mounted: Mounted,
}

struct Daemon {
    child: Child,
    log: Receiver<String>,
}

impl World {
    fn new() -> Option<Self> {
        let mounted = Mounted::new("tmpfs")?;
        let (src, base) = (mounted.dir("up/src"), mounted.beside().to_owned());
        // The sender runs as another user.
        open_to_all(&base);
        symlink(feed_log(), base.join("sender")).unwrap();
        let mut world = World { daemon: None, base, src, _mounted: mounted };
        world.daemon = Some(world.start());
        Some(world)
    }

    fn command(&self) -> Command {
        let mut command = ebbtide();
        command.arg("run").arg("--source").arg(&self.src).args(["--to", "rsync://localhost/nowhere/"]);
        command.arg("--state-dir").arg(self.state()).arg("--runtime-dir").arg(self.runtime());
        command.env("EBBTIDE_SEND", self.sender());
        command
    }

    fn start(&self) -> Daemon {
        let mut child = self.command().stderr(Stdio::piped()).spawn().unwrap();
        let (sender, log) = channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let daemon = Daemon { child, log };
        daemon.says("tracking after");
        daemon.says("the sender is ready");
        daemon
    }

    fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().unwrap()
    }

    /// A link to its binary.
    fn sender(&self) -> PathBuf {
        self.base.join("sender")
    }

    fn state(&self) -> PathBuf {
        self.base.join("state")
    }

    fn runtime(&self) -> PathBuf {
        self.base.join("run")
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        ebbtide().args(arguments).arg("--runtime-dir").arg(self.runtime()).output().unwrap()
    }

    fn wait(&self) {
        let output = self.ask(&["wait", "--timeout", "300"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_slice(&self.ask(&["status", "--json"]).stdout).unwrap()
    }

    fn facts(&self) -> String {
        fs::read_to_string(self.state().join("sender/facts.log")).unwrap_or_default()
    }

    /// Times that a line of the log of facts holds this.
    fn told(&self, fact: &str) -> usize {
        self.facts().lines().filter(|line| line.contains(fact)).count()
    }
}

impl Daemon {
    fn says(&self, text: &str) {
        let mut said = Vec::new();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            if line.contains(text) {
                return;
            }
            said.push(line);
        }
        panic!("the daemon did not say {text:?}, but {said:#?}");
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open_to_all(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
}

fn kill_sender(world: &World) {
    let pid = world.status()["sender"]["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_barrier_covers_everything_that_changed_before_it() {
    let Some(world) = World::new() else { return };
    world.wait();
    assert_eq!(world.told("Subtree { dir: \".\", replaced: false }"), 1);
    for round in 0..20 {
        fs::write(world.src.join(format!("f{round}")), b"x").unwrap();
        world.wait();
        assert!(world.told(&format!("Touched {{ path: \"f{round}\", data: true }}")) >= 1, "round {round}");
    }
    // While a drain is under way a part of it is not looked up yet.
    let tracker = loop {
        let tracker = world.status()["tracker"].take();
        if tracker["phase"] != "draining" {
            break tracker;
        }
    };
    let count = |key: &str| tracker[key].as_u64().unwrap();
    assert_eq!(
        count("drained"),
        count("told") + count("outside") + count("gone") + count("untraced") + count("again")
    );
    assert!(count("told") >= 20);
}

#[test]
fn many_may_wait_at_once() {
    let Some(world) = World::new() else { return };
    // One event: of a creation and a close two drains may tell.
    symlink("nowhere", world.src.join("f")).unwrap();
    let runtime = world.runtime();
    let wait =
        || ebbtide().args(["wait", "--timeout", "300", "--runtime-dir"]).arg(&runtime).spawn().unwrap();
    let waiting: Vec<_> = (0..10).map(|_| wait()).collect();
    assert!(waiting.into_iter().all(|mut child| child.wait().unwrap().success()));
    assert_eq!(world.told("path: \"f\""), 1);
}

#[test]
fn a_batch_that_was_not_called_durable_is_told_to_the_next_sender() {
    let Some(mut world) = World::new() else { return };
    world.wait();
    fs::write(world.state().join("sender/stumble"), b"").unwrap();
    // One event: of a creation and a write two drains may tell.
    symlink("nowhere", world.src.join("f")).unwrap();
    world.daemon().says("the sender is gone");
    world.daemon().says("the sender is ready");
    world.wait();
    assert_eq!(world.told("Touched { path: \"f\", data: true }"), 1);
    let status = world.status();
    assert_eq!(status["sender"]["deaths"], 1);
    assert!(status["sender"]["last_end"].as_str().unwrap().contains("exit status: 3"), "{status}");
}

#[test]
fn changes_while_the_sender_is_away_are_told_when_it_is_back() {
    let Some(mut world) = World::new() else { return };
    world.wait();
    for round in 0..5 {
        kill_sender(&world);
        fs::write(world.src.join(format!("f{round}")), b"x").unwrap();
        world.daemon().says("the sender is ready");
        world.wait();
        assert!(world.told(&format!("path: \"f{round}\"")) >= 1);
    }
}

#[test]
fn a_sender_that_cannot_be_started_is_told_with_what_to_do_and_comes_back() {
    let Some(mut world) = World::new() else { return };
    fs::remove_file(world.sender()).unwrap();
    kill_sender(&world);
    world
        .daemon()
        .says("could not be started: No such file or directory (os error 2); see that the file is there");
    symlink(feed_log(), world.sender()).unwrap();
    world.daemon().says("the sender is ready");
    world.wait();
}

#[test]
fn a_second_daemon_on_the_same_folders_is_refused() {
    let Some(mut world) = World::new() else { return };
    let output = world.command().output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let pid = world.daemon().child.id();
    assert!(text.contains("another ebbtide daemon") && text.contains(&pid.to_string()), "{text}");
    assert!(text.contains("try: "), "{text}");
    world.wait();
}

#[test]
fn a_signal_ends_daemon_and_sender_and_leaves_no_socket() {
    let Some(mut world) = World::new() else { return };
    let sender = world.status()["sender"]["pid"].as_u64().unwrap();
    world.daemon().signal(rustix::process::Signal::TERM);
    assert!(world.daemon().child.wait().unwrap().success());
    assert!(!Path::new(&format!("/proc/{sender}")).exists());
    assert!(!world.runtime().join("control.sock").exists());
    let output = world.ask(&["status"]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("no ebbtide daemon runs") && text.contains("try: "), "{text}");
    // The folders are free again.
    world.daemon = Some(world.start());
    world.wait();
}

#[test]
fn the_sender_runs_with_one_capability_as_another_user() {
    let Some(world) = World::new() else { return };
    let sender = world.status()["sender"]["pid"].as_u64().unwrap();
    let status = fs::read_to_string(format!("/proc/{sender}/status")).unwrap();
    // Bit 2 is CAP_DAC_READ_SEARCH.
    for line in ["CapEff:\t0000000000000004", "CapAmb:\t0000000000000004", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    assert!(!status.contains("Uid:\t0"), "{status}");
}

#[test]
fn a_mirror_whose_root_is_renamed_stops_and_goes_on_when_it_is_back() {
    let Some(mut world) = World::new() else { return };
    world.wait();
    let away = world.src.with_file_name("away");
    fs::rename(&world.src, &away).unwrap();
    world.daemon().says("the source directory is not the one it was");
    let impostor = &world.src;
    fs::create_dir(impostor).unwrap();
    fs::write(impostor.join("not ours"), b"x").unwrap();
    fs::write(away.join("meanwhile"), b"x").unwrap();
    let status = world.status();
    assert_eq!(status["mirrors"][0]["root_lost"], true, "{status}");
    fs::remove_dir_all(&world.src).unwrap();
    fs::rename(&away, &world.src).unwrap();
    world.daemon().says("the source directory is back");
    world.wait();
    // What changed while it was away is looked for, and the rest is not compared again.
    assert_eq!(world.told("Subtree { dir: \".\", replaced: false }"), 1, "{}", world.facts());
    assert_ne!(world.told("meanwhile"), 0, "{}", world.facts());
    assert_eq!(world.told("not ours"), 0, "{}", world.facts());
    let status = world.status();
    assert_eq!(
        (&status["mirrors"][0]["root_lost"], &status["mirrors"][0]["tainted"]),
        (&false.into(), &().into())
    );
}

#[test]
fn what_is_mounted_below_the_source_is_not_part_of_it() {
    let Some(mut world) = World::new() else { return };
    world.wait();
    let point = world.src.join("point");
    fs::create_dir(&point).unwrap();
    world.wait();
    let mount = |verb: &str, arguments: &[&str]| {
        assert!(Command::new(verb).args(arguments).arg(&point).status().unwrap().success());
    };
    mount("mount", &["-t", "tmpfs", "none"]);
    world.daemon().says("point: a file system was mounted there, or unmounted");
    fs::write(point.join("other"), b"x").unwrap();
    fs::write(world.src.join("ours"), b"x").unwrap();
    world.wait();
    assert!(world.told("path: \"ours\"") >= 1);
    assert_eq!(world.told("point/other"), 0);
    // Whoever looks at it just now does not keep it.
    mount("umount", &["--lazy"]);
    world.daemon().says("point: a file system was mounted there, or unmounted");
    world.wait();
}

#[test]
fn a_time_limit_that_passes_ends_with_one_and_says_what_is_pending() {
    if !is_root() {
        return;
    }
    let Some(mut world) = World::new() else { return };
    let away = world.src.with_file_name("away");
    world.wait();
    let sender = world.status()["sender"]["pid"].as_i64().unwrap();
    let sender = rustix::process::Pid::from_raw(i32::try_from(sender).unwrap()).unwrap();
    rustix::process::kill_process(sender, rustix::process::Signal::STOP).unwrap();
    fs::rename(&world.src, &away).unwrap();
    world.daemon().says("the source directory is not the one it was");
    let output = world.ask(&["wait", "--timeout", "0.05"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("not everything is acknowledged") && text.contains("source directory is not there"),
        "{text}"
    );
    rustix::process::kill_process(sender, rustix::process::Signal::CONT).unwrap();
}

#[test]
fn what_is_wrong_with_a_config_is_told_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ebbtide.toml");
    fs::write(&path, "[[mirror]]\nsource = \"/a\"\ndelet = true\n").unwrap();
    let mut child = ebbtide().args(["run", "-c"]).arg(&path).stderr(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(text.contains("line 3") && text.contains("did you mean `delete`?"), "{text}");
}

#[test]
fn a_source_that_is_not_there_is_what_the_start_complains_of() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut command = ebbtide();
    command.arg("run").arg("--source").arg(at("nowhere")).args(["--to", "rsync://127.0.0.1:1/m/"]);
    command.arg("--state-dir").arg(at("state")).arg("--runtime-dir").arg(at("run"));
    command.env("EBBTIDE_SEND", feed_log());
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("nowhere") && text.contains("No such file") && !text.contains("lies in"), "{text}");
}
