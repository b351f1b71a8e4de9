//! Listening to the kernel: names through fanotify, inodes through the bitmap that eBPF programs fill.

mod bitmap;
pub mod bpf;
mod marks;
mod names;
mod plan;

pub use marks::{Marks, MarksLost};
pub use names::{Names, NamesError, Pass};
pub use plan::{Plan, ProbeChoice, Via};
