//! A long way to a daemon: a relay on loopback that hands every byte on, some time later.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    port: u16,
    over: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Relay {
    /// Takes connections for the daemon at `port`, and keeps what goes either way for `delay`.
    pub(crate) fn start(port: u16, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen for the relay")?;
        let own = listener.local_addr().context("ask for the relay's port")?.port();
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let listener = thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if seen.load(Ordering::Acquire) {
                    return;
                }
                // Who connects sees a closed connection where there is no daemon.
                if let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                    join(near, far, delay);
                }
            }
        });
        Ok(Relay { port: own, over, listener: Some(listener) })
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // One connection more wakes it up.
        let woken = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        if let Some(listener) = self.listener.take().filter(|_| woken) {
            let _ = listener.join();
        }
    }
}

fn join(near: TcpStream, far: TcpStream, delay: Duration) {
    let ends = near.try_clone().and_then(|back| Ok((back, far.try_clone()?)));
    let Ok((back, forth)) = ends else { return };
    carry(near, forth, delay);
    carry(far, back, delay);
}

/// One direction: one thread notes when bytes came, the other hands them on when their time is there.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let _ = to.set_nodelay(true);
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = match from.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.unwrap_or(0),
            };
            // An empty piece is the end.
            let bytes = buffer.get(..read).unwrap_or_default().to_vec();
            if sender.send((Instant::now() + delay, bytes)).is_err() || read == 0 {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if bytes.is_empty() || to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
