//! A stock rsync daemon on loopback, and what its own log says about the sessions it had.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::process::Running;
use super::wait;

/// A daemon with one module, `m`.
pub(crate) struct Rsyncd {
    running: Running,
    port: u16,
    log: PathBuf,
}

/// A place in the daemon's log.
#[derive(Clone, Copy)]
pub(crate) struct Mark(u64);

/// What the daemon counted over some sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Sessions begun.
    pub(crate) begun: u64,
    /// Sessions ended, well or not.
    pub(crate) ended: u64,
    /// Bytes that the daemon received, which are those the client sent.
    pub(crate) received: u64,
    /// Bytes that the daemon sent.
    pub(crate) sent: u64,
}

impl Rsyncd {
    /// Serves the folder `path`; configuration and logs go to `scratch` under `name`.
    pub(crate) fn start(scratch: &Path, name: &str, path: &Path) -> Result<Self> {
        let port = free_port()?;
        let log = scratch.join(format!("{name}.rsyncd.log"));
        let config = scratch.join(format!("{name}.rsyncd.conf"));
        fs::write(&log, "").with_context(|| format!("create {}", log.display()))?;
        fs::write(&config, configuration(port, &log, path))
            .with_context(|| format!("write {}", config.display()))?;
        let mut command = Command::new("rsync");
        command.args(["--daemon", "--no-detach"]).arg(format!("--config={}", config.display()));
        let mut running = Running::start(&mut command, &scratch.join(format!("{name}.rsyncd.out")))?;
        running.until("listen", Duration::from_secs(20), |_| {
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })?;
        Ok(Self { running, port, log })
    }

    /// The address of its module.
    pub(crate) fn url(&self) -> String {
        format!("rsync://127.0.0.1:{}/m/", self.port)
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The present end of its log.
    pub(crate) fn mark(&self) -> Mark {
        Mark(fs::metadata(&self.log).map_or(0, |metadata| metadata.len()))
    }

    /// Waits until at least `sessions` were begun since `mark` and all of them have ended.
    pub(crate) fn settled(&mut self, mark: Mark, sessions: u64, limit: Duration) -> Result<Traffic> {
        let mut traffic = Traffic::default();
        let log = &self.log;
        wait::until("the daemon's sessions shall end", Instant::now(), limit, || {
            self.running.must_live()?;
            traffic = read(log, mark)?;
            Ok(traffic.begun >= sessions && traffic.ended >= traffic.begun)
        })?;
        Ok(traffic)
    }
}

fn configuration(port: u16, log: &Path, path: &Path) -> String {
    format!(
        "address = 127.0.0.1\nport = {port}\nlog file = {}\nuse chroot = no\nmunge symlinks = no\nuid = 0\ngid = 0\nreverse lookup = no\n\
         [m]\npath = {}\nread only = no\n",
        log.display(),
        path.display()
    )
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr().context("read the number of a free port")?.port())
}

fn read(log: &Path, mark: Mark) -> Result<Traffic> {
    let mut text = Vec::new();
    let mut file = File::open(log).with_context(|| format!("open {}", log.display()))?;
    file.seek(SeekFrom::Start(mark.0)).context("seek in the daemon's log")?;
    file.read_to_end(&mut text).context("read the daemon's log")?;
    Ok(count(&String::from_utf8_lossy(&text)))
}

/// Folds lines such as `2026/01/31 10:00:00 [77] sent 47 bytes  received 131 bytes  total size 3`. A session
/// begins with its `rsync to` line and ends with that one or with an error.
fn count(text: &str) -> Traffic {
    let mut sessions: BTreeMap<&str, Traffic> = BTreeMap::new();
    for line in text.lines() {
        let Some((pid, said)) = line.split_once('[').and_then(|(_, rest)| rest.split_once("] ")) else {
            continue;
        };
        let session = sessions.entry(pid).or_default();
        if said.starts_with("rsync to ") {
            session.begun = 1;
        } else if let Some((sent, received)) = totals(said) {
            (session.sent, session.received, session.ended) = (sent, received, 1);
        } else if said.starts_with("rsync error: ") {
            session.ended = 1;
        }
    }
    sessions.values().filter(|session| session.begun == 1).fold(Traffic::default(), |sum, session| Traffic {
        begun: sum.begun + session.begun,
        ended: sum.ended + session.ended,
        received: sum.received + session.received,
        sent: sum.sent + session.sent,
    })
}

fn totals(said: &str) -> Option<(u64, u64)> {
    let (sent, rest) = said.strip_prefix("sent ")?.split_once(" bytes")?;
    let (received, _) = rest.trim_start().strip_prefix("received ")?.split_once(" bytes")?;
    Some((number(sent)?, number(received)?))
}

/// A number as rsync writes it, with or without separators.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.chars().filter(|c| !matches!(c, ',' | '.')).collect::<String>().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_counts_once_with_the_bytes_of_its_last_line() {
        let log = "2026/11/22 09:12:34 [12] connect from localhost (127.0.0.1)\n\
                   2026/11/22 09:12:34 [12] rsync to m/ from localhost (127.0.0.1)\n\
                   2026/11/22 09:12:34 [15] rsync to m/ from localhost (127.0.0.1)\n\
                   2026/11/22 09:12:34 [12] sent 47 bytes  received 1,131 bytes  total size 3\n";
        assert_eq!(count(log), Traffic { begun: 2, ended: 1, received: 1131, sent: 47 });
    }

    #[test]
    fn a_session_that_failed_has_ended_too() {
        let log = "2026/11/22 09:12:34 [12] rsync to m/ from localhost (127.0.0.1)\n\
                   2026/11/22 09:12:34 [12] rsync error: error in rsync protocol data stream (code 12) at io.c(1)\n";
        assert_eq!(count(log), Traffic { begun: 1, ended: 1, received: 0, sent: 0 });
    }
}
