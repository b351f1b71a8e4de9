//! How the list reaches the daemon: whole, or directory by directory.

use std::sync::Arc;

use ebbtide_wire::flist::FileList;
use tokio::task;
use tokio::time::Instant;

use super::super::list;
use super::super::listings::{self, Lister, Ready};
use super::super::lists::{Lists, Parts, Whole};
use super::{Built, Driver, SessionErrorKind, wire};

/// Lists up to this length are built at once, longer ones on another thread.
const SHORT_LIST: usize = 1000;

impl Driver<'_> {
    /// Begins to list: directory by directory if the daemon takes that.
    pub(super) fn start_lister(&mut self) {
        let sums =
            self.client.dialect().filter(|_| self.options.server.checksum).map(|dialect| dialect.checksum);
        let Some(listings) = self.listings.take() else { return };
        if self.client.is_incremental() {
            self.lists = Lists::Parts(Parts::default());
            self.lister = Some(Lister::start(listings, self.options, &self.source, sums));
            return;
        }
        let (options, source) = (self.options.clone(), Arc::clone(&self.source));
        self.building = Some(task::spawn_blocking(move || {
            let all = listings::gather(listings);
            let list = list::build(&all.entries, &options, &source, sums)?;
            Ok(Box::new((list, Some(all))))
        }));
    }

    /// Whether the daemon will soon need more lists than are there.
    pub(super) fn wants_listings(&self) -> bool {
        self.lister.is_some() && self.ready.is_empty() && self.client.wants_list()
    }

    pub(super) fn on_listed(&mut self, ready: Option<Vec<Ready>>) -> Result<(), SessionErrorKind> {
        match ready {
            Some(ready) => self.ready.extend(ready),
            None => {
                self.lister = None;
                self.end_lists()?;
            }
        }
        Ok(())
    }

    /// Sends as many lists as the daemon needs for a while.
    pub(super) fn push_ready(&mut self) -> Result<(), SessionErrorKind> {
        if let Some(lister) = &self.lister {
            lister.hurry(self.client.is_short_of_lists());
        }
        while self.client.wants_list()
            && let Some(ready) = self.ready.pop_front()
        {
            self.push_part(ready)?;
        }
        Ok(())
    }

    fn push_part(&mut self, ready: Ready) -> Result<(), SessionErrorKind> {
        let Ready { dir, entries, problems, io_errors, broken, list } = ready;
        if broken {
            return Err(broken_listing());
        }
        let Lists::Parts(parts) = &mut self.lists else { return Ok(()) };
        let Some(next) = parts.next(&dir) else { return Ok(()) };
        self.tally.listed(&entries);
        self.observer.listed(&entries, &problems);
        self.client.add_io_errors(io_errors);
        let list = Arc::new(list.map_err(wire)?);
        let before = self.client.output_len();
        let pushed = self.client.push_list(next.number, Arc::clone(&list)).map_err(wire)?;
        self.tally.totals.list_bytes += (self.client.output_len() - before) as u64;
        parts.add(next, pushed, list, entries);
        Ok(())
    }

    /// All that was listed went out. Directories that were not listed count as empty.
    fn end_lists(&mut self) -> Result<(), SessionErrorKind> {
        while let Lists::Parts(parts) = &self.lists
            && let Some(dir) = parts.any_unlisted()
        {
            self.push_part(Ready::empty(dir))?;
        }
        self.client.end_lists().map_err(wire)
    }

    /// Builds the list: at once if it is short, else on another thread.
    pub(super) fn build_list(&mut self) -> Result<(), SessionErrorKind> {
        let Lists::Whole(whole) = &self.lists else { return Ok(()) };
        let sums =
            self.client.dialect().filter(|_| self.options.server.checksum).map(|dialect| dialect.checksum);
        if whole.entries.len() <= SHORT_LIST && sums.is_none() {
            let list = list::build(&whole.entries, self.options, &self.source, None).map_err(wire)?;
            return self.send_list(list);
        }
        let (entries, source) = (Arc::clone(&whole.entries), Arc::clone(&self.source));
        let options = self.options.clone();
        let build = move || Ok(Box::new((list::build(&entries, &options, &source, sums)?, None)));
        self.building = Some(task::spawn_blocking(build));
        Ok(())
    }

    pub(super) fn on_list(&mut self, built: Result<Built, task::JoinError>) -> Result<(), SessionErrorKind> {
        self.building = None;
        let built =
            built.map_err(|error| SessionErrorKind::Local(format!("building the list failed: {error}")))?;
        let (list, all) = *built.map_err(wire)?;
        if let Some(all) = all {
            if all.broken {
                return Err(broken_listing());
            }
            self.tally.listed(&all.entries);
            self.observer.listed(&all.entries, &all.problems);
            self.client.add_io_errors(all.io_errors());
            self.settles = true;
            self.lists = Lists::Whole(Whole::new(all.entries));
        }
        self.send_list(list)
    }

    fn send_list(&mut self, list: FileList) -> Result<(), SessionErrorKind> {
        let list = Arc::new(list);
        if let Lists::Whole(whole) = &mut self.lists {
            whole.list = Some(Arc::clone(&list));
        }
        self.list_began = Some((Instant::now(), self.bytes_made()));
        self.client.send_list(list).map_err(wire)
    }
}

fn broken_listing() -> SessionErrorKind {
    SessionErrorKind::Local("the tree cannot be listed as it was asked for".to_owned())
}
