//! What per-directory merge files say in one directory.
//!
//! A directory's lists are made from those of the directory above and its own files, and never change: a walk may take
//! directories in any order, on any thread, and keep as many of these as it likes.
//!
//! Peer: rsync exclude.c, `push_local_filters` and `setup_merge_file`.

use std::sync::Arc;

use crate::error::FilterError;
use crate::flags::Flags;
use crate::list::List;
use crate::parse::{Draft, Here, Mode, Parser, RuleFiles};
use crate::rule::MergeFile;
use crate::sieve::Sieve;
use crate::text::clean;

/// The lists of one merge file: this directory's, then those of the directories above.
pub(crate) type Chain = Option<Arc<Link>>;

/// One directory's part of a [`Chain`].
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) list: List,
    pub(crate) above: Chain,
}

/// What the per-directory files of a directory, and of those above, say. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Local(Option<Arc<Frame>>);

/// All lists of one directory.
#[derive(Clone, Debug, Default)]
struct Frame {
    /// The merge files that are looked for here.
    merges: Vec<MergeFile>,
    /// What they say.
    lists: Vec<Chain>,
    /// Whether a rule in them is about extended attributes.
    xattrs: bool,
}

impl Local {
    pub(crate) fn lists(&self) -> &[Chain] {
        self.0.as_deref().map_or(&[], |frame| &frame.lists)
    }

    /// Whether this is the very same as `other`, because nothing was said in between.
    pub fn is_same(&self, other: &Local) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    pub(crate) fn has_xattr_rules(&self) -> bool {
        self.0.as_deref().is_some_and(|frame| frame.xattrs)
    }

    /// The same for a directory below.
    pub(crate) fn enter(
        &self,
        sieve: &Sieve,
        dir: &[u8],
        files: &mut dyn RuleFiles,
    ) -> Result<Local, FilterError> {
        let (frame, set_up) = match &self.0 {
            Some(frame) => (Frame::clone(frame), frame.merges.len()),
            None => (Frame { merges: sieve.filters().merges.clone(), ..Frame::default() }, 0),
        };
        if frame.merges.is_empty() {
            return Ok(Local::default());
        }
        let mut entering = Entering { sieve, dir: &sieve.absolute(dir), files, frame, changed: set_up == 0 };
        entering.all(set_up)?;
        match (&self.0, entering.changed) {
            (Some(frame), false) => Ok(Local(Some(Arc::clone(frame)))),
            _ => Ok(Local(Some(Arc::new(entering.frame)))),
        }
    }
}

/// A directory whose merge files are read.
struct Entering<'a> {
    sieve: &'a Sieve,
    /// Its absolute path, with a slash at the end.
    dir: &'a [u8],
    files: &'a mut dyn RuleFiles,
    frame: Frame,
    /// Whether anything is different from the directory above.
    changed: bool,
}

impl Entering<'_> {
    /// Reads all merge files; one of them may name more of them. Those from `set_up` on are new here.
    fn all(&mut self, set_up: usize) -> Result<(), FilterError> {
        let mut number = 0;
        while number < self.frame.merges.len() {
            self.frame.lists.resize(self.frame.merges.len(), None);
            if self.keeps_to_itself(number) && self.frame.lists[number].take().is_some() {
                self.changed = true;
            }
            if number >= set_up {
                self.look_above(number)?;
            }
            self.read(number, self.dir, false)?;
            number += 1;
        }
        Ok(())
    }

    fn keeps_to_itself(&self, number: usize) -> bool {
        self.frame.merges[number].flags.contains(Flags::NO_INHERIT)
    }

    /// A name with slashes says from which directory above on the file is looked for.
    fn look_above(&mut self, number: usize) -> Result<(), FilterError> {
        let name = &self.frame.merges[number].name;
        if !name.contains(&b'/') {
            return Ok(());
        }
        let full = if name.starts_with(b"/") { clean(name) } else { clean(&[self.dir, name].concat()) };
        let split = full.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let (top, base) = full.split_at(split);
        self.frame.merges[number].name = base.into();
        let dir = self.dir;
        if !dir.starts_with(top) {
            return Ok(());
        }
        let ends = (top.len()..dir.len()).filter(|end| dir[end - 1] == b'/');
        for end in ends {
            self.read(number, &dir[..end], true)?;
        }
        Ok(())
    }

    /// Reads one merge file in one directory.
    fn read(&mut self, number: usize, dir: &[u8], above: bool) -> Result<(), FilterError> {
        let MergeFile { flags, name } = self.frame.merges[number].clone();
        let known = self.frame.merges.len();
        let mut draft = Draft::after(std::mem::take(&mut self.frame.merges));
        let read = Parser {
            settings: &self.sieve.filters().settings,
            files: self.files,
            cvs: &self.sieve.filters().cvs,
            draft: &mut draft,
            here: Some(Here { dir, root: self.sieve.absolute_root(), above }),
            warnings: &mut Vec::new(),
            depth: 0,
            place: None,
        }
        .file(&[dir, &*name].concat(), Mode { container: flags, local: true, ..Mode::default() });
        self.frame.merges = draft.merges;
        read?;
        if above && flags.contains(Flags::NO_INHERIT) {
            self.frame.merges.truncate(known);
            return Ok(());
        }
        self.changed |= draft.cleared || !draft.rules.is_empty();
        self.frame.xattrs |= draft.rules.iter().any(|rule| rule.flags.contains(Flags::XATTR));
        let list = &mut self.frame.lists[number];
        if draft.cleared {
            *list = None;
        }
        if !draft.rules.is_empty() {
            *list = Some(Arc::new(Link { list: List::new(&draft.rules), above: list.take() }));
        }
        Ok(())
    }
}
