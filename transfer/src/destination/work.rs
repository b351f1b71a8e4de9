//! Working off one take: plan it, send it, and find out what is done.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use ebbtide_feed::{Fact, RelPath};
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::account::Account;
use super::courier::{Broken, Courier, Delivery, Orders, Share};
use super::failure::Failure;
use super::findings::Findings;
use super::guard::{Guard, count_names};
use super::judge::{Verdict, accused_entries, judge, shown};
use super::known::Known;
use super::progress::Progress;
use super::refusal::Refusal;
use crate::ledger::{DestinationId, Ledger, LinkNotes};
use crate::plan::list::{Lane, List};
use crate::plan::look::{Looker, ROOT, ancestors};
use crate::plan::names::aside::Aside;
use crate::plan::names::renames::{Origins, Renames};
use crate::plan::names::{Job, Plan, Sights};
use crate::plan::pace::{LARGE, Pace};
use crate::plan::recent::{Recent, Sum, Tick};
use crate::plan::tree::{Chunk, Start, Tree};
use crate::plan::{Rules, aliases};
use crate::session::{DirRole, Entry};
use crate::source::Source;

/// So many facts are looked at on the spot; more of them on another thread.
const FEW: usize = 64;

/// So many sessions are spent on finding out which removals of one list fail.
const REMOVAL_SESSIONS: usize = 64;

/// So often the files that broke the session of one list are kept back and the rest is tried again.
const KEPT_BACK: usize = 16;

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
        if !trees.is_empty() {
            sleep_until(self.settled_at).await;
        }
        if !trees.is_empty() {
            self.look_whether_empty();
        }
        for ignore_times in [false, true] {
            self.send_tree(&trees, ignore_times, facts, progress).await?;
        }
        Ok(())
    }

    /// What was held only because the source had no entries is looked at again when it has some.
    fn look_whether_empty(&mut self) {
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

    /// Keeps back the removals of a list if they are too many.
    pub(super) async fn hold_removals(
        &mut self,
        job: &mut Job,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        if self.exceeds(job.list.missing.len()).await? {
            guard_removals(job, progress);
            job.removals.clear();
            job.replaced.clear();
            job.list.missing.clear();
        }
        Ok(())
    }

    /// Whether so many names are more than may be removed.
    async fn exceeds(&mut self, names: usize) -> Result<bool, JoinError> {
        let exceeds = |guard: &mut Guard| guard.allowance().is_some_and(|most| names as u64 > most);
        if exceeds(&mut self.guard) && self.guard.needs_count() {
            self.count_names().await?;
        }
        Ok(exceeds(&mut self.guard))
    }

    async fn count_names(&mut self) -> Result<(), JoinError> {
        let root = self.root.clone();
        let names = spawn_blocking(move || count_names(&root)).await?;
        self.guard.count(names);
        Ok(())
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
    async fn prove(
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

    /// The reason of each removal of a list that fails. Those that the list's own session leaves open are tried once
    /// more, by halves.
    async fn remove(
        &mut self,
        list: &List,
        verdicts: Vec<Verdict>,
    ) -> Result<HashMap<Box<[u8]>, String>, Failure> {
        let mut failed = HashMap::new();
        let mut open = Vec::new();
        for (name, verdict) in list.missing.iter().zip(verdicts) {
            match verdict {
                Verdict::Failed(why) if is_spared(why.as_bytes()) => {}
                Verdict::Failed(why) => drop(failed.insert(name.clone(), why)),
                Verdict::Unknown => open.push(name.clone()),
                _ => {}
            }
        }
        let mut groups = vec![open];
        for _ in 0..REMOVAL_SESSIONS {
            let Some(mut names) = groups.pop() else { break };
            if names.is_empty() {
                continue;
            }
            let orders = Orders { removes: true, ..Orders::default() };
            let entries = removal_entries(list, &names);
            let delivery = self.push(orders, entries).await?;
            if !delivery.report.partial {
                continue;
            }
            if names.len() == 1 {
                let error =
                    delivery.report.texts.iter().find(|t| t.kind == crate::session::TextKind::TransferError);
                if error.is_some_and(|text| is_spared(&text.bytes)) {
                    continue;
                }
                let why = error.map_or_else(|| "it cannot be removed".to_owned(), |text| shown(&text.bytes));
                failed.insert(names.remove(0), why);
                continue;
            }
            groups.push(names.split_off(names.len() / 2));
            groups.push(names);
        }
        let untried = groups.into_iter().flatten();
        failed.extend(untried.map(|name| (name, "many removals beside it fail".to_owned())));
        Ok(failed)
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

    /// Compares directories, list after list.
    async fn send_tree(
        &mut self,
        starts: &[Start],
        ignore_times: bool,
        facts: &[(u32, Fact)],
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let without_large = !matches!(self.aside, Aside::Never);
        let mut tree = Tree::new(Arc::clone(&self.source), starts, ignore_times).without_large(without_large);
        // The next list is made while a session runs: at most three are in memory.
        let (made, mut chunks) = mpsc::channel(1);
        let walk = spawn_blocking(move || {
            while let Some(chunk) = tree.next_chunk() {
                if made.blocking_send(chunk).is_err() {
                    return;
                }
            }
        });
        let mut findings = Findings::default();
        while let Some(chunk) = chunks.recv().await {
            self.send_chunk(chunk, &mut findings).await?;
        }
        // Without this a walk that ended in a panic would pass for one that came to its end.
        walk.await?;
        self.find_unknown(starts, &mut findings).await?;
        findings.settle(starts, ignore_times, facts, progress);
        Ok(())
    }

    /// Looks for names that nobody knows of inodes with several names.
    async fn find_unknown(&self, starts: &[Start], findings: &mut Findings) -> Result<(), Failure> {
        let unknown = findings.unknown(starts);
        if unknown.is_empty() {
            return Ok(());
        }
        let root = self.root.clone();
        let mut found = spawn_blocking(move || aliases::find(&root, &unknown)).await?;
        let on_record = self.ledger.links().inodes(self.mirror, found.iter().map(|(_, path)| path))?;
        let on_record: HashSet<_> =
            on_record.into_iter().map(|(path, inode)| (inode, path.clone())).collect();
        found.retain(|name| !on_record.contains(name));
        findings.found(found);
        Ok(())
    }

    async fn send_chunk(&mut self, mut chunk: Chunk, findings: &mut Findings) -> Result<(), Failure> {
        if self.rules.hard_links {
            chunk.add_links(&self.ledger.links(), self.mirror)?;
        }
        findings.take_in(&mut chunk);
        if chunk.list.is_empty() {
            return Ok(());
        }
        let orders = Orders { lane: chunk.list.lane, ..Orders::default() };
        let delivery = self.compare(orders, &mut chunk.list.entries).await?;
        let entries = &chunk.list.entries;
        let mut judgement = judge(entries, orders, &delivery);
        let open: Vec<usize> = positions_of(&judgement.verdicts, &Verdict::Unknown).collect();
        if !open.is_empty() {
            self.prove(&chunk.list, &open, orders, &mut judgement.verdicts).await?;
        }
        for entry in entries {
            self.recent.forget(&entry.name);
        }
        if let Some(skipped) = delivery.witness.skipped {
            findings.guard(&chunk, skipped);
        }
        findings.judge(&chunk, entries, &judgement);
        Ok(self.ledger.note_links(self.mirror, &chunk.notes)?)
    }

    /// One session with a list of directories. A file that breaks it, such as one too large for the destination's
    /// disk, is kept back from the next try and goes on by itself: what is in the same directories need not wait.
    async fn compare(&mut self, orders: Orders, entries: &mut [Entry]) -> Result<Delivery, Failure> {
        for _ in 0..KEPT_BACK {
            let broken = match self.push(orders, entries.to_vec()).await {
                Ok(delivery) => return Ok(delivery),
                Err(broken) => broken,
            };
            let accused = accused_entries(entries, &broken.witness);
            let may_break = |at: &&usize| entries[**at].meta.is_file() && !entries[**at].withheld;
            let fresh: Vec<usize> = accused.keys().filter(may_break).copied().collect();
            if fresh.is_empty() {
                return Err(broken.into());
            }
            for at in fresh {
                tracing::debug!(name = %shown(&entries[at].name), why = %broken.error, "a file is kept back");
                entries[at].withheld = true;
            }
        }
        Ok(self.push(orders, entries.to_vec()).await?)
    }
}

/// Whether a daemon's own filter rules protect a name. rsync's deletion leaves such names alone without a word.
fn is_spared(text: &[u8]) -> bool {
    text.windows(REFUSED.len()).any(|part| part == REFUSED)
}

/// Peer: rsync 3.5.0 generator.c, for a name that the module's `exclude` or `filter` hides.
const REFUSED: &[u8] = b"daemon refused to receive ";

/// Some removals of a list and the directories on the way to them.
fn removal_entries(list: &List, names: &[Box<[u8]>]) -> Vec<Entry> {
    let parents: HashSet<&[u8]> = names.iter().flat_map(|name| ancestors(name)).collect();
    let parents = list.entries.iter().filter(|entry| parents.contains(&*entry.name)).cloned();
    names.iter().map(|name| Entry::missing(name.clone())).chain(parents).collect()
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

fn positions_of<'a>(verdicts: &'a [Verdict], wanted: &'a Verdict) -> impl Iterator<Item = usize> + 'a {
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

/// The removals of a list wait for a person.
fn guard_removals(job: &Job, progress: &mut Progress) {
    let replaced = job.replaced.iter().map(|(id, name, _)| (id, name));
    for (id, name) in job.removals.iter().map(|(id, name)| (id, name)).chain(replaced) {
        progress.guarded.insert(*id, (path_of(name), 1));
    }
}

fn settle_removals(job: &Job, failed: &HashMap<Box<[u8]>, String>, progress: &mut Progress) {
    for (id, name) in &job.removals {
        match failed.get(name) {
            Some(why) => drop(progress.failed.insert(*id, (path_of(name), why.clone()))),
            None => drop(progress.done.insert(*id)),
        }
    }
    for (id, name, then) in &job.replaced {
        match failed.get(name) {
            Some(why) => drop(progress.failed.insert(*id, (path_of(name), why.clone()))),
            None => progress.replaced.entry(*id).or_default().push(then.clone()),
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
