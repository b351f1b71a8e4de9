//! Nothing that rsync knows is unknown to us: each option of the installed rsync is either taken or refused by its
//! name, with what to use instead.

use std::ffi::OsString;
use std::process::Command;

use ebbtide_transfer::cli::{Args, UsageError};

/// The options of `rsync --help`, each with a value if it takes one.
fn options_of_rsync() -> Vec<(String, bool)> {
    let help = Command::new("rsync").arg("--help").output().expect("rsync is installed");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let lines = help.lines().filter(|line| line.starts_with('-') && !line.contains("--no-OPTION"));
    let words = lines.flat_map(|line| line.split("  ").next().unwrap_or("").split(", "));
    words
        .map(|word| word.trim().trim_end_matches(" (*)"))
        .map(|word| match word.split_once('=') {
            Some((name, _)) => (name.to_owned(), true),
            None => (word.to_owned(), false),
        })
        .collect()
}

fn parse(words: &[&str]) -> Result<Args, UsageError> {
    Args::parse_in(&|_| None, ["ebbtide-send"].iter().chain(words).map(OsString::from))
}

/// Values that the option's own check accepts.
fn value_for(option: &str) -> &'static str {
    match option {
        "--stderr" => "errors",
        "--outbuf" => "line",
        "--compress-choice" => "zstd",
        "--checksum-choice" => "md5",
        "--remote-option" => "--fsync",
        "--protocol" => "31",
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
