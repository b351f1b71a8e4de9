//! `many`: a hundred destinations; how long until a change stands at all that work, with ten that fail and without.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::report::Run;
use super::{Bench, percentile, turns};
use crate::world::ebbtide::Ebbtide;
use crate::world::process::{Running, begins_with};
use crate::world::table::{Table, ratio, time};
use crate::world::wait;

const LIMIT: Duration = Duration::from_secs(300);

/// Destinations that work.
const HEALTHY: usize = 90;

/// Measures and reports.
pub(super) fn measure(bench: &Bench, run: &mut Run) -> Result<()> {
    run.columns(&["failing", "round", "change", "median_ms", "last_ms"]);
    let field = Field::new(&bench.scratch)?;
    let mut samples: [Vec<(f64, f64)>; 2] = Default::default();
    for round in 0..bench.rounds(4) {
        for failing in turns(&[false, true], round) {
            let mut daemon = field.start(bench, failing)?;
            for change in 0..bench.options.changes.div_ceil(bench.rounds(4)) {
                let (median, last) = field.change(&mut daemon)?;
                let place = [u8::from(failing).to_string(), round.to_string(), change.to_string()];
                run.figures(&[&place[..], &[format!("{median:.3}"), format!("{last:.3}")]].concat());
                samples[usize::from(failing)].push((median, last));
            }
            daemon.stop()?;
        }
    }
    report(&samples, run);
    Ok(())
}

/// A source, stock daemons, and peers that are none.
struct Field {
    source: PathBuf,
    healthy: Vec<PathBuf>,
    scratch: PathBuf,
    port: u16,
    _rsyncd: Running,
    peers: [Peer; 3],
}

impl Field {
    fn new(scratch: &Path) -> Result<Self> {
        let folder = scratch.join("many");
        let source = folder.join("source");
        let healthy: Vec<PathBuf> = (0..HEALTHY).map(|n| folder.join(format!("m{n}"))).collect();
        let ill: Vec<PathBuf> = ILL.iter().map(|(name, _)| folder.join(name)).collect();
        for path in healthy.iter().chain(&ill).chain([&source]) {
            fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
        let port = listener.local_addr().context("read the number of a free port")?.port();
        drop(listener);
        let config = folder.join("rsyncd.conf");
        fs::write(&config, configuration(port, &folder))
            .with_context(|| format!("write {}", config.display()))?;
        let mut command = Command::new("rsync");
        command.args(["--daemon", "--no-detach"]).arg(format!("--config={}", config.display()));
        let mut rsyncd = Running::start(&mut command, &folder.join("rsyncd.out"))?;
        let listens = |_: &Running| Ok(TcpStream::connect(("127.0.0.1", port)).is_ok());
        rsyncd.until("listen", Duration::from_secs(20), listens)?;
        let peers = [Peer::start(Manner::Silent)?, Peer::start(Manner::Noise)?, Peer::start(Manner::HangUp)?];
        Ok(Field { source, healthy, scratch: folder, port, _rsyncd: rsyncd, peers })
    }

    /// In step with all that work; and, if so wanted, with ten that do not.
    fn start(&self, bench: &Bench, failing: bool) -> Result<Ebbtide> {
        let mut config = format!("[[mirror]]\nsource = {:?}\ndelete = true\n", self.source);
        let mut to = |port: u16, module: &str| {
            let url = format!("rsync://127.0.0.1:{port}/{module}/");
            let _ = writeln!(config, "[[mirror.to]]\nurl = {url:?}\ntimeout = 5\ncontimeout = 5");
        };
        if failing {
            ILL.iter().for_each(|(name, _)| to(self.port, name));
            self.peers.iter().for_each(|peer| to(peer.port, "m"));
            to(self.port, "unknown");
            // Nobody listens there.
            to(1, "m");
        }
        (0..HEALTHY).for_each(|n| to(self.port, &format!("m{n}")));
        let path = self.scratch.join("ebbtide.toml");
        fs::write(&path, &config).with_context(|| format!("write {}", path.display()))?;
        let mut daemon = Ebbtide::start_from_file(&bench.ebbtide, &path, &self.scratch)?;
        daemon.until_up(LIMIT)?;
        // Those that fail keep `ebbtide wait` from returning.
        self.change(&mut daemon)?;
        Ok(daemon)
    }

    /// Milliseconds until a change stands at half of the healthy ones, and at all.
    fn change(&self, daemon: &mut Ebbtide) -> Result<(f64, f64)> {
        let text = format!("{:?}\n", std::time::SystemTime::now());
        let started = Instant::now();
        fs::write(self.source.join("changing"), &text).context("write to the source")?;
        let mut missing: Vec<&PathBuf> = self.healthy.iter().collect();
        let mut half = None;
        wait::until("the change shall stand at all that work", started, LIMIT, || {
            missing.retain(|path| !begins_with(&path.join("changing"), text.as_bytes()));
            if missing.len() <= HEALTHY / 2 {
                half.get_or_insert_with(|| started.elapsed());
            }
            Ok(missing.is_empty())
        })?;
        let last = started.elapsed();
        self.settle(daemon)?;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        Ok((milliseconds(half.unwrap_or(last)), milliseconds(last)))
    }

    /// The next change begins when nothing of this one is under way.
    fn settle(&self, daemon: &Ebbtide) -> Result<()> {
        let healthy: Vec<String> =
            (0..HEALTHY).map(|n| format!("rsync://127.0.0.1:{}/m{n}/", self.port)).collect();
        wait::until("all that work shall be in step", Instant::now(), LIMIT, || {
            let status = daemon.status()?;
            let all = status["transfer"]["destinations"].as_array().cloned().unwrap_or_default();
            let ours = all.iter().filter(|to| healthy.iter().any(|url| to["url"] == *url));
            let done = ours.filter(|to| to["pending"] == 0 && to["state"] == "idle").count();
            Ok(done == HEALTHY)
        })?;
        Ok(())
    }
}

/// Modules that fail, and what makes them.
const ILL: [(&str, &str); 5] = [
    ("read-only", "read only = yes"),
    ("secret", "auth users = alice\nsecrets file = /dev/null"),
    ("taken", "max connections = -1"),
    ("refusing", "refuse options = delete"),
    ("protected", "exclude = /changing"),
];

/// One daemon is all destinations: with the 5 connections that one takes in by default, they would wait for each other.
fn configuration(port: u16, folder: &Path) -> String {
    let mut config = format!(
        "address = 127.0.0.1\nport = {port}\nlisten backlog = 256\nlog file = {}\nuse chroot = no\n\
         munge symlinks = no\nuid = 0\ngid = 0\n\
         reverse lookup = no\nread only = no\n",
        folder.join("rsyncd.log").display()
    );
    let healthy = (0..HEALTHY).map(|n| (format!("m{n}"), ""));
    for (name, more) in healthy.chain(ILL.map(|(name, more)| (name.to_owned(), more))) {
        let _ = writeln!(config, "[{name}]\npath = {}\n{more}", folder.join(&name).display());
    }
    config
}

/// How a peer that is no daemon behaves.
#[derive(Clone, Copy)]
enum Manner {
    /// Accepts, and says nothing.
    Silent,
    /// Says what no daemon says.
    Noise,
    /// Closes each connection at once.
    HangUp,
}

/// Listens, and is no daemon.
struct Peer {
    port: u16,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    fn start(manner: Manner) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
        let port = listener.local_addr().context("read the number of a free port")?.port();
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut kept = Vec::new();
            for client in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                match manner {
                    Manner::Silent => kept.push(client),
                    Manner::Noise => drop((&client).write_all(&[0x5a; 10_000])),
                    Manner::HangUp => drop(client),
                }
            }
        });
        Ok(Peer { port, over, thread: Some(thread) })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the accept.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn report(samples: &[Vec<(f64, f64)>; 2], run: &mut Run) {
    let heading = ["failing", "changes", "half, p50", "ratio", "half, p99", "all, p50", "ratio", "all, p99"];
    let mut table = Table::new(1, &heading);
    let milliseconds = |value: f64| time(Duration::from_secs_f64(value / 1e3));
    let column = |failing: usize, last: bool| -> Vec<f64> {
        samples[failing].iter().map(|(median, all)| if last { *all } else { *median }).collect()
    };
    for (failing, name) in [(0, "none"), (1, "ten")] {
        let (half, all) = (column(failing, false), column(failing, true));
        table.row(vec![
            name.to_owned(),
            samples[failing].len().to_string(),
            milliseconds(percentile(&half, 0.5)),
            ratio(percentile(&half, 0.5), percentile(&column(0, false), 0.5)),
            milliseconds(percentile(&half, 0.99)),
            milliseconds(percentile(&all, 0.5)),
            ratio(percentile(&all, 0.5), percentile(&column(0, true), 0.5)),
            milliseconds(percentile(&all, 0.99)),
        ]);
    }
    run.table("from a write until it stands at half of 90 destinations, and at all of them", &table);
    run.say(" ten: beside them ten that fail, each in its own way: read-only, without a password, always full, refusing to");
    run.say(
        " delete, protecting the name, an unknown module, nobody listening, silent, noise, hanging up at once.",
    );
}
