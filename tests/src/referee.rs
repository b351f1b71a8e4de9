//! Stock rsync, asked whether two trees are equal.

use std::path::Path;
use std::process::Command;

use crate::machine::eventually;

/// Compares two trees by names, content, attributes, hard links, ACLs and extended attributes.
#[derive(Clone, Debug)]
pub struct Referee {
    options: String,
    extra: Vec<String>,
}

/// What the referee found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict(Vec<u8>);

impl Default for Referee {
    /// The judge of every promise: `rsync -naHAXc --delete --itemize-changes A/ B/`.
    fn default() -> Self {
        Referee { options: "-naHAXc".into(), extra: Vec::new() }
    }
}

impl Referee {
    /// One that compares less: `options` are rsync's short letters, such as `-nrlHc`.
    pub fn with(options: &str) -> Referee {
        Referee { options: options.into(), extra: Vec::new() }
    }

    /// Compares nanoseconds of mtimes too, which rsync by itself does not.
    pub fn to_the_nanosecond(mut self) -> Referee {
        self.extra.push("--modify-window=-1".into());
        self
    }

    /// Leaves out what matches a pattern of rsync's.
    pub fn without(mut self, pattern: &str) -> Referee {
        self.extra.push(format!("--exclude={pattern}"));
        self
    }

    /// Follows these filter rules.
    pub fn filtered(mut self, rules: &[&str]) -> Referee {
        self.extra.extend(rules.iter().map(|rule| format!("--filter={rule}")));
        self
    }

    /// What a sync from `from` to `to` would change.
    ///
    /// # Panics
    /// When rsync fails.
    pub fn compare(&self, from: &Path, to: &Path) -> Verdict {
        let mut command = Command::new("/usr/bin/rsync");
        command.arg(&self.options).args(["--delete", "--itemize-changes"]).args(&self.extra);
        let output = command.arg(with_slash(from)).arg(with_slash(to)).output().expect("rsync is installed");
        let mut found = output.stdout;
        if !output.status.success() {
            found.extend_from_slice(format!("rsync ended with {}\n", output.status).as_bytes());
            found.extend_from_slice(&output.stderr);
        }
        Verdict(found)
    }

    /// Expects that nothing differs.
    ///
    /// # Panics
    /// With everything that differs.
    #[track_caller]
    pub fn expect_equal(&self, from: &Path, to: &Path) {
        let verdict = self.compare(from, to);
        assert!(verdict.is_equal(), "{} differs from {}:\n{verdict}", to.display(), from.display());
    }

    /// Waits until nothing differs.
    ///
    /// # Panics
    /// When they still differ after [`crate::PATIENCE`].
    #[track_caller]
    pub fn await_equal(&self, from: &Path, to: &Path) {
        let what = format!("{} equals {}", to.display(), from.display());
        eventually(&what, || self.compare(from, to).is_equal().then_some(()));
    }
}

impl Verdict {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy(&self.0);
        for line in text.lines().take(MOST_LINES) {
            writeln!(f, "{}", line.chars().take(MOST_CHARACTERS).collect::<String>())?;
        }
        let more = text.lines().count().saturating_sub(MOST_LINES);
        if more > 0 { writeln!(f, "and {more} more") } else { Ok(()) }
    }
}

/// A difference in everything need not be shown in full.
const MOST_LINES: usize = 100;
/// Enough for any name that a person reads.
const MOST_CHARACTERS: usize = 300;

fn with_slash(path: &Path) -> std::ffi::OsString {
    let mut path = path.as_os_str().to_owned();
    path.push("/");
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scratch, Tree};

    #[test]
    fn the_referee_sees_one_changed_byte_under_an_unchanged_size_and_time() {
        let scratch = Scratch::new("referee");
        let (a, b) = (scratch.dir("a"), scratch.dir("b"));
        Tree::at(&a).file("f", b"one").mtime("f", 1_000, 0).mtime("", 1_000, 0);
        Tree::at(&b).file("f", b"two").mtime("f", 1_000, 0).mtime("", 1_000, 0);
        let found = Referee::default().compare(&a, &b).to_string();
        assert!(found.contains(">fc........ f"), "{found}");
        Tree::at(&b).file("f", b"one").mtime("f", 1_000, 0).mtime("", 1_000, 0);
        Referee::default().expect_equal(&a, &b);
    }

    #[test]
    fn the_referee_sees_what_is_too_much_and_what_lost_a_nanosecond() {
        let scratch = Scratch::new("referee");
        let (a, b) = (scratch.dir("a"), scratch.dir("b"));
        Tree::at(&a).file("f", b"one").mtime("f", 1_000, 5).mtime("", 1_000, 0);
        Tree::at(&b).file("f", b"one").mtime("f", 1_000, 6).file("g", b"").mtime("", 1_000, 0);
        assert_eq!(Referee::default().compare(&a, &b).to_string(), "*deleting   g\n");
        let strict = Referee::default().to_the_nanosecond().compare(&a, &b).to_string();
        assert!(strict.contains(".f..t...... f"), "{strict}");
    }
}
