//! A program whose standard input and output are the connection: a remote shell, or RSYNC_CONNECT_PROG.

use std::io::{self, IoSlice};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::net::unix::pipe::{self, Receiver, Sender};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::socket::unless_blocked;

/// A running program. Ended when dropped.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    /// Its standard input, until it is closed.
    input: Option<Sender>,
    output: Receiver,
    /// Whether its exit code says something of the session.
    shell: bool,
}

/// What a program has to end in if nobody asks for its exit code.
const MOMENT: Duration = Duration::from_secs(1);

/// How the remote shell ended that carried a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShellEnd {
    /// There was none, or it ended with code 0.
    Fine,
    /// It ended with this code.
    Code(u8),
    /// A signal ended it, and its memory was dumped.
    Crashed,
    /// A signal ended it.
    Terminated,
    /// It has not ended.
    Late,
}

impl Program {
    /// Starts a program; `shell` tells whether it is a remote shell, whose exit code counts. Its complaints go where
    /// ours go.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(mut command: Command, shell: bool) -> io::Result<Program> {
        let (input, theirs_in) = pipe::pipe()?;
        let (theirs_out, output) = pipe::pipe()?;
        // The ends of the program block: remote shells that cannot do with anything else need no option for that.
        command.stdin(Stdio::from(theirs_in.into_blocking_fd()?));
        command.stdout(Stdio::from(theirs_out.into_blocking_fd()?));
        let child = command.kill_on_drop(true).spawn()?;
        Ok(Program { child, input: Some(input), output, shell })
    }

    /// Waits until one of what is wanted can be done; tells whether there is something to read.
    pub(super) async fn ready(&self, want_read: bool, want_write: bool) -> io::Result<bool> {
        let writable = async {
            match &self.input {
                Some(input) if want_write => input.writable().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            readable = self.output.readable(), if want_read || !want_write => readable.map(|()| true),
            written = writable => written.map(|()| false),
        }
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        unless_blocked(self.output.try_read(buffer))
    }

    pub(super) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        let input = self.input.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        unless_blocked(input.try_write_vectored(slices))
    }

    /// Ends its input, gives it this long to end, or a moment if its exit code says nothing, and tells how it did.
    pub(super) async fn end(&mut self, patience: Duration) -> ShellEnd {
        self.input = None;
        let patience = if self.shell { patience } else { patience.min(MOMENT) };
        let ended = timeout(patience, self.child.wait()).await;
        match ended {
            _ if !self.shell => ShellEnd::Fine,
            Ok(Ok(status)) => shell_end(status),
            // Nobody else waits for it, so that waiting does not fail.
            _ => ShellEnd::Late,
        }
    }
}

fn shell_end(status: ExitStatus) -> ShellEnd {
    match status.code() {
        Some(0) => ShellEnd::Fine,
        // A process has no other codes.
        Some(code) => ShellEnd::Code(u8::try_from(code).unwrap_or(u8::MAX)),
        None if status.core_dumped() => ShellEnd::Crashed,
        None => ShellEnd::Terminated,
    }
}
