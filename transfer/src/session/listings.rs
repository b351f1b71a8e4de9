//! A list that comes directory by directory, while the session runs.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ebbtide_wire::flist::FileList;
use ebbtide_wire::proto::Checksum;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::entry::{Entry, IoErrors};
use super::list::ListMaker;
use crate::options::PushOptions;
use crate::source::Source;
use crate::walk::Problem;

/// Gives the entries of one directory after the other.
///
/// The first listing is of the top (an empty path): the root of the transfer, `.`, with what is in it, or whatever
/// else stands at the top. Every other one is of a directory that an earlier listing had as an entry; a listing of
/// another directory is ignored. Their order is free. A directory without a listing counts as an empty one, so give
/// it the role [`DirRole::Plain`](super::DirRole::Plain), or what it holds at the destination is removed with delete.
pub trait Listings: Send {
    /// Calls `give` with each listing, until that returns `false`: nobody wants more of them. Runs on a thread of its
    /// own; `give` blocks while the session has enough.
    fn run(self: Box<Self>, give: &mut dyn FnMut(Listing) -> bool);
}

/// The entries of one directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// Its path; empty for the top.
    pub dir: Box<[u8]>,
    /// What is in it, in any order. Of several entries with one name one is sent.
    pub entries: Vec<Entry>,
    /// What could not be listed.
    pub problems: Vec<Problem>,
    /// What was listed is not what was meant, and the session must end before any of it is sent.
    pub broken: bool,
}

impl Listing {
    /// The I/O errors that its problems amount to.
    pub fn io_errors(&self) -> IoErrors {
        let mut errors = IoErrors::NONE;
        self.problems.iter().for_each(|problem| errors.add(problem.kind.io_errors()));
        errors
    }
}

/// A listing, ready to go out.
pub(super) struct Ready {
    pub(super) dir: Box<[u8]>,
    pub(super) entries: Arc<Vec<Entry>>,
    pub(super) problems: Vec<Problem>,
    pub(super) io_errors: IoErrors,
    pub(super) broken: bool,
    pub(super) list: Result<FileList, ebbtide_wire::Error>,
}

/// The session's end of the thread that lists. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Lister {
    ready: Receiver<Vec<Ready>>,
    /// The daemon may come to the end of its lists at any moment.
    hurry: Arc<AtomicBool>,
}

impl Lister {
    /// Starts the thread. With `sums`, every regular file is read for its checksum.
    pub(super) fn start(
        listings: Box<dyn Listings>,
        options: &PushOptions,
        source: &Arc<Source>,
        sums: Option<Checksum>,
    ) -> Lister {
        let (sender, ready) = mpsc::channel(GROUPS);
        let (options, source) = (options.clone(), Arc::clone(source));
        let hurry = Arc::new(AtomicBool::new(true));
        let hurried = Arc::clone(&hurry);
        tokio::task::spawn_blocking(move || {
            let mut groups = Groups { sender, hurry: hurried, group: Vec::new(), entries: 0 };
            let mut maker = ListMaker::new(&options, &source, sums);
            listings.run(&mut |listing| groups.add(make(&mut maker, listing)));
            groups.hand_over();
        });
        Lister { ready, hurry }
    }

    /// Says whether listings are to come one by one.
    pub(super) fn hurry(&self, hurry: bool) {
        self.hurry.store(hurry, Ordering::Relaxed);
    }

    /// Waits for the next listings; `None` when there are no more.
    pub(super) async fn next(&mut self) -> Option<Vec<Ready>> {
        self.ready.recv().await
    }
}

/// All listings as one: for a daemon that takes one list. A listing of a directory that no entry stands for is left
/// out, and of several entries with one name the first one stays, as it is with parts.
pub(super) fn gather(listings: Box<dyn Listings>) -> Listing {
    let mut all = Listing::default();
    let mut unlisted: HashSet<Box<[u8]>> = HashSet::from([Box::default()]);
    listings.run(&mut |mut listing| {
        all.broken |= listing.broken;
        if unlisted.remove(&listing.dir) {
            listing.entries.sort_by(|one, other| one.name.cmp(&other.name));
            listing.entries.dedup_by(|later, earlier| later.name == earlier.name);
            let dirs = listing.entries.iter().filter(|entry| entry.meta.is_dir() && *entry.name != *b".");
            unlisted.extend(dirs.map(|entry| entry.name.clone()));
            all.entries.append(&mut listing.entries);
            all.problems.append(&mut listing.problems);
        }
        !all.broken
    });
    all
}

fn make(maker: &mut ListMaker<'_>, listing: Listing) -> Ready {
    let list = maker.part(&listing.dir, &listing.entries);
    let io_errors = listing.io_errors();
    let Listing { dir, entries, problems, broken } = listing;
    Ready { dir, entries: Arc::new(entries), problems, io_errors, broken, list }
}

/// Small listings go over together, unless the session waits and the daemon nearly does.
struct Groups {
    sender: Sender<Vec<Ready>>,
    hurry: Arc<AtomicBool>,
    group: Vec<Ready>,
    /// Entries and listings in the group.
    entries: usize,
}

impl Groups {
    /// Whether more are wanted.
    fn add(&mut self, ready: Ready) -> bool {
        self.entries += ready.entries.len() + 1;
        self.group.push(ready);
        let waits =
            self.hurry.load(Ordering::Relaxed) && self.sender.capacity() == self.sender.max_capacity();
        if waits || self.entries >= GROUP_ENTRIES { self.hand_over() } else { true }
    }

    fn hand_over(&mut self) -> bool {
        self.entries = 0;
        self.sender.blocking_send(mem::take(&mut self.group)).is_ok()
    }
}

/// Groups that wait for the session.
const GROUPS: usize = 4;

/// A group goes over when it has this many entries and listings.
const GROUP_ENTRIES: usize = 1000;
