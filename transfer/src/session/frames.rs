//! Compresses one large file on several threads: each makes frames of its share, and they come back in the file's order.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use ebbtide_wire::Error;
use ebbtide_wire::answer::Pieces;
use ebbtide_wire::token::Framer;

use crate::source::Content;

/// How files are compressed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Whether this file is known to hold compressed data.
    pub(super) as_it_is: bool,
    /// Threads that may work on one file, at least one.
    pub(super) threads: usize,
}

/// A frame's part of the file, and what goes on the wire for it.
type Made = Result<Pieces, Error>;

/// From this length on a file goes as frames of its own.
pub(super) const FRAMES_FROM: usize = 4 << 20;

/// Bytes of the file in one frame. Four windows of zstd's usual level: what is lost by beginning anew is little.
pub(super) const FRAME: usize = 8 << 20;

/// Calls `take` with each frame in the file's order, and stops when that fails; it must fail on an error.
///
/// Each thread is at most one frame ahead of what is taken.
pub(super) fn make<E>(
    content: &Content,
    range: Range<usize>,
    share: Share,
    framer: impl Fn() -> Result<Framer, Error> + Sync,
    mut take: impl FnMut(Range<usize>, Made) -> Result<(), E>,
) -> Result<(), E> {
    let parts: Vec<_> =
        range.clone().step_by(FRAME).map(|start| start..range.end.min(start + FRAME)).collect();
    let threads = if share.as_it_is { 1 } else { share.threads.clamp(1, parts.len().max(1)) };
    if threads == 1 {
        return alone(content, &parts, share, &framer, take);
    }
    thread::scope(|scope| {
        let results: Vec<_> = (0..threads)
            .map(|thread| {
                // Without room: a thread waits with its frame until it is wanted.
                let (made, taken) = sync_channel(0);
                let (parts, framer) = (parts.iter().skip(thread).step_by(threads), &framer);
                scope.spawn(move || work(content, parts, share, framer, &made));
                taken
            })
            .collect();
        for (at, part) in parts.iter().enumerate() {
            take(part.clone(), next(&results[at % threads]))?;
        }
        Ok(())
    })
}

fn alone<E>(
    content: &Content,
    parts: &[Range<usize>],
    share: Share,
    framer: &impl Fn() -> Result<Framer, Error>,
    mut take: impl FnMut(Range<usize>, Made) -> Result<(), E>,
) -> Result<(), E> {
    let mut framer = framer();
    for part in parts {
        let made = match &mut framer {
            Ok(framer) => encode(framer, content, part, share),
            Err(error) => Err(error.clone()),
        };
        take(part.clone(), made)?;
    }
    Ok(())
}

fn work<'a>(
    content: &Content,
    parts: impl Iterator<Item = &'a Range<usize>>,
    share: Share,
    framer: &impl Fn() -> Result<Framer, Error>,
    made: &SyncSender<Made>,
) {
    let mut framer = match framer() {
        Ok(framer) => framer,
        Err(error) => {
            // Nobody listens when the session is over.
            let _ = made.send(Err(error));
            return;
        }
    };
    for part in parts {
        if made.send(encode(&mut framer, content, part, share)).is_err() {
            return;
        }
    }
}

fn encode(framer: &mut Framer, content: &Content, part: &Range<usize>, share: Share) -> Made {
    let mut pieces = Pieces::default();
    framer.encode(content, part.clone(), share.as_it_is, &mut pieces)?;
    Ok(pieces)
}

fn next(results: &Receiver<Made>) -> Made {
    results
        .recv()
        .expect("a thread leaves frames out only by a panic, which ends the scope, or behind an error")
}
