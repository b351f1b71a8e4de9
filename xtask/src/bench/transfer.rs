//! `transfer`: `ebbtide-send` by itself beside the stock rsync client, in turns, against the same stock daemon.

mod case;
mod data;
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::report::Run;
use super::trees::Trees;
use super::{Bench, median, turns};
use crate::world::process;
use crate::world::table::{Table, bytes, three_digits, time};
pub(super) use case::Case;
pub(super) use data::Text;
use world::World;

/// Who pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tool {
    Stock,
    Ours,
}

const TOOLS: [Tool; 2] = [Tool::Stock, Tool::Ours];

/// What one push cost the source's side.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// Seconds by the clock.
    wall: f64,
    /// Seconds of processor time, user and system, of the process and its children.
    processor: f64,
    /// Largest resident set in bytes, mapped files included.
    memory: f64,
    /// Bytes that the daemon counted as received.
    sent: f64,
}

type Costs = BTreeMap<(Case, Tool), Vec<Cost>>;

/// Measures and reports.
pub(super) fn measure(bench: &Bench, trees: &mut Trees, run: &mut Run) -> Result<()> {
    run.columns(&["case", "round", "tool", "wall_s", "user_and_system_s", "max_rss_bytes", "sent_bytes"]);
    let mut costs = Costs::new();
    let wanted = &bench.options.cases;
    for case in Case::ALL.into_iter().filter(|case| wanted.is_empty() || wanted.contains(case)) {
        let mut world = World::new(bench, trees, case)?;
        for round in 0..bench.rounds(case.rounds()) {
            for tool in turns(&TOOLS, round) {
                world.prepare()?;
                let cost = world.push(bench, tool)?;
                run.figures(&cost.cells(case, round, tool));
                costs.entry((case, tool)).or_default().push(cost);
            }
        }
        world.referee()?;
    }
    report(bench, &costs, run);
    Ok(())
}

impl Tool {
    fn word(self) -> &'static str {
        match self {
            Self::Stock => "rsync",
            Self::Ours => "ebbtide-send",
        }
    }

    fn program(self, bench: &Bench) -> PathBuf {
        match self {
            Self::Stock => PathBuf::from("rsync"),
            Self::Ours => bench.ebbtide.with_file_name("ebbtide-send"),
        }
    }
}

impl Cost {
    /// Runs a program through the worker that counts what it takes.
    fn of(program: &Path, arguments: &[String]) -> Result<Cost> {
        let executable = std::env::current_exe().context("find the path of xtask")?;
        let mut command = Command::new(executable);
        command.args(["bench-worker", "meter", "--"]).arg(program).args(arguments);
        let output = process::run(&mut command)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [wall, processor, memory] = numbers[..] else {
            bail!("the meter said {:?}", text.escape_debug().to_string());
        };
        Ok(Cost { wall, processor, memory, sent: 0.0 })
    }

    fn cells(&self, case: Case, round: usize, tool: Tool) -> Vec<String> {
        vec![
            case.word().to_owned(),
            round.to_string(),
            tool.word().to_owned(),
            format!("{:.4}", self.wall),
            format!("{:.4}", self.processor),
            format!("{:.0}", self.memory),
            format!("{:.0}", self.sent),
        ]
    }

    fn median(costs: &[Cost]) -> Cost {
        let middle = |part: fn(&Cost) -> f64| median(&costs.iter().map(part).collect::<Vec<_>>());
        Cost {
            wall: middle(|cost| cost.wall),
            processor: middle(|cost| cost.processor),
            memory: middle(|cost| cost.memory),
            sent: middle(|cost| cost.sent),
        }
    }
}

fn report(bench: &Bench, costs: &Costs, run: &mut Run) {
    let heading = [
        "push",
        "processor",
        "rsync",
        "share",
        "clock",
        "rsync",
        "share",
        "memory",
        "rsync",
        "sent",
        "rsync",
        "share",
        "aim",
    ];
    let mut table = Table::new(1, &heading);
    let seconds = |value: f64| time(Duration::from_secs_f64(value));
    for case in Case::ALL {
        let found = |tool| costs.get(&(case, tool)).map(|costs| Cost::median(costs));
        let (Some(ours), Some(theirs)) = (found(Tool::Ours), found(Tool::Stock)) else { continue };
        table.row(vec![
            case.title(bench),
            seconds(ours.processor),
            seconds(theirs.processor),
            share(ours.processor, theirs.processor),
            seconds(ours.wall),
            seconds(theirs.wall),
            share(ours.wall, theirs.wall),
            bytes(ours.memory as u64),
            bytes(theirs.memory as u64),
            bytes(ours.sent as u64),
            bytes(theirs.sent as u64),
            share(ours.sent, theirs.sent),
            case.aim().to_owned(),
        ]);
    }
    run.table("what a push costs the source's side: ebbtide-send, and the stock rsync client", &table);
    run.say(
        " processor: user and system time of the client process. share: ours by theirs, smaller is better.",
    );
    run.say(" memory: largest resident set, pages of mapped files included. sent: as the daemon counted it.");
    run.say(" Medians over the rounds; both clients push to the same stock daemon in turns; caches warm.");
}

fn share(ours: f64, theirs: f64) -> String {
    if theirs > 0.0 { format!("{}x", three_digits(ours / theirs)) } else { "-".to_owned() }
}
