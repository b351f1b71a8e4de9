//! `--sockopts`: options of the TCP socket by name.

use std::io;
use std::os::fd::AsFd;

use rustix::net::sockopt;

/// One option, and its value where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOption {
    /// `SO_KEEPALIVE`; on anyway.
    KeepAlive(bool),
    /// `SO_REUSEADDR`.
    ReuseAddr(bool),
    /// `SO_BROADCAST`.
    Broadcast(bool),
    /// `TCP_NODELAY`; on anyway, and small frames wait for each other without it.
    NoDelay(bool),
    /// `IPTOS_LOWDELAY`, `IPTOS_THROUGHPUT`: a type of service.
    Tos(u8),
    /// `SO_SNDBUF`: bytes that the kernel takes before the peer has them.
    SendBuffer(usize),
    /// `SO_RCVBUF`: bytes that the kernel takes before we read them.
    ReceiveBuffer(usize),
}

/// A part of `--sockopts` that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketOptionError {
    /// rsync has none of this name.
    #[error("Unknown socket option {0}")]
    Unknown(String),
    /// The value is missing, or is no number.
    #[error("socket option {0} needs a value, such as {0}=65536")]
    Value(String),
    /// rsync sets it, and it changes nothing.
    #[error(
        "socket option {0} has no effect here: use --timeout for limits of time; others have no use in Linux"
    )]
    Useless(String),
}

/// Reads a list of options, separated by commas or white space.
///
/// # Errors
/// An option is unknown or lacks its value.
pub fn socket_options(text: &str) -> Result<Vec<SocketOption>, SocketOptionError> {
    let words = text.split([' ', ',', '\t', '\r', '\n']).filter(|word| !word.is_empty());
    words.map(socket_option).collect()
}

fn socket_option(word: &str) -> Result<SocketOption, SocketOptionError> {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    let wrong = || SocketOptionError::Value(name.to_owned());
    let on = || value.map_or(Ok(true), |value| value.parse::<i32>().map(|n| n != 0).map_err(|_| wrong()));
    let size = || value.and_then(|value| value.parse().ok()).ok_or_else(wrong);
    Ok(match name {
        "SO_KEEPALIVE" => SocketOption::KeepAlive(on()?),
        "SO_REUSEADDR" => SocketOption::ReuseAddr(on()?),
        "SO_BROADCAST" => SocketOption::Broadcast(on()?),
        "TCP_NODELAY" => SocketOption::NoDelay(on()?),
        "IPTOS_LOWDELAY" => SocketOption::Tos(0x10),
        "IPTOS_THROUGHPUT" => SocketOption::Tos(0x08),
        "SO_SNDBUF" => SocketOption::SendBuffer(size()?),
        "SO_RCVBUF" => SocketOption::ReceiveBuffer(size()?),
        "SO_SNDLOWAT" | "SO_RCVLOWAT" | "SO_SNDTIMEO" | "SO_RCVTIMEO" => {
            return Err(SocketOptionError::Useless(name.to_owned()));
        }
        _ => return Err(SocketOptionError::Unknown(name.to_owned())),
    })
}

impl SocketOption {
    /// Sets it.
    pub(super) fn set(self, socket: impl AsFd) -> io::Result<()> {
        match self {
            SocketOption::KeepAlive(on) => sockopt::set_socket_keepalive(socket, on),
            SocketOption::ReuseAddr(on) => sockopt::set_socket_reuseaddr(socket, on),
            SocketOption::Broadcast(on) => sockopt::set_socket_broadcast(socket, on),
            SocketOption::NoDelay(on) => sockopt::set_tcp_nodelay(socket, on),
            SocketOption::Tos(tos) => sockopt::set_ip_tos(socket, tos),
            SocketOption::SendBuffer(size) => sockopt::set_socket_send_buffer_size(socket, size),
            SocketOption::ReceiveBuffer(size) => sockopt::set_socket_recv_buffer_size(socket, size),
        }
        .map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_with_and_without_values_and_any_separator() {
        let options = socket_options("SO_SNDBUF=65536,TCP_NODELAY\tSO_KEEPALIVE=0, IPTOS_LOWDELAY").unwrap();
        assert_eq!(
            options,
            [
                SocketOption::SendBuffer(65536),
                SocketOption::NoDelay(true),
                SocketOption::KeepAlive(false),
                SocketOption::Tos(0x10)
            ]
        );
        assert_eq!(socket_options("").unwrap(), []);
    }

    #[test]
    fn unknown_names_and_missing_values_are_told() {
        let text = |list| socket_options(list).unwrap_err().to_string();
        assert_eq!(text("SO_FAST"), "Unknown socket option SO_FAST");
        assert!(text("SO_SNDBUF").contains("needs a value"));
        assert!(text("SO_KEEPALIVE=x").contains("needs a value"));
        assert!(text("SO_RCVTIMEO=3").contains("--timeout"));
    }
}
