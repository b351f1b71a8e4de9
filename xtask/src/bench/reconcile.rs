//! `reconcile`: a start that looks for what changed meanwhile, beside stock rsync comparing the same trees.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::report::Run;
use super::trees::{Stage, Trees, name};
use super::{Bench, median, turns};
use crate::world::ebbtide::Ebbtide;
use crate::world::process;
use crate::world::rsyncd::Rsyncd;
use crate::world::table::{Table, count, ratio, time};
use crate::world::wait;

const LIMIT: Duration = Duration::from_secs(900);

/// More than the default of `reconcile-margin`; the last files to be made are of about the same age.
const MARGIN: Duration = Duration::from_secs(130);

/// Files that change while the daemon is away; with so few, nothing changes for rsync, which knows no better.
const FEW: u64 = 10;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// From the start of the process until the changed files are at the destination.
    Settled,
    /// Of that, looking through the source.
    Scan,
    /// `rsync -a --delete` with nothing to do, or with as many changed files.
    Rsync,
}

#[derive(Clone, Copy)]
enum Tool {
    Ebbtide,
    Rsync,
}

type Times = BTreeMap<What, Vec<f64>>;

/// Measures and reports.
pub(super) fn measure(bench: &Bench, trees: &mut Trees, run: &mut Run) -> Result<()> {
    run.columns(&["files", "changed", "round", "what", "milliseconds"]);
    let mut all = BTreeMap::new();
    for &files in &bench.options.files {
        let stage = trees.stage(files)?;
        let destination = Rsyncd::start(&bench.scratch, "reconcile", &stage.mirror())?;
        let url = destination.url();
        // The record of a drain that a reconcile starts from.
        let mut first = Ebbtide::start(&bench.ebbtide, &stage.source(), &url, &bench.scratch)?;
        first.until_up(LIMIT)?;
        first.wait(LIMIT)?;
        rest(&stage)?;
        // A drain that is written down after the rest.
        fs::write(stage.source().join(name(0)), "changed before all rounds")
            .context("write to the source")?;
        first.wait(LIMIT)?;
        first.stop()?;
        // Few first: what changed in the last two minutes is looked at again.
        for changed in [FEW, files / 100] {
            let mut times = Times::new();
            for round in 0..bench.rounds(5) {
                for tool in turns(&[Tool::Ebbtide, Tool::Rsync], round) {
                    for (what, milliseconds) in one(bench, &stage, &url, tool, changed, round)? {
                        let numbers = [files.to_string(), changed.to_string(), round.to_string()];
                        let cells = [&numbers[..], &[what.word().into(), format!("{milliseconds:.3}")]];
                        run.figures(&cells.concat());
                        times.entry(what).or_default().push(milliseconds);
                    }
                }
            }
            all.insert((files, changed), times);
        }
    }
    report(&all, run);
    Ok(())
}

/// Waits until all files are older than what a reconcile looks at again anyway.
fn rest(stage: &Stage) -> Result<()> {
    let last = stage.source().join(name(stage.files - 1));
    let made = fs::metadata(&last).and_then(|made| made.modified()).context("look at the newest file")?;
    println!(" the tree rests for longer than reconcile-margin ...");
    while made.elapsed().unwrap_or_default() < MARGIN {
        wait::go_on()?;
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn one(
    bench: &Bench,
    stage: &Stage,
    url: &str,
    tool: Tool,
    changed: u64,
    round: usize,
) -> Result<Vec<(What, f64)>> {
    match tool {
        Tool::Rsync => {
            if changed > FEW {
                change(stage, changed, &format!("changed for rsync in round {round}"))?;
            }
            let began = Instant::now();
            let source = format!("{}/", stage.source().display());
            process::run(Command::new("rsync").args(["-a", "--delete", &source, url]))?;
            Ok(vec![(What::Rsync, milliseconds(began.elapsed()))])
        }
        Tool::Ebbtide => {
            Ebbtide::unload(&bench.ebbtide, &bench.scratch)?;
            change(stage, changed, &format!("changed in round {round}"))?;
            let mut daemon = Ebbtide::start_again(&bench.ebbtide, &stage.source(), url, &bench.scratch)?;
            daemon.until_up(LIMIT)?;
            daemon.wait(LIMIT)?;
            let settled = daemon.age();
            let status = daemon.status()?;
            let scan = status.pointer("/mirrors/0/scan/ms").and_then(serde_json::Value::as_u64);
            let scan = scan.context("the daemon made no reconcile")?;
            daemon.stop()?;
            // Milliseconds of a bench are exact as f64.
            Ok(vec![(What::Settled, milliseconds(settled)), (What::Scan, scan as f64)])
        }
    }
}

/// So many files from all over the tree are written anew.
fn change(stage: &Stage, changed: u64, text: &str) -> Result<()> {
    for at in 0..changed {
        let path = stage.source().join(name(at * stage.files / changed));
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Settled => "ebbtide-settled",
            Self::Scan => "ebbtide-scan",
            Self::Rsync => "rsync",
        }
    }
}

fn report(all: &BTreeMap<(u64, u64), Times>, run: &mut Run) {
    let heading =
        ["files", "changed", "rsync -a --delete", "ebbtide's scan", "ratio", "until all is settled", "ratio"];
    let mut table = Table::new(0, &heading);
    for ((files, changed), times) in all {
        let at = |what: What| times.get(&what).map_or(0.0, |values| median(values));
        let show = |what| time(Duration::from_secs_f64(at(what) / 1e3));
        table.row(vec![
            count(*files),
            count(*changed),
            show(What::Rsync),
            show(What::Scan),
            ratio(at(What::Rsync), at(What::Scan)),
            show(What::Settled),
            ratio(at(What::Rsync), at(What::Settled)),
        ]);
    }
    run.table("a start that nothing is left for, and files that changed meanwhile", &table);
    run.say(" The daemon's time is from the start of its process, with loading its programs. Medians; caches warm; the trees were");
    run.say(" older than `reconcile-margin` when the first daemon ended.");
}
