//! Ports of loopback that nobody else takes.

use std::net::{TcpListener, UdpSocket};
use std::ops::Range;

use crate::eventually;

/// A port of 127.0.0.1 that is its holder's alone, whether or not somebody listens there at the moment: it lies below
/// those from which the kernel gives one to whoever asks for any, and other tests, also of other processes, leave it alone
/// as long as this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// UDP has ports of its own, so this keeps nobody from listening.
    _held: UdpSocket,
}

impl Port {
    /// One that is free.
    ///
    /// # Panics
    /// When there is none.
    pub fn new() -> Port {
        eventually("a port is free", || {
            let number = fastrand::u16(RANGE);
            let held = UdpSocket::bind(("127.0.0.1", number)).ok()?;
            TcpListener::bind(("127.0.0.1", number)).ok()?;
            Some(Port { number, _held: held })
        })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

impl Default for Port {
    fn default() -> Self {
        Port::new()
    }
}

/// The kernel begins at 32768 when it chooses a port (`net.ipv4.ip_local_port_range`).
const RANGE: Range<u16> = 10_000..32_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_held_is_given_to_nobody_else_and_may_be_listened_on() {
        let ports: Vec<Port> = (0..500).map(|_| Port::new()).collect();
        let numbers: std::collections::BTreeSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
        for _ in 0..2 {
            TcpListener::bind(ports[0].address()).expect("only its holder listens there");
        }
    }
}
