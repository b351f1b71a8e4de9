//! The way to a daemon: its address, and a TCP connection to it.

mod address;
mod connect;
mod socket;

pub use address::{Password, Target, TargetError};
pub(crate) use connect::connect;
pub(crate) use socket::Socket;
