//! The way to a destination: its address, and a stream of bytes to it over TCP, TLS, or a program's pipes.
//!
//! ```text
//!   Target + Way ── connect ──► Stream ─┬─ Tls ─┐
//!                                       └───────┴─ Raw ─┬─ Socket   TCP, directly or through a proxy
//!                                                       └─ Program  ssh, RSYNC_CONNECT_PROG
//! ```

mod address;
mod connect;
mod program;
mod proxy;
mod shell;
mod socket;
mod sockopts;
mod stream;
mod throttle;
mod tls;
mod way;

pub use address::{Password, Scheme, Target, TargetError};
pub(crate) use connect::{Wish, connect};
pub(crate) use program::ShellEnd;
pub use proxy::{Proxy, ProxyError};
pub use shell::{RemoteShell, ShellError};
use socket::Socket;
pub use sockopts::{SocketOption, SocketOptionError, socket_options};
pub(crate) use stream::Stream;
pub use tls::{TlsError, TlsFiles};
pub use way::{Family, Way};
