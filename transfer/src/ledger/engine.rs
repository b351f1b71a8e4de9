//! What is pending for whom, what is under way, and when a barrier is reached: decisions only, no store, no clock.
//!
//! ```text
//!              recorded                      taken                       done
//!   (nothing) ──────────► pending, waiting ─────────► pending, in flight ──────► (nothing)
//!                           ▲    │   ▲                   │
//!                           │    │   └── not done ───────┤
//!                           │    ▼ held                  │ recorded again meanwhile, or changed under our eyes
//!                           │  pending, held             ▼
//!                           └───────────────────── stays pending
//! ```
//!
//! A fact that is recorded while it is in flight must be sent once more, because nobody can tell whether the take
//! looked before or after. [`Line::again`] remembers those.

use roaring::RoaringBitmap;

use super::barrier::Barriers;

/// Index of a destination, in the order of the configuration, counted over all mirrors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DestinationId(pub(crate) u32);

/// Number of a take; grows from take to take of one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TakeNumber(pub(crate) u64);

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Facts are to be sent to a destination.
    Recorded { to: DestinationId, ids: RoaringBitmap },
    /// A destination wants at most `limit` facts, now or when there are some.
    Demand { to: DestinationId, limit: u64 },
    /// A destination is through with a take. What the result does not name stays pending.
    Finished { to: DestinationId, take: TakeNumber, result: TakeResult },
    /// These facts need not wait any more.
    Release { to: DestinationId, ids: RoaringBitmap },
    /// Tell when everything that is pending now is acknowledged.
    Barrier { token: u64 },
    /// Nobody waits for this barrier any more.
    CancelBarrier { token: u64 },
}

/// How a take ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct TakeResult {
    /// The destination has what these facts stand for.
    pub(crate) done: RoaringBitmap,
    /// The destination has what these stood for when the take looked, but they changed meanwhile: they stay
    /// pending, and barriers need not wait for them.
    pub(crate) delivered: RoaringBitmap,
    /// These failed: they stay pending and are left out of takes until they are released.
    pub(crate) held: RoaringBitmap,
    /// These go on by themselves, until another result under the number of this take tells how that ended. No
    /// others may do so yet.
    pub(crate) aside: RoaringBitmap,
    /// Facts that were recorded in place of one that is done: whoever waits for it waits for them now.
    pub(crate) successors: Vec<(u32, RoaringBitmap)>,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Hand these facts to the destination.
    Take { to: DestinationId, number: TakeNumber, ids: RoaringBitmap },
    /// Tell the tracker that this barrier is reached.
    Settled { token: u64 },
}

/// What the store must be told.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Pieces of bitmaps that differ from the stored ones: the destination and the high 16 bits.
    pub(crate) chunks: Vec<(DestinationId, u16)>,
    /// Ids that no destination holds any more.
    pub(crate) orphans: RoaringBitmap,
}

/// The state of one destination.
#[derive(Debug, Default)]
struct Line {
    /// Everything not acknowledged, whatever else is known of it.
    pending: RoaringBitmap,
    /// What the destination works on.
    in_flight: Option<(TakeNumber, RoaringBitmap)>,
    /// What goes on by itself of an earlier take.
    aside: Option<(TakeNumber, RoaringBitmap)>,
    /// Recorded again since it was taken; a subset of what is in flight.
    again: RoaringBitmap,
    /// Left out of takes.
    held: RoaringBitmap,
    /// How much the destination wants, if it is waiting.
    demand: Option<u64>,
    /// Number of the latest take.
    latest: TakeNumber,
    /// Takes go round: the next one starts at this id, so that no fact starves behind busy ones.
    cursor: u32,
    /// High halves of ids whose bit changed since the last [`Engine::changes`].
    dirty: RoaringBitmap,
}

/// All destinations and barriers.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    lines: Vec<Line>,
    barriers: Barriers,
    /// Ids that some destination let go since the last [`Engine::changes`].
    dropped: RoaringBitmap,
}

impl Engine {
    /// Starts from what the store held for each destination, in their order.
    pub(crate) fn new(pending: Vec<RoaringBitmap>) -> Self {
        let lines = pending.into_iter().map(|pending| Line { pending, ..Line::default() }).collect();
        Engine { lines, ..Engine::default() }
    }

    /// Takes in one event and says what follows from it.
    pub(crate) fn apply(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Recorded { to, ids } => {
                self.line(to).record(&ids);
                effects.extend(self.take(to));
            }
            Event::Demand { to, limit } => {
                self.line(to).demand = Some(limit);
                effects.extend(self.take(to));
            }
            Event::Finished { to, take, result } => {
                let done = self.line(to).finish(take, &result);
                self.dropped |= done;
                self.barriers.finished(to, take, &result);
            }
            Event::Release { to, ids } => {
                self.line(to).held -= ids;
                effects.extend(self.take(to));
            }
            Event::Barrier { token } => {
                let waits = self.lines.iter().map(Line::unsettled).collect();
                self.barriers.open(token, waits);
            }
            Event::CancelBarrier { token } => self.barriers.cancel(token),
        }
        effects.extend(self.barriers.reached().map(|token| Effect::Settled { token }));
        effects
    }

    /// Whether this fact is pending and no take that looked already has it.
    pub(crate) fn is_waiting(&self, at: DestinationId, id: u32) -> bool {
        let line = &self.lines[at.0 as usize];
        line.pending.contains(id) && !line.is_in_flight(id)
    }

    /// Whether this destination has a take, or a part of one that goes on by itself.
    pub(crate) fn is_at_work(&self, at: DestinationId) -> bool {
        let line = &self.lines[at.0 as usize];
        line.in_flight.is_some() || line.aside.is_some()
    }

    /// Everything not acknowledged by this destination.
    pub(crate) fn pending(&self, at: DestinationId) -> &RoaringBitmap {
        &self.lines[at.0 as usize].pending
    }

    /// Number of facts that at least one destination has not acknowledged.
    pub(crate) fn held_facts(&self) -> u64 {
        let mut all = RoaringBitmap::new();
        for line in &self.lines {
            all |= &line.pending;
        }
        all.len()
    }

    /// What changed since the last call, for the store.
    pub(crate) fn changes(&mut self) -> Changes {
        let mut orphans = std::mem::take(&mut self.dropped);
        let mut chunks = Vec::new();
        for (at, line) in self.lines.iter_mut().enumerate() {
            orphans -= &line.pending;
            // The casts are lossless: destinations are few, and `dirty` holds high halves only.
            let to = DestinationId(at as u32);
            chunks.extend(std::mem::take(&mut line.dirty).iter().map(|high| (to, high as u16)));
        }
        Changes { chunks, orphans }
    }

    fn line(&mut self, at: DestinationId) -> &mut Line {
        &mut self.lines[at.0 as usize]
    }

    fn take(&mut self, to: DestinationId) -> Option<Effect> {
        let (number, ids) = self.line(to).take()?;
        Some(Effect::Take { to, number, ids })
    }
}

impl Line {
    fn record(&mut self, ids: &RoaringBitmap) {
        for new in &(ids - &self.pending) {
            self.dirty.insert(new >> 16);
        }
        self.pending |= ids;
        self.again |= ids & &self.under_way();
    }

    /// Starts a take if the destination waits for one and there is something to send.
    fn take(&mut self) -> Option<(TakeNumber, RoaringBitmap)> {
        let limit = self.demand.filter(|_| self.in_flight.is_none())?;
        let free = &self.pending - &self.held - self.under_way();
        let ids = from_cursor(&free, self.cursor, limit);
        let last = last_taken(&ids, self.cursor)?;
        self.cursor = last.wrapping_add(1);
        self.demand = None;
        self.latest = TakeNumber(self.latest.0 + 1);
        self.in_flight = Some((self.latest, ids.clone()));
        Some((self.latest, ids))
    }

    /// Ends a take and tells which ids are not pending any more.
    fn finish(&mut self, take: TakeNumber, result: &TakeResult) -> RoaringBitmap {
        let ended = |flight: &mut Option<(TakeNumber, RoaringBitmap)>| {
            flight.take_if(|(number, _)| *number == take).map(|(_, taken)| taken)
        };
        let Some(mut taken) = ended(&mut self.in_flight).or_else(|| ended(&mut self.aside)) else {
            return RoaringBitmap::new();
        };
        let aside = &result.aside & &taken;
        if !aside.is_empty() {
            taken -= &aside;
            self.aside = Some((take, aside));
        }
        let done = (&result.done & &taken) - &self.again;
        self.again -= &taken;
        for id in &done {
            self.dirty.insert(id >> 16);
        }
        self.pending -= &done;
        self.held |= &result.held & &self.pending;
        done
    }

    fn is_in_flight(&self, id: u32) -> bool {
        let flights = self.in_flight.iter().chain(&self.aside);
        flights.into_iter().any(|(_, taken)| taken.contains(id))
    }

    /// Everything in flight.
    fn under_way(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        for (_, taken) in self.in_flight.iter().chain(&self.aside) {
            all |= taken;
        }
        all
    }

    /// What a barrier that is opened now must wait for.
    fn unsettled(&self) -> super::barrier::Wait {
        let taken = self.under_way() - &self.again;
        super::barrier::Wait { later: &self.pending - &taken, any: taken, seen: self.latest }
    }
}

/// At most `limit` of `free`, starting at `cursor` and going round.
fn from_cursor(free: &RoaringBitmap, cursor: u32, limit: u64) -> RoaringBitmap {
    if free.len() <= limit {
        return free.clone();
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    free.range(cursor..).chain(free.range(..cursor)).take(limit).collect()
}

/// The id that a round trip from `cursor` reaches last.
fn last_taken(ids: &RoaringBitmap, cursor: u32) -> Option<u32> {
    ids.range(..cursor).next_back().or_else(|| ids.max())
}

#[cfg(test)]
mod tests;
