//! The sender: it reads the tree and speaks the rsync protocol to daemons.
//!
//! * [`session`] pushes one file list to one daemon.
//! * [`source`] reads the tree without being led out of it, [`walk`] lists it.
//! * [`transport`] is the way to a daemon.
//! * [`cli`] is the stand-alone `ebbtide-send`, with rsync's letters and words.
//! * [`daemon`] is the sender as ebbtide's half: facts come in over the feed, the ledger keeps them, a plan turns
//!   them into file lists, and one task for each destination sends those.
#![deny(unsafe_code)]

pub mod chmod;
pub mod cli;
pub mod daemon;
mod destination;
mod ledger;
pub mod options;
mod plan;
pub mod session;
pub mod source;
#[cfg(test)]
mod testing;
pub mod text;
pub mod transport;
pub mod walk;

pub use ebbtide_wire::proto::{Dialect, ExitCode, IoErrors};
