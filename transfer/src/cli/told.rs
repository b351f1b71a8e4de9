//! How much is told: rsync's `--info` levels, from `-v`, `--info` and the options that imply some.

use super::args::{Args, Output, UsageError};

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

/// The items of `--info` that the receiver may have something to tell of, as it takes them.
///
/// Peer: rsync's options.c:make_output_option.
pub(super) fn for_receiver(output: &Output) -> Option<Vec<u8>> {
    let words: Vec<String> = known(output)
        .filter(|(word, _)| !matches!(word.as_str(), "flist" | "progress" | "remove"))
        .map(|(word, level)| match level {
            1 => word.to_ascii_uppercase(),
            level => format!("{}{level}", word.to_ascii_uppercase()),
        })
        .collect();
    (!output.quiet && !words.is_empty()).then(|| format!("--info={}", words.join(",")).into_bytes())
}

/// Whether `--info` asks for the names of what is sent.
pub(super) fn names(output: &Output) -> bool {
    let last = known(output).filter(|(word, _)| matches!(word.as_str(), "name" | "all" | "none")).last();
    last.is_some_and(|(word, level)| word != "none" && level > 0)
}

/// Refuses `--debug`, unless it asks for nothing: there is nothing of rsync's inside to show here.
pub(super) fn check_debug(values: &[Vec<u8>]) -> Result<(), UsageError> {
    for item in items(values) {
        let (word, level) = split(item);
        match word.as_str() {
            "help" => return Err(UsageError::Help(DEBUG_HELP.to_owned())),
            word if !DEBUG_WORDS.contains(&word) => {
                let shown = crate::text::Escaped(item);
                return Err(UsageError::Wrong(format!("Unknown --debug item: \"{shown}\"")));
            }
            "none" => {}
            word if level > 0 => {
                return Err(UsageError::Unsupported(format!("--debug={word}: {}", DEBUG_HELP.trim_end())));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_all(values: &[Vec<u8>]) -> Result<(), UsageError> {
    items(values).try_for_each(|item| parse(item).map(|_| ()))
}

fn items(values: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    values.iter().flat_map(|value| value.split(|byte| *byte == b',')).filter(|item| !item.is_empty())
}

/// The known items of `--info`, with their levels.
fn known(output: &Output) -> impl Iterator<Item = (String, u8)> {
    items(&output.info).filter_map(|item| parse(item).ok())
}

/// A word in small letters, and its level.
fn split(item: &[u8]) -> (String, u8) {
    let mut text = String::from_utf8_lossy(item).to_ascii_lowercase();
    let word = text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let level = text[word..].parse().unwrap_or(1);
    text.truncate(word);
    (text, level)
}

/// An item of `--info`.
fn parse(item: &[u8]) -> Result<(String, u8), UsageError> {
    let (word, level) = split(item);
    match word.as_str() {
        "help" => Err(UsageError::Help(HELP.to_owned())),
        known if WORDS.contains(&known) => Ok((word, level)),
        _ => Err(UsageError::Wrong(format!("Unknown --info item: \"{}\"", crate::text::Escaped(item)))),
    }
}

/// All that rsync has. Those that [`Told`] lacks are told by the receiver, or have nothing to tell in a push.
const WORDS: &[&str] = &[
    "all", "backup", "copy", "del", "flist", "misc", "mount", "name", "none", "nonreg", "progress", "remove",
    "skip", "stats", "symsafe",
];

/// All that rsync's `--debug` has.
const DEBUG_WORDS: &[&str] = &[
    "acl", "all", "backup", "bind", "chdir", "cmd", "connect", "del", "deltasum", "dup", "exit", "filter",
    "flist", "fuzzy", "genr", "hash", "help", "hlink", "iconv", "io", "none", "nstr", "own", "proto", "recv",
    "send", "time",
];

const DEBUG_HELP: &str =
    "it shows the inside of rsync, which is not ours; -vv and --info tell of the transfer\n";

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
    fn the_receiver_is_told_what_it_may_tell_of() {
        let forwarded = |line: &str| {
            let words = format!("ebbtide-send -r {line} s d");
            let args = Args::parse_in(&|_| None, words.split_whitespace().map(OsString::from)).unwrap();
            for_receiver(&args.given.output).map(|option| String::from_utf8(option).unwrap())
        };
        assert_eq!(forwarded("--info=skip,name2 --info=progress2").as_deref(), Some("--info=SKIP,NAME2"));
        assert_eq!(forwarded("-v --info=del0").as_deref(), Some("--info=DEL0"));
        assert_eq!(forwarded("--info=progress2,flist,remove"), None);
        assert_eq!(forwarded("-q --info=skip"), None);
        assert_eq!(forwarded("-vv"), None);
    }

    #[test]
    fn debug_items_are_refused_by_name_unless_they_ask_for_nothing() {
        let check = |item: &str| check_debug(&[item.as_bytes().to_vec()]);
        assert!(check("none").is_ok() && check("flist0,RECV0").is_ok());
        assert!(matches!(check("bogus"), Err(UsageError::Wrong(_))));
        assert!(matches!(check("help"), Err(UsageError::Help(_))));
        let refused = check("flist2").unwrap_err();
        assert!(matches!(&refused, UsageError::Unsupported(text) if text.starts_with("--debug=flist: ")));
    }

    #[test]
    fn unknown_items_are_refused() {
        assert_eq!(told("--info=nam").unwrap_err().to_string(), "Unknown --info item: \"nam\"");
        assert!(matches!(told("--info=help"), Err(UsageError::Help(_))));
    }
}
