//! The command line, in rsync's words. Where an option and its `--no-` form meet, the last one counts.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use ebbtide_wire::proto::{Checksum, CompressWish, Compression, DeleteMode, Protocol, ServerOptions};

use crate::options::PushOptions;

/// What one run was asked to do.
#[derive(Clone, Debug)]
pub struct Args {
    /// What the daemon is asked to do, and the session's own options.
    pub push: PushOptions,
    /// `-v`, repeated.
    pub verbose: u8,
    /// `-q`.
    pub quiet: bool,
    /// `-i`, repeated.
    pub itemize: u8,
    /// `-h`, repeated.
    pub human: u8,
    /// `--stats`.
    pub stats: bool,
    /// `--no-motd` turns it off.
    pub motd: bool,
    /// `--devices`, apart from `-D`.
    pub devices: bool,
    /// `--specials`, apart from `-D`.
    pub specials: bool,
    /// `-r` was given by itself, not through `-a`.
    pub recursive_by_name: bool,
    /// `-d`.
    pub dirs: bool,
    /// `--no-relative` was given.
    pub relative_denied: bool,
    /// What becomes of arguments that do not exist.
    pub missing: MissingArgs,
    /// `--files-from`; `-` is standard input.
    pub files_from: Option<PathBuf>,
    /// `--from0`.
    pub from0: bool,
    /// `--password-file`; `-` is standard input.
    pub password_file: Option<PathBuf>,
    /// `--port`.
    pub port: Option<u16>,
    /// All arguments but the last.
    pub sources: Vec<OsString>,
    /// The last argument.
    pub destination: OsString,
}

/// What becomes of arguments that do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingArgs {
    /// They are an error.
    Fail,
    /// `--ignore-missing-args`.
    Ignore,
    /// `--delete-missing-args`.
    Delete,
}

/// A command line that cannot be followed, or that asks for help.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// Something to print on standard output, with exit code 0.
    #[error("{0}")]
    Help(String),
    /// An option that rsync may have and we do not.
    #[error("{0}: unknown option")]
    Unknown(String),
    /// An algorithm that we do not have.
    #[error("{0}")]
    Unsupported(String),
    /// Anything else.
    #[error("{0}")]
    Wrong(String),
}

/// A switch: its id, its letter, its long names, and the letters and words that `--no-` takes.
struct Switch {
    id: &'static str,
    letter: Option<char>,
    longs: &'static [&'static str],
    help: &'static str,
    no: &'static [&'static str],
}

const fn switch(
    id: &'static str,
    letter: Option<char>,
    longs: &'static [&'static str],
    no: &'static [&'static str],
    help: &'static str,
) -> Switch {
    Switch { id, letter, longs, help, no }
}

const SWITCHES: &[Switch] = &[
    switch("verbose", Some('v'), &["verbose"], &["no-verbose", "no-v"], "increase verbosity"),
    switch("quiet", Some('q'), &["quiet"], &[], "suppress non-error messages"),
    switch(
        "human",
        Some('h'),
        &["human-readable"],
        &["no-human-readable", "no-h"],
        "output numbers in a human-readable format",
    ),
    switch("dry-run", Some('n'), &["dry-run"], &[], "perform a trial run with no changes made"),
    switch(
        "itemize",
        Some('i'),
        &["itemize-changes"],
        &["no-itemize-changes", "no-i"],
        "output a change-summary for all updates",
    ),
    switch("archive", Some('a'), &["archive"], &[], "archive mode is -rlptgoD"),
    switch("recursive", Some('r'), &["recursive"], &["no-recursive", "no-r"], "recurse into directories"),
    switch("links", Some('l'), &["links"], &["no-links", "no-l"], "copy symlinks as symlinks"),
    switch("perms", Some('p'), &["perms"], &["no-perms", "no-p"], "preserve permissions"),
    switch("times", Some('t'), &["times"], &["no-times", "no-t"], "preserve modification times"),
    switch("group", Some('g'), &["group"], &["no-group", "no-g"], "preserve group"),
    switch("owner", Some('o'), &["owner"], &["no-owner", "no-o"], "preserve owner (super-user only)"),
    switch("D", Some('D'), &[], &["no-D"], "same as --devices --specials"),
    switch("devices", None, &["devices"], &["no-devices"], "preserve device files (super-user only)"),
    switch("specials", None, &["specials"], &["no-specials"], "preserve special files"),
    switch(
        "compress",
        Some('z'),
        &["compress"],
        &["no-compress", "no-z"],
        "compress file data during the transfer",
    ),
    switch("relative", Some('R'), &["relative"], &["no-relative", "no-R"], "use relative path names"),
    switch(
        "implied-dirs",
        None,
        &["implied-dirs"],
        &["no-implied-dirs"],
        "send implied directories with --relative (usual)",
    ),
    switch("dirs", Some('d'), &["dirs"], &["no-dirs", "no-d"], "transfer directories without recursing"),
    switch("hard-links", Some('H'), &["hard-links"], &["no-hard-links", "no-H"], "preserve hard links"),
    switch(
        "ignore-times",
        Some('I'),
        &["ignore-times"],
        &["no-ignore-times", "no-I"],
        "don't skip files that match size and time",
    ),
    switch("size-only", None, &["size-only"], &["no-size-only"], "skip files that match in size"),
    switch(
        "checksum",
        Some('c'),
        &["checksum"],
        &["no-checksum", "no-c"],
        "skip based on checksum, not mod-time & size",
    ),
    switch(
        "update",
        Some('u'),
        &["update"],
        &["no-update", "no-u"],
        "skip files that are newer on the receiver",
    ),
    switch(
        "whole-file",
        Some('W'),
        &["whole-file"],
        &["no-whole-file", "no-W"],
        "copy files whole (w/o delta-xfer algorithm)",
    ),
    switch(
        "omit-dir-times",
        Some('O'),
        &["omit-dir-times"],
        &["no-omit-dir-times", "no-O"],
        "omit directories from --times",
    ),
    switch(
        "omit-link-times",
        Some('J'),
        &["omit-link-times"],
        &["no-omit-link-times", "no-J"],
        "omit symlinks from --times",
    ),
    switch("inplace", None, &["inplace"], &["no-inplace"], "update destination files in-place"),
    switch(
        "existing",
        None,
        &["existing", "ignore-non-existing"],
        &[],
        "skip creating new files on receiver",
    ),
    switch("ignore-existing", None, &["ignore-existing"], &[], "skip updating files that exist on receiver"),
    switch("mkpath", None, &["mkpath"], &["no-mkpath"], "create destination's missing path components"),
    switch("fsync", None, &["fsync"], &["no-fsync"], "fsync every written file"),
    switch("delete", None, &["delete"], &[], "delete extraneous files from dest dirs"),
    switch("delete-before", None, &["delete-before"], &[], "receiver deletes before xfer, not during"),
    switch("delete-during", None, &["delete-during", "del"], &[], "receiver deletes during the transfer"),
    switch("delete-delay", None, &["delete-delay"], &[], "find deletions during, delete after"),
    switch("delete-after", None, &["delete-after"], &[], "receiver deletes after transfer, not during"),
    switch(
        "delete-missing-args",
        None,
        &["delete-missing-args"],
        &[],
        "delete missing source args from destination",
    ),
    switch(
        "ignore-missing-args",
        None,
        &["ignore-missing-args"],
        &[],
        "ignore missing source args without error",
    ),
    switch("force", None, &["force"], &["no-force"], "force deletion of directories even if not empty"),
    switch(
        "ignore-errors",
        None,
        &["ignore-errors"],
        &["no-ignore-errors"],
        "delete even if there are I/O errors",
    ),
    switch("from0", Some('0'), &["from0"], &["no-from0"], "the names of --files-from are delimited by 0s"),
    switch(
        "numeric-ids",
        None,
        &["numeric-ids"],
        &["no-numeric-ids"],
        "don't map uid/gid values by user/group name",
    ),
    switch("stats", None, &["stats"], &["no-stats"], "give some file-transfer stats"),
    switch("motd", None, &["motd"], &["no-motd"], "show the daemon's message of the day (usual)"),
];

impl Args {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// It asks for help, or cannot be followed.
    pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Args, UsageError> {
        let found = command().try_get_matches_from(line).map_err(|error| usage_error(&error))?;
        Reader { found: &found }.args()
    }
}

/// Translates what clap found.
struct Reader<'a> {
    found: &'a ArgMatches,
}

impl Reader<'_> {
    fn args(&self) -> Result<Args, UsageError> {
        let mut sources: Vec<OsString> =
            self.found.get_many::<OsString>("paths").into_iter().flatten().cloned().collect();
        let destination =
            sources.pop().ok_or_else(|| UsageError::Wrong("no destination was given".into()))?;
        Ok(Args {
            push: self.push()?,
            verbose: self.count("verbose"),
            quiet: self.on("quiet"),
            itemize: self.count("itemize"),
            human: self.count("human"),
            stats: self.on("stats"),
            motd: self.on_unless_denied("motd"),
            devices: self.in_archive_or("devices", "D"),
            specials: self.in_archive_or("specials", "D"),
            recursive_by_name: self.on("recursive"),
            dirs: self.on("dirs"),
            relative_denied: self.denied("relative") && !self.on("relative"),
            missing: self.missing(),
            files_from: self.found.get_one::<PathBuf>("files-from").cloned(),
            from0: self.on("from0"),
            password_file: self.found.get_one::<PathBuf>("password-file").cloned(),
            port: self.found.get_one::<u16>("port").copied(),
            sources,
            destination,
        })
    }

    fn push(&self) -> Result<PushOptions, UsageError> {
        let mut push = PushOptions::new(self.server()?);
        push.checksum = self.checksum()?;
        push.compress_level = self.found.get_one::<i32>("compress-level").copied();
        if let Some(seconds) = self.found.get_one::<u32>("timeout") {
            push = push.with_timeout(Duration::from_secs((*seconds).into()));
        }
        let contimeout = self.found.get_one::<u32>("contimeout").copied().filter(|seconds| *seconds > 0);
        push.contimeout = contimeout.map(|seconds| Duration::from_secs(seconds.into()));
        if let Some(number) = self.found.get_one::<u32>("protocol") {
            push.protocol = Protocol::new(*number).ok_or_else(|| {
                UsageError::Wrong(format!("--protocol={number}: this sender speaks 30, 31 and 32"))
            })?;
        }
        Ok(push)
    }

    fn server(&self) -> Result<ServerOptions, UsageError> {
        let (devices, specials) = (self.in_archive_or("devices", "D"), self.in_archive_or("specials", "D"));
        let mut options = ServerOptions {
            verbose: self.count("verbose"),
            dry_run: self.on("dry-run"),
            recursive: self.in_archive("recursive"),
            dirs: self.on("dirs"),
            relative: self.on("relative"),
            no_implied_dirs: !self.on_unless_denied("implied-dirs"),
            links: self.in_archive("links"),
            hard_links: self.on("hard-links"),
            perms: self.in_archive("perms"),
            times: self.in_archive("times"),
            omit_dir_times: self.on("omit-dir-times"),
            omit_link_times: self.on("omit-link-times"),
            group: self.in_archive("group"),
            owner: self.in_archive("owner"),
            devices: devices || specials,
            checksum: self.on("checksum"),
            ignore_times: self.on("ignore-times"),
            size_only: self.on("size-only"),
            update: self.on("update"),
            whole_file: self.on("whole-file"),
            compress: self.compress()?,
            delete: self.delete(),
            delete_missing_args: self.missing() == MissingArgs::Delete,
            force: self.on("force"),
            ignore_errors: self.on("ignore-errors"),
            max_delete: self.found.get_one::<u32>("max-delete").copied(),
            numeric_ids: self.on("numeric-ids"),
            inplace: self.on("inplace"),
            existing: self.on("existing"),
            ignore_existing: self.on("ignore-existing"),
            report_all: self.count("itemize") > 1 || self.count("itemize") > 0 && self.count("verbose") > 1,
            itemize: self.on("itemize"),
            stats: self.on("stats"),
            fsync: self.on("fsync"),
            mkpath: self.on("mkpath"),
            checksum_seed: self.found.get_one::<i32>("checksum-seed").copied().filter(|seed| *seed != 0),
            block_size: self.found.get_one::<u32>("block-size").copied(),
            ..ServerOptions::default()
        };
        if devices != specials {
            options.extra.push(if devices { b"--no-specials".to_vec() } else { b"--no-devices".to_vec() });
        }
        Ok(options)
    }

    fn delete(&self) -> Option<DeleteMode> {
        [
            ("delete-before", DeleteMode::Before),
            ("delete-after", DeleteMode::After),
            ("delete-delay", DeleteMode::Delay),
            ("delete-during", DeleteMode::During),
            ("delete", DeleteMode::Default),
        ]
        .into_iter()
        .find_map(|(id, mode)| self.on(id).then_some(mode))
    }

    fn missing(&self) -> MissingArgs {
        if self.on("delete-missing-args") {
            MissingArgs::Delete
        } else if self.on("ignore-missing-args") {
            MissingArgs::Ignore
        } else {
            MissingArgs::Fail
        }
    }

    fn compress(&self) -> Result<CompressWish, UsageError> {
        match self.found.get_one::<String>("compress-choice").map(String::as_str) {
            None if self.on("compress") => Ok(CompressWish::Best),
            None => Ok(CompressWish::Off),
            Some("auto") => Ok(CompressWish::Best),
            Some("none") => Ok(CompressWish::Off),
            Some(name) => Compression::from_name(name.as_bytes())
                .map(CompressWish::Only)
                .ok_or_else(|| UsageError::Unsupported(format!("unknown compress name: {name}"))),
        }
    }

    /// `--checksum-choice=ONE`, or `ONE,TWO` where both are the same.
    fn checksum(&self) -> Result<Option<Checksum>, UsageError> {
        let Some(choice) = self.found.get_one::<String>("checksum-choice") else { return Ok(None) };
        let (transfer, list) = choice.split_once(',').unwrap_or((choice, choice));
        if transfer == "auto" && list == "auto" {
            return Ok(None);
        }
        let known = |name: &str| {
            let unknown = || UsageError::Unsupported(format!("unknown checksum name: {name}"));
            Checksum::from_name(name.as_bytes()).ok_or_else(unknown)
        };
        if known(transfer)? != known(list)? {
            let text = format!("--checksum-choice={choice}: this sender uses one checksum for both");
            return Err(UsageError::Unsupported(text));
        }
        known(transfer).map(Some)
    }

    /// Whether the switch was given, and not taken back later.
    fn on(&self, id: &str) -> bool {
        self.last(id) > self.last_denial(id)
    }

    /// Whether the switch was not taken back last.
    fn on_unless_denied(&self, id: &str) -> bool {
        self.last(id) >= self.last_denial(id)
    }

    fn denied(&self, id: &str) -> bool {
        self.last_denial(id) > 0
    }

    /// Like [`Reader::on`] for what `-a` implies.
    fn in_archive(&self, id: &str) -> bool {
        self.last(id).max(self.last("archive")) > self.last_denial(id)
    }

    /// Like [`Reader::in_archive`] for one half of `-D`.
    fn in_archive_or(&self, id: &str, whole: &str) -> bool {
        let given = self.last(id).max(self.last(whole)).max(self.last("archive"));
        given > self.last_denial(id).max(self.last_denial(whole))
    }

    fn count(&self, id: &str) -> u8 {
        if self.on(id) { self.found.get_count(id) } else { 0 }
    }

    /// The place on the command line where the switch was last given, 0 if nowhere.
    fn last(&self, id: &str) -> usize {
        if self.found.get_count(id) == 0 {
            return 0;
        }
        self.found.indices_of(id).and_then(Iterator::max).unwrap_or(0)
    }

    /// The same for its negation, which goes by its first word.
    fn last_denial(&self, id: &str) -> usize {
        let switch = SWITCHES.iter().find(|switch| switch.id == id);
        switch.and_then(|switch| switch.no.first()).map_or(0, |no| self.last(no))
    }
}

/// The command line as clap knows it, for the man page.
pub fn command() -> Command {
    let mut command = Command::new("ebbtide-send")
        .version(env!("CARGO_PKG_VERSION"))
        .about("pushes files to an rsync daemon, with rsync's options")
        .override_usage(
            "ebbtide-send [OPTION]... SRC [SRC]... rsync://[USER@]HOST[:PORT]/MODULE/[PATH]\n       \
             ebbtide-send [OPTION]... SRC [SRC]... [USER@]HOST::MODULE/[PATH]\n       \
             ebbtide-send rsync://[USER@]HOST[:PORT]/",
        )
        .disable_version_flag(true)
        .disable_help_flag(true)
        .arg(Arg::new("help").long("help").action(ArgAction::Help).help("show this help"))
        .arg(
            Arg::new("version")
                .long("version")
                .short('V')
                .action(ArgAction::Version)
                .help("print the version"),
        )
        .arg(Arg::new("paths").action(ArgAction::Append).value_parser(value_parser!(OsString)).hide(true));
    for switch in SWITCHES {
        command = add_switch(command, switch);
    }
    command.args(values())
}

fn add_switch(command: Command, switch: &Switch) -> Command {
    let mut arg = Arg::new(switch.id).action(ArgAction::Count).help(switch.help);
    if let Some(letter) = switch.letter {
        arg = arg.short(letter);
    }
    if let Some((first, others)) = switch.longs.split_first() {
        arg = arg.long(first).visible_aliases(others.iter().copied());
    }
    let Some((first, others)) = switch.no.split_first() else { return command.arg(arg) };
    let no = Arg::new(*first).long(*first).aliases(others.iter().copied());
    command.arg(arg).arg(no.action(ArgAction::Count).hide(true))
}

fn values() -> Vec<Arg> {
    let value = |id: &'static str, name: &'static str, help: &'static str| {
        let arg = Arg::new(id).long(id).value_name(name).help(help);
        arg.overrides_with(id).action(ArgAction::Set)
    };
    let number = |id, help| value(id, "NUM", help).value_parser(value_parser!(u32));
    vec![
        value("files-from", "FILE", "read list of source-file names from FILE")
            .value_parser(value_parser!(PathBuf)),
        value("password-file", "FILE", "read daemon-access password from FILE")
            .value_parser(value_parser!(PathBuf)),
        number("timeout", "set I/O timeout in seconds"),
        number("contimeout", "set daemon connection timeout in seconds"),
        number("max-delete", "don't delete more than NUM files"),
        number("block-size", "force a fixed checksum block-size").short('B'),
        number("protocol", "force an older protocol version to be used"),
        value("port", "PORT", "specify double-colon alternate port number").value_parser(value_parser!(u16)),
        value("compress-choice", "STR", "choose the compression algorithm").alias("zc"),
        value("compress-level", "NUM", "explicitly set compression level")
            .alias("zl")
            .allow_negative_numbers(true)
            .value_parser(value_parser!(i32)),
        value("checksum-choice", "STR", "choose the checksum algorithm").alias("cc"),
        value("checksum-seed", "NUM", "set block/file checksum seed")
            .allow_negative_numbers(true)
            .value_parser(value_parser!(i32)),
    ]
}

fn usage_error(error: &clap::Error) -> UsageError {
    let named = || match error.get(ContextKind::InvalidArg) {
        Some(argument) => argument.to_string(),
        None => String::new(),
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => UsageError::Help(error.to_string()),
        ErrorKind::UnknownArgument => UsageError::Unknown(named()),
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            UsageError::Wrong(first.strip_prefix("error: ").unwrap_or(first).to_owned())
        }
    }
}

/// The bytes of an argument.
pub(super) fn bytes(argument: &OsStr) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, UsageError> {
        let words = std::iter::once("ebbtide-send").chain(line.split_whitespace());
        Args::parse(words.map(OsString::from))
    }

    fn server(line: &str) -> ServerOptions {
        parse(&format!("{line} src rsync://h/m/")).unwrap().push.server
    }

    #[test]
    fn archive_means_what_it_means_for_rsync() {
        assert_eq!(server("-a"), ServerOptions::archive());
        assert_eq!(server("-rlptgoD"), ServerOptions::archive());
    }

    #[test]
    fn the_last_of_an_option_and_its_negation_counts() {
        assert!(!server("-a --no-o").owner);
        assert!(server("--no-o -a").owner);
        assert!(server("-a --no-owner -o").owner);
        assert!(!server("-z --no-z").times);
    }

    #[test]
    fn halves_of_the_devices_letter_are_told_to_the_daemon() {
        let half = server("-a --no-specials");
        assert!(half.devices);
        assert_eq!(half.extra, [b"--no-specials".to_vec()]);
        assert!(!server("-a --no-D").devices);
    }

    #[test]
    fn letters_cluster_and_repeat() {
        let args = parse("-avvzin src rsync://h/m/").unwrap();
        assert_eq!((args.verbose, args.itemize), (2, 1));
        assert_eq!(args.push.server.compress, CompressWish::Best);
        assert!(args.push.server.dry_run);
    }

    #[test]
    fn an_option_we_do_not_have_is_refused_by_name() {
        let error = parse("-a --fuzzy src rsync://h/m/").unwrap_err();
        assert_eq!(error.to_string(), "--fuzzy: unknown option");
        assert!(matches!(parse("-aX src rsync://h/m/").unwrap_err(), UsageError::Unknown(_)));
    }

    #[test]
    fn values_come_with_and_without_an_equals_sign() {
        let args = parse("--timeout=7 --contimeout 3 --checksum-seed=-5 --zc=zlibx s d").unwrap();
        assert_eq!(args.push.timeout, Some(Duration::from_secs(7)));
        assert_eq!(args.push.server.timeout, Some(7));
        assert_eq!(args.push.contimeout, Some(Duration::from_secs(3)));
        assert_eq!(args.push.server.checksum_seed, Some(-5));
        assert_eq!(args.push.server.compress, CompressWish::Only(Compression::Zlibx));
        assert_eq!((args.sources, args.destination), (vec!["s".into()], "d".into()));
    }

    #[test]
    fn unknown_algorithms_are_refused() {
        assert!(parse("--cc=crc32 s d").is_err());
        assert!(parse("--zc=rar s d").is_err());
        assert!(parse("--protocol=29 s d").is_err());
    }
}
