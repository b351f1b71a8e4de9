//! rsync's filter rules: the language of `--filter`, `--include`, `--exclude` and of merge files.
//!
//! ```text
//!   options, files ──► Builder ──► Filters ──┬─► Sieve::hides     for each name that is met
//!                                            ├─► Sieve::enter     for each directory with merge files
//!                                            └─► for_receiver     the rules that travel
//! ```
//!
//! The sender asks for each entry of a tree and the tracker for each fact, so a pattern is compiled once, to the cheapest
//! test that says the same, and a question allocates nothing. There is no I/O here but through [`RuleFiles`].
//!
//! The language is that of rsync's manual page, section FILTER RULES; what the page leaves open follows rsync 3.5.0, and
//! `docs/FILTERS.md` says where we differ on purpose.

#![forbid(unsafe_code)]

mod class;
mod cvs;
mod error;
mod filters;
mod flags;
mod glob;
mod list;
mod local;
mod parse;
mod pattern;
mod rule;
mod sieve;
mod text;
mod token;

pub use error::{FilterError, Place, RuleError, Wrong};
pub use filters::{Builder, Filters};
pub use glob::Glob;
pub use local::Local;
pub use parse::{RuleFiles, Settings};
pub use sieve::Sieve;

#[cfg(test)]
mod tests;
