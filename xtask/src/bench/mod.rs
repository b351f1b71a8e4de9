//! `cargo xtask bench`: ebbtide and its peers, measured in turns in the same run.

mod latency;
mod limits;
mod many;
mod mark;
mod peers;
mod reconcile;
mod renames;
mod report;
mod scale;
mod start;
mod transfer;
mod trees;
pub(crate) mod worker;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::world::{self, ebbtide};
use report::Run;
use trees::Trees;

/// What to measure.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Scenarios to run; all when none is given.
    scenarios: Vec<Scenario>,
    /// Sizes of the trees, in files.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000])]
    files: Vec<u64>,
    /// Turns that each tool gets; each scenario has its own default.
    #[arg(long)]
    rounds: Option<usize>,
    /// Changes measured for each tool and size by `latency`.
    #[arg(long, default_value_t = 100)]
    changes: usize,
    /// Pushes that `transfer` measures; all when none is given.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<transfer::Case>,
    /// Size of the large files of `transfer`, in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Files in the tree whose changed files `transfer` names.
    #[arg(long, default_value_t = 100_000)]
    named: u64,
    /// Prints only; leaves nothing under bench/runs.
    #[arg(long)]
    dry: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    /// What a write costs with nobody watching, and with each watcher.
    Mark,
    /// How long until changes are noticed, by size of the tree.
    Start,
    /// How long a start takes that looks for what changed meanwhile, by size of the tree.
    Reconcile,
    /// How long until a change stands at the destination, and the bytes sent, by size of the tree.
    Latency,
    /// What pushes cost, beside the stock rsync client.
    Transfer,
    /// What memory, loopback, checksum and compressor give by themselves.
    Limits,
    /// What one change costs, and the memory of both processes, by size of the tree.
    Scale,
    /// How long until a change stands at 90 destinations, beside ten that fail and without them.
    Many,
    /// What a renamed directory costs on the wire, beside stock rsync.
    Renames,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Start => "start",
            Self::Reconcile => "reconcile",
            Self::Latency => "latency",
            Self::Transfer => "transfer",
            Self::Limits => "limits",
            Self::Scale => "scale",
            Self::Many => "many",
            Self::Renames => "renames",
        }
    }
}

/// Where things are.
struct Bench {
    /// The daemon's binary.
    ebbtide: PathBuf,
    /// For images, mounts and logs; removed in the end.
    scratch: PathBuf,
    options: Options,
}

impl Bench {
    fn rounds(&self, usual: usize) -> usize {
        self.options.rounds.unwrap_or(usual).max(1)
    }
}

/// Runs the scenarios with the binaries in `built`.
pub(crate) fn run_bench(built: &Path, options: &Options) -> Result<()> {
    let scratch = world::target()?.join("bench");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    let bench =
        Bench { ebbtide: ebbtide::program(built)?, scratch: scratch.clone(), options: options.clone() };
    let mut trees = Trees::new(&scratch);
    let all = [
        Scenario::Mark,
        Scenario::Start,
        Scenario::Reconcile,
        Scenario::Latency,
        Scenario::Transfer,
        Scenario::Limits,
        Scenario::Scale,
        Scenario::Many,
        Scenario::Renames,
    ];
    let wanted = if options.scenarios.is_empty() { &all[..] } else { &options.scenarios };
    for &scenario in wanted {
        let mut run = Run::new(scenario.name());
        match scenario {
            Scenario::Mark => mark::measure(&bench, &mut run)?,
            Scenario::Start => start::measure(&bench, &mut trees, &mut run)?,
            Scenario::Reconcile => reconcile::measure(&bench, &mut trees, &mut run)?,
            Scenario::Latency => latency::measure(&bench, &mut trees, &mut run)?,
            Scenario::Transfer => transfer::measure(&bench, &mut trees, &mut run)?,
            Scenario::Limits => limits::measure(&bench, &mut trees, &mut run)?,
            Scenario::Scale => scale::measure(&bench, &mut trees, &mut run)?,
            Scenario::Many => many::measure(&bench, &mut run)?,
            Scenario::Renames => renames::measure(&bench, &mut run)?,
        }
        if !options.dry {
            run.save()?;
        }
    }
    drop(trees);
    fs::remove_dir_all(&scratch).with_context(|| format!("remove {}", scratch.display()))
}

/// The value in the middle; the mean of the two in the middle of an even number; 0 of none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The smallest value that `share` (0 to 1) of all values do not exceed; 0 of none.
fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// The order of a round: each round begins with another one, so that none always comes first.
fn turns<T: Copy>(all: &[T], round: usize) -> Vec<T> {
    let mut order = all.to_vec();
    order.rotate_left(round % all.len().max(1));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_percentiles_are_those_of_the_sorted_values() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(median(&values), 50.5);
        assert_eq!(percentile(&values, 0.5), 50.0);
        assert_eq!(percentile(&values, 0.99), 99.0);
        assert_eq!(percentile(&[], 0.99), 0.0);
    }

    #[test]
    fn each_round_begins_with_another_tool() {
        assert_eq!(turns(&['a', 'b', 'c'], 0), ['a', 'b', 'c']);
        assert_eq!(turns(&['a', 'b', 'c'], 4), ['b', 'c', 'a']);
    }
}
