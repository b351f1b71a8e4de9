//! The stand-alone `ebbtide-send`: rsync's letters, words, output and exit codes.

pub mod args;
mod ask;
mod filters;
mod format;
mod itemize;
mod log;
mod names;
mod progress;
mod reach;
mod run;
mod say;
mod select;
mod show;
mod stats;
mod stop;
mod told;

pub use args::{Args, UsageError, command};
pub use run::main;
