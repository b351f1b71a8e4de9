//! `cargo xtask`: all that is done to this repository beyond `cargo build`. Each verb is one module.

mod bench;
mod build;
mod chaos;
mod ci;
mod demo;
mod fuzz;
mod layers;
mod load;
mod process;
mod setup;
mod test;
mod toolchain;
mod vm;
mod world;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use build::Profile;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, loads, tests and measures ebbtide")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Installs what this machine lacks, and says what and why.
    Setup,
    /// Builds the eBPF programs, then the binaries.
    Build {
        /// With optimization.
        #[arg(long)]
        release: bool,
    },
    /// Pins the eBPF programs and maps in bpffs, for looking at them with bpftool, and shows what attached.
    Load {
        /// A path on a file system whose inodes are to be marked; may be given more than once.
        #[arg(long = "dev", value_name = "PATH")]
        devices: Vec<PathBuf>,
    },
    /// Removes what `load` pinned.
    Unload,
    /// Mirrors a tree of real files to a stock rsync daemon, and shows what each kind of change costs.
    Demo {
        /// Use a copy of this folder.
        folder: Option<PathBuf>,
    },
    /// Runs every test; the last line counts passed, failed and skipped.
    Test {
        /// Only tests whose names contain this.
        filter: Option<String>,
    },
    /// Runs the tests of marking under another kernel, Debian's own, in a machine that is emulated in software; or any
    /// command there.
    VmTest {
        /// Only tests whose names contain this.
        filter: Option<String>,
        /// Runs this command in the machine's shell instead: `ebbtide`, `ebbtide-send`, rsync, the tools for file
        /// systems and busybox are there, `/scratch` is an ext4 of its own.
        #[arg(long, value_name = "COMMAND", conflicts_with = "filter")]
        run: Option<String>,
        /// Writes the part of docs/KERNELS.md about that kernel anew.
        #[arg(long, conflicts_with_all = ["filter", "run"])]
        write: bool,
        /// Takes this program along, into `/usr/local/bin`; may be given more than once.
        #[arg(long = "with", value_name = "PROGRAM")]
        with: Vec<PathBuf>,
        /// The Debian package that stands for the kernel.
        #[arg(long, value_name = "PACKAGE", default_value = vm::KERNEL)]
        kernel: String,
    },
    /// Random operations and faults, then the referee, over and over; the summary is one line of JSON.
    Chaos(chaos::Options),
    /// Looks for bytes from outside that break a promise; what it finds stays in `fuzz/artifacts`.
    Fuzz {
        /// A file of `fuzz/fuzz_targets`.
        target: String,
        /// How long to look.
        #[arg(long, default_value_t = 60, value_name = "N")]
        seconds: u32,
    },
    /// Checks who imports whom.
    Layers,
    /// Formatting, layers, lints and tests: what a change must pass.
    Ci,
    /// Measures ebbtide beside the tools it replaces.
    Bench(bench::Options),
    /// Part of `bench`.
    #[command(hide = true)]
    BenchWorker {
        #[command(subcommand)]
        worker: bench::worker::Worker,
    },
}

fn main() -> Result<()> {
    match Cli::parse().verb {
        Verb::Setup => setup::run(),
        Verb::Build { release } => ready(Profile::of(release)).map(drop),
        Verb::Load { devices } => load::load(&ready(Profile::Debug)?, &devices),
        Verb::Unload => load::unload(),
        Verb::Demo { folder } => {
            let built = ready(Profile::Release)?;
            world::enter()?;
            demo::run_demo(&built, folder.as_deref())
        }
        Verb::Test { filter } => {
            setup::for_tests()?;
            test::run(&ready(Profile::Debug)?, filter.as_deref())
        }
        Verb::VmTest { filter, run, write, with, kernel } => {
            setup::for_tests()?;
            let built = ready(Profile::Debug)?;
            let guest = vm::Guest { built: &built, with: &with, kernel: &kernel };
            match run {
                Some(command) => guest.run(&command),
                None => test::in_guest(&guest, filter.as_deref(), write),
            }
        }
        Verb::Chaos(options) => {
            setup::for_tests()?;
            chaos::run(&ready(Profile::Debug)?, &options)
        }
        Verb::Fuzz { target, seconds } => fuzz::run(&target, seconds),
        Verb::Layers => layers::run(),
        Verb::Ci => ci::run(),
        Verb::Bench(options) => {
            let built = ready(Profile::Release)?;
            world::enter()?;
            bench::run_bench(&built, &options)
        }
        Verb::BenchWorker { worker } => bench::worker::work(&worker),
    }
}

/// Everything installed and built. Returns the folder of the binaries. In the inner process of [`world::enter`] the
/// outer one has seen to that.
fn ready(profile: Profile) -> Result<PathBuf> {
    if !world::inside() {
        setup::run()?;
        build::run(profile)?;
    }
    build::folder(profile)
}
