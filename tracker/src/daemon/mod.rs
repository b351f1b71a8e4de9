//! The daemon: listens, drains, resolves, and hands over.

pub mod config;
pub mod config_file;
mod core;
mod look;
mod source;
mod tracker;
mod watch;

pub use source::SourceError;
pub use tracker::{Tally, TrackError};
pub use watch::{WatchError, watch};
