//! The driver at moments that no peer can choose: the clock stands still, and the test acts between two steps.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::Poll;

use ebbtide_wire::proto::ServerOptions;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::advance;

use super::super::config;
use super::super::report::Silent;
use super::*;
use crate::transport::{Target, Wish, connect};

#[tokio::test(start_paused = true)]
async fn what_came_while_this_process_was_kept_from_running_is_read_before_a_daemon_is_taken_for_dead() {
    for (words, alive) in [(&b"@RSYNCD: 32.0 md5 md4\n"[..], true), (b"", false)] {
        let options = options().with_timeout(Duration::from_secs(60));
        let (mut driver, mut daemon) = connected(&options).await;
        if alive {
            daemon.write_all(words).await.unwrap();
            driver.stream.ready(true, false).await.unwrap();
        }
        advance(Duration::from_secs(61)).await;
        let outcome = driver.on_tick();
        assert_eq!(outcome.is_ok(), alive, "{outcome:?}");
        assert_eq!(driver.bytes_read, words.len() as u64);
    }
}

#[tokio::test]
async fn a_write_that_fails_after_the_daemons_last_word_is_no_failure() {
    for read_before in [false, true] {
        let options = options();
        let (mut driver, mut daemon) = connected(&options).await;
        daemon.write_all(b"@RSYNCD: 32.0 md5 md4\nm\tits comment\n@RSYNCD: EXIT\n").await.unwrap();
        reset(daemon);
        driver.stream.ready(true, false).await.unwrap();
        if read_before {
            driver.read().unwrap();
        }
        assert_eq!(driver.finished.is_some(), read_before);
        // What this side says unasked still waits, and nobody takes it any more.
        assert!(driver.has_output());
        let outcome = driver.write(true);
        assert!(outcome.is_ok(), "{outcome:?}");
        assert!(driver.finished.is_some() && !driver.has_output());
    }
}

#[tokio::test]
async fn a_write_that_fails_before_the_daemons_last_word_is_one() {
    let options = options();
    let (mut driver, daemon) = connected(&options).await;
    reset(daemon);
    driver.stream.ready(true, false).await.unwrap();
    assert!(driver.write(true).is_err());
}

#[tokio::test(start_paused = true)]
async fn the_code_of_a_shell_that_ends_long_after_its_last_byte_is_waited_for() {
    let (shell, _still) = (LateShell::new(), Still::new());
    let options = shell.options();
    let mut running = pin!(shell.session(&options).await.run());
    shell.is_waited_for(running.as_mut()).await;
    advance(Duration::from_secs(30)).await;
    assert!(is_pending(running.as_mut()).await);
    shell.let_go().await;
    let kind = running.await.err().unwrap().kind;
    assert!(matches!(kind, SessionErrorKind::Shell { code: 77, .. }), "{kind:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shell_that_never_ends_is_not_waited_for_without_end() {
    for (timeout, limit) in [(None, SHELL_PATIENCE), (Some(7), Duration::from_secs(7))] {
        let (shell, _still) = (LateShell::new(), Still::new());
        let options = PushOptions { timeout: timeout.map(Duration::from_secs), ..shell.options() };
        let mut running = pin!(shell.session(&options).await.run());
        shell.is_waited_for(running.as_mut()).await;
        advance(limit - Duration::from_millis(2)).await;
        assert!(is_pending(running.as_mut()).await);
        advance(Duration::from_millis(4)).await;
        let kind = running.await.err().unwrap().kind;
        assert!(matches!(kind, SessionErrorKind::Wire(ErrorKind::Closed { .. })), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_no_remote_shell_is_waited_for_a_moment_only() {
    let (program, _still) = (LateShell::new(), Still::new());
    let mut options = options();
    // Whoever runs it keeps its output open otherwise.
    options.way.program = Some([OsStr::new("exec "), &program.command()].into_iter().collect());
    let mut running = pin!(driver(b"rsync://host/", &options).await.run());
    program.is_waited_for(running.as_mut()).await;
    advance(Duration::from_millis(1010)).await;
    let kind = running.await.err().unwrap().kind;
    assert!(matches!(kind, SessionErrorKind::NoGreeting(_)), "{kind:?}");
}

fn options() -> PushOptions {
    PushOptions::new(ServerOptions::default())
}

/// A session that asks a daemon for its modules and has done nothing yet, and the daemon's end.
async fn connected(options: &PushOptions) -> (Driver<'_>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("rsync://{}/", listener.local_addr().unwrap());
    let driver = driver(address.as_bytes(), options).await;
    (driver, listener.accept().await.unwrap().0)
}

async fn driver<'a>(address: &[u8], options: &'a PushOptions) -> Driver<'a> {
    let target = Target::parse(address).unwrap();
    let config = config(&target, options);
    let command = options.server.command(&config.path, false).unwrap();
    let wish = Wish { limit: None, bwlimit: None, command: Some(&command) };
    let stream = connect(&target, &options.way, &wish).await.unwrap();
    let (client, input) = (Client::new(config).unwrap(), Input::Whole(FileListInput::default()));
    // It has no size, so nothing is leaked.
    let observer = Box::leak(Box::new(Silent));
    Driver::new(stream, client, options, Instant::now(), input, Arc::new(Source::none()), observer)
}

/// Closes a connection so that whoever writes to it is told at once.
fn reset(peer: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer.into_std().unwrap());
}

async fn is_pending<F: Future>(mut future: Pin<&mut F>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

/// While this lives, time passes only where a test says so: a clock that is paused goes on by itself when nobody has
/// anything to do, unless a thread works.
struct Still {
    _end: mpsc::Sender<()>,
}

impl Still {
    fn new() -> Still {
        let (end, ended) = mpsc::channel::<()>();
        task::spawn_blocking(move || ended.recv());
        Still { _end: end }
    }
}

/// A remote shell that says nothing, and ends with code 77 when it is let go after its input has ended.
struct LateShell {
    folder: tempfile::TempDir,
}

impl LateShell {
    fn new() -> LateShell {
        let shell = LateShell { folder: tempfile::tempdir().unwrap() };
        for name in ["waits", "go"] {
            mknodat(CWD, shell.path(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        }
        shell
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> OsString {
        let (waits, go) = (self.path("waits"), self.path("go"));
        let then = format!("echo yes > {}; read word < {}; exit 77", waits.display(), go.display());
        format!("sh -c \"exec 1>&-; while read word; do :; done; {then}\"").into()
    }

    fn options(&self) -> PushOptions {
        let mut options = options();
        options.way.shell.command = Some(self.command());
        options
    }

    async fn session<'a>(&self, options: &'a PushOptions) -> Driver<'a> {
        driver(b"host:path", options).await
    }

    /// Runs the session until the shell waits to be let go, and the session for the shell.
    async fn is_waited_for<F: Future>(&self, session: Pin<&mut F>) {
        let waits = self.path("waits");
        tokio::select! {
            _ = session => panic!("the session did not wait"),
            said = task::spawn_blocking(move || fs::read(waits)) => assert_eq!(said.unwrap().unwrap(), b"yes\n"),
        }
    }

    async fn let_go(&self) {
        let go = self.path("go");
        task::spawn_blocking(move || fs::write(go, "word\n")).await.unwrap().unwrap();
    }
}
