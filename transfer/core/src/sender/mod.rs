//! One session with a daemon, as a state machine.

mod client;
mod event;
mod handshake;
mod lists;
mod messages;
mod output;
mod stream;
mod transfer;
mod values;

pub use client::{Client, Config, Peer};
pub use event::{
    Basis, DeleteStats, Deleted, Event, Iflags, Item, MessageKind, Ndx, NoSend, Outcome, Request,
    ValuesRequest,
};
pub use lists::Place;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_incremental;
