//! The daemon's side of the options, as its argument vector.

use super::Compression;
use crate::Error;
use crate::error::{Shown, Stage};

/// When the receiver deletes what the list does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteMode {
    /// `--delete`: the daemon's default, which is "during" for protocol 30 and later.
    Default,
    /// `--delete-before`.
    Before,
    /// `--delete-during`.
    During,
    /// `--delete-delay`.
    Delay,
    /// `--delete-after`.
    After,
}

/// Whether existing files are only appended to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Append {
    /// No: files are brought up to date by their differences.
    #[default]
    Off,
    /// `--append`: the existing part is trusted.
    On,
    /// `--append-verify`: the file checksum covers the existing part too.
    Verify,
}

/// Which compression is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressWish {
    /// None.
    #[default]
    Off,
    /// `-z`: the best that both sides know, which may be none at all.
    Best,
    /// This one or fail.
    Only(Compression),
}

/// Options that change what the daemon does, in rsync's words. A field is off by default; the layout of the file
/// list follows from them, so the same value configures the encoder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerOptions {
    /// `-v`, repeated.
    pub verbose: u8,
    /// `-n`.
    pub dry_run: bool,
    /// `-r`.
    pub recursive: bool,
    /// Offer the daemon incremental recursion: with `recursive`, and where
    /// [`ServerOptions::can_recurse_incrementally`] says so. Whether it comes to that is seen in the dialect.
    pub incremental: bool,
    /// `-d`; together with `delete` and without `recursive`, `--no-r` is added.
    pub dirs: bool,
    /// `-R`.
    pub relative: bool,
    /// `--no-implied-dirs`.
    pub no_implied_dirs: bool,
    /// `-l`.
    pub links: bool,
    /// `-H`.
    pub hard_links: bool,
    /// `-p`.
    pub perms: bool,
    /// `-E`.
    pub executability: bool,
    /// `-t`.
    pub times: bool,
    /// `-O`.
    pub omit_dir_times: bool,
    /// `-J`; 3.1.0 and later.
    pub omit_link_times: bool,
    /// `-g`.
    pub group: bool,
    /// `-o`.
    pub owner: bool,
    /// `-D`: devices and specials.
    pub devices: bool,
    /// `-A`: entries carry their ACLs. Set `perms` too, as rsync does.
    pub acls: bool,
    /// `-X` or `-XX`, 0 to 2: entries carry their extended attributes.
    pub xattrs: u8,
    /// `-U` or `-UU`, 0 to 2: entries carry their access times; 3.2.0 and later.
    pub atimes: u8,
    /// `-c`: entries of regular files carry a checksum.
    pub checksum: bool,
    /// `-I`.
    pub ignore_times: bool,
    /// `--size-only`.
    pub size_only: bool,
    /// `-u`.
    pub update: bool,
    /// `-W`.
    pub whole_file: bool,
    /// `-S`.
    pub sparse: bool,
    /// `-K`.
    pub keep_dirlinks: bool,
    /// `-m`.
    pub prune_empty_dirs: bool,
    /// `-x`, repeated: it only limits what the receiver deletes.
    pub one_file_system: u8,
    /// `-C`: the receiver reads `.cvsignore` files too when it deletes.
    pub cvs_exclude: bool,
    /// `-b`.
    pub backup: bool,
    /// `--backup-dir=DIR`.
    pub backup_dir: Option<Vec<u8>>,
    /// `--suffix=SUFFIX` of backups.
    pub suffix: Option<Vec<u8>>,
    /// `-y`, repeated.
    pub fuzzy: u8,
    /// `-z`, and which.
    pub compress: CompressWish,
    /// `--delete` and its kin.
    pub delete: Option<DeleteMode>,
    /// `--delete-excluded`.
    pub delete_excluded: bool,
    /// `--delete-missing-args`; 3.1.0 and later.
    pub delete_missing_args: bool,
    /// `--force`.
    pub force: bool,
    /// `--ignore-errors`.
    pub ignore_errors: bool,
    /// `--max-delete=N`; what is not above 0 means none at all.
    pub max_delete: Option<i32>,
    /// `--numeric-ids`.
    pub numeric_ids: bool,
    /// `--inplace`.
    pub inplace: bool,
    /// `--append`, `--append-verify`.
    pub append: Append,
    /// `--partial`.
    pub partial: bool,
    /// `--partial-dir=DIR`.
    pub partial_dir: Option<Vec<u8>>,
    /// `--delay-updates`.
    pub delay_updates: bool,
    /// `--temp-dir=DIR`.
    pub temp_dir: Option<Vec<u8>>,
    /// `--link-dest=DIR`, up to 20; only one of the three `*_dest` may be used.
    pub link_dest: Vec<Vec<u8>>,
    /// `--copy-dest=DIR`, up to 20.
    pub copy_dest: Vec<Vec<u8>>,
    /// `--compare-dest=DIR`, up to 20.
    pub compare_dest: Vec<Vec<u8>>,
    /// `--safe-links`.
    pub safe_links: bool,
    /// `--copy-unsafe-links`.
    pub copy_unsafe_links: bool,
    /// `--usermap=MAP`; 3.1.0 and later.
    pub usermap: Option<Vec<u8>>,
    /// `--groupmap=MAP`; 3.1.0 and later.
    pub groupmap: Option<Vec<u8>>,
    /// `--super`.
    pub super_user: bool,
    /// `--write-devices`; 3.2.0 and later, where the administrator allows it.
    pub write_devices: bool,
    /// `--existing`.
    pub existing: bool,
    /// `--ignore-existing`.
    pub ignore_existing: bool,
    /// `--remove-source-files`: the daemon says SUCCESS for each file. Nothing is removed by this crate.
    pub acknowledge_files: bool,
    /// `--log-format=%i%I`: every item is reported, unchanged ones too.
    pub report_all: bool,
    /// `--log-format=%i`: itemize changes; implied by `report_all`.
    pub itemize: bool,
    /// `--log-format=%o`: deletions are reported too; implied by the two above.
    pub report_operations: bool,
    /// `--log-format=X`: what changes is reported though nothing else asks for it; implied by all of the above.
    pub report_names: bool,
    /// `--stats`.
    pub stats: bool,
    /// `--preallocate`; 3.1.0 and later.
    pub preallocate: bool,
    /// `--fsync`; 3.2.4 and later.
    pub fsync: bool,
    /// `--mkpath`; 3.2.3 and later.
    pub mkpath: bool,
    /// `--checksum-seed=N`; not 0.
    pub checksum_seed: Option<i32>,
    /// `--timeout=SECONDS` for the daemon.
    pub timeout: Option<u32>,
    /// `--bwlimit=KIB`.
    pub bwlimit: Option<u32>,
    /// `-B`, at most 131072.
    pub block_size: Option<u32>,
    /// `--modify-window=SECONDS`; below 0, nanoseconds count (3.1.3 and later).
    pub modify_window: Option<i32>,
    /// `--max-size=BYTES`.
    pub max_size: Option<u64>,
    /// `--min-size=BYTES`.
    pub min_size: Option<u64>,
    /// `--max-alloc=BYTES`; 3.2.3 and later.
    pub max_alloc: Option<u64>,
    /// `-s`: the secluded form even where nothing asks for it.
    pub secluded: bool,
    /// Further whole arguments, such as `--safe-links`. None of them may change the layout of the file list.
    pub extra: Vec<Vec<u8>>,
}

/// How a remote shell starts a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCommand {
    /// What follows the program's name, unquoted; the path is the last word, unless it travels in `input`.
    pub words: Vec<Vec<u8>>,
    /// What the server reads before it speaks its version.
    pub input: Vec<u8>,
}

impl ServerOptions {
    /// What `-a` means: `-rlptgoD`.
    pub fn archive() -> Self {
        ServerOptions {
            recursive: true,
            links: true,
            perms: true,
            times: true,
            group: true,
            owner: true,
            devices: true,
            ..ServerOptions::default()
        }
    }

    /// Whether the file list may come directory by directory: with recursion, and nothing that needs the whole list
    /// before the first file.
    pub fn can_recurse_incrementally(&self) -> bool {
        let whole = matches!(self.delete, Some(DeleteMode::Before | DeleteMode::After));
        self.recursive && !whole && !self.delay_updates && !self.prune_empty_dirs
    }

    /// Whether the daemon reads a filter list: with any kind of delete, or `-m`.
    pub fn sends_filters(&self) -> bool {
        self.deletes() || self.prune_empty_dirs
    }

    /// Whether extraneous entries are removed.
    pub fn deletes(&self) -> bool {
        self.delete.is_some() || self.delete_excluded
    }

    /// The argument vector up to the end of a push to `path` (module name included), each argument and the vector
    /// terminated as the daemon reads them.
    ///
    /// Values with odd bytes travel in the secluded form, because daemons from 3.4.4 on remove backslashes from the
    /// plain one and older ones do not.
    ///
    /// # Errors
    /// Misuse: an argument is empty, too long, or holds a NUL.
    pub fn arguments(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        let long = self.long_options();
        for argument in long.iter().map(Vec::as_slice).chain([path]) {
            check(argument)?;
        }
        let secluded = self.secluded || long.iter().map(Vec::as_slice).chain([path]).any(is_odd);
        let letters = self.letters(secluded);
        let mut out = Vec::new();
        let mut add = |argument: &[u8]| {
            out.extend_from_slice(argument);
            out.push(0);
        };
        add(b"--server");
        add(&letters);
        if secluded {
            add(b"");
            add(b"rsync");
        }
        long.iter().for_each(|argument| add(argument));
        add(b".");
        add(path);
        add(b"");
        Ok(out)
    }

    /// How a remote shell starts the server for a push to `path`; an empty one is the login folder.
    ///
    /// `secluded` keeps everything but the letters out of the command line, and so out of the reach of a shell.
    ///
    /// # Errors
    /// Misuse: an argument is empty, too long, or holds a NUL.
    pub fn command(&self, path: &[u8], secluded: bool) -> Result<ServerCommand, Error> {
        let path = if path.is_empty() { b"." } else { path };
        let mut rest = self.long_options();
        rest.push(b".".to_vec());
        rest.push(path.to_vec());
        rest.iter().try_for_each(|argument| check(argument))?;
        let mut words = vec![b"--server".to_vec(), self.letters(secluded)];
        let mut input = Vec::new();
        if secluded {
            let vector = [b"rsync".to_vec()].into_iter().chain(rest).chain([Vec::new()]);
            vector.for_each(|argument| input.extend(argument.into_iter().chain([0])));
        } else {
            words.append(&mut rest);
        }
        Ok(ServerCommand { words, input })
    }

    fn letters(&self, secluded: bool) -> Vec<u8> {
        let mut out = vec![b'-'];
        if secluded {
            out.push(b's');
        }
        out.extend(std::iter::repeat_n(b'v', self.verbose.into()));
        for (on, letter) in self.switches() {
            if on {
                out.push(letter);
            }
        }
        for (times, letter) in
            [(self.fuzzy, b'y'), (self.atimes, b'U'), (self.xattrs, b'X'), (self.one_file_system, b'x')]
        {
            out.extend(std::iter::repeat_n(letter, times.min(2).into()));
        }
        if !matches!(self.compress, CompressWish::Off | CompressWish::Only(Compression::None)) {
            out.push(b'z');
        }
        let incremental = self.incremental && self.can_recurse_incrementally();
        out.extend_from_slice(if incremental { CAPABILITIES_INCREMENTAL } else { CAPABILITIES });
        out
    }

    fn switches(&self) -> [(bool, u8); 24] {
        [
            (self.backup, b'b'),
            (self.update, b'u'),
            (self.dry_run, b'n'),
            (self.links, b'l'),
            (self.dirs, b'd'),
            (self.keep_dirlinks, b'K'),
            (self.prune_empty_dirs, b'm'),
            (self.omit_dir_times, b'O'),
            (self.omit_link_times, b'J'),
            (self.whole_file, b'W'),
            (self.hard_links, b'H'),
            (self.owner, b'o'),
            (self.group, b'g'),
            (self.devices, b'D'),
            (self.times, b't'),
            (self.perms, b'p'),
            (self.executability, b'E'),
            (self.recursive, b'r'),
            (self.checksum, b'c'),
            (self.ignore_times, b'I'),
            (self.relative, b'R'),
            (self.sparse, b'S'),
            (self.acls, b'A'),
            (self.cvs_exclude, b'C'),
        ]
    }

    fn long_options(&self) -> Vec<Vec<u8>> {
        let mut out: Vec<Vec<u8>> = Vec::new();
        let mut add = |argument: &str| out.push(argument.as_bytes().to_vec());
        if self.report_all {
            add("--log-format=%i%I");
        } else if self.itemize {
            add("--log-format=%i");
        } else if self.report_operations {
            add("--log-format=%o");
        } else if self.report_names {
            add("--log-format=X");
        }
        self.delete_options().into_iter().for_each(&mut add);
        for (on, name) in self.long_switches() {
            if on {
                add(name);
            }
        }
        for (name, value) in self.numbers() {
            if let Some(value) = value {
                add(&format!("{name}{value}"));
            }
        }
        for (name, value) in
            [("--suffix=", &self.suffix), ("--usermap=", &self.usermap), ("--groupmap=", &self.groupmap)]
        {
            out.extend(value.iter().map(|value| [name.as_bytes(), value].concat()));
        }
        let mut add = |argument: &str| out.push(argument.as_bytes().to_vec());
        if self.append != Append::Off {
            add("--append");
        }
        if self.append == Append::Verify {
            add("--append");
        }
        for (name, value) in self.directories() {
            out.push(name.as_bytes().to_vec());
            out.push(value.to_vec());
        }
        out.extend(self.extra.iter().cloned());
        out
    }

    fn delete_options(&self) -> Vec<&'static str> {
        let mode = self.delete.map(|mode| match mode {
            DeleteMode::Default => "--delete",
            DeleteMode::Before => "--delete-before",
            DeleteMode::During => "--delete-during",
            DeleteMode::Delay => "--delete-delay",
            DeleteMode::After => "--delete-after",
        });
        let no_r = (self.dirs && !self.recursive && self.deletes()).then_some("--no-r");
        mode.into_iter().chain(no_r).collect()
    }

    fn long_switches(&self) -> [(bool, &'static str); 21] {
        [
            (self.delete_excluded, "--delete-excluded"),
            (self.force, "--force"),
            (self.delete_missing_args, "--delete-missing-args"),
            (self.ignore_errors, "--ignore-errors"),
            (self.numeric_ids, "--numeric-ids"),
            (self.no_implied_dirs, "--no-implied-dirs"),
            (self.size_only, "--size-only"),
            (self.existing, "--existing"),
            (self.ignore_existing, "--ignore-existing"),
            (self.inplace, "--inplace"),
            (self.partial, "--partial"),
            (self.delay_updates, "--delay-updates"),
            (self.acknowledge_files, "--remove-source-files"),
            (self.stats, "--stats"),
            (self.preallocate, "--preallocate"),
            (self.fsync, "--fsync"),
            (self.mkpath, "--mkpath"),
            (self.safe_links, "--safe-links"),
            (self.copy_unsafe_links, "--copy-unsafe-links"),
            (self.super_user, "--super"),
            (self.write_devices, "--write-devices"),
        ]
    }

    fn numbers(&self) -> [(&'static str, Option<i64>); 9] {
        [
            // The daemon reads 0 as "no limit", so the stock client sends -1 for it.
            ("--max-delete=", self.max_delete.map(|n| if n <= 0 { -1 } else { n.into() })),
            ("--checksum-seed=", self.checksum_seed.map(i64::from)),
            ("--timeout=", self.timeout.map(i64::from)),
            ("--bwlimit=", self.bwlimit.map(i64::from)),
            ("-B", self.block_size.map(i64::from)),
            ("--modify-window=", self.modify_window.map(i64::from)),
            ("--max-size=", self.max_size.map(signed)),
            ("--min-size=", self.min_size.map(signed)),
            ("--max-alloc=", self.max_alloc.map(signed)),
        ]
    }

    fn directories(&self) -> Vec<(&'static str, &[u8])> {
        let mut out: Vec<(&'static str, &[u8])> = Vec::new();
        out.extend(self.backup_dir.iter().map(|dir| ("--backup-dir", dir.as_slice())));
        out.extend(self.partial_dir.iter().map(|dir| ("--partial-dir", dir.as_slice())));
        out.extend(self.temp_dir.iter().map(|dir| ("--temp-dir", dir.as_slice())));
        out.extend(self.link_dest.iter().map(|dir| ("--link-dest", dir.as_slice())));
        out.extend(self.copy_dest.iter().map(|dir| ("--copy-dest", dir.as_slice())));
        out.extend(self.compare_dest.iter().map(|dir| ("--compare-dest", dir.as_slice())));
        out
    }
}

/// The daemon reads sizes as signed numbers.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn check(argument: &[u8]) -> Result<(), Error> {
    let wrong = if argument.is_empty() {
        "is empty"
    } else if argument.contains(&0) {
        "holds a NUL byte"
    } else if argument.len() >= MAX_ARGUMENT {
        "is too long for the daemon, which cuts it at 5120 bytes"
    } else {
        return Ok(());
    };
    let shown = &argument[..argument.len().min(80)];
    Err(Error::misuse(Stage::Setup, format!("argument \"{}\" {wrong}", Shown(shown))))
}

/// Whether the plain form does not carry this argument unchanged to every release.
fn is_odd(argument: &[u8]) -> bool {
    argument.iter().any(|b| !(b.is_ascii_alphanumeric() || b"-_./:,=@%+".contains(b) || *b >= 0x80))
}

/// The daemon cuts an argument at this length without a word.
const MAX_ARGUMENT: usize = 5120;

/// What we can do. Must come last, because `e` swallows the rest of the letters.
const CAPABILITIES: &[u8] = b"e.LsfxCIvu";

/// The same and incremental recursion.
const CAPABILITIES_INCREMENTAL: &[u8] = b"e.iLsfxCIvu";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(options: &ServerOptions, path: &str) -> String {
        String::from_utf8(options.arguments(path.as_bytes()).unwrap()).unwrap().replace('\0', "|")
    }

    #[test]
    fn the_vector_has_the_stock_clients_form() {
        let options = ServerOptions::archive();
        assert_eq!(words(&options, "m/sub/"), "--server|-logDtpre.LsfxCIvu|.|m/sub/||");
        let options = ServerOptions {
            times: true,
            relative: true,
            delete_missing_args: true,
            force: true,
            numeric_ids: true,
            max_delete: Some(0),
            link_dest: vec![b"/ld".to_vec()],
            compress: CompressWish::Best,
            ..ServerOptions::default()
        };
        let expected = "--server|-tRze.LsfxCIvu|--force|--delete-missing-args|--numeric-ids|--max-delete=-1|\
                        --link-dest|/ld|.|m/||";
        assert_eq!(words(&options, "m/"), expected);
    }

    #[test]
    fn odd_values_travel_in_the_secluded_form() {
        let options = ServerOptions { temp_dir: Some(b"/a b\\c".to_vec()), ..ServerOptions::default() };
        let expected = "--server|-se.LsfxCIvu||rsync|--temp-dir|/a b\\c|.|m/||";
        assert_eq!(words(&options, "m/"), expected);
        assert!(words(&ServerOptions::default(), "m/a b/").starts_with("--server|-se."));
        assert!(words(&ServerOptions::default(), "m/ä/").starts_with("--server|-e."));
    }

    #[test]
    fn no_recursion_is_said_when_a_directory_is_cleaned() {
        let options =
            ServerOptions { dirs: true, delete: Some(DeleteMode::Default), ..ServerOptions::default() };
        assert_eq!(words(&options, "m/"), "--server|-de.LsfxCIvu|--delete|--no-r|.|m/||");
        assert!(options.sends_filters());
        assert!(!ServerOptions { force: true, ..ServerOptions::default() }.sends_filters());
    }

    #[test]
    fn compression_is_off_when_none_is_chosen() {
        let options =
            ServerOptions { compress: CompressWish::Only(Compression::None), ..ServerOptions::default() };
        assert_eq!(words(&options, "m/"), "--server|-e.LsfxCIvu|.|m/||");
    }

    #[test]
    fn arguments_that_the_daemon_would_change_are_refused() {
        for bad in [&b""[..], b"a\0b", &[b'x'; 5120]] {
            let options = ServerOptions { extra: vec![bad.to_vec()], ..ServerOptions::default() };
            assert!(options.arguments(b"m/").is_err());
        }
    }
}
