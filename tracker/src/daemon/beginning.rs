//! How a mirror begins: what is known, when the daemon starts, of what changed before.

use std::time::SystemTime;

use super::keeping::Strange;
use crate::control;
use crate::engine::{Reason, Tainted};

/// How a mirror begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Marks and names outlived the last daemon: they are followed up, and nothing is made up.
    TakenOver,
    /// The last daemon drained up to some moment, but what was marked since is not to be trusted, for this reason:
    /// what changed since that moment is looked for.
    Reconcile(Reason),
    /// There is a record of how far the last daemon got, but it cannot be used, for this reason.
    Distrusted(String),
    /// Nothing is known of it.
    First,
}

impl Beginning {
    /// What it comes to that a mirror was kept, or was not: then it begins as it would `without`, and says why.
    pub(super) fn of(kept: Result<(), Strange>, without: &Beginning) -> Self {
        match (kept, without) {
            (Ok(()), _) => Beginning::TakenOver,
            (Err(Strange::Lost(why)), Beginning::Reconcile(_)) => Beginning::Reconcile(Reason::NotKept(why)),
            (Err(Strange::Lost(why)), Beginning::First) => Beginning::Distrusted(why),
            (Err(_), without) => without.clone(),
        }
    }

    /// What the coverage lacks at the start.
    pub(super) fn taint(&self) -> Option<Tainted> {
        let reason = match self {
            Beginning::TakenOver => return None,
            Beginning::Reconcile(reason) => reason.clone(),
            Beginning::Distrusted(why) => Reason::Distrusted(why.clone()),
            Beginning::First => Reason::Start,
        };
        Some(Tainted { since: SystemTime::now(), remedy: reason.remedy(), reason })
    }

    /// As `ebbtide status` tells it.
    pub(super) fn status(&self) -> control::BeginningStatus {
        let (way, reason) = match self {
            Beginning::TakenOver => (control::Way::TakenOver, None),
            Beginning::Reconcile(reason) => (control::Way::Reconcile, Some(reason.to_string())),
            Beginning::Distrusted(why) => (control::Way::FirstStart, Some(why.clone())),
            Beginning::First => (control::Way::FirstStart, None),
        };
        control::BeginningStatus { way, reason }
    }
}
