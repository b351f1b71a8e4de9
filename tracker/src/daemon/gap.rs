//! Finds the changed names of a time in which nobody listened to name events, from the bits of that time: every change
//! of a directory's entries has marked the directory, and whatever got a name is marked, too.
//!
//! Each marked directory below a source is listed, once. Its entries that are marked and are not where their records
//! say are names that arrived; what went is found by comparing the directory. A directory that is not where its records
//! say was moved or made in that time, and is compared as a whole.

use std::os::fd::{AsFd, OwnedFd};

use super::look::Anchor;
use crate::engine::{Fold, Hint, Marked, Seen};
use crate::id::{Fs, Generation, Handle, HandleForm, Ino, Inode, Name};
use crate::resolve::Bits;
use crate::scope::Scope;
use crate::sys::file::{self, Kind};
use crate::sys::{self, handle};

/// The file system that is looked at.
pub(super) struct Gap<'a> {
    pub(super) fs: Fs,
    pub(super) form: HandleForm,
    pub(super) anchor: &'a Anchor,
    pub(super) scope: &'a Scope,
    /// All that is marked.
    pub(super) bits: &'a Bits,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Directories that were listed.
    pub(super) listed: u64,
    /// Changed directories of which it is not known whether they were moved, or which cannot be read.
    pub(super) unsure: u64,
}

/// A marked directory below a source.
struct Changed {
    fd: OwnedFd,
    handle: Handle,
    /// Where it is; `None` for a source itself.
    place: Option<(Handle, Name)>,
    moved: bool,
    /// Nothing tells where it was.
    unknown: bool,
}

impl Gap<'_> {
    /// Adds to `fold`, which holds the records of what is marked, what can be found.
    pub(super) fn search(&self, fold: &mut Fold) -> Found {
        let mut found = Found::default();
        for ino in &self.bits.changed {
            match self.directory(Ino(ino), fold) {
                Ok(Some(changed)) => self.tell(&changed, fold, &mut found),
                Ok(None) => {}
                Err(why) => {
                    tracing::warn!(ino, error = %why, cause = %why.source, "a changed directory could not be looked at");
                    found.unsure += 1;
                }
            }
        }
        found
    }

    /// The marked inode, if it is a directory below a source.
    fn directory(&self, ino: Ino, fold: &Fold) -> sys::Result<Option<Changed>> {
        let records: Vec<_> = records(fold, ino).collect();
        let Some(fd) = self.open(ino, records.last().copied())? else { return Ok(None) };
        if file::look_at_open(fd.as_fd())?.kind != Kind::Directory {
            return Ok(None);
        }
        let handle = handle::handle_of(fd.as_fd())?;
        if !self.anchor.shows_all && file::is_outside_of_mount(fd.as_fd())? {
            return Ok(None);
        }
        let path = file::path_of(fd.as_fd())?;
        let place = self.scope.place(self.fs, &path);
        if place.within.is_empty() {
            return Ok(None);
        }
        if place.within.iter().any(|(_, path)| path.is_root()) {
            return Ok(Some(Changed { fd, handle, place: None, moved: false, unknown: false }));
        }
        let parent = handle::handle_of(file::open_parent(fd.as_fd())?.as_fd())?;
        let name = path.rsplit(|&byte| byte == b'/').next().and_then(Name::new);
        let place = name.map(|name| (parent, name));
        let generation = self.form.decode(&handle).map(|inode| inode.generation);
        let same = |marked: &&Marked| {
            Some(marked.generation) == generation && is_only(&marked.entries, place.as_ref())
        };
        let (moved, unknown) = (!records.iter().all(same), records.is_empty());
        Ok(Some(Changed { fd, handle, place, moved, unknown }))
    }

    /// What has this number now: as its latest record knows it, or else the number's next user.
    fn open(&self, ino: Ino, latest: Option<&Marked>) -> sys::Result<Option<OwnedFd>> {
        let generations = latest.map(|marked| marked.generation).into_iter().chain([Generation(0)]);
        for handle in generations.filter_map(|generation| self.form.encode(ino, generation)) {
            match handle::open_by_handle(self.anchor.fd.as_fd(), &handle) {
                Ok(fd) => return Ok(Some(fd)),
                Err(e) if e.is_stale() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    fn tell(&self, changed: &Changed, fold: &mut Fold, found: &mut Found) {
        if let (true, Some((dir, name))) = (changed.moved, &changed.place) {
            let child = self.form.decode(&changed.handle);
            fold.note(Hint::Entry { dir: dir.clone(), name: name.clone(), seen: Seen::ARRIVED_DIR, child });
        }
        fold.relist(changed.handle.clone());
        found.listed += 1;
        found.unsure += u64::from(changed.unknown);
        let names = file::entries(changed.fd.as_fd());
        let Ok(names) = names else {
            found.unsure += 1;
            return;
        };
        for entry in names.iter().filter(|entry| !entry.directory && self.bits.changed.contains(entry.ino.0))
        {
            if let Some(name) = Name::new(&entry.name) {
                self.entry(&changed.handle, name, entry.ino, fold);
            }
        }
    }

    /// A marked name: it arrived here, unless all that is known of the inode is that it was here.
    fn entry(&self, dir: &Handle, name: Name, ino: Ino, fold: &mut Fold) {
        let place = (dir.clone(), name);
        let (mut settled, mut generation) = (false, Generation(0));
        for marked in records(fold, ino) {
            settled = !marked.nameless && is_only(&marked.entries, Some(&place));
            generation = marked.generation;
            if !settled {
                break;
            }
        }
        if !settled {
            let (dir, name) = place;
            let child = Some(Inode { ino, generation });
            fold.note(Hint::Entry { dir, name, seen: Seen::CREATED | Seen::DATA, child });
        }
    }
}

fn records(fold: &Fold, ino: Ino) -> impl Iterator<Item = &Marked> {
    fold.marks.values().filter_map(move |marks| marks.get(&ino))
}

fn is_only(entries: &[(Handle, Name)], place: Option<&(Handle, Name)>) -> bool {
    !entries.is_empty() && place.is_some_and(|place| entries.iter().all(|entry| entry == place))
}
