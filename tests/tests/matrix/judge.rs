//! What came of one change, and whether it is right.

use std::fmt::Write as _;
use std::io;

use ebbtide_tests::{Change, Expected, Kind, Place, Quiet, Told};
use rustix::io::Errno;
use serde_json::Value;

use crate::column::facts_of;

/// What came of one change.
pub(crate) struct Seen {
    /// Whether it was made; the kernel's word where it was not possible.
    done: io::Result<Option<Errno>>,
    facts: Vec<Told>,
    differences: Vec<String>,
}

/// A cell of the matrix that is as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// The facts came, and the destination followed.
    Followed,
    /// The kernel does not do this on this file system.
    NotPossible(Errno),
    /// It does not arrive, and we know that; the reason.
    KnownUnseen(&'static str),
    /// It arrives when something else writes the page back or the file is closed in time; why not otherwise.
    ByChance(&'static str),
}

impl Seen {
    pub(crate) fn of(
        change: &Change,
        done: io::Result<Option<Errno>>,
        facts: &[Told],
        differences: &[String],
    ) -> Seen {
        let own = |line: &&String| cell_of_difference(line) == Some(change.slug());
        Seen {
            done,
            facts: facts_of(change, facts),
            differences: differences.iter().filter(own).cloned().collect(),
        }
    }

    /// The expected facts that did not come.
    fn missing(&self, change: &Change) -> Vec<Expected> {
        let mut missing = change.facts.to_vec();
        missing.retain(|expected| !self.facts.iter().any(|told| is(told, *expected, change)));
        missing
    }

    fn describe(&self) -> String {
        let mut text = String::from("told:\n");
        for fact in &self.facts {
            let _ = writeln!(text, "  {} {}", fact.word, fact.path.escape_ascii());
        }
        text.push_str("the referee says:\n");
        self.differences.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        text
    }
}

impl Cell {
    /// What stands behind `ok`.
    pub(crate) fn remark(&self) -> Option<String> {
        match self {
            Cell::Followed => None,
            Cell::NotPossible(errno) => Some(format!("not possible here: {}", name_of(*errno))),
            Cell::ByChance(why) => Some(format!("seen by chance only: {why}")),
            Cell::KnownUnseen(why) => Some(format!("known not to be seen: {why}")),
        }
    }
}

/// Whether the cell is as it must be; otherwise what is wrong.
pub(crate) fn judge(change: &Change, kind: Kind, plan: &Value, seen: &Seen) -> Result<Cell, String> {
    match &seen.done {
        Err(error) => return Err(format!("the change could not be made: {error}")),
        Ok(Some(errno)) => return Ok(Cell::NotPossible(*errno)),
        Ok(None) => {}
    }
    let (missing, equal) = (seen.missing(change), seen.differences.is_empty());
    match (known_unseen(change, kind, plan), missing.is_empty(), equal) {
        (None, true, true) => Ok(Cell::Followed),
        (Some(why), ..) if by_chance(kind, plan) => Ok(Cell::ByChance(why)),
        (Some(why), _, false) => Ok(Cell::KnownUnseen(why)),
        (Some(why), ..) => Err(format!(
            "it is seen now: take it out of the list of what is not ({why})\n{}",
            seen.describe()
        )),
        (None, _, false) => {
            Err(format!("the destination did not follow; missing: {missing:?}\n{}", seen.describe()))
        }
        (None, false, true) => Err(format!("no such fact came: {missing:?}\n{}", seen.describe())),
    }
}

/// The changes that are known not to be seen, by name; `docs/ARCHITECTURE.md` says why.
fn known_unseen(change: &Change, kind: Kind, plan: &Value) -> Option<&'static str> {
    let quiet = change.quiet?;
    if kind == Kind::Tmpfs {
        // The end of the change closes the file, and on tmpfs that is listened for.
        let again = change.name.starts_with("mmap, next store");
        return again
            .then_some("a mapped store moves no time there, so the sender takes the file for what it sent");
    }
    if plan["mapped"] != "ebpf" {
        return Some(match quiet {
            Quiet::Mapped => "only an eBPF program sees stores through mappings",
            Quiet::Aio => "the kernel tells fanotify nothing of asynchronous writes",
        });
    }
    let written_before = change.name.ends_with("write() dirtied") || change.name == AIO_AGAIN;
    match kind {
        Kind::Xfs | Kind::Btrfs if written_before && plan["content"] != "ebpf" => {
            Some("a page that is dirty is not marked again")
        }
        Kind::Xfs | Kind::Btrfs if change.name == "direct write through aio" && plan["content"] != "ebpf" => {
            Some("only the tracepoint at the end of direct writes tells, and not every plan has it")
        }
        _ => None,
    }
}

/// Whether other programs of the machine decide if such a change is seen: they write pages back.
fn by_chance(kind: Kind, plan: &Value) -> bool {
    kind == Kind::Tmpfs || plan["mapped"] == "ebpf"
}

const AIO_AGAIN: &str = "write through aio to a page already dirty";

/// Expects that all facts and differences belong to one of the changes: none of them harms the others.
///
/// # Panics
/// With what belongs to none.
pub(crate) fn expect_nothing_else(
    places: &[(&'static Change, Place)],
    facts: &[Told],
    differences: &[String],
) {
    let slugs: Vec<String> = places.iter().map(|(change, _)| change.slug()).collect();
    let known = |cell: Option<String>| cell.is_some_and(|cell| slugs.contains(&cell) || cell == ".watched");
    let facts: Vec<_> = facts.iter().filter(|fact| !known(cell_of_path(&fact.path))).collect();
    let differences: Vec<_> = differences.iter().filter(|line| !known(cell_of_difference(line))).collect();
    assert!(facts.is_empty() && differences.is_empty(), "nobody did this: {facts:?} {differences:#?}");
}

/// Whether a fact is about the directory of a change, or something in it.
pub(crate) fn is_about(fact: &Told, change: &Change) -> bool {
    cell_of_path(&fact.path) == Some(change.slug())
}

fn cell_of_path(path: &[u8]) -> Option<String> {
    let first = path.split(|&byte| byte == b'/').next()?;
    Some(String::from_utf8_lossy(first).into_owned())
}

/// A line of the referee: eleven letters or `*deleting  `, a space, the path.
fn cell_of_difference(line: &str) -> Option<String> {
    cell_of_path(line.get(12..)?.as_bytes())
}

fn is(told: &Told, expected: Expected, change: &Change) -> bool {
    let (words, name): (&[&str], _) = match expected {
        Expected::Data(name) => (&["data"], name),
        Expected::Touched(name) => (&["data", "attrs"], name),
        Expected::Gone(name) => (&["gone"], name),
        Expected::Subtree(name) => (&["subtree", "replaced"], name),
    };
    let path = format!("{}/{name}", change.slug());
    words.contains(&told.word.as_str()) && told.path == path.as_bytes()
}

/// As C names it.
pub(crate) fn name_of(errno: Errno) -> &'static str {
    match errno {
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::INVAL => "EINVAL",
        Errno::NOSYS => "ENOSYS",
        _ => "an error",
    }
}
