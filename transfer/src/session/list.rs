//! From the caller's entries to the list that goes on the wire.

use std::collections::HashMap;

use ebbtide_wire::delta;
use ebbtide_wire::flist::{self, Device, DirKind, FileList, FileListBuilder, IdKind, Mtime};
use ebbtide_wire::proto::Checksum;

use super::entry::{DirRole, Entry};
use crate::chmod::Chmod;
use crate::options::PushOptions;
use crate::source::{Source, group_name, user_name};

/// Builds the list. With `sums`, every regular file is read for its checksum (`-c`).
///
/// # Errors
/// An entry that the protocol cannot carry, a name that is there twice, or one without its parent directory.
pub(super) fn build(
    entries: &[Entry],
    options: &PushOptions,
    source: &Source,
    sums: Option<Checksum>,
) -> Result<FileList, ebbtide_wire::Error> {
    let mut builder = FileListBuilder::new();
    let mut groups = LinkGroups::default();
    let mut digest = Vec::new();
    for entry in entries {
        digest.clear();
        if let Some(sums) = sums.filter(|_| entry.meta.is_file()) {
            digest = file_digest(entry, source, sums);
        }
        let group = if options.server.hard_links { groups.of(entry) } else { None };
        builder.push(&wire_entry(entry, &options.chmod, group, &digest))?;
    }
    builder.finish(|kind, id| match kind {
        _ if options.server.numeric_ids => None,
        IdKind::User => user_name(id),
        IdKind::Group => group_name(id),
    })
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
        target: &entry.link_target,
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
    let read = || source.open_file(entry.root, &entry.name)?.content(Vec::new());
    match read() {
        Ok(content) => delta::file_digest(sums, &content).as_bytes().to_vec(),
        Err(_) => vec![0; sums.digest_len()],
    }
}

/// Numbers for the inodes that have several names.
#[derive(Default)]
struct LinkGroups {
    numbers: HashMap<(u64, u64), u64>,
}

impl LinkGroups {
    fn of(&mut self, entry: &Entry) -> Option<u64> {
        if entry.meta.nlink < 2 || entry.meta.is_dir() || entry.meta.mode == 0 {
            return None;
        }
        let next = self.numbers.len() as u64;
        Some(*self.numbers.entry((entry.meta.dev, entry.meta.ino)).or_insert(next))
    }
}
