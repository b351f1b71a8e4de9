//! Programs that we start: each in a process group of its own, with its output in a file, ended with us.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use super::wait;

/// How long a program may take to end by itself after TERM.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program in the background. Dropping it ends it and all that it started.
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    started: Instant,
}

impl Running {
    /// Starts `command`; what it prints goes to the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let name = name(command);
        let out = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let err = out.try_clone().context("share the log file")?;
        command.stdout(out).stderr(err).process_group(0);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name, child, log: log.to_owned(), started })
    }

    /// When it was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub(crate) fn printed(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Writes `words` to its standard input, which must be a pipe.
    pub(crate) fn tell(&mut self, words: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().with_context(|| format!("{} has no input", self.name))?;
        input.write_all(words.as_bytes()).with_context(|| format!("write to {}", self.name))
    }

    /// Waits until it has printed `text`. Returns the time since its start.
    pub(crate) fn until_printed(&mut self, text: &str, limit: Duration) -> Result<Duration> {
        self.until(&format!("print {text:?}"), limit, |running| Ok(running.printed().contains(text)))
    }

    /// Waits until `look` says true, or until it has ended, which is a failure. Returns the time since its start.
    pub(crate) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<Duration> {
        let what = format!("{} shall {what}", self.name);
        wait::until(&what, self.started, limit, || {
            if look(self)? {
                return Ok(true);
            }
            self.must_live()?;
            Ok(false)
        })
        .with_context(|| format!("the end of its output: {}", tail(&self.printed())))
    }

    /// Fails if it has ended.
    pub(crate) fn must_live(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("look after {}", self.name))? {
            Some(status) => bail!("{} ended with {status}: {}", self.name, tail(&self.printed())),
            None => Ok(()),
        }
    }

    /// Stops it where it is, until it is dropped.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Asks it to end, which must happen soon and with success.
    pub(crate) fn stop(self) -> Result<()> {
        self.signal(Signal::TERM);
        self.finish()
    }

    /// Waits until it ends by itself, which must be with success.
    pub(crate) fn finish(mut self) -> Result<()> {
        let status = self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        if !status.success() {
            bail!("{} ended with {status}: {}", self.name, tail(&self.printed()));
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It fails only when the whole group has ended, which is what we want.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        // A frozen one hears of TERM only when it goes on.
        self.signal(Signal::CONT);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(2));
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end, which must be with success.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    let name = name(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {name}"))?;
    wait::go_on()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{name} ended with {}: {}", output.status, tail(&said));
    }
    Ok(output)
}

/// The first line that a program prints, its words one space apart, for notes about versions; empty if there is none.
pub(crate) fn first_line(program: &str, arguments: &[&str]) -> String {
    let printed =
        Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&printed)
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether a file begins with `bytes`; false while it cannot be read.
pub(crate) fn begins_with(path: &Path, bytes: &[u8]) -> bool {
    let mut start = vec![0; bytes.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == bytes
}

fn name(command: &Command) -> String {
    let program = Path::new(command.get_program());
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n").escape_debug().to_string().replace("\\n", "\n")
}
