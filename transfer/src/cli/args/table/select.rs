//! Which names are sent.

use super::super::given::{FilterOption, MissingArgs};
use super::super::value::{path, size};
use super::{Spec, count, switch, value};

pub(super) const SPECS: &[Spec] = &[
    switch(Some('a'), &["archive"], &[], "archive mode is -rlptgoD (no -A,-X,-U,-N,-H)", |given, _| {
        given.select.recursive = true;
        given.links.keep = true;
        let attributes = &mut given.attributes;
        attributes.perms = true;
        attributes.times = true;
        attributes.group = true;
        attributes.owner = true;
        attributes.devices = true;
        attributes.specials = true;
    }),
    switch(Some('r'), &["recursive"], &["no-recursive", "no-r"], "recurse into directories", |given, on| {
        given.select.recursive = on;
        given.select.recursive_by_name = on;
    }),
    switch(
        None,
        &["inc-recursive", "i-r"],
        &["no-inc-recursive", "no-i-r"],
        "send the list in parts, as directories are reached",
        |given, on| given.select.inc_recursive = Some(on),
    ),
    switch(Some('R'), &["relative"], &["no-relative", "no-R"], "use relative path names", |given, on| {
        given.select.relative = Some(on);
    }),
    switch(
        None,
        &["implied-dirs", "i-d"],
        &["no-implied-dirs", "no-i-d"],
        "send implied directories with --relative (usual)",
        |given, on| given.select.implied_dirs = on,
    ),
    switch(
        Some('d'),
        &["dirs"],
        &["no-dirs", "no-d"],
        "transfer directories without recursing",
        |given, on| {
            given.select.dirs = Some(on);
        },
    ),
    switch(None, &["old-dirs", "old-d"], &[], "same as --dirs", |given, on| {
        given.select.dirs = Some(on);
        given.select.old_dirs = on;
    }),
    switch(
        Some('x'),
        &["one-file-system"],
        &["no-one-file-system", "no-x"],
        "don't cross filesystem boundaries",
        |given, on| count(&mut given.select.one_file_system, on),
    ),
    value(None, &["files-from"], "FILE", "read list of source-file names from FILE", |given, value| {
        given.select.files_from = Some(path(value)?);
        Ok(())
    }),
    switch(
        Some('0'),
        &["from0"],
        &["no-from0"],
        "all *-from/filter files are delimited by 0s",
        |given, on| given.select.from0 = on,
    ),
    value(Some('f'), &["filter"], "RULE", "add a file-filtering RULE", |given, value| {
        given.select.filters.push(FilterOption::Rule(value.to_vec()));
        Ok(())
    }),
    switch(
        Some('F'),
        &["F"],
        &[],
        "same as --filter='dir-merge /.rsync-filter'; repeated: --filter='- .rsync-filter'",
        |given, _| given.select.filters.push(FilterOption::PerDirectory),
    ),
    value(None, &["exclude"], "PATTERN", "exclude files matching PATTERN", |given, value| {
        given.select.filters.push(FilterOption::Exclude(value.to_vec()));
        Ok(())
    }),
    value(None, &["exclude-from"], "FILE", "read exclude patterns from FILE", |given, value| {
        given.select.filters.push(FilterOption::ExcludeFrom(path(value)?));
        Ok(())
    }),
    value(None, &["include"], "PATTERN", "don't exclude files matching PATTERN", |given, value| {
        given.select.filters.push(FilterOption::Include(value.to_vec()));
        Ok(())
    }),
    value(None, &["include-from"], "FILE", "read include patterns from FILE", |given, value| {
        given.select.filters.push(FilterOption::IncludeFrom(path(value)?));
        Ok(())
    }),
    switch(Some('C'), &["cvs-exclude"], &[], "auto-ignore files in the same way CVS does", |given, _| {
        given.select.filters.push(FilterOption::CvsExclude);
    }),
    switch(
        None,
        &["ignore-missing-args"],
        &[],
        "ignore missing source arguments without error",
        |given, _| given.select.missing = MissingArgs::Ignore,
    ),
    switch(
        None,
        &["delete-missing-args"],
        &[],
        "delete missing source arguments from destination",
        |given, _| given.select.missing = MissingArgs::Delete,
    ),
    switch(
        Some('m'),
        &["prune-empty-dirs"],
        &["no-prune-empty-dirs", "no-m"],
        "prune empty directory chains from file-list",
        |given, on| given.select.prune_empty_dirs = on,
    ),
    value(None, &["max-size"], "SIZE", "don't transfer any file larger than SIZE", |given, value| {
        given.select.max_size = Some(size(value, b'b')?);
        Ok(())
    }),
    value(None, &["min-size"], "SIZE", "don't transfer any file smaller than SIZE", |given, value| {
        given.select.min_size = Some(size(value, b'b')?);
        Ok(())
    }),
    value(
        None,
        &["iconv"],
        "CONVERT_SPEC",
        "request charset conversion of filenames (only \"-\", for none)",
        |given, value| {
            given.select.iconv = Some(value.to_vec());
            Ok(())
        },
    )
    .off(&["no-iconv"], |given| given.select.iconv = Some(b"-".to_vec())),
];
