//! Removing names: not more of them than may be, and finding out which fail.

use std::collections::{HashMap, HashSet};

use tokio::task::{JoinError, spawn_blocking};

use super::courier::{Courier, Orders};
use super::failure::Failure;
use super::guard::{Guard, count_names};
use super::judge::{Verdict, shown};
use super::progress::Progress;
use super::work::{Work, path_of};
use crate::plan::list::List;
use crate::plan::look::ancestors;
use crate::plan::names::Job;
use crate::session::{Entry, TextKind};

/// So many sessions are spent on finding out which removals of one list fail.
const REMOVAL_SESSIONS: usize = 64;

impl<C: Courier> Work<C> {
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
    pub(super) async fn exceeds(&mut self, names: usize) -> Result<bool, JoinError> {
        let exceeds = |guard: &mut Guard| guard.allowance().is_some_and(|most| names as u64 > most);
        if exceeds(&mut self.guard) && self.guard.needs_count() {
            self.count_names().await?;
        }
        Ok(exceeds(&mut self.guard))
    }

    pub(super) async fn count_names(&mut self) -> Result<(), JoinError> {
        let root = self.root.clone();
        let names = spawn_blocking(move || count_names(&root)).await?;
        self.guard.count(names);
        Ok(())
    }

    /// The reason of each removal of a list that fails. Those that the list's own session leaves open are tried once
    /// more, by halves.
    pub(super) async fn remove(
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
                let error = delivery.report.texts.iter().find(|t| t.kind == TextKind::TransferError);
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

/// The removals of a list wait for a person.
pub(super) fn guard_removals(job: &Job, progress: &mut Progress) {
    let replaced = job.replaced.iter().map(|(id, name, _)| (id, name));
    for (id, name) in job.removals.iter().map(|(id, name)| (id, name)).chain(replaced) {
        progress.guarded.insert(*id, (path_of(name), 1));
    }
}

pub(super) fn settle_removals(job: &Job, failed: &HashMap<Box<[u8]>, String>, progress: &mut Progress) {
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
