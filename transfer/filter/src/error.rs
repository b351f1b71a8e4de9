//! What can be wrong with rules, in rsync's words.

use std::fmt;
use std::io;

/// Rules that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// A rule is wrong. rsync ends with exit code 1.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A file of rules cannot be read. rsync ends with exit code 11.
    #[error("failed to open {}clude file {}", if *.include { "in" } else { "ex" }, .file.escape_ascii())]
    Open {
        /// Whether the file has includes.
        include: bool,
        /// Its name.
        file: Vec<u8>,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Files that name each other without an end. rsync ends with exit code 11.
    #[error("merge-file include depth limit ({limit}) exceeded at {}", .file.escape_ascii())]
    Depth {
        /// How many files may be open at a time.
        limit: usize,
        /// The file that would be one too many.
        file: Vec<u8>,
    },
}

/// A rule that is wrong, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// What is wrong.
    pub wrong: Wrong,
    /// The rule's text.
    pub rule: Vec<u8>,
    /// The file that it stands in, if it stands in one.
    pub place: Option<Place>,
}

impl std::error::Error for RuleError {}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Vec<u8>,
    /// Counted from 1; `None` in a file that is read word by word.
    pub line: Option<usize>,
}

/// What can be wrong with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It begins with no known prefix.
    Unknown,
    /// This modifier does not exist, or not for this kind of rule.
    Modifier {
        /// The modifier.
        letter: u8,
        /// Its position in the rule, from 0.
        at: usize,
    },
    /// It says a side, and so does the rule that names its file.
    TwoSides,
    /// `!` takes no pattern.
    Trailing,
    /// It has no pattern.
    NoPattern,
}

/// The form of rsync 3.5.0; the place is ours, where that one hides the rule and shows the place only.
impl fmt::Display for RuleError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wrong {
            Wrong::Unknown => out.write_str("Unknown filter rule"),
            Wrong::Modifier { letter, at } => {
                write!(out, "invalid modifier '{}' at position {at} in filter rule", letter.escape_ascii())
            }
            Wrong::TwoSides => out.write_str("specified-side merge file contains specified-side filter"),
            Wrong::Trailing => out.write_str("'!' rule has trailing characters"),
            Wrong::NoPattern => out.write_str("unexpected end of filter rule"),
        }?;
        write!(out, ": {}", self.rule.escape_ascii())?;
        self.place.as_ref().map_or(Ok(()), |place| write!(out, " ({place})"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file.escape_ascii())?;
        self.line.map_or(Ok(()), |line| write!(out, " line {line}"))
    }
}
