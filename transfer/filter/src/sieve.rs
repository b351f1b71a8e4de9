//! Rules at work on the names below one directory.

use std::sync::Arc;

use crate::error::FilterError;
use crate::filters::Filters;
use crate::list::{Linked, Verdict};
use crate::local::Local;
use crate::parse::RuleFiles;
use crate::pattern::Query;
use crate::text::clean;

/// Rules, and the directory that names start from. Nothing is allocated to answer.
#[derive(Clone, Debug)]
pub struct Sieve {
    filters: Arc<Filters>,
    /// Absolute, with a slash at the end.
    root: Box<[u8]>,
}

impl Sieve {
    /// Names start from `root`, an absolute path. Its text counts: anchored rules of files above it, and rules with the
    /// modifier `/`, are matched against it.
    pub fn new(filters: Arc<Filters>, root: &[u8]) -> Sieve {
        let mut root = clean(&[b"/", root].concat());
        if root != b"/" {
            root.push(b'/');
        }
        Sieve { filters, root: root.into() }
    }

    /// The rules.
    pub fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Reads the merge files of the directory `dir`, and says what they and those of the directory above say together.
    /// `dir` is a name below the root, `.` for the root itself. The first directory, for which `above` is the default,
    /// also looks for files above it where their names ask for that. Rules that are too long are left out.
    ///
    /// # Errors
    /// A rule in them is wrong. As for rsync, a file that cannot be read is one that is not there.
    pub fn enter(&self, above: &Local, dir: &[u8], files: &mut dyn RuleFiles) -> Result<Local, FilterError> {
        if self.filters.merges.is_empty() {
            return Ok(Local::default());
        }
        above.enter(self, dir, files)
    }

    /// Whether an entry is not sent. `name` is its way from the root, `local` what the directory that has it says. An
    /// excluded directory excludes all below it; that is left to the caller, who will not look there.
    pub fn hides(&self, local: &Local, name: &[u8], dir: bool) -> bool {
        !self.filters.rules.is_empty() && self.excludes(local, &Query::new(&self.root[1..], name, dir))
    }

    /// Whether an entry, or a directory on the way to it, is not sent; without regard to per-directory files.
    pub fn hides_way(&self, name: &[u8], dir: bool) -> bool {
        let local = Local::default();
        let slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.map(|(at, _)| &name[..at]).any(|above| self.hides(&local, above, true))
            || self.hides(&local, name, dir)
    }

    /// Whether rules decide about names of extended attributes there.
    pub fn has_xattr_rules(&self, local: &Local) -> bool {
        self.filters.has_xattr_rules() || local.has_xattr_rules()
    }

    /// Whether the extended attribute of this name is not sent.
    pub fn hides_xattr(&self, local: &Local, name: &[u8]) -> bool {
        let query = Query { xattr: true, ..Query::new(&self.root[1..], name, false) };
        self.excludes(local, &query)
    }

    fn excludes(&self, local: &Local, query: &Query<'_>) -> bool {
        if query.name.is_empty() {
            return false;
        }
        let linked = Linked { local: local.lists(), cvs: self.filters.cvs.get().map(|cvs| &cvs.list) };
        self.filters.list.check(query, linked) == Some(Verdict::Exclude)
    }

    pub(crate) fn absolute_root(&self) -> &[u8] {
        &self.root
    }

    /// The absolute path of a directory below, with a slash at the end.
    pub fn absolute(&self, dir: &[u8]) -> Vec<u8> {
        if dir == b"." { self.root.to_vec() } else { [&self.root, dir, b"/"].concat() }
    }
}
