//! Directories below the sources on which file systems are mounted, or were.
//!
//! Nothing below them is part of a mirror. One that was mounted when ebbtide was started, and is not any more, leaves an
//! empty directory behind that must not pass for one whose files were all removed: it stays closed until something is
//! mounted there again, or until a person releases it. What is mounted for a while and taken away again uncovers what the
//! mirror knew before, which is compared, by the next daemon if need be.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;

use ebbtide_feed::{Fact, MirrorId, RelPath, ToSender};

use super::Daemon;
use super::people::means_mirror;
use crate::control::Pick;
use crate::engine::Event;

impl Daemon {
    /// At the start: what was noted, and what is mounted now.
    pub(super) fn begin_mounts(&mut self) {
        for (mirror, spec) in (0..).zip(&self.start.mirrors) {
            let key = spec.source.as_os_str().as_bytes();
            let noted = self.notes.mounts.iter().filter(|(source, _)| source == key).map(|(_, dir)| dir);
            let noted = noted.filter(|dir| spec.source.join(dir.as_path()).is_dir()).cloned();
            self.mounted.push(noted.chain(self.core.tracker.mounts_of(mirror)).collect());
        }
        for mirror in 0..self.mounted.len() as MirrorId {
            self.start.mirrors[mirror as usize].closed = self.closed(mirror);
            self.away(mirror).iter().for_each(|dir| self.say_away(mirror, dir));
        }
        for (source, dir) in self.notes.covered.clone() {
            for mirror in 0..self.mounted.len() as MirrorId {
                let spec = &self.start.mirrors[mirror as usize];
                if spec.source.as_os_str().as_bytes() == source && !spec.closed.contains(&dir) {
                    self.uncovered(mirror, dir.clone());
                    self.core.apply(Event::Told(mirror, vec![Fact::Contents { dir: dir.clone() }]));
                }
            }
        }
    }

    /// File systems were mounted or unmounted on these directories.
    pub(in crate::daemon) fn follow_mounts(&mut self, moved: &[(MirrorId, RelPath)]) {
        (0..self.mounted.len() as MirrorId).for_each(|mirror| self.tell_closed(mirror));
        for (mirror, dir) in moved {
            if self.away(*mirror).contains(dir) {
                self.say_away(*mirror, dir);
            } else if !self.start.mirrors[*mirror as usize].closed.contains(dir) {
                self.uncovered(*mirror, dir.clone());
            }
        }
        self.keep_notes();
    }

    /// Until the batch that tells of it is durable, the next start tells of it, too.
    fn uncovered(&mut self, mirror: MirrorId, dir: RelPath) {
        let (batch, _) = self.core.engine.last_batch();
        self.uncovered.push((batch, mirror, dir));
    }

    /// A batch is durable.
    pub(super) fn settle_uncovered(&mut self, seq: u64) {
        let before = self.uncovered.len();
        self.uncovered.retain(|(batch, ..)| *batch >= seq);
        if self.uncovered.len() != before {
            self.keep_notes();
        }
    }

    /// Directories below a source that the next start is to compare if nothing is mounted there then.
    pub(super) fn covered(&self, mirror: MirrorId) -> BTreeSet<RelPath> {
        let noted = &self.mounted[mirror as usize];
        let now = self.start.mirrors[mirror as usize].closed.iter().filter(|dir| !noted.contains(dir));
        let open = self.uncovered.iter().filter(|(_, of, _)| *of == mirror).map(|(.., dir)| dir);
        now.chain(open).cloned().collect()
    }

    /// Directories that are closed though nothing is mounted there now.
    pub(super) fn away(&self, mirror: MirrorId) -> Vec<RelPath> {
        let now = self.core.tracker.mounts_of(mirror);
        let source = &self.start.mirrors[mirror as usize].source;
        let away = self.mounted[mirror as usize].iter().filter(|dir| !now.contains(dir));
        away.filter(|dir| source.join(dir.as_path()).is_dir()).cloned().collect()
    }

    /// Takes the directories for what they are where something was mounted, and tells what was done.
    pub(super) fn accept_mounts(&mut self, pick: &Pick) -> Vec<String> {
        let mut said = Vec::new();
        for mirror in 0..self.mounted.len() as MirrorId {
            if !means_mirror(pick, &self.start.mirrors[mirror as usize]) {
                continue;
            }
            for dir in self.away(mirror) {
                let source = self.start.mirrors[mirror as usize].source.display();
                said.push(format!(
                    "accepted: {source}/{dir}, where nothing is mounted any more, is compared"
                ));
                self.mounted[mirror as usize].remove(&dir);
                self.tell_closed(mirror);
                self.core.apply(Event::Told(mirror, vec![Fact::Contents { dir }]));
            }
        }
        said
    }

    fn tell_closed(&mut self, mirror: MirrorId) {
        let closed = self.closed(mirror);
        let spec = &mut self.start.mirrors[mirror as usize];
        if spec.closed != closed {
            spec.closed.clone_from(&closed);
            self.tell(ToSender::Close { mirror, closed });
        }
    }

    fn closed(&self, mirror: MirrorId) -> Vec<RelPath> {
        let noted = &self.mounted[mirror as usize];
        noted.union(&self.core.tracker.mounts_of(mirror)).cloned().collect()
    }

    fn say_away(&self, mirror: MirrorId, dir: &RelPath) {
        let source = self.start.mirrors[mirror as usize].source.display();
        tracing::error!(
            "{source}/{dir}: the file system that was mounted there is away: nothing below it is sent or removed before \
             it is back, or before `ebbtide release`"
        );
    }
}
