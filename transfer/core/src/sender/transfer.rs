//! Requests, answers and phases (protocol note, sections 7.1 to 7.4).

use std::collections::{BTreeMap, VecDeque};

use super::values::Values;
use super::{Basis, Iflags, Item, Ndx};
use crate::proto::IoErrors;
use crate::sender::DeleteStats;
use crate::wire::ndx::{DONE, NdxState};
use crate::wire::varint::put_vstring;

/// What is asked and not answered, and how far both sides have counted.
#[derive(Debug, Default)]
pub(super) struct Transfer {
    ndx_out: NdxState,
    /// Requests that wait for their answer.
    requests: BTreeMap<u32, Waiting>,
    /// The request whose answer is being written.
    open: Option<u32>,
    /// What is to be repeated once the open answer is complete and all values are there.
    held: VecDeque<Held>,
    /// Values of extended attributes.
    pub(super) values: Values,
    /// Bytes of block sums and names that requests and held items hold.
    retained: usize,
    /// Items, ends of phases and counts of deletions that arrived.
    pub(super) heads: u64,
    /// DONEs that arrived.
    pub(super) dones: u8,
    /// Whether the last of them is not answered.
    pub(super) done_waits: bool,
    /// Transfer errors that the daemon reported.
    pub(super) errors: u64,
    /// Our own I/O errors.
    pub(super) io_errors: IoErrors,
    /// Those that the daemon knows of.
    pub(super) io_errors_sent: IoErrors,
    /// The daemon's I/O errors.
    pub(super) daemon_io_errors: IoErrors,
    pub(super) deleted: Option<DeleteStats>,
}

/// Something of the daemon's that is repeated to it.
#[derive(Debug)]
enum Held {
    Item(Item),
    /// The end of an incremental list.
    Done,
}

/// What an answer repeats of its request.
#[derive(Debug)]
struct Waiting {
    iflags: Iflags,
    basis: Option<Basis>,
    xname: Option<Box<[u8]>>,
    xattrs: Option<u32>,
    /// Bytes of its block sums and its name.
    memory: usize,
}

impl Transfer {
    /// A request that the driver will answer.
    pub(super) fn add_request(&mut self, item: Item, memory: usize) {
        let Item { ndx, iflags, basis, xname, xattrs } = item;
        let memory = memory + name_len(xname.as_deref());
        self.retained += memory;
        let xname = xname.map(Vec::into_boxed_slice);
        self.requests.insert(ndx.0, Waiting { iflags, basis, xname, xattrs, memory });
    }

    /// Begins an answer: repeats the request. `false` when there is none, an answer is open, or values are awaited.
    pub(super) fn begin(&mut self, ndx: Ndx, out: &mut Vec<u8>) -> bool {
        if self.open.is_some() || self.values.is_pending() {
            return false;
        }
        let Some(waiting) = self.requests.get(&ndx.0) else { return false };
        put_head(&mut self.ndx_out, ndx, waiting.iflags, waiting.basis, waiting.xname.as_deref(), out);
        if let Some(set) = waiting.xattrs {
            self.values.put(set, out);
        }
        self.open = Some(ndx.0);
        true
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Ends the open answer. `false` when there is none.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(ndx) = self.open.take() else { return false };
        self.forget(ndx);
        self.put_held(out);
        true
    }

    /// Takes values of extended attributes. `false` when none were wanted, or another number of them.
    pub(super) fn give_values(&mut self, values: Vec<Option<Vec<u8>>>, out: &mut Vec<u8>) -> bool {
        let taken = self.values.give(values);
        self.put_held(out);
        taken
    }

    /// Repeats what was held up, if nothing holds it up any more.
    fn put_held(&mut self, out: &mut Vec<u8>) {
        while self.open.is_none()
            && !self.values.is_pending()
            && let Some(held) = self.held.pop_front()
        {
            match held {
                Held::Item(item) => {
                    self.retained -= name_len(item.xname.as_deref());
                    self.put_echo(&item, out);
                }
                Held::Done => self.put_done(out),
            }
        }
    }

    /// Requests without an answer.
    pub(super) fn unanswered(&self) -> usize {
        self.requests.len()
    }

    /// Forgets a request whose answer was not begun. `false` when there is none.
    pub(super) fn drop_request(&mut self, ndx: Ndx) -> bool {
        let set = self.requests.get(&ndx.0).and_then(|waiting| waiting.xattrs);
        let dropped = self.open != Some(ndx.0) && self.forget(ndx.0);
        if let Some(set) = set.filter(|set| dropped && self.values.owes(*set) && !self.is_awaited(*set)) {
            self.values.lose(set);
        }
        dropped
    }

    /// Whether an item with this set of extended attributes is still to go out.
    fn is_awaited(&self, set: u32) -> bool {
        let answers = self.requests.iter().filter(|(ndx, _)| self.open != Some(**ndx));
        let held = |held: &Held| matches!(held, Held::Item(item) if item.xattrs == Some(set));
        answers.into_iter().any(|(_, waiting)| waiting.xattrs == Some(set)) || self.held.iter().any(held)
    }

    /// Repeats an item that wants no data, now or once the open answer is complete and all values are there.
    pub(super) fn echo(&mut self, item: &Item, out: &mut Vec<u8>) {
        self.retained += name_len(item.xname.as_deref());
        self.held.push_back(Held::Item(item.clone()));
        self.put_held(out);
    }

    /// Says that the daemon's news of the end of a list was heard, in its turn.
    pub(super) fn echo_list_done(&mut self, out: &mut Vec<u8>) {
        self.held.push_back(Held::Done);
        self.put_held(out);
    }

    /// An index that stands for no entry.
    pub(super) fn put_index(&mut self, index: i32, out: &mut Vec<u8>) {
        self.ndx_out.put(out, index);
    }

    /// Whether a request for this entry has no answer yet.
    pub(super) fn is_waiting(&self, ndx: Ndx) -> bool {
        self.requests.contains_key(&ndx.0)
    }

    /// The lowest index that is requested and has no answer yet.
    pub(super) fn lowest_waiting(&self) -> Option<u32> {
        self.requests.keys().next().copied()
    }

    pub(super) fn put_done(&mut self, out: &mut Vec<u8>) {
        self.ndx_out.put(out, DONE);
    }

    /// Whether some request has no answer yet.
    pub(super) fn is_busy(&self) -> bool {
        !self.requests.is_empty() || !self.held.is_empty() || self.values.is_pending()
    }

    /// Bytes that requests and held items hold.
    pub(super) fn retained(&self) -> usize {
        self.retained + self.held.len() * size_of::<Held>() + self.values.retained()
    }

    fn put_echo(&mut self, item: &Item, out: &mut Vec<u8>) {
        put_head(&mut self.ndx_out, item.ndx, item.iflags, item.basis, item.xname.as_deref(), out);
        if let Some(set) = item.xattrs {
            self.values.put(set, out);
        }
    }

    fn forget(&mut self, ndx: u32) -> bool {
        let Some(waiting) = self.requests.remove(&ndx) else { return false };
        self.retained -= waiting.memory;
        true
    }
}

fn name_len(xname: Option<&[u8]>) -> usize {
    xname.map_or(0, <[u8]>::len)
}

fn put_head(
    state: &mut NdxState,
    ndx: Ndx,
    iflags: Iflags,
    basis: Option<Basis>,
    xname: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    // Lossless: indexes arrived as positive ints.
    state.put(out, ndx.0 as i32);
    out.extend_from_slice(&iflags.0.to_le_bytes());
    if let Some(basis) = basis {
        out.push(basis.0);
    }
    if let Some(xname) = xname {
        put_vstring(out, xname);
    }
}
