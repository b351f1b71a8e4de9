//! Which files are brought up to date, where, and what is deleted.

use ebbtide_wire::proto::{Append, DeleteMode};

use super::super::given::Given;
use super::super::value::number;
use super::{Spec, count, switch, value};

pub(super) const SPECS: &[Spec] = &[
    switch(Some('u'), &["update"], &[], "skip files that are newer on the receiver", |given, on| {
        given.update.newer_only = on;
    }),
    switch(
        None,
        &["existing", "ignore-non-existing"],
        &[],
        "skip creating new files on receiver",
        |given, on| given.update.existing = on,
    ),
    switch(None, &["ignore-existing"], &[], "skip updating files that exist on receiver", |given, on| {
        given.update.ignore_existing = on;
    }),
    switch(Some('I'), &["ignore-times"], &[], "don't skip files that match size and time", |given, on| {
        given.update.ignore_times = on;
    }),
    switch(None, &["size-only"], &[], "skip files that match in size", |given, on| {
        given.update.size_only = on;
    }),
    value(
        Some('@'),
        &["modify-window"],
        "NUM",
        "set the accuracy for mod-time comparisons",
        |given, value| {
            given.update.modify_window = Some(number(value)?);
            Ok(())
        },
    ),
    switch(
        Some('c'),
        &["checksum"],
        &["no-checksum", "no-c"],
        "skip based on checksum, not mod-time & size",
        |given, on| given.update.checksum = on,
    ),
    switch(None, &["inplace"], &["no-inplace"], "update destination files in-place", |given, on| {
        given.update.inplace = on;
    }),
    switch(None, &["append"], &["no-append"], "append data onto shorter files", |given, on| {
        given.update.append = if on { Append::On } else { Append::Off };
    }),
    switch(None, &["append-verify"], &[], "--append w/old data in file checksum", |given, _| {
        given.update.append = Append::Verify;
    }),
    switch(
        Some('S'),
        &["sparse"],
        &["no-sparse", "no-S"],
        "turn sequences of nulls into sparse blocks",
        |given, on| given.update.sparse = on,
    ),
    switch(None, &["preallocate"], &[], "allocate dest files before writing them", |given, on| {
        given.update.preallocate = on;
    }),
    switch(None, &["fsync"], &["no-fsync"], "fsync every written file", |given, on| {
        given.update.fsync = on;
    }),
    switch(None, &["mkpath"], &["no-mkpath"], "create destination's missing path components", |given, on| {
        given.update.mkpath = on;
    }),
    switch(
        Some('y'),
        &["fuzzy"],
        &["no-fuzzy", "no-y"],
        "find similar file for basis if no dest file",
        |given, on| count(&mut given.update.fuzzy, on),
    ),
    switch(
        None,
        &["remove-source-files"],
        &[],
        "sender removes synchronized files (non-directory)",
        |given, on| given.update.remove_source_files = on,
    ),
];

pub(super) const PLACES: &[Spec] = &[
    switch(
        Some('b'),
        &["backup"],
        &["no-backup"],
        "make backups (see --suffix & --backup-dir)",
        |given, on| given.update.backup = on,
    ),
    value(None, &["backup-dir"], "DIR", "make backups into hierarchy based in DIR", |given, value| {
        given.update.backup_dir = Some(value.to_vec());
        Ok(())
    }),
    value(None, &["suffix"], "SUFFIX", "backup suffix (default ~ w/o --backup-dir)", |given, value| {
        given.update.suffix = Some(value.to_vec());
        Ok(())
    }),
    switch(None, &["partial"], &["no-partial"], "keep partially transferred files", |given, on| {
        given.update.partial = on;
    }),
    value(None, &["partial-dir"], "DIR", "put a partially transferred file into DIR", |given, value| {
        given.update.partial_dir = Some(value.to_vec());
        Ok(())
    }),
    switch(
        None,
        &["delay-updates"],
        &["no-delay-updates"],
        "put all updated files into place at end",
        |given, on| given.update.delay_updates = on,
    ),
    value(Some('T'), &["temp-dir"], "DIR", "create temporary files in directory DIR", |given, value| {
        given.update.temp_dir = Some(dir(value)?);
        Ok(())
    }),
    value(
        None,
        &["compare-dest"],
        "DIR",
        "also compare destination files relative to DIR",
        |given, value| add_place(&mut given.update.compare_dest, value),
    ),
    value(None, &["copy-dest"], "DIR", "... and include copies of unchanged files", |given, value| {
        add_place(&mut given.update.copy_dest, value)
    }),
    value(None, &["link-dest"], "DIR", "hardlink to files in DIR when unchanged", |given, value| {
        add_place(&mut given.update.link_dest, value)
    }),
];

pub(super) const DELETING: &[Spec] = &[
    switch(None, &["delete"], &[], "delete extraneous files from dest directories", |given, _| {
        given.delete.mode.get_or_insert(DeleteMode::Default);
    }),
    switch(None, &["delete-before"], &[], "receiver deletes before xfer, not during", |given, _| {
        when(given, DeleteMode::Before);
    }),
    switch(None, &["delete-during", "del"], &[], "receiver deletes during the transfer", |given, _| {
        when(given, DeleteMode::During);
    }),
    switch(None, &["delete-delay"], &[], "find deletions during, delete after", |given, _| {
        when(given, DeleteMode::Delay);
    }),
    switch(None, &["delete-after"], &[], "receiver deletes after transfer, not during", |given, _| {
        when(given, DeleteMode::After);
    }),
    switch(
        None,
        &["delete-excluded"],
        &[],
        "also delete excluded files from dest directories",
        |given, on| given.delete.excluded = on,
    ),
    switch(
        None,
        &["ignore-errors"],
        &["no-ignore-errors"],
        "delete even if there are I/O errors",
        |given, on| given.delete.ignore_errors = on,
    ),
    switch(
        None,
        &["force"],
        &["no-force"],
        "force deletion of directories even if not empty",
        |given, on| given.delete.force = on,
    ),
    value(None, &["max-delete"], "NUM", "don't delete more than NUM files", |given, value| {
        given.delete.max = Some(number(value)?);
        Ok(())
    }),
];

/// The receiver takes this many.
fn add_place(places: &mut Vec<Vec<u8>>, place: &[u8]) -> Result<(), String> {
    if places.len() == MAX_PLACES {
        return Err(format!("at most {MAX_PLACES} of them may be specified"));
    }
    places.push(dir(place)?);
    Ok(())
}

fn dir(name: &[u8]) -> Result<Vec<u8>, String> {
    if name.is_empty() { Err("a directory must be named".to_owned()) } else { Ok(name.to_vec()) }
}

/// Peer: rsync's manual page, option `--link-dest`.
const MAX_PLACES: usize = 20;

fn when(given: &mut Given, mode: DeleteMode) {
    let delete = &mut given.delete;
    delete.mixed |= delete.mode.is_some_and(|earlier| earlier != DeleteMode::Default && earlier != mode);
    delete.mode = Some(mode);
}
