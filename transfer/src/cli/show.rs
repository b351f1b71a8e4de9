//! What the user sees while a session runs.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use ebbtide_wire::proto::{Checksum, CompatFlags, Dialect};
use ebbtide_wire::sender::Iflags;

use super::args::Args;
use super::ask;
use super::format::{Facts, Format};
use super::itemize::{Times, letters, significant};
use super::log::Log;
use super::progress::Progress;
use super::say::{Mouth, eight_bit};
use super::stats::{Counts, Numbers};
use super::told::Told;
use crate::session::{Asking, Entry, Item, Observer, Sent, Text, TextKind};
use crate::source::Source;
use crate::text::{Escaped, OsError};
use crate::walk::Problem;

/// Standard output and standard error, in rsync's manner.
pub(super) struct Screen {
    pub(super) mouth: Mouth,
    told: Told,
    quiet: bool,
    /// A person is asked for a password that the daemon wants.
    pub(super) asks: bool,
    motd: bool,
    /// What is said of an entry on standard output.
    format: Option<Format>,
    /// Items are shown though nothing is sent for them: 1, unchanged ones too: 2.
    itemize: u8,
    /// What is said of an entry waits until its data went over.
    afterwards: bool,
    times: Times,
    dry_run: bool,
    /// Whether owners are sent.
    owners: bool,
    /// Whether groups are sent.
    groups: bool,
    source: Arc<Source>,
    /// The directories that names start from, as they were given.
    roots: Vec<PathBuf>,
    motd_shown: bool,
    pub(super) created: Counts,
    /// What was listed while the session ran.
    pub(super) listed: Counts,
    progress: Option<Progress>,
    /// What waits for its data to go over, by place in the list.
    waiting: HashMap<usize, (Iflags, Option<Vec<u8>>)>,
    checksum_width: usize,
    /// Whether `%C` shows the checksum's last byte first.
    checksum_backwards: bool,
    /// When the last file was done.
    last: Instant,
    /// Files are removed here once they are safe there.
    removes: bool,
}

impl Screen {
    pub(super) fn new(args: &Args, told: Told, log: Option<Log>) -> Screen {
        let output = &args.given.output;
        let format = format(args, told);
        let own = format.as_ref().is_some_and(|format| format.has(b"i"));
        Screen {
            mouth: Mouth::new(output, log),
            told,
            quiet: output.quiet,
            asks: true,
            motd: output.motd && !output.quiet,
            itemize: output.itemize.max(u8::from(own)),
            afterwards: format.as_ref().is_some_and(|format| format.has(b"bcC")) || told.progress == 1,
            format,
            times: Times { kept: args.push.server.times, of_links: true },
            dry_run: args.push.server.dry_run,
            owners: args.push.server.owner,
            groups: args.push.server.group,
            source: Arc::new(Source::none()),
            roots: Vec::new(),
            motd_shown: false,
            created: Counts::default(),
            listed: Counts::default(),
            progress: None,
            waiting: HashMap::new(),
            checksum_width: 0,
            checksum_backwards: false,
            last: Instant::now(),
            removes: args.given.update.remove_source_files && !args.push.server.dry_run,
        }
    }

    /// Where entries come from, for messages that name them.
    pub(super) fn begin(&mut self, args: &Args, source: Arc<Source>, roots: Vec<PathBuf>) {
        self.source = source;
        self.roots = roots;
        if self.told.progress > 0 && !self.dry_run {
            let numbers = Numbers { human: args.given.output.human };
            let progress = Progress::new(self.told.progress == 1, numbers);
            self.mouth.keep_clear_of(progress.bar().cloned());
            self.progress = Some(progress);
        }
    }

    /// Entries that will be sent.
    pub(super) fn count(&mut self, entries: &[Entry]) {
        entries.iter().for_each(|entry| self.listed.add(entry));
        if let Some(progress) = &mut self.progress {
            let sized = entries.iter().filter(|entry| entry.meta.is_file() || entry.meta.is_symlink());
            progress.listed(entries.len(), sized.map(|entry| entry.meta.size).sum());
        }
    }

    /// The session is over.
    pub(super) fn end(&mut self) {
        self.mouth.keep_clear_of(None);
        if let Some(text) = self.progress.take().and_then(|progress| progress.end()) {
            self.mouth.progress(text);
        }
    }

    /// The daemon's message of the day is not shown any more.
    pub(super) fn know_motd(&mut self) {
        self.motd = false;
    }

    /// How much is told.
    pub(super) fn told(&self) -> Told {
        self.told
    }

    /// A line on standard output.
    pub(super) fn line(&mut self, text: &str) {
        self.mouth.line(text);
    }

    pub(super) fn problem(&mut self, problem: &Problem) {
        if !problem.is_note() {
            self.mouth.complain(problem.to_string());
        } else if self.told.nonreg > 0 {
            self.mouth.line(problem.to_string());
        }
    }

    pub(super) fn flush(&mut self) {
        self.mouth.flush();
    }

    /// Peer: rsync's log.c:maybe_log_item decides by the same flags.
    fn wants(&self, item: &Item<'_>) -> bool {
        let told = significant(item.flags);
        let linked = item.link_name.is_some_and(|name| !name.is_empty());
        let seen = self.itemize > 0 && (told || self.itemize > 1 || self.told.name > 1);
        let local = item.flags.has(Iflags::LOCAL_CHANGE) && told;
        item.flags.has(Iflags::TRANSFER) || seen || local || linked || item.entry.meta.is_dir() && told
    }

    /// Says a line about an entry, here and in the log; names are escaped only then.
    fn tell(&mut self, facts: &Facts) {
        if let Some(format) = &self.format {
            let line = format.line(&facts.escaped(|bytes| self.mouth.shown(bytes)));
            self.mouth.line(line);
        }
        self.tell_log(facts);
    }

    fn tell_log(&mut self, facts: &Facts) {
        if let Some(log) = &self.mouth.log {
            let line = log.format.line(&facts.escaped(eight_bit));
            self.mouth.note(line);
        }
    }

    fn facts(&self, entry: &Entry, flags: Iflags, link_name: Option<&[u8]>) -> Facts {
        let mut name = entry.name.to_vec();
        if entry.meta.is_dir() {
            name.push(b'/');
        }
        Facts {
            item: letters(entry.meta.kind(), flags, self.times),
            name,
            path: self.given_path(entry),
            link: link(entry, flags, link_name),
            operation: "send",
            length: entry.meta.size,
            checksum_width: self.checksum_width,
            mode: Some(entry.meta.mode),
            mtime: entry.meta.mtime.secs,
            uid: if self.owners { entry.meta.uid } else { 0 }.to_string(),
            gid: if self.groups { entry.meta.gid.to_string() } else { "DEFAULT".to_owned() },
            ..Facts::default()
        }
    }

    /// An entry's path as the user would name it.
    fn given_path(&self, entry: &Entry) -> Vec<u8> {
        let root = self.roots.get(usize::from(entry.root)).cloned().unwrap_or_default();
        let root = root.as_os_str().as_bytes();
        let path = match root.strip_suffix(b"/").unwrap_or(root) {
            b"" | b"." => entry.name.to_vec(),
            root => [root, b"/", &entry.name].concat(),
        };
        path.strip_prefix(b"/").map(<[u8]>::to_vec).unwrap_or(path)
    }

    fn path(&self, entry: &Entry) -> String {
        let path = self.source.path(entry.root).join(std::ffi::OsStr::from_bytes(&entry.name));
        Escaped(path.as_os_str().as_bytes()).to_string()
    }

    /// Removes a file here that is safe there, if it is still what was sent.
    fn remove(&mut self, entry: &Entry) {
        let name = self.mouth.shown(&entry.name);
        match self.source.remove(entry.root, &entry.name, &entry.meta) {
            Ok(true) if self.told.remove > 0 => {
                self.mouth.line([b"sender removed ", name.as_slice()].concat());
            }
            Ok(true) => {}
            Ok(false) => {
                self.mouth.complain(
                    [b"ERROR: Skipping sender remove for changed file: ", name.as_slice()].concat(),
                );
            }
            Err(error) => {
                let path = self.path(entry);
                self.mouth
                    .complain(format!("rsync: [sender] sender failed to remove {path}: {}", OsError(&error)));
            }
        }
    }
}

fn link(entry: &Entry, flags: Iflags, link_name: Option<&[u8]>) -> Vec<u8> {
    match link_name.filter(|name| !name.is_empty() && flags.has(Iflags::LOCAL_CHANGE)) {
        Some(name) => [b" => ", name].concat(),
        None if entry.meta.is_symlink() => [b" -> ", entry.link_target()].concat(),
        None => Vec::new(),
    }
}

/// Peer: rsync's manual page, options `--out-format`, `--itemize-changes` and `--verbose`.
fn format(args: &Args, told: Told) -> Option<Format> {
    let output = &args.given.output;
    if output.quiet {
        return None;
    }
    let format = match &output.out_format {
        Some(format) => format.as_slice(),
        None if output.itemize > 0 => b"%i %n%L",
        None if told.name > 0 => b"%n%L",
        None => return None,
    };
    Some(Format::parse(format))
}

impl Observer for Screen {
    fn password(&mut self) -> Option<Asking> {
        self.mouth.flush();
        self.asks.then(ask::password).flatten()
    }

    fn ready(&mut self, dialect: &Dialect) {
        if let Some(progress) = &mut self.progress {
            progress.show();
        }
        self.times.of_links = dialect.compat.has(CompatFlags::SYMLINK_TIMES);
        self.checksum_width = 2 * dialect.checksum.digest_len();
        // On the wire these are numbers, lowest byte first; people know them highest first.
        self.checksum_backwards =
            matches!(dialect.checksum, Checksum::Xxh128 | Checksum::Xxh3 | Checksum::Xxh64);
        if mem::take(&mut self.motd_shown) {
            self.mouth.line("");
        }
        self.last = Instant::now();
    }

    fn listed(&mut self, entries: &[Entry], problems: &[Problem]) {
        self.count(entries);
        problems.iter().for_each(|problem| self.problem(problem));
    }

    fn item(&mut self, item: &Item<'_>) {
        if item.flags.has(Iflags::IS_NEW) {
            self.created.add(item.entry);
        }
        let heard = self.format.is_some() || self.mouth.log.is_some();
        if !heard || !self.wants(item) {
            return;
        }
        if self.afterwards && item.flags.has(Iflags::TRANSFER) && !self.dry_run {
            self.waiting.insert(item.index, (item.flags, item.link_name.map(<[u8]>::to_vec)));
            return;
        }
        let mut facts = self.facts(item.entry, item.flags, item.link_name);
        if item.flags.has(Iflags::TRANSFER) {
            // A dry run knows none, and rsync shows it so.
            facts.checksum = vec![0; self.checksum_width / 2];
        }
        self.tell(&facts);
    }

    fn sent(&mut self, sent: &Sent<'_>) {
        if !self.waiting.is_empty()
            && let Some((flags, link_name)) = self.waiting.remove(&sent.index)
        {
            let mut facts = self.facts(sent.entry, flags, link_name.as_deref());
            facts.written = sent.written;
            facts.sums = sent.sums;
            facts.checksum = sent.checksum.to_vec();
            if self.checksum_backwards {
                facts.checksum.reverse();
            }
            self.tell(&facts);
        }
        let Some(progress) = &mut self.progress else { return };
        let now = Instant::now();
        let took = now - mem::replace(&mut self.last, now);
        if let Some(text) = progress.sent(sent.place, sent.size, took) {
            self.mouth.progress(&text);
        }
    }

    fn moved(&mut self, bytes: u64) {
        if let Some(progress) = &self.progress {
            progress.moved(bytes);
        }
    }

    fn stored(&mut self, _index: usize, entry: &Entry) {
        if self.removes {
            self.remove(entry);
        }
    }

    fn deleted(&mut self, name: &[u8], is_dir: bool) {
        let slash = if is_dir { &b"/"[..] } else { b"" };
        let facts = Facts {
            item: "*deleting  ".to_owned(),
            name: [name, slash].concat(),
            path: name.to_vec(),
            operation: "del.",
            checksum_width: self.checksum_width,
            uid: "0".to_owned(),
            gid: "DEFAULT".to_owned(),
            ..Facts::default()
        };
        let named = [b"deleting ", facts.name.as_slice()].concat();
        match &self.format {
            Some(format) if format.has(b"io") => {
                let line = format.line(&facts.escaped(|bytes| self.mouth.shown(bytes)));
                self.mouth.line(line);
            }
            None if self.told.del == 0 => {}
            _ => self.mouth.line(self.mouth.shown(&named)),
        }
        if self.mouth.log.as_ref().is_some_and(|log| log.format.has(b"io")) {
            self.tell_log(&facts);
        } else {
            self.mouth.note(eight_bit(&named));
        }
    }

    fn text(&mut self, text: &Text) {
        let shown = self.mouth.shown(&text.bytes);
        match text.kind {
            TextKind::Motd if self.motd => {
                self.motd_shown = true;
                self.mouth.line(shown);
            }
            // Peer: rsync's manual page, option `--no-motd`: it affects this list, too.
            TextKind::Listing if self.motd => self.mouth.line(shown),
            TextKind::Info if !self.quiet => {
                self.mouth.note(&shown);
                self.mouth.line(shown);
            }
            TextKind::Motd | TextKind::Listing | TextKind::Info => {}
            TextKind::Warning | TextKind::Error | TextKind::TransferError => self.mouth.complain(shown),
        }
    }

    fn unreadable(&mut self, entry: &Entry, reason: &io::Error) {
        let path = self.path(entry);
        let gone = matches!(reason.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        if gone || reason.kind() == io::ErrorKind::InvalidInput {
            self.mouth.complain(format!("file has vanished: \"{path}\""));
        } else {
            let why = OsError(reason);
            self.mouth.complain(format!("rsync: [sender] send_files failed to open \"{path}\": {why}"));
        }
    }
}
