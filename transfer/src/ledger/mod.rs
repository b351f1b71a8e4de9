//! The ledger: which facts are not yet acknowledged, and by which destination.
//!
//! It is durable before the tracker forgets ([`Notice::Durable`]), it costs a destination that lags behind one
//! compressed bitmap, and a session that goes on never waits for the disk: the store belongs to a thread of its own
//! ([`worker`]). What follows from what is decided without I/O in [`engine`].

mod barrier;
mod blocks;
mod engine;
mod key;
mod lately;
mod links;
mod mark;
mod moves;
mod open;
mod store;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use ebbtide_feed::{Batch, Fact, MirrorSpec};
use roaring::RoaringBitmap;
use tokio::sync::{mpsc, oneshot};

pub(crate) use engine::{DestinationId, TakeNumber};
pub(crate) use links::{Inode, LinkNotes, Links};
pub(crate) use store::StoreError;

use crate::plan::moves::Batches;
use engine::Event;
use worker::{Command, Worker};

/// Facts for a destination to work on. It answers with [`Ledger::finished`].
#[derive(Debug)]
pub(crate) struct Take {
    /// Names the take in the answer.
    pub(crate) number: TakeNumber,
    /// The facts with their ids, in no meaningful order.
    pub(crate) facts: Vec<(u32, Fact)>,
    /// Renames since the take before.
    pub(crate) moves: Batches,
}

/// How a take ended. Facts that it does not name stay pending.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TakeReport {
    /// The destination has what these stand for.
    pub(crate) done: RoaringBitmap,
    /// The destination got what these stood for when the take looked, but they changed meanwhile: they stay pending.
    pub(crate) delivered: RoaringBitmap,
    /// These failed: they stay pending and are not taken again before [`Ledger::release`].
    pub(crate) held: RoaringBitmap,
    /// These go on by themselves: another report under the number of this take tells how that ended.
    pub(crate) aside: RoaringBitmap,
    /// These are done as far as the others that now stand in their place say.
    pub(crate) replaced: Vec<(u32, Vec<Fact>)>,
    /// These are not done, and the others are to be done too before whoever waits for them may go on.
    pub(crate) added: Vec<(u32, Vec<Fact>)>,
    /// A session that broke may still be running at the daemon, or has left something there.
    pub(crate) unsure: bool,
}

/// What the ledger has to say by itself.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Everything up to this batch survives a crash.
    Durable {
        /// [`Batch::seq`].
        seq: u64,
    },
    /// A barrier was reached.
    Settled {
        /// Its token.
        token: u64,
    },
    /// The store failed; nothing more is recorded.
    Failed(StoreError),
    /// Everything is on disk and the thread is gone.
    Closed,
}

/// The far ends of a started ledger.
pub(crate) struct Started {
    /// The handle.
    pub(crate) ledger: Ledger,
    /// The takes of each destination, in the order of the configuration.
    pub(crate) takes: Vec<mpsc::UnboundedReceiver<Take>>,
    /// What each destination had pending, where a sender may have been at work for it before.
    pub(crate) leftovers: Vec<Option<RoaringBitmap>>,
    /// What is known of each destination's daemon.
    pub(crate) dialects: Vec<Option<Vec<u8>>>,
    /// What became of a store that was damaged.
    pub(crate) damage: Option<String>,
    /// What the ledger has to say.
    pub(crate) notices: mpsc::UnboundedReceiver<Notice>,
    /// The thread; ends after [`Ledger::close`], or when the store fails.
    pub(crate) thread: JoinHandle<()>,
}

/// Speaks to the ledger's thread. After the thread is gone nothing that is said here has any effect; the reason came
/// as a [`Notice`].
#[derive(Clone)]
pub(crate) struct Ledger {
    commands: std::sync::mpsc::Sender<Command>,
    pending: Arc<[AtomicU64]>,
    links: Arc<Links>,
}

impl Ledger {
    /// Opens the store in `folder`, fits it to the configuration, and starts the thread.
    ///
    /// # Errors
    /// The store is in use by another process, or the disk fails. A damaged store is no error: see [`open::open`].
    pub(crate) fn start(folder: &Path, mirrors: &[MirrorSpec]) -> Result<Started, StoreError> {
        let mut opened = open::open(folder, mirrors)?;
        let count = opened.destinations.len();
        let pending: Arc<[AtomicU64]> = std::iter::repeat_with(AtomicU64::default).take(count).collect();
        let (senders, takes) = std::iter::repeat_with(mpsc::unbounded_channel).take(count).unzip();
        let (notice, notices) = mpsc::unbounded_channel();
        let links = Arc::new(Links::new(opened.store.database(), opened.mirrors.clone()));
        let served = opened.served.iter().zip(&opened.pending);
        let leftovers = served.map(|(served, pending)| served.then(|| pending.clone())).collect();
        let dialects = opened.dialects.clone();
        let damage = opened.damage.take();
        let worker = Worker::new(opened, senders, notice, Arc::clone(&pending), Arc::clone(&links))?;
        let (commands, received) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || worker.run(&received))
            .map_err(|e| StoreError::Failed(e.into()))?;
        Ok(Started {
            ledger: Ledger { commands, pending, links },
            takes,
            leftovers,
            dialects,
            damage,
            notices,
            thread,
        })
    }

    /// Records part of a batch for all destinations of its mirror.
    pub(crate) fn record(&self, batch: Batch) {
        let Batch { seq, mirror, last, facts } = batch;
        self.say(Command::Record { mirror: mirror as usize, facts, seq, last });
    }

    /// Asks for a take of at most `limit` facts, now or when there are some.
    pub(crate) fn demand(&self, to: DestinationId, limit: u64) {
        self.say(Command::Engine(Event::Demand { to, limit }));
    }

    /// Tells how a take ended.
    pub(crate) fn finished(&self, to: DestinationId, take: TakeNumber, report: TakeReport) {
        self.say(Command::Finished { to, take, report });
    }

    /// Lets facts that were held be taken again.
    pub(crate) fn release(&self, to: DestinationId, ids: RoaringBitmap) {
        self.say(Command::Engine(Event::Release { to, ids }));
    }

    /// Opens a barrier; [`Notice::Settled`] answers.
    pub(crate) fn barrier(&self, token: u64) {
        self.say(Command::Engine(Event::Barrier { token }));
    }

    /// Forgets a barrier.
    pub(crate) fn cancel_barrier(&self, token: u64) {
        self.say(Command::Engine(Event::CancelBarrier { token }));
    }

    /// Notes names of inodes with several names.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn note_links(&self, mirror: usize, notes: &LinkNotes) -> Result<(), StoreError> {
        if !notes.is_empty() {
            self.links.note(mirror, notes)?;
            self.say(Command::LinksNoted);
        }
        Ok(())
    }

    /// Keeps what is known of a destination's daemon.
    pub(crate) fn remember(&self, of: DestinationId, known: Vec<u8>) {
        self.say(Command::Remember { of, known });
    }

    /// The names of inodes with several names. Reading them waits for nobody.
    pub(crate) fn links(&self) -> Arc<Links> {
        Arc::clone(&self.links)
    }

    /// Number of facts that at least one destination has not acknowledged.
    pub(crate) async fn count_facts(&self) -> u64 {
        let (answer, answered) = oneshot::channel();
        self.say(Command::CountFacts { answer });
        answered.await.unwrap_or_default()
    }

    /// Number of facts that this destination has not acknowledged.
    pub(crate) fn pending(&self, of: DestinationId) -> u64 {
        self.pending[of.0 as usize].load(Ordering::Relaxed)
    }

    /// Commits what is left and ends the thread; [`Notice::Closed`] answers.
    pub(crate) fn close(&self) {
        self.say(Command::Close);
    }

    fn say(&self, command: Command) {
        // The thread is gone only after it said why.
        let _ = self.commands.send(command);
    }
}
