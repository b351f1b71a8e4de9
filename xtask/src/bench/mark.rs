//! `mark`: what a write costs its writer, with nobody watching and with each kind of watcher.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::report::Run;
use super::worker::{READY, make_files};
use super::{Bench, median, turns};
use crate::world::ebbtide::Ebbtide;
use crate::world::image::Image;
use crate::world::process::{Running, run};
use crate::world::rsyncd::Rsyncd;
use crate::world::table::{Table, ratio};

/// Writes to one open file, in one measurement.
const REWRITES: u64 = 300_000;

/// Files that are opened, written and closed, and how often, in one measurement.
const FILES: u64 = 10_000;
const PASSES: u64 = 3;

const LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Watcher {
    Nobody,
    /// The daemon is stopped; its programs in the kernel are not.
    Marks,
    /// The daemon mirrors.
    Ebbtide,
    Inotify,
    Fanotify,
}

const WATCHERS: [Watcher; 5] =
    [Watcher::Nobody, Watcher::Marks, Watcher::Ebbtide, Watcher::Inotify, Watcher::Fanotify];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Work {
    Rewrite,
    Many,
}

/// Nanoseconds of one write.
#[derive(Clone, Copy)]
struct Cost {
    clock: f64,
    processor: f64,
}

type Costs = BTreeMap<(Work, Watcher), Vec<Cost>>;

/// Measures and reports.
pub(super) fn measure(bench: &Bench, run: &mut Run) -> Result<()> {
    let image = Image::create(&bench.scratch.join("mark.img"), 2 << 30, 100_000)?;
    let mount = image.mount(&bench.scratch.join("mark"))?;
    let ground = Ground::prepare(bench, mount.at())?;
    let mut costs = Costs::new();
    run.columns(&["round", "work", "watcher", "writes", "clock_ns", "processor_ns"]);
    for round in 0..bench.rounds(15) {
        for watcher in turns(&WATCHERS, round) {
            let _watching = ground.watch(bench, watcher)?;
            for work in [Work::Rewrite, Work::Many] {
                let (count, cost) = ground.write(work)?;
                let figures =
                    [round.to_string(), work.word().into(), watcher.word().into(), count.to_string()];
                let times = [format!("{:.1}", cost.clock), format!("{:.1}", cost.processor)];
                run.figures(&[&figures[..], &times[..]].concat());
                costs.entry((work, watcher)).or_default().push(cost);
            }
        }
    }
    report(&costs, run);
    Ok(())
}

/// The folders that are written to, and a destination for ebbtide.
struct Ground {
    one: PathBuf,
    many: PathBuf,
    tree: PathBuf,
    mirror: PathBuf,
    xtask: PathBuf,
}

/// A watcher at work; dropping it ends it.
enum Watching {
    Nobody,
    Process { _process: Running },
    Mirror { _daemon: Ebbtide, _destination: Rsyncd },
}

impl Ground {
    fn prepare(bench: &Bench, root: &Path) -> Result<Self> {
        let tree = root.join("tree");
        let ground = Self {
            one: tree.join("one"),
            many: tree.join("many"),
            tree,
            mirror: bench.scratch.join("mark-mirror"),
            xtask: env::current_exe().context("find the path of xtask")?,
        };
        fs::create_dir_all(&ground.mirror).context("create the destination")?;
        make_files(&ground.many, FILES)?;
        fs::write(&ground.one, [0; 4096]).context("write the file to rewrite")?;
        Ok(ground)
    }

    fn watch(&self, bench: &Bench, watcher: Watcher) -> Result<Watching> {
        match watcher {
            Watcher::Nobody => Ok(Watching::Nobody),
            Watcher::Inotify | Watcher::Fanotify => {
                let mut command = Command::new(&self.xtask);
                command.args(["bench-worker", watcher.word()]).arg(&self.tree);
                let mut process = Running::start(&mut command, &bench.scratch.join("watcher.log"))?;
                process.until_printed(READY, LIMIT)?;
                Ok(Watching::Process { _process: process })
            }
            Watcher::Ebbtide | Watcher::Marks => {
                let destination = Rsyncd::start(&bench.scratch, "mark", &self.mirror)?;
                let mut daemon =
                    Ebbtide::start(&bench.ebbtide, &self.tree, &destination.url(), &bench.scratch)?;
                daemon.until_up(LIMIT)?;
                daemon.wait(LIMIT)?;
                if watcher == Watcher::Marks {
                    daemon.freeze();
                }
                Ok(Watching::Mirror { _daemon: daemon, _destination: destination })
            }
        }
    }

    /// Lets a writer work. Returns the number of its writes, and what one costs.
    fn write(&self, work: Work) -> Result<(u64, Cost)> {
        let mut command = Command::new(&self.xtask);
        match work {
            Work::Rewrite => {
                command.args(["bench-worker", "rewrite"]).arg(&self.one).arg(REWRITES.to_string())
            }
            Work::Many => command.args(["bench-worker", "many"]).arg(&self.many).arg(PASSES.to_string()),
        };
        let output = run(&mut command)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [count, clock, processor] = numbers[..] else {
            anyhow::bail!("the writer printed {text:?}, expected three numbers");
        };
        Ok((count as u64, Cost { clock: clock / count, processor: processor / count }))
    }
}

impl Watcher {
    fn word(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Marks => "ebbtide-marks",
            Self::Ebbtide => "ebbtide",
            Self::Inotify => "inotify",
            Self::Fanotify => "fanotify",
        }
    }
}

impl Work {
    fn word(self) -> &'static str {
        match self {
            Self::Rewrite => "rewrite",
            Self::Many => "open-write-close",
        }
    }
}

fn report(costs: &Costs, run: &mut Run) {
    let titles = [
        (Work::Rewrite, "100 bytes rewritten in an open file: what each write costs its writer".to_owned()),
        (Work::Many, format!("open, write 100 bytes, close, over {FILES} files: what each costs its writer")),
    ];
    for (work, title) in titles {
        let mut table = Table::new(1, &["watched by", "processor", "added", "against", "clock", "added"]);
        for watcher in WATCHERS {
            table.row(row(costs, work, watcher));
        }
        run.table(&title, &table);
    }
    run.say(" Medians over the rounds; \"added\" is the median of the differences to \"nobody\" in the same round.");
    run.say(" ebbtide-marks: its programs in the kernel, the daemon stopped. ebbtide: the whole daemon, mirroring these");
    run.say(" files to a stock rsyncd meanwhile. inotify, fanotify: a process that reads its events and does nothing else.");
    run.say(" against: how many times what the whole daemon adds.");
}

fn row(costs: &Costs, work: Work, watcher: Watcher) -> Vec<String> {
    let nanoseconds = |value: f64| format!("{} ns", value.round() as i64);
    let all = |pick: fn(&Cost) -> f64| -> Vec<f64> { costs[&(work, watcher)].iter().map(pick).collect() };
    let (clock, processor) = (median(&all(|cost| cost.clock)), median(&all(|cost| cost.processor)));
    let [added, added_clock] = [|cost: &Cost| cost.processor, |cost: &Cost| cost.clock]
        .map(|pick| added(costs, work, watcher, pick));
    let ours = self::added(costs, work, Watcher::Ebbtide, |cost| cost.processor);
    if watcher == Watcher::Nobody {
        return vec![
            watcher.word().into(),
            nanoseconds(processor),
            "-".into(),
            "-".into(),
            nanoseconds(clock),
            "-".into(),
        ];
    }
    vec![
        watcher.word().into(),
        nanoseconds(processor),
        nanoseconds(added),
        ratio(added, ours),
        nanoseconds(clock),
        nanoseconds(added_clock),
    ]
}

fn added(costs: &Costs, work: Work, watcher: Watcher, pick: fn(&Cost) -> f64) -> f64 {
    let (with, without) = (&costs[&(work, watcher)], &costs[&(work, Watcher::Nobody)]);
    let differences: Vec<f64> =
        with.iter().zip(without).map(|(with, without)| pick(with) - pick(without)).collect();
    median(&differences)
}
