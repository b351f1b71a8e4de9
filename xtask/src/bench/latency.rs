//! `latency`: how long until one changed file stands at the destination, and what was sent for it, by size of
//! the tree.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::report::Run;
use super::trees::{self, Stage, Trees};
use super::{Bench, median, peers, percentile, turns};
use crate::world::ebbtide::Ebbtide;
use crate::world::process::{self, Running, begins_with};
use crate::world::rsyncd::Rsyncd;
use crate::world::table::{Table, bytes, count, ratio, time};
use crate::world::wait;

const LIMIT: Duration = Duration::from_secs(900);

/// How long the script may take for all its measurements of one size, about.
const SCRIPT_BUDGET: Duration = Duration::from_secs(100);

/// What the script needs for one file of the tree, about: 15 s for a million.
const SCRIPT_PER_FILE: Duration = Duration::from_micros(15);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tool {
    Ebbtide,
    FilesFrom,
    Lsyncd,
    Script,
}

const TOOLS: [Tool; 4] = [Tool::Ebbtide, Tool::FilesFrom, Tool::Lsyncd, Tool::Script];

/// One change, followed.
#[derive(Clone, Copy)]
struct Sample {
    milliseconds: f64,
    bytes: u64,
}

type Samples = BTreeMap<(u64, Tool), Vec<Sample>>;

/// Measures and reports.
pub(super) fn measure(bench: &Bench, trees: &mut Trees, run: &mut Run) -> Result<()> {
    run.columns(&["files", "round", "tool", "milliseconds", "bytes_sent"]);
    let rounds = bench.rounds(4);
    let mut samples = Samples::new();
    for &files in &bench.options.files {
        let stage = trees.stage(files)?;
        let mut track = Track::new(bench, &stage)?;
        for round in 0..rounds {
            for tool in turns(&TOOLS, round) {
                let repetitions = repetitions(tool, files, bench.options.changes).div_ceil(rounds);
                for sample in track.follow(tool, repetitions)? {
                    let figures = [format!("{:.3}", sample.milliseconds), sample.bytes.to_string()];
                    let place = [files.to_string(), round.to_string(), tool.word().to_owned()];
                    run.figures(&[&place[..], &figures[..]].concat());
                    samples.entry((files, tool)).or_default().push(sample);
                }
            }
        }
        track.referee()?;
    }
    report(&samples, run);
    Ok(())
}

fn repetitions(tool: Tool, files: u64, wanted: usize) -> usize {
    if tool != Tool::Script {
        return wanted;
    }
    let one = SCRIPT_PER_FILE.as_secs_f64() * files as f64;
    wanted.min((SCRIPT_BUDGET.as_secs_f64() / one) as usize).max(4)
}

/// A tree, its destination, and a number that makes each change another one.
struct Track<'a> {
    bench: &'a Bench,
    stage: &'a Stage,
    destination: Rsyncd,
    stamp: u64,
}

/// A tool that follows the tree; dropping it ends it.
enum Follower {
    Daemon(Ebbtide),
    Process {
        _process: Running,
    },
    /// Started anew for each change.
    Nothing,
}

impl<'a> Track<'a> {
    fn new(bench: &'a Bench, stage: &'a Stage) -> Result<Self> {
        let destination = Rsyncd::start(&bench.scratch, "latency", &stage.mirror())?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
        Ok(Self { bench, stage, destination, stamp: now.as_secs() << 20 })
    }

    fn follow(&mut self, tool: Tool, repetitions: usize) -> Result<Vec<Sample>> {
        let mut follower = self.start(tool)?;
        let samples: Result<_> = (0..repetitions).map(|_| self.change(&mut follower)).collect();
        if let Follower::Daemon(daemon) = follower {
            daemon.stop()?;
        }
        samples
    }

    fn start(&self, tool: Tool) -> Result<Follower> {
        let (source, url, scratch) = (self.stage.source(), self.destination.url(), &self.bench.scratch);
        Ok(match tool {
            Tool::Ebbtide => {
                let mut daemon = Ebbtide::start(&self.bench.ebbtide, &source, &url, scratch)?;
                daemon.until_up(LIMIT)?;
                daemon.wait(LIMIT)?;
                Follower::Daemon(daemon)
            }
            Tool::Lsyncd => Follower::Process { _process: peers::lsyncd(&source, &url, scratch, LIMIT)?.0 },
            Tool::Script => Follower::Process { _process: peers::script(&source, &url, scratch, LIMIT)? },
            Tool::FilesFrom => Follower::Nothing,
        })
    }

    fn change(&mut self, follower: &mut Follower) -> Result<Sample> {
        self.stamp += 1;
        let name = trees::name(self.stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.stage.files);
        let text = format!("{:016x}{:>83}\n", self.stamp, "a line of a changed file");
        let (ours, theirs) = (self.stage.source().join(&name), self.stage.mirror().join(&name));
        let mark = self.destination.mark();
        let started = Instant::now();
        write(&ours, text.as_bytes())?;
        let pushed = match follower {
            Follower::Nothing => Some(peers::files_from(
                &self.stage.source(),
                &name,
                &self.destination.url(),
                &self.bench.scratch,
            )?),
            _ => None,
        };
        let stands = || Ok(begins_with(&theirs, text.as_bytes()));
        let time = wait::until("the change shall stand at the destination", started, LIMIT, stands)?;
        if let Some(pushed) = pushed {
            pushed.finish()?;
        }
        if let Follower::Daemon(daemon) = follower {
            daemon.wait(LIMIT)?;
        }
        let traffic = self.destination.settled(mark, 1, LIMIT)?;
        Ok(Sample { milliseconds: time.as_secs_f64() * 1e3, bytes: traffic.received })
    }

    /// After all that, both sides must be equal.
    fn referee(&self) -> Result<()> {
        let output = process::run(
            Command::new("rsync")
                .args(["-na", "--delete", "--itemize-changes"])
                .arg(self.stage.source().join(""))
                .arg(self.destination.url()),
        )?;
        if !output.stdout.is_empty() {
            let text = String::from_utf8_lossy(&output.stdout);
            bail!("source and destination differ after the run: {}", text.escape_debug());
        }
        Ok(())
    }
}

fn write(path: &Path, text: &[u8]) -> Result<()> {
    let file =
        OpenOptions::new().write(true).open(path).with_context(|| format!("open {}", path.display()))?;
    file.write_all_at(text, 0).with_context(|| format!("write {}", path.display()))
}

impl Tool {
    fn word(self) -> &'static str {
        match self {
            Self::Ebbtide => "ebbtide",
            Self::FilesFrom => "rsync --files-from",
            Self::Lsyncd => "lsyncd",
            Self::Script => "the script",
        }
    }
}

fn report(samples: &Samples, run: &mut Run) {
    let mut table =
        Table::new(2, &["files", "tool", "changes", "p50", "ratio", "p99", "ratio", "sent", "ratio"]);
    for ((files, tool), found) in samples {
        let ours = samples.get(&(*files, Tool::Ebbtide)).map_or(&[][..], Vec::as_slice);
        let (figures, base) = (Figures::of(found), Figures::of(ours));
        let milliseconds = |value: f64| time(Duration::from_secs_f64(value / 1e3));
        table.row(vec![
            count(*files),
            tool.word().to_owned(),
            found.len().to_string(),
            milliseconds(figures.p50),
            ratio(figures.p50, base.p50),
            milliseconds(figures.p99),
            ratio(figures.p99, base.p99),
            bytes(figures.bytes as u64),
            ratio(figures.bytes, base.bytes),
        ]);
    }
    run.table("from the write until the destination's file read the same, and bytes sent for it", &table);
    run.say(" ratio: how many times ebbtide's figure. sent: median of the bytes that the daemon counted as received.");
    run.say(
        " rsync --files-from: the name is known at once, nothing watches; the least that stock tools can do.",
    );
    run.say(" lsyncd: delay = 0. the script: rsync -vzrtopg --delete of the tree at every event of inotifywait -mr;");
    run.say(" it gets fewer changes where each takes seconds, and its p99 is then its slowest.");
}

struct Figures {
    p50: f64,
    p99: f64,
    bytes: f64,
}

impl Figures {
    fn of(samples: &[Sample]) -> Self {
        let times: Vec<f64> = samples.iter().map(|sample| sample.milliseconds).collect();
        let sent: Vec<f64> = samples.iter().map(|sample| sample.bytes as f64).collect();
        Self { p50: percentile(&times, 0.5), p99: percentile(&times, 0.99), bytes: median(&sent) }
    }
}
