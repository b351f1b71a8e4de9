//! Finds the names of inodes that have more of them than anyone has seen.
//!
//! A file with one name is not on record. When it gets a second one, the event tells the new name only, unless an
//! eBPF record tells both. Looking for the first one reads every directory, but no inode, and happens once: then all
//! names are on record. A comparison of a directory may be the first to see the new name; what it does not find by itself
//! is looked for when it has ended.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;

use ebbtide_feed::RelPath;

use crate::ledger::Inode;

/// All names below `root` that may lead to one of these inodes: the numbers agree, the device is not looked at.
/// What cannot be read is passed over.
pub(crate) fn find(root: &Path, inodes: &HashSet<Inode>) -> Vec<(Inode, RelPath)> {
    let wanted: HashMap<u64, Inode> = inodes.iter().map(|inode| (inode.ino, *inode)).collect();
    let mut found = Vec::new();
    let mut pending = vec![RelPath::root()];
    while let Some(dir) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(root.join(dir.as_path())) else { continue };
        for entry in entries.flatten() {
            let Ok(path) = dir.join(entry.file_name().as_bytes()) else { continue };
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(path);
            } else if let Some(inode) = wanted.get(&entry.ino()) {
                found.push((*inode, path));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn every_name_of_an_inode_is_found_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("one"), "x").unwrap();
        std::fs::write(at("other"), "x").unwrap();
        std::fs::hard_link(at("one"), at("a/b/two")).unwrap();
        std::os::unix::fs::symlink("one", at("a/link")).unwrap();
        let meta = std::fs::metadata(at("one")).unwrap();
        let inode = Inode { dev: meta.dev(), ino: meta.ino() };
        let mut found = find(dir.path(), &HashSet::from([inode]));
        found.sort();
        let path = |name: &str| (inode, RelPath::new(name).unwrap());
        assert_eq!(found, [path("a/b/two"), path("one")]);
    }
}
