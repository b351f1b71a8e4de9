//! rsync's exit codes and the I/O error bits that lead to some of them.

use std::fmt;

/// An exit code of rsync, as its manual page lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExitCode(pub u8);

impl ExitCode {
    /// Success.
    pub const OK: ExitCode = ExitCode(0);
    /// Syntax or usage error; also a read-only module.
    pub const USAGE: ExitCode = ExitCode(1);
    /// Protocol incompatibility.
    pub const PROTOCOL: ExitCode = ExitCode(2);
    /// Errors selecting input or output files.
    pub const FILE_SELECT: ExitCode = ExitCode(3);
    /// Requested action not supported, or refused.
    pub const UNSUPPORTED: ExitCode = ExitCode(4);
    /// Error starting the client-server protocol: any `@ERROR`.
    pub const START_CLIENT: ExitCode = ExitCode(5);
    /// Error in socket I/O.
    pub const SOCKET: ExitCode = ExitCode(10);
    /// Error in file I/O.
    pub const FILE_IO: ExitCode = ExitCode(11);
    /// Error in the protocol's data stream, or an early end of it.
    pub const STREAM: ExitCode = ExitCode(12);
    /// A program that was to be started could not be.
    pub const IPC: ExitCode = ExitCode(14);
    /// A program that the session needed crashed.
    pub const CRASHED: ExitCode = ExitCode(15);
    /// A program that the session needed was ended by a signal.
    pub const TERMINATED: ExitCode = ExitCode(16);
    /// Ended by SIGINT, SIGTERM or SIGHUP.
    pub const SIGNAL: ExitCode = ExitCode(20);
    /// Partial transfer due to error.
    pub const PARTIAL: ExitCode = ExitCode(23);
    /// Partial transfer due to vanished source files.
    pub const VANISHED: ExitCode = ExitCode(24);
    /// The `--max-delete` limit stopped deletions.
    pub const DELETE_LIMIT: ExitCode = ExitCode(25);
    /// Timeout in data send or receive.
    pub const TIMEOUT: ExitCode = ExitCode(30);
    /// Timeout waiting for the daemon's connection.
    pub const CONTIMEOUT: ExitCode = ExitCode(35);

    /// The text that rsync prints for this code, empty for 0.
    pub fn meaning(self) -> &'static str {
        match self.0 {
            0 => "",
            1 => "syntax or usage error",
            2 => "protocol incompatibility",
            3 => "errors selecting input/output files, dirs",
            4 => "requested action not supported",
            5 => "error starting client-server protocol",
            10 => "error in socket IO",
            11 => "error in file IO",
            12 => "error in rsync protocol data stream",
            13 => "errors with program diagnostics",
            14 => "error in IPC code",
            15 => "sibling process crashed",
            16 => "sibling process terminated abnormally",
            19 => "received SIGUSR1",
            20 => "received SIGINT, SIGTERM, or SIGHUP",
            21 => "waitpid() failed",
            22 => "error allocating core memory buffers",
            23 => "some files/attrs were not transferred (see previous errors)",
            24 => "some files vanished before they could be transferred",
            25 => "the --max-delete limit stopped deletions",
            30 => "timeout in data send/receive",
            35 => "timeout waiting for daemon connection",
            124 => "remote shell failed",
            125 => "remote shell killed",
            126 => "remote command could not be run",
            127 => "remote command not found",
            _ => "unexplained error",
        }
    }
}

impl fmt::Display for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What went wrong with files on one side, as sent at the end of the file list and in IO_ERROR messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoErrors(u32);

impl IoErrors {
    /// Nothing went wrong.
    pub const NONE: IoErrors = IoErrors(0);
    /// Something could not be read. The receiver deletes nothing then, unless told to ignore errors.
    pub const GENERAL: IoErrors = IoErrors(1);
    /// A file was gone when it was to be read.
    pub const VANISHED: IoErrors = IoErrors(2);
    /// The limit of deletions was reached.
    pub const DELETE_LIMIT: IoErrors = IoErrors(4);

    /// The bits as on the wire.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Keeps the bits that have a meaning.
    pub fn from_bits(bits: u32) -> Self {
        IoErrors(bits & 7)
    }

    /// Adds the bits of `other`.
    pub fn add(&mut self, other: IoErrors) {
        self.0 |= other.0;
    }

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: IoErrors) -> bool {
        self.0 & other.0 == other.0
    }

    /// The exit code of a session that ran to its end. 23 beats 24 beats 25.
    ///
    /// `transfer_errors`: whether the daemon reported that some entry could not be brought up to date.
    pub fn exit_code(self, transfer_errors: bool) -> ExitCode {
        if transfer_errors || self.contains(IoErrors::GENERAL) {
            ExitCode::PARTIAL
        } else if self.contains(IoErrors::VANISHED) {
            ExitCode::VANISHED
        } else if self.contains(IoErrors::DELETE_LIMIT) {
            ExitCode::DELETE_LIMIT
        } else {
            ExitCode::OK
        }
    }
}
