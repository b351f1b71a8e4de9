//! Working off one take: plan it, send it, and find out what is done.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use ebbtide_feed::{Fact, RelPath};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::account::Account;
use super::courier::{Broken, Courier, Delivery, Orders, Share};
use super::failure::Failure;
use super::guard::Guard;
use super::judge::{Verdict, accused_entries, judge, shown};
use super::known::Known;
use super::progress::Progress;
use super::refusal::Refusal;
use super::removals::{guard_removals, settle_removals};
use crate::ledger::{DestinationId, Ledger, LinkNotes};
use crate::plan::Rules;
use crate::plan::list::{Lane, List};
use crate::plan::look::{Looker, ROOT, ancestors};
use crate::plan::names::aside::Aside;
use crate::plan::names::renames::{Origins, Renames};
use crate::plan::names::{Job, Plan, Sights};
use crate::plan::pace::{LARGE, Pace};
use crate::plan::recent::{Recent, Sum, Tick};
use crate::session::{DirRole, Entry};
use crate::source::Source;

/// So many facts are looked at on the spot; more of them on another thread.
const FEW: usize = 64;

/// What works for one destination, take after take.
pub(crate) struct Work<C> {
    pub(crate) courier: Arc<C>,
    pub(crate) source: Arc<Source>,
    /// The source's path.
    pub(crate) root: PathBuf,
    pub(crate) ledger: Ledger,
    /// Which destination it is there.
    pub(crate) id: DestinationId,
    /// Index of the mirror.
    pub(crate) mirror: usize,
    pub(crate) rules: Rules,
    pub(crate) recent: Recent,
    pub(crate) known: Known,
    pub(crate) account: Account,
    /// A session broke lately: the daemon is asked to acknowledge every file, so that not all is lost if that happens
    /// again.
    pub(crate) cautious: bool,
    /// Where the destination has what was renamed.
    pub(crate) origins: Origins,
    /// What following renames needs may be recorded first, and the take be given back for that.
    pub(crate) asks: bool,
    /// No directory is compared before this: an earlier session may still be running at the daemon.
    pub(crate) settled_at: Instant,
    pub(crate) guard: Guard,
    /// Which files wait.
    pub(crate) pace: Pace,
    /// Which files go by themselves.
    pub(crate) aside: Aside,
    /// What its sessions have of the bandwidth.
    pub(crate) share: Share,
}

impl<C: Courier> Work<C> {
    /// Works off a take. `progress` says what is settled, also when a session breaks on the way.
    ///
    /// # Errors
    /// A session did not run to its end.
    pub(crate) async fn run(
        &mut self,
        facts: &Arc<Vec<(u32, Fact)>>,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let end = self.work(facts, progress).await;
        progress.part();
        progress.resolve();
        if end.is_err() {
            self.recent.clear();
        }
        end
    }

    async fn work(&mut self, facts: &Arc<Vec<(u32, Fact)>>, progress: &mut Progress) -> Result<(), Failure> {
        if self.guard.found_empty() {
            self.look_whether_empty();
        }
        let origins = std::mem::take(&mut self.origins);
        let (mut plan, mut tick) = self.plan(facts, origins).await?;
        let wanted = std::mem::take(&mut plan.renames.wanted);
        if self.asks && !wanted.is_empty() && !self.exceeds(plan.removals() + wanted.len()).await? {
            progress.wanted = wanted;
            return Ok(());
        }
        // An old name that is not removed would stay linked to the new one.
        if !plan.renames.is_empty() && self.exceeds(plan.removals()).await? {
            (plan, tick) = self.plan(facts, Origins::new()).await?;
        }
        let Plan { lists, aside, behind, left_out, trees, renames, done, unsettled, failed, notes } = plan;
        progress.behind |= behind;
        progress.left_out |= left_out;
        progress.aside = aside.map(|job| self.set_off(job, facts, tick));
        progress.unsettled.extend(unsettled);
        progress.done |= done;
        progress.failed.extend(failed.into_iter().map(|(id, path, why)| (id, (path, why))));
        let sent = self.send_lists(lists, renames, tick, progress).await;
        progress.resolve();
        self.note(&notes, progress)?;
        sent?;
        self.send_trees(&trees, facts, progress).await
    }

    /// What was held only because the source had no entries is looked at again when it has some.
    pub(super) fn look_whether_empty(&mut self) {
        let over = self.guard.look(self.rules.delete && self.source.is_empty());
        self.ledger.release(self.id, over);
    }

    async fn send_lists(
        &mut self,
        lists: Vec<Job>,
        mut renames: Renames,
        tick: Tick,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        self.follow_pairs(&renames.pairs, tick, progress).await?;
        for mut job in lists {
            self.hold_removals(&mut job, progress).await?;
            if job.list.missing.is_empty() && job.updates.is_empty() {
                continue;
            }
            self.send_names(&job, tick, progress).await?;
        }
        self.follow_dirs(&mut renames.dirs, tick, progress).await?;
        if renames.late.list.is_empty() {
            return Ok(());
        }
        self.hold_removals(&mut renames.late, progress).await?;
        self.send_names(&renames.late, tick, progress).await
    }

    /// Looks at the names of the facts, and makes the lists.
    async fn plan(
        &mut self,
        facts: &Arc<Vec<(u32, Fact)>>,
        origins: Origins,
    ) -> Result<(Plan, Tick), Failure> {
        let (looker, rules) = (Looker::new(Arc::clone(&self.source)), self.rules);
        let (links, mirror) = (self.ledger.links(), self.mirror);
        let (facts, mut recent) = (Arc::clone(facts), std::mem::take(&mut self.recent));
        let (pace, aside) = (self.pace.clone(), self.aside.clone());
        let may_read = |(_, fact): &(u32, Fact)| recent.may_read(fact.path().as_bytes());
        let is_short = facts.len() <= FEW && !facts.iter().any(may_read);
        let make = move || {
            let sights =
                Sights::new(&facts, looker, rules).with_origins(origins).with_pace(pace).with_aside(aside);
            let tick = sights.tick;
            (sights.plan(&links, mirror, &mut recent, rules), tick, recent)
        };
        let (plan, tick, recent) = if is_short { make() } else { spawn_blocking(make).await? };
        self.recent = recent;
        Ok((plan?, tick))
    }

    /// Notes names of inodes with several names, of those facts that are done: before the acknowledgements, so that
    /// both are committed together, and not without them, because what a name led to before is needed until its
    /// change is sent.
    fn note(&self, notes: &HashMap<u32, LinkNotes>, progress: &Progress) -> Result<(), Failure> {
        let mut done = LinkNotes::default();
        for (id, notes) in notes {
            if progress.done.contains(*id) || progress.replaced.contains_key(id) {
                done.gone.extend(notes.gone.iter().cloned());
                done.seen.extend(notes.seen.iter().cloned());
            }
        }
        Ok(self.ledger.note_links(self.mirror, &done)?)
    }

    /// One session; once more if it was stopped by a limit that is higher than was known.
    pub(super) async fn push(
        &mut self,
        orders: Orders,
        entries: Vec<Entry>,
    ) -> Result<Delivery, Box<Broken>> {
        let again = self.guard.needs_count().then(|| entries.clone());
        let delivery = self.push_once(orders, entries).await?;
        match again {
            // A count that fails leaves the limit as it is.
            Some(entries) if delivery.witness.skipped.is_some() && self.count_names().await.is_ok() => {
                self.push_once(orders, entries).await
            }
            _ => Ok(delivery),
        }
    }

    async fn push_once(&mut self, orders: Orders, entries: Vec<Entry>) -> Result<Delivery, Box<Broken>> {
        tracing::trace!(?orders, names = ?Names(&entries), "session");
        let max_delete = match orders.lane.complete {
            true => self.guard.allowance_of_comparison(),
            false => self.guard.allowance(),
        };
        let orders = Orders { max_delete, share: self.share, ..self.known.shape(orders) };
        let pushed = self.courier.push(orders, entries, Arc::clone(&self.source)).await;
        self.guard.saw(match &pushed {
            Ok(delivery) => &delivery.witness,
            Err(broken) => &broken.witness,
        });
        let delivery = pushed?;
        self.take_in(&delivery);
        Ok(delivery)
    }

    /// Takes in what a session told about the daemon.
    pub(super) fn take_in(&mut self, delivery: &Delivery) {
        let report = &delivery.report;
        if let Some(dialect) = &report.dialect {
            self.known.met(dialect);
        }
        tracing::trace!(outcomes = ?report.outcomes, partial = report.partial, "session done");
        self.account.session(report, &self.known);
    }

    /// Sends one list of names.
    pub(super) async fn send_names(
        &mut self,
        job: &Job,
        tick: Tick,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let list = &job.list;
        let acknowledge = self.cautious || is_heavy(list);
        let removes = !list.missing.is_empty();
        let orders = Orders { lane: list.lane, removes, acknowledge, ..Orders::default() };
        let all = list.to_entries();
        let began = Instant::now();
        let delivery = match self.push(orders, all.clone()).await {
            Ok(delivery) => {
                let took = began.elapsed();
                progress.sent.extend(large_files(list).map(|name| (name.into(), took)));
                delivery
            }
            Err(broken) => {
                salvage(job, &all, &broken, list.missing.len(), progress);
                return Err(broken.into());
            }
        };
        let mut removals = judge(&all, orders, &delivery).verdicts;
        let mut verdicts = removals.split_off(list.missing.len());
        settle_updates(job, &verdicts, progress);
        let mut sums = sums_of(&delivery, list.missing.len());
        let open = open_positions(job, &verdicts);
        if !open.is_empty() {
            // What is sent once more may be something else by now.
            sums.retain(|at, _| !open.contains(at));
            self.prove(list, &open, orders, &mut verdicts).await?;
            settle_updates(job, &verdicts, progress);
        }
        self.remember(list, &verdicts, tick, &sums);
        if removes && delivery.witness.spares_missing {
            self.known.learn(Refusal::MissingArgs);
            let removals = job.removals.iter().map(|(id, _)| *id);
            progress.incomplete.extend(removals.chain(job.replaced.iter().map(|(id, _, _)| *id)));
            return Ok(());
        }
        if delivery.witness.skipped.is_some() {
            guard_removals(job, progress);
        }
        let removed = self.remove(list, removals).await?;
        settle_removals(job, &removed, progress);
        settle_parents(job, &verdicts, progress);
        Ok(())
    }

    /// Sends some entries of a list, and the directories on the way to them, once more in a session that proves them.
    pub(super) async fn prove(
        &mut self,
        list: &List,
        open: &[usize],
        orders: Orders,
        verdicts: &mut [Verdict],
    ) -> Result<(), Failure> {
        let (positions, entries) = some_entries(list, open);
        let lane = Lane { complete: false, ..orders.lane };
        let orders = Orders { lane, verify: true, acknowledge: true, ..Orders::default() };
        let proof = self.push(orders, entries.clone()).await?;
        for (verdict, at) in judge(&entries, orders, &proof).verdicts.into_iter().zip(positions) {
            verdicts[at] = verdict;
        }
        Ok(())
    }

    fn remember(&mut self, list: &List, verdicts: &[Verdict], tick: Tick, sums: &HashMap<usize, Sum>) {
        for name in &list.missing {
            self.recent.forget(name);
        }
        for (at, (entry, verdict)) in list.entries.iter().zip(verdicts).enumerate() {
            match verdict {
                Verdict::Done => {
                    self.recent.sent(&entry.name, &entry.meta, tick, sums.get(&at).copied());
                }
                _ => self.recent.forget(&entry.name),
            }
        }
    }
}

pub(super) fn path_of(name: &[u8]) -> RelPath {
    if name == ROOT { RelPath::root() } else { RelPath::new(name).unwrap_or_else(|_| RelPath::root()) }
}

/// Entries of a list and the directories on the way to them, with their positions.
fn some_entries(list: &List, wanted: &[usize]) -> (Vec<usize>, Vec<Entry>) {
    let mut names: HashSet<&[u8]> = HashSet::new();
    for &at in wanted {
        let name = &*list.entries[at].name;
        names.insert(name);
        names.extend(ancestors(name));
    }
    let some = list.entries.iter().enumerate().filter(|(_, entry)| names.contains(&*entry.name));
    some.map(|(at, entry)| (at, entry.clone().with_role(DirRole::Plain))).unzip()
}

/// The names of a list's files that may take long.
fn large_files(list: &List) -> impl Iterator<Item = &[u8]> {
    let is_large = |entry: &&Entry| entry.meta.is_file() && entry.meta.size >= LARGE;
    list.entries.iter().filter(is_large).map(|entry| &*entry.name)
}

/// Whether the files of a list are so large that acknowledging each costs little beside sending it again.
fn is_heavy(list: &List) -> bool {
    let files = || list.entries.iter().filter(|entry| entry.meta.is_file());
    let bytes: u64 = files().map(|entry| entry.meta.size).sum();
    bytes / (files().count() as u64).max(1) >= HEAVY
}

/// Files of this size on the average, in bytes: ten of them at a time, which is what the daemon asks for if it
/// acknowledges, keep a connection busy that takes 50 MB/s with 50 ms each way.
const HEAVY: u64 = 512 * 1024;

pub(super) fn positions_of<'a>(
    verdicts: &'a [Verdict],
    wanted: &'a Verdict,
) -> impl Iterator<Item = usize> + 'a {
    verdicts.iter().enumerate().filter(move |(_, verdict)| *verdict == wanted).map(|(at, _)| at)
}

/// The digests of what went over, by the place in the list behind so many removals.
fn sums_of(delivery: &Delivery, removals: usize) -> HashMap<usize, Sum> {
    let Some(checksum) = delivery.report.dialect.as_ref().map(|dialect| dialect.checksum) else {
        return HashMap::new();
    };
    let sums = delivery.witness.sums.iter();
    sums.filter_map(|(at, digest)| Some((at.checked_sub(removals)?, Sum { checksum, digest: *digest })))
        .collect()
}

/// The entries that facts wait for and that a session left open.
fn open_positions(job: &Job, verdicts: &[Verdict]) -> Vec<usize> {
    let waited = job.updates.iter().flat_map(|(_, positions)| positions.iter().copied());
    let open: BTreeSet<usize> = waited.filter(|&at| verdicts[at] == Verdict::Unknown).collect();
    open.into_iter().collect()
}

/// After a session that broke: what the daemon said it has is done but for the directories on the way, which are
/// compared; what it said it cannot write waits by itself.
fn salvage(job: &Job, all: &[Entry], broken: &Broken, removals: usize, progress: &mut Progress) {
    let accused = accused_entries(all, &broken.witness);
    let reason =
        |at: &usize| Some((path_of(&all[at + removals].name), accused.get(&(at + removals))?.clone()));
    for (id, positions) in &job.updates {
        if let Some(failure) = positions.iter().find_map(reason) {
            progress.failed.insert(*id, failure);
            progress.explained = true;
        } else if positions.iter().all(|at| broken.witness.has(at + removals)) {
            let dirs = positions.iter().map(|&at| path_of(parent(&job.list.entries[at].name)));
            let dirs: BTreeSet<RelPath> = dirs.collect();
            progress
                .replaced
                .entry(*id)
                .or_default()
                .extend(dirs.into_iter().map(|dir| Fact::Relist { dir }));
        } else {
            progress.incomplete.insert(*id);
        }
    }
}

fn settle_updates(job: &Job, verdicts: &[Verdict], progress: &mut Progress) {
    for (id, _) in &job.updates {
        progress.unsettle(*id);
    }
    for (id, positions) in &job.updates {
        let of_fact = || positions.iter().map(|&at| (at, &verdicts[at]));
        let failure = of_fact().find_map(|(at, verdict)| match verdict {
            Verdict::Failed(why) => Some((path_of(&job.list.entries[at].name), why.clone())),
            _ => None,
        });
        if let Some(failure) = failure {
            progress.failed.insert(*id, failure);
        } else if of_fact().all(|(_, verdict)| *verdict == Verdict::Done) {
            progress.done.insert(*id);
        } else if of_fact().all(|(_, verdict)| matches!(verdict, Verdict::Done | Verdict::Changed)) {
            progress.delivered.insert(*id);
        } else {
            progress.incomplete.insert(*id);
        }
    }
}

/// Directories that are in a list only because something below them is, and that failed themselves: they go on as
/// facts of their own, in the name of something below them.
fn settle_parents(job: &Job, verdicts: &[Verdict], progress: &mut Progress) {
    let waited: HashSet<usize> = job.updates.iter().flat_map(|(_, at)| at.iter().copied()).collect();
    let failed = |at: &usize| matches!(verdicts[*at], Verdict::Failed(_)) && !waited.contains(at);
    for at in (0..verdicts.len()).filter(failed) {
        let dir = &job.list.entries[at].name;
        let below = |name: &[u8]| ancestors(name).any(|way| way == &**dir);
        let update =
            job.updates.iter().find(|(_, at)| at.iter().any(|&at| below(&job.list.entries[at].name)));
        let removal = || job.removals.iter().find(|(_, name)| below(name)).map(|(id, _)| *id);
        if let Some(id) = update.map(|(id, _)| *id).or_else(removal) {
            let again = Fact::Touched { path: path_of(dir), data: false };
            progress.replaced.entry(id).or_default().push(again);
        }
    }
}

/// The entries of a list, for the log.
struct Names<'a>(&'a [Entry]);

impl std::fmt::Debug for Names<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries = self.0.iter().map(|e| (shown(&e.name), e.meta.mode, e.meta.mtime, e.meta.ino, e.dir));
        out.debug_list().entries(entries).finish()
    }
}

pub(super) fn parent(name: &[u8]) -> &[u8] {
    name.iter().rposition(|&byte| byte == b'/').map_or(ROOT, |at| &name[..at])
}
