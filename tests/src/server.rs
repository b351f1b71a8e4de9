//! Listens on a loopback port and gives each client a thread; what the proxy and the hostile daemon share.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// A listener and its threads. On drop it closes what was registered with [`Clients::keep`] and waits for all of them.
#[derive(Debug)]
pub(crate) struct Server {
    port: u16,
    clients: Arc<Clients>,
    thread: Option<JoinHandle<()>>,
}

/// What the threads of one server share.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    stopping: AtomicBool,
    served: AtomicU64,
    open: Mutex<Vec<(u64, TcpStream)>>,
    next: AtomicU64,
}

impl Server {
    /// Serves each client with `serve`, in a thread of its own.
    pub(crate) fn start(serve: impl Fn(&Clients, TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let clients = Arc::new(Clients::default());
        let shared = Arc::clone(&clients);
        let thread = thread::spawn(move || {
            thread::scope(|scope| {
                for client in listener.incoming() {
                    if shared.is_stopping() {
                        break;
                    }
                    let Ok(client) = client else { continue };
                    scope.spawn(|| serve(&shared, client));
                }
            });
        });
        Server { port, clients, thread: Some(thread) }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Cuts every connection that is open; how many streams that were.
    pub(crate) fn cut(&self) -> usize {
        self.clients.cut()
    }

    /// Clients that were counted so far.
    pub(crate) fn served(&self) -> u64 {
        self.clients.served.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.clients.stopping.store(true, Ordering::SeqCst);
        self.clients.cut();
        // Wakes the accept.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Clients {
    /// Whether the server is about to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Counts one.
    pub(crate) fn count(&self) {
        self.served.fetch_add(1, Ordering::SeqCst);
    }

    /// Has `stream` closed when the server ends, at once if it is about to. The number is for [`Clients::forget`].
    pub(crate) fn keep(&self, stream: &TcpStream) -> u64 {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        if let (Ok(copy), Ok(mut open)) = (stream.try_clone(), self.open.lock()) {
            open.push((number, copy));
        }
        if self.is_stopping() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        number
    }

    /// This stream is done with.
    pub(crate) fn forget(&self, number: u64) {
        if let Ok(mut open) = self.open.lock() {
            open.retain(|(known, _)| *known != number);
        }
    }

    /// Shuts down every stream that is kept; how many there were.
    pub(crate) fn cut(&self) -> usize {
        let open = self.open.lock();
        let Ok(open) = open else { return 0 };
        for (_, stream) in open.iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        open.len()
    }
}
