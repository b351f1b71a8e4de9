//! The daemon as an administrator runs it: started by its command line, asked through its verbs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::process::{Running, run};

/// A running daemon with one mirror.
pub(crate) struct Ebbtide {
    program: PathBuf,
    runtime: PathBuf,
    running: Running,
}

impl Ebbtide {
    /// Starts `program run` from `source` to `url`, with a new state below `scratch`.
    pub(crate) fn start(program: &Path, source: &Path, url: &str, scratch: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("run").arg("--source").arg(source).args(["--to", url, "--delete"]);
        Self::begin(command, program, scratch)
    }

    /// The same with the state that the last one left.
    pub(crate) fn start_again(program: &Path, source: &Path, url: &str, scratch: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("run").arg("--source").arg(source).args(["--to", url, "--delete"]);
        Self::go_on(command, program, scratch)
    }

    /// The same with what the config file `config` says.
    pub(crate) fn start_from_file(program: &Path, config: &Path, scratch: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("run").arg("-c").arg(config);
        Self::begin(command, program, scratch)
    }

    fn begin(command: Command, program: &Path, scratch: &Path) -> Result<Self> {
        for folder in folders(scratch) {
            let _ = fs::remove_dir_all(folder);
        }
        Self::go_on(command, program, scratch)
    }

    fn go_on(mut command: Command, program: &Path, scratch: &Path) -> Result<Self> {
        let [state, runtime] = folders(scratch);
        command.arg("--state-dir").arg(&state).arg("--runtime-dir").arg(&runtime);
        let running = Running::start(&mut command, &scratch.join("ebbtide.log"))?;
        Ok(Self { program: program.to_owned(), runtime, running })
    }

    /// Drops what the last one left in the kernel.
    pub(crate) fn unload(program: &Path, scratch: &Path) -> Result<()> {
        let [state, runtime] = folders(scratch);
        let mut command = Command::new(program);
        command.arg("unload").arg("--state-dir").arg(&state).arg("--runtime-dir").arg(&runtime);
        run(&mut command).map(drop)
    }

    /// How long ago it was started.
    pub(crate) fn age(&self) -> Duration {
        self.running.started().elapsed()
    }

    /// Waits until it says that it tracks. Returns the time since its start.
    pub(crate) fn until_tracking(&mut self, limit: Duration) -> Result<Duration> {
        self.running.until_printed("tracking after", limit)
    }

    /// The time from its programs being loaded until it tracked, by its own word, in whole milliseconds.
    pub(crate) fn tracking_after_loading(&self) -> Result<Duration> {
        let status = self.status()?;
        let milliseconds = |key: &str| {
            let value = status.get(key).and_then(Value::as_u64);
            value.with_context(|| format!("the status says nothing about {key}"))
        };
        let (tracking, loading) = (milliseconds("tracking_after_ms")?, milliseconds("loading_ms")?);
        Ok(Duration::from_millis(tracking.saturating_sub(loading)))
    }

    /// Waits until the daemon answers to its verbs.
    pub(crate) fn until_up(&mut self, limit: Duration) -> Result<Duration> {
        let (program, runtime) = (&self.program, &self.runtime);
        self.running.until("answer to `ebbtide status`", limit, |_| {
            let mut command = Command::new(program);
            Ok(run(command.args(["status", "--json"]).arg("--runtime-dir").arg(runtime)).is_ok())
        })
    }

    /// Stops both of its processes where they are, until it is dropped: the kernel goes on marking.
    pub(crate) fn freeze(&self) {
        self.running.freeze();
    }

    /// Asks it to end, which must happen with success.
    pub(crate) fn stop(self) -> Result<()> {
        self.running.stop()
    }

    /// Waits until all that changed before now is acknowledged by the destination.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<()> {
        self.running.must_live()?;
        let seconds = limit.as_secs().to_string();
        let mut command = Command::new(&self.program);
        run(command.args(["wait", "--timeout", &seconds]).arg("--runtime-dir").arg(&self.runtime))
            .with_context(|| format!("the end of the daemon's log: {}", self.last_words()))?;
        Ok(())
    }

    /// What `ebbtide status --json` prints.
    pub(crate) fn status(&self) -> Result<Value> {
        let mut command = Command::new(&self.program);
        let output = run(command.args(["status", "--json"]).arg("--runtime-dir").arg(&self.runtime))?;
        serde_json::from_slice(&output.stdout).context("read the status")
    }

    /// Process ids of the tracker and of the sender.
    pub(crate) fn processes(&self) -> Result<[u64; 2]> {
        let status = self.status()?;
        let sender = status["sender"]["pid"].as_u64().context("there is no sender")?;
        Ok([u64::from(self.running.pid()), sender])
    }

    fn last_words(&self) -> String {
        let printed = self.running.printed();
        printed.lines().rev().take(4).collect::<Vec<_>>().join(" | ")
    }
}

/// The state and the runtime folder.
fn folders(scratch: &Path) -> [PathBuf; 2] {
    [scratch.join("ebbtide.state"), scratch.join("ebbtide.run")]
}

/// The daemon's binary in the folder `built`.
pub(crate) fn program(built: &Path) -> Result<PathBuf> {
    let program = built.join("ebbtide");
    if !program.exists() {
        bail!("{} is not there: `cargo xtask build` makes it", program.display());
    }
    Ok(program)
}
