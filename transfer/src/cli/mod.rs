//! The stand-alone `ebbtide-send`: rsync's letters, words, output and exit codes.

pub mod args;
mod filters;
mod itemize;
mod names;
mod reach;
mod run;
mod select;
mod show;
mod stats;

pub use args::{Args, UsageError, command};
pub use run::main;
