//! `cargo xtask chaos`: random operations and faults, for as long as a person wants.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, cargo};
use crate::world;

/// What is handed on; see `tests/src/bin/chaos.rs`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// How long, of each file system and plan [default: 2].
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,
    /// Replays the random part of a run.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// ext4, xfs, btrfs or tmpfs; without it all of them, one after the other.
    #[arg(long, value_name = "F")]
    fs: Option<String>,
    /// auto: whatever this kernel permits; fanotify: as on a machine without BPF; without it both, one after the other.
    #[arg(long, value_name = "P")]
    plan: Option<String>,
    /// Faults of these kinds only, by their names in the summary, with commas.
    #[arg(long, value_name = "NAMES")]
    only: Option<String>,
    /// Processes with random operations [default: 3].
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
}

/// Runs it with the binaries in `built`. The last line of each run is its summary in JSON, and after several the
/// last of all is their total; a failing run says its seed, and where it left both trees and the logs.
pub(crate) fn run(built: &Path, options: &Options) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--package", "ebbtide-tests", "--bin", "chaos"]);
    process::run(&mut build, "the harness must compile")?;
    let program = world::target()?.join("debug/chaos");
    let status = Command::new(&program)
        .args(options.arguments())
        .env("EBBTIDE_BIN", built.join("ebbtide"))
        .env("EBBTIDE_SEND_BIN", built.join("ebbtide-send"))
        .status()
        .with_context(|| format!("start {}", program.display()))?;
    if !status.success() {
        bail!("a run failed; its summary above has the seed");
    }
    Ok(())
}

impl Options {
    fn arguments(&self) -> Vec<String> {
        let texts = [
            ("--minutes", self.minutes.map(|n| n.to_string())),
            ("--seed", self.seed.map(|n| n.to_string())),
            ("--fs", self.fs.clone()),
            ("--plan", self.plan.clone()),
            ("--only", self.only.clone()),
            ("--workers", self.workers.map(|n| n.to_string())),
        ];
        let given = texts.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?]));
        given.flatten().collect()
    }
}
