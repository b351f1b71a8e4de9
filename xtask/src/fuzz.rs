//! `cargo xtask fuzz TARGET [--seconds N]`: libFuzzer, through cargo-fuzz, with the corpus in `fuzz/corpus`.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::process::{self, cargo};
use crate::world;

/// Runs one target. New inputs that it keeps stay in the target folder; a finding stays in `fuzz/artifacts`, and
/// belongs into the corpus with the change that mends it.
pub(crate) fn run(target: &str, seconds: u32) -> Result<()> {
    let fuzz = world::top().join("fuzz");
    let known = targets(&fuzz)?;
    if !known.iter().any(|name| name == target) {
        bail!("no fuzz target {target}; there are {}", known.join(", "));
    }
    let grown = world::target()?.join("fuzz-corpus").join(target);
    fs::create_dir_all(&grown).with_context(|| format!("create {}", grown.display()))?;
    let mut command = cargo();
    // The instrumented build needs flags that a released compiler keeps to itself, unless it is told otherwise.
    command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", world::target()?.join("fuzz"));
    command.args(["fuzz", "run", "--fuzz-dir"]).arg(&fuzz).arg(target);
    command.arg(&grown).arg(fuzz.join("corpus").join(target));
    command.args(["--", &format!("-max_total_time={seconds}")]);
    command.args(["-max_len=65536", "-timeout=20", "-rss_limit_mb=1024", "-malloc_limit_mb=512"]);
    let there = cargo().args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        bail!("cargo-fuzz is not installed: cargo install cargo-fuzz");
    }
    process::run(&mut command, "a finding is in fuzz/artifacts: mend it, and add it to fuzz/corpus")
}

/// Names of the targets, in order.
fn targets(fuzz: &Path) -> Result<Vec<String>> {
    let folder = fuzz.join("fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}
