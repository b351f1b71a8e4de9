//! What one push asks for.

use std::num::NonZero;
use std::time::Duration;

use ebbtide_wire::proto::{Checksum, Compression, Dialect, Protocol, ServerOptions};

use crate::chmod::Chmod;
use crate::session::SkipCompress;
use crate::transport::Way;

/// The options of one push: what the daemon is asked to do, and what this side keeps to itself.
#[derive(Clone, Debug)]
pub struct PushOptions {
    /// rsync's options as the daemon gets them.
    pub server: ServerOptions,
    /// Rules for the receiver's deletion, as they travel (`- *.tmp`).
    pub filters: Vec<Vec<u8>>,
    /// `--chmod`: how the modes that are sent differ from those on disk.
    pub chmod: Chmod,
    /// `--checksum-choice`, or those of RSYNC_CHECKSUM_LIST, the one liked best first; empty takes the best that both
    /// sides know.
    pub checksums: Vec<Checksum>,
    /// Those of RSYNC_COMPRESS_LIST, likewise, where [`ServerOptions::compress`] leaves the choice open.
    pub compressions: Vec<Compression>,
    /// `--compress-level`, in the algorithm's own numbers; `None` for its default.
    pub compress_level: Option<i32>,
    /// `--compress-threads`: how many threads may compress one large file; `None` for as many as there are
    /// processors, at most 4.
    pub compress_threads: Option<usize>,
    /// `--skip-compress`: names of files that go as they are, where the compression can do that.
    pub skip_compress: SkipCompress,
    /// `--timeout`: how long nothing may arrive. The daemon is told through [`ServerOptions::timeout`].
    pub timeout: Option<Duration>,
    /// `--contimeout`: how long connecting may take, the daemon's OK included.
    pub contimeout: Option<Duration>,
    /// `--protocol`: the newest protocol to speak.
    pub protocol: Protocol,
    /// `--early-input`: bytes for the daemon's early exec hook.
    pub early_input: Vec<u8>,
    /// What an earlier session with the same target and the same options agreed on, and that ran to its end: saves
    /// two round trips. Forget it after any failure; one of kind [`Changed`](ebbtide_wire::ErrorKind::Changed) means
    /// that the daemon is another one now.
    pub known: Option<Dialect>,
    /// How the destination is reached.
    pub way: Way,
    /// Send the arguments without waiting for the daemon's OK: a round trip less, where a session stood before. If the
    /// daemon then refuses the module, its reason may be lost.
    pub eager: bool,
}

impl PushOptions {
    /// How many threads compress one large file.
    pub(crate) fn threads(&self) -> usize {
        let usual = || std::thread::available_parallelism().map_or(1, NonZero::get).min(4);
        self.compress_threads.map_or_else(usual, |threads| threads.max(1))
    }

    /// These options for the daemon, and nothing else special.
    pub fn new(server: ServerOptions) -> Self {
        PushOptions {
            server,
            filters: Vec::new(),
            chmod: Chmod::default(),
            checksums: Vec::new(),
            compressions: Vec::new(),
            compress_level: None,
            compress_threads: None,
            skip_compress: SkipCompress::default(),
            timeout: None,
            contimeout: None,
            protocol: Protocol::V32,
            early_input: Vec::new(),
            known: None,
            way: Way::default(),
            eager: false,
        }
    }

    /// The same with one timeout for both sides; zero turns it off.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        let seconds = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
        self.timeout = (seconds > 0).then_some(timeout);
        self.server.timeout = (seconds > 0).then_some(seconds);
        self
    }
}
