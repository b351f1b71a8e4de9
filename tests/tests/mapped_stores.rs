//! Stores through a shared mapping that stays open: ebbtide mirrors them, and tools that live on inotify or fanotify are
//! told nothing of them.
#![expect(clippy::unwrap_used, reason = "a test ends where its world does not obey")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use ebbtide_tests::{Kind, Mapped, Mirror, PATIENCE, bytes, kib, needs, skip};

/// A tool that prints a line for each event of a directory's files. Ends on drop.
struct Tool {
    name: &'static str,
    child: Child,
    lines: Receiver<String>,
}

impl Tool {
    /// Both come with inotify-tools. Every event is asked for but looking, opening and reading.
    fn start(name: &'static str, dir: &Path) -> Tool {
        let events = "modify,attrib,close_write,create,delete,move";
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", name, "--monitor", "--format", "%f %e", "--event", events])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(log.any(|line| line.contains("Watches established")), "{name} does not watch");
        std::thread::spawn(move || log.for_each(drop));
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        std::thread::spawn(move || out.into_iter().try_for_each(|line| sender.send(line)));
        Tool { name, child, lines }
    }

    /// What it says up to and with the end of a write to `mark`, which must come.
    fn until(&self, mark: &str) -> Vec<String> {
        let (mut said, end) = (Vec::<String>::new(), Instant::now() + PATIENCE);
        let is_end = |line: &String| line.starts_with(mark) && line.contains("CLOSE_WRITE");
        while !said.last().is_some_and(is_end) {
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            said.push(
                line.unwrap_or_else(|e| panic!("{e}: {} says nothing of {mark} after {said:?}", self.name)),
            );
        }
        said
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn repeated_stores_through_a_mapping_are_mirrored_and_inotify_and_fanotify_see_none_of_them() {
    let files = |tree: ebbtide_tests::Tree| {
        tree.file("mapped", bytes(1, kib(64))).file("before", b"-").file("after", b"-").aged()
    };
    let mirror = needs!(Mirror::with(Kind::Ext4, files, |setup| setup));
    if !mirror.daemon().sees_mapped_stores() {
        skip!("this kernel lets nobody see stores through mappings");
    }
    mirror.expect_synced();
    let source = mirror.source_path();
    let mut mapped = Mapped::open(&source.join("mapped")).unwrap();
    let tools = ["inotifywait", "fsnotifywait"].map(|name| Tool::start(name, &source));
    // They work: each is told of an ordinary write.
    std::fs::write(source.join("before"), b"+").unwrap();
    tools.iter().for_each(|tool| drop(tool.until("before")));
    for round in 0..10_u8 {
        // Each time the same page, which is dirty and mapped by then.
        mapped.store(5_000, &[round; 100]);
        mirror.expect_synced();
        let mut arrived = [0; 100];
        File::open(mirror.destination().join("mapped")).unwrap().read_exact_at(&mut arrived, 5_000).unwrap();
        assert_eq!(arrived, [round; 100]);
    }
    std::fs::write(source.join("after"), b"+").unwrap();
    for tool in &tools {
        let said = tool.until("after");
        let of_the_mapped: Vec<_> = said.iter().filter(|line| line.starts_with("mapped")).collect();
        assert!(of_the_mapped.is_empty(), "{}: {of_the_mapped:?}", tool.name);
    }
    drop(mapped);
}

#[test]
fn a_store_that_moves_no_time_is_mirrored_though_the_file_was_just_sent() {
    let mirror = needs!(Mirror::with(Kind::Tmpfs, |tree| tree.file("mapped", bytes(1, kib(64))), |s| s));
    mirror.expect_synced();
    let path = mirror.source_path().join("mapped");
    let mut mapped = Mapped::open(&path).unwrap();
    mapped.store(5_000, b"before");
    // The end of another's writing has it sent, the second time with a change time that is long past.
    for _ in 0..3 {
        drop(File::options().write(true).open(&path).unwrap());
        mirror.expect_synced();
    }
    let times = |file: &Path| file.metadata().map(|data| (data.ctime(), data.ctime_nsec())).unwrap();
    let then = times(&path);
    mapped.store(5_000, b"after!");
    drop(mapped);
    assert_eq!(times(&path), then, "this file system leaves the times of a page that is mapped already");
    mirror.expect_synced();
}
