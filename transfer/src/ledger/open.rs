//! Opening the store: checking it, setting a damaged one aside, and fitting it to the configuration.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ebbtide_feed::{Fact, MirrorSpec};
use redb::{Database, ReadableTable, WriteTransaction};
use roaring::RoaringBitmap;

use super::blocks::Blocks;
use super::key::{self, MirrorNumber};
use super::mark::{self, Mark};
use super::moves::{self, MovesKept};
use super::store::{
    DESTINATIONS, DIALECTS, DestinationNumber, FACTS, FORMAT, IDS, Ids, LINKS, META, MIRRORS, NAMES, PENDING,
    Store, StoreError,
};
use crate::plan::moves::MovedTogether;

/// Name of the store's file in the state folder.
pub(crate) const FILE: &str = "ledger.redb";

/// Memory for pages of the store, in bytes. The bitmaps are in memory anyway; pages are read for names only.
const CACHE: usize = 32 << 20;

/// How long to wait for a sender that is just dying to let go of the store.
const BUSY: Duration = Duration::from_secs(10);

/// Flags of a destination.
pub(crate) mod flag {
    /// Every name was compared once.
    pub(crate) const FIRST_SYNC_DONE: u32 = 1;
    /// `delete` was on.
    pub(crate) const DELETE: u32 = 2;
    /// `numeric_ids` was on.
    pub(crate) const NUMERIC_IDS: u32 = 4;
    /// `hard_links` was on.
    pub(crate) const HARD_LINKS: u32 = 8;
    /// `acls` was on.
    pub(crate) const ACLS: u32 = 16;
    /// `xattrs` was on.
    pub(crate) const XATTRS: u32 = 32;
    /// The last session came to its end, and the sender after it.
    pub(crate) const ENDED: u32 = 64;
    /// A digest of the filter rules.
    pub(crate) const RULES: u32 = !0xff;
}

/// The store and what it held, fitted to the configuration.
pub(crate) struct Opened {
    /// The store.
    pub(crate) store: Store,
    /// The number of each mirror, in the configuration's order.
    pub(crate) mirrors: Vec<MirrorNumber>,
    /// Each destination of each mirror, in the configuration's order.
    pub(crate) destinations: Vec<Row>,
    /// What each of them has not acknowledged.
    pub(crate) pending: Vec<RoaringBitmap>,
    /// Whether the last session of an earlier sender may still be running at the daemon.
    pub(crate) served: Vec<bool>,
    /// What is known of each destination's daemon.
    pub(crate) dialects: Vec<Option<Vec<u8>>>,
    /// Renames of each mirror that some destination may not have followed, oldest first.
    pub(crate) moves: Vec<Vec<MovedTogether>>,
    /// How they go on.
    pub(crate) moves_kept: MovesKept,
    /// Facts that everybody acknowledged a moment ago, in this boot.
    pub(crate) lately: RoaringBitmap,
    /// What became of a store that was damaged.
    pub(crate) damage: Option<String>,
    /// Where the store is.
    pub(crate) path: PathBuf,
}

/// A destination in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Index of its mirror in the configuration.
    pub(crate) mirror: usize,
    /// Its key in the store.
    pub(crate) key: Vec<u8>,
    /// Its number.
    pub(crate) number: DestinationNumber,
    /// See [`flag`].
    pub(crate) flags: u32,
}

/// Opens the store in `folder`, or starts a new one. A store that is damaged is set aside, and every destination is
/// then compared as a whole.
///
/// # Errors
/// The store is in use, or the disk fails.
pub(crate) fn open(folder: &Path, mirrors: &[MirrorSpec]) -> Result<Opened, StoreError> {
    let path = folder.join(FILE);
    // One that was set aside while it was in use leaves none behind.
    let is_lost = !path.try_exists().unwrap_or(true) && !damaged(&path).is_empty();
    let (mut opened, said) = match open_when_free(&path, mirrors) {
        Err(StoreError::Damaged(why)) => {
            let said = set_aside(&path, &why).map_err(|e| StoreError::Failed(e.into()))?;
            (open_when_free(&path, mirrors)?, Some(said))
        }
        other => (other?, is_lost.then(|| WAS_LOST.to_owned())),
    };
    if said.is_some() {
        opened.served.fill(true);
    }
    opened.damage = said;
    Ok(opened)
}

/// What is said of a store that is not there because the sender before this one set it aside.
const WAS_LOST: &str = "the ledger was damaged while it was in use; every destination is compared as a whole";

fn open_when_free(path: &Path, mirrors: &[MirrorSpec]) -> Result<Opened, StoreError> {
    let end = Instant::now() + BUSY;
    loop {
        match open_checked(path, mirrors) {
            Err(StoreError::Busy) if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
            other => return other,
        }
    }
}

/// A file that another program wrote can make the store's code panic: that is damage too.
fn open_checked(path: &Path, mirrors: &[MirrorSpec]) -> Result<Opened, StoreError> {
    catch_unwind(AssertUnwindSafe(|| {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        fit(builder.create_with_backend(Blocks::open(path)?)?, path, mirrors)
    }))
    .unwrap_or_else(|_| Err(StoreError::Damaged("reading it made the store's code give up".into())))
}

/// Renames a damaged store to `ledger.redb.damaged-<n>`, with a higher number than any before it, keeps the latest few
/// of these for the administrator, and tells what is to be told.
///
/// # Errors
/// It cannot be renamed.
pub(crate) fn set_aside(path: &Path, why: &str) -> std::io::Result<String> {
    let old = damaged(path);
    let next = old.last().map_or(1, |(n, _)| n.saturating_add(1));
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!("{DAMAGED}{next}"));
    fs::rename(path, &aside)?;
    // It is about the one that was set aside; the next one would replace it anyway.
    let _ = fs::remove_file(mark::path(path));
    for (_, oldest) in old.iter().rev().skip(KEPT - 1) {
        // One that cannot be removed only takes room.
        let _ = fs::remove_file(oldest);
    }
    let (why, kept) = (why.escape_debug(), aside.to_string_lossy().escape_debug().to_string());
    let said = format!(
        "the ledger is damaged ({why}): it was set aside as {kept}, and every destination is compared as a whole"
    );
    tracing::error!("{said}");
    Ok(said)
}

/// The stores that were set aside, with their numbers, oldest first.
fn damaged(path: &Path) -> Vec<(u32, PathBuf)> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix(FILE)?.strip_prefix(DAMAGED)?.parse().ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    found.sort();
    found
}

/// Between a store's name and the number of one that was set aside.
const DAMAGED: &str = ".damaged-";

/// So many damaged stores are kept.
const KEPT: usize = 3;

/// Checks what the tables hold and makes them fit the configuration.
fn fit(database: Database, path: &Path, mirrors: &[MirrorSpec]) -> Result<Opened, StoreError> {
    let transaction = database.begin_write()?;
    let is_new = check_format(&transaction)?;
    let mark = Mark::open(path, &transaction, is_new)?;
    let is_other_boot = note_boot(&transaction)?;
    let used = check_facts(&transaction)?;
    let numbers = fit_mirrors(&transaction, mirrors)?;
    let Fitted { rows, fresh, served } = fit_destinations(&transaction, mirrors, &numbers)?;
    let pending = load_pending(&transaction, &rows, &used)?;
    let dialects = load_dialects(&transaction, &rows)?;
    let (moves, next) = moves::load(&transaction, &numbers)?;
    // Reading a table needs it to exist.
    transaction.open_table(LINKS)?;
    transaction.open_table(NAMES)?;

    // All in one transaction: a destination that is on record and its first comparison not would never get it.
    let store = Store::within(database, transaction, Ids::new(&used), mark);
    let path = path.to_owned();
    let mut opened = Opened {
        store,
        mirrors: numbers,
        destinations: rows,
        pending,
        served,
        dialects,
        moves_kept: MovesKept::new(&moves, next),
        moves,
        lately: RoaringBitmap::new(),
        damage: None,
        path,
    };
    opened.sort_unheld(used, is_other_boot)?;
    opened.compare_whole(&fresh)?;
    opened.store.commit()?;
    Ok(opened)
}

impl Opened {
    /// Ids that nobody holds were acknowledged by all a moment before the last sender ended. After a reboot the source may
    /// have lost what they stood for: they are looked at once more. Those of mirrors that are not configured any more
    /// are freed.
    fn sort_unheld(&mut self, used: RoaringBitmap, is_other_boot: bool) -> Result<(), StoreError> {
        let unheld = self.pending.iter().fold(used, |unheld, pending| unheld - pending);
        let mut free = unheld.clone();
        let by_mirror = self.store.mirrors_of(&unheld)?;
        for (at, number) in self.mirrors.clone().into_iter().enumerate() {
            let of_mirror = by_mirror.iter().filter(|(_, of)| *of == number).map(|(id, _)| *id);
            let ids: RoaringBitmap = of_mirror.collect();
            if is_other_boot {
                free -= self.look_again(at, &ids)?;
            } else {
                free -= &ids;
                self.lately |= ids;
            }
        }
        self.store.forget(&free)
    }

    /// Lets all destinations of a mirror look at these facts once more; gives the ids that are held now. Where a directory
    /// stands that was gone or another one a moment ago, it most likely is the one that was sent since: it is compared,
    /// not replaced.
    fn look_again(&mut self, mirror: usize, ids: &RoaringBitmap) -> Result<RoaringBitmap, StoreError> {
        if ids.is_empty() {
            return Ok(RoaringBitmap::new());
        }
        tracing::info!(facts = ids.len(), "after a reboot, what was sent last is looked at once more");
        let facts = self.store.facts(ids)?.into_iter().map(|(_, fact)| match fact {
            Fact::Gone { path: dir } | Fact::Subtree { dir, replaced: true } => Fact::Contents { dir },
            fact => fact,
        });
        let facts: Vec<Fact> = facts.collect();
        let again = self.store.intern(self.mirrors[mirror], &facts)?;
        let again: RoaringBitmap = again.into_iter().map(|(id, _)| id).collect();
        let rows = self.destinations.iter().zip(&mut self.pending);
        for (row, pending) in rows.filter(|(row, _)| row.mirror == mirror) {
            *pending |= &again;
            // The cast takes the high half.
            let highs: HashSet<u16> = again.iter().map(|id| (id >> 16) as u16).collect();
            for high in highs {
                self.store.write_chunk(row.number, high, pending)?;
            }
        }
        Ok(again)
    }

    /// Lets these destinations, by index, be compared as a whole.
    fn compare_whole(&mut self, destinations: &[usize]) -> Result<(), StoreError> {
        for &at in destinations {
            let row = &self.destinations[at];
            let whole = key::whole();
            for (id, _) in self.store.intern(self.mirrors[row.mirror], [&whole])? {
                self.pending[at].insert(id);
                // The cast takes the high half.
                self.store.write_chunk(row.number, (id >> 16) as u16, &self.pending[at])?;
            }
        }
        Ok(())
    }
}

/// Notes which boot this is; tells whether the last sender ran in another one.
fn note_boot(transaction: &WriteTransaction) -> Result<bool, StoreError> {
    // Without it nothing can be told, and what was acknowledged is only kept.
    let Ok(id) = fs::read_to_string("/proc/sys/kernel/random/boot_id") else { return Ok(false) };
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    let boot = u64::from_str_radix(&digits, 16).unwrap_or(0);
    let before = transaction.open_table(META)?.insert("boot", boot)?.map(|boot| boot.value());
    Ok(before.is_some_and(|before| before != boot))
}

/// Whether the store is a new one.
fn check_format(transaction: &WriteTransaction) -> Result<bool, StoreError> {
    let is_new = transaction.list_tables()?.next().is_none();
    let mut meta = transaction.open_table(META)?;
    let found = meta.get("format")?.map(|format| format.value());
    match found {
        Some(FORMAT) => Ok(false),
        None if is_new => {
            meta.insert("format", FORMAT)?;
            Ok(true)
        }
        Some(other) => {
            Err(StoreError::Damaged(format!("its format is {other}, this program writes {FORMAT}")))
        }
        None => Err(StoreError::Damaged("another program wrote it".into())),
    }
}

/// The ids in use; every fact must be readable and known under its key.
fn check_facts(transaction: &WriteTransaction) -> Result<RoaringBitmap, StoreError> {
    let (facts, ids) = (transaction.open_table(FACTS)?, transaction.open_table(IDS)?);
    let mut used = RoaringBitmap::new();
    for row in facts.iter()? {
        let (id, key) = row?;
        let id = id.value();
        let known = ids.get(key.value())?.map(|id| id.value());
        if known != Some(id) || key::decode(key.value()).is_none() {
            return Err(StoreError::Damaged(format!("fact {id} does not match its key")));
        }
        used.insert(id);
    }
    let keys = redb::ReadableTableMetadata::len(&ids)?;
    if keys != used.len() {
        return Err(StoreError::Damaged(format!("{keys} keys for {} facts", used.len())));
    }
    Ok(used)
}

/// The number of each configured mirror; what belongs to others goes.
fn fit_mirrors(
    transaction: &WriteTransaction,
    mirrors: &[MirrorSpec],
) -> Result<Vec<MirrorNumber>, StoreError> {
    use std::os::unix::ffi::OsStrExt;
    let mut table = transaction.open_table(MIRRORS)?;
    let sources: Vec<&[u8]> = mirrors.iter().map(|mirror| mirror.source.as_os_str().as_bytes()).collect();
    let mut known = HashMap::new();
    for row in table.iter()? {
        let (source, number) = row?;
        known.insert(source.value().to_vec(), number.value());
    }
    for (source, number) in known.extract_if(|source, _| !sources.contains(&&**source)) {
        table.remove(&*source)?;
        forget_links(transaction, MirrorNumber(number))?;
        moves::forget(transaction, MirrorNumber(number))?;
    }
    let mut numbers = Numbers::new(known.values().copied());
    let mut fitted = Vec::with_capacity(sources.len());
    for source in sources {
        let number = *known.entry(source.to_vec()).or_insert_with(|| numbers.next());
        table.insert(source, number)?;
        fitted.push(MirrorNumber(number));
    }
    Ok(fitted)
}

fn forget_links(transaction: &WriteTransaction, mirror: MirrorNumber) -> Result<(), StoreError> {
    let (first, end) = (mirror.0.to_be_bytes(), mirror.0.saturating_add(1).to_be_bytes());
    transaction.open_table(LINKS)?.retain_in(&first[..]..&end[..], |_, ()| false)?;
    transaction.open_table(NAMES)?.retain_in(&first[..]..&end[..], |_, _| false)?;
    Ok(())
}

/// The configured destinations, in their order.
#[derive(Default)]
struct Fitted {
    rows: Vec<Row>,
    /// Indexes of those that must be compared as a whole: new ones, and those whose mirror is sent in another way
    /// now.
    fresh: Vec<usize>,
    /// See [`Opened::served`].
    served: Vec<bool>,
}

/// Makes the table of destinations fit the configuration. What belongs to others goes.
fn fit_destinations(
    transaction: &WriteTransaction,
    mirrors: &[MirrorSpec],
    numbers: &[MirrorNumber],
) -> Result<Fitted, StoreError> {
    let mut table = transaction.open_table(DESTINATIONS)?;
    let mut known = HashMap::new();
    for row in table.iter()? {
        let (key, state) = row?;
        known.insert(key.value().to_vec(), state.value());
    }
    let mut taken = Numbers::new(known.values().map(|(number, _)| *number));
    let mut fitted = Fitted::default();
    for (at, mirror) in mirrors.iter().enumerate() {
        for destination in &mirror.destinations {
            let key = [&numbers[at].0.to_be_bytes()[..], destination.url.as_bytes()].concat();
            let settings = settings(mirror);
            let old = known.remove(&key);
            let number = old.map_or_else(|| taken.next(), |(number, _)| number);
            let old_flags = old.map(|(_, flags)| flags);
            let why = why_compare(old_flags, settings);
            if let Some(why) = why {
                tracing::info!(to = %destination.url, why, "a destination is compared as a whole");
                fitted.fresh.push(fitted.rows.len());
            }
            let synced = old_flags.filter(|_| why.is_none()).unwrap_or_default() & flag::FIRST_SYNC_DONE;
            let flags = settings | synced;
            table.insert(&*key, (number, flags))?;
            fitted.served.push(old_flags.is_some_and(|flags| flags & flag::ENDED == 0));
            fitted.rows.push(Row { mirror: at, key, number: DestinationNumber(number), flags });
        }
    }
    for key in known.keys() {
        let url = key.get(size_of::<u32>()..).unwrap_or_default();
        tracing::info!(to = %url.escape_ascii(), "a destination is not configured any more: what it lacked is forgotten");
        table.remove(&**key)?;
    }
    Ok(fitted)
}

/// Why a destination with these flags on record must be compared as a whole now that its mirror has these settings;
/// `None` when it need not. What is merely not sent or not removed any more leaves nothing behind to be compared.
fn why_compare(old: Option<u32>, settings: u32) -> Option<&'static str> {
    let Some(old) = old else { return Some("nothing is on record for it") };
    let is_new = |flag| settings & flag != 0 && old & flag == 0;
    let reasons = [
        (is_new(flag::DELETE), "delete was turned on"),
        ((settings ^ old) & flag::NUMERIC_IDS != 0, "numeric-ids was changed"),
        (is_new(flag::HARD_LINKS), "hard-links was turned on"),
        (is_new(flag::ACLS), "acls was turned on"),
        (is_new(flag::XATTRS), "xattrs was turned on"),
        ((settings ^ old) & flag::RULES != 0, "its filter rules were changed"),
    ];
    reasons.into_iter().find_map(|(changed, why)| changed.then_some(why))
}

fn settings(mirror: &MirrorSpec) -> u32 {
    let mut flags = 0;
    for (on, flag) in [
        (mirror.delete, flag::DELETE),
        (mirror.numeric_ids, flag::NUMERIC_IDS),
        (mirror.hard_links, flag::HARD_LINKS),
        (mirror.acls, flag::ACLS),
        (mirror.xattrs, flag::XATTRS),
    ] {
        flags |= if on { flag } else { 0 };
    }
    flags | digest(&mirror.filters)
}

/// The rules in the bits above all flags: after other rules, everything is compared anew. No rules are zero.
fn digest(rules: &[Vec<u8>]) -> u32 {
    let bytes = rules.iter().flat_map(|rule| rule.iter().copied().chain([b'\n']));
    // FNV-1a: the ledger outlives the standard library's hashers.
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    if rules.is_empty() { 0 } else { hash << 8 }
}

/// The bitmap of each destination; pieces of others go.
fn load_pending(
    transaction: &WriteTransaction,
    rows: &[Row],
    used: &RoaringBitmap,
) -> Result<Vec<RoaringBitmap>, StoreError> {
    let mut table = transaction.open_table(PENDING)?;
    let index: HashMap<u32, usize> = rows.iter().enumerate().map(|(at, row)| (row.number.0, at)).collect();
    let mut pending = vec![RoaringBitmap::new(); rows.len()];
    for row in table.iter()? {
        let (key, bytes) = row?;
        let (number, high) = key.value();
        let Some(&at) = index.get(&number) else { continue };
        pending[at] |= read_chunk(bytes.value(), high)?;
    }
    if pending.iter().any(|pending| !pending.is_subset(used)) {
        return Err(StoreError::Damaged("a destination waits for facts that do not exist".into()));
    }
    table.retain(|(number, _), _| index.contains_key(&number))?;
    Ok(pending)
}

/// What is known of each destination's daemon; the rest goes.
fn load_dialects(transaction: &WriteTransaction, rows: &[Row]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
    let mut table = transaction.open_table(DIALECTS)?;
    table.retain(|number, _| rows.iter().any(|row| row.number.0 == number))?;
    let mut dialects = Vec::with_capacity(rows.len());
    for row in rows {
        dialects.push(table.get(row.number.0)?.map(|known| known.value().to_vec()));
    }
    Ok(dialects)
}

fn read_chunk(bytes: &[u8], high: u16) -> Result<RoaringBitmap, StoreError> {
    let damaged = || StoreError::Damaged(format!("piece {high} of a bitmap cannot be read"));
    let chunk = RoaringBitmap::deserialize_from(bytes).map_err(|_| damaged())?;
    let fits = |id: Option<u32>| id.is_some_and(|id| id >> 16 == u32::from(high));
    if fits(chunk.min()) && fits(chunk.max()) { Ok(chunk) } else { Err(damaged()) }
}

/// Gives out numbers that are not in use, lowest first.
struct Numbers {
    used: HashSet<u32>,
    at: u32,
}

impl Numbers {
    fn new(used: impl Iterator<Item = u32>) -> Self {
        Numbers { used: used.collect(), at: 0 }
    }

    fn next(&mut self) -> u32 {
        while !self.used.insert(self.at) {
            self.at += 1;
        }
        self.at
    }
}

#[cfg(test)]
mod tests;
