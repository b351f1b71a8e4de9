//! `max-delete`: what would remove more names at a destination than the mirror allows is held until a person lets it
//! go.
//!
//! Names are counted as the daemon tells of them, over [`WINDOW`]: sessions are so short that a limit for each of them
//! would limit nothing. Names that are to be removed by name are held before anything is sent, if they are too many.
//! How many a comparison removes only the daemon knows: it is told how many are left (rsync's `--max-delete`), stops
//! there, and says how many it passed over. While something is held, `--max-delete=0` lets everything else go on, and
//! tells whether a comparison would remove anything at all.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use ebbtide_feed::{HeldStatus, MaxDelete, RelPath};
use roaring::RoaringBitmap;

use super::witness::Witness;

/// Removals are counted over so long.
pub(crate) const WINDOW: Duration = Duration::from_secs(600);

/// A share never holds fewer removals than this: a small tree would be held for nothing.
const FLOOR: u64 = 100;

/// How long the number of names of the tree is taken for true.
const COUNTED: Duration = Duration::from_secs(3600);

/// So many names are shown.
const EXAMPLES: usize = 10;

/// Facts that are held: the name, and how many removals it stands for at least.
pub(crate) type Guarded = BTreeMap<u32, (RelPath, u64)>;

/// The guard of one destination.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    limit: Option<MaxDelete>,
    /// Removals of late: when, and how many.
    removed: VecDeque<(Instant, u64)>,
    /// How many names the source had, and when they were counted.
    counted: Option<(Instant, u64)>,
    /// What is held.
    held: Guarded,
    /// Nothing is removed before a person says so.
    tripped: Option<SystemTime>,
    /// A person let go what is held: nothing is counted until it is gone.
    released: bool,
    /// The source directory has no entries.
    empty: bool,
}

impl Guard {
    /// A guard with this limit. `held_under` is the limit under which something was held when the last sender ended.
    pub(crate) fn new(limit: Option<MaxDelete>, held_under: Option<MaxDelete>) -> Self {
        let tripped = (limit.is_some() && limit == held_under).then(SystemTime::now);
        Guard { limit, tripped, ..Guard::default() }
    }

    /// The limit under which something is held.
    pub(crate) fn held_under(&self) -> Option<MaxDelete> {
        self.limit.filter(|_| self.tripped.is_some())
    }

    /// How many names may still be removed; `None` when it does not matter.
    pub(crate) fn allowance(&mut self) -> Option<u64> {
        if self.released {
            return None;
        }
        if self.tripped.is_some() {
            return Some(0);
        }
        let limit = self.limit?;
        while self.removed.front().is_some_and(|(at, _)| at.elapsed() > WINDOW) {
            self.removed.pop_front();
        }
        let removed: u64 = self.removed.iter().map(|(_, count)| count).sum();
        let most = match limit {
            MaxDelete::Count(most) => most,
            MaxDelete::Percent(share) => {
                // What was removed of late was among the names before.
                let names = self.counted.map_or(0, |(_, names)| names) + removed;
                (names / 100 * u64::from(share) + names % 100 * u64::from(share) / 100).max(FLOOR)
            }
        };
        Some(most.saturating_sub(removed))
    }

    /// The most names that a comparison may remove. A source that has become empty is more likely one that was lost
    /// than one that nobody wants any more.
    pub(crate) fn allowance_of_comparison(&mut self) -> Option<u64> {
        if self.empty && !self.released { Some(0) } else { self.allowance() }
    }

    /// Whether the source directory had no entries when it was last looked at.
    pub(crate) fn found_empty(&self) -> bool {
        self.empty
    }

    /// Whether the source directory has no entries now. What was held for that alone is looked at again: its ids.
    pub(crate) fn look(&mut self, empty: bool) -> RoaringBitmap {
        let was_empty = std::mem::replace(&mut self.empty, empty);
        if !was_empty || empty || self.released {
            return RoaringBitmap::new();
        }
        self.tripped = None;
        std::mem::take(&mut self.held).into_keys().collect()
    }

    /// Whether the number of names must be known before so many removals are held.
    pub(crate) fn needs_count(&self) -> bool {
        let is_old = self.counted.is_none_or(|(at, _)| at.elapsed() > COUNTED);
        matches!(self.limit, Some(MaxDelete::Percent(_)))
            && !self.released
            && self.tripped.is_none()
            && is_old
    }

    /// The source has so many names.
    pub(crate) fn count(&mut self, names: u64) {
        self.counted = Some((Instant::now(), names));
    }

    /// A session showed this.
    pub(crate) fn saw(&mut self, witness: &Witness) {
        if self.limit.is_some() && witness.deleted > 0 {
            self.removed.push_back((Instant::now(), witness.deleted));
        }
    }

    /// What a session showed that went on beside others: `other` was a copy of this guard, made at `since`.
    pub(crate) fn join(&mut self, other: Guard, since: Instant) {
        self.removed.extend(other.removed.into_iter().filter(|(at, _)| *at >= since));
    }

    /// What a take came to: what is held, and what is not any more. `is_all` tells that it had everything that was
    /// pending. Tells whether something is held now that was not.
    pub(crate) fn settle(&mut self, guarded: Guarded, over: &RoaringBitmap, is_all: bool) -> bool {
        self.held.retain(|id, _| !over.contains(*id));
        let is_new = !guarded.is_empty() && self.held.is_empty();
        self.held.extend(guarded);
        if !self.held.is_empty() {
            self.tripped.get_or_insert_with(SystemTime::now);
        } else if self.tripped.is_some() && (is_all || self.released) {
            self.tripped = None;
            self.released = false;
            self.removed.clear();
        }
        is_new && !self.released
    }

    /// A person lets go what is held: its ids.
    pub(crate) fn release(&mut self) -> RoaringBitmap {
        self.released = self.tripped.is_some();
        self.held.keys().copied().collect()
    }

    fn reason(&self) -> String {
        match self.limit {
            _ if self.empty => "the source directory is empty".to_owned(),
            Some(limit) => format!("max-delete is {limit}"),
            None => "the source directory was empty".to_owned(),
        }
    }

    /// For the status.
    pub(crate) fn status(&self) -> Option<HeldStatus> {
        let since = self.tripped.filter(|_| !self.held.is_empty() && !self.released)?;
        let since_ms = since.elapsed().unwrap_or_default().as_millis();
        Some(HeldStatus {
            removals: self.held.values().map(|(_, count)| count).sum(),
            reason: self.reason(),
            examples: self.held.values().take(EXAMPLES).map(|(path, _)| path.to_string()).collect(),
            since_ms: u64::try_from(since_ms).unwrap_or(u64::MAX),
        })
    }
}

/// The number of names below a directory, on all file systems there. What cannot be read counts as empty.
pub(crate) fn count_names(root: &Path) -> u64 {
    let mut open = vec![root.to_owned()];
    let mut names = 0;
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            names += 1;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded(id: u32) -> Guarded {
        BTreeMap::from([(id, (RelPath::new(*b"x").unwrap(), 3))])
    }

    fn saw(guard: &mut Guard, deleted: u64) {
        let mut witness = Witness::default();
        witness.deleted = deleted;
        guard.saw(&witness);
    }

    #[test]
    fn removals_are_counted_against_the_limit_until_something_is_held() {
        let mut guard = Guard::new(Some(MaxDelete::Count(10)), None);
        assert_eq!(guard.allowance(), Some(10));
        saw(&mut guard, 4);
        assert_eq!(guard.allowance(), Some(6));
        assert!(guard.settle(guarded(1), &RoaringBitmap::new(), true));
        assert_eq!(guard.allowance(), Some(0));
        assert_eq!(guard.status().unwrap().removals, 3);
        assert!(!guard.settle(guarded(2), &RoaringBitmap::new(), true));
        assert_eq!(guard.release(), RoaringBitmap::from([1, 2]));
        assert_eq!((guard.allowance(), guard.status()), (None, None));
        guard.settle(Guarded::new(), &RoaringBitmap::from([1, 2]), false);
        assert_eq!(guard.allowance(), Some(10));
    }

    #[test]
    fn what_was_held_stays_held_over_a_restart_until_the_limit_is_another() {
        let ten = Some(MaxDelete::Count(10));
        assert_eq!(Guard::new(ten, ten).allowance(), Some(0));
        assert_eq!(Guard::new(Some(MaxDelete::Count(20)), ten).allowance(), Some(20));
        assert_eq!(Guard::new(None, ten).allowance(), None);
        let mut guard = Guard::new(ten, ten);
        guard.settle(Guarded::new(), &RoaringBitmap::new(), true);
        assert_eq!(guard.allowance(), Some(10));
    }

    #[test]
    fn a_share_is_one_of_the_names_that_were_there_before() {
        let mut guard = Guard::new(Some(MaxDelete::Percent(10)), None);
        assert_eq!((guard.allowance(), guard.needs_count()), (Some(FLOOR), true));
        saw(&mut guard, 50);
        guard.count(9950);
        assert_eq!((guard.allowance(), guard.needs_count()), (Some(950), false));
    }

    #[test]
    fn names_of_all_kinds_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/f"), b"").unwrap();
        std::os::unix::fs::symlink("..", folder.path().join("a/b/l")).unwrap();
        assert_eq!(count_names(folder.path()), 4);
    }
}
