//! The sender: it reads the tree and speaks the rsync protocol to daemons.
//!
//! * [`session`] pushes one file list to one daemon.
//! * [`source`] reads the tree without being led out of it, [`walk`] lists it.
//! * [`transport`] is the way to a daemon.
//! * [`cli`] is the stand-alone `ebbtide-send`, with rsync's letters and words.
#![deny(unsafe_code)]

pub mod cli;
pub mod options;
pub mod session;
pub mod source;
pub mod text;
pub mod transport;
pub mod walk;

pub use ebbtide_wire::proto::{Dialect, ExitCode, IoErrors};
