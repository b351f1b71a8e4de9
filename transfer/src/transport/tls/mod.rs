//! TLS over a connected stream: the client's side, without a thread or a task of its own.

mod error;
mod files;

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

pub use error::TlsError;
pub use files::TlsFiles;

use super::stream::Raw;

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Tls {
    connection: ClientConnection,
    /// `host:port`, for messages.
    peer: String,
    /// The name that the certificate must be for.
    host: String,
    /// Bytes that were decrypted and not read.
    plaintext: usize,
}

impl Tls {
    /// Shakes hands with a TLS server that must prove to be `host`.
    ///
    /// # Errors
    /// The server, or this client, does not prove who it is; the server speaks no TLS; the stream broke.
    pub(super) async fn connect(
        raw: &Raw,
        config: Arc<ClientConfig>,
        host: &str,
        port: u16,
    ) -> io::Result<Tls> {
        let peer = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::name(host))?;
        let connection =
            ClientConnection::new(config, name).map_err(|error| TlsError::of(&peer, host, error))?;
        let mut tls = Tls { connection, peer, host: host.to_owned(), plaintext: 0 };
        tls.connection.set_buffer_limit(Some(BUFFER));
        tls.shake_hands(raw).await?;
        Ok(tls)
    }

    async fn shake_hands(&mut self, raw: &Raw) -> io::Result<()> {
        let mut first = Vec::new();
        while self.connection.is_handshaking() {
            self.flush(raw)?;
            let readable = raw.ready(true, self.connection.wants_write()).await?;
            if !readable {
                continue;
            }
            match self.connection.read_tls(&mut Sniffing { raw, first: &mut first }) {
                Ok(0) if first.is_empty() => return Err(TlsError::silent(&self.peer).into()),
                Ok(0) => return Err(TlsError::ended(&self.peer).into()),
                Ok(_) => self.decrypt(raw).map_err(|error| {
                    if first.starts_with(b"@RSYNCD:") {
                        TlsError::plain_rsync(&self.peer).into()
                    } else {
                        error
                    }
                })?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        self.flush(raw).map(|_| ())
    }

    /// Takes apart what was read; tells the other side what was wrong with it.
    fn decrypt(&mut self, raw: &Raw) -> io::Result<()> {
        match self.connection.process_new_packets() {
            Ok(state) => {
                self.plaintext = state.plaintext_bytes_to_read();
                Ok(())
            }
            Err(error) => {
                let _ = self.flush(raw);
                Err(TlsError::of(&self.peer, &self.host, error).into())
            }
        }
    }

    pub(super) fn has_plaintext(&self) -> bool {
        self.plaintext > 0
    }

    pub(super) fn holds_output(&self) -> bool {
        self.connection.wants_write()
    }

    /// Writes what is encrypted; tells whether all of it went out.
    pub(super) fn flush(&mut self, raw: &Raw) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Blocking(raw)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// As [`super::Stream::try_read`]. A stream that ends without a farewell simply ends: rsync's protocol has an end
    /// of its own, and notices when it is cut short.
    pub(super) fn try_read(&mut self, raw: &Raw, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.connection.reader().read(buffer) {
                Ok(count) => {
                    self.plaintext -= count.min(self.plaintext);
                    return Ok(Some(count));
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(0)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            match self.connection.read_tls(&mut Blocking(raw)) {
                Ok(0) => return Ok(Some(0)),
                Ok(_) => self.decrypt(raw)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// As [`super::Stream::try_write`]: nothing is taken while something taken earlier waits.
    pub(super) fn try_write(&mut self, raw: &Raw, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        if !self.flush(raw)? {
            return Ok(None);
        }
        let taken = self.connection.writer().write_vectored(slices)?;
        self.flush(raw)?;
        Ok((taken > 0).then_some(taken))
    }

    /// Tells the other side that nothing more comes, if it listens.
    pub(super) fn say_goodbye(&mut self, raw: &Raw) {
        self.connection.send_close_notify();
        let _ = self.flush(raw);
    }
}

/// A stream that says "would block" in std's words.
struct Blocking<'a>(&'a Raw);

impl Read for Blocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Blocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write(slices)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps the first bytes that arrive: they tell what speaks there if it is not TLS.
struct Sniffing<'a> {
    raw: &'a Raw,
    first: &'a mut Vec<u8>,
}

impl Read for Sniffing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = Blocking(self.raw).read(buffer)?;
        let wanted = 16_usize.saturating_sub(self.first.len()).min(count);
        self.first.extend_from_slice(&buffer[..wanted]);
        Ok(count)
    }
}

/// How much plain text one write takes, in bytes: enough for the socket never to run dry meanwhile.
const BUFFER: usize = 256 << 10;
