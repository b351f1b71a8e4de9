//! What follows from several options together, and what does not go together.

use std::ffi::OsString;

use ebbtide_wire::proto::{Append, DeleteMode};

use super::given::Given;
use super::value::size;
use super::{Environment, UsageError, bytes};
use crate::transport::Target;

/// Takes over what variables say and no option did.
///
/// Peer: rsync's manual page, section "Environment variables".
pub(super) fn adopt(given: &mut Given, environment: Environment<'_>) -> Result<(), UsageError> {
    let set = |name| environment(name).filter(|value| !value.is_empty());
    let update = &mut given.update;
    if update.partial && update.partial_dir.is_none() && !update.inplace && update.append == Append::Off {
        update.partial_dir = set("RSYNC_PARTIAL_DIR").map(|dir| bytes(&dir).to_vec());
    }
    let connection = &mut given.connection;
    if connection.rsh.is_none() {
        connection.rsh = set("RSYNC_RSH").map(|command| bytes(&command).to_vec());
    }
    adopt_argument_forms(given, &set);
    let value = |name| set(name).map(|value| bytes(&value).to_vec());
    given.select.iconv = given.select.iconv.take().or_else(|| value("RSYNC_ICONV"));
    given.data.checksum_list = value("RSYNC_CHECKSUM_LIST");
    given.data.compress_list = value("RSYNC_COMPRESS_LIST");
    if given.data.max_alloc.is_none()
        && let Some(value) = set("RSYNC_MAX_ALLOC")
    {
        let wrong = |reason| UsageError::Wrong(format!("RSYNC_MAX_ALLOC: {reason}"));
        given.data.max_alloc = Some(size(bytes(&value), b'B').map_err(wrong)?);
    }
    Ok(())
}

/// An option, or the first of two variables, decides which form arguments have.
fn adopt_argument_forms(given: &mut Given, set: &dyn Fn(&'static str) -> Option<OsString>) {
    let connection = &mut given.connection;
    let on = |value: OsString| value != "0";
    if connection.old_args.is_none() && connection.secluded_args.is_none() {
        connection.old_args = set("RSYNC_OLD_ARGS").map(on);
        if connection.old_args != Some(true) {
            connection.secluded_args = set("RSYNC_PROTECT_ARGS").map(on);
        }
    }
}

/// Refuses what does not go together, and turns on what is implied.
pub(super) fn settle(given: &mut Given) -> Result<(), String> {
    settle_lists(given)?;
    settle_backups(given)?;
    settle_partials(given)?;
    if given.connection.old_args == Some(true) && given.connection.secluded_args == Some(true) {
        return Err("--secluded-args conflicts with --old-args.".to_owned());
    }
    settle_places(given)?;
    imply_filters(given);
    Ok(())
}

/// Backups and partial files of earlier runs are no extraneous files, and not sent either where they are partial.
///
/// Peer: rsync's manual page, options `--backup`, `--partial-dir` and `--delay-updates`.
fn imply_filters(given: &mut Given) {
    let update = &given.update;
    let rules = &mut given.select.implied_filters;
    if update.backup && update.backup_dir.is_none() && !given.delete.excluded {
        let suffix = update.suffix.as_deref().unwrap_or(b"~");
        rules.push([b"P *", suffix].concat());
    }
    let delayed = update.delay_updates.then_some(&b".~tmp~"[..]);
    if let Some(dir) = update.partial_dir.as_deref().or(delayed).filter(|dir| !dir.starts_with(b"/")) {
        rules.push([b"-p ", dir.strip_suffix(b"/").unwrap_or(dir), b"/"].concat());
    }
}

fn settle_lists(given: &mut Given) -> Result<(), String> {
    if given.delete.mixed {
        return Err("You may not combine multiple --delete-WHEN options.".to_owned());
    }
    if given.delete.excluded {
        given.delete.mode.get_or_insert(DeleteMode::Default);
    }
    let select = &given.select;
    let lists = select.recursive || select.dirs == Some(true) || select.files_from.is_some();
    if given.delete.mode.is_some() && !lists {
        return Err("--delete does not work without --recursive (-r) or --dirs (-d).".to_owned());
    }
    Ok(())
}

fn settle_backups(given: &mut Given) -> Result<(), String> {
    let update = &mut given.update;
    update.backup |= update.backup_dir.is_some();
    let Some(suffix) = &update.suffix else { return Ok(()) };
    if suffix.contains(&b'/') {
        return Err(format!("--suffix cannot contain slashes: {}", crate::text::Escaped(suffix)));
    }
    if suffix.is_empty() {
        return match update.backup_dir.as_deref() {
            None => Err("--suffix cannot be empty without a --backup-dir".to_owned()),
            Some(b"." | b"./") => {
                Err("--suffix cannot be empty when --backup-dir is the same as the dest dir".to_owned())
            }
            Some(_) => Ok(()),
        };
    }
    Ok(())
}

fn settle_partials(given: &mut Given) -> Result<(), String> {
    let update = &mut given.update;
    let name = match update.append {
        Append::Off => "inplace",
        Append::On => "append",
        Append::Verify => "append-verify",
    };
    if update.append != Append::Off {
        if given.data.whole_file == Some(true) {
            return Err("--append cannot be used with --whole-file".to_owned());
        }
        update.inplace = true;
    }
    if let Some(dir) = &update.partial_dir {
        update.partial = true;
        if matches!(dir.as_slice(), b"" | b".") {
            update.partial_dir = None;
        }
    }
    let other = if update.delay_updates { "delay-updates" } else { "partial-dir" };
    if update.inplace && (update.delay_updates || update.partial_dir.is_some()) {
        return Err(format!("--{name} cannot be used with --{other}"));
    }
    if update.inplace {
        update.partial = false;
    }
    Ok(())
}

fn settle_places(given: &Given) -> Result<(), String> {
    let update = &given.update;
    let kinds = [("link", &update.link_dest), ("copy", &update.copy_dest), ("compare", &update.compare_dest)];
    let mut used = kinds.iter().filter(|(_, places)| !places.is_empty());
    if let (Some((one, _)), Some((other, _))) = (used.next(), used.next()) {
        return Err(format!("ERROR: the --{other}-dest option conflicts with the --{one}-dest option"));
    }
    Ok(())
}

/// Refuses what depends on an option's value, or may be taken back by a later option.
pub(super) fn refuse(given: &Given) -> Result<(), UsageError> {
    let select = &given.select;
    let refused = |text: &str| Err(UsageError::Unsupported(text.to_owned()));
    if given.attributes.crtimes {
        return refused(NO_CRTIMES);
    }
    if select.iconv.as_deref().is_some_and(|spec| spec != b"-") {
        return refused(NO_ICONV);
    }
    let list = select.files_from.as_deref().map(|file| bytes(file.as_os_str()));
    if list.is_some_and(|file| file.starts_with(b":") || Target::looks_remote(file)) {
        return refused(NO_REMOTE_LIST);
    }
    Ok(())
}

const NO_CRTIMES: &str = "--crtimes (-N): nothing on Linux can set a creation time, so rsync daemons on it refuse this \
                          option; leave it out";

const NO_ICONV: &str = "--iconv (RSYNC_ICONV): names travel as the bytes they are; let rsync do it, or leave it out if both sides \
                        use UTF-8";

const NO_REMOTE_LIST: &str = "--files-from: a list at the other side is not read; pipe it to --files-from=-, as in \
                              ssh HOST cat LIST | ebbtide-send --files-from=-, and name a file here that has a colon with \
                              ./ before it";
