//! What the daemon is told, and what the session keeps to itself.

use std::time::Duration;

use ebbtide_wire::proto::{Checksum, CompressWish, Compression, Protocol, ServerOptions};

use super::UsageError;
use super::given::{Given, MissingArgs};
use crate::chmod::{Chmod, umask};
use crate::options::PushOptions;
use crate::session::SkipCompress;

pub(super) fn push(given: &Given) -> Result<PushOptions, UsageError> {
    let mut push = PushOptions::new(server(given));
    push.server.compress = compress(given)?;
    push.checksums = checksums(given)?;
    if push.server.compress == CompressWish::Best {
        push.compressions = compressions(given)?;
    }
    push.chmod = chmod(given)?;
    push.compress_level = given.data.compress_level;
    push.compress_threads = given.data.compress_threads.map(|threads| threads as usize);
    push.skip_compress = skip_compress(given)?;
    push = push.with_timeout(Duration::from_secs(given.connection.timeout.into()));
    let contimeout = Some(given.connection.contimeout).filter(|seconds| *seconds > 0);
    push.contimeout = contimeout.map(|seconds| Duration::from_secs(seconds.into()));
    if let Some(number) = given.connection.protocol {
        push.protocol = Protocol::new(number).ok_or_else(|| {
            UsageError::Wrong(format!("--protocol={number}: this sender speaks 30, 31 and 32"))
        })?;
    }
    Ok(push)
}

fn server(given: &Given) -> ServerOptions {
    let mut options = ServerOptions { verbose: given.output.verbose, ..ServerOptions::default() };
    forward_selection(given, &mut options);
    forward_attributes(given, &mut options);
    forward_updates(given, &mut options);
    forward_places(given, &mut options);
    forward_data(given, &mut options);
    forward_deletion(given, &mut options);
    forward_reports(given, &mut options);
    options.secluded = given.connection.secluded_args == Some(true);
    options.extra.extend(given.connection.remote_options.iter().cloned());
    options
}

/// Peer: rsync's manual page, option `--files-from`: it implies `--relative` and `--dirs`, and `-a` then implies no
/// recursion.
fn forward_selection(given: &Given, options: &mut ServerOptions) {
    let select = &given.select;
    let listed = select.files_from.is_some();
    options.relative = select.relative.unwrap_or(listed);
    options.recursive = if listed { select.recursive_by_name } else { select.recursive };
    options.dirs = select.dirs == Some(true) || listed && !options.recursive && given.delete.mode.is_some();
    options.no_implied_dirs = !select.implied_dirs;
    options.incremental = select.inc_recursive != Some(false);
    options.prune_empty_dirs = select.prune_empty_dirs;
    options.one_file_system = select.one_file_system;
    options.max_size = select.max_size;
    options.min_size = select.min_size;
    options.cvs_exclude = select.filters.contains(&super::FilterOption::CvsExclude);
    options.delete_missing_args = select.missing == MissingArgs::Delete;
}

fn forward_attributes(given: &Given, options: &mut ServerOptions) {
    let attributes = &given.attributes;
    options.links = given.links.keep;
    options.keep_dirlinks = given.links.keep_dirlinks;
    options.copy_unsafe_links = given.links.copy_unsafe;
    if given.links.safe {
        options.extra.push(b"--safe-links".to_vec());
    }
    options.hard_links = attributes.hard_links;
    options.perms = attributes.perms;
    options.acls = attributes.acls;
    options.xattrs = attributes.xattrs.min(2);
    options.atimes = attributes.atimes.min(2);
    if attributes.open_noatime && attributes.atimes < 2 {
        // Our own reading leaves access times alone anyway, where the kernel lets it.
        options.extra.push(b"--open-noatime".to_vec());
    }
    options.usermap.clone_from(&attributes.usermap);
    options.groupmap.clone_from(&attributes.groupmap);
    options.executability = attributes.executability && !attributes.perms;
    options.times = attributes.times;
    options.omit_dir_times = attributes.omit_dir_times;
    options.omit_link_times = attributes.omit_link_times;
    options.group = attributes.group;
    options.owner = attributes.owner;
    options.numeric_ids = attributes.numeric_ids;
    options.devices = attributes.devices || attributes.specials;
    if attributes.devices != attributes.specials {
        let other = if attributes.devices { "--no-specials" } else { "--no-devices" };
        options.extra.push(other.into());
    }
    options.super_user = attributes.superuser == Some(true);
    options.write_devices = attributes.write_devices;
}

fn forward_updates(given: &Given, options: &mut ServerOptions) {
    let update = &given.update;
    options.dry_run = update.dry_run;
    options.update = update.newer_only;
    options.existing = update.existing;
    options.ignore_existing = update.ignore_existing;
    options.ignore_times = update.ignore_times;
    options.size_only = update.size_only;
    options.modify_window = update.modify_window;
    options.checksum = update.checksum;
    options.inplace = update.inplace;
    options.append = update.append;
    options.sparse = update.sparse;
    options.preallocate = update.preallocate;
    options.fsync = update.fsync;
    options.mkpath = update.mkpath;
    options.fuzzy = update.fuzzy;
}

fn forward_places(given: &Given, options: &mut ServerOptions) {
    let update = given.update.clone();
    options.backup = update.backup;
    options.backup_dir = update.backup_dir;
    options.suffix = update.suffix;
    options.partial = update.partial && update.partial_dir.is_none();
    options.partial_dir = update.partial_dir;
    options.delay_updates = update.delay_updates;
    options.temp_dir = update.temp_dir;
    options.link_dest = update.link_dest;
    options.copy_dest = update.copy_dest;
    options.compare_dest = update.compare_dest;
}

fn forward_data(given: &Given, options: &mut ServerOptions) {
    let data = &given.data;
    options.whole_file = data.whole_file == Some(true);
    options.block_size = data.block_size.filter(|bytes| *bytes > 0);
    options.checksum_seed = data.checksum_seed.filter(|seed| *seed != 0);
    // A gigabyte is usual, and older daemons do not know the option.
    options.max_alloc = data.max_alloc.filter(|bytes| *bytes != 1 << 30);
    options.bwlimit = Some(data.bwlimit).filter(|rate| *rate > 0);
}

fn forward_deletion(given: &Given, options: &mut ServerOptions) {
    let delete = given.delete;
    options.delete = delete.mode;
    options.delete_excluded = delete.excluded;
    options.force = delete.force;
    options.ignore_errors = delete.ignore_errors;
    options.max_delete = delete.max;
}

/// How much the receiver reports of each entry: all that the format asks for, and at least that there is one.
fn forward_reports(given: &Given, options: &mut ServerOptions) {
    let output = &given.output;
    let format = output.out_format.as_deref().map(super::super::format::Format::parse);
    let has = |letters: &[u8]| format.as_ref().is_some_and(|format| format.has(letters));
    let items = if format.is_some() { has(b"i") } else { output.itemize > 0 };
    options.report_all = items && output.itemize > 1;
    options.itemize = items;
    options.report_operations = has(b"o");
    options.report_names =
        output.verbose == 0 && (format.is_some() || output.progress || super::super::told::names(output));
    options.stats = output.stats;
    options.extra.extend(super::super::told::for_receiver(output));
    options.acknowledge_files = given.update.remove_source_files;
}

fn chmod(given: &Given) -> Result<Chmod, UsageError> {
    let mut chmod = Chmod::default();
    for value in &given.attributes.chmod {
        let text = String::from_utf8_lossy(value);
        chmod.add(&text, umask()).map_err(|error| UsageError::Wrong(error.to_string()))?;
    }
    Ok(chmod)
}

/// `--checksum-choice=ONE`, or `ONE,TWO` where both are the same; else what the variable lists.
fn checksums(given: &Given) -> Result<Vec<Checksum>, UsageError> {
    let names = Checksum::ALL.map(Checksum::name);
    let choice = given.data.checksum_choice.as_ref().filter(|(one, two)| one != b"auto" || two != b"auto");
    let Some((transfer, list)) = choice else {
        let list = given.data.checksum_list.as_deref();
        return listed("RSYNC_CHECKSUM_LIST", list, &names, Checksum::from_name);
    };
    let known = |name: &[u8]| {
        Checksum::from_name(&name.to_ascii_lowercase()).ok_or_else(|| unknown("checksum", name, &names))
    };
    if known(transfer)? != known(list)? {
        let text = "--checksum-choice: this sender uses one checksum for contents and list".to_owned();
        return Err(UsageError::Unsupported(text));
    }
    known(transfer).map(|checksum| vec![checksum])
}

fn compressions(given: &Given) -> Result<Vec<Compression>, UsageError> {
    let list = given.data.compress_list.as_deref();
    listed("RSYNC_COMPRESS_LIST", list, &compression_names(), Compression::from_name)
}

/// The client's part of a list of names, without those that nobody knows.
///
/// Peer: rsync's manual page, options `--checksum-choice` and `--compress`: a list of such names only agrees on nothing.
fn listed<T>(
    variable: &str,
    list: Option<&[u8]>,
    names: &[&str],
    known: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, UsageError> {
    let ours = list.unwrap_or_default().split(|byte| *byte == b'&').next().unwrap_or_default();
    let words: Vec<&[u8]> = ours.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    let found: Vec<T> = words.iter().filter_map(|word| known(&word.to_ascii_lowercase())).collect();
    match (words.first(), found.is_empty()) {
        (Some(word), true) => Err(unknown(variable, word, names)),
        _ => Ok(found),
    }
}

fn unknown(what: &str, name: &[u8], names: &[&str]) -> UsageError {
    let shown = crate::text::Escaped(name);
    UsageError::Unsupported(format!("unknown {what} name: {shown}; this sender has {}", names.join(", ")))
}

fn compression_names() -> Vec<&'static str> {
    Compression::ALL.into_iter().chain([Compression::None]).map(Compression::name).collect()
}

fn skip_compress(given: &Given) -> Result<SkipCompress, UsageError> {
    let Some(list) = &given.data.skip_compress else { return Ok(SkipCompress::default()) };
    let wrong = |suffix: Vec<u8>| format!("--skip-compress: no suffix: {}", crate::text::Escaped(&suffix));
    SkipCompress::parse(list).map_err(|suffix| UsageError::Wrong(wrong(suffix)))
}

/// Peer: rsync's manual page, option `--compress-level`: a level asks for compression, unless it means none.
fn compress(given: &Given) -> Result<CompressWish, UsageError> {
    let data = &given.data;
    let level = data.compress_level.unwrap_or(0);
    match data.compress_choice.as_deref() {
        None | Some(b"auto") if data.compress > 0 => Ok(CompressWish::Best),
        Some(b"auto") => Ok(CompressWish::Best),
        None if level != 0 && !data.compress_denied => Ok(CompressWish::Best),
        None | Some(b"none") => Ok(CompressWish::Off),
        Some(b"zlib" | b"zlibx") if data.compress_level == Some(0) => Ok(CompressWish::Off),
        Some(name) => {
            let found = Compression::from_name(&name.to_ascii_lowercase()).map(CompressWish::Only);
            found.ok_or_else(|| unknown("compress", name, &compression_names()))
        }
    }
}
