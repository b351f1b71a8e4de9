//! The daemon's end: any number of clients, none of which is waited for.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::{Answer, Request};

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// The listening socket and its clients.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    listener: UnixListener,
    clients: HashMap<ClientId, Connection>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    line: Vec<u8>,
    asked: bool,
}

/// What came of reading a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// It asks this.
    Asked(Request),
    /// It hung up, or was hung up on.
    Left,
    /// Nothing whole yet.
    Nothing,
}

impl Server {
    /// Listens at this path, in the place of what a dead daemon left there. The caller holds the runtime folder's lock.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn listen(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Server { path: path.to_owned(), listener, clients: HashMap::new(), next: 0 })
    }

    /// Takes a client that waits at the door; `None` when there is none, or no room.
    pub fn accept(&mut self) -> Option<(ClientId, BorrowedFd<'_>)> {
        let (stream, _) = self.listener.accept().ok()?;
        if self.clients.len() >= MAX_CLIENTS || stream.set_nonblocking(true).is_err() {
            return None;
        }
        let id = ClientId(self.next);
        self.next += 1;
        let connection =
            self.clients.entry(id).or_insert(Connection { stream, line: Vec::new(), asked: false });
        Some((id, connection.stream.as_fd()))
    }

    /// Reads what this client says.
    pub fn hear(&mut self, id: ClientId) -> Heard {
        let Some(client) = self.clients.get_mut(&id) else { return Heard::Left };
        let mut bytes = [0; 1024];
        match client.stream.read(&mut bytes) {
            Ok(0) => return Heard::Left,
            Ok(count) => client.line.extend_from_slice(&bytes[..count]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Heard::Nothing;
            }
            Err(_) => return Heard::Left,
        }
        let Some(end) = client.line.iter().position(|&b| b == b'\n') else {
            return if client.line.len() > MAX_LINE { Heard::Left } else { Heard::Nothing };
        };
        // A client that goes on talking after its request is not understood: one request per connection.
        if std::mem::replace(&mut client.asked, true) {
            return Heard::Left;
        }
        match serde_json::from_slice(&client.line[..end]) {
            Ok(request) => Heard::Asked(request),
            Err(e) => {
                self.answer(id, &Answer::Error { message: e.to_string() });
                Heard::Left
            }
        }
    }

    /// Answers a client that is still there. An answer fits the socket's buffer, so this does not wait; a client that
    /// does not take it loses it.
    pub fn answer(&mut self, id: ClientId, answer: &Answer) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let mut line = serde_json::to_vec(answer).unwrap_or_default();
        line.push(b'\n');
        if let Err(e) = client.stream.set_nonblocking(false).and_then(|()| send(&mut client.stream, &line)) {
            tracing::debug!(error = %e, "a control client did not take its answer");
        }
    }

    /// Hangs up.
    pub fn part(&mut self, id: ClientId) {
        self.clients.remove(&id);
    }

    /// The descriptor of a client.
    pub fn client_fd(&self, id: ClientId) -> Option<BorrowedFd<'_>> {
        self.clients.get(&id).map(|client| client.stream.as_fd())
    }
}

/// A reader that stopped reading gets so long.
fn send(stream: &mut UnixStream, line: &[u8]) -> io::Result<()> {
    stream.set_write_timeout(Some(std::time::Duration::from_millis(100)))?;
    stream.write_all(line)
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever looks for a daemon shall not find a dead one's socket.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Clients at one time: a deploy script on every core of a large machine.
const MAX_CLIENTS: usize = 256;

/// A request is a few words, or a path whose bytes are spelled as numbers.
const MAX_LINE: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(server: &mut Server, id: ClientId) -> Heard {
        loop {
            match server.hear(id) {
                Heard::Nothing => std::thread::yield_now(),
                heard => return heard,
            }
        }
    }

    fn server() -> (tempfile::TempDir, Server, UnixStream, ClientId) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, b"left by a dead one").unwrap();
        let mut server = Server::listen(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (id, _) = server.accept().unwrap();
        (dir, server, client, id)
    }

    #[test]
    fn the_socket_is_for_its_owner_alone_and_goes_with_the_server() {
        let (dir, server, _client, _) = server();
        let path = dir.path().join("s");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(server);
        assert!(!path.exists());
    }

    #[test]
    fn a_request_may_come_in_pieces() {
        let (_dir, mut server, mut client, id) = server();
        client.write_all(b"{\"request\":").unwrap();
        assert_eq!(server.hear(id), Heard::Nothing);
        client.write_all(b"\"wait\"}\n").unwrap();
        assert_eq!(heard(&mut server, id), Heard::Asked(Request::Wait));
        drop(client);
        assert_eq!(heard(&mut server, id), Heard::Left);
    }

    #[test]
    fn nonsense_and_endless_lines_end_the_connection() {
        let (dir, mut server, mut client, id) = server();
        client.write_all(b"status please\n").unwrap();
        assert_eq!(heard(&mut server, id), Heard::Left);
        server.part(id);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert!(text.contains("\"error\""), "{text}");
        let mut client = UnixStream::connect(dir.path().join("s")).unwrap();
        let (id, _) = server.accept().unwrap();
        client.write_all(&[b'x'; 2 * MAX_LINE]).unwrap();
        assert_eq!(heard(&mut server, id), Heard::Left);
    }
}
