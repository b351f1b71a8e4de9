//! A stream of bytes to a destination, whatever it runs over.

use std::io::{self, IoSlice};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::program::{Program, ShellEnd};
use super::socket::Socket;
use super::throttle::Throttle;
use super::tls::Tls;

/// What carries the bytes.
#[derive(Debug)]
pub(super) enum Raw {
    Tcp(Socket),
    Program(Box<Program>),
}

/// A connected stream.
#[derive(Debug)]
pub(crate) struct Stream {
    raw: Raw,
    tls: Option<Box<Tls>>,
    throttle: Option<Throttle>,
}

impl Stream {
    pub(super) fn new(raw: Raw, tls: Option<Tls>) -> Stream {
        Stream { raw, tls: tls.map(Box::new), throttle: None }
    }

    /// The same, writing no more than this many KiB per second; 0 is no limit.
    pub(super) fn limited(mut self, kib_per_s: Option<u32>) -> Stream {
        let limit = kib_per_s.filter(|limit| *limit > 0);
        self.throttle = limit.map(|limit| Throttle::new(limit, Instant::now()));
        self
    }

    /// Waits until one of what is wanted can be done; tells whether there is something to read. May be dropped.
    ///
    /// # Errors
    /// The stream broke.
    pub(crate) async fn ready(&mut self, want_read: bool, want_write: bool) -> io::Result<bool> {
        if want_read && self.tls.as_ref().is_some_and(|tls| tls.has_plaintext()) {
            return Ok(true);
        }
        let now = Instant::now();
        let pause = self.throttle.as_mut().filter(|_| want_write).and_then(|throttle| throttle.next(now));
        let Some(until) = pause else { return self.raw.ready(want_read, want_write).await };
        tokio::select! {
            readable = self.raw.ready(true, false), if want_read => readable,
            () = sleep_until(until) => Ok(false),
        }
    }

    /// Reads what is there. `None` if nothing is; 0 at the end of the stream.
    ///
    /// # Errors
    /// The stream broke.
    pub(crate) fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match &mut self.tls {
            Some(tls) => tls.try_read(&self.raw, buffer),
            None => self.raw.try_read(buffer),
        }
    }

    /// Writes as much of the slices as the stream takes. `None` if it takes nothing now.
    ///
    /// # Errors
    /// The stream broke.
    pub(crate) fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        let Some(throttle) = &mut self.throttle else { return self.write(slices) };
        let allowed = throttle.allowed(Instant::now());
        if allowed == 0 {
            return Ok(None);
        }
        let written = self.write(&first(slices, allowed))?;
        if let (Some(throttle), Some(written)) = (&mut self.throttle, written) {
            throttle.take(written);
        }
        Ok(written)
    }

    /// Whether something that was written waits for [`Stream::flush`].
    pub(crate) fn holds_output(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.holds_output())
    }

    /// Passes on what a write took and could not pass on, as far as possible now.
    ///
    /// # Errors
    /// The stream broke.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.flush(&self.raw).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Forgets what waits for [`Stream::flush`]: nobody reads it any more.
    pub(crate) fn give_up(&mut self) {
        self.tls = None;
    }

    /// Ends the stream; tells how the remote shell ended that carried it, if one did, for which it has `patience`.
    pub(crate) async fn end(&mut self, patience: Duration) -> ShellEnd {
        if let Some(tls) = &mut self.tls {
            tls.say_goodbye(&self.raw);
        }
        match &mut self.raw {
            Raw::Tcp(_) => ShellEnd::Fine,
            Raw::Program(program) => program.end(patience).await,
        }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        match &mut self.tls {
            Some(tls) => tls.try_write(&self.raw, slices),
            None => self.raw.try_write(slices),
        }
    }
}

impl Raw {
    pub(super) async fn ready(&self, want_read: bool, want_write: bool) -> io::Result<bool> {
        match self {
            Raw::Tcp(socket) => socket.ready(want_read, want_write).await,
            Raw::Program(program) => program.ready(want_read, want_write).await,
        }
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Raw::Tcp(socket) => socket.try_read(buffer),
            Raw::Program(program) => program.try_read(buffer),
        }
    }

    pub(super) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        match self {
            Raw::Tcp(socket) => socket.try_write(slices),
            Raw::Program(program) => program.try_write(slices),
        }
    }
}

/// The first `limit` bytes.
fn first<'a>(slices: &'a [IoSlice<'_>], mut limit: usize) -> Vec<IoSlice<'a>> {
    let mut out = Vec::new();
    for slice in slices {
        if limit == 0 {
            break;
        }
        let here = &slice[..slice.len().min(limit)];
        limit -= here.len();
        out.push(IoSlice::new(here));
    }
    out
}
