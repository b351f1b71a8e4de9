//! Chaos: random operations by several processes and real programs, faults at random, then quiet, the barrier, the
//! referee and the counters' identity.
//!
//! A run is a number of rounds. In each, the load begins, faults of random kinds come at random moments, the load
//! ends, every fault is mended, `ebbtide wait` must return, the referee must have nothing to say, and everything that
//! was seen must be accounted for. One seed decides kinds, order and gaps of all of it; what meets what is up to the
//! machine. A run that fails keeps source, destination, status and logs.

mod config;
mod fault;
mod identity;
mod load;
mod plan;
mod programs;
mod total;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::{Kind, Skip};
use fault::Fault;
use load::Load;
use world::World;

pub use identity::expect_accounted;
pub use load::work;
pub use total::Total;

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Chaos {
    /// The source's file system.
    pub kind: Kind,
    /// fanotify alone, as on a machine without BPF.
    pub fanotify_alone: bool,
    /// No round begins after this.
    pub length: Duration,
    /// Decides everything that is random.
    pub seed: u64,
    /// Faults of these kinds only, by their names; all if empty.
    pub only: Vec<String>,
    /// Processes with random operations.
    pub workers: usize,
    /// What a failing run leaves is put here.
    pub keep: PathBuf,
}

/// What a run was.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Operations that changed something.
    pub operations: u64,
    /// Operations that the tree's state did not allow.
    pub refused: u64,
    /// Runs of real programs.
    pub programs: u64,
    /// Faults, kills among them.
    pub faults: u64,
    /// Processes killed with KILL.
    pub kills: u64,
    /// Rounds, each with a silent referee.
    pub rounds: u64,
    /// How often each kind of fault came.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// What watched the source.
    pub plan: String,
    /// How often ebbtide began in which way when it was started again.
    pub beginnings: BTreeMap<String, u64>,
    /// Why it ended before its time.
    pub failure: Option<String>,
}

impl Chaos {
    /// Runs it; a failure is in the summary.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn run(&self) -> Result<Summary, Skip> {
        let began = Instant::now();
        let mut summary = Summary::default();
        let mut random = Rng::with_seed(self.seed);
        let mut world = World::new(self, &mut random)?;
        let plan = world.plan();
        summary.plan = plan::describe(&plan);
        eprintln!("{}: {}", self.title(), summary.plan);
        if let Some(lacks) = plan::lacks(self.kind, &plan).filter(|_| !self.fanotify_alone) {
            summary.failure = Some(lacks);
            return Ok(summary);
        }
        let mut load = Load::new(&world, &mut random, self.workers);
        while began.elapsed() < self.length && summary.failure.is_none() {
            let round = catch_unwind(AssertUnwindSafe(|| {
                self.round(&mut world, &mut load, &mut random, &mut summary);
            }));
            if let Err(panic) = round {
                let why = said(&*panic);
                eprintln!("{}: round {} failed: {why}", self.title(), summary.rounds);
                world.keep(&self.keep, &load, &why);
                summary.failure = Some(why);
            }
        }
        (summary.operations, summary.refused) = load.count();
        summary.programs = load.programs();
        summary.beginnings = std::mem::take(&mut world.beginnings);
        Ok(summary)
    }

    fn round(&self, world: &mut World, load: &mut Load, random: &mut Rng, summary: &mut Summary) {
        load.begin(random);
        for _ in 0..random.u32(FAULTS) {
            load.pass(Duration::from_millis(random.u64(GAP_MS)));
            self.fault(world, random, summary);
        }
        load.pass(Duration::from_millis(random.u64(GAP_MS)));
        load.end();
        world.mend();
        world.judge();
        summary.rounds += 1;
        if random.u8(..4) == 0 && world.remount(random) {
            note(summary, "remount", 0);
            world.judge();
        }
    }

    fn fault(&self, world: &mut World, random: &mut Rng, summary: &mut Summary) {
        let fault = loop {
            let fault = Fault::random(random);
            if self.only.is_empty() || self.only.iter().any(|name| name == fault.name()) {
                break fault;
            }
        };
        world.note(fault.name());
        let kills = fault.strike(world, random);
        note(summary, fault.name(), kills);
    }

    /// What the run is, in one line.
    pub fn title(&self) -> String {
        let plan = if self.fanotify_alone { "fanotify" } else { "auto" };
        format!("chaos on {} with plan {plan}, seed {}", self.kind.name(), self.seed)
    }

    /// The summary as one line of JSON.
    pub fn json(&self, summary: &Summary, seconds: u64) -> Value {
        json!({
            "fs": self.kind.name(),
            "plan": if self.fanotify_alone { "fanotify" } else { "auto" },
            "watched": summary.plan,
            "seed": self.seed,
            "seconds": seconds,
            "operations": summary.operations,
            "refused": summary.refused,
            "programs": summary.programs,
            "faults": summary.faults,
            "kills": summary.kills,
            "rounds": summary.rounds,
            "by_kind": summary.by_kind,
            "beginnings": summary.beginnings,
            "failure": summary.failure,
        })
    }
}

fn note(summary: &mut Summary, name: &'static str, kills: u64) {
    summary.faults += 1;
    summary.kills += kills;
    *summary.by_kind.entry(name).or_default() += 1;
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Faults of one round.
const FAULTS: std::ops::Range<u32> = 2..10;
/// Before, between and after them.
const GAP_MS: std::ops::Range<u64> = 10..1_500;
