//! What the two sides say before and around the transfer: greeting, authentication, options, negotiation, exit codes.

pub mod auth;
mod dialect;
mod exit;
pub mod filter;
pub mod greeting;
pub mod negotiate;
mod options;

pub use dialect::{Checksum, CompatFlags, Compression, Dialect, Protocol};
pub use exit::{ExitCode, IoErrors};
pub use options::{Append, CompressWish, DeleteMode, ServerCommand, ServerOptions};
