//! The feed: what the tracker tells the sender, and what the sender answers.
//!
//! The tracker holds the kernel's keys and never touches the network; the sender speaks to the network and holds no
//! keys. Between them runs one stream socket that carries [`ToSender`] one way and [`ToTracker`] the other, each
//! as a length-prefixed [postcard](https://postcard.jamesmunns.com/wire-format) message (see [`codec`]).
//!
//! The one rule of this protocol: **the tracker forgets nothing of a batch before [`ToTracker::Durable`] names
//! it.** A sender that dies before is started again and given the same batch once more, so facts may repeat and
//! everything that consumes them must be idempotent.
#![forbid(unsafe_code)]

pub mod codec;
mod fact;
mod message;

pub use fact::{Fact, RelPath, RelPathError};
pub use message::{
    Batch, DestinationSpec, DestinationState, DestinationStatus, HeldStatus, MaxDelete, MirrorId, MirrorSpec,
    PROTOCOL_VERSION, PaceSpec, RestingStatus, SenderStatus, Start, TlsSpec, ToSender, ToTracker,
};
