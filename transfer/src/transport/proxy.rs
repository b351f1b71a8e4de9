//! `RSYNC_PROXY`: a web proxy that connects us to the daemon with the CONNECT method.

use std::io::{self, IoSlice};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Password;
use super::stream::Raw;

/// A web proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `user:password`, if it wants one.
    pub credentials: Option<Password>,
}

/// What is wrong with a proxy, or with its answer.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// `RSYNC_PROXY` has another form.
    #[error("invalid proxy specification {0:?}: should be [USER:PASSWORD@]HOST:PORT")]
    Form(String),
    /// It does not connect us; its first line.
    #[error("proxy {proxy}: bad response: {line}")]
    Refused {
        /// `host:port`.
        proxy: String,
        /// What it said.
        line: String,
    },
    /// It closed the connection, or talks without end.
    #[error("proxy {proxy}: failed to read its answer: {source}")]
    Broken {
        /// `host:port`.
        proxy: String,
        /// What happened.
        source: io::Error,
    },
}

impl Proxy {
    /// Reads `[user:password@]host:port`.
    ///
    /// # Errors
    /// It has another form.
    pub fn parse(text: &str) -> Result<Proxy, ProxyError> {
        let form = || ProxyError::Form(text.rsplit('@').next().unwrap_or_default().to_owned());
        let (credentials, place) = match text.rsplit_once('@') {
            Some((credentials, place)) => (Some(Password::new(credentials)), place),
            None => (None, text),
        };
        let (host, port) = place.rsplit_once(':').ok_or_else(form)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(form)?;
        if host.is_empty() {
            return Err(form());
        }
        Ok(Proxy { host: host.to_owned(), port, credentials })
    }

    /// Asks the proxy at the other end to connect us to `host`, and reads its answer to the last byte of it.
    pub(super) async fn ask(&self, raw: &Raw, host: &str, port: u16) -> Result<(), ProxyError> {
        let broken = |source| ProxyError::Broken { proxy: self.name(), source };
        send(raw, &self.request(host, port)).await.map_err(broken)?;
        let status = line(raw).await.map_err(broken)?;
        if !accepts(&status) {
            let line = status.escape_ascii().to_string();
            return Err(ProxyError::Refused { proxy: self.name(), line });
        }
        for _ in 0..MAX_HEADERS {
            if line(raw).await.map_err(broken)?.is_empty() {
                return Ok(());
            }
        }
        Err(broken(io::Error::other("too many header lines")))
    }

    fn request(&self, host: &str, port: u16) -> Vec<u8> {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut out = format!("CONNECT {host}:{port} HTTP/1.0\r\n").into_bytes();
        if let Some(credentials) = &self.credentials {
            let words = STANDARD.encode(credentials.as_bytes());
            out.extend_from_slice(format!("Proxy-Authorization: Basic {words}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// `HTTP/1.x 2xx …`
fn accepts(status: &[u8]) -> bool {
    let mut words = status.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let is_http = words.next().is_some_and(|word| word.starts_with(b"HTTP/"));
    is_http && words.next().is_some_and(|code| code.starts_with(b"2"))
}

async fn send(raw: &Raw, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match raw.try_write(&[IoSlice::new(bytes)])? {
            Some(count) => bytes = &bytes[count..],
            None => {
                raw.ready(false, true).await?;
            }
        }
    }
    Ok(())
}

/// One line without its end. Read byte by byte: what follows the header is not ours.
async fn line(raw: &Raw) -> io::Result<Vec<u8>> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.len() < MAX_LINE {
        match raw.try_read(&mut byte)? {
            None => {
                raw.ready(true, false).await?;
            }
            Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(_) if byte == *b"\n" => return Ok(line),
            Some(_) if byte == *b"\r" => {}
            Some(_) => line.push(byte[0]),
        }
    }
    Err(io::Error::other("a header line is too long"))
}

/// Longest line of a proxy's header, in bytes. Peer: rsync's socket.c reads 1024.
const MAX_LINE: usize = 1024;

/// More lines than any proxy sends.
const MAX_HEADERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_host_and_a_port_and_perhaps_credentials() {
        let proxy = Proxy::parse("me:pa@ss@proxy.example:3128").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 3128));
        assert_eq!(proxy.credentials.as_ref().unwrap().as_bytes(), b"me:pa@ss");
        assert_eq!(Proxy::parse("[::1]:8080").unwrap().host, "::1");
        for bad in ["proxy", "proxy:", "proxy:x", ":3128", "proxy:0"] {
            assert!(Proxy::parse(bad).is_err(), "{bad}");
        }
        assert!(!Proxy::parse("me:geheim@proxy").unwrap_err().to_string().contains("geheim"));
    }

    #[test]
    fn the_request_names_the_daemon_and_carries_the_credentials() {
        let plain = Proxy::parse("p:1").unwrap();
        assert_eq!(plain.request("h", 873), b"CONNECT h:873 HTTP/1.0\r\n\r\n");
        assert_eq!(plain.request("::1", 873), b"CONNECT [::1]:873 HTTP/1.0\r\n\r\n");
        let with = Proxy::parse("user:secret@p:1").unwrap();
        let expected = b"CONNECT h:8 HTTP/1.0\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n";
        assert_eq!(with.request("h", 8), expected);
    }

    #[test]
    fn only_a_code_of_success_is_one() {
        assert!(accepts(b"HTTP/1.1 200 Connection established"));
        assert!(accepts(b"HTTP/1.0 204"));
        assert!(!accepts(b"HTTP/1.1 407 Proxy Authentication Required"));
        assert!(!accepts(b"@RSYNCD: 32.0"));
    }
}
