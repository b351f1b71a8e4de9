//! Listening to the kernel: names through fanotify, inodes through the bitmap that eBPF programs fill.

mod attach;
mod bitmap;
pub mod bpf;
mod marks;
mod names;
pub mod pins;
mod plan;
mod prove;

pub use attach::{Device, Tried, attach, try_programs};
pub use marks::{Marks, MarksLost};
pub use names::{Arming, Asked, Buffer, Names, NamesError, Pass, understand_all};
pub use pins::Pins;
pub use plan::{Plan, Probe, ProbeChoice, Via};
