//! `cargo xtask test [FILTER]`: every test of the workspace, and one line that counts them.

mod count;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZero;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::cargo;
use crate::world;
use count::Count;

/// Runs the tests whose names contain `filter`, with the binaries in `built`. The last line that it prints is
/// `N passed, N failed, N skipped`.
pub(crate) fn run(built: &Path, filter: Option<&str>) -> Result<()> {
    let skips = world::target()?.join("skipped-tests");
    let _ = fs::remove_file(&skips);
    let mut count = Count::default();
    for packages in [UNIT, WORLDS] {
        let mut command = cargo();
        command.args(["test", "--no-fail-fast"]);
        for package in packages {
            command.args(["--package", package]);
        }
        command.env("EBBTIDE_BIN", built.join("ebbtide")).env("EBBTIDE_SEND_BIN", built.join("ebbtide-send"));
        command.env("EBBTIDE_SKIPS", &skips);
        command.arg("--").arg(format!("--test-threads={}", threads()));
        command.args(filter);
        run_one(&mut command, &mut count)?;
    }
    let skipped = fs::read_to_string(&skips).unwrap_or_default();
    report(count.with_skips(skipped.lines().count()), &skipped)
}

/// Crates whose tests need nothing but themselves.
const UNIT: &[&str] =
    &["ebbtide", "ebbtide-feed", "ebbtide-abi", "ebbtide-transfer", "ebbtide-wire", "xtask"];
/// Tests in worlds of daemons and file systems.
const WORLDS: &[&str] = &["ebbtide-tests"];

/// Tests wait for daemons and disks more than they compute, so there are more of them than processors; but each has
/// daemons of its own, so not many more.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, NonZero::get).saturating_mul(2).clamp(2, 8)
}

/// Runs one cargo, shows what it prints, and counts its results.
fn run_one(command: &mut Command, count: &mut Count) -> Result<()> {
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    command.stdout(writer.try_clone().context("share the pipe")?).stderr(writer);
    let mut child = command.spawn().context("start cargo test")?;
    // Our copies of the pipe's end go, so that the pipe ends with cargo.
    *command = Command::new("true");
    let mut screen = std::io::stdout().lock();
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    let mut this = Count::default();
    while lines.read_until(b'\n', &mut line).context("read what cargo test prints")? > 0 {
        this.see(&String::from_utf8_lossy(&line));
        screen.write_all(&line).context("print")?;
        line.clear();
    }
    let succeeded = child.wait().context("wait for cargo test")?.success();
    *count = count.plus(this.ended(succeeded));
    Ok(())
}

fn report(count: Count, skipped: &str) -> Result<()> {
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
