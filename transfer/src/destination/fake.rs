//! A daemon in memory, for tests: it keeps names and attributes, and fails where it is told to.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ebbtide_feed::RelPath;
use ebbtide_wire::ErrorKind;
use ebbtide_wire::proto::{ExitCode, IoErrors};

use super::courier::{Broken, Courier, Delivery, Orders, Renamed};
use super::witness::Witness;
use crate::session::{
    DirRole, Entry, Observer, Outcome, Report, SessionError, SessionErrorKind, Stage, Text, TextKind, Totals,
};
use crate::source::{Meta, Source};

/// A daemon that keeps what it gets.
#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<State>>);

/// What the daemon has and how it behaves.
#[derive(Default)]
pub(crate) struct State {
    /// Names and their attributes.
    pub(crate) held: BTreeMap<String, Meta>,
    /// The sessions so far.
    pub(crate) sessions: Vec<(Orders, Vec<String>)>,
    /// A session that is to remove one of these breaks.
    pub(crate) keeps: HashSet<String>,
    /// Its filter rules hide these: no session may link to them.
    pub(crate) hidden: HashSet<String>,
    /// Entries that can be neither written nor removed.
    pub(crate) locked: HashSet<String>,
    /// A session whose list has one of these breaks.
    pub(crate) poison: HashSet<String>,
    /// So many sessions break while connecting.
    pub(crate) down: u32,
    /// `--delete-missing-args` is unknown.
    pub(crate) is_old: bool,
    /// These change while they are read.
    pub(crate) busy: HashSet<String>,
    /// A session takes so long.
    pub(crate) lasts: Duration,
    /// So many sessions break in the middle.
    pub(crate) cut: u32,
    /// So many entries of a session that breaks are stored before it does.
    pub(crate) cut_at: usize,
    /// A session ends over one of these, and says so.
    pub(crate) fatal: HashSet<String>,
    /// What a session that broke still does after the next one is through.
    pub(crate) ghost: Vec<(String, Meta)>,
    /// Old and new names of the directories that sessions were about.
    pub(crate) renamed: Vec<(String, String)>,
    /// Errors name nobody.
    pub(crate) mumbles: bool,
    /// Names removed and passed over in this session.
    removed: u64,
    skipped: u64,
}

impl Fake {
    /// Looks at the daemon, or changes it.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }
}

impl State {
    fn session(&mut self, orders: Orders, entries: &[Entry]) -> Result<Delivery, Box<Broken>> {
        let names: Vec<String> = entries.iter().map(|entry| text(&entry.name)).collect();
        self.sessions.push((orders, names.clone()));
        if self.down > 0 {
            self.down -= 1;
            let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            return Err(broken(Stage::Connect, SessionErrorKind::Connect(error), &[]));
        }
        if orders.removes && self.is_old {
            let kind = ErrorKind::RemoteExit { code: 4, text: b"rsync error (code 4)".to_vec() };
            let said = b"on remote machine: --delete-missing-args: unknown option";
            return Err(broken(Stage::List, SessionErrorKind::Wire(kind), &[said]));
        }
        let breaks = |(entry, name): (&Entry, &String)| {
            self.poison.contains(name) || (entry.meta.mode == 0 && self.keeps.contains(name))
        };
        if self.cut > 0 || entries.iter().zip(&names).any(breaks) {
            self.cut = self.cut.saturating_sub(1);
            return Err(self.cut_short(orders, &entries[..self.cut_at.min(entries.len())]));
        }
        let is_fatal = |(entry, name): (&Entry, &String)| self.fatal.contains(name) && !entry.withheld;
        if let Some(at) = entries.iter().zip(&names).position(is_fatal) {
            let mut broken = self.cut_short(orders, &entries[..at]);
            let said = format!("rsync: [receiver] write failed on \"/{}\" (in m): No space left", names[at]);
            broken.witness.text(&Text { kind: TextKind::TransferError, bytes: said.into_bytes() });
            return Err(broken);
        }
        (self.removed, self.skipped) = (0, 0);
        let mut texts = Vec::new();
        let mut outcomes = Vec::new();
        let mut stored = HashSet::new();
        for (at, (entry, name)) in entries.iter().zip(&names).enumerate() {
            let outcome = self.entry(orders, entry, name, &mut texts);
            if orders.acknowledge && outcome.is_confirmed() && !entry.meta.is_dir() {
                stored.insert(at);
            }
            outcomes.push(outcome);
        }
        for (entry, name) in entries.iter().zip(&names) {
            if entry.dir == DirRole::Content && orders.lane.complete {
                self.remove_extraneous(orders, name, &names, &mut texts);
            }
        }
        self.held.extend(std::mem::take(&mut self.ghost));
        let texts: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        let mut delivery = delivery(outcomes, !texts.is_empty(), &[], &texts);
        delivery.witness.stored = stored;
        delivery.witness.deleted = self.removed;
        delivery.witness.skipped = Some(self.skipped).filter(|skipped| *skipped > 0);
        Ok(delivery)
    }

    /// Takes these entries and then breaks.
    fn cut_short(&mut self, orders: Orders, entries: &[Entry]) -> Box<Broken> {
        let kind = ErrorKind::Closed { text: Vec::new() };
        let mut broken = broken(Stage::Transfer, SessionErrorKind::Wire(kind), &[]);
        for (at, entry) in entries.iter().enumerate() {
            let outcome = self.entry(orders, entry, &text(&entry.name), &mut Vec::new());
            if orders.acknowledge && outcome.is_confirmed() && !entry.meta.is_dir() {
                broken.witness.stored.insert(at);
            }
        }
        broken
    }

    fn entry(&mut self, orders: Orders, entry: &Entry, name: &str, texts: &mut Vec<String>) -> Outcome {
        if self.locked.contains(name) {
            let said = if self.mumbles {
                "something failed".into()
            } else {
                format!("rsync: open \"{name}\" failed")
            };
            texts.push(said);
            return Outcome::NotReported;
        }
        let is_same = |held: &Meta| *held == entry.meta && !orders.lane.ignore_times;
        if entry.withheld && !self.held.get(name).is_some_and(is_same) {
            return Outcome::Failed("kept back".to_owned());
        }
        if entry.meta.mode == 0 {
            self.remove(orders, name);
            return Outcome::NotReported;
        }
        let same = self.held.insert(name.to_owned(), entry.meta) == Some(entry.meta);
        let is_sent = entry.meta.is_file() && (orders.lane.ignore_times || !same);
        match is_sent {
            true if self.busy.contains(name) => Outcome::ChangedWhileRead,
            true => Outcome::Sent,
            false if same && orders.verify => Outcome::Unchanged,
            false if same => Outcome::NotReported,
            false => Outcome::Updated,
        }
    }

    /// Removes a name and what is below it, the deepest first, as far as that is allowed.
    fn remove(&mut self, orders: Orders, name: &str) {
        let below = format!("{name}/");
        let all = self.held.keys().rev().filter(|held| *held == name || held.starts_with(&below));
        for name in all.cloned().collect::<Vec<_>>() {
            if orders.max_delete.is_some_and(|most| self.removed >= most) {
                self.skipped += 1;
            } else {
                self.held.remove(&name);
                self.removed += 1;
            }
        }
    }

    fn remove_extraneous(&mut self, orders: Orders, dir: &str, listed: &[String], texts: &mut Vec<String>) {
        let child_of = |name: &str| match dir {
            "." => name != "." && !name.contains('/'),
            dir => name
                .strip_prefix(dir)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|n| !n.contains('/')),
        };
        let gone: Vec<String> =
            self.held.keys().filter(|name| child_of(name) && !listed.contains(name)).cloned().collect();
        for name in gone {
            if self.locked.contains(&name) {
                texts.push(format!("rsync: delete_file: unlink({name}) failed: no"));
            } else {
                self.remove(orders, &name);
            }
        }
    }
}

impl Courier for Fake {
    async fn push(
        &self,
        orders: Orders,
        entries: Vec<Entry>,
        _source: Arc<Source>,
    ) -> Result<Delivery, Box<Broken>> {
        tokio::time::sleep(self.with(|state| state.lasts)).await;
        self.with(|state| state.session(orders, &entries))
    }

    async fn push_renamed(
        &self,
        orders: Orders,
        renamed: Renamed,
        mut entries: Vec<Entry>,
        _source: Arc<Source>,
    ) -> Result<Delivery, Box<Broken>> {
        for entry in &mut entries {
            let below = if *entry.name == *b"." { Vec::new() } else { [b"/", &*entry.name].concat() };
            entry.name = [renamed.to.as_bytes(), &below].concat().into();
        }
        self.with(|state| {
            if state.hidden.contains(&renamed.from.to_string()) {
                let kind = ErrorKind::RemoteExit { code: 1, text: b"rsync error (code 1)".to_vec() };
                let said = b"Your options have been rejected by the server.";
                return Err(broken(Stage::Setup, SessionErrorKind::Wire(kind), &[said]));
            }
            state.renamed.push((renamed.from.to_string(), renamed.to.to_string()));
            state.session(orders, &entries)
        })
    }

    fn can_enter(&self, dir: &RelPath) -> bool {
        !dir.as_bytes().contains(&b'*')
    }
}

fn broken(stage: Stage, kind: SessionErrorKind, texts: &[&[u8]]) -> Box<Broken> {
    let texts = texts.iter().map(|bytes| Text { kind: TextKind::Error, bytes: bytes.to_vec() }).collect();
    let error = SessionError { destination: "fake".into(), stage, kind, texts };
    Box::new(Broken { error, witness: Witness::default() })
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// A session's end with these outcomes.
pub(crate) fn delivery(outcomes: Vec<Outcome>, partial: bool, stored: &[usize], texts: &[&[u8]]) -> Delivery {
    let texts = texts.iter().map(|bytes| Text { kind: TextKind::TransferError, bytes: bytes.to_vec() });
    let report = Report {
        exit: if partial { ExitCode::PARTIAL } else { ExitCode::OK },
        outcomes,
        partial,
        io_errors: IoErrors::NONE,
        texts: texts.collect(),
        bytes_written: 0,
        bytes_read: 0,
        dialect: None,
        totals: Totals::default(),
    };
    let mut witness = Witness::default();
    witness.stored.extend(stored);
    report.texts.iter().for_each(|text| witness.text(text));
    Delivery { report, witness }
}
