//! The tracker of ebbtide, and its command line.
//!
//! ```text
//!  kernel ──► probe ──► engine (fold) ──► resolve + scope ──► fact ──► daemon ──► the sender, over the feed
//!             names, marks   hints: where to look     what is true      batches
//! ```
//!
//! `engine`, `fact`, `id`, `resolve` and `scope` decide and touch nothing: no clock, no system call, no lock. `probe`
//! listens to the kernel, `daemon` drives, `control` answers `ebbtide status` and `wait`, `sys` is the door to the
//! kernel. See `docs/ARCHITECTURE.md` for the way of a change through all of it.

pub mod cli;
pub mod control;
pub mod daemon;
pub mod engine;
pub mod fact;
pub mod id;
pub mod probe;
pub mod resolve;
pub mod scope;
pub mod sys;
