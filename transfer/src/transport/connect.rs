//! Connecting: every address of the host in turn, within one time limit.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::Socket;
use super::address::Target;
use crate::session::{SessionErrorKind, Stage};

/// Connects to the target's host.
///
/// # Errors
/// The host has no address, none of them answers, or the time is up.
pub(crate) async fn connect(
    target: &Target,
    limit: Option<Duration>,
) -> Result<Socket, (Stage, SessionErrorKind)> {
    let Some(limit) = limit else { return try_all(target).await };
    match timeout(limit, try_all(target)).await {
        Ok(done) => done,
        Err(_) => Err((Stage::Connect, SessionErrorKind::ConnectTimeout(limit.as_secs()))),
    }
}

async fn try_all(target: &Target) -> Result<Socket, (Stage, SessionErrorKind)> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses(target).await? {
        match TcpStream::connect(address).await.and_then(Socket::new) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err((Stage::Connect, SessionErrorKind::Connect(last)))
}

async fn addresses(target: &Target) -> Result<Vec<SocketAddr>, (Stage, SessionErrorKind)> {
    let failed = |source| (Stage::Resolve, SessionErrorKind::Resolve { host: target.host.clone(), source });
    let found: Vec<_> = lookup_host((target.host.as_str(), target.port)).await.map_err(failed)?.collect();
    if found.is_empty() {
        return Err(failed(io::ErrorKind::NotFound.into()));
    }
    Ok(found)
}
