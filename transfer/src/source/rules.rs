//! Filter rules at work in a source.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ebbtide_filter::{FilterError, Filters, Local, RuleFiles, Sieve};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Source;
use crate::walk::{Everything, Keep};

/// The rules for the entries of a source, by root.
#[derive(Debug, Default)]
pub(super) struct Rules {
    sieves: Vec<Arc<Sieve>>,
    failure: Arc<OnceLock<FilterError>>,
}

impl Rules {
    /// The same rules below each of these roots, which are absolute paths.
    pub(super) fn new<'a>(filters: &Arc<Filters>, roots: impl Iterator<Item = &'a Path>) -> Rules {
        let sieve = |root: &Path| Arc::new(Sieve::new(Arc::clone(filters), root.as_os_str().as_bytes()));
        Rules { sieves: roots.map(sieve).collect(), failure: Arc::default() }
    }

    fn sieve(&self, root: u16) -> Option<&Arc<Sieve>> {
        self.sieves.get(usize::from(root)).filter(|sieve| !sieve.filters().is_empty())
    }
}

impl Source {
    /// The same with only those entries that these rules want. Who walks asks [`Source::rules`] for them.
    #[must_use]
    pub fn with_filters(mut self, filters: &Arc<Filters>) -> Source {
        self.rules = Rules::new(filters, self.roots.iter().map(|root| &*root.path));
        self
    }

    /// The rules that hold where a walk of this root begins.
    pub fn rules(&self, root: u16) -> Arc<dyn Keep> {
        match self.rules.sieve(root) {
            None => Arc::new(Everything),
            Some(sieve) => Arc::new(Kept {
                sieve: Arc::clone(sieve),
                local: Local::default(),
                failure: Arc::clone(&self.rules.failure),
            }),
        }
    }

    /// The rules that hold where a walk begins after it came through these directories, the topmost first.
    pub fn rules_after<'a>(&self, root: u16, way: impl Iterator<Item = &'a [u8]>) -> Arc<dyn Keep> {
        let mut rules = self.rules(root);
        // Opening all directories on the way to each of many names is most of the work for them.
        if !self.rules.sieve(root).is_some_and(|sieve| sieve.filters().has_directory_files()) {
            return rules;
        }
        for dir in way {
            if let Ok(opened) = self.open_dir(root, dir)
                && let Some(own) = rules.enter(dir, opened.as_fd())
            {
                rules = own;
            }
        }
        rules
    }

    /// Whether an entry is not sent, whatever merge files in directories say. The directories on the way to it are not
    /// looked at.
    pub fn hides(&self, root: u16, name: &[u8], dir: bool) -> bool {
        name != b"." && self.rules.sieve(root).is_some_and(|sieve| sieve.hides(&Local::default(), name, dir))
    }

    /// The rules about names of extended attributes, if there are any; they then stand in for rsync's own.
    pub(crate) fn xattr_rules(&self, root: u16) -> Option<XattrRules> {
        let sieve = self.rules.sieve(root).filter(|sieve| sieve.filters().has_xattr_rules())?;
        Some(XattrRules(Arc::clone(sieve)))
    }

    /// What was wrong with a merge file in a directory. From there on nothing was listed: a list is not complete, and
    /// must not be sent, if this says something when it is done.
    pub fn rules_failure(&self) -> Option<&FilterError> {
        self.rules.failure.get()
    }
}

/// Rules about names of extended attributes.
#[derive(Clone, Debug)]
pub(crate) struct XattrRules(Arc<Sieve>);

impl XattrRules {
    /// Whether an extended attribute of this name is not sent.
    pub(crate) fn hide(&self, name: &[u8]) -> bool {
        self.0.hides_xattr(&Local::default(), name)
    }
}

/// The rules of one directory.
#[derive(Debug)]
struct Kept {
    sieve: Arc<Sieve>,
    local: Local,
    failure: Arc<OnceLock<FilterError>>,
}

impl Keep for Kept {
    fn enter(&self, dir: &[u8], opened: BorrowedFd<'_>) -> Option<Arc<dyn Keep>> {
        if !self.sieve.filters().has_directory_files() {
            return None;
        }
        let path = self.sieve.absolute(dir);
        let mut files = Directory { path: &path, opened };
        match self.sieve.enter(&self.local, dir, &mut files) {
            Ok(local) if local.is_same(&self.local) => None,
            Ok(local) => Some(Arc::new(Kept {
                sieve: Arc::clone(&self.sieve),
                local,
                failure: Arc::clone(&self.failure),
            })),
            Err(error) => {
                // The first one is told.
                let _ = self.failure.set(error);
                None
            }
        }
    }

    fn wants(&self, path: &[u8], is_dir: bool) -> bool {
        self.failure.get().is_none() && !self.sieve.hides(&self.local, path, is_dir)
    }
}

/// Reads merge files of a directory that is open, and of those above it.
struct Directory<'a> {
    /// Its absolute path, with a slash at the end.
    path: &'a [u8],
    opened: BorrowedFd<'a>,
}

impl RuleFiles for Directory<'_> {
    fn read(&mut self, name: &[u8]) -> io::Result<Vec<u8>> {
        let file = match name.strip_prefix(self.path) {
            Some(entry) if !entry.contains(&b'/') => open(self.opened, entry)?,
            _ => open(CWD, name)?,
        };
        let mut content = Vec::new();
        File::from(file).read_to_end(&mut content)?;
        Ok(content)
    }
}

/// Opens a merge file that whoever may write in the tree may have made: what it says can come out in a message, and
/// opening may block. So it must be a regular file, and a symlink is followed only if it belongs to us or to root, as
/// rsync 3.5.0 has it.
fn open(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
        Err(Errno::LOOP) => rustix::fs::openat(dir, &*trusted_link(dir, name)?, flags, Mode::empty())?,
        opened => opened?,
    };
    let stat = rustix::fs::fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(Errno::INVAL.into()),
    }
}

/// Where a symlink leads that nobody else can have made.
fn trusted_link(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let link = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let owner = rustix::fs::statat(&link, "", AtFlags::EMPTY_PATH)?.st_uid;
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(Errno::LOOP.into());
    }
    Ok(rustix::fs::readlinkat(&link, "", Vec::new())?.into_bytes())
}

/// Reads the files that the user names on the command line.
pub fn read_named(name: &[u8]) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    if name == b"-" {
        io::stdin().lock().read_to_end(&mut content)?;
    } else {
        let name = std::ffi::OsString::from_vec(name.to_vec());
        File::open(name)?.read_to_end(&mut content)?;
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use ebbtide_filter::{Builder, Settings};

    use super::*;
    use crate::walk::{Depth, Walk};

    fn filters(rules: &[&str]) -> Arc<Filters> {
        let mut read = read_named;
        let mut builder = Builder::new(Settings::default(), &mut read);
        for rule in rules {
            builder.filter(rule.as_bytes()).unwrap();
        }
        Arc::new(builder.finish())
    }

    fn listed(source: &Source) -> Vec<String> {
        let mut walk = Walk::new(source, 0).keeping(source.rules(0));
        walk.below(b".", Depth::Tree);
        let mut names: Vec<_> =
            walk.entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_walk_lists_what_the_rules_and_the_files_in_directories_want() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        for name in ["x.o", "a/x", "a/y", "a/b/x", "a/b/y"] {
            std::fs::write(at(name), "").unwrap();
        }
        std::fs::write(at("a/.f"), "- /x\n- y\n").unwrap();
        std::fs::write(at("rules"), "+ y\n").unwrap();
        symlink("../../rules", at("a/b/.f")).unwrap();
        let source = Source::open(dir.path()).unwrap().with_filters(&filters(&[":e .f", "- *.o"]));
        assert_eq!(listed(&source), ["a", "a/b", "a/b/x", "a/b/y", "rules"]);
        assert!(source.hides(0, b"x.o", false) && !source.hides(0, b".", true));
    }

    #[test]
    fn a_wrong_rule_in_a_directory_ends_the_list() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".f"), "wrong\n").unwrap();
        let source = Source::open(dir.path()).unwrap().with_filters(&filters(&[": .f"]));
        assert!(listed(&source).is_empty());
        let failure = source.rules_failure().unwrap().to_string();
        assert!(
            failure.starts_with("Unknown filter rule: wrong (") && failure.ends_with("/.f line 1)"),
            "{failure}"
        );
    }

    #[test]
    fn a_merge_file_that_is_no_regular_file_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mkfifoat(CWD, dir.path().join(".f"), Mode::RUSR).unwrap();
        let source = Source::open(dir.path()).unwrap().with_filters(&filters(&[": .f"]));
        assert_eq!(listed(&source), [".f"]);
    }
}
