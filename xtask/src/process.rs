//! Commands that the verbs run: shown, awaited, and named with what to do when they fail.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs `command` with its output on ours. `hint` says what to do when it fails.
pub(crate) fn run(command: &mut Command, hint: &str) -> Result<()> {
    let line = line(command);
    let status = command.status().with_context(|| format!("start `{line}` ({hint})"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}: {hint}");
    }
    Ok(())
}

/// A command that runs as root: itself, or through `sudo`.
pub(crate) fn as_root(program: impl AsRef<Path>) -> Command {
    let program = program.as_ref();
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::world::top());
    command
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
