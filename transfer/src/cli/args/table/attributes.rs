//! Which attributes are kept, and what becomes of links.

use super::super::given::Given;
use super::{Spec, count, switch, value};

pub(super) const LINKS: &[Spec] = &[
    switch(Some('l'), &["links"], &["no-links", "no-l"], "copy symlinks as symlinks", |given, on| {
        given.links.keep = on;
    }),
    switch(Some('L'), &["copy-links"], &[], "transform symlink into referent file/directory", |given, on| {
        given.links.copy = on;
    }),
    switch(None, &["copy-unsafe-links"], &[], "only \"unsafe\" symlinks are transformed", |given, on| {
        given.links.copy_unsafe = on;
    }),
    switch(None, &["safe-links"], &[], "ignore symlinks that point outside the tree", |given, on| {
        given.links.safe = on;
    }),
    switch(
        None,
        &["munge-links"],
        &["no-munge-links"],
        "munge symlinks to make them safe & unusable",
        |given, on| given.links.munge = on,
    ),
    switch(
        Some('k'),
        &["copy-dirlinks"],
        &[],
        "transform symlink to directory into referent directory",
        |given, on| given.links.copy_dirlinks = on,
    ),
    switch(
        Some('K'),
        &["keep-dirlinks"],
        &[],
        "treat symlinked directory on receiver as directory",
        |given, on| given.links.keep_dirlinks = on,
    ),
    switch(Some('H'), &["hard-links"], &["no-hard-links", "no-H"], "preserve hard links", |given, on| {
        given.attributes.hard_links = on;
    }),
];

pub(super) const SPECS: &[Spec] = &[
    switch(Some('p'), &["perms"], &["no-perms", "no-p"], "preserve permissions", |given, on| {
        given.attributes.perms = on;
    }),
    switch(Some('E'), &["executability"], &[], "preserve executability", |given, on| {
        given.attributes.executability = on;
    }),
    value(None, &["chmod"], "CHMOD", "affect file and/or directory permissions", |given, value| {
        given.attributes.chmod.push(value.to_vec());
        Ok(())
    }),
    switch(Some('A'), &["acls"], &["no-acls", "no-A"], "preserve ACLs (implies --perms)", |given, on| {
        given.attributes.acls = on;
        given.attributes.perms |= on;
    }),
    switch(Some('X'), &["xattrs"], &["no-xattrs", "no-X"], "preserve extended attributes", |given, on| {
        count(&mut given.attributes.xattrs, on);
    }),
    switch(Some('o'), &["owner"], &["no-owner", "no-o"], "preserve owner (super-user only)", |given, on| {
        given.attributes.owner = on;
    }),
    switch(Some('g'), &["group"], &["no-group", "no-g"], "preserve group", |given, on| {
        given.attributes.group = on;
    }),
    switch(None, &["devices"], &["no-devices"], "preserve device files (super-user only)", |given, on| {
        given.attributes.devices = on;
    }),
    switch(
        None,
        &["write-devices"],
        &["no-write-devices"],
        "write to devices as files (implies --inplace)",
        |given, on| {
            given.attributes.write_devices = on;
            given.update.inplace |= on;
        },
    ),
    switch(None, &["specials"], &["no-specials"], "preserve special files", |given, on| {
        given.attributes.specials = on;
    }),
    switch(Some('D'), &["D"], &["no-D"], "same as --devices --specials", |given, on| {
        given.attributes.devices = on;
        given.attributes.specials = on;
    }),
    switch(Some('t'), &["times"], &["no-times", "no-t"], "preserve modification times", |given, on| {
        given.attributes.times = on;
    }),
    switch(Some('U'), &["atimes"], &["no-atimes", "no-U"], "preserve access (use) times", |given, on| {
        count(&mut given.attributes.atimes, on);
    }),
    switch(
        None,
        &["open-noatime"],
        &["no-open-noatime"],
        "avoid changing the atime on opened files",
        |given, on| given.attributes.open_noatime = on,
    ),
    switch(
        Some('N'),
        &["crtimes"],
        &["no-crtimes", "no-N"],
        "preserve create times (newness)",
        |given, on| given.attributes.crtimes = on,
    ),
    switch(
        Some('O'),
        &["omit-dir-times"],
        &["no-omit-dir-times", "no-O"],
        "omit directories from --times",
        |given, on| given.attributes.omit_dir_times = on,
    ),
    switch(
        Some('J'),
        &["omit-link-times"],
        &["no-omit-link-times", "no-J"],
        "omit symlinks from --times",
        |given, on| given.attributes.omit_link_times = on,
    ),
    switch(None, &["super"], &["no-super"], "receiver attempts super-user activities", |given, on| {
        given.attributes.superuser = Some(on);
    }),
    switch(
        None,
        &["numeric-ids"],
        &["no-numeric-ids"],
        "don't map uid/gid values by user/group name",
        |given, on| given.attributes.numeric_ids = on,
    ),
    value(None, &["usermap"], "STRING", "custom username mapping", |given, value| {
        set_map(given, "user", value)
    }),
    value(None, &["groupmap"], "STRING", "custom groupname mapping", |given, value| {
        set_map(given, "group", value)
    }),
    value(None, &["chown"], "USER:GROUP", "simple username/groupname mapping", chown),
];

/// `--chown` says for all ids what the maps say for some.
fn chown(given: &mut Given, value: &[u8]) -> Result<(), String> {
    let (user, group) = match value.iter().position(|byte| *byte == b':') {
        Some(colon) => (&value[..colon], &value[colon + 1..]),
        None => (value, &b""[..]),
    };
    for (kind, name) in [("user", user), ("group", group)] {
        if !name.is_empty() {
            set_map(given, kind, &[b"*:", name].concat())?;
        }
    }
    Ok(())
}

/// A map may be set once; what maps an id sends it too.
fn set_map(given: &mut Given, kind: &str, map: &[u8]) -> Result<(), String> {
    let attributes = &mut given.attributes;
    let (slot, kept) = match kind {
        "user" => (&mut attributes.usermap, &mut attributes.owner),
        _ => (&mut attributes.groupmap, &mut attributes.group),
    };
    if slot.is_some() {
        return Err(format!("conflicts with prior --{kind}map or --chown"));
    }
    *slot = Some(map.to_vec());
    *kept = true;
    Ok(())
}
