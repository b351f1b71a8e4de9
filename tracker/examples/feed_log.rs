//! The smallest peer of the feed: a sender that sends nothing. It writes every fact as a line into `facts.log` in the
//! state folder, calls each batch durable, and reaches every barrier at once. `EBBTIDE_SEND` lets the daemon run it.
//!
//! While the state folder holds a file `stumble`, it ends when it gets a batch, before calling it durable, and takes
//! that file away: so the batch must come again.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use ebbtide_feed::codec::{self, CodecError};
use ebbtide_feed::{PROTOCOL_VERSION, SenderStatus, Start, ToSender, ToTracker};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let feed = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let ToSender::Start(start) = codec::read(&feed)? else {
        return Err("the first message is no start".into());
    };
    codec::write(&feed, &ToTracker::Ready { version: PROTOCOL_VERSION })?;
    let mut facts = 0;
    loop {
        match codec::read(&feed) {
            Ok(ToSender::Stop) | Err(CodecError::Closed) => return Ok(()),
            Ok(message) => answer(&feed, &start, message, &mut facts)?,
            Err(e) => return Err(e.into()),
        }
    }
}

fn answer(
    feed: &UnixStream,
    start: &Start,
    message: ToSender,
    facts: &mut u64,
) -> Result<(), Box<dyn std::error::Error>> {
    match message {
        ToSender::Batch(batch) => {
            if std::fs::remove_file(start.state_dir.join("stumble")).is_ok() {
                std::process::exit(3);
            }
            let mut log =
                OpenOptions::new().create(true).append(true).open(start.state_dir.join("facts.log"))?;
            for fact in &batch.facts {
                writeln!(log, "{} {} {fact:?}", batch.seq, batch.mirror)?;
            }
            *facts += batch.facts.len() as u64;
            if batch.last {
                codec::write(feed, &ToTracker::Durable { seq: batch.seq })?;
            }
        }
        ToSender::Barrier { token } => codec::write(feed, &ToTracker::Settled { token })?,
        ToSender::StatusRequest { token } => {
            let status = SenderStatus {
                pid: std::process::id(),
                facts: *facts,
                destinations: Vec::new(),
                notes: Vec::new(),
            };
            codec::write(feed, &ToTracker::Status { token, status })?;
        }
        ToSender::Start(_)
        | ToSender::CancelBarrier { .. }
        | ToSender::Pause { .. }
        | ToSender::Halt { .. }
        | ToSender::Close { .. }
        | ToSender::Release { .. }
        | ToSender::Stop => {}
    }
    Ok(())
}
