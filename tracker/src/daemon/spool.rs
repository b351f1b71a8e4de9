//! What was read from the kernel's queues and is not durable yet, kept where it outlives this process.
//!
//! Reading a queue empties it. So whatever is read is written here first: a record of the ring is copied before it is
//! consumed, and the kernel itself writes name events here, since their queue is read into this memory. One sheet holds
//! what one drain is about; it is wiped when that drain is durable. After a death the sheets are read again, and the
//! next daemon knows what the last one had known.
//!
//! ```text
//! sheet  = header, frame …, zeroes        header = magic, session, number: 8 bytes each, and 8 spare
//! frame  = length: u32, kind: u32, device: u32, spare: u32, bytes, up to a multiple of 8
//! ```
//!
//! The length is stored last. Of a frame of events it stays 0 while the kernel writes; those events tell their own
//! lengths, and end with zeroes.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::sys::arena::{Arena, barrier};
use crate::sys::{self};

/// The sheets, oldest first. The last one is being written, or the last but one while a drain begins.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    session: u64,
    sheets: VecDeque<Sheet>,
    /// Sheets that are wiped and can be used again.
    blank: Vec<Arena>,
    next: u64,
    /// Sheets below this number are about the drain that is under way.
    drained: u64,
    /// The epoch of marks that is being drained, while what is read still belongs to its sheet.
    ending: Option<u64>,
    /// It could not keep all: whoever comes next must not rely on it.
    broken: bool,
    scratch: Vec<u8>,
    /// An events frame is open in the current sheet.
    reading: bool,
}

/// What a sheet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept<'a> {
    /// A record of the ring, as the programs wrote it.
    Record(&'a [u8]),
    /// Name events of this device, as the kernel wrote them.
    Events(u32, &'a [u8]),
    /// An inode of this device that is looked up again with the next drain.
    Again { device: u32, ino: u64, data: bool, mapped: bool },
    /// Name events of this device were not listened to for a while, and what its directories' bits tell is not durable
    /// yet.
    Gap(u32),
}

#[derive(Debug)]
struct Sheet {
    number: u64,
    arena: Arena,
    end: usize,
}

impl Spool {
    /// Begins a new one, and removes what is there.
    pub(super) fn create(dir: &Path, session: u64) -> Self {
        for index in 0..MAX_FILES {
            let _ = std::fs::remove_file(dir.join(format!("{SHEET}{index}")));
        }
        Self::with(dir, session, VecDeque::new())
    }

    /// Goes on with the one that this session left.
    ///
    /// # Errors
    /// It is not there, or did not keep all.
    pub(super) fn resume(dir: &Path, session: u64) -> Result<Self, String> {
        if dir.join(BROKEN).exists() {
            return Err("more was noted than could be kept".into());
        }
        let mut sheets = Vec::new();
        for index in 0..MAX_FILES {
            let path = dir.join(format!("{SHEET}{index}"));
            if !path.exists() {
                continue;
            }
            let arena = Arena::open(&path).map_err(|e| format!("{}: {}: {}", path.display(), e, e.source))?;
            match Sheet::parse(arena, session) {
                Ok(sheet) => sheets.push(sheet),
                Err(arena) => arena.remove(),
            }
        }
        if sheets.is_empty() {
            return Err("what the last daemon had noted is gone from the runtime folder".into());
        }
        sheets.sort_by_key(|sheet| sheet.number);
        Ok(Self::with(dir, session, sheets.into()))
    }

    fn with(dir: &Path, session: u64, sheets: VecDeque<Sheet>) -> Self {
        let _ = std::fs::remove_file(dir.join(BROKEN));
        let next = sheets.back().map_or(1, |sheet| sheet.number + 1);
        let mut spool = Spool {
            dir: dir.to_owned(),
            session,
            sheets,
            blank: Vec::new(),
            next,
            drained: 0,
            ending: None,
            broken: false,
            scratch: Vec::new(),
            reading: false,
        };
        spool.add_sheet();
        spool
    }

    /// Everything that is kept, in the order it was read.
    pub(super) fn replay(&self, mut each: impl FnMut(Kept<'_>)) {
        self.sheets.iter().for_each(|sheet| sheet.replay(&mut each));
    }

    /// Keeps a record of this epoch.
    pub(super) fn record(&mut self, epoch: u64, bytes: &[u8]) {
        let later = self.ending.is_some_and(|ending| epoch > ending);
        let back = usize::from(self.ending.is_some() && !later);
        self.append(back, Kind::Record, 0, bytes);
    }

    /// Keeps an inode that is looked up again.
    pub(super) fn again(&mut self, device: u32, ino: u64, data: bool, mapped: bool) {
        let bytes = [ino.to_ne_bytes(), [u8::from(data), u8::from(mapped), 0, 0, 0, 0, 0, 0]].concat();
        self.append(0, Kind::Again, device, &bytes);
    }

    /// Keeps that name events of this device were missed.
    pub(super) fn gap(&mut self, device: u32) {
        self.append(0, Kind::Gap, device, &[0; 8]);
    }

    /// Room for the kernel to write name events of this device to. [`Spool::events_read`] tells what came of it.
    pub(super) fn room(&mut self, device: u32) -> &mut [u8] {
        if let Some(sheet) = self.sheet(usize::from(self.ending.is_some()), FRAME + READ) {
            let at = sheet.end;
            sheet.head(at, Kind::Events, device);
            barrier();
            self.reading = true;
        } else {
            self.reading = false;
        }
        if !self.reading {
            self.scratch.resize(READ, 0);
            return &mut self.scratch;
        }
        let sheet = self.current();
        let at = sheet.end + FRAME;
        &mut sheet.arena.bytes_mut()[at..][..READ]
    }

    /// The kernel wrote so many bytes to the room; gives them.
    pub(super) fn events_read(&mut self, count: usize) -> &[u8] {
        if !self.reading {
            return &self.scratch[..count];
        }
        self.reading = false;
        let sheet = self.current();
        let at = sheet.end;
        if count == 0 {
            sheet.blank_head(at);
            return &[];
        }
        sheet.close(at, count);
        &sheet.arena.bytes()[at + FRAME..][..count]
    }

    /// What is read from now on, but for marks of a later epoch, still belongs to the drain of this one.
    pub(super) fn begin_drain(&mut self, epoch: u64) {
        self.add_sheet();
        self.ending = Some(epoch);
    }

    /// What is read from now on belongs to the next drain. With `resumed` the drain leaves marks of sheets from before
    /// to the next one.
    pub(super) fn drain_begun(&mut self, resumed: bool) {
        self.ending = None;
        if !resumed {
            self.drained = self.sheets.back().map_or(0, |sheet| sheet.number);
        }
    }

    /// What the drain was about is durable. With `again` some of it is still to be looked up.
    pub(super) fn forget(&mut self, again: bool) {
        if again {
            return;
        }
        while self.sheets.front().is_some_and(|sheet| sheet.number < self.drained) {
            let Some(sheet) = self.sheets.pop_front() else { return };
            match sheet.wipe() {
                Some(arena) if self.blank.len() < 2 => self.blank.push(arena),
                Some(arena) => arena.remove(),
                None => {}
            }
        }
    }

    /// The sheet that events go to.
    fn current(&mut self) -> &mut Sheet {
        let back = usize::from(self.ending.is_some());
        let index = self.sheets.len() - 1 - back;
        &mut self.sheets[index]
    }

    fn append(&mut self, back: usize, kind: Kind, device: u32, bytes: &[u8]) {
        let Some(sheet) = self.sheet(back, FRAME + bytes.len()) else { return };
        let at = sheet.end;
        sheet.arena.bytes_mut()[at + FRAME..][..bytes.len()].copy_from_slice(bytes);
        sheet.head(at, kind, device);
        sheet.close(at, bytes.len());
    }

    /// The last sheet, or the one so many before it, with room for so many bytes and a frame that ends it.
    fn sheet(&mut self, back: usize, room: usize) -> Option<&mut Sheet> {
        if self.broken {
            return None;
        }
        let total: usize = self.sheets.iter().map(|sheet| sheet.end).sum();
        let index = self.sheets.len() - 1 - back;
        let sheet = &mut self.sheets[index];
        let wanted = sheet.end + room + 2 * FRAME;
        let grown = if wanted <= sheet.arena.bytes().len() {
            Ok(())
        } else if total + room > MOST {
            Err("it has become too large".to_owned())
        } else {
            sheet.arena.grow(wanted.next_power_of_two()).map_err(|e| format!("{e}: {}", e.source))
        };
        match grown {
            Ok(()) => Some(&mut self.sheets[index]),
            Err(why) => {
                self.give_up(&why);
                None
            }
        }
    }

    fn add_sheet(&mut self) {
        if self.broken {
            return;
        }
        let arena = self.blank.pop().map_or_else(|| self.new_arena(), Ok);
        match arena {
            Ok(arena) => {
                self.sheets.push_back(Sheet::begin(arena, self.session, self.next));
                self.next += 1;
            }
            Err(e) => self.give_up(&format!("{e}: {}", e.source)),
        }
    }

    fn new_arena(&self) -> sys::Result<Arena> {
        let unused = (0..MAX_FILES).map(|index| self.dir.join(format!("{SHEET}{index}")));
        let path = unused.into_iter().find(|path| !path.exists()).unwrap_or_else(|| self.dir.join(SHEET));
        Arena::create(&path, SIZE)
    }

    /// From now on a death loses what was read.
    fn give_up(&mut self, why: &str) {
        tracing::warn!(why, "what is noted cannot be kept: after a crash the mirrors would be compared");
        self.broken = true;
        // Whatever is in the sheets stays in memory, too.
        if let Err(e) = std::fs::write(self.dir.join(BROKEN), why) {
            tracing::error!(error = %e, "nor can that be noted; the kept state is dropped");
            self.sheets.drain(..).for_each(|sheet| sheet.arena.remove());
        }
    }
}

impl Sheet {
    fn begin(mut arena: Arena, session: u64, number: u64) -> Self {
        let bytes = arena.bytes_mut();
        bytes[..8].copy_from_slice(&MAGIC.to_ne_bytes());
        bytes[8..16].copy_from_slice(&session.to_ne_bytes());
        barrier();
        bytes[16..24].copy_from_slice(&number.to_ne_bytes());
        Sheet { number, arena, end: HEADER }
    }

    /// One that somebody left; gives it back if it is of another session, or blank.
    fn parse(arena: Arena, session: u64) -> Result<Self, Arena> {
        let word = |at: usize| arena.bytes().get(at..)?.first_chunk().map(|word| u64::from_ne_bytes(*word));
        match (word(0), word(8), word(16)) {
            (Some(MAGIC), Some(of), Some(number)) if of == session && number > 0 => {
                let mut sheet = Sheet { number, arena, end: HEADER };
                sheet.end = sheet.frames(&mut |_| ());
                Ok(sheet)
            }
            _ => Err(arena),
        }
    }

    fn replay(&self, each: &mut impl FnMut(Kept<'_>)) {
        self.frames(each);
    }

    /// Gives each frame; returns where the next one goes.
    fn frames(&self, each: &mut impl FnMut(Kept<'_>)) -> usize {
        let bytes = self.arena.bytes();
        let mut at = HEADER;
        while let Some((length, kind, device)) = head(bytes, at) {
            let rest = &bytes[at + FRAME..];
            // The kernel was writing when the writer died.
            let length = if length == 0 { events_length(rest) } else { length };
            let Some(kept) = rest.get(..length).and_then(|bytes| Kept::parse(kind, device, bytes)) else {
                break;
            };
            each(kept);
            at += FRAME + length.next_multiple_of(ALIGN);
        }
        at
    }

    fn head(&mut self, at: usize, kind: Kind, device: u32) {
        let bytes = &mut self.arena.bytes_mut()[at..][..FRAME];
        bytes[8..12].copy_from_slice(&device.to_ne_bytes());
        bytes[4..8].copy_from_slice(&(kind as u32).to_ne_bytes());
    }

    fn blank_head(&mut self, at: usize) {
        self.arena.bytes_mut()[at..][..FRAME].fill(0);
    }

    fn close(&mut self, at: usize, length: usize) {
        barrier();
        // A frame is at most `READ` bytes long.
        self.arena.bytes_mut()[at..][..4].copy_from_slice(&(length as u32).to_ne_bytes());
        barrier();
        self.end = at + FRAME + length.next_multiple_of(ALIGN);
    }

    /// Makes it blank, for use again unless it has become large.
    fn wipe(mut self) -> Option<Arena> {
        let end = self.end + FRAME;
        self.arena.bytes_mut()[16..24].fill(0);
        barrier();
        if end > LARGE {
            self.arena.remove();
            return None;
        }
        self.arena.bytes_mut()[..end].fill(0);
        Some(self.arena)
    }
}

impl<'a> Kept<'a> {
    fn parse(kind: u32, device: u32, bytes: &'a [u8]) -> Option<Self> {
        match kind {
            kind if kind == Kind::Record as u32 => Some(Kept::Record(bytes)),
            kind if kind == Kind::Events as u32 => Some(Kept::Events(device, bytes)),
            kind if kind == Kind::Gap as u32 => Some(Kept::Gap(device)),
            kind if kind == Kind::Again as u32 => {
                let ino = u64::from_ne_bytes(*bytes.first_chunk()?);
                Some(Kept::Again { device, ino, data: *bytes.get(8)? != 0, mapped: *bytes.get(9)? != 0 })
            }
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(u32)]
enum Kind {
    Record = 1,
    Events = 2,
    Again = 3,
    Gap = 4,
}

/// Length, kind and device; `None` where no frame begins.
fn head(bytes: &[u8], at: usize) -> Option<(usize, u32, u32)> {
    let word = |at: usize| bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word));
    let (length, kind, device) = (word(at)?, word(at + 4)?, word(at + 8)?);
    (kind != 0 && (length != 0 || kind == Kind::Events as u32)).then_some((length as usize, kind, device))
}

/// Bytes of events before zeroes follow; each begins with its length.
fn events_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let length = u32::from_ne_bytes(*length) as usize;
        if length == 0 || at + length > bytes.len() {
            break;
        }
        at += length;
    }
    at
}

const MAGIC: u64 = u64::from_ne_bytes(*b"ebbspl01");
const HEADER: usize = 32;
const FRAME: usize = 16;
const ALIGN: usize = 8;

/// Names of the files, a number follows.
const SHEET: &str = "sheet";

/// More sheets than are ever there at a time.
const MAX_FILES: usize = 64;

/// There when not all could be kept.
const BROKEN: &str = "broken";

/// Room for some 1000 events per read.
const READ: usize = 128 << 10;

/// What a sheet has at first.
const SIZE: usize = 256 << 10;

/// A sheet that has grown beyond this is not used again.
const LARGE: usize = 1 << 20;

/// What all sheets may have together.
const MOST: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(spool: &Spool) -> Vec<String> {
        let mut all = Vec::new();
        spool.replay(|kept| all.push(format!("{kept:?}")));
        all
    }

    fn records(dir: &Path) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        Spool::resume(dir, 7).unwrap().replay(|kept| {
            if let Kept::Record(bytes) = kept {
                all.push(bytes.to_vec());
            }
        });
        all
    }

    fn event(length: u32) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.resize(length as usize, 1);
        bytes
    }

    #[test]
    fn what_was_read_is_found_by_the_next_daemon_and_what_is_durable_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(dir.path(), 7);
        spool.record(1, b"first");
        spool.begin_drain(1);
        spool.record(1, b"of the drain");
        spool.record(2, b"of the next");
        spool.drain_begun(false);
        spool.record(2, b"later");
        assert_eq!(records(dir.path()), [&b"first"[..], b"of the drain", b"of the next", b"later"]);
        spool.forget(false);
        assert_eq!(records(dir.path()), [&b"of the next"[..], b"later"]);
    }

    #[test]
    fn a_sheet_stays_while_something_of_it_is_looked_up_again_or_its_marks_are_for_the_next_drain() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(dir.path(), 7);
        spool.record(2, b"x");
        for (resumed, again) in [(true, false), (false, true), (false, false)] {
            assert_eq!(records(dir.path()), [b"x"]);
            spool.begin_drain(1);
            spool.drain_begun(resumed);
            spool.forget(again);
        }
        assert!(records(dir.path()).is_empty());
    }

    #[test]
    fn events_are_found_even_if_their_reader_died_while_the_kernel_wrote_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(dir.path(), 7);
        let (one, two) = (event(24), event(72));
        spool.room(5)[..24].copy_from_slice(&one);
        assert_eq!(spool.events_read(24), one);
        spool.room(5);
        assert!(spool.events_read(0).is_empty());
        let both = [one.clone(), two].concat();
        spool.room(6)[..96].copy_from_slice(&both);
        let mut spool = Spool::resume(dir.path(), 7).unwrap();
        let expected = [format!("{:?}", Kept::Events(5, &one)), format!("{:?}", Kept::Events(6, &both))];
        assert_eq!(all(&spool), expected);
        spool.gap(5);
        assert_eq!(all(&spool).len(), 3);
    }

    #[test]
    fn a_wiped_sheet_is_blank_when_it_is_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(dir.path(), 7);
        for round in 0..5 {
            spool.again(1, round, true, false);
            spool.room(2)[..24].copy_from_slice(&event(24));
            spool.events_read(24);
            spool.begin_drain(round);
            spool.drain_begun(false);
            spool.forget(false);
            assert!(all(&spool).is_empty());
        }
        assert!(std::fs::read_dir(dir.path()).unwrap().count() <= 3);
    }

    #[test]
    fn a_sheet_of_another_session_and_a_spool_that_was_not_whole_are_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        Spool::create(dir.path(), 6).record(1, b"old");
        assert!(Spool::resume(dir.path(), 7).is_err());
        let mut spool = Spool::create(dir.path(), 7);
        let long = vec![1; READ];
        (0..600).for_each(|_| spool.record(1, &long));
        assert!(spool.broken);
        assert!(Spool::resume(dir.path(), 7).is_err());
    }
}
