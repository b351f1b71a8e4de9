//! Every option of rsync in its own type, as the command line gave it. What follows from several options together
//! is worked out in `check.rs` and `forward.rs`.

use std::path::PathBuf;

use ebbtide_wire::proto::{Append, DeleteMode};

/// All options of one command line.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// What is printed, and how.
    pub output: Output,
    /// Which names are sent.
    pub select: Select,
    /// Which attributes of them are kept.
    pub attributes: Attributes,
    /// What becomes of symlinks.
    pub links: Links,
    /// Which files are brought up to date, and in what manner.
    pub update: Update,
    /// What is deleted, and when.
    pub delete: Delete,
    /// How contents travel.
    pub data: Data,
    /// The way to the daemon.
    pub connection: Connection,
}

/// What is printed, and how.
#[derive(Clone, Debug)]
pub struct Output {
    /// `-v`, repeated.
    pub verbose: u8,
    /// `-q`.
    pub quiet: bool,
    /// `--info`, each value as it was given, in order.
    pub info: Vec<Vec<u8>>,
    /// `--debug`, likewise.
    pub debug: Vec<Vec<u8>>,
    /// `--stderr`, `--msgs2stderr`.
    pub stderr: StderrMode,
    /// `--no-motd` turns it off.
    pub motd: bool,
    /// `-i`, repeated.
    pub itemize: u8,
    /// `-h`: 0 for bare digits (`--no-h`), 1 for grouped ones (usual), 2 for units of 1000, 3 for units of 1024.
    pub human: u8,
    /// `--stats`.
    pub stats: bool,
    /// `--progress`, `-P`.
    pub progress: bool,
    /// `--out-format`.
    pub out_format: Option<Vec<u8>>,
    /// `--log-file`.
    pub log_file: Option<PathBuf>,
    /// `--log-file-format`.
    pub log_file_format: Option<Vec<u8>>,
    /// `-8`.
    pub eight_bit: bool,
    /// `--outbuf`.
    pub buffering: Option<Buffering>,
    /// `--list-only`.
    pub list_only: bool,
}

impl Default for Output {
    fn default() -> Self {
        Output {
            verbose: 0,
            quiet: false,
            info: Vec::new(),
            debug: Vec::new(),
            stderr: StderrMode::Errors,
            motd: true,
            itemize: 0,
            human: 1,
            stats: false,
            progress: false,
            out_format: None,
            log_file: None,
            log_file_format: None,
            eight_bit: false,
            buffering: None,
            list_only: false,
        }
    }
}

/// What goes to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StderrMode {
    /// Errors (usual).
    Errors,
    /// Everything.
    All,
    /// Errors; for a daemon the same as `Errors`.
    Client,
}

/// When output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffering {
    /// At once.
    None,
    /// After each line.
    Line,
    /// When a block is full.
    Block,
}

/// Which names are sent.
#[derive(Clone, Debug)]
pub struct Select {
    /// `-r`, or through `-a`.
    pub recursive: bool,
    /// `-r` was given by itself; only this outlives `--files-from`.
    pub recursive_by_name: bool,
    /// `--inc-recursive` or `--no-inc-recursive`, if either was given.
    pub inc_recursive: Option<bool>,
    /// `-R` or `--no-R`, if either was given; `--files-from` turns it on by itself.
    pub relative: Option<bool>,
    /// `--no-implied-dirs` turns it off.
    pub implied_dirs: bool,
    /// `-d`; `None` unless `-d` or `--no-d` was given.
    pub dirs: Option<bool>,
    /// `--old-dirs`.
    pub old_dirs: bool,
    /// `-x`, repeated: twice leaves out the mount points too.
    pub one_file_system: u8,
    /// `--files-from`; `-` is standard input.
    pub files_from: Option<PathBuf>,
    /// `-0`: names and rules in files end with a NUL byte.
    pub from0: bool,
    /// All options that make filter rules, in their order.
    pub filters: Vec<FilterOption>,
    /// Rules that other options imply, after all of `filters`, as `--filter` takes them.
    pub implied_filters: Vec<Vec<u8>>,
    /// What becomes of arguments that do not exist.
    pub missing: MissingArgs,
    /// `-m`.
    pub prune_empty_dirs: bool,
    /// `--max-size`, in bytes.
    pub max_size: Option<u64>,
    /// `--min-size`, in bytes.
    pub min_size: Option<u64>,
    /// `--iconv` (`-` is that of `--no-iconv`), or the variable RSYNC_ICONV.
    pub iconv: Option<Vec<u8>>,
}

impl Default for Select {
    fn default() -> Self {
        Select {
            recursive: false,
            recursive_by_name: false,
            inc_recursive: None,
            relative: None,
            implied_dirs: true,
            dirs: None,
            old_dirs: false,
            one_file_system: 0,
            files_from: None,
            from0: false,
            filters: Vec::new(),
            implied_filters: Vec::new(),
            missing: MissingArgs::Fail,
            prune_empty_dirs: false,
            max_size: None,
            min_size: None,
            iconv: None,
        }
    }
}

/// One option that makes filter rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterOption {
    /// `-f RULE`, `--filter=RULE`.
    Rule(Vec<u8>),
    /// `--include=PATTERN`.
    Include(Vec<u8>),
    /// `--exclude=PATTERN`.
    Exclude(Vec<u8>),
    /// `--include-from=FILE`; `-` is standard input.
    IncludeFrom(PathBuf),
    /// `--exclude-from=FILE`; `-` is standard input.
    ExcludeFrom(PathBuf),
    /// `-F`, once for each time it was given: the first means `dir-merge /.rsync-filter`, the second
    /// `exclude .rsync-filter`.
    PerDirectory,
    /// `-C`.
    CvsExclude,
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

/// Which attributes are kept.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// `-p`; also through `-A`.
    pub perms: bool,
    /// `-E`.
    pub executability: bool,
    /// `--chmod`, each value as it was given, in order.
    pub chmod: Vec<Vec<u8>>,
    /// `-A`.
    pub acls: bool,
    /// `-X`, repeated.
    pub xattrs: u8,
    /// `-o`.
    pub owner: bool,
    /// `-g`.
    pub group: bool,
    /// `--devices`, one half of `-D`.
    pub devices: bool,
    /// `--specials`, the other half.
    pub specials: bool,
    /// `--write-devices`.
    pub write_devices: bool,
    /// `-t`.
    pub times: bool,
    /// `-U`, repeated.
    pub atimes: u8,
    /// `--open-noatime`.
    pub open_noatime: bool,
    /// `-N`.
    pub crtimes: bool,
    /// `-O`.
    pub omit_dir_times: bool,
    /// `-J`.
    pub omit_link_times: bool,
    /// `--super` or `--no-super`, if either was given.
    pub superuser: Option<bool>,
    /// `--numeric-ids`.
    pub numeric_ids: bool,
    /// `--usermap`, or the user of `--chown`.
    pub usermap: Option<Vec<u8>>,
    /// `--groupmap`, or the group of `--chown`.
    pub groupmap: Option<Vec<u8>>,
    /// `-H`.
    pub hard_links: bool,
}

/// What becomes of symlinks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Links {
    /// `-l`.
    pub keep: bool,
    /// `-L`.
    pub copy: bool,
    /// `--copy-unsafe-links`.
    pub copy_unsafe: bool,
    /// `--safe-links`.
    pub safe: bool,
    /// `--munge-links`.
    pub munge: bool,
    /// `-k`.
    pub copy_dirlinks: bool,
    /// `-K`.
    pub keep_dirlinks: bool,
}

/// Which files are brought up to date, and in what manner.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// `-n`.
    pub dry_run: bool,
    /// `-u`.
    pub newer_only: bool,
    /// `--existing`.
    pub existing: bool,
    /// `--ignore-existing`.
    pub ignore_existing: bool,
    /// `-I`.
    pub ignore_times: bool,
    /// `--size-only`.
    pub size_only: bool,
    /// `-@`, in seconds; below 0 nanoseconds count too.
    pub modify_window: Option<i32>,
    /// `-c`.
    pub checksum: bool,
    /// `-b`.
    pub backup: bool,
    /// `--backup-dir`.
    pub backup_dir: Option<Vec<u8>>,
    /// `--suffix`.
    pub suffix: Option<Vec<u8>>,
    /// `--inplace`.
    pub inplace: bool,
    /// `--append`, `--append-verify`.
    pub append: Append,
    /// `--partial`, `-P`.
    pub partial: bool,
    /// `--partial-dir`, or the variable RSYNC_PARTIAL_DIR with `--partial`.
    pub partial_dir: Option<Vec<u8>>,
    /// `--delay-updates`.
    pub delay_updates: bool,
    /// `-T`.
    pub temp_dir: Option<Vec<u8>>,
    /// `--fsync`.
    pub fsync: bool,
    /// `--preallocate`.
    pub preallocate: bool,
    /// `-S`.
    pub sparse: bool,
    /// `--link-dest`, in order.
    pub link_dest: Vec<Vec<u8>>,
    /// `--copy-dest`, in order.
    pub copy_dest: Vec<Vec<u8>>,
    /// `--compare-dest`, in order.
    pub compare_dest: Vec<Vec<u8>>,
    /// `-y`, repeated.
    pub fuzzy: u8,
    /// `--mkpath`.
    pub mkpath: bool,
    /// `--remove-source-files`.
    pub remove_source_files: bool,
}

/// What is deleted, and when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delete {
    /// `--delete` and its kin.
    pub mode: Option<DeleteMode>,
    /// `--delete-WHEN` was given with more than one WHEN.
    pub mixed: bool,
    /// `--delete-excluded`.
    pub excluded: bool,
    /// `--force`.
    pub force: bool,
    /// `--ignore-errors`.
    pub ignore_errors: bool,
    /// `--max-delete`; what is not above 0 means none at all.
    pub max: Option<i32>,
}

/// How contents travel.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// `-W` or `--no-W`, if either was given.
    pub whole_file: Option<bool>,
    /// `-B`, in bytes.
    pub block_size: Option<u32>,
    /// `--checksum-choice`: of contents, and of the list; `None` for `auto`.
    pub checksum_choice: Option<(Vec<u8>, Vec<u8>)>,
    /// The variable RSYNC_CHECKSUM_LIST.
    pub checksum_list: Option<Vec<u8>>,
    /// `--checksum-seed`.
    pub checksum_seed: Option<i32>,
    /// `-z`, how often; twice means zlibx.
    pub compress: u8,
    /// `--compress-choice`, `--old-compress`, `--new-compress`: an algorithm's name.
    pub compress_choice: Option<Vec<u8>>,
    /// The variable RSYNC_COMPRESS_LIST.
    pub compress_list: Option<Vec<u8>>,
    /// `--no-compress` was given last: a level asks for nothing.
    pub compress_denied: bool,
    /// `--compress-level`, in the algorithm's own numbers.
    pub compress_level: Option<i32>,
    /// `--compress-threads`.
    pub compress_threads: Option<u32>,
    /// `--skip-compress`: the list of suffixes as it was given.
    pub skip_compress: Option<Vec<u8>>,
    /// `--max-alloc`, in bytes; the daemon is told.
    pub max_alloc: Option<u64>,
    /// `--bwlimit`, in KiB per second; 0 is no limit.
    pub bwlimit: u32,
    /// `--stop-after`, in minutes, or `--stop-at`.
    pub stop: Option<Stop>,
}

/// When a transfer stops by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// After so many minutes.
    After(u32),
    /// At this time, as `--stop-at` gave it.
    At(Vec<u8>),
}

/// The way to the daemon.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// `--port`.
    pub port: Option<u16>,
    /// `-4` (`Some(4)`), `-6` (`Some(6)`).
    pub family: Option<u8>,
    /// `--address`: the local address to bind.
    pub address: Option<String>,
    /// `--sockopts`, as it was given.
    pub sockopts: Option<Vec<u8>>,
    /// `-e`, or the variable RSYNC_RSH.
    pub rsh: Option<Vec<u8>>,
    /// `-e` was given on the command line: with `host::module` it means a daemon started through the shell.
    pub rsh_by_name: bool,
    /// `--rsync-path`.
    pub rsync_path: Option<Vec<u8>>,
    /// `--blocking-io` or `--no-blocking-io`, if either was given.
    pub blocking_io: Option<bool>,
    /// `--old-args` or `--no-old-args`, if either was given, else the variable RSYNC_OLD_ARGS.
    pub old_args: Option<bool>,
    /// `-s` or `--no-s`, if either was given, else the variable RSYNC_PROTECT_ARGS.
    pub secluded_args: Option<bool>,
    /// `--tls-ca`: certificates to trust instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// `--tls-cert`: our own certificate.
    pub tls_cert: Option<PathBuf>,
    /// `--tls-key`: its key.
    pub tls_key: Option<PathBuf>,
    /// `--password-file`; `-` is standard input.
    pub password_file: Option<PathBuf>,
    /// `--early-input`.
    pub early_input: Option<PathBuf>,
    /// `--timeout`, in seconds; 0 is none.
    pub timeout: u32,
    /// `--contimeout`, in seconds; 0 is none.
    pub contimeout: u32,
    /// `--protocol`.
    pub protocol: Option<u32>,
    /// `-M`: options for the daemon alone, in order.
    pub remote_options: Vec<Vec<u8>>,
}
