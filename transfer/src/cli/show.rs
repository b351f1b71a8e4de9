//! What the user sees while a session runs.

use std::ffi::OsStr;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use ebbtide_wire::proto::{CompatFlags, Dialect};
use ebbtide_wire::sender::Iflags;

use super::args::Args;
use super::itemize::{Times, letters, significant};
use super::stats::Counts;
use crate::session::{Entry, Item, Observer, Text, TextKind};
use crate::source::Source;
use crate::text::{Escaped, OsError};
use crate::walk::Problem;

/// Standard output and standard error, in rsync's manner.
pub(super) struct Screen {
    out: BufWriter<Stdout>,
    at_once: bool,
    quiet: bool,
    motd: bool,
    verbose: u8,
    itemize: u8,
    times: Times,
    source: Arc<Source>,
    motd_shown: bool,
    pub(super) created: Counts,
    /// What was listed while the session ran.
    pub(super) listed: Counts,
}

impl Screen {
    pub(super) fn new(args: &Args) -> Screen {
        let output = &args.given.output;
        Screen {
            out: BufWriter::new(io::stdout()),
            at_once: io::stdout().is_terminal(),
            quiet: output.quiet,
            motd: output.motd && !output.quiet,
            verbose: output.verbose,
            itemize: output.itemize,
            times: Times { kept: args.push.server.times, of_links: true },
            source: Arc::new(Source::none()),
            motd_shown: false,
            created: Counts::default(),
            listed: Counts::default(),
        }
    }

    /// Where the entries come from, for messages that name them.
    pub(super) fn set_source(&mut self, source: Arc<Source>) {
        self.source = source;
    }

    /// A line on standard output. When nobody reads it any more, that is no reason to stop.
    pub(super) fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
        if self.at_once {
            let _ = self.out.flush();
        }
    }

    /// A line on standard error.
    pub(super) fn complain(&mut self, text: &str) {
        let _ = self.out.flush();
        let _ = writeln!(io::stderr(), "{text}");
    }

    pub(super) fn problem(&mut self, problem: &Problem) {
        if !problem.is_note() {
            self.complain(&problem.to_string());
        } else if !self.quiet {
            self.line(&problem.to_string());
        }
    }

    pub(super) fn flush(&mut self) {
        let _ = self.out.flush();
    }

    /// Peer: rsync's log.c:maybe_log_item decides by the same flags.
    fn wants(&self, item: &Item<'_>) -> bool {
        let told = significant(item.flags);
        if self.quiet || self.verbose == 0 && self.itemize == 0 {
            return false;
        }
        let linked = item.link_name.is_some_and(|name| !name.is_empty());
        let seen = self.itemize > 0 && (told || self.itemize > 1 || self.verbose > 1);
        let local = item.flags.has(Iflags::LOCAL_CHANGE) && told;
        item.flags.has(Iflags::TRANSFER) || seen || local || linked || item.entry.meta.is_dir() && told
    }

    fn path(&self, entry: &Entry) -> String {
        let path = self.source.path(entry.root).join(OsStr::from_bytes(&entry.name));
        Escaped(path.as_os_str().as_bytes()).to_string()
    }
}

impl Observer for Screen {
    fn ready(&mut self, dialect: &Dialect) {
        self.times.of_links = dialect.compat.has(CompatFlags::SYMLINK_TIMES);
        if self.motd_shown {
            self.line("");
        }
    }

    fn listed(&mut self, entries: &[Entry], problems: &[Problem]) {
        entries.iter().for_each(|entry| self.listed.add(entry));
        problems.iter().for_each(|problem| self.problem(problem));
    }

    fn item(&mut self, item: &Item<'_>) {
        if item.flags.has(Iflags::IS_NEW) {
            self.created.add(item.entry);
        }
        if !self.wants(item) {
            return;
        }
        let entry = item.entry;
        let mut line = String::new();
        if self.itemize > 0 {
            line = letters(entry.meta.kind(), item.flags, self.times);
            line.push(' ');
        }
        line += &Escaped(&entry.name).to_string();
        if entry.meta.is_dir() {
            line.push('/');
        }
        let hard_link =
            item.link_name.filter(|name| !name.is_empty() && item.flags.has(Iflags::LOCAL_CHANGE));
        if let Some(name) = hard_link {
            line += &format!(" => {}", Escaped(name));
        } else if entry.meta.is_symlink() {
            line += &format!(" -> {}", Escaped(&entry.link_target));
        }
        self.line(&line);
    }

    fn deleted(&mut self, name: &[u8], is_dir: bool) {
        let slash = if is_dir { "/" } else { "" };
        let name = Escaped(name);
        if self.quiet {
        } else if self.itemize > 0 {
            self.line(&format!("*deleting   {name}{slash}"));
        } else if self.verbose > 0 {
            self.line(&format!("deleting {name}{slash}"));
        }
    }

    fn text(&mut self, text: &Text) {
        let shown = Escaped(&text.bytes).to_string();
        match text.kind {
            TextKind::Motd if self.motd => {
                self.motd_shown = true;
                self.line(&shown);
            }
            TextKind::Listing => self.line(&shown),
            TextKind::Info if !self.quiet => self.line(&shown),
            TextKind::Motd | TextKind::Info => {}
            TextKind::Warning | TextKind::Error | TextKind::TransferError => self.complain(&shown),
        }
    }

    fn unreadable(&mut self, entry: &Entry, reason: &io::Error) {
        let path = self.path(entry);
        let gone = matches!(reason.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        if gone || reason.kind() == io::ErrorKind::InvalidInput {
            self.complain(&format!("file has vanished: \"{path}\""));
        } else {
            let why = OsError(reason);
            self.complain(&format!("rsync: [sender] send_files failed to open \"{path}\": {why}"));
        }
    }
}
