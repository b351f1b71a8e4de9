//! What of a take is settled so far.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use ebbtide_feed::{Fact, RelPath};
use roaring::RoaringBitmap;

use super::aside::OnItsWay;
use super::guard::Guarded;
use crate::plan::names::renames::Linked;
use crate::plan::pace::Hold;

/// What of a take is settled so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The destination has what these stand for.
    pub(crate) done: RoaringBitmap,
    /// The destination got these, but they changed meanwhile.
    pub(crate) delivered: RoaringBitmap,
    /// These wait by themselves: the name and the reason.
    pub(crate) failed: BTreeMap<u32, (RelPath, String)>,
    /// These go on as other facts.
    pub(crate) replaced: BTreeMap<u32, Vec<Fact>>,
    /// A session broke, and the daemon said over which name: `failed` has it.
    pub(crate) explained: bool,
    /// These wait for a person: the destination would lose too much.
    pub(crate) guarded: Guarded,
    /// New names of what was renamed and came, by whichever way.
    pub(crate) followed: HashSet<RelPath>,
    /// Of those, the ones that are linked to their old names.
    pub(crate) linked: Vec<Linked>,
    /// A session is under way that links new names to old ones.
    pub(crate) renaming: bool,
    /// Nothing was done yet: these are recorded first, for the facts that need them.
    pub(crate) wanted: Vec<(u32, Vec<Fact>)>,
    /// These wait for so long: their files are still being written, or rest.
    pub(crate) unsettled: BTreeMap<u32, Hold>,
    /// Large files that were sent, and how long that took.
    pub(crate) sent: Vec<(Box<[u8]>, Duration)>,
    /// Large files that go on by themselves.
    pub(crate) aside: Option<OnItsWay>,
    /// These wait for that.
    pub(crate) behind: RoaringBitmap,
    /// Large files that the next take has again.
    pub(crate) left_out: RoaringBitmap,
    /// Something of these is neither sent nor failed: they are looked at again.
    pub(super) incomplete: RoaringBitmap,
}

impl Progress {
    /// Forgets what is said of a fact's updates.
    pub(super) fn unsettle(&mut self, id: u32) {
        self.done.remove(id);
        self.delivered.remove(id);
        self.incomplete.remove(id);
        self.failed.remove(&id);
    }

    /// A fact is looked at again.
    pub(super) fn leave_open(&mut self, id: u32) {
        self.incomplete.insert(id);
    }

    /// A new name that is still linked to its old one is not done: who changes the one would change the other. It is sent
    /// by itself.
    pub(super) fn part(&mut self) {
        for Linked { id, removals } in std::mem::take(&mut self.linked) {
            let is_gone = |id: &u32| self.done.contains(*id) || self.replaced.contains_key(id);
            if !removals.is_empty() && !removals.iter().any(is_gone) {
                self.leave_open(id);
            }
        }
    }

    /// A fact with several parts is done when all of them are.
    pub(super) fn resolve(&mut self) {
        self.failed.retain(|id, _| !self.guarded.contains_key(id));
        let failed: RoaringBitmap = self.failed.keys().chain(self.guarded.keys()).copied().collect();
        self.delivered -= &self.incomplete | &failed;
        let open = &self.incomplete | &failed | &self.delivered;
        self.replaced.retain(|id, _| !open.contains(*id));
        self.unsettled.retain(|id, _| !failed.contains(*id));
        self.done -= self.unsettled.keys().copied().collect::<RoaringBitmap>();
        self.done -= open | self.replaced.keys().copied().collect::<RoaringBitmap>();
    }
}
