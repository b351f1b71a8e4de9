//! The sender: an unprivileged child at the other end of a socket pair.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ebbtide_feed::codec::{self, CodecError, Decoder};
use ebbtide_feed::{ToSender, ToTracker};

use crate::sys::poll::Poller;
use crate::sys::{self, memory, privilege};

/// Who the sender runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// As the system knows it.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Why there is no sender.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// The configured user is unknown.
    #[error("user {0}: is not known to this system")]
    User(String),
    /// The binary cannot be found.
    #[error("the sender's binary was not found at {}", .0.display())]
    Missing(PathBuf),
    /// It could not be started.
    #[error("the sender {} could not be started", .path.display())]
    Start {
        /// The binary.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl SenderError {
    /// What the user can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            SenderError::User(_) => "create it (`useradd --system ebbtide`), or name another one with --user",
            SenderError::Missing(_) => "install ebbtide-send beside ebbtide, or name it in $EBBTIDE_SEND",
            SenderError::Start { .. } => "see that the file is there, and executable for everybody",
        }
    }
}

/// The user by this name; without one `ebbtide` where that exists, else `nobody`.
///
/// # Errors
/// There is no such user.
pub fn find_user(name: Option<&str>) -> Result<User, SenderError> {
    let candidates = name.map_or(vec!["ebbtide", "nobody"], |name| vec![name]);
    let found = candidates.iter().find_map(uzers::get_user_by_name);
    let user = found.ok_or_else(|| SenderError::User(candidates.join(" or ")))?;
    let name = user.name().to_string_lossy().into_owned();
    Ok(User { name, uid: user.uid(), gid: user.primary_group_id() })
}

/// The sender's binary: what `EBBTIDE_SEND` names, else `ebbtide-send` beside this executable.
///
/// # Errors
/// It is not there.
pub fn find_binary() -> Result<PathBuf, SenderError> {
    let path = match std::env::var_os("EBBTIDE_SEND") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe().unwrap_or_default().with_file_name("ebbtide-send"),
    };
    if path.is_file() { Ok(path) } else { Err(SenderError::Missing(path)) }
}

/// The command for the sender with this argument, confined to the user.
pub fn command(binary: &Path, user: &User, argument: &str) -> Command {
    let mut command = Command::new(binary);
    command.arg(argument).current_dir("/");
    let (variable, value) = memory::keeps_little();
    // What somebody set on purpose stays.
    if std::env::var_os(variable).is_none() {
        command.env(variable, value);
    }
    privilege::confine(&mut command, user.uid, user.gid);
    command
}

/// A running sender.
pub(super) struct Sender {
    child: Child,
    stream: UnixStream,
    decoder: Decoder,
    /// Messages that wait, and the bytes of the one that is being written.
    waiting: VecDeque<ToSender>,
    writing: Vec<u8>,
    written: usize,
    /// When it was started.
    pub(super) started: Instant,
    /// Its socket takes no more at present, and is waited for.
    pub(super) is_full: bool,
    /// It has said that it is ready.
    pub(super) ready: bool,
}

impl Sender {
    pub(super) fn start(binary: &Path, user: &User) -> Result<Self, SenderError> {
        let failed = |source| SenderError::Start { path: binary.to_owned(), source };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let mut command = command(binary, user, "--ebbtide-feed");
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        let child = command.spawn().map_err(failed)?;
        Ok(Sender {
            child,
            stream: ours,
            decoder: Decoder::default(),
            waiting: VecDeque::new(),
            writing: Vec::new(),
            written: 0,
            started: Instant::now(),
            is_full: false,
            ready: false,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn send(&mut self, message: ToSender) {
        self.waiting.push_back(message);
    }

    /// Writes what can be written without waiting; returns whether something is left.
    ///
    /// # Errors
    /// The sender is gone, or a message is too long.
    pub(super) fn flush(&mut self) -> Result<bool, CodecError> {
        loop {
            if self.written == self.writing.len() {
                let Some(message) = self.waiting.pop_front() else { return Ok(false) };
                self.writing = codec::encode(&message)?;
                self.written = 0;
            }
            match self.stream.write(&self.writing[self.written..]) {
                Ok(count) => self.written += count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Everything that the sender has said.
    ///
    /// # Errors
    /// [`CodecError::Closed`] when it is gone; what it said before that is in `into`.
    pub(super) fn read(&mut self, into: &mut Vec<ToTracker>) -> Result<(), CodecError> {
        let mut bytes = [0; 16 << 10];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(CodecError::Closed),
                Ok(count) => {
                    self.decoder.push(&bytes[..count]);
                    while let Some(message) = self.decoder.next_message()? {
                        into.push(message);
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Takes the child off the process table, by force if it does not end within `grace`.
    pub(super) fn reap(mut self, grace: Duration) -> Option<ExitStatus> {
        drop(self.stream);
        if !has_ended(&self.child, grace) {
            // Already ended: then there is nothing to kill.
            let _ = self.child.kill();
        }
        self.child.wait().ok()
    }
}

/// Waits for the end of a child at most so long; a process's descriptor is readable when it has ended.
fn has_ended(child: &Child, grace: Duration) -> bool {
    let ended = || -> sys::Result<bool> {
        let pid = rustix::process::Pid::from_child(child);
        let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
            .map_err(|e| sys::SysError::new("pidfd_open", e))?;
        let poller = Poller::new()?;
        poller.add(fd.as_fd(), 0)?;
        Ok(!poller.wait(Some(grace))?.is_empty())
    };
    ended().unwrap_or(false)
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// How long to pause before the sender is started again: longer each time, until one was of use.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    deaths: u32,
}

impl Pauses {
    pub(super) fn next(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.deaths.min(16)).min(LONGEST_PAUSE);
        self.deaths += 1;
        pause
    }

    /// It made something durable.
    pub(super) fn was_of_use(&mut self) {
        self.deaths = 0;
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_start_over_after_success() {
        let mut pauses = Pauses::default();
        let first: Vec<_> = (0..4).map(|_| pauses.next().as_millis()).collect();
        assert_eq!(first, [50, 100, 200, 400]);
        assert_eq!((0..40).map(|_| pauses.next()).max(), Some(LONGEST_PAUSE));
        pauses.was_of_use();
        assert_eq!(pauses.next(), FIRST_PAUSE);
    }

    #[test]
    fn root_is_known_and_a_made_up_user_is_not() {
        assert_eq!(find_user(Some("root")).unwrap().uid, 0);
        assert!(matches!(find_user(Some("no such user")), Err(SenderError::User(_))));
    }
}
