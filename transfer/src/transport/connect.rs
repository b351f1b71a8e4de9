//! Connecting: every address of the host in turn, or a program that does it, within one time limit.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use ebbtide_wire::proto::ServerCommand;
use tokio::net::{TcpSocket, lookup_host};
use tokio::process::Command;
use tokio::time::timeout;

use super::address::{Scheme, Target};
use super::program::Program;
use super::shell::Start;
use super::stream::Raw;
use super::tls::Tls;
use super::{Family, Socket, Stream, Way};
use crate::session::{SessionErrorKind, Stage};

/// What a connection may need to know of the session.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    /// `--contimeout`.
    pub(crate) limit: Option<Duration>,
    /// `--bwlimit`, in KiB per second.
    pub(crate) bwlimit: Option<u32>,
    /// What a remote shell starts; `None` for a daemon.
    pub(crate) command: Option<&'a ServerCommand>,
}

type Failed = (Stage, SessionErrorKind);

/// Connects to the target's host.
///
/// # Errors
/// The host has no address, none of them answers, the program cannot be started, TLS does not stand, or the time is
/// up.
pub(crate) async fn connect(target: &Target, way: &Way, wish: &Wish<'_>) -> Result<Stream, Failed> {
    let stream = match wish.limit {
        None => open(target, way, wish).await?,
        Some(limit) => timeout(limit, open(target, way, wish))
            .await
            .map_err(|_| (Stage::Connect, SessionErrorKind::ConnectTimeout(limit.as_secs())))??,
    };
    Ok(stream.limited(wish.bwlimit))
}

async fn open(target: &Target, way: &Way, wish: &Wish<'_>) -> Result<Stream, Failed> {
    match target.scheme {
        Scheme::Shell | Scheme::ShellDaemon => Ok(Stream::new(start_shell(target, way, wish)?, None)),
        Scheme::Rsync => Ok(Stream::new(reach(target, way).await?, None)),
        Scheme::Rsyncs => {
            let failed = |error| (Stage::Tls, SessionErrorKind::Tls(Box::new(error)));
            // Asked before connecting: nobody is bothered when a file cannot be read.
            let config = way.tls.config().map_err(failed)?;
            let raw = reach(target, way).await?;
            match Tls::connect(&raw, config, &target.host, target.port).await {
                Ok(tls) => Ok(Stream::new(raw, Some(tls))),
                Err(error) => {
                    way.tls.forget();
                    Err((Stage::Tls, SessionErrorKind::of_stream(error)))
                }
            }
        }
    }
}

fn start_shell(target: &Target, way: &Way, wish: &Wish<'_>) -> Result<Raw, Failed> {
    let failed = |why| (Stage::Connect, SessionErrorKind::Local(why));
    let start = wish.command.map_or(Start::Daemon, Start::Server);
    let user = target.user.as_deref();
    let line = way
        .shell
        .command_line(&target.host, user, way.family, start)
        .map_err(|error| failed(error.to_string()))?;
    let (program, arguments) = line.split_first().ok_or_else(|| failed("no remote shell".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments);
    if target.scheme == Scheme::ShellDaemon {
        // What a helper such as rsync-ssl reads; 0 lets it choose.
        let port = if target.port == Target::PORT { 0 } else { target.port };
        command.env("RSYNC_PORT", port.to_string());
    }
    start_program(command, program, true)
}

fn start_program(command: Command, name: &OsString, shell: bool) -> Result<Raw, Failed> {
    let started = Program::start(command, shell);
    let name = name.to_string_lossy().into_owned();
    let failed = |source| (Stage::Connect, SessionErrorKind::Exec { program: name, source });
    started.map(|program| Raw::Program(Box::new(program))).map_err(failed)
}

/// A stream to the daemon's port.
async fn reach(target: &Target, way: &Way) -> Result<Raw, Failed> {
    if let Some(program) = &way.program {
        let shell = way.program_shell.as_deref().unwrap_or(OsStr::new("/bin/sh"));
        let mut command = Command::new(shell);
        command.arg("-c").arg(with_host(program, &target.host));
        // Peer: rsync does not look how this one ends.
        return start_program(command, program, false);
    }
    let Some(proxy) = &way.proxy else { return try_all(&target.host, target.port, way).await };
    let raw = try_all(&proxy.host, proxy.port, way).await?;
    let asked = proxy.ask(&raw, &target.host, target.port).await;
    asked.map_err(|error| (Stage::Connect, SessionErrorKind::Proxy(Box::new(error))))?;
    Ok(raw)
}

/// `%H` in the program is the host, `%%` a percent sign.
fn with_host(program: &OsString, host: &str) -> OsString {
    let mut out = Vec::new();
    let mut bytes = program.as_bytes().iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'%' && bytes.next_if_eq(&b'H').is_some() {
            out.extend_from_slice(host.as_bytes());
        } else if byte == b'%' && bytes.next_if_eq(&b'%').is_some() {
            out.push(b'%');
        } else {
            out.push(byte);
        }
    }
    OsString::from_vec(out)
}

async fn try_all(host: &str, port: u16, way: &Way) -> Result<Raw, Failed> {
    let from = match &way.from {
        Some(from) => addresses(from, 0, Family::Any).await?,
        None => Vec::new(),
    };
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses(host, port, way.family).await? {
        match try_one(address, &from, way).await {
            Ok(socket) => return Ok(Raw::Tcp(socket)),
            Err(error) => last = error,
        }
    }
    Err((Stage::Connect, SessionErrorKind::Connect(last)))
}

async fn try_one(address: SocketAddr, from: &[SocketAddr], way: &Way) -> io::Result<Socket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    Socket::prepare(&socket)?;
    for option in &way.socket_options {
        option.set(&socket)?;
    }
    if !from.is_empty() {
        let none = || io::Error::other("the address of --address is of another family");
        let own = from.iter().find(|own| own.is_ipv4() == address.is_ipv4()).ok_or_else(none)?;
        socket.bind(*own)?;
    }
    socket.connect(address).await.map(Socket::new)
}

/// The addresses of a host. One that is written as an address needs no resolver.
async fn addresses(host: &str, port: u16, family: Family) -> Result<Vec<SocketAddr>, Failed> {
    let failed = |source| (Stage::Resolve, SessionErrorKind::Resolve { host: host.to_owned(), source });
    let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![(address, port).into()],
        Err(_) => lookup_host((host, port)).await.map_err(failed)?.collect(),
    };
    let wanted = |address: &SocketAddr| match family {
        Family::Any => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    };
    let found: Vec<_> = found.into_iter().filter(wanted).collect();
    if found.is_empty() {
        return Err(failed(io::ErrorKind::NotFound.into()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_stands_in_for_its_mark() {
        assert_eq!(with_host(&"nc %H 873".into(), "h"), "nc h 873");
        assert_eq!(with_host(&"a %%H %h %".into(), "h"), "a %H %h %");
    }
}
