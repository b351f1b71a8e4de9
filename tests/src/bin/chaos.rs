//! Random operations and faults, for as long as is wanted; see `ebbtide_tests::Chaos`. `cargo xtask chaos` builds
//! everything and runs this.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use ebbtide_tests::{Chaos, Kind, Stores, Total, work};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    /// How long, of each file system and plan.
    #[arg(long, default_value_t = 2.0, value_name = "N")]
    minutes: f64,
    /// Replays the random part of a run.
    #[arg(long, env = "EBBTIDE_SEED", value_name = "S")]
    seed: Option<u64>,
    /// One file system; without it all of them, one after the other.
    #[arg(long, value_enum)]
    fs: Option<Fs>,
    /// How the source is watched; without it in both ways, one after the other.
    #[arg(long, value_enum)]
    plan: Option<Plan>,
    /// Faults of these kinds only.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Processes with random operations.
    #[arg(long, default_value_t = 3, value_name = "N")]
    workers: usize,
    /// Where a failing run leaves its trees and logs [default: chaos in the target folder].
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Part {
    /// One process with random operations.
    #[command(hide = true)]
    Work {
        source: PathBuf,
        seed: u64,
        #[arg(value_enum)]
        stores: How,
    },
}

/// How files are written through mappings.
#[derive(Clone, Copy, ValueEnum)]
enum How {
    None,
    Clean,
    Any,
}

#[derive(Clone, Copy, ValueEnum)]
enum Fs {
    Ext4,
    Xfs,
    Btrfs,
    Tmpfs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Plan {
    /// With whatever this kernel permits.
    Auto,
    /// As on a machine without BPF.
    Fanotify,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Part::Work { source, seed, stores }) = &cli.part {
        work(source, *seed, stores.stores());
        return ExitCode::SUCCESS;
    }
    let kinds = cli.fs.map_or(Kind::ALL.to_vec(), |fs| vec![fs.kind()]);
    let plans = cli.plan.map_or(vec![Plan::Auto, Plan::Fanotify], |plan| vec![plan]);
    let (mut total, mut well) = (Total::default(), true);
    for kind in kinds {
        for plan in &plans {
            well &= run(&cli, kind, *plan, &mut total);
            if total.runs() > 1 {
                eprintln!("so far {total}");
            }
        }
    }
    if total.runs() > 1 {
        println!("{}", total.json());
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether it went well, or cannot be run here.
fn run(cli: &Cli, kind: Kind, plan: Plan, total: &mut Total) -> bool {
    let seed = cli.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let keep = cli.keep.clone().unwrap_or_else(|| ebbtide_tests::target_dir().join("chaos"));
    let chaos = Chaos {
        kind,
        fanotify_alone: plan == Plan::Fanotify,
        length: Duration::from_secs_f64(cli.minutes * 60.0),
        seed,
        only: cli.only.clone(),
        workers: cli.workers,
        keep: keep.join(format!("{}-{}-{seed}", kind.name(), plan.name())),
    };
    eprintln!("{}", chaos.title());
    let began = Instant::now();
    match chaos.run() {
        Ok(summary) => {
            println!("{}", chaos.json(&summary, began.elapsed().as_secs()));
            total.add(&chaos.title(), &summary);
            summary.failure.is_none()
        }
        Err(skip) => {
            println!("SKIPPED {}: {}", chaos.title(), skip.0);
            true
        }
    }
}

impl Plan {
    fn name(self) -> &'static str {
        match self {
            Plan::Auto => "auto",
            Plan::Fanotify => "fanotify",
        }
    }
}

impl How {
    fn stores(self) -> Stores {
        match self {
            How::None => Stores::None,
            How::Clean => Stores::Clean,
            How::Any => Stores::Any,
        }
    }
}

impl Fs {
    fn kind(self) -> Kind {
        match self {
            Fs::Ext4 => Kind::Ext4,
            Fs::Xfs => Kind::Xfs,
            Fs::Btrfs => Kind::Btrfs,
            Fs::Tmpfs => Kind::Tmpfs,
        }
    }
}
