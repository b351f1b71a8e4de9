//! Runs a test program, shows what it prints, and ends it when no test of it ends any more.

use std::io::{BufRead, BufReader, PipeReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::stuck;
use crate::world::wait;

/// How long a test program may go on without the end of a test.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    silence: Duration,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself; whether with success.
    Exited(bool),
    /// By us.
    Hung {
        /// The reason.
        why: String,
        /// Where its threads stood.
        stuck: String,
    },
}

impl Watch {
    pub(super) fn new(silence: Duration) -> Watch {
        Watch { silence }
    }

    /// Runs `command` in a process group of its own, and gives `see` each line that it prints.
    /// It is ended at `end` and when nothing that [`is_progress`] comes for as long as this allows.
    pub(super) fn run(&self, command: &mut Command, end: Instant, mut see: impl FnMut(&[u8])) -> Result<End> {
        let (group, lines) = Group::start(command)?;
        let mut quiet_until = Instant::now() + self.silence;
        loop {
            wait::go_on()?;
            if let Some(line) = next(&lines) {
                see(&line);
                if is_progress(&line) {
                    quiet_until = Instant::now() + self.silence;
                }
            } else if group.has_ended()? {
                let succeeded = group.finish()?;
                rest(&lines, see);
                return Ok(End::Exited(succeeded));
            }
            let why = if Instant::now() >= end {
                "the whole run takes too long".into()
            } else if Instant::now() >= quiet_until {
                format!("no test ended for {:?}", self.silence)
            } else {
                continue;
            };
            let stuck = stuck::describe(group.leader);
            drop(group);
            // A line without its newline tells which test it was in.
            std::iter::from_fn(|| next(&lines)).take(WAITING_LINES).for_each(|line| see(&line));
            return Ok(End::Hung { why, stuck });
        }
    }
}

/// The next line, if one comes within a tick.
fn next(lines: &Receiver<Vec<u8>>) -> Option<Vec<u8>> {
    match lines.recv_timeout(TICK) {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => {
            // A program may close its output and go on.
            thread::sleep(TICK);
            None
        }
    }
}

/// The lines that a program left in the pipe, which on a busy machine are read long after it has ended. Who took its end
/// of the pipe along and lives on is not waited for.
fn rest(lines: &Receiver<Vec<u8>>, mut see: impl FnMut(&[u8])) {
    let end = Instant::now() + READING;
    while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
        see(&line);
    }
}

/// How long it may take until all is read that an ended program has printed.
const READING: Duration = Duration::from_secs(10);

/// Between two looks at the clock and at the program, when it prints nothing.
const TICK: Duration = Duration::from_millis(20);

/// Whether a line says that a test or a program began or ended. Whatever else a hung test prints is none.
fn is_progress(line: &[u8]) -> bool {
    let ended = line.starts_with(b"test ") && line.windows(5).any(|window| window == b" ... ");
    ended || line.starts_with(b"test result: ") || line.starts_with(b"running ")
}

/// A process group that we started, and its leader.
struct Group {
    leader: Pid,
    child: Child,
}

impl Group {
    fn start(command: &mut Command) -> Result<(Group, Receiver<Vec<u8>>)> {
        let (reader, writer) = std::io::pipe().context("make a pipe")?;
        command.stdin(Stdio::null()).process_group(0);
        command.stdout(writer.try_clone().context("share the pipe")?).stderr(writer);
        let child = command.spawn().with_context(|| format!("start {}", command.get_program().display()))?;
        // Our copies of the pipe's end go, so that the pipe ends with the program.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let leader = Pid::from_child(&child);
        let (sender, lines) = sync_channel(WAITING_LINES);
        thread::spawn(move || read_lines(reader, &sender));
        Ok((Group { leader, child }, lines))
    }

    /// Whether the leader has ended. It stays a zombie until [`Group::finish`], so that its number, which is the
    /// group's, stays ours.
    fn has_ended(&self) -> Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = waitid(WaitId::Pid(self.leader), options).context("look after a test program")?;
        Ok(ended.is_some())
    }

    /// Ends what the leader, which has ended, left behind. Whether it succeeded.
    fn finish(mut self) -> Result<bool> {
        self.kill();
        Ok(self.child.wait().context("wait for a test program")?.success())
    }

    fn kill(&self) {
        // It fails only when the whole group has ended, which is what we want.
        let _ = kill_process_group(self.leader, Signal::KILL);
    }
}

impl Drop for Group {
    /// One that the kernel does not let die is left behind: nobody may wait for it.
    fn drop(&mut self) {
        // Its status is known when it was taken, and its number may be another's by then.
        if let Ok(None) = self.child.try_wait() {
            self.kill();
            let end = Instant::now() + DYING;
            while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Lines that wait for the screen, at most.
const WAITING_LINES: usize = 1024;
/// How long a killed program may take to die.
const DYING: Duration = Duration::from_secs(10);

/// Hands on line by line. It ends with the last holder of the pipe's other end, or with the receiver.
fn read_lines(reader: PipeReader, lines: &SyncSender<Vec<u8>>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        if lines.send(std::mem::take(&mut line)).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests;
