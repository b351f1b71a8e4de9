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

pub use client::{Client, Config, Peer, Pushed};
pub use event::{
    Basis, DeleteStats, Deleted, Event, Iflags, Item, MessageKind, Ndx, NoSend, Outcome, Request,
    ValuesRequest,
};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_incremental;
