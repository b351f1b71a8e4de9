//! From the caller's entries to the list that goes on the wire.

use std::collections::HashMap;

use ebbtide_wire::flist::{self, Device, DirKind, FileList, FileListBuilder, IdKind, Mtime};
use ebbtide_wire::proto::Checksum;

use super::entry::{DirRole, Entry};
use crate::chmod::Chmod;
use crate::options::PushOptions;
use crate::source::{Source, group_name, user_name};

/// Builds the only list. With `sums`, every regular file is read for its checksum (`-c`).
///
/// # Errors
/// An entry that the protocol cannot carry, a name that is there twice, or one without its parent directory.
pub(super) fn build(
    entries: &[Entry],
    options: &PushOptions,
    source: &Source,
    sums: Option<Checksum>,
) -> Result<FileList, ebbtide_wire::Error> {
    ListMaker::new(options, source, sums).fill(FileListBuilder::new(), entries)
}

/// Makes the only list, or one part after the other.
pub(super) struct ListMaker<'a> {
    options: &'a PushOptions,
    source: &'a Source,
    sums: Option<Checksum>,
    groups: LinkGroups,
}

impl<'a> ListMaker<'a> {
    pub(super) fn new(options: &'a PushOptions, source: &'a Source, sums: Option<Checksum>) -> Self {
        ListMaker { options, source, sums, groups: LinkGroups::default() }
    }

    /// The list of one directory; an empty path is the top.
    ///
    /// # Errors
    /// An entry that the protocol cannot carry, or that is not in this directory.
    pub(super) fn part(&mut self, dir: &[u8], entries: &[Entry]) -> Result<FileList, ebbtide_wire::Error> {
        self.groups.forgets = true;
        self.fill(FileListBuilder::of_directory(dir)?, entries)
    }

    fn fill(
        &mut self,
        mut builder: FileListBuilder,
        entries: &[Entry],
    ) -> Result<FileList, ebbtide_wire::Error> {
        let mut digest = Vec::new();
        for entry in entries {
            digest.clear();
            if let Some(sums) = self.sums.filter(|_| entry.meta.is_file()) {
                digest = file_digest(entry, self.source, sums);
            }
            let group = if self.options.server.hard_links { self.groups.of(entry) } else { None };
            builder.push(&wire_entry(entry, &self.options.chmod, group, &digest))?;
        }
        builder.finish(|kind, id| match kind {
            _ if self.options.server.numeric_ids => None,
            IdKind::User => user_name(id),
            IdKind::Group => group_name(id),
        })
    }
}

fn wire_entry<'a>(
    entry: &'a Entry,
    chmod: &Chmod,
    link_group: Option<u64>,
    checksum: &'a [u8],
) -> flist::Entry<'a> {
    let meta = &entry.meta;
    flist::Entry {
        name: &entry.name,
        mode: chmod.apply(meta.mode),
        size: meta.size,
        mtime: Mtime { secs: meta.mtime.secs, nanos: meta.mtime.nanos },
        uid: meta.uid,
        gid: meta.gid,
        device: Device { major: rustix::fs::major(meta.rdev), minor: rustix::fs::minor(meta.rdev) },
        target: entry.link_target(),
        link_group,
        dir: match entry.dir {
            DirRole::Content => DirKind::Content,
            DirRole::Plain => DirKind::Plain,
            DirRole::Implied => DirKind::Implied,
        },
        checksum,
        atime: entry.details.as_ref().map_or(0, |details| details.atime),
        attributes: entry.details.as_ref().map(|details| &details.attributes).filter(|some| !some.is_empty()),
    }
}

/// The whole file's digest. A file that cannot be read gets one that nothing matches: its data is then asked for,
/// and the reason comes to light there.
fn file_digest(entry: &Entry, source: &Source, sums: Checksum) -> Vec<u8> {
    match source.digest(entry.root, entry.place(), sums) {
        Ok(digest) => digest.as_bytes().to_vec(),
        Err(_) => vec![0; sums.digest_len()],
    }
}

/// Numbers for the inodes that have several names.
#[derive(Default)]
struct LinkGroups {
    /// Inodes are forgotten when all of their names came, so that a tree of any size needs little memory.
    forgets: bool,
    /// By device and inode: the number, and how many names are still to come.
    numbers: HashMap<(u64, u64), (u64, u64)>,
    next: u64,
}

impl LinkGroups {
    fn of(&mut self, entry: &Entry) -> Option<u64> {
        let meta = &entry.meta;
        if meta.nlink < 2 || meta.is_dir() || meta.mode == 0 {
            return None;
        }
        let known = self.numbers.entry((meta.dev, meta.ino)).or_insert((self.next, meta.nlink));
        let number = known.0;
        known.1 = known.1.saturating_sub(1);
        if known.1 == 0 && self.forgets {
            self.numbers.remove(&(meta.dev, meta.ino));
        }
        self.next += u64::from(number == self.next);
        Some(number)
    }
}
