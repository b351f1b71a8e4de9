//! How much is told: rsync's `--info` levels, from `-v`, `--info` and the options that imply some.

use super::args::{Args, UsageError};

/// The level of each kind of information; 0 is silence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Deletions.
    pub(super) del: u8,
    /// That a list is made.
    pub(super) flist: u8,
    /// Names of what is sent.
    pub(super) name: u8,
    /// What is left out because of its kind.
    pub(super) nonreg: u8,
    /// Each file's progress (1), or the whole transfer's (2).
    pub(super) progress: u8,
    /// Files that are removed here.
    pub(super) remove: u8,
    /// The two last lines (1), all numbers (2).
    pub(super) stats: u8,
}

impl Told {
    /// What these options ask for.
    ///
    /// # Errors
    /// Help is asked for, or an item is unknown.
    pub(super) fn of(args: &Args) -> Result<Told, UsageError> {
        let output = &args.given.output;
        if output.quiet {
            check_all(&output.info)?;
            return Ok(Told::default());
        }
        let mut told = Told::at_verbosity(output.verbose);
        if output.progress {
            told.flist = told.flist.max(1);
            told.name = told.name.max(1);
            told.progress = 1;
        }
        if output.stats {
            told.stats = told.stats.max(2);
        }
        for item in items(&output.info) {
            told.set(item)?;
        }
        Ok(told)
    }

    /// Peer: what `rsync --info=help` says.
    fn at_verbosity(verbose: u8) -> Told {
        let (one, two) = (u8::from(verbose > 0), u8::from(verbose > 1));
        Told { del: one, flist: one, name: one + two, nonreg: 1, progress: 0, remove: two, stats: one }
    }

    fn set(&mut self, item: &[u8]) -> Result<(), UsageError> {
        let (word, level) = parse(item)?;
        let fields: [(&str, &mut u8); 7] = [
            ("del", &mut self.del),
            ("flist", &mut self.flist),
            ("name", &mut self.name),
            ("nonreg", &mut self.nonreg),
            ("progress", &mut self.progress),
            ("remove", &mut self.remove),
            ("stats", &mut self.stats),
        ];
        for (name, field) in fields {
            match word.as_str() {
                "all" => *field = level,
                "none" => *field = 0,
                word if word == name => *field = level,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Refuses unknown items of `--info` and `--debug`, which concern others than us.
pub(super) fn check_debug(values: &[Vec<u8>]) -> Result<(), UsageError> {
    match items(values).next() {
        Some(b"help") => {
            Err(UsageError::Help("no --debug items; see RUST_LOG in the manual page\n".to_owned()))
        }
        _ => Ok(()),
    }
}

fn check_all(values: &[Vec<u8>]) -> Result<(), UsageError> {
    items(values).try_for_each(|item| parse(item).map(|_| ()))
}

fn items(values: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    values.iter().flat_map(|value| value.split(|byte| *byte == b',')).filter(|item| !item.is_empty())
}

/// A word in small letters, and its level.
fn parse(item: &[u8]) -> Result<(String, u8), UsageError> {
    let text = String::from_utf8_lossy(item).to_ascii_lowercase();
    let word = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let level = text[word.len()..].parse().unwrap_or(1);
    match word {
        "help" => Err(UsageError::Help(HELP.to_owned())),
        _ if WORDS.contains(&word) => Ok((word.to_owned(), level)),
        _ => Err(UsageError::Wrong(format!("Unknown --info item: \"{}\"", crate::text::Escaped(item)))),
    }
}

/// All that rsync has. Those that [`Told`] lacks are told by the receiver, or have nothing to tell in a push.
const WORDS: &[&str] = &[
    "all", "backup", "copy", "del", "flist", "misc", "mount", "name", "none", "nonreg", "progress", "remove",
    "skip", "stats", "symsafe",
];

const HELP: &str = "\
--info=ITEM or ITEM1 is the first level of an item, ITEM2 the second; ITEM0 is silence.

DEL        deletions at the receiver
FLIST      that a file list is made
NAME       names of what is sent
NONREG     what is skipped because of its kind (usual)
PROGRESS   progress of each file (1), of the whole transfer (2)
REMOVE     files that --remove-source-files removed
STATS      the two last lines (1), all numbers (2)
BACKUP COPY MISC MOUNT SKIP SYMSAFE
           told by the receiver, as far as it does

ALL, NONE  all items at once
";

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn told(line: &str) -> Result<Told, UsageError> {
        let words = format!("ebbtide-send -r {line} s d");
        Told::of(&Args::parse_in(&|_| None, words.split_whitespace().map(OsString::from)).unwrap())
    }

    #[test]
    fn verbosity_and_items_add_up_and_the_last_counts() {
        assert_eq!(told("").unwrap(), Told { nonreg: 1, ..Told::default() });
        assert_eq!(told("-v").unwrap().name, 1);
        assert_eq!(told("-vv").unwrap().name, 2);
        assert_eq!(told("-v --info=name0,stats2").unwrap().name, 0);
        assert_eq!(told("--info=PROGRESS2 --info=progress0").unwrap().progress, 0);
        assert_eq!(told("-vq").unwrap(), Told::default());
        assert_eq!(told("-v --info=none,del").unwrap(), Told { del: 1, ..Told::default() });
    }

    #[test]
    fn unknown_items_are_refused() {
        assert_eq!(told("--info=nam").unwrap_err().to_string(), "Unknown --info item: \"nam\"");
        assert!(matches!(told("--info=help"), Err(UsageError::Help(_))));
    }
}
