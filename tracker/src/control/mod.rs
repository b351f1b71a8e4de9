//! The control socket: how `ebbtide status` and `ebbtide wait` speak to the daemon.
//!
//! One request and one answer per connection, each a line of JSON. The socket is in the runtime folder and open to
//! its owner alone.

mod client;
mod protocol;
mod server;

pub use client::{Client, ClientError};
pub use protocol::{
    AccountStatus, Answer, BeginningStatus, MirrorStatus, Pick, RemedyStatus, Request, ScanStatus,
    SenderState, Status, StepStatus, SyncWhat, TaintStatus, TrackerStatus, Way,
};
pub use server::{ClientId, Heard, Server};

/// Name of the socket in the runtime folder.
pub const SOCKET: &str = "control.sock";

/// In the runtime folder: the number of the daemon that has it, or had it last.
pub const PID: &str = "pid";
