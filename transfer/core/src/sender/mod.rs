//! One session with a daemon, as a state machine.

mod client;
mod event;

pub use client::{Client, Config};
pub use event::{
    Basis, DeleteStats, Deleted, Event, Iflags, Item, MessageKind, Ndx, NoSend, Outcome, Request,
};
