//! Up to which moment everything is known: for a mirror, every change whose ctime is older than its stamp is in the
//! ledger, on disk.
//!
//! The stamp is the moment before the flip of the last drain that became durable, and it does not move while a mirror's
//! coverage is incomplete. A reconcile looks for what has a ctime not older than the stamp, less a margin:
//!
//! - `reconcile-margin`, two minutes unless configured: a write is stamped when it begins and seen by fanotify when it
//!   ends, and the clock may have been set back a little;
//! - after a reboot five times that, since the clock may have started from a bad one, and since a file system may have
//!   lost its newest changes with the power, times of change included; what was sent in the last moments before a
//!   reboot is looked at again by the sender besides;
//! - the span by which the clock was set back since, where that can be told: in the same boot the wall clock is
//!   compared with the one that counts since boot.
//!
//! A renamed directory has to be told from one whose entries changed, which makes looking back dear there: for names of
//! directories there is no margin in the same boot, and the simple one after a reboot.
//!
//! Where the clock is not to be trusted at all, the whole mirror is compared, and that is said.

mod file;

use std::time::Duration;

use super::scan::Since;
use crate::sys::scan::{self, Nanos};

pub(super) use file::{Keeper, Subject};

/// A moment on both clocks, and the boot that the second one counts from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Moment {
    /// The wall clock, in nanoseconds since 1970.
    pub(super) real: Nanos,
    /// Nanoseconds since boot.
    pub(super) since_boot: Nanos,
    /// Which boot.
    pub(super) boot: String,
}

impl Moment {
    /// The present one.
    pub(super) fn now(boot: &str) -> Self {
        let (real, since_boot) = scan::clocks();
        Moment { real, since_boot, boot: boot.to_owned() }
    }

    /// From when on what changed since this stamp is to be looked for, by ctime.
    ///
    /// # Errors
    /// Why the clock is not to be trusted.
    pub(super) fn look_back(&self, now: &Moment, margin: Duration) -> Result<Since, String> {
        let margin = i64::try_from(margin.as_nanos()).unwrap_or(i64::MAX);
        let back = |by: Nanos| self.real.saturating_sub(by).saturating_sub(TICK);
        if self.boot != now.boot {
            let long = margin.saturating_mul(AFTER_REBOOT);
            let booted = now.real.saturating_sub(now.since_boot);
            if booted < back(long) {
                return Err(
                    "the clock says that this boot began before the last drain, which was in another".into(),
                );
            }
            return Ok(Since { changed: back(long), renamed: back(margin) });
        }
        // How far the wall clock is ahead of the other one changes only when somebody sets it.
        let ahead = |moment: &Moment| moment.real.saturating_sub(moment.since_boot);
        let set_back = ahead(self).saturating_sub(ahead(now)).max(0);
        if set_back > LONGEST_STEP {
            return Err("the clock was set back by more than a day since the last drain".into());
        }
        Ok(Since { changed: back(margin.saturating_add(set_back)), renamed: back(set_back) })
    }
}

/// Up to which moments the mirrors are known, as far as they are.
pub(super) struct Stamps {
    boot: String,
    margin: Duration,
    known: Vec<Option<Moment>>,
    /// When the drain began that is under way, and whether it leaves nothing for the next one.
    drain: Option<(Moment, bool)>,
    keeper: Option<Keeper>,
}

impl Stamps {
    /// With what an earlier daemon left; `keeper` keeps them for a later one.
    pub(super) fn new(
        boot: String,
        known: Vec<Option<Moment>>,
        keeper: Option<Keeper>,
        margin: Duration,
    ) -> Self {
        Stamps { boot, margin, known, drain: None, keeper }
    }

    /// Nothing is known, and nothing is kept.
    pub(super) fn none(mirrors: usize) -> Self {
        Stamps::new(String::new(), vec![None; mirrors], None, Duration::ZERO)
    }

    /// A drain begins: now, before its flip.
    pub(super) fn drain_begins(&mut self) {
        self.drain = Some((Moment::now(&self.boot), false));
    }

    /// The drain is looked up; not if something of it is `left` for the next one.
    pub(super) fn drain_ends(&mut self, left: bool) {
        if let Some((_, whole)) = &mut self.drain {
            *whole = !left;
        }
    }

    /// The drain is durable: the stamps of these mirrors move. They are written down only if facts were `told`, because
    /// writing is a change too, and would cause the next drain.
    pub(super) fn durable(&mut self, complete: impl Fn(usize) -> bool, told: bool) {
        let Some((moment, true)) = self.drain.take() else { return };
        let mut news = told;
        for (_, known) in self.known.iter_mut().enumerate().filter(|(mirror, _)| complete(*mirror)) {
            news |= known.is_none();
            *known = Some(moment.clone());
        }
        if news && let Some(keeper) = &mut self.keeper {
            keeper.keep(&self.known);
        }
    }

    /// What changed since may have a ctime that is not older than this.
    ///
    /// # Errors
    /// Why that is not known.
    pub(super) fn look_back(&self, mirror: usize) -> Result<Since, String> {
        let known = self.known[mirror].as_ref().ok_or("there was no drain yet")?;
        known.look_back(&Moment::now(&self.boot), self.margin)
    }
}

/// What is known is written down at the end, and that is waited for.
impl Drop for Stamps {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.close(&self.known);
        }
    }
}

/// How many margins are taken after a reboot.
const AFTER_REBOOT: i64 = 5;

/// The longest step back of the clock that is made up for.
const LONGEST_STEP: Nanos = 86_400 * 1_000_000_000;

/// Files are stamped with a clock that ticks up to so seldom.
const TICK: Nanos = 20_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;
    const MARGIN: Duration = Duration::from_secs(120);

    fn moment(real: Nanos, since_boot: Nanos, boot: &str) -> Moment {
        Moment { real: real * SECOND, since_boot: since_boot * SECOND, boot: boot.into() }
    }

    /// Seconds before the stamp, for changes and for renames.
    fn back(then: &Moment, now: &Moment) -> Result<(Nanos, Nanos), String> {
        let seconds = |since: Nanos| (then.real - since - TICK) / SECOND;
        then.look_back(now, MARGIN).map(|since| (seconds(since.changed), seconds(since.renamed)))
    }

    #[test]
    fn in_the_same_boot_it_is_the_margin_and_what_the_clock_was_set_back() {
        let then = moment(100_000, 1000, "a");
        assert_eq!(back(&then, &moment(100_500, 1500, "a")), Ok((120, 0)));
        assert_eq!(back(&then, &moment(100_900, 1500, "a")), Ok((120, 0)), "it was set forward");
        assert_eq!(back(&then, &moment(100_200, 1500, "a")), Ok((420, 300)));
        assert!(back(&then, &moment(10_000, 1500, "a")).unwrap_err().contains("more than a day"));
    }

    #[test]
    fn after_a_reboot_the_clock_must_have_gone_on() {
        let then = moment(100_000, 1000, "a");
        assert_eq!(back(&then, &moment(100_300, 10, "b")), Ok((600, 120)));
        assert!(back(&then, &moment(100_300, 2000, "b")).unwrap_err().contains("before the last drain"));
        assert!(back(&then, &moment(5, 2, "b")).is_err());
    }

    #[test]
    fn a_stamp_moves_with_a_whole_drain_of_a_complete_mirror_only() {
        let old = moment(1, 1, "a");
        let mut stamps = Stamps::new("a".into(), vec![Some(old.clone()), Some(old.clone())], None, MARGIN);
        stamps.drain_begins();
        stamps.drain_ends(true);
        stamps.durable(|_| true, true);
        assert_eq!(stamps.known, [Some(old.clone()), Some(old.clone())]);
        stamps.drain_begins();
        stamps.drain_ends(false);
        stamps.durable(|mirror| mirror == 1, true);
        assert_eq!(stamps.known[0], Some(old.clone()));
        assert_ne!(stamps.known[1], Some(old));
    }
}
