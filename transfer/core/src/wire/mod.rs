//! Numbers and frames: one concept, one file.

pub mod mux;
pub mod ndx;
pub mod reader;
pub mod varint;

pub use reader::{Reader, WireError};
