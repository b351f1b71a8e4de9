//! A source, a stock daemon, and the sender between them.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test file uses its part, and a failure is a panic"
)]

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ebbtide_feed::codec;
use ebbtide_feed::{
    Batch, DestinationSpec, Fact, MirrorSpec, PROTOCOL_VERSION, RelPath, SenderStatus, Start, ToSender,
    ToTracker,
};
use rustix::process::{Pid, Signal};

/// A source, a stock daemon, and the sender between them.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    daemon: Option<Child>,
    port: u16,
    /// Keeps other tests from the port.
    _held: UdpSocket,
    pub(crate) hard_links: bool,
    /// More destinations of the mirror.
    pub(crate) others: Vec<String>,
    /// Who logs in, with an `@`; empty for nobody.
    pub(crate) user: String,
    /// How long a destination may be silent: longer than any machine lets one wait.
    pub(crate) timeout_s: u32,
    /// Of every destination.
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) sender: Option<Sender>,
    pub(crate) seq: u64,
}

/// A sender that runs.
pub(crate) struct Sender {
    pub(crate) child: Child,
    pub(crate) feed: UnixStream,
}

/// A port that is ours as long as the socket lives: the kernel gives nobody one below 32768 by itself.
fn free_port() -> (u16, UdpSocket) {
    let start = u16::try_from(std::process::id() % 20_000).unwrap();
    let free = (0..20_000).find_map(|n| {
        let port = 10_000 + (start + n) % 20_000;
        let held = UdpSocket::bind(("127.0.0.1", port)).ok()?;
        TcpListener::bind(("127.0.0.1", port)).ok().map(|_| (port, held))
    });
    free.unwrap()
}

pub(crate) fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !ready() {
        assert!(Instant::now() < end, "not reached: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// How long a test waits for a state that must come.
const PATIENCE: Duration = Duration::from_secs(300);

/// Pause between two looks at a state that cannot be waited on otherwise.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["src", "dest", "state"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let (port, held) = free_port();
        let mut world = World {
            folder,
            daemon: None,
            port,
            _held: held,
            hard_links: true,
            others: Vec::new(),
            user: String::new(),
            timeout_s: PATIENCE.as_secs() as u32,
            password_file: None,
            sender: None,
            seq: 0,
        };
        world.start_daemon("");
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn src(&self, name: &str) -> PathBuf {
        self.path("src").join(name)
    }

    pub(crate) fn start_daemon(&mut self, module_lines: &str) {
        let dest = self.path("dest").display().to_string();
        let log = self.path("daemon.log").display().to_string();
        let config = format!(
            "use chroot = no\nmunge symlinks = no\nlog file = {log}\nuid = root\ngid = root\n[m]\npath = {dest}\nread only = no\n{module_lines}\n"
        );
        let file = self.path("rsyncd.conf");
        fs::write(&file, config).unwrap();
        let (port, config) = (format!("--port={}", self.port), format!("--config={}", file.display()));
        wait_until("the daemon listens", || {
            let mut child = Command::new("rsync")
                .args(["--daemon", "--no-detach", "--address=127.0.0.1", &port, &config])
                .stdin(Stdio::null())
                .process_group(0)
                .spawn()
                .unwrap();
            let mut has_ended = false;
            wait_until("the daemon answers or ends", || {
                // A session of an earlier daemon that is just being killed may still hold the port.
                has_ended = child.try_wait().unwrap().is_some();
                has_ended || self.is_answered()
            });
            self.daemon = Some(child);
            !has_ended
        });
    }

    fn is_answered(&self) -> bool {
        let mut greeting = [0; 8];
        let connected = TcpStream::connect(("127.0.0.1", self.port));
        connected.and_then(|mut daemon| daemon.read_exact(&mut greeting)).is_ok()
    }

    /// Kills the daemon and all its sessions, which stay in the process group that it leads.
    pub(crate) fn stop_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let group = Pid::from_raw(daemon.id().cast_signed()).unwrap();
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
            daemon.wait().unwrap();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("rsync://{}127.0.0.1:{}/m/", self.user, self.port)
    }

    pub(crate) fn start_message(&self) -> Start {
        let destination = |url: String| DestinationSpec {
            url,
            password_file: self.password_file.clone(),
            timeout_s: self.timeout_s,
            tls: ebbtide_feed::TlsSpec::default(),
            contimeout_s: PATIENCE.as_secs() as u32,
            ..Default::default()
        };
        let urls = std::iter::once(self.url()).chain(self.others.iter().cloned());
        let mirror = MirrorSpec {
            source: self.path("src"),
            delete: true,
            numeric_ids: false,
            hard_links: self.hard_links,
            filters: Vec::new(),
            destinations: urls.map(destination).collect(),
            ..Default::default()
        };
        Start { version: PROTOCOL_VERSION, state_dir: self.path("state"), mirrors: vec![mirror] }
    }

    pub(crate) fn start_sender(&mut self) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ebbtide-send"))
            .arg("--ebbtide-feed")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        codec::write(&ours, &ToSender::Start(self.start_message())).unwrap();
        assert_eq!(codec::read::<ToTracker>(&ours).unwrap(), ToTracker::Ready { version: PROTOCOL_VERSION });
        self.sender = Some(Sender { child, feed: ours });
    }

    pub(crate) fn feed(&self) -> &UnixStream {
        &self.sender.as_ref().unwrap().feed
    }

    pub(crate) fn say(&self, message: &ToSender) {
        codec::write(self.feed(), message).unwrap();
    }

    pub(crate) fn hear(&self) -> ToTracker {
        codec::read(self.feed()).unwrap()
    }

    pub(crate) fn hear_until(&self, wanted: impl Fn(&ToTracker) -> bool) -> ToTracker {
        loop {
            let message = self.hear();
            if wanted(&message) {
                return message;
            }
        }
    }

    pub(crate) fn send(&mut self, facts: Vec<Fact>) {
        self.seq += 1;
        self.say(&ToSender::Batch(Batch { seq: self.seq, mirror: 0, last: true, facts }));
    }

    pub(crate) fn wait_durable(&self) {
        let seq = self.seq;
        self.hear_until(|message| *message == ToTracker::Durable { seq });
    }

    pub(crate) fn settle(&self) {
        self.say(&ToSender::Barrier { token: 1 });
        self.hear_until(|message| *message == ToTracker::Settled { token: 1 });
    }

    pub(crate) fn status(&self) -> SenderStatus {
        self.say(&ToSender::StatusRequest { token: 2 });
        match self.hear_until(|message| matches!(message, ToTracker::Status { .. })) {
            ToTracker::Status { status, .. } => status,
            _ => unreachable!("waited for a status"),
        }
    }

    pub(crate) fn kill_sender(&mut self) {
        let mut sender = self.sender.take().unwrap();
        sender.child.kill().unwrap();
        sender.child.wait().unwrap();
        if std::env::var_os("EBBTIDE_SOAK_QUIET").is_some()
            && let Some(daemon) = &self.daemon
        {
            let children = format!("/proc/{0}/task/{0}/children", daemon.id());
            wait_until("quiet", || fs::read_to_string(&children).unwrap().trim().is_empty());
        }
    }

    /// The referee: a stock rsync must find nothing to do.
    pub(crate) fn assert_same(&self) {
        let mut options = vec!["-naHAXc", "--delete", "--itemize-changes"];
        if !self.hard_links {
            options[0] = "-naAXc";
        }
        let output = Command::new("rsync")
            .args(options)
            .arg(format!("{}/", self.path("src").display()))
            .arg(format!("{}/", self.path("dest").display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.sender.is_some() {
            self.kill_sender();
        }
        self.stop_daemon();
    }
}

pub(crate) fn path(name: &str) -> RelPath {
    RelPath::new(name).unwrap()
}

pub(crate) fn data(name: &str) -> Fact {
    Fact::Touched { path: path(name), data: true }
}

pub(crate) fn attributes(name: &str) -> Fact {
    Fact::Touched { path: path(name), data: false }
}

pub(crate) fn gone(name: &str) -> Fact {
    Fact::Gone { path: path(name) }
}

pub(crate) fn root() -> Fact {
    Fact::Touched { path: RelPath::root(), data: false }
}
