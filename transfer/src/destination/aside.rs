//! Large files that go by themselves, in a session beside the others.
//!
//! Both sessions list the directories on the way to what they send, each with the times that it saw. So with what
//! went its directory is looked at once more in the main sessions. What does not go well goes with the others, where
//! failures are dealt with; so does everything for a while, if the daemon lets no second session in.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ebbtide_feed::{Fact, RelPath};
use roaring::RoaringBitmap;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep};

use super::courier::{Courier, Share};
use super::failure::Failure;
use super::guard::Guard;
use super::progress::Progress;
use super::work::Work;
use super::{Recent, Task};
use crate::ledger::{TakeNumber, TakeReport};
use crate::plan::look::ancestors;
use crate::plan::names::Job;
use crate::plan::names::aside::{Aside, Names};
use crate::plan::recent::Tick;
use crate::session::Entry;
use crate::source::{Meta, Source};

/// How long everything goes in one session after the other when two at a time did not do.
const ALONE: Duration = Duration::from_secs(600);

/// How long the main sessions wait at most before they try again to get in beside the other one; and for how long
/// everything goes with them when a daemon could not be reached, so that they find out how long that lasts.
const ROOM: Duration = Duration::from_secs(2);

/// After so many sessions in a row that broke, the main ones find out what breaks them.
const BREAKS: u32 = 3;

/// Large files that go by themselves.
#[derive(Debug)]
pub(crate) struct OnItsWay {
    session: JoinSet<Ended>,
    facts: Vec<(u32, Fact)>,
    names: Names,
    began: Instant,
}

/// What came of them.
#[derive(Debug)]
pub(super) struct Ended {
    end: Result<(), Failure>,
    progress: Progress,
    /// Their files are gone from the source by now, whatever the session brought.
    gone: RoaringBitmap,
    guard: Guard,
}

/// What goes by itself beside the takes of one destination.
#[derive(Debug, Default)]
pub(super) struct Beside {
    on_its_way: Option<(TakeNumber, OnItsWay)>,
    /// Facts that wait for it.
    behind: RoaringBitmap,
    /// Their names.
    waiting: Names,
    /// Facts that a take left out, so that the next one lets them go by themselves.
    left_out: RoaringBitmap,
    /// Nothing goes by itself before.
    alone_until: Option<Instant>,
    /// So many sessions in a row broke.
    breaks: u32,
    /// It was said that no session gets in beside the one on its way.
    shuts_out: bool,
}

impl OnItsWay {
    /// The facts that it is about.
    pub(crate) fn ids(&self) -> RoaringBitmap {
        self.facts.iter().map(|(id, _)| *id).collect()
    }
}

impl Beside {
    pub(super) fn is_busy(&self) -> bool {
        self.on_its_way.is_some()
    }

    /// What the next plan may do.
    pub(super) fn plan(&self) -> Aside {
        match &self.on_its_way {
            Some((_, aside)) => {
                Aside::Busy { names: Arc::clone(&aside.names), waiting: Arc::clone(&self.waiting) }
            }
            None if self.alone_until.is_some_and(|until| Instant::now() < until) => Aside::Never,
            None => Aside::Free(self.left_out.clone()),
        }
    }

    /// Nothing goes by itself for so long.
    fn stay_alone(&mut self, pause: Duration) {
        self.alone_until = self.alone_until.max(Some(Instant::now() + pause));
    }

    /// What is left of the bandwidth.
    pub(super) fn share(&self) -> Share {
        if self.is_busy() { Share::Rest } else { Share::Whole }
    }

    /// The facts that are on their way by themselves.
    pub(super) fn ids(&self) -> RoaringBitmap {
        self.on_its_way.as_ref().map(|(_, aside)| aside.ids()).unwrap_or_default()
    }

    /// Keeps what a take let go by itself, and what waits for that. Returns the facts of the former.
    pub(super) fn keep(
        &mut self,
        take: TakeNumber,
        facts: &[(u32, Fact)],
        progress: &mut Progress,
    ) -> RoaringBitmap {
        self.behind |= &progress.behind;
        let behind = facts.iter().filter(|(id, _)| progress.behind.contains(*id));
        Arc::make_mut(&mut self.waiting).extend(behind.map(|(_, fact)| fact.path().as_bytes().into()));
        self.left_out -= facts.iter().map(|(id, _)| *id).collect::<RoaringBitmap>();
        self.left_out |= &progress.left_out;
        let Some(aside) = progress.aside.take() else { return RoaringBitmap::new() };
        let ids = aside.ids();
        self.on_its_way = Some((take, aside));
        ids
    }

    /// Waits until what goes by itself has ended; for ever if nothing does.
    pub(super) async fn ended(&mut self) -> Result<Ended, JoinError> {
        let session = self.on_its_way.as_mut().map(|(_, aside)| &mut aside.session);
        if let Some(session) = session
            && let Some(ended) = session.join_next().await
        {
            return ended;
        }
        std::future::pending().await
    }
}

impl<C: Courier> Work<C> {
    /// Lets a list go by itself.
    pub(super) fn set_off(&mut self, job: Job, facts: &[(u32, Fact)], tick: Tick) -> OnItsWay {
        self.account.set_aside(true);
        self.share = Share::Rest;
        let mut work = Work {
            courier: Arc::clone(&self.courier),
            source: Arc::clone(&self.source),
            root: self.root.clone(),
            ledger: self.ledger.clone(),
            id: self.id,
            mirror: self.mirror,
            rules: self.rules,
            recent: Recent::default(),
            known: self.known.clone(),
            account: self.account.clone(),
            cautious: self.cautious,
            origins: Default::default(),
            asks: false,
            settled_at: self.settled_at,
            guard: self.guard.clone(),
            pace: Default::default(),
            aside: Aside::Never,
            share: Share::Most,
        };
        let ids: HashSet<u32> = job.updates.iter().map(|(id, _)| *id).collect();
        let positions = job.updates.iter().flat_map(|(_, positions)| positions);
        let names = positions.map(|&at| job.list.entries[at].name.clone()).collect();
        let mut session = JoinSet::new();
        session.spawn(async move { work.go_by_itself(job, tick).await });
        let facts = facts.iter().filter(|(id, _)| ids.contains(id)).cloned().collect();
        OnItsWay { session, facts, names: Arc::new(names), began: Instant::now() }
    }

    async fn go_by_itself(&mut self, job: Job, tick: Tick) -> Ended {
        let mut progress = Progress::default();
        let end = self.send_names(&job, tick, &mut progress).await;
        progress.resolve();
        let mut gone = RoaringBitmap::new();
        for (id, positions) in &job.updates {
            let found = positions.iter().map(|&at| find(&self.source, &job.list.entries[at])).max();
            match found {
                None | Some(Found::Same) => {}
                // What the main sessions know by now of this inode may be newer than what went here.
                Some(Found::Changed) => {
                    if progress.done.remove(*id) {
                        progress.delivered.insert(*id);
                    }
                }
                Some(Found::Gone) => {
                    progress.unsettle(*id);
                    gone.insert(*id);
                }
            }
        }
        Ended { end, progress, gone, guard: std::mem::take(&mut self.guard) }
    }
}

impl<C: Courier> Task<C> {
    /// Takes in what came of the files that went by themselves.
    pub(super) fn take_in(&mut self, ended: Result<Ended, JoinError>) {
        let Some((number, aside)) = &mut self.aside.on_its_way else { return };
        let (number, began) = (*number, aside.began);
        let facts = std::mem::take(&mut aside.facts);
        let (end, progress, gone) = match ended {
            Ok(Ended { end, progress, gone, guard }) => {
                self.guard.join(guard, began.into_std());
                (end, progress, gone)
            }
            Err(error) => (Err(Failure::from(error)), Progress::default(), RoaringBitmap::new()),
        };
        let Progress { done, delivered, failed, sent, .. } = progress;
        let settled = &done | &delivered | &gone;
        let is_open = |id: &u32| !settled.contains(*id) && !failed.contains_key(id);
        let is_stuck = facts.iter().any(|(id, _)| is_open(id));
        match &end {
            Ok(()) => {
                self.aside.breaks = 0;
                self.aside.stay_alone(if is_stuck { ALONE } else { Duration::ZERO });
            }
            Err(error) => {
                tracing::debug!(%error, "large files did not get through by themselves");
                self.broke_aside(error, &facts);
            }
        }
        let progress = Progress { done, delivered, failed, sent, ..Progress::default() };
        let mut report = self.report(&facts, progress, began, None);
        for (id, fact) in &facts {
            if report.done.remove(*id) {
                report.replaced.push((*id, vec![way_to(fact)]));
            } else {
                report.added.push((*id, vec![way_to(fact)]));
            }
        }
        self.ledger.finished(self.id, number, report);
        self.clear_way();
    }

    fn broke_aside(&mut self, error: &Failure, facts: &[(u32, Fact)]) {
        if error.is_late() {
            self.suspects.broke(facts.iter().map(|(id, _)| *id));
            self.aside.breaks += 1;
        }
        let pause = match error {
            // Perhaps the daemon lets no second one in.
            _ if error.is_early() && error.refusal().is_none() => ALONE,
            _ if !error.is_late() => ROOM,
            _ if self.aside.breaks >= BREAKS => ALONE,
            _ => Duration::ZERO,
        };
        self.aside.stay_alone(pause);
    }

    /// Gives up what goes by itself.
    pub(super) fn break_off(&mut self) {
        if let Some((number, aside)) = &mut self.aside.on_its_way {
            let (number, facts) = (*number, std::mem::take(&mut aside.facts));
            self.suspects.broke(facts.iter().map(|(id, _)| *id));
            let added = facts.iter().map(|(id, fact)| (*id, vec![way_to(fact)])).collect();
            self.ledger.finished(
                self.id,
                number,
                TakeReport { added, unsure: true, ..TakeReport::default() },
            );
        }
        self.clear_way();
    }

    fn clear_way(&mut self) {
        if let Some((_, aside)) = self.aside.on_its_way.take() {
            // The daemon may have its directories as this session saw them.
            let ways = aside.names.iter().flat_map(|name| ancestors(name).chain([&**name]));
            ways.for_each(|name| self.recent.forget(name));
        }
        self.aside.waiting = Names::default();
        self.aside.shuts_out = false;
        self.account.set_aside(false);
        self.ledger.release(self.id, std::mem::take(&mut self.aside.behind));
    }

    /// A session did not get in beside the one that goes by itself: perhaps the daemon lets no second one in.
    pub(super) async fn wait_for_room(&mut self, error: &Failure) {
        if !std::mem::replace(&mut self.aside.shuts_out, true) {
            let destination = self.account.url();
            tracing::info!(
                %destination, %error,
                "changes wait until a large file is through; is `max connections` of the module 1?"
            );
        }
        self.aside.stay_alone(ALONE);
        sleep(self.session_pause.next().min(ROOM)).await;
    }
}

/// The directory of a name: the session that had it may have left that one, and those on the way to it, as it saw them.
fn way_to(fact: &Fact) -> Fact {
    Fact::Touched { path: fact.path().parent().unwrap_or_else(RelPath::root), data: false }
}

/// What a name leads to after its file was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    /// The file that was sent, with the content that it had.
    Same,
    /// A file.
    Changed,
    /// No file.
    Gone,
}

fn find(source: &Source, sent: &Entry) -> Found {
    let content = |meta: &Meta| (meta.dev, meta.ino, meta.nlink, meta.size, meta.mtime);
    match source.look(0, &sent.name) {
        Ok(look) if content(&look.meta) == content(&sent.meta) => Found::Same,
        Ok(look) if look.meta.is_file() => Found::Changed,
        _ => Found::Gone,
    }
}
