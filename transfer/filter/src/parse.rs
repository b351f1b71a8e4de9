//! From options and files to rules.
//!
//! Peer: rsync exclude.c, `parse_filter_str`, `parse_filter_file` and `add_rule`.

use std::io;
use std::sync::OnceLock;

use crate::cvs::Cvs;
use crate::error::{FilterError, Place, RuleError};
use crate::flags::Flags;
use crate::pattern::Pattern;
use crate::rule::{MergeFile, Rule, What};
use crate::text::{base, clean, is_space};
use crate::token::{self, Token};

/// Where files of rules come from; the only way by which rules reach anything outside.
pub trait RuleFiles {
    /// The whole content of a file. `-` is standard input. A name that is not absolute is one that the user wrote.
    ///
    /// # Errors
    /// It is not there, or cannot be read. A file that is looked for in each directory may be missing.
    fn read(&mut self, name: &[u8]) -> io::Result<Vec<u8>>;
}

impl<F: FnMut(&[u8]) -> io::Result<Vec<u8>>> RuleFiles for F {
    fn read(&mut self, name: &[u8]) -> io::Result<Vec<u8>> {
        self(name)
    }
}

/// What decides how rules are read.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `--delete-excluded`: rules without a side say nothing of the receiver.
    pub delete_excluded: bool,
    /// `--from0`: lines end with a zero byte.
    pub from0: bool,
    /// The user's own `.cvsignore`, for `-C`.
    pub cvsignore: Option<Vec<u8>>,
    /// The content of the variable CVSIGNORE, for `-C`.
    pub cvsignore_variable: Option<Vec<u8>>,
}

/// Rules in the making.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) rules: Vec<Rule>,
    /// All per-directory merge files that are known, those of directories above among them.
    pub(crate) merges: Vec<MergeFile>,
    /// How many of those were known before.
    pub(crate) known: usize,
    /// Whether what the directories above said is to be forgotten.
    pub(crate) cleared: bool,
}

impl Draft {
    /// Nothing, with these merge files known.
    pub(crate) fn after(merges: Vec<MergeFile>) -> Draft {
        Draft { known: merges.len(), merges, ..Draft::default() }
    }

    fn clear(&mut self) {
        self.rules.clear();
        self.merges.truncate(self.known);
        self.cleared = true;
    }
}

/// The directory whose merge file is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here<'a> {
    /// Its absolute path, with a slash at the end.
    pub(crate) dir: &'a [u8],
    /// The directory that names start from, in the same form.
    pub(crate) root: &'a [u8],
    /// Whether it is above the first directory.
    pub(crate) above: bool,
}

/// How text is to be read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mode {
    /// The flags of the rule that names the file.
    pub(crate) container: Flags,
    /// As `--exclude` has it.
    pub(crate) old_prefixes: bool,
    /// The file must be there.
    pub(crate) required: bool,
    /// It is a directory's own file: patterns are anchored in it.
    pub(crate) local: bool,
}

/// Reads text into a draft.
pub(crate) struct Parser<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) files: &'a mut dyn RuleFiles,
    pub(crate) cvs: &'a OnceLock<Cvs>,
    pub(crate) draft: &'a mut Draft,
    pub(crate) here: Option<Here<'a>>,
    /// What was left out.
    pub(crate) warnings: &'a mut Vec<String>,
    pub(crate) depth: usize,
    pub(crate) place: Option<Place>,
}

impl Parser<'_> {
    /// Reads the rules in `text`.
    pub(crate) fn text(&mut self, text: &[u8], mode: Mode) -> Result<(), FilterError> {
        let mut rest = text;
        loop {
            let before = rest;
            match token::next(&mut rest, mode.container, mode.old_prefixes) {
                Ok(Some(token)) => self.token(token, mode)?,
                Ok(None) => return Ok(()),
                Err(wrong) => {
                    return Err(RuleError { wrong, rule: before.to_vec(), place: self.place.clone() }.into());
                }
            }
        }
    }

    /// Reads the rules in a file.
    pub(crate) fn file(&mut self, name: &[u8], mode: Mode) -> Result<(), FilterError> {
        if self.depth == MAX_DEPTH {
            return Err(FilterError::Depth { limit: MAX_DEPTH, file: name.to_vec() });
        }
        let content = match self.files.read(name) {
            Ok(content) => content,
            Err(_) if !mode.required => return Ok(()),
            Err(source) => {
                let include = mode.container.contains(Flags::INCLUDE);
                return Err(FilterError::Open { include, file: name.to_vec(), source });
            }
        };
        let place = self.place.take();
        self.depth += 1;
        let read = self.lines(name, &content, mode);
        self.depth -= 1;
        self.place = place;
        read
    }

    fn lines(&mut self, name: &[u8], content: &[u8], mode: Mode) -> Result<(), FilterError> {
        let words = mode.container.contains(Flags::WORDS);
        let nulls = self.settings.from0;
        let ends = |byte: &u8| match byte {
            0 => nulls,
            b'\n' | b'\r' => words || !nulls,
            other => words && is_space(*other),
        };
        let mut number = 1;
        for line in content.split_inclusive(ends) {
            let end = line.len() - usize::from(line.last().is_some_and(ends));
            self.place = Some(Place { file: name.to_vec(), line: (!words).then_some(number) });
            self.line(&line[..end], words, mode)?;
            number += usize::from(nulls || line.ends_with(b"\n"));
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], words: bool, mode: Mode) -> Result<(), FilterError> {
        let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
        if line.len() > MAX_LINE {
            self.warnings.push("discarding over-long filter: ".to_owned());
            return Ok(());
        }
        match line.first() {
            None => Ok(()),
            Some(b';' | b'#') if !words => Ok(()),
            Some(_) => self.text(line, mode),
        }
    }

    fn token(&mut self, token: Token<'_>, mode: Mode) -> Result<(), FilterError> {
        let Token { mut flags, pattern } = token;
        if pattern.len() > MAX_PATTERN {
            self.warnings.push(format!("discarding over-long filter: {}", pattern.escape_ascii()));
            return Ok(());
        }
        if flags.contains(Flags::CLEAR) {
            self.draft.clear();
            return Ok(());
        }
        if flags.contains(Flags::MERGE) {
            let name = if pattern.is_empty() { CVSIGNORE } else { pattern };
            if flags.contains(Flags::EXCLUDE_SELF) {
                self.add(Flags::empty(), base(name), false);
                flags -= Flags::EXCLUDE_SELF;
            }
            return self.merge(flags, name, mode);
        }
        if !flags.contains(Flags::CVS) {
            self.add(flags, pattern, mode.local);
            return Ok(());
        }
        self.push(flags, pattern, What::Cvs);
        self.load_cvs(flags)
    }

    fn merge(&mut self, flags: Flags, name: &[u8], mode: Mode) -> Result<(), FilterError> {
        if !flags.contains(Flags::PER_DIR) {
            let inner = Mode { container: flags, required: true, ..Mode::default() };
            return self.file(&self.merge_name(name), inner);
        }
        // Of the other side's rules nothing is needed here, nor in the directories below.
        if mode.local && flags.receiver_only() {
            return Ok(());
        }
        let above = self.here.is_some_and(|here| here.above);
        let name = if above { self.merge_name(name) } else { name.to_vec() };
        self.add_merge_file(flags, &name);
        Ok(())
    }

    /// Where a merge file is.
    fn merge_name(&self, name: &[u8]) -> Vec<u8> {
        match self.here {
            _ if name.starts_with(b"/") => clean(name),
            None if name.contains(&b'/') => clean(name),
            None => name.to_vec(),
            Some(here) if here.above || name.contains(&b'/') => clean(&[here.dir, name].concat()),
            Some(_) if name == b"-" => name.to_vec(),
            Some(here) => clean(&[here.root, name].concat()),
        }
    }

    /// A merge file that is already looked for is not looked for twice.
    fn add_merge_file(&mut self, flags: Flags, name: &[u8]) {
        let (flags, name) = without_slash(flags, name);
        if self.draft.merges.iter().any(|known| base(&known.name) == base(name)) {
            return;
        }
        let number = self.draft.merges.len();
        self.draft.merges.push(MergeFile { flags, name: name.into() });
        self.push(flags, name, What::PerDir(number));
    }

    fn add(&mut self, flags: Flags, pattern: &[u8], local: bool) {
        if local && flags.receiver_only() {
            return;
        }
        let (flags, pattern) = without_slash(flags, pattern);
        let within = self.here.filter(|_| local).map(|here| here.dir.trim_ascii_slashes());
        let what = What::Pattern(Pattern::new(flags, pattern, within));
        self.push(flags, pattern, what);
    }

    fn push(&mut self, flags: Flags, text: &[u8], what: What) {
        self.draft.rules.push(Rule { flags, text: text.into(), what });
    }

    fn load_cvs(&mut self, flags: Flags) -> Result<(), FilterError> {
        if self.cvs.get().is_none() {
            let loaded = Cvs::load(self.settings, self.files, flags)?;
            // Nobody else can have set it to anything different.
            let _ = self.cvs.set(loaded);
        }
        Ok(())
    }
}

fn without_slash(flags: Flags, pattern: &[u8]) -> (Flags, &[u8]) {
    match pattern.strip_suffix(b"/") {
        Some(rest) if !rest.is_empty() => (flags | Flags::DIRECTORY, rest),
        _ => (flags, pattern),
    }
}

trait Slashes {
    fn trim_ascii_slashes(&self) -> &[u8];
}

impl Slashes for [u8] {
    fn trim_ascii_slashes(&self) -> &[u8] {
        let rest = self.strip_prefix(b"/").unwrap_or(self);
        rest.strip_suffix(b"/").unwrap_or(rest)
    }
}

/// Files may name each other this deep, as rsync 3.5.0 has it; earlier ones had no limit.
const MAX_DEPTH: usize = 32;
/// Longest line of a file, in bytes.
const MAX_LINE: usize = 5119;
/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 4095;
/// The merge file that `C` stands for.
const CVSIGNORE: &[u8] = b".cvsignore";
