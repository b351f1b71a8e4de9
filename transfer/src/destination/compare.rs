//! Comparing directories: list after list, while the next one is made.

use std::collections::HashSet;
use std::sync::Arc;

use ebbtide_feed::Fact;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep_until;

use super::courier::{Courier, Delivery, Orders};
use super::failure::Failure;
use super::findings::Findings;
use super::judge::{Verdict, accused_entries, judge, shown};
use super::progress::Progress;
use super::work::{Work, positions_of};
use crate::plan::aliases;
use crate::plan::names::aside::Aside;
use crate::plan::tree::{Chunk, Start, Tree};
use crate::session::Entry;

/// So often the files that broke the session of one list are kept back and the rest is tried again.
const KEPT_BACK: usize = 16;

impl<C: Courier> Work<C> {
    /// Compares directories, list after list.
    pub(super) async fn send_trees(
        &mut self,
        starts: &[Start],
        facts: &[(u32, Fact)],
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        if starts.is_empty() {
            return Ok(());
        }
        sleep_until(self.settled_at).await;
        self.look_whether_empty();
        for ignore_times in [false, true] {
            let findings = self.send_tree(starts, ignore_times).await?;
            findings.settle(starts, ignore_times, facts, progress);
        }
        Ok(())
    }

    async fn send_tree(&mut self, starts: &[Start], ignore_times: bool) -> Result<Findings, Failure> {
        let without_large = !matches!(self.aside, Aside::Never);
        let tree = Tree::new(Arc::clone(&self.source), starts, ignore_times).without_large(without_large);
        let (mut chunks, walk) = list(tree);
        let mut findings = Findings::default();
        while let Some(chunk) = chunks.recv().await {
            self.send_chunk(chunk, &mut findings).await?;
        }
        walk.await?;
        self.find_unknown(starts, &mut findings).await?;
        Ok(findings)
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

/// Lists directories on another thread: the next list is made while a session runs, so at most three are in memory. A
/// walk that ended in a panic would pass for one that came to its end, so it is to be awaited.
pub(super) fn list(mut tree: Tree) -> (mpsc::Receiver<Chunk>, JoinHandle<()>) {
    let (made, chunks) = mpsc::channel(1);
    let walk = spawn_blocking(move || {
        while let Some(chunk) = tree.next_chunk() {
            if made.blocking_send(chunk).is_err() {
                return;
            }
        }
    });
    (chunks, walk)
}
