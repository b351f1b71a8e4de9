//! Whether the source directories are those of the last start.

use std::os::unix::ffi::OsStrExt;

use ebbtide_feed::{MirrorId, ToSender};

use super::Daemon;
use super::people::means_mirror;
use crate::control::Pick;
use crate::engine::{Event, Reason};

impl Daemon {
    /// Applies what was noted by the last daemon, before the sender is started.
    pub(super) fn apply_notes(&mut self) {
        self.begin_mounts();
        for (mirror, spec) in (0..).zip(&mut self.start.mirrors) {
            let key = spec.source.as_os_str().as_bytes();
            for to in &mut spec.destinations {
                to.paused = self.notes.paused.iter().any(|(source, url)| source == key && *url == to.url);
            }
            let source = self.core.tracker.source(mirror);
            spec.root = Some(source.numbers());
            spec.halted = None;
            let known = self.notes.roots.iter().find(|(source, _)| source == key).map(|(_, known)| known);
            // What cannot be told apart is not held up.
            if known.is_some_and(|known| source.identity().is_ok_and(|now| !is_same(known, &now))) {
                tracing::error!(
                    source = %spec.source.display(),
                    "{ANOTHER}: nothing of this mirror is sent, and nothing removed, before `ebbtide release`"
                );
                spec.halted = Some(ANOTHER.to_owned());
            }
        }
        self.keep_notes();
    }

    /// Writes down what must be known at the next start. The root of a mirror that is halted stays the one it was.
    pub(super) fn keep_notes(&mut self) {
        let mut notes = self.notes.clone();
        notes.paused.clear();
        notes.mounts.clear();
        notes.covered.clear();
        for (mirror, spec) in (0..).zip(&self.start.mirrors) {
            let key = spec.source.as_os_str().as_bytes();
            let mounted = self.mounted[mirror as usize].iter();
            notes.mounts.extend(mounted.map(|dir| (key.to_vec(), dir.clone())));
            notes.covered.extend(self.covered(mirror).into_iter().map(|dir| (key.to_vec(), dir)));
            let paused = spec.destinations.iter().filter(|to| to.paused);
            notes.paused.extend(paused.map(|to| (key.to_vec(), to.url.clone())));
            if spec.halted.is_none() {
                notes.roots.retain(|(source, _)| source != key);
                let now = self.core.tracker.source(mirror).identity();
                notes.roots.extend(now.ok().map(|now| (key.to_vec(), now)));
            }
        }
        let sources = || self.start.mirrors.iter().map(|spec| spec.source.as_os_str().as_bytes());
        notes.roots.retain(|(source, _)| sources().any(|known| known == source));
        if notes != self.notes {
            if let Err(error) = notes.write(&self.folders.tracker) {
                tracing::warn!(%error, "the tracker's notes cannot be written: pauses and sources are not remembered");
            }
            self.notes = notes;
        }
    }

    /// Takes the source directories of these mirrors for the right ones where they are others than before, and tells
    /// what was done.
    pub(super) fn accept_roots(&mut self, pick: &Pick) -> Vec<String> {
        let is_meant = |mirror: &MirrorId| {
            let spec = &self.start.mirrors[*mirror as usize];
            means_mirror(pick, spec)
                && (spec.halted.is_some() || self.core.engine.coverage(*mirror).root_lost())
        };
        let meant: Vec<MirrorId> = (0..self.start.mirrors.len() as MirrorId).filter(is_meant).collect();
        let mut said: Vec<_> = meant.into_iter().map(|mirror| self.accept_root(mirror)).collect();
        said.extend(self.accept_mounts(pick));
        self.keep_notes();
        said
    }

    fn accept_root(&mut self, mirror: MirrorId) -> String {
        let source = self.start.mirrors[mirror as usize].source.display().to_string();
        let was_lost = self.core.engine.coverage(mirror).root_lost();
        if was_lost && let Err(why) = self.core.tracker.accept_root(mirror) {
            return format!("not accepted: {source}: {why}");
        }
        let root = Some(self.core.tracker.source(mirror).numbers());
        let spec = &mut self.start.mirrors[mirror as usize];
        (spec.halted, spec.root) = (None, root);
        self.tell(ToSender::Halt { mirror, halted: None, root });
        let why = self.core.tainted(mirror, Reason::RootAccepted);
        self.core.apply(if was_lost { Event::RootBack(mirror, why) } else { Event::Lost(mirror, why) });
        format!("accepted: {source}, the whole mirror is compared")
    }
}

/// Whether two identities are of one directory. A kernel that tells no UUID of a file system, and a newer one that does,
/// agree in what follows that.
fn is_same(before: &str, now: &str) -> bool {
    let has_uuid = |identity: &str| identity.find(' ') == Some(UUID);
    let agrees = |with: &str, without: &str| without.ends_with(&with[UUID..]);
    match (has_uuid(before), has_uuid(now)) {
        (true, false) => agrees(before, now),
        (false, true) => agrees(now, before),
        _ => before == now,
    }
}

/// Length of a UUID in an identity.
const UUID: usize = 32;

const ANOTHER: &str = "another directory is at the source's path now than when ebbtide ran last";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_tells_the_uuid_does_not_make_it_another_directory() {
        let uuid = "0123456789abcdef0123456789abcdef 2 08000000 Some(5)";
        let fsid = "ef53 [1, 2] 2 08000000 Some(5)";
        assert!(is_same(uuid, fsid) && is_same(fsid, uuid) && is_same(uuid, uuid) && is_same(fsid, fsid));
        assert!(!is_same(uuid, "ef53 [1, 2] 3 08000000 Some(5)"));
        assert!(!is_same(fsid, "ef53 [1, 3] 2 08000000 Some(5)"));
        assert!(!is_same(uuid, "1123456789abcdef0123456789abcdef 2 08000000 Some(5)"));
    }
}
