//! Nothing that rsync knows is unknown to us: each option of the installed rsync is either taken or refused by its
//! name, with what to use instead.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use ebbtide_tests::{Client, Outcome, Scratch, skip};
use ebbtide_transfer::cli::{Args, UsageError};

/// The options of `rsync --help`, each with a value if it takes one.
fn options_of_rsync() -> Vec<(String, bool)> {
    let help = Command::new("rsync").arg("--help").output().expect("rsync is installed");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let lines = help.lines().filter(|line| line.starts_with('-') && !line.contains("--no-OPTION"));
    let names = |line: &str| -> Vec<(String, bool)> {
        let head = line.split("  ").next().unwrap_or_default();
        let takes_value = head.contains('=');
        let words = head.split(", ").map(|word| word.trim().trim_end_matches(" (*)"));
        words.map(|word| (word.split('=').next().unwrap_or(word).to_owned(), takes_value)).collect()
    };
    lines.flat_map(names).collect()
}

fn parse(words: &[&str]) -> Result<Args, UsageError> {
    Args::parse_in(&|_| None, ["ebbtide-send"].iter().chain(words).map(OsString::from))
}

/// Values that the option's own check accepts.
fn value_for(option: &str) -> &'static str {
    match option {
        "-M" => "--fsync",
        "-B" => "700",
        "-f" => "- x",
        "--stderr" => "errors",
        "--outbuf" => "line",
        "--compress-choice" => "zstd",
        "--checksum-choice" => "md5",
        "--remote-option" => "--fsync",
        "--protocol" => "31",
        "--info" => "skip2",
        "--debug" => "none",
        "--iconv" => "-",
        "--chmod" => "u+w",
        "--rsync-path" => "rsync",
        "--block-size" => "700",
        "--chown" | "--usermap" | "--groupmap" => "1:2",
        "--filter" => "- x",
        "--sockopts" => "SO_KEEPALIVE",
        "--max-alloc" => "2147483648",
        "--stop-at" => "2099-01-01",
        // No end comes before the shell has told what it was told.
        "--timeout" | "--contimeout" => "300",
        "--exclude-from" | "--include-from" | "--files-from" | "--early-input" => "rules",
        _ => "1",
    }
}

#[test]
fn every_option_of_the_installed_rsync_is_known() {
    let options = options_of_rsync();
    assert!(options.len() > 150, "{options:?}");
    for (option, takes_value) in options {
        let value = value_for(&option);
        let words: &[&str] = if takes_value {
            &[&option, value, "src", "dst::m/"]
        } else {
            &[&option, "-r", "src", "dst::m/"]
        };
        let unknown = match parse(words) {
            Err(UsageError::Unknown(name)) => Some(name),
            // A value that is missing or left over means that we read the option in another way than rsync does.
            Err(UsageError::Wrong(why)) if why.contains("value") && why.contains("required") => Some(why),
            Err(UsageError::Wrong(why)) if why.contains("unexpected") => Some(why),
            _ => None,
        };
        assert_eq!(unknown, None, "{option}");
    }
}

/// rsync has these without naming them in its help.
#[test]
fn negations_and_old_names_are_known_too() {
    for option in [
        "--no-8",
        "--no-8-bit-output",
        "--no-A",
        "--no-D",
        "--no-H",
        "--no-J",
        "--no-N",
        "--no-O",
        "--no-R",
        "--no-S",
        "--no-U",
        "--no-W",
        "--no-X",
        "--no-acls",
        "--no-append",
        "--no-atimes",
        "--no-backup",
        "--no-blocking-io",
        "--no-bwlimit",
        "--no-c",
        "--no-checksum",
        "--no-compress",
        "--no-contimeout",
        "--no-crtimes",
        "--no-d",
        "--no-delay-updates",
        "--no-devices",
        "--no-dirs",
        "--no-drop-D",
        "--no-force",
        "--no-from0",
        "--no-fuzzy",
        "--no-g",
        "--no-group",
        "--no-h",
        "--no-hard-links",
        "--no-human-readable",
        "--no-i",
        "--no-i-d",
        "--no-i-r",
        "--no-iconv",
        "--no-ignore-errors",
        "--no-implied-dirs",
        "--no-inc-recursive",
        "--no-inplace",
        "--no-insecure-links",
        "--no-itemize-changes",
        "--no-l",
        "--no-links",
        "--no-m",
        "--no-mkpath",
        "--no-motd",
        "--no-msgs2stderr",
        "--no-munge-links",
        "--no-numeric-ids",
        "--no-o",
        "--no-old-args",
        "--no-omit-dir-times",
        "--no-omit-link-times",
        "--no-one-file-system",
        "--no-open-noatime",
        "--no-owner",
        "--no-p",
        "--no-partial",
        "--no-perms",
        "--no-progress",
        "--no-protect-args",
        "--no-prune-empty-dirs",
        "--no-r",
        "--no-recursive",
        "--no-relative",
        "--no-s",
        "--no-secluded-args",
        "--no-sparse",
        "--no-specials",
        "--no-super",
        "--no-t",
        "--no-timeout",
        "--no-times",
        "--no-v",
        "--no-verbose",
        "--no-whole-file",
        "--no-write-devices",
        "--no-x",
        "--no-xattrs",
        "--no-y",
        "--no-z",
        "--protect-args",
        "--msgs2stderr",
        "--old-compress",
        "--new-compress",
        "--old-d",
        "--i-r",
    ] {
        let result = parse(&[option, "-d", "src", "dst::m/"]);
        assert!(
            !matches!(result, Err(UsageError::Unknown(_) | UsageError::Wrong(_))),
            "{option}: {result:?}"
        );
        let stock = Command::new("rsync").args([option, "--version"]).output().expect("rsync is installed");
        assert!(stock.status.success(), "rsync does not know {option}");
    }
    for option in ["--cc=md5", "--zc=lz4", "--zl=1", "--zt=1", "--log-format=%n", "--time-limit=9"] {
        let result = parse(&[option, "-r", "src", "dst::m/"]);
        assert!(
            !matches!(result, Err(UsageError::Unknown(_) | UsageError::Wrong(_))),
            "{option}: {result:?}"
        );
    }
}

/// What a client told the other side: the letters, and the words, in the order of their bytes.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    letters: Vec<char>,
    words: Vec<String>,
}

impl Told {
    /// From the words that a remote shell got; `None` if it was not started.
    fn read(seen: Option<String>) -> Option<Told> {
        let seen = seen?;
        let words = seen.lines().skip_while(|word| *word != "--server").skip(1);
        let (clusters, mut words): (Vec<_>, Vec<_>) = words
            .map(str::to_owned)
            .partition(|word| word.starts_with('-') && word.contains('e') && !word.starts_with("--"));
        // What follows the `e` is what the client can do, and not an option.
        let letters =
            clusters.iter().flat_map(|cluster| cluster[1..].chars().take_while(|letter| *letter != 'e'));
        let mut letters: Vec<char> = letters.collect();
        letters.sort_unstable();
        words.sort_unstable();
        Some(Told { letters, words })
    }
}

/// Options that are told in other words on purpose, and why that is the same.
fn is_told_otherwise(option: &str) -> bool {
    match option {
        // What is agreed on is agreed on by one name in the answer to the other side's list, which every release takes.
        "--checksum-choice" | "--compress-choice" | "--compress-level" => true,
        // The lines that it would not say are not shown.
        "--quiet" | "-q" => true,
        // Complaints of the other side come through the session.
        "--stderr" => true,
        // Without --relative it says nothing.
        "--no-implied-dirs" => true,
        // With --recursive it says nothing.
        "--dirs" | "-d" | "--old-dirs" | "--old-d" => true,
        // What it implies is said as well.
        "--append" | "--append-verify" | "--delete-excluded" => true,
        // The letter stands for both halves, and the other one is taken back.
        "--specials" => true,
        // Another spelling of the same option.
        "--modify-window" | "-@" => true,
        _ => false,
    }
}

#[test]
fn each_option_tells_the_other_side_what_rsync_tells_it() {
    if !Client::under_test().is_ours() {
        skip!("both would be rsync");
    }
    let scratch = Scratch::new("told");
    fs::write(scratch.dir("source").join("x"), "x").expect("scratch is writable");
    fs::write(scratch.path().join("rules"), "x\n").expect("scratch is writable");
    let seen = scratch.path().join("seen");
    let body = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > {}\nexit 1\n", seen.display());
    let shell = format!("--rsh={}", scratch.script("shell", &body).display());
    let tell = |client: Client, option: &[&str]| -> (Outcome, Option<Told>) {
        let _ = fs::remove_file(&seen);
        let line = [&["-r", &shell], option, &["source/", "host:d"]].concat();
        let outcome = client.run_in(Some(scratch.path()), line);
        (outcome, Told::read(fs::read_to_string(&seen).ok()))
    };
    let mut differ = Vec::new();
    for (option, takes_value) in options_of_rsync() {
        let words: &[&str] = if takes_value { &[&option, value_for(&option)] } else { &[&option] };
        if matches!(option.as_str(), "--rsh" | "--help" | "-h" | "--version" | "-V") {
            continue;
        }
        let (outcome, stock) = tell(Client::stock(), words);
        let (ended, ours) = tell(Client::under_test(), words);
        let is_refused =
            matches!(ended.code, 1 | 4) && ours.is_none() && ended.stderr.contains(option.as_str());
        if is_refused || is_told_otherwise(&option) {
            continue;
        }
        if ours != stock {
            differ.push(format!("{option}: rsync {stock:?} {outcome:?}\nwe {ours:?} {ended:?}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
