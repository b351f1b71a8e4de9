//! Listening to the kernel: names through fanotify, inodes through the bitmap that eBPF programs fill.

mod attach;
mod bitmap;
pub mod bpf;
mod marks;
mod names;
mod plan;

pub use attach::{Device, Tried, attach, try_programs};
pub use marks::{Marks, MarksLost};
pub use names::{Asked, Names, NamesError, Pass};
pub use plan::{Plan, ProbeChoice, Via};
