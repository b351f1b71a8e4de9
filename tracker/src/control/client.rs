//! The command line's end.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{Answer, PID, Request, SOCKET};

/// Why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is none.
    #[error("no ebbtide daemon runs with runtime folder {}", .0.display())]
    NoDaemon(PathBuf),
    /// It is somebody else's.
    #[error("the control socket {} is not open to this user", .0.display())]
    Permission(PathBuf),
    /// It did not answer in time.
    #[error("the daemon did not answer in time")]
    Timeout,
    /// It ended, or the connection broke.
    #[error("the connection to the daemon broke")]
    Broken(#[source] io::Error),
    /// It said something that is no answer.
    #[error("the daemon's answer was not understood: {0}")]
    Answer(String),
}

impl ClientError {
    /// What the user can do about it, where that is known.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            ClientError::NoDaemon(_) => {
                Some("start it with `ebbtide run`, or give the --runtime-dir that it was started with")
            }
            ClientError::Permission(_) => Some("run this as the user that runs the daemon, usually root"),
            ClientError::Answer(_) => Some("see that daemon and command are of one version"),
            ClientError::Timeout | ClientError::Broken(_) => None,
        }
    }
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    runtime_dir: PathBuf,
}

impl Client {
    /// Connects to the daemon with this runtime folder. One that is about to start, or to begin anew with another
    /// configuration, is waited for.
    ///
    /// # Errors
    /// There is none, or it is not ours to ask.
    pub fn connect(runtime_dir: &Path) -> Result<Self, ClientError> {
        Client::connect_until(runtime_dir, Instant::now() + BEGINNING)
    }

    fn connect_until(runtime_dir: &Path, end: Instant) -> Result<Self, ClientError> {
        loop {
            match Client::try_connect(runtime_dir) {
                Err(ClientError::NoDaemon(_)) if wait_for_beginning(runtime_dir, end) => {}
                connected => return connected,
            }
        }
    }

    fn try_connect(runtime_dir: &Path) -> Result<Self, ClientError> {
        let path = runtime_dir.join(SOCKET);
        match UnixStream::connect(&path) {
            Ok(stream) => Ok(Client { stream, runtime_dir: runtime_dir.to_owned() }),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Err(ClientError::NoDaemon(runtime_dir.to_owned()))
            }
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(ClientError::Permission(path)),
            Err(e) => Err(ClientError::Broken(e)),
        }
    }

    /// Asks, and waits for the answer at most so long (`None` for ever). A daemon that begins anew meanwhile is asked again.
    ///
    /// # Errors
    /// There is no answer in time, or the daemon ended.
    pub fn ask(mut self, request: &Request, timeout: Option<Duration>) -> Result<Answer, ClientError> {
        // What a clock cannot tell is for ever.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut breaks = Breaks::default();
        loop {
            let asked = Instant::now();
            let broken = match self.ask_once(request, left()) {
                Err(ClientError::Broken(e)) => e,
                answer => return answer,
            };
            let patience = breaks.patience(asked, Instant::now());
            let end = deadline.map_or(patience, |deadline| deadline.min(patience));
            let again = match wait_for_beginning(&self.runtime_dir, end) {
                true => Client::connect_until(&self.runtime_dir, end),
                false => Err(ClientError::Broken(broken)),
            };
            self =
                again.map_err(|e| if left() == Some(Duration::ZERO) { ClientError::Timeout } else { e })?;
        }
    }

    fn ask_once(&mut self, request: &Request, timeout: Option<Duration>) -> Result<Answer, ClientError> {
        let mut line = serde_json::to_vec(request).expect("requests have no maps");
        line.push(b'\n');
        self.stream.write_all(&line).map_err(ClientError::Broken)?;
        // A timeout of zero would mean none.
        let timeout = timeout.map(|timeout| timeout.max(Duration::from_millis(1)));
        self.stream.set_read_timeout(timeout).map_err(ClientError::Broken)?;
        let mut answer = String::new();
        match BufReader::new(&self.stream).read_line(&mut answer) {
            Ok(0) => Err(ClientError::Broken(ErrorKind::UnexpectedEof.into())),
            Ok(_) => serde_json::from_str(&answer).map_err(|e| ClientError::Answer(e.to_string())),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(ClientError::Timeout)
            }
            Err(e) => Err(ClientError::Broken(e)),
        }
    }
}

/// The breaks of one request. Those of a daemon that begins anew come soon one after the other.
#[derive(Debug, Default)]
struct Breaks {
    first: Option<Instant>,
}

impl Breaks {
    /// The connection broke now, on which the request was made at `asked`: until when it is made again.
    fn patience(&mut self, asked: Instant, now: Instant) -> Instant {
        if now.duration_since(asked) >= BEGINNING {
            self.first = None;
        }
        *self.first.get_or_insert(now) + BEGINNING
    }
}

/// Waits for a moment, if there is a daemon that may answer later, until `end` at most. Whether to try again.
fn wait_for_beginning(runtime_dir: &Path, end: Instant) -> bool {
    let is_worth_it = Instant::now() < end && has_daemon(runtime_dir);
    if is_worth_it {
        thread::sleep(STEP);
    }
    is_worth_it
}

/// Whether the process that last wrote its number down is a daemon and lives.
fn has_daemon(runtime_dir: &Path) -> bool {
    let Ok(pid) = std::fs::read_to_string(runtime_dir.join(PID)) else { return false };
    // Number, name in parentheses, state; a dead process that was not reaped yet is a zombie.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.split_once(PROGRAM).is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

/// How `proc_pid_stat(5)` names the program.
const PROGRAM: &str = "(ebbtide) ";

/// The longest that a daemon may take from its start until it can be asked: loading programs, mostly.
const BEGINNING: Duration = Duration::from_secs(60);

/// How often it is tried.
const STEP: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_daemon_runs_the_error_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = Client::connect(dir.path()).unwrap_err();
        assert!(matches!(error, ClientError::NoDaemon(_)));
        assert!(error.advice().unwrap().contains("ebbtide run"));
    }

    #[test]
    fn who_waits_for_long_is_heard_again_by_each_daemon_that_begins_anew() {
        let (mut breaks, first) = (Breaks::default(), Instant::now());
        let (soon, late) = (first + BEGINNING / 2, first + 10 * BEGINNING);
        assert_eq!(breaks.patience(first, first), first + BEGINNING);
        assert_eq!(
            breaks.patience(soon, soon),
            first + BEGINNING,
            "one that breaks over and over is given up"
        );
        assert_eq!(breaks.patience(soon, late), late + BEGINNING);
    }
}
