//! Working off one take: plan it, send it, and find out what is done.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ebbtide_feed::{Fact, RelPath};
use roaring::RoaringBitmap;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use super::account::Account;
use super::blame::blamed;
use super::courier::{Courier, Delivery, Orders};
use super::failure::Failure;
use super::judge::{Judgement, Verdict, judge, shown};
use crate::ledger::{Ledger, LinkNotes};
use crate::plan::Rules;
use crate::plan::list::List;
use crate::plan::look::{Looker, ROOT, ancestors};
use crate::plan::names::{Job, Plan, Sights};
use crate::plan::recent::{Recent, Tick};
use crate::plan::tree::{Chunk, Start, Tree};
use crate::session::Entry;
use crate::source::Source;

/// So many facts are looked at on the spot; more of them on another thread.
const FEW: usize = 64;

/// So many sessions are spent on finding out which removals of one list fail.
const REMOVAL_SESSIONS: usize = 64;

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
    /// Something of these is neither sent nor failed: they are looked at again.
    incomplete: RoaringBitmap,
}

impl Progress {
    /// A fact with several parts is done when all of them are.
    fn resolve(&mut self) {
        let failed: RoaringBitmap = self.failed.keys().copied().collect();
        self.delivered -= &self.incomplete | &failed;
        let open = &self.incomplete | &failed | &self.delivered;
        self.replaced.retain(|id, _| !open.contains(*id));
        self.done -= open | self.replaced.keys().copied().collect::<RoaringBitmap>();
    }
}

/// What works for one destination, take after take.
pub(crate) struct Work<C> {
    pub(crate) courier: Arc<C>,
    pub(crate) source: Arc<Source>,
    pub(crate) ledger: Ledger,
    /// Index of the mirror.
    pub(crate) mirror: usize,
    pub(crate) rules: Rules,
    pub(crate) recent: Recent,
    pub(crate) account: Account,
    /// No directory is compared before this: an earlier session may still be running at the daemon.
    pub(crate) settled_at: Instant,
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
        progress.resolve();
        if end.is_err() {
            self.recent.clear();
        }
        end
    }

    async fn work(&mut self, facts: &Arc<Vec<(u32, Fact)>>, progress: &mut Progress) -> Result<(), Failure> {
        let (plan, tick) = self.plan(facts).await?;
        let Plan { lists, trees, done, failed, notes } = plan;
        progress.done |= done;
        progress.failed.extend(failed.into_iter().map(|(id, path, why)| (id, (path, why))));
        for job in lists {
            self.send_names(job, tick, progress).await?;
        }
        progress.resolve();
        self.note(&notes, progress)?;
        if !trees.is_empty() {
            sleep_until(self.settled_at).await;
        }
        for ignore_times in [false, true] {
            self.send_tree(&trees, ignore_times, facts, progress).await?;
        }
        Ok(())
    }

    /// Looks at the names of the facts, and makes the lists.
    async fn plan(&mut self, facts: &Arc<Vec<(u32, Fact)>>) -> Result<(Plan, Tick), Failure> {
        let (looker, rules) = (Looker::new(Arc::clone(&self.source)), self.rules);
        let (links, mirror) = (self.ledger.links(), self.mirror);
        let (facts, mut recent) = (Arc::clone(facts), std::mem::take(&mut self.recent));
        let is_short = facts.len() <= FEW;
        let make = move || {
            let sights = Sights::new(&facts, looker, rules);
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

    async fn push(&self, orders: Orders, entries: Vec<Entry>) -> Result<Delivery, Failure> {
        tracing::trace!(?orders, names = ?Names(&entries), "session");
        let delivery = self.courier.push(orders, entries, Arc::clone(&self.source)).await?;
        let report = &delivery.report;
        tracing::trace!(outcomes = ?report.outcomes, partial = report.partial, "session done");
        self.account.session(&delivery.report);
        Ok(delivery)
    }

    /// Sends one list of names.
    async fn send_names(&mut self, job: Job, tick: Tick, progress: &mut Progress) -> Result<(), Failure> {
        let list = &job.list;
        let orders = Orders { lane: list.lane, removes: !list.missing.is_empty(), verify: false };
        let all = list.to_entries();
        let delivery = self.push(orders, all).await?;
        let removed = if delivery.report.partial { self.remove(list).await? } else { HashMap::new() };
        let verdicts = self.verdicts(list, orders, &delivery).await?;
        self.remember(list, &verdicts, tick);
        settle_updates(&job, &verdicts, progress);
        settle_removals(&job, &removed, progress);
        Ok(())
    }

    /// The verdicts about the entries of a list, after a session that proves them if the first one does not.
    async fn verdicts(
        &self,
        list: &List,
        orders: Orders,
        delivery: &Delivery,
    ) -> Result<Vec<Verdict>, Failure> {
        let first = judge(&list.to_entries(), orders, delivery).verdicts.split_off(list.missing.len());
        if !first.contains(&Verdict::Unknown) {
            return Ok(first);
        }
        let orders = Orders { removes: false, verify: true, ..orders };
        let proof = self.push(orders, list.entries.clone()).await?;
        let second = judge(&list.entries, orders, &proof).verdicts;
        Ok(second)
    }

    /// Finds out which removals of a list fail, by halves; the reason of each that does.
    async fn remove(&self, list: &List) -> Result<HashMap<Box<[u8]>, String>, Failure> {
        let mut failed = HashMap::new();
        let mut groups = vec![list.missing.clone()];
        for _ in 0..REMOVAL_SESSIONS {
            let Some(mut names) = groups.pop() else { break };
            if names.is_empty() {
                continue;
            }
            let orders = Orders { lane: Default::default(), removes: true, verify: false };
            let delivery = self.push(orders, removal_entries(list, &names)).await?;
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

    fn remember(&mut self, list: &List, verdicts: &[Verdict], tick: Tick) {
        for name in &list.missing {
            self.recent.forget(name);
        }
        for (entry, verdict) in list.entries.iter().zip(verdicts) {
            match verdict {
                // Without -I a file may have been taken for equal because of its size and mtime.
                Verdict::Done => {
                    let data = list.lane.ignore_times || !entry.meta.is_file();
                    self.recent.sent(&entry.name, &entry.meta, tick, data);
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
        let mut tree = Tree::new(Arc::clone(&self.source), starts, ignore_times);
        let mut findings = Findings::default();
        loop {
            let next;
            (next, tree) = spawn_blocking(move || (tree.next_chunk(), tree)).await?;
            let Some(chunk) = next else { break };
            self.send_chunk(chunk, &mut findings).await?;
        }
        findings.settle(starts, ignore_times, facts, progress);
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
        let orders = Orders { lane: chunk.list.lane, removes: false, verify: false };
        let entries = chunk.list.to_entries();
        let delivery = self.push(orders, entries.clone()).await?;
        let mut judgement = judge(&entries, orders, &delivery);
        if judgement.verdicts.contains(&Verdict::Unknown) {
            let orders = Orders { verify: true, ..orders };
            let proof = self.push(orders, entries.clone()).await?;
            judgement = judge(&entries, orders, &proof);
        }
        for entry in &entries {
            self.recent.forget(&entry.name);
        }
        findings.judge(&chunk, &entries, &judgement);
        Ok(self.ledger.note_links(self.mirror, &chunk.notes)?)
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

fn path_of(name: &[u8]) -> RelPath {
    if name == ROOT { RelPath::root() } else { RelPath::new(name).unwrap_or_else(|_| RelPath::root()) }
}

fn settle_updates(job: &Job, verdicts: &[Verdict], progress: &mut Progress) {
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

/// What came up while directories were compared.
#[derive(Default)]
struct Findings {
    failed: BTreeMap<u32, (RelPath, String)>,
    successors: BTreeMap<u32, HashSet<Fact>>,
}

impl Findings {
    fn take_in(&mut self, chunk: &mut Chunk) {
        self.failed.extend(chunk.failed.drain(..).map(|(id, path, why)| (id, (path, why))));
        for (id, fact) in chunk.successors.drain(..) {
            self.successors.entry(id).or_default().insert(fact);
        }
    }

    fn judge(&mut self, chunk: &Chunk, entries: &[Entry], judgement: &Judgement) {
        for (entry, verdict) in entries.iter().zip(&judgement.verdicts) {
            if *verdict != Verdict::Done
                && let Some(owner) = chunk.owner(&entry.name)
            {
                let again = Fact::Touched { path: path_of(&entry.name), data: !entry.meta.is_dir() };
                self.successors.entry(owner).or_default().insert(again);
            }
        }
        for text in &judgement.unexplained {
            self.blame(chunk, text);
        }
    }

    /// An error that names no entry: something in one of the directories cannot be removed.
    fn blame(&mut self, chunk: &Chunk, text: &[u8]) {
        let listed = |name: &[u8]| chunk.owners.contains_key(parent(name));
        match blamed(text, |name| name != ROOT && listed(name)) {
            Some(name) => {
                let dir = parent(&name);
                let again = Fact::Relist { dir: path_of(dir) };
                if let Some(&owner) = chunk.owners.get(dir) {
                    self.successors.entry(owner).or_default().insert(again);
                }
            }
            None => {
                for (dir, owner) in &chunk.owners {
                    self.failed.entry(*owner).or_insert_with(|| (path_of(dir), shown(text)));
                }
            }
        }
    }

    /// Settles the facts of the directories that were compared.
    fn settle(
        mut self,
        starts: &[Start],
        ignore_times: bool,
        facts: &[(u32, Fact)],
        progress: &mut Progress,
    ) {
        let facts: HashMap<u32, &Fact> = facts.iter().map(|(id, fact)| (*id, fact)).collect();
        for start in starts.iter().filter(|start| start.ignore_times() == ignore_times) {
            let id = start.fact();
            let successors: Vec<Fact> = self.successors.remove(&id).unwrap_or_default().into_iter().collect();
            if let Some(failure) = self.failed.remove(&id) {
                progress.failed.insert(id, failure);
            } else if successors.iter().any(|fact| Some(&fact) == facts.get(&id)) {
                let why = "something in it cannot be brought up to date".to_owned();
                progress.failed.insert(id, (start.dir().clone(), why));
            } else if successors.is_empty() {
                progress.done.insert(id);
            } else {
                progress.replaced.insert(id, successors);
            }
        }
    }
}

fn parent(name: &[u8]) -> &[u8] {
    name.iter().rposition(|&byte| byte == b'/').map_or(ROOT, |at| &name[..at])
}
