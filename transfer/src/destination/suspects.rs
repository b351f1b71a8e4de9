//! What an earlier session may still do at the daemon.
//!
//! When a session breaks, or the sender is killed, the daemon's side of it goes on for a moment with what it has
//! received: it may put an older version of a file in its place, or touch a directory, after a new session was
//! through. It may also leave temporary files behind. So what may have been in such a session is **suspect**: it is
//! sent once more after the old session is surely over, and the directories are compared, which removes leftovers.

use std::time::Duration;

use ebbtide_feed::{Fact, RelPath};
use roaring::RoaringBitmap;
use tokio::time::Instant;

/// How long the daemon's side of a broken session can go on. What it has received by then is a few megabytes at most:
/// the buffers of one socket.
const LINGER: Duration = Duration::from_secs(2);

/// Which facts may have been in a session that broke.
#[derive(Debug)]
pub(crate) struct Suspects {
    ids: RoaringBitmap,
    /// When the last session that broke is surely over.
    settled_at: Instant,
    /// Until then every fact is suspect: it may be one that an earlier sender had in its hands.
    all_until: Instant,
}

impl Suspects {
    /// After a start: `leftovers` is what was pending if a sender may have been at work for the destination before.
    pub(crate) fn new(leftovers: Option<RoaringBitmap>) -> Self {
        let now = Instant::now();
        let over = if leftovers.is_some() { now + LINGER } else { now };
        Suspects { ids: leftovers.unwrap_or_default(), settled_at: over, all_until: over }
    }

    /// Whether there are none, and will be none of the sessions that broke so far.
    pub(crate) fn are_over(&self) -> bool {
        self.ids.is_empty() && self.settled_at <= Instant::now()
    }

    /// When the last session that broke is surely over.
    pub(crate) fn settled_at(&self) -> Instant {
        self.settled_at
    }

    /// A take begins.
    pub(crate) fn taken(&mut self, facts: &[(u32, Fact)]) {
        if Instant::now() < self.all_until {
            self.ids.extend(facts.iter().map(|(id, _)| *id));
        }
    }

    /// A session with these facts broke.
    pub(crate) fn broke(&mut self, ids: impl Iterator<Item = u32>) {
        self.ids.extend(ids);
        self.settled_at = self.settled_at.max(Instant::now() + LINGER);
    }

    /// Which of these facts, that are done, are suspect; from now on they are not.
    pub(crate) fn clear(&mut self, done: &RoaringBitmap) -> RoaringBitmap {
        let suspect = done & &self.ids;
        self.ids -= &suspect;
        suspect
    }
}

/// What removes the leftovers of a broken session that had this fact; nothing for comparisons, which do it anyway.
pub(crate) fn sweep(fact: &Fact) -> Option<Fact> {
    match fact {
        Fact::Touched { path, .. } | Fact::Gone { path } if !path.is_root() => {
            Some(Fact::Relist { dir: path.parent().unwrap_or_else(RelPath::root) })
        }
        _ => None,
    }
}

/// Whether the fact asks for a comparison of directories.
pub(crate) fn is_comparison(fact: &Fact) -> bool {
    matches!(fact, Fact::Relist { .. } | Fact::Subtree { .. } | Fact::Contents { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched(id: u32) -> (u32, Fact) {
        (id, Fact::Touched { path: RelPath::new(&b"d/f"[..]).unwrap(), data: true })
    }

    fn ids(of: &[u32]) -> RoaringBitmap {
        of.iter().copied().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_restart_what_was_pending_and_what_comes_at_once_is_suspect() {
        let mut suspects = Suspects::new(Some(ids(&[1])));
        suspects.taken(&[touched(2)]);
        assert_eq!(suspects.clear(&ids(&[2, 3])), ids(&[2]));
        tokio::time::advance(2 * LINGER).await;
        suspects.taken(&[touched(3)]);
        assert_eq!(suspects.clear(&ids(&[1, 2, 3])), ids(&[1]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_destination_has_no_suspects_until_a_session_breaks() {
        let mut suspects = Suspects::new(None);
        suspects.taken(&[touched(1)]);
        assert!(suspects.clear(&ids(&[1])).is_empty());
        assert!(suspects.settled_at() <= Instant::now());
        assert!(suspects.are_over());
        suspects.broke([1].into_iter());
        assert!(suspects.settled_at() > Instant::now());
        tokio::time::advance(LINGER).await;
        assert!(!suspects.are_over(), "its leftovers may be there");
        assert_eq!(suspects.clear(&ids(&[1, 2])), ids(&[1]));
        assert!(suspects.are_over());
    }

    #[test]
    fn leftovers_are_swept_from_the_directory_of_a_name() {
        let dir = RelPath::new(&b"d"[..]).unwrap();
        assert_eq!(sweep(&touched(1).1), Some(Fact::Relist { dir }));
        assert_eq!(sweep(&Fact::Subtree { dir: RelPath::root(), replaced: false }), None);
    }
}
