//! The pushing side of the rsync protocol, without I/O: protocols 30 to 32 against a stock `rsync --daemon`.
//!
//! This crate opens no file and no socket, reads no clock and starts no thread. A *driver* owns those and moves
//! bytes:
//!
//! ```text
//!            handle_input(&[u8])                        poll_event() -> Event
//!   socket ──────────────────────►  ┌────────────────┐ ──────────────────────► driver
//!          ◄──────────────────────  │ sender::Client │ ◄──────────────────────
//!            output() / advance(n)  └────────────────┘   send_list, begin_answer, push_pieces, no_send …
//! ```
//!
//! * [`flist::FileListBuilder`] collects what is to be compared, [`flist::FileList`] is that list in rsync's order.
//! * [`sender::Client`] is one session: it speaks, asks for the list, and hands out one
//!   [`Request`](sender::Request) for each file that the daemon wants.
//! * [`answer::Encoder`], made by an [`answer::AnswerContext`], turns a request and the file's bytes into
//!   [`answer::Pieces`]. It is independent of the session and may run on another thread.
//! * [`delta`], [`token`], [`wire`] and [`proto`] are the parts these are built from.
//!
//! Everything that the daemon sends is bounded before it is stored, and nothing it sends makes this crate panic.
#![forbid(unsafe_code)]

pub mod answer;
pub mod delta;
mod error;
pub mod flist;
pub mod proto;
pub mod sender;
pub mod token;
pub mod wire;

pub use error::{Blame, Error, ErrorKind, Stage};
