//! A proxy before a daemon: counts bytes, changes them, acts when certain bytes pass, drips or freezes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::server::{Clients, Server};

/// Sees what a client sends before the daemon does: everything of this connection so far, and where the part
/// begins that was not passed on yet. It may change that part, or do something else first.
pub type Tap = Box<dyn FnMut(&mut [u8], usize) + Send>;

/// A proxy on a loopback port; ends on drop.
#[derive(Debug)]
pub struct Proxy {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    /// Most bytes passed on by one write; 1 drips.
    step: usize,
    sent: AtomicU64,
    received: AtomicU64,
    tap: Mutex<Option<Tap>>,
    /// Nothing passes while this is set.
    held: Mutex<bool>,
    freed: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "proxy to {}", self.upstream)
    }
}

impl Proxy {
    /// Passes everything on to `upstream` (`host:port`).
    pub fn to(upstream: &str) -> Proxy {
        Proxy::start(upstream, usize::MAX, None)
    }

    /// Passes single bytes on, each in a packet of its own.
    pub fn dripping(upstream: &str) -> Proxy {
        Proxy::start(upstream, 1, None)
    }

    /// Lets `tap` see what clients send.
    pub fn tapped(upstream: &str, tap: Tap) -> Proxy {
        Proxy::start(upstream, usize::MAX, Some(tap))
    }

    /// Does something once, when `bytes` pass from a client to the daemon, and before they do.
    pub fn when(upstream: &str, bytes: &'static [u8], action: impl FnOnce() + Send + 'static) -> Proxy {
        let mut action = Some(action);
        Proxy::tapped(
            upstream,
            Box::new(move |stream, _| {
                if action.is_some() && find(stream, bytes).is_some() {
                    action.take().expect("it was there a line above")();
                }
            }),
        )
    }

    /// Damages the last byte of `bytes` when they first pass from a client to the daemon.
    pub fn damaging(upstream: &str, bytes: &'static [u8]) -> Proxy {
        let mut done = false;
        Proxy::tapped(
            upstream,
            Box::new(move |stream, new| {
                let last = find(stream, bytes).map(|at| at + bytes.len() - 1);
                if let Some(last) = last.filter(|&last| !done && last >= new) {
                    stream[last] ^= 1;
                    done = true;
                }
            }),
        )
    }

    /// `host:port` of the proxy.
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// Bytes that clients sent so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// Bytes that clients were sent so far.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::SeqCst)
    }

    /// Cuts every connection; the next one is served again.
    pub fn cut(&self) {
        self.server.cut();
    }

    /// Swallows everything from now on, of new connections too: a black hole.
    pub fn hold(&self) {
        self.shared.set_held(true);
    }

    /// Lets everything pass again, what was swallowed first.
    pub fn release(&self) {
        self.shared.set_held(false);
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.server.served()
    }

    fn start(upstream: &str, step: usize, tap: Option<Tap>) -> Proxy {
        let shared = Arc::new(Shared {
            upstream: upstream.into(),
            step,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            tap: Mutex::new(tap),
            held: Mutex::new(false),
            freed: Condvar::new(),
        });
        let server = Server::start({
            let shared = Arc::clone(&shared);
            move |clients, client| shared.serve(clients, &client)
        });
        Proxy { server, shared }
    }
}

impl Shared {
    fn serve(&self, clients: &Clients, client: &TcpStream) {
        // A daemon that is down: the client sees a connection that closes at once.
        let Ok(daemon) = TcpStream::connect(&self.upstream) else { return };
        clients.count();
        let kept = [client, &daemon].map(|stream| {
            let _ = stream.set_nodelay(true);
            clients.keep(stream)
        });
        thread::scope(|scope| {
            scope.spawn(|| self.pump(client, &daemon, true));
            self.pump(&daemon, client, false);
        });
        kept.into_iter().for_each(|number| clients.forget(number));
    }

    fn set_held(&self, held: bool) {
        *self.held.lock().expect("nobody panics with it") = held;
        self.freed.notify_all();
    }

    fn wait_while_held(&self) {
        let held = self.held.lock().expect("nobody panics with it");
        drop(self.freed.wait_while(held, |held| *held).expect("nobody panics with it"));
    }

    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream, upwards: bool) {
        let counter = if upwards { &self.sent } else { &self.received };
        let tapped = upwards && self.tap.lock().is_ok_and(|tap| tap.is_some());
        let mut stream = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            self.wait_while_held();
            counter.fetch_add(count as u64, Ordering::SeqCst);
            let new = stream.len();
            stream.extend_from_slice(&buffer[..count]);
            if tapped && let Ok(mut tap) = self.tap.lock() {
                tap.as_mut().expect("a tap is never taken away")(&mut stream, new);
            }
            if stream[new..].chunks(self.step).any(|part| to.write_all(part).is_err()) {
                break;
            }
            if !tapped {
                stream.clear();
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its threads must end.
        self.release();
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
