//! The daemon: listens, drains, resolves, and hands over.

mod beginning;
pub mod config;
pub mod config_file;
mod core;
mod folders;
mod gap;
mod keeping;
mod known;
mod look;
mod notes;
mod run;
mod scan;
mod sender;
mod source;
mod spool;
mod stamp;
mod tracker;
mod watch;
mod wish;

pub use run::{End, Reload, RunError, check_sources, run, unload};
pub use sender::{SenderError, User, command as sender_command, find_binary, find_user};
pub use source::SourceError;
pub use tracker::{Tally, TrackError, try_source};
pub use watch::{WatchError, watch};
