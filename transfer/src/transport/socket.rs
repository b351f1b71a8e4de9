//! A connected socket that never waits for more to send, nor makes the peer wait for acknowledgements.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A TCP connection with TCP_NODELAY, and TCP_QUICKACK armed again after each read (the kernel drops it by itself):
/// without the two, small frames of both sides wait 40 ms for each other.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
}

impl Socket {
    /// Takes a connected stream.
    pub(super) fn new(stream: TcpStream) -> Socket {
        let socket = Socket { stream };
        socket.acknowledge_at_once();
        socket
    }

    /// What every socket is set to before the user's own options.
    ///
    /// # Errors
    /// The socket refuses.
    pub(super) fn prepare(socket: impl AsFd) -> io::Result<()> {
        sockopt::set_tcp_nodelay(&socket, true)?;
        // A host that went away without a word is then noticed some day even without `--timeout`.
        Ok(sockopt::set_socket_keepalive(&socket, true)?)
    }

    /// Waits until the socket is ready for one of what is wanted; tells whether there is something to read.
    ///
    /// # Errors
    /// The socket broke.
    pub(super) async fn ready(&self, want_read: bool, want_write: bool) -> io::Result<bool> {
        let interest = match (want_read, want_write) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (false, true) => Interest::WRITABLE,
            _ => Interest::READABLE,
        };
        let ready = self.stream.ready(interest).await?;
        Ok(ready.is_readable() || ready.is_read_closed())
    }

    /// Reads what is there. `None` if nothing is; 0 at the end of the stream.
    ///
    /// # Errors
    /// The socket broke.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let outcome = unless_blocked(self.stream.try_read(buffer))?;
        if outcome.is_some() {
            self.acknowledge_at_once();
        }
        Ok(outcome)
    }

    /// Writes as much of the slices as the socket takes. `None` if it takes nothing now.
    ///
    /// # Errors
    /// The socket broke.
    pub(super) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        unless_blocked(self.stream.try_write_vectored(slices))
    }

    fn acknowledge_at_once(&self) {
        // A refusal costs latency and nothing else.
        let _ = sockopt::set_tcp_quickack(self.stream.as_fd(), true);
    }
}

pub(super) fn unless_blocked(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn neither_side_waits_for_more() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        Socket::prepare(&stream).unwrap();
        let socket = Socket::new(stream);
        assert!(sockopt::tcp_nodelay(&socket.stream).unwrap());
        // The kernel takes this back by itself, so each read sets it.
        sockopt::set_tcp_quickack(&socket.stream, false).unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut peer, b"x").await.unwrap();
        while socket.try_read(&mut [0]).unwrap().is_none() {
            socket.ready(true, false).await.unwrap();
        }
        assert!(sockopt::tcp_quickack(&socket.stream).unwrap());
    }
}
