//! `ebbtide watch`, read fact by fact.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use serde_json::Value;

use crate::machine::{PATIENCE, bound_to_us};
use crate::programs::program;

/// A fact as `ebbtide watch --json` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Such as `data` or `gone`.
    pub word: String,
    /// The name below the tree; empty for its root.
    pub path: Vec<u8>,
}

/// A running `ebbtide watch`. Ends on drop.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    lines: Receiver<Told>,
    /// A directory in the tree for [`Watch::facts`].
    marks: PathBuf,
    next: u32,
}

impl Watch {
    /// Watches a tree with these probes, and returns when nothing goes unseen any more. It makes a directory
    /// `.watched` in the tree.
    ///
    /// # Panics
    /// When it ends instead, with what it said.
    pub fn start(tree: &Path, probes: &str) -> Watch {
        let marks = tree.join(".watched");
        fs::create_dir_all(&marks).expect("the tree is writable");
        let mut child = bound_to_us(program("ebbtide"))
            .args(["watch", "--json", "--probes", probes])
            .arg(tree)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv is installed");
        let mut log = BufReader::new(child.stderr.take().expect("it was piped")).lines();
        let mut said = Vec::new();
        while !said.last().is_some_and(|line: &String| line.starts_with("watching")) {
            let line = log.next().unwrap_or_else(|| panic!("watch ended: {said:?}"));
            said.push(line.expect("a pipe can be read"));
        }
        std::thread::spawn(move || log.for_each(|line| eprintln!("watch: {}", line.unwrap_or_default())));
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().expect("it was piped"));
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|line| sender.send(told(&line)))
        });
        Watch { child, lines, marks, next: 0 }
    }

    /// All facts of what happened before this call and after the last one.
    ///
    /// # Panics
    /// When it tells nothing for long.
    pub fn facts(&mut self) -> Vec<Told> {
        let Watch { lines, marks, next, .. } = self;
        let mut facts = told_before(lines, || {
            *next += 1;
            let name = next.to_string();
            fs::write(marks.join(&name), b"").expect("the tree is writable");
            [b".watched/", name.as_bytes()].concat()
        });
        facts.retain(|fact| !fact.path.starts_with(b".watched"));
        facts
    }
}

/// All facts of what happened before this call. `mark` makes a new file in the tree, and gives its path.
///
/// A look of the tracker finds names that were made after it began, but only those marked inodes that were marked before.
/// So the first mark may be told one look before an earlier change, and the second one in the same look as that change,
/// whose facts come in any order. The third one comes after it.
fn told_before(lines: &Receiver<Told>, mut mark: impl FnMut() -> Vec<u8>) -> Vec<Told> {
    let mut facts: Vec<Told> = Vec::new();
    for _ in 0..3 {
        let (mark, end) = (mark(), Instant::now() + PATIENCE);
        while facts.last().is_none_or(|fact| fact.path != mark) {
            let told = lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            facts.push(told.unwrap_or_else(|e| panic!("{e}: watch tells nothing more after {facts:?}")));
        }
    }
    facts
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn told(line: &str) -> Told {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("watch --json said {line}: {e}"));
    let bytes = value["path_bytes"].as_array().map(|bytes| {
        bytes.iter().filter_map(Value::as_u64).filter_map(|byte| u8::try_from(byte).ok()).collect::<Vec<_>>()
    });
    let text = || value["path"].as_str().unwrap_or_default().as_bytes().to_vec();
    Told { word: value["fact"].as_str().unwrap_or_default().into(), path: bytes.unwrap_or_else(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_is_told_one_look_after_a_later_name_is_waited_for() {
        let (sender, lines) = channel();
        let tell = |path: &str| {
            let told = Told { word: "data".into(), path: path.into() };
            sender.send(told).expect("the other end is held");
        };
        // The change came while a look began, and the first mark before that look read the names.
        let mut looks = [["1"].as_slice(), &["2", "changed"], &["3"]].into_iter();
        let facts = told_before(&lines, || {
            let look = looks.next().expect("three marks are enough");
            look.iter().copied().for_each(tell);
            look[0].into()
        });
        assert!(facts.iter().any(|fact| fact.path == b"changed"), "{facts:?}");
    }
}
