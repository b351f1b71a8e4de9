//! `cargo xtask test [FILTER]`: every test of the workspace, and one line that counts them.
//!
//! Each test program runs by itself under a [`Watch`], so that one that hangs is named, counted as failed and ended,
//! and the others still run.

mod count;
mod guest;
mod programs;
mod seeds;
mod stuck;
mod watch;

pub(crate) use guest::in_guest;

use std::fs;
use std::io::Write;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::cargo;
use crate::{setup, world};
use count::Count;
use programs::Program;
use seeds::{FAILED, Failed};
use watch::{End, Watch};

/// No single test takes a tenth of this, on a slow machine and beside others.
const SILENCE: Duration = Duration::from_secs(8 * 60);
/// All tests together; a run takes a few minutes.
const WHOLE: Duration = Duration::from_secs(60 * 60);

/// Runs the tests whose names contain `filter`, with the binaries in `built`. The last line that it prints is
/// `N passed, N failed, N skipped`.
pub(crate) fn run(built: &Path, filter: Option<&str>) -> Result<()> {
    world::wait::end_on_signals()?;
    let skips = world::target()?.join("skipped-tests");
    let _ = fs::remove_file(&skips);
    let Some(programs) = programs::build(&[])? else { return report(&Count::default().ended(false), "") };
    let end = Instant::now() + WHOLE;
    let run =
        Run { watch: Watch::new(SILENCE), end, built, skips: &skips, filter, seed: seeds::of_this_run() };
    let count = run.programs(&programs)?.plus(&run.failed_seeds(&programs)?).plus(&run.documents()?);
    let count = count.plus(&run.guest(&programs)?);
    let skipped = fs::read_to_string(&skips).unwrap_or_default();
    report(&count.with_skips(skipped.lines().count()), &skipped)
}

/// What all programs of one run share.
struct Run<'a> {
    watch: Watch,
    /// When the whole run must be over.
    end: Instant,
    built: &'a Path,
    skips: &'a Path,
    filter: Option<&'a str>,
    /// What tests draw at random from.
    seed: Option<String>,
}

impl Run<'_> {
    fn programs(&self, programs: &[Program]) -> Result<Count> {
        let mut count = Count::default();
        for program in programs.iter().filter(|program| !guest::is_alone_there(program)) {
            println!("\n     Running {}", program.name);
            let mut command = Command::new(&program.path);
            command.current_dir(&program.folder).arg(format!("--test-threads={}", threads()));
            seeds::set(&mut command, self.seed.as_deref());
            count = count.plus(&self.one(&mut command, &program.name)?);
        }
        Ok(count)
    }

    /// What failed once, with the seed of that time.
    fn failed_seeds(&self, programs: &[Program]) -> Result<Count> {
        let mut count = Count::default();
        for Failed { program, test, seed } in FAILED.iter().filter(|_| self.filter.is_none()) {
            let Some(program) = programs.iter().find(|known| known.name == *program) else { continue };
            println!("\n     Running {} with seed {seed}", program.name);
            let mut command = Command::new(&program.path);
            command.current_dir(&program.folder).args(["--exact", test]);
            seeds::set(&mut command, Some(&seed.to_string()));
            count = count.plus(&self.one(&mut command, &program.name)?);
        }
        Ok(count)
    }

    /// The tests in documentation, which only rustdoc can build and run.
    fn documents(&self) -> Result<Count> {
        let mut command = cargo();
        command.args(["test", "--doc", "--no-fail-fast", "--"]);
        self.one(&mut command, "the tests in documentation")
    }

    fn one(&self, command: &mut Command, name: &str) -> Result<Count> {
        command
            .env("EBBTIDE_BIN", self.built.join("ebbtide"))
            .env("EBBTIDE_SEND_BIN", self.built.join("ebbtide-send"))
            .env("EBBTIDE_SKIPS", self.skips)
            .env("PATH", setup::path()?)
            .args(self.filter);
        let mut count = Count::default();
        let mut screen = std::io::stdout().lock();
        let end = self.watch.run(command, self.end, |line| {
            // What cannot be shown still counts.
            let _ = screen.write_all(line);
            count.see(&String::from_utf8_lossy(line));
        })?;
        if let End::Hung { why, stuck } = &end {
            let _ = writeln!(screen, "\n{stuck}HUNG: {name}: {why}");
            for test in count.hung() {
                let _ = writeln!(screen, "HUNG: test {test}");
            }
        }
        Ok(count.ended(matches!(end, End::Exited(true))))
    }
}

/// Tests wait for daemons and disks more than they compute, so there are more of them than processors; but each has
/// daemons of its own, so not many more.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, NonZero::get).saturating_mul(2).clamp(2, 8)
}

fn report(count: &Count, skipped: &str) -> Result<()> {
    if !skipped.is_empty() {
        println!("\nskipped:\n{skipped}");
    }
    if count.failed == 0 && count.passed == 0 {
        println!("{count}");
        bail!("no test ran");
    }
    println!("{count}");
    if count.failed > 0 {
        // The line above is the last one; the exit code says the rest.
        std::process::exit(1);
    }
    Ok(())
}
