//! The daemon: listens, drains, resolves, and hands over.

mod core;
mod look;
mod source;
mod tracker;
mod watch;

pub use source::SourceError;
pub use tracker::{Tally, TrackError};
pub use watch::{WatchError, watch};
