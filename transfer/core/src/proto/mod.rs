//! What the two sides say before and around the transfer: greeting, authentication, options, negotiation, exit codes.

mod dialect;
mod exit;
mod options;

pub use dialect::{Checksum, CompatFlags, Compression, Dialect, Protocol};
pub use exit::{ExitCode, IoErrors};
pub use options::{Append, CompressWish, DeleteMode, ServerOptions};
