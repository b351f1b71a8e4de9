//! What sessions with one daemon agreed on, so that the next one need not ask.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ebbtide_wire::proto::{Dialect, ServerOptions};

/// Dialects of sessions that ran to their end, by the options that they had.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Vec<(ServerOptions, Dialect)>>);

impl Memory {
    /// What the last session with these options agreed on.
    pub(super) fn recall(&self, options: &ServerOptions) -> Option<Dialect> {
        let known = self.known();
        known.iter().find(|(of, _)| of == options).map(|(_, dialect)| dialect.clone())
    }

    /// Keeps what a session agreed on that ran to its end.
    pub(super) fn learn(&self, options: ServerOptions, dialect: Dialect) {
        let mut known = self.known();
        known.retain(|(of, _)| *of != options);
        if known.len() == MAX_KNOWN {
            known.remove(0);
        }
        known.push((options, dialect));
    }

    /// Forgets all: a session failed, and perhaps the daemon is another one now.
    pub(super) fn forget(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, Vec<(ServerOptions, Dialect)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// More than the orders that a destination gives in turn.
const MAX_KNOWN: usize = 16;
