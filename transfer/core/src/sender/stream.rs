//! The daemon's data stream: items, block sums, ends of phases (protocol note, sections 7.1 and 7.2).

use std::sync::Arc;

use super::client::{Client, State};
use super::{Basis, DeleteStats, Event, Iflags, Item, Ndx, Outcome, Request, ValuesRequest};
use crate::Stage;
use crate::delta::{BlockSums, MAX_SUM_BYTES, SumHeader};
use crate::error::ErrorKind;
use crate::flist::Xattrs;
use crate::proto::{Append, CompatFlags, Protocol};
use crate::wire::mux::Code;
use crate::wire::ndx::{DEL_STATS, DONE, NdxState};
use crate::wire::varint::{varint, vstring};
use crate::wire::{Reader, WireError};

/// Bytes of the stream that were not understood yet.
#[derive(Debug, Default)]
pub(super) struct Stream {
    data: Vec<u8>,
    /// Bytes at the front of `data` that are done with.
    at: usize,
    ndx: NdxState,
    /// The request whose block sums are arriving.
    sums: Option<Arriving>,
    /// What most requests come with.
    no_sums: Arc<BlockSums>,
}

#[derive(Debug)]
struct Arriving {
    item: Item,
    /// Whether the first answer failed its checksum.
    redo: bool,
    header: SumHeader,
    bytes: Vec<u8>,
    /// Bytes that have not arrived.
    missing: u64,
    /// Whether they are kept, or there are too many of them.
    kept: bool,
}

/// What stands at the front of the stream.
enum Head {
    Done,
    DeleteStats(DeleteStats),
    Item {
        index: i32,
        iflags: Iflags,
        basis: Option<Basis>,
        xname: Option<Vec<u8>>,
        /// Numbers of attributes that are asked for; `None` where the item has no place for them.
        xattrs: Option<Vec<u32>>,
        header: Option<SumHeader>,
    },
}

/// What of an item's form depends on the session.
#[derive(Clone, Copy, Debug)]
struct Form {
    dry_run: bool,
    xattrs: bool,
    /// A hard link that was made asks for no values.
    xattr_optim: bool,
}

impl Stream {
    pub(super) fn push(&mut self, data: &[u8]) {
        self.data.drain(..self.at);
        self.at = 0;
        self.data.extend_from_slice(data);
    }

    /// Bytes that wait for something of ours. Block sums that are arriving are not among them: to stop reading would
    /// keep them incomplete for ever.
    pub(super) fn waiting(&self) -> usize {
        self.data.len() - self.at
    }

    /// The next head; `None` when it has not all arrived.
    fn head(&mut self, form: Form) -> Result<Option<Head>, ErrorKind> {
        let mut reader = Reader::new(&self.data[self.at..]);
        let mut ndx = self.ndx;
        match read_head(&mut reader, &mut ndx, form) {
            Ok(head) => {
                self.at += reader.position();
                self.ndx = ndx;
                Ok(Some(head))
            }
            Err(WireError::Short) => Ok(None),
            Err(WireError::Malformed(why)) => Err(ErrorKind::malformed("request", why)),
        }
    }

    /// The request whose block sums are complete now.
    fn arrived(&mut self) -> Option<Arriving> {
        let sums = self.sums.as_mut()?;
        let rest = &self.data[self.at..];
        let here = rest.len().min(usize::try_from(sums.missing).unwrap_or(usize::MAX));
        if sums.kept {
            sums.bytes.extend_from_slice(&rest[..here]);
        }
        sums.missing -= here as u64;
        self.at += here;
        if sums.missing == 0 { self.sums.take() } else { None }
    }
}

fn read_head(reader: &mut Reader<'_>, ndx: &mut NdxState, form: Form) -> Result<Head, WireError> {
    match ndx.get(reader)? {
        DONE => Ok(Head::Done),
        DEL_STATS => read_delete_stats(reader).map(Head::DeleteStats),
        index if index < 0 => Err(WireError::Malformed("index is negative and none of the special ones")),
        index => {
            let iflags = Iflags(reader.u16()?);
            let basis = if iflags.has(Iflags::BASIS_TYPE_FOLLOWS) { Some(Basis(reader.u8()?)) } else { None };
            let named = iflags.has(Iflags::XNAME_FOLLOWS);
            let xname = if named { Some(vstring(reader, MAX_XNAME)?.to_vec()) } else { None };
            let xattrs = if form.asks_for_values(iflags) { Some(read_numbers(reader)?) } else { None };
            let wants_data = iflags.has(Iflags::TRANSFER) && !form.dry_run;
            let header = if wants_data { Some(SumHeader::read(reader)?) } else { None };
            Ok(Head::Item { index, iflags, basis, xname, xattrs, header })
        }
    }
}

impl Form {
    fn asks_for_values(self, iflags: Iflags) -> bool {
        let linked = iflags.has(Iflags::XNAME_FOLLOWS) && iflags.has(Iflags::LOCAL_CHANGE);
        self.xattrs && iflags.has(Iflags::XATTR) && !self.dry_run && !(self.xattr_optim && linked)
    }
}

/// Ascending numbers as their differences, up to a 0.
fn read_numbers(reader: &mut Reader<'_>) -> Result<Vec<u32>, WireError> {
    let mut numbers: Vec<u32> = Vec::new();
    loop {
        let last = numbers.last().copied().unwrap_or(0);
        match varint(reader)? {
            0 => return Ok(numbers),
            step @ 1..=MAX_XATTRS if last + step as u32 <= MAX_XATTRS as u32 => {
                numbers.push(last + step as u32);
            }
            _ => return Err(WireError::Malformed("number of an extended attribute is none")),
        }
    }
}

fn read_delete_stats(reader: &mut Reader<'_>) -> Result<DeleteStats, WireError> {
    let mut count = || {
        let count = varint(reader)?;
        u32::try_from(count).map_err(|_| WireError::Malformed("count of deletions is negative"))
    };
    Ok(DeleteStats {
        files: count()?,
        dirs: count()?,
        symlinks: count()?,
        devices: count()?,
        specials: count()?,
    })
}

impl Client {
    /// Goes on with the stream as far as it has arrived and answers allow.
    pub(super) fn read_stream(&mut self) -> Result<(), ErrorKind> {
        while self.state == State::Frames {
            if self.transfer.done_waits && !self.answer_done() {
                break;
            }
            if self.state != State::Frames {
                break;
            }
            if self.stream.sums.is_some() {
                let Some(arrived) = self.stream.arrived() else { break };
                let Arriving { item, redo, header, bytes, kept, .. } = arrived;
                let sums = if kept { BlockSums::new(header, bytes) } else { None };
                self.request(item, redo, sums.unwrap_or_default());
                continue;
            }
            let head = self.stream.head(self.form())?;
            if head.is_some() {
                self.count_head()?;
            }
            match head {
                None => break,
                Some(Head::Done) => self.handle_done()?,
                Some(Head::DeleteStats(stats)) => {
                    self.transfer.deleted = Some(stats);
                    self.events.push_back(Event::DeleteStats(stats));
                }
                Some(Head::Item { index, iflags, basis, xname, xattrs, header }) => {
                    let ndx = self.known_index(index)?;
                    let xattrs = xattrs.map(|numbers| self.ask_values(ndx, numbers)).transpose()?;
                    self.handle_item(Item { ndx, iflags, basis, xname, xattrs }, header)?;
                }
            }
        }
        Ok(())
    }

    /// What says something about the same entries again and again is no progress, and would keep a session for ever.
    fn count_head(&mut self) -> Result<(), ErrorKind> {
        let limit = HEADS_AT_LEAST + HEADS_PER_ENTRY * u64::from(self.lists.indexes());
        self.transfer.heads += 1;
        if self.transfer.heads <= limit {
            return Ok(());
        }
        Err(ErrorKind::misbehaved("items", format!("more than {limit} about the entries that were sent")))
    }

    fn form(&self) -> Form {
        let options = &self.config.options;
        let optim = self.dialect.as_ref().is_some_and(|dialect| {
            dialect.protocol >= Protocol::V31 && !dialect.compat.has(CompatFlags::AVOID_XATTR_OPTIM)
        });
        Form { dry_run: options.dry_run, xattrs: options.xattrs > 0, xattr_optim: optim }
    }

    /// The entry's set of attributes; what is wanted of it becomes an event.
    fn ask_values(&mut self, ndx: Ndx, numbers: Vec<u32>) -> Result<u32, ErrorKind> {
        let Some((set, xattrs)) = self.lists.xattrs(ndx) else { return Ok(0) };
        let names = self.transfer.values.ask(set, xattrs, numbers)?;
        if !names.is_empty() {
            self.events.push_back(Event::Values(ValuesRequest { ndx, names }));
        }
        Ok(set)
    }

    fn handle_item(&mut self, item: Item, header: Option<SumHeader>) -> Result<(), ErrorKind> {
        if let Some(place) = self.lists.place(item.ndx) {
            self.lists.note_latest(place.list);
        }
        self.events.push_back(Event::Item(item.clone()));
        let Some(header) = header else {
            // A hard link that waited for a redo is reported behind the last DONE (seen with 3.5.0). The receiver has
            // read our third DONE by then and dies of anything else than the next one.
            if self.transfer.dones < 3 {
                self.transfer.echo(&item, self.output.data());
            }
            return Ok(());
        };
        let redo = self.check_request(item.ndx)?;
        let appends = self.config.options.append != Append::Off && !redo;
        if header.count == 0 || appends {
            self.request(item, redo, BlockSums::without_sums(header));
            return Ok(());
        }
        let missing = u64::from(header.count) * header.stride() as u64;
        let kept = missing <= MAX_SUM_BYTES;
        self.stream.sums = Some(Arriving { item, redo, header, bytes: Vec::new(), missing, kept });
        Ok(())
    }

    /// Only regular files of the list can be wanted, and each once in a phase. With incremental recursion a file may be
    /// wanted for the second time at any moment. Returns whether it is.
    fn check_request(&mut self, ndx: Ndx) -> Result<bool, ErrorKind> {
        let incremental = self.is_incremental();
        let wrong = if !self.lists.is_file(ndx) {
            "is no regular file"
        } else if self.transfer.dones > 1 {
            "is wanted after the redo phase"
        } else if self.transfer.is_waiting(ndx) {
            "is wanted again before its answer"
        } else {
            let redo = self.transfer.dones > 0 || incremental && !self.lists.note_request(ndx, 0);
            let first = if redo || !incremental { self.lists.note_request(ndx, redo.into()) } else { true };
            if first {
                return Ok(redo);
            }
            "is wanted twice in one phase"
        };
        Err(ErrorKind::misbehaved("request", format!("entry {} {wrong}", ndx.0)))
    }

    fn request(&mut self, item: Item, redo: bool, sums: BlockSums) {
        let basis = item.basis.unwrap_or(Basis::DESTINATION);
        let compat = self.dialect.as_ref().map(|dialect| dialect.compat).unwrap_or_default();
        let overwrites = self.config.options.inplace || self.config.options.append != Append::Off;
        let partial = compat.has(CompatFlags::INPLACE_PARTIAL_DIR) && basis == Basis::PARTIAL_DIR;
        let request = Request {
            ndx: item.ndx,
            in_place: overwrites && basis == Basis::DESTINATION || partial,
            redo,
            sums: if sums == BlockSums::none() { Arc::clone(&self.stream.no_sums) } else { Arc::new(sums) },
        };
        self.transfer.add_request(item, request.sums.memory());
        self.events.push_back(Event::Request(request));
    }

    fn handle_done(&mut self) -> Result<(), ErrorKind> {
        if self.is_incremental() && !self.lists.is_empty() && self.handle_list_done()? {
            return Ok(());
        }
        if !self.lists.complete {
            return Err(ErrorKind::misbehaved("end of phase", "before the list was sent"));
        }
        self.transfer.dones += 1;
        self.transfer.done_waits = true;
        Ok(())
    }

    /// The daemon is done with the oldest list. Returns `false` when that was the last one: what it said is then the
    /// end of the first phase too.
    fn handle_list_done(&mut self) -> Result<bool, ErrorKind> {
        if self.transfer.lowest_waiting().is_some_and(|ndx| self.lists.is_of_oldest(ndx)) {
            return Err(ErrorKind::misbehaved("end of a list", "before all of its files were answered"));
        }
        if let Some(number) = self.lists.pop() {
            self.events.push_back(Event::ListDone(number));
        }
        if let Some(set) = self.lists.first_set() {
            self.transfer.values.forget_below(set);
        }
        if self.lists.is_empty() {
            return Ok(false);
        }
        self.transfer.echo_list_done(self.output.data());
        Ok(true)
    }

    /// Answers the last DONE, unless answers to requests must come first.
    fn answer_done(&mut self) -> bool {
        if self.transfer.is_busy() {
            return false;
        }
        self.transfer.done_waits = false;
        let newer = self.dialect.as_ref().is_some_and(|dialect| dialect.protocol >= Protocol::V31);
        match (self.transfer.dones, newer) {
            (1 | 2, _) => self.put_done(),
            (3, _) => {
                self.report_io_errors();
                self.put_done();
                self.stage = Stage::Goodbye;
            }
            (4, true) => self.put_done(),
            _ => self.finish_transfer(),
        }
        true
    }

    fn put_done(&mut self) {
        self.transfer.put_done(self.output.data());
    }

    /// What happened to our files after the list was sent, for deletions that come late.
    fn report_io_errors(&mut self) {
        let errors = self.transfer.io_errors;
        if errors != self.transfer.io_errors_sent {
            self.transfer.io_errors_sent = errors;
            self.output.message(Code::IoError, &errors.bits().to_le_bytes());
        }
    }

    fn finish_transfer(&mut self) {
        let mut io_errors = self.transfer.io_errors;
        io_errors.add(self.transfer.daemon_io_errors);
        self.finish(Outcome {
            exit: io_errors.exit_code(self.transfer.errors > 0),
            transfer_errors: self.transfer.errors,
            io_errors,
            deleted: self.transfer.deleted,
        });
    }

    pub(super) fn finish(&mut self, outcome: Outcome) {
        self.state = State::Finished;
        self.events.push_back(Event::Finished(outcome));
    }
}

/// The most attributes of one entry.
const MAX_XATTRS: i32 = Xattrs::LIMIT as i32;

/// A generator speaks of an entry once in each of its two phases, and once more when a hard link waited for a redo.
const HEADS_PER_ENTRY: u64 = 16;

/// Ends of phases and counts of deletions come on top.
const HEADS_AT_LEAST: u64 = 1024;

/// Longest name that comes with an item, in bytes: rsync's MAXPATHLEN.
const MAX_XNAME: usize = 4096;
