//! Every kind of change that a program can make to a tree, each by itself and in a directory of its own: the rows of the
//! matrix in `docs/KERNELS.md`.

mod attributes;
mod bytes;
mod names;
mod raw;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// One kind of change.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// What it is called, such as `rename of a file, within its directory`.
    pub name: &'static str,
    /// What must stand before it.
    before: fn(&Place),
    /// The change itself.
    act: fn(&Place) -> io::Result<Later>,
    /// What the tracker must say of it.
    pub facts: &'static [Expected],
    /// Why the kernel may tell nobody.
    pub quiet: Option<Quiet>,
}

/// Ways to change bytes of which inotify and fanotify are not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// A store through a shared mapping.
    Mapped,
    /// A write through `io_submit`, whose end tells nobody (kernel: fs/aio.c, aio_write).
    Aio,
}

/// A second step, taken when the first one is at the destination. Dropping it closes what the change holds open.
pub type Later = Option<Box<dyn FnOnce() -> io::Result<()> + Send>>;

/// Where one change happens.
#[derive(Clone, Debug)]
pub struct Place {
    /// A directory of its own in the tree.
    pub dir: PathBuf,
    /// A directory of its own on the same file system, outside of the tree.
    pub outside: PathBuf,
}

/// A fact that must come of a change. Paths are relative to the change's own directory, which is the empty path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The content of this name may have changed.
    Data(&'static str),
    /// Something about this name changed; whether its content may have, is left open.
    Touched(&'static str),
    /// This name is gone.
    Gone(&'static str),
    /// All below this directory must be compared.
    Subtree(&'static str),
}

/// How the change itself went.
pub enum Done {
    /// It is made; there may be a second step.
    Made(Later),
    /// The kernel does not do this on this file system.
    NotPossible(Errno),
}

impl Change {
    /// All kinds.
    pub fn all() -> impl Iterator<Item = &'static Change> {
        bytes::CHANGES.iter().chain(attributes::CHANGES).chain(names::CHANGES)
    }

    /// Its name as that of a directory or a test: lower case letters and `_`.
    pub fn slug(&self) -> String {
        let mut slug = String::new();
        for letter in self.name.chars() {
            match letter.to_ascii_lowercase() {
                letter if letter.is_ascii_alphanumeric() => slug.push(letter),
                _ if slug.ends_with('_') || slug.is_empty() => {}
                _ => slug.push('_'),
            }
        }
        slug.trim_end_matches('_').to_owned()
    }

    /// Makes its place below `tree` and beside it below `outside`, with all that stands there before.
    pub fn prepare(&self, tree: &Path, outside: &Path) -> Place {
        let place = Place { dir: tree.join(self.slug()), outside: outside.join(self.slug()) };
        fs::create_dir_all(&place.dir).expect("a file system of our own is writable");
        fs::create_dir_all(&place.outside).expect("a file system of our own is writable");
        (self.before)(&place);
        place
    }

    /// Makes the change.
    ///
    /// # Errors
    /// It failed in another way than by not being possible.
    pub fn make(&self, place: &Place) -> io::Result<Done> {
        match (self.act)(place) {
            Ok(later) => Ok(Done::Made(later)),
            Err(error) => match Errno::from_io_error(&error).filter(|errno| NOT_POSSIBLE.contains(errno)) {
                Some(errno) => Ok(Done::NotPossible(errno)),
                None => Err(error),
            },
        }
    }
}

impl Place {
    /// A name in its directory.
    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// What the kernel says of what it does not do. Anything else is a failure.
const NOT_POSSIBLE: [Errno; 3] = [Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS];

/// The size of the file that most changes start from: pages enough to change one and leave others.
const SIZE: usize = 64 << 10;

/// `file` with content, `other` with other content.
fn two_files(place: &Place) {
    fs::write(place.at("file"), crate::bytes(1, SIZE)).expect("a file system of our own is writable");
    fs::write(place.at("other"), crate::bytes(2, SIZE)).expect("a file system of our own is writable");
}

/// `dir/a`, `dir/deep/b`, and a second directory `to`.
fn two_directories(place: &Place) {
    fs::create_dir_all(place.at("dir/deep")).expect("a file system of our own is writable");
    fs::create_dir_all(place.at("to")).expect("a file system of our own is writable");
    fs::write(place.at("dir/a"), b"in dir").expect("a file system of our own is writable");
    fs::write(place.at("dir/deep/b"), crate::bytes(3, 5_000)).expect("a file system of our own is writable");
}

fn nothing(_: &Place) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_of_change_has_a_name_and_a_directory_of_its_own() {
        let names: BTreeSet<String> = Change::all().map(Change::slug).collect();
        assert_eq!(names.len(), Change::all().count());
        assert!(names.len() >= 34, "{}", names.len());
        assert!(names.contains("rename_of_a_file_within_its_directory"), "{names:?}");
    }
}
