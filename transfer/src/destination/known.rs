//! What is known of a destination's daemon from earlier sessions, so that nothing is asked twice.
//!
//! It is kept in the ledger's store. Another greeting, which tells of another release or another configuration, makes
//! all of it void; so does a session that ends before the file list although nothing is refused; and what a daemon
//! refused is tried again after a day.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ebbtide_feed::MaxDelete;
use ebbtide_wire::proto::Dialect;
use serde::{Deserialize, Serialize};

use super::courier::Orders;
use super::refusal::Refusal;
use crate::session::Spare;

/// What is known of one daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Known {
    /// The greeting of the last session that stood: its protocol and auth digests.
    greeting: String,
    /// The compat flags of that session.
    flags: u32,
    /// A session stood: the arguments need not wait for the daemon's OK.
    trusted: bool,
    /// What the daemon will not do.
    refused: BTreeSet<Refusal>,
    /// When it refused something last, in seconds since 1970.
    refused_at: u64,
    /// The `max-delete` under which removals are held.
    pub(crate) held_under: Option<MaxDelete>,
}

const COMPRESSION: Refusal = Refusal::Spare(Spare::Compression);
const REPORT: Refusal = Refusal::Spare(Spare::Itemizing);
const ACKNOWLEDGE: Refusal = Refusal::Spare(Spare::Acknowledgement);

/// How long a daemon is not asked again for what it refused.
const MEMORY: Duration = Duration::from_secs(24 * 3600);

impl Known {
    /// Reads what was kept; nothing is known where that cannot be read.
    pub(crate) fn read(kept: Option<&[u8]>) -> Self {
        let mut known: Known = kept.and_then(|kept| serde_json::from_slice(kept).ok()).unwrap_or_default();
        if known.refused_at.saturating_add(MEMORY.as_secs()) < now() {
            known.refused.clear();
        }
        known
    }

    /// For the store.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Leaves out of a session what the daemon will not do.
    pub(crate) fn shape(&self, orders: Orders) -> Orders {
        Orders {
            report: orders.verify && !self.refuses(REPORT),
            acknowledge: orders.acknowledge && !self.refuses(ACKNOWLEDGE),
            plain: self.refuses(COMPRESSION),
            eager: self.trusted,
            ..orders
        }
    }

    /// Whether the daemon is known to refuse this.
    pub(crate) fn refuses(&self, what: Refusal) -> bool {
        self.refused.contains(&what)
    }

    /// The options that are refused.
    pub(crate) fn refused(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.refused.iter().filter_map(|refusal| refusal.option())
    }

    /// A session stood.
    pub(crate) fn met(&mut self, dialect: &Dialect) {
        let greeting = format!("{} {}", dialect.daemon_protocol, dialect.digests.join(" "));
        // What was refused before any session stood is of this daemon too.
        if greeting != self.greeting && !self.greeting.is_empty() {
            *self = Known { held_under: self.held_under, ..Known::default() };
        }
        self.greeting = greeting;
        self.flags = dialect.compat.0;
        self.trusted = true;
    }

    /// The daemon refused something. Tells whether it can be done without, and was not known yet.
    pub(crate) fn learn(&mut self, refusal: Refusal) -> bool {
        self.trusted = false;
        if !refusal.can_be_done_without() || !self.refused.insert(refusal) {
            return false;
        }
        self.refused_at = now();
        true
    }

    /// A session ended before the file list. Tells whether that may be because it did not wait for the daemon's OK.
    pub(crate) fn doubt(&mut self) -> bool {
        std::mem::take(&mut self.trusted)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use ebbtide_wire::proto::{Checksum, CompatFlags, Compression, Protocol};

    use super::*;

    fn dialect(daemon_protocol: u32) -> Dialect {
        Dialect {
            protocol: Protocol::V31,
            daemon_protocol,
            digests: vec!["md5".into()],
            compat: CompatFlags(0x1fe),
            checksum: Checksum::Md5,
            compression: Compression::None,
            seed: 1,
        }
    }

    #[test]
    fn what_is_refused_is_not_asked_for_until_the_daemon_is_another() {
        let mut known = Known::default();
        assert!(known.learn(REPORT));
        known.met(&dialect(31));
        assert!(known.refuses(REPORT));
        known.refused.clear();
        assert!(known.learn(COMPRESSION) && known.learn(ACKNOWLEDGE));
        assert!(!known.learn(COMPRESSION) && !known.learn(Refusal::Delete));
        let orders = Orders { verify: true, acknowledge: true, ..Orders::default() };
        let shaped = known.shape(orders);
        assert!(shaped.plain && shaped.report && !shaped.acknowledge && !shaped.eager);
        let mut known = Known::read(Some(&known.to_bytes()));
        known.met(&dialect(31));
        assert!(known.shape(orders).plain && known.shape(orders).eager);
        known.met(&dialect(32));
        assert!(!known.shape(orders).plain);
    }

    #[test]
    fn refusals_are_forgotten_after_a_day_and_damage_is_no_knowledge() {
        let mut known = Known::default();
        known.learn(Refusal::MissingArgs);
        known.refused_at -= MEMORY.as_secs() + 1;
        assert!(!Known::read(Some(&known.to_bytes())).refuses(Refusal::MissingArgs));
        assert_eq!(Known::read(Some(b"{")), Known::default());
    }

    #[test]
    fn a_session_that_did_not_wait_is_doubted_once() {
        let mut known = Known::default();
        known.met(&dialect(31));
        assert!(known.doubt() && !known.doubt());
    }
}
