//! What an entry's times say about changes since some moment.
//!
//! Nobody can set a ctime. Linux moves it with every change of an inode: of its content, its attributes, its names
//! (kernel: `rename`, `link` and `unlink` set the ctime of the inode whose name it is, on ext4, XFS, btrfs and tmpfs
//! alike), and for a directory with every change of its entries, which moves its mtime too. So:
//!
//! | what is seen | what is told | why |
//! | --- | --- | --- |
//! | anything but a directory, ctime not older | `Touched` with data | an mtime can be set back, so it proves nothing |
//! | a directory, ctime older | nothing | neither it nor its entries changed |
//! | a directory that changed, in one that did not | `Relist` | it was there before: entries came or went, or its mode changed |
//! | a directory that changed, in one whose entries changed too | `Contents`, and it is not looked into | it may have been made or renamed to here, and so be another one than the destination has under that name; then times and sizes prove nothing of what is below |
//! | a directory that changed, in one that changed otherwise | `Subtree`, and the files below are looked at | the same, if somebody then set the mtime of the one above; mostly it was a `chmod -R` |
//!
//! What "not older" means differs: see [`Since`].

use ebbtide_feed::{Fact, RelPath};

use crate::sys::scan::{Nanos, Times};

/// From when on changes are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Since {
    /// A ctime that is not older may be of a change that nobody was told of.
    pub(in crate::daemon) changed: Nanos,
    /// The same for names of directories; not earlier. A rename is stamped and seen in one instant, so less margin is
    /// needed, and what it costs to suspect one is more.
    pub(in crate::daemon) renamed: Nanos,
}

/// What is to be done about a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Picked {
    /// Look at its entries.
    Look,
    /// Tell this, and look at its entries.
    Tell(Fact),
    /// Tell this, which covers the existence and the attributes of all below; look for changed files there.
    Cover(Fact),
    /// Tell this, which covers all below.
    Whole(Fact),
}

/// Whether anything but a directory may have changed.
pub(super) fn is_changed(entry: Times, since: Since) -> bool {
    entry.ctime >= since.changed
}

/// What is to be done about the source directory itself. That it is the one that it was is known otherwise.
pub(super) fn root(times: Times, since: Since) -> Picked {
    match times.ctime >= since.changed {
        true => Picked::Tell(Fact::Relist { dir: RelPath::root() }),
        false => Picked::Look,
    }
}

/// What is to be done about a directory in another one, which is `covered` if a `Subtree` above is told.
pub(super) fn directory(path: &RelPath, times: Times, above: Times, since: Since, covered: bool) -> Picked {
    let dir = || path.clone();
    let may_be_another = times.ctime >= since.renamed && above.ctime >= since.renamed;
    if times.ctime < since.changed {
        Picked::Look
    } else if may_be_another && above.mtime >= since.renamed {
        Picked::Whole(Fact::Contents { dir: dir() })
    } else if covered {
        Picked::Look
    } else if may_be_another {
        Picked::Cover(Fact::Subtree { dir: dir(), replaced: false })
    } else {
        Picked::Tell(Fact::Relist { dir: dir() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: Since = Since { changed: 1000, renamed: 1200 };

    fn times(mtime: Nanos, ctime: Nanos) -> Times {
        Times { ctime, mtime, btime: None }
    }

    fn picked(own: Times, above: Times) -> Picked {
        directory(&RelPath::new(&b"a/b"[..]).unwrap(), own, above, SINCE, false)
    }

    fn dir() -> RelPath {
        RelPath::new(&b"a/b"[..]).unwrap()
    }

    const OLD: Nanos = 500;
    const LATELY: Nanos = 1100;
    const NEW: Nanos = 1500;

    #[test]
    fn a_file_whose_mtime_was_set_back_is_changed_all_the_same() {
        assert!(is_changed(times(OLD, NEW), SINCE));
        assert!(is_changed(times(OLD, SINCE.changed), SINCE));
        assert!(!is_changed(times(NEW, OLD), SINCE), "an mtime in the future");
    }

    #[test]
    fn a_directory_that_changed_in_one_that_did_not_is_listed() {
        let old = times(OLD, OLD);
        assert_eq!(picked(old, times(NEW, NEW)), Picked::Look);
        let relist = || Picked::Tell(Fact::Relist { dir: dir() });
        assert_eq!(picked(times(NEW, NEW), old), relist());
        assert_eq!(picked(times(OLD, NEW), old), relist(), "its mode changed");
        assert_eq!(picked(times(LATELY, LATELY), times(NEW, NEW)), relist(), "it was there before");
        assert_eq!(picked(times(NEW, NEW), times(LATELY, LATELY)), relist());
    }

    #[test]
    fn a_directory_that_may_be_another_one_is_compared_by_content() {
        let contents = || Picked::Whole(Fact::Contents { dir: dir() });
        assert_eq!(picked(times(OLD, NEW), times(NEW, NEW)), contents(), "it was renamed");
        assert_eq!(picked(times(NEW, NEW), times(NEW, NEW)), contents(), "and then written into");
        let covered = directory(&dir(), times(OLD, NEW), times(NEW, NEW), SINCE, true);
        assert_eq!(covered, contents(), "a comparison by size and time is not enough");
    }

    #[test]
    fn below_a_directory_whose_attributes_changed_sizes_and_times_are_trusted() {
        let subtree = Picked::Cover(Fact::Subtree { dir: dir(), replaced: false });
        assert_eq!(picked(times(OLD, NEW), times(OLD, NEW)), subtree);
        let covered = directory(&dir(), times(OLD, NEW), times(OLD, NEW), SINCE, true);
        assert_eq!(covered, Picked::Look);
    }
}
