//! Stock rsync, asked whether two trees are equal.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::eventually;

/// Compares two trees by names, content, attributes, hard links, ACLs and extended attributes.
#[derive(Clone, Debug)]
pub struct Referee {
    options: String,
    extra: Vec<String>,
}

/// What the referee found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

    /// Expects that nothing differs but what sending something once more touches ([`Verdict::is_of_a_resend`]), which must
    /// be over soon.
    ///
    /// # Panics
    /// With everything that differs.
    #[track_caller]
    pub fn expect_equal(&self, from: &Path, to: &Path) {
        let verdict = self.settled(from, to);
        assert!(verdict.is_equal(), "{} differs from {}:\n{verdict}", to.display(), from.display());
    }

    /// What differs when nothing is just being sent once more.
    pub(crate) fn settled(&self, from: &Path, to: &Path) -> Verdict {
        let looks = std::iter::repeat_with(|| self.compare(from, to)).take(LOOKS);
        let mut verdict = Verdict::default();
        for look in looks {
            verdict = look;
            if !verdict.is_of_a_resend() {
                break;
            }
        }
        verdict
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

    /// Whether something differs, and all of it is what a daemon touches while it stores a file that it has already: the
    /// times of directories, its temporary files, and which names are linked while one of them is replaced.
    ///
    /// A mirror may send a file once more after its barrier. On ext4 a file is marked again when its blocks are allocated, up
    /// to half a minute after it was written, and of what it got by comparing directories, of names of one inode, and of
    /// all that a broken session sent the sender does not remember that the destination has it.
    pub(crate) fn is_of_a_resend(&self) -> bool {
        !self.is_equal() && self.0.trim_ascii_end().split(|&byte| byte == b'\n').all(is_of_a_resend)
    }
}

/// Peer: rsync log.c, `%i`: what is touched in the line of one name.
fn is_of_a_resend(line: &[u8]) -> bool {
    let name = line.get(12..).unwrap_or_default();
    let last = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    match line.get(..12) {
        Some(b".d..t...... ") => true,
        Some(b"*deleting   ") => is_temporary(last),
        Some(item) => item.starts_with(b"h") && item[2..].iter().all(|&byte| byte == b' ' || byte == b'.'),
        None => false,
    }
}

/// Peer: rsync receiver.c:get_tmpname puts a dot before the name, and another one and six letters or digits behind it.
fn is_temporary(name: &[u8]) -> bool {
    let end = name.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
    name.starts_with(b".")
        && name.len() > end.len() + 1
        && end.len() == 6
        && end.iter().all(u8::is_ascii_alphanumeric)
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

/// The names of files that share an inode below `to`, and share none below `from`. rsync leaves such links alone, and
/// who changes the attributes of one changes those of the others.
///
/// # Panics
/// When `from` cannot be read.
pub fn links_too_many(from: &Path, to: &Path) -> Vec<PathBuf> {
    let mut twins: HashMap<u64, (u64, PathBuf)> = HashMap::new();
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(from.join(&dir)).expect("the source is readable") {
            let name = dir.join(entry.expect("the source is readable").file_name());
            let (Ok(here), Ok(there)) =
                (from.join(&name).symlink_metadata(), to.join(&name).symlink_metadata())
            else {
                continue;
            };
            if here.is_dir() {
                dirs.push(name);
            } else if let Some((twin, other)) = twins.get(&there.ino()) {
                if *twin != here.ino() {
                    found.extend([other.clone(), name]);
                }
            } else {
                twins.insert(there.ino(), (here.ino(), name));
            }
        }
    }
    found
}

/// So often is looked again at what passes when a session ends, some 20 ms each.
const LOOKS: usize = 200;
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
    fn only_times_of_directories_temporary_files_and_links_are_taken_for_a_resend() {
        let is_of_a_resend = |lines: &str| Verdict(lines.as_bytes().to_vec()).is_of_a_resend();
        assert!(is_of_a_resend(".d..t...... ./\n.d..t...... d/\n*deleting   d/.file.a1B2c3\n"));
        assert!(is_of_a_resend("hf          red/twin => twin\n"));
        for line in [
            "",
            ".d..t...... d/\n>f..t...... d/f\n",
            ".d..tp..... d/\n",
            ".f..t...... f\n",
            "*deleting   d/file.a1B2c3\n",
            "*deleting   .abcdef\n",
            "*deleting   d/.file.a1B2c\n",
            "hf+++++++++ red/twin => twin\n",
            "hf..t...... red/twin => twin\n",
            "cd+++++++++ d/\n",
            "rsync ended with exit status: 23\n",
        ] {
            assert!(!is_of_a_resend(line), "{line}");
        }
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
