//! What people read and type: errors of the configuration, `check`, `status`, `wait` and `watch`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use ebbtide_tests::{Client, FileSystem, Kind, Mirror, Module, Port, Release, Rsyncd, Scratch, Setup, Tree};
use ebbtide_tests::{eventually, needs, program, skip};
use serde_json::Value;

/// Stock rsync has no verbs.
macro_rules! ours_only {
    () => {
        if !Client::under_test().is_ours() {
            skip!("stock rsync has no such verb");
        }
    };
}

fn ebbtide(arguments: &[&str]) -> Output {
    let mut command = Command::new(program("ebbtide"));
    command.env("EBBTIDE_SEND", program("ebbtide-send"));
    command.args(arguments).stdin(Stdio::null()).output().expect("ebbtide can be started")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs with a config file that must be refused, and returns what was said about it.
#[track_caller]
fn refused(scratch: &Scratch, text: &str) -> String {
    let path = scratch.path().join("ebbtide.toml");
    fs::write(&path, text).expect("a scratch folder is writable");
    let output = ebbtide(&["run", "-c", path.to_str().expect("our own path")]);
    assert!(!output.status.success(), "taken:\n{text}");
    let said = said(&output);
    assert!(said.contains("ebbtide.toml"), "the file is not named: {said}");
    said
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
    ours_only!();
    let scratch = Scratch::new("config");
    let cases = [
        (
            "[[mirror]]\nsource = \"/srv\"\ndelte = true\n[[mirror.to]]\nurl = \"rsync://h/m/\"\n",
            "line 3",
            "delete",
        ),
        (
            "[[mirror]]\nsource = \"/srv\"\n[[mirror.to]]\nurl = \"rsync://h/m/\"\npasword-file = \"/p\"\n",
            "line 5",
            "password-file",
        ),
        (
            "stat-dir = \"/x\"\n[[mirror]]\nsource = \"/srv\"\n[[mirror.to]]\nurl = \"rsync://h/m/\"\n",
            "line 1",
            "state-dir",
        ),
        ("[[miror]]\nsource = \"/srv\"\n", "line 1", "mirror"),
    ];
    for (text, line, nearest) in cases {
        let said = refused(&scratch, text);
        assert!(said.contains(line) && said.contains(nearest), "{said}");
    }
}

#[test]
fn values_that_cannot_be_are_refused_with_their_line() {
    ours_only!();
    let scratch = Scratch::new("config");
    let cases = [
        ("[[mirror]]\nsource = \"/srv\"\n[[mirror.to]]\nurl = \"ssh://h/m/\"\n", "line 4", "rsync://"),
        ("[[mirror]]\nsource = 7\n[[mirror.to]]\nurl = \"rsync://h/m/\"\n", "line 2", "string"),
        (
            "[[mirror]]\nsource = \"/srv\"\ndelete = \"yes\"\n[[mirror.to]]\nurl = \"rsync://h/m/\"\n",
            "line 3",
            "bool",
        ),
        ("[[mirror]]\n[[mirror.to]]\nurl = \"rsync://h/m/\"\n", "line 1", "source"),
        ("[[mirror]\nsource = \"/srv\"\n", "line 1", ""),
    ];
    for (text, line, what) in cases {
        let said = refused(&scratch, text);
        assert!(said.contains(line) && said.contains(what), "{said}");
    }
    refused(&scratch, "");
}

#[test]
fn a_source_that_is_no_directory_is_refused_at_the_start() {
    ours_only!();
    let scratch = Scratch::new("config");
    let missing = scratch.path().join("missing").display().to_string();
    let [state, runtime] = ["state", "runtime"].map(|name| scratch.dir(name).display().to_string());
    let folders = ["--state-dir", &state, "--runtime-dir", &runtime];
    let to = "rsync://127.0.0.1:1/m/";
    let output = ebbtide(&[&["run", "--source", &missing, "--to", to], &folders[..]].concat());
    assert!(!output.status.success() && said(&output).contains(&missing), "{output:?}");
}

#[test]
fn a_config_file_says_what_options_say() {
    ours_only!();
    let fs = needs!(FileSystem::new(Kind::Ext4));
    let source = fs.dir("source");
    Tree::at(&source).file("file", b"x").odd_names();
    let destinations = ["one", "two"].map(|name| fs.beside(name));
    let modules =
        [0, 1].map(|n| Module::new(["one", "two"][n], &destinations[n]).chroot(true).password("u", "secret"));
    let rsyncd = needs!(Rsyncd::start(Release::Installed, modules));
    let text = format!(
        "# A comment.\n[[mirror]]\nsource = {:?}\ndelete = true\n\
         [[mirror.to]]\nurl = {:?}\npassword-file = {:?}\n\
         [[mirror.to]]\nurl = {:?}\npassword-file = {:?}\ncompress-choice = \"none\"\n",
        source,
        rsyncd.url("one"),
        rsyncd.password_file("one"),
        rsyncd.url("two"),
        rsyncd.password_file("two"),
    );
    let daemon = Setup::from_file(&text).start();
    daemon.wait();
    for destination in &destinations {
        ebbtide_tests::Referee::default().expect_equal(&source, destination);
    }
}

#[test]
fn a_second_daemon_on_the_same_folders_is_refused() {
    ours_only!();
    let mirror = needs!(Mirror::on(Kind::Ext4));
    let runtime = mirror.daemon().runtime_dir().display().to_string();
    let state = mirror.fs().beside("state").display().to_string();
    let source = mirror.source_path().display().to_string();
    let to = "rsync://127.0.0.1:1/m/";
    let output =
        ebbtide(&["run", "--source", &source, "--to", to, "--state-dir", &state, "--runtime-dir", &runtime]);
    assert!(!output.status.success(), "{output:?}");
    let pid = mirror.daemon().pid().expect("it runs").to_string();
    assert!(said(&output).contains(&pid), "the other daemon is not named: {}", said(&output));
    mirror.source().file("still", b"working");
    mirror.expect_synced();
}

/// Waits for a page of `ebbtide status` that `which` accepts.
fn await_page(mirror: &Mirror, which: impl Fn(&str) -> bool) {
    eventually("the status tells it to people", || {
        let page = mirror.daemon().ask(&["status"]).stdout;
        which(&String::from_utf8_lossy(&page)).then_some(())
    });
}

#[test]
fn status_tells_people_and_programs_the_same() {
    ours_only!();
    let mut mirror = needs!(Mirror::on(Kind::Ext4));
    mirror.source().file("file", b"x");
    mirror.expect_synced();
    let status = mirror.daemon().status();
    assert_eq!(status["pid"].as_u64(), mirror.daemon().pid().map(u64::from));
    let url = mirror.rsyncd().url("m");
    // A mark of no change, such as that of our own reading, may be on its way.
    let is_in_step = |to: &Value| to["state"] == "idle" && to["pending"] == 0;
    let destination = mirror.daemon().destination(&url, "it is in step", is_in_step);
    assert!(destination["dialect"].as_str().is_some_and(|d| d.contains("protocol 32")), "{destination:#}");
    let source = mirror.source_path().display().to_string();
    await_page(&mirror, |page| page.contains(&url) && page.contains(&source));
}

#[test]
fn status_tells_that_a_file_waits_because_it_is_still_being_written() {
    ours_only!();
    let long = |setup: Setup| setup.option("--settle", "60000").option("--max-delay", "3600000");
    let mut mirror = needs!(Mirror::with(Kind::Ext4, |tree| tree, long));
    mirror.expect_synced();
    mirror.source().file("file", b"x");
    let url = mirror.rsyncd().url("m");
    // The tracker's own window ends when somebody waits.
    assert!(!mirror.daemon().try_wait(1).success());
    let rests = |to: &Value| to["state"] == "resting" && to["pending"] == 1;
    let waits = mirror.daemon().destination(&url, "the file rests", rests);
    assert_eq!(waits["resting"]["names"], 1);
    assert!(waits["resting"]["next_in_ms"].as_u64() <= Some(60_000), "{waits:#}");
    await_page(&mirror, |page| page.contains("waiting for files that rest") && !page.contains("in step"));
}

#[test]
fn verbs_without_a_daemon_say_that_there_is_none() {
    ours_only!();
    let scratch = Scratch::new("verbs");
    for verb in ["status", "wait"] {
        let output = ebbtide(&[verb, "--runtime-dir", &scratch.path().display().to_string()]);
        assert!(!output.status.success() && !said(&output).is_empty(), "{output:?}");
        assert!(said(&output).contains(&scratch.path().display().to_string()), "{}", said(&output));
    }
}

#[test]
fn wait_gives_up_when_told_to_and_names_what_is_pending() {
    ours_only!();
    let fs = needs!(FileSystem::new(Kind::Ext4));
    let nobody = Port::new();
    let dead = format!("rsync://{}/m/", nobody.address());
    let daemon = Setup::new(&fs.dir("source")).to(&dead).start();
    // What is pending is named by the sender.
    daemon.destination(&dead, "the sender knows its destination", |_| true);
    let output = daemon.ask(&["wait", "--timeout", "0.5"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains(&dead), "{}", said(&output));
}

#[test]
fn check_tries_the_source_and_each_destination_and_changes_nothing() {
    ours_only!();
    let fs = needs!(FileSystem::new(Kind::Ext4));
    let (source, stored) = (fs.dir("source"), fs.beside("stored"));
    Tree::at(&source).file("file", b"x");
    let module = Module::new("m", &stored).password("alice", "right");
    let rsyncd = needs!(Rsyncd::start(Release::Installed, [module]));
    let (source, good) = (source.display().to_string(), rsyncd.url("m"));
    let password = rsyncd.password_file("m").display().to_string();
    let good_only = ["check", "--json", "--source", &source, "--password-file", &password, "--to", &good];
    let output = ebbtide(&good_only);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(found["sources"][0]["plan"]["fs_type"], "ext4", "{found:#}");
    assert!(found["destinations"][0].to_string().contains("protocol 32"), "{found:#}");
    let bad = "rsync://127.0.0.1:1/m/";
    let output = ebbtide(&[&good_only[..], &["--to", bad]].concat());
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        !found["destinations"][1]["error"].is_null() && found["destinations"][0]["error"].is_null(),
        "{found:#}"
    );
    assert_eq!(fs::read_dir(&stored).expect("it is there").count(), 0);
    let page = ebbtide(&["check", "--source", &source, "--password-file", &password, "--to", &good]);
    assert!(String::from_utf8_lossy(&page.stdout).contains(&good), "{page:?}");
}

/// `ebbtide watch`, running.
struct Watch {
    process: Child,
    lines: BufReader<std::process::ChildStdout>,
    /// Open as long as it may have something to say.
    _told: BufReader<std::process::ChildStderr>,
}

impl Watch {
    fn start(dir: &Path, options: &[&str]) -> Watch {
        let mut command = Command::new(program("ebbtide"));
        command.arg("watch").arg(dir).args(options).stdin(Stdio::null());
        let mut process =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
        let mut told = BufReader::new(process.stderr.take().expect("it is a pipe"));
        let mut line = String::new();
        while !line.contains("watching") {
            line.clear();
            assert!(told.read_line(&mut line).expect("it talks") > 0, "watch ended before it watched");
        }
        let lines = BufReader::new(process.stdout.take().expect("it is a pipe"));
        Watch { process, lines, _told: told }
    }

    /// Reads lines until one holds all of these.
    fn until(&mut self, parts: &[&str]) -> String {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).expect("it talks") > 0, "no line with {parts:?}");
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn watch_prints_what_happens_one_fact_a_line() {
    ours_only!();
    let fs = needs!(FileSystem::new(Kind::Ext4));
    let tree = Tree::at(&fs.dir("watched")).file("old", b"x").file("elsewhere/a", b"y");
    let mut watch = Watch::start(&fs.root().join("watched"), &[]);
    let tree = tree.file("new\nline", b"z");
    watch.until(&["data", r"new\nline"]);
    let tree = tree.mode("old", 0o600);
    watch.until(&["attrs", "old"]);
    fs::rename(tree.path("elsewhere"), tree.path("renamed")).expect("a directory can be renamed");
    watch.until(&["moved", "elsewhere -> renamed"]);
    tree.remove("old");
    watch.until(&["gone", "old"]);
}

#[test]
fn watch_tells_programs_every_byte_of_a_name() {
    ours_only!();
    let fs = needs!(FileSystem::new(Kind::Tmpfs));
    let tree = Tree::at(&fs.dir("watched"));
    let mut watch = Watch::start(&fs.root().join("watched"), &["--json", "--probes", "fanotify"]);
    tree.file(b"in\xffvalid", b"z");
    let line = watch.until(&["valid", "data"]);
    let fact: Value = serde_json::from_str(&line).expect("each line is JSON");
    assert_eq!(fact["path_bytes"], serde_json::json!(b"in\xffvalid"), "{line}");
}

#[test]
fn check_tells_what_a_module_refuses_and_what_that_means() {
    ours_only!();
    let fs = needs!(FileSystem::new(Kind::Ext4));
    let source = fs.dir("source").display().to_string();
    let path = fs.beside("d");
    Tree::at(&path).file("stays", b"here");
    let module = |refused: &str| Module::new("m", &path).refuse(refused);
    for release in Release::ALL {
        let rsyncd = needs!(Rsyncd::start(release, [module("compress log-format delete-missing-args")]));
        let output = ebbtide(&["check", "--json", "--source", &source, "--delete", "--to", &rsyncd.url("m")]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = &found["destinations"][0];
        // Debian's 3.2.7 greets like 3.4, whose security fixes it has.
        assert!(found["release"].as_str().is_some_and(|release| release.contains("3.")), "{found:#}");
        let mut refused: Vec<&str> =
            found["capabilities"]["refused"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        refused.sort_unstable();
        assert_eq!(refused, ["--compress", "--delete-missing-args", "--log-format"], "{found:#}");
        assert_eq!(found["notes"].as_array().unwrap().len(), 3, "{found:#}");
        let rsyncd = needs!(Rsyncd::start(release, [module("delete")]));
        let page = ebbtide(&["check", "--source", &source, "--delete", "--to", &rsyncd.url("m")]);
        assert_eq!(page.status.code(), Some(1), "{page:?}");
        let said = String::from_utf8_lossy(&page.stdout).into_owned();
        assert!(said.contains("set `delete = false`"), "{said}");
    }
    assert!(path.join("stays").exists());
}
