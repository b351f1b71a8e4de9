//! A user's rules, in their order.

use std::sync::OnceLock;

use crate::cvs::Cvs;
use crate::error::FilterError;
use crate::flags::Flags;
use crate::list::List;
use crate::parse::{Draft, Mode, Parser, RuleFiles, Settings};
use crate::rule::{MergeFile, Rule, What};

/// Collects rules in the order of the options that give them.
pub struct Builder<'a> {
    settings: Settings,
    files: &'a mut dyn RuleFiles,
    draft: Draft,
    cvs: OnceLock<Cvs>,
    warnings: Vec<String>,
}

/// Rules, ready to be asked through a [`crate::Sieve`].
#[derive(Debug, Default)]
pub struct Filters {
    pub(crate) settings: Settings,
    pub(crate) rules: Vec<Rule>,
    pub(crate) list: List,
    pub(crate) merges: Vec<MergeFile>,
    pub(crate) cvs: OnceLock<Cvs>,
    warnings: Vec<String>,
}

impl<'a> Builder<'a> {
    /// No rules yet.
    pub fn new(settings: Settings, files: &'a mut dyn RuleFiles) -> Builder<'a> {
        Builder { settings, files, draft: Draft::default(), cvs: OnceLock::new(), warnings: Vec::new() }
    }

    /// `--filter=RULE`.
    ///
    /// # Errors
    /// The rule is wrong, or the file that it merges.
    pub fn filter(&mut self, rule: &[u8]) -> Result<(), FilterError> {
        self.text(rule, Mode::default())
    }

    /// `--exclude=PATTERN`.
    ///
    /// # Errors
    /// Never with a pattern; after `- ` or `+ ` there must be one.
    pub fn exclude(&mut self, pattern: &[u8]) -> Result<(), FilterError> {
        self.text(pattern, Mode { old_prefixes: true, ..Mode::default() })
    }

    /// `--include=PATTERN`.
    ///
    /// # Errors
    /// As for [`Builder::exclude`].
    pub fn include(&mut self, pattern: &[u8]) -> Result<(), FilterError> {
        self.text(pattern, Mode { old_prefixes: true, container: Flags::INCLUDE, ..Mode::default() })
    }

    /// `--exclude-from=FILE`.
    ///
    /// # Errors
    /// It cannot be read, or a rule in it is wrong.
    pub fn exclude_from(&mut self, file: &[u8]) -> Result<(), FilterError> {
        let mode = Mode { old_prefixes: true, required: true, ..Mode::default() };
        self.parser().file(file, mode)
    }

    /// `--include-from=FILE`.
    ///
    /// # Errors
    /// As for [`Builder::exclude_from`].
    pub fn include_from(&mut self, file: &[u8]) -> Result<(), FilterError> {
        let mode = Mode { old_prefixes: true, required: true, container: Flags::INCLUDE, ..Mode::default() };
        self.parser().file(file, mode)
    }

    /// `-F`, given for the `count`th time.
    ///
    /// # Errors
    /// None.
    pub fn per_directory(&mut self, count: usize) -> Result<(), FilterError> {
        match count {
            1 => self.filter(b": /.rsync-filter"),
            2 => self.filter(b"- .rsync-filter"),
            _ => Ok(()),
        }
    }

    /// `-C`. It comes after all other rules, wherever it stands among the options.
    ///
    /// # Errors
    /// The user's own list is wrong.
    pub fn cvs_exclude(&mut self) -> Result<(), FilterError> {
        self.filter(b":C")?;
        self.filter(b"-C")
    }

    /// Whether some files are looked for in each directory, so far.
    pub fn has_directory_files(&self) -> bool {
        !self.draft.merges.is_empty()
    }

    /// The rules.
    pub fn finish(self) -> Filters {
        Filters {
            list: List::new(&self.draft.rules),
            settings: self.settings,
            rules: self.draft.rules,
            merges: self.draft.merges,
            cvs: self.cvs,
            warnings: self.warnings,
        }
    }

    fn text(&mut self, text: &[u8], mode: Mode) -> Result<(), FilterError> {
        self.parser().text(text, mode)
    }

    fn parser(&mut self) -> Parser<'_> {
        Parser {
            settings: &self.settings,
            files: self.files,
            cvs: &self.cvs,
            draft: &mut self.draft,
            here: None,
            warnings: &mut self.warnings,
            depth: 0,
            place: None,
        }
    }
}

impl Filters {
    /// Reads rules that [`Filters::to_texts`] made.
    ///
    /// # Errors
    /// A rule is wrong.
    pub fn from_texts<T: AsRef<[u8]>>(texts: &[T]) -> Result<Filters, FilterError> {
        let mut none = |_: &[u8]| Err(std::io::ErrorKind::NotFound.into());
        let mut builder = Builder::new(Settings::default(), &mut none);
        for text in texts {
            builder.filter(text.as_ref())?;
        }
        Ok(builder.finish())
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether some files are looked for in each directory.
    pub fn has_directory_files(&self) -> bool {
        !self.merges.is_empty()
    }

    /// Whether a rule is about names of extended attributes. If so, rsync has no rules of its own about those.
    pub fn has_xattr_rules(&self) -> bool {
        self.rules.iter().any(|rule| rule.flags.contains(Flags::XATTR))
    }

    /// What was left out, in rsync's words.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What the receiver must know to delete and to prune: one text for each rule, in the form in which it travels.
    pub fn for_receiver(&self) -> Vec<Vec<u8>> {
        self.spread().filter(|rule| rule.travels(self.settings.delete_excluded)).map(Rule::to_text).collect()
    }

    /// All rules, merge files dissolved; each means the same by itself.
    pub fn to_texts(&self) -> Vec<Vec<u8>> {
        self.spread().map(Rule::to_text).collect()
    }

    /// All rules, the list of what CVS ignores in its place.
    fn spread(&self) -> impl Iterator<Item = &Rule> {
        let cvs = self.cvs.get().map_or(&[][..], |cvs| &cvs.rules);
        self.rules.iter().flat_map(move |rule| match rule.what {
            What::Cvs => cvs,
            _ => std::slice::from_ref(rule),
        })
    }
}
