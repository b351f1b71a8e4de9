//! Who changes the source: processes with random operations, and real programs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::programs::Program;
use super::world::World;
use crate::machine::bound_to_us;
use crate::{Kind, Ops, Stores};

/// All of them.
pub(super) struct Load {
    source: PathBuf,
    workers: Vec<Worker>,
    running: Vec<JoinHandle<u64>>,
    stop: Arc<AtomicBool>,
    programs: u64,
}

impl Load {
    pub(super) fn new(world: &World, random: &mut Rng, workers: usize) -> Load {
        let stores = match world.from.kind() {
            _ if !world.daemon.sees_mapped_stores() => Stores::None,
            Kind::Ext4 | Kind::Xfs => Stores::Any,
            // Without kprobes nothing sees the first store to a page that a write has dirtied.
            Kind::Btrfs => Stores::Clean,
            // They move no time there, so that the sender takes the file for what it sent.
            Kind::Tmpfs => Stores::None,
        };
        let source = world.source();
        let mut worker = || Worker::start(&source, random.u64(..), stores);
        let workers = (0..workers).map(|_| worker()).collect();
        Load { source, workers, running: Vec::new(), stop: Arc::default(), programs: 0 }
    }

    /// Everybody begins.
    pub(super) fn begin(&mut self, random: &mut Rng) {
        self.stop.store(false, Ordering::SeqCst);
        self.workers.iter_mut().for_each(|worker| worker.say("run"));
        for program in Program::some(random) {
            let (folder, seed) = (self.source.join(program.name()), random.u64(..));
            let stop = Arc::clone(&self.stop);
            self.running.push(thread::spawn(move || program.run(&folder, seed, &stop)));
        }
    }

    /// They go on for so long.
    pub(super) fn pass(&self, time: Duration) {
        // Not a wait for a state: the load is what this passes the time with.
        let until = Instant::now() + time;
        thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }

    /// Everybody ends; when this returns, nothing changes the source any more.
    ///
    /// # Panics
    /// When a program does what it must not.
    pub(super) fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.workers.iter_mut().for_each(|worker| worker.say("stop"));
        self.workers.iter_mut().for_each(Worker::hear);
        for program in self.running.drain(..) {
            self.programs += program.join().expect("real programs work on any file system");
        }
    }

    /// Operations that changed something, and those that were refused.
    pub(super) fn count(&self) -> (u64, u64) {
        let sum = |count: fn(&Worker) -> u64| self.workers.iter().map(count).sum();
        (sum(|worker| worker.done - worker.refused), sum(|worker| worker.refused))
    }

    /// Runs of real programs.
    pub(super) fn programs(&self) -> u64 {
        self.programs
    }

    /// Has each process write down what it did last.
    pub(super) fn keep(&self, folder: &Path) {
        for (number, worker) in self.workers.iter().enumerate() {
            let path = folder.join(format!("operations-{number}"));
            let _ = writeln!(&worker.to, "keep {}", path.display());
            crate::eventually("a worker wrote its log", || path.exists().then_some(()));
        }
    }
}

/// A process with random operations.
struct Worker {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    done: u64,
    refused: u64,
}

impl Worker {
    fn start(source: &Path, seed: u64, stores: Stores) -> Worker {
        let own = std::env::current_exe().expect("this program has a path");
        let mut process = bound_to_us(own)
            .arg("work")
            .arg(source)
            .arg(seed.to_string())
            .arg(match stores {
                Stores::None => "none",
                Stores::Clean => "clean",
                Stores::Any => "any",
            })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv is installed");
        let to = process.stdin.take().expect("it is a pipe");
        let from = BufReader::new(process.stdout.take().expect("it is a pipe"));
        Worker { process, to, from, done: 0, refused: 0 }
    }

    fn say(&mut self, word: &str) {
        writeln!(self.to, "{word}").expect("a worker listens");
    }

    fn hear(&mut self) {
        let mut line = String::new();
        self.from.read_line(&mut line).expect("a worker answers");
        let mut numbers = line.split_whitespace().map(|number| number.parse().expect("two numbers"));
        self.done = numbers.next().expect("two numbers");
        self.refused = numbers.next().expect("two numbers");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a process with random operations does: follows the words on its standard input until that ends.
pub fn work(source: &Path, seed: u64, stores: Stores) {
    let (sender, words) = mpsc::channel();
    thread::spawn(move || {
        let lines = std::io::stdin().lines().map_while(Result::ok);
        for line in lines {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut ops = Ops::new(source, seed, 1).storing(stores);
    while let Ok(word) = words.recv() {
        match word.split_once(' ') {
            None if word == "run" => {
                // Until the next word, which is `stop`.
                while matches!(words.try_recv(), Err(TryRecvError::Empty)) {
                    ops.run(OPERATIONS);
                }
                println!("{} {}", ops.count(), ops.refused());
            }
            Some(("keep", path)) => {
                let beside = format!("{path}.new");
                fs::write(&beside, ops.log(""))
                    .and_then(|()| fs::rename(&beside, path))
                    .expect("it is writable");
            }
            _ => {}
        }
    }
}

/// Between two looks whether it shall stop.
const OPERATIONS: usize = 100;

/// Whether a program is installed.
pub(super) fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}
