//! One rule, and its form as text.

use crate::flags::Flags;
use crate::pattern::Pattern;

/// A rule as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) flags: Flags,
    /// The pattern, or the name of a merge file; without the slash that [`Flags::DIRECTORY`] stands for.
    pub(crate) text: Box<[u8]>,
    pub(crate) what: What,
}

/// What a rule asks for.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Names that match.
    Pattern(Pattern),
    /// The lists of a per-directory merge file, by its number.
    PerDir(usize),
    /// The list of what CVS ignores.
    Cvs,
}

/// A merge file that is looked for in each directory.
#[derive(Clone, Debug)]
pub(crate) struct MergeFile {
    pub(crate) flags: Flags,
    /// With slashes it also says where to begin to look above the first directory.
    pub(crate) name: Box<[u8]>,
}

impl Rule {
    /// The rule as text that means the same anywhere; the form in which it travels.
    ///
    /// Peer: rsync exclude.c, `get_rule_prefix`.
    pub(crate) fn to_text(&self) -> Vec<u8> {
        let mut text = vec![self.prefix()];
        text.extend(self.modifiers());
        text.push(b' ');
        text.extend_from_slice(&self.text);
        text.extend(self.flags.contains(Flags::DIRECTORY).then_some(b'/'));
        text
    }

    fn prefix(&self) -> u8 {
        match self.what {
            What::PerDir(_) => b':',
            _ if self.flags.contains(Flags::INCLUDE) => b'+',
            _ => b'-',
        }
    }

    fn modifiers(&self) -> impl Iterator<Item = u8> {
        let flags = self.flags;
        let mode = match flags.contains(Flags::INCLUDE) {
            true => b'+',
            false => b'-',
        };
        let cvs = flags.contains(Flags::CVS);
        [
            (flags.contains(Flags::ABSOLUTE), b'/'),
            (flags.contains(Flags::NEGATE), b'!'),
            (cvs, b'C'),
            (!cvs && flags.contains(Flags::NO_INHERIT), b'n'),
            (!cvs && flags.contains(Flags::WORDS), b'w'),
            (!cvs && flags.contains(Flags::NO_PREFIXES), mode),
            (flags.contains(Flags::EXCLUDE_SELF), b'e'),
            (flags.contains(Flags::XATTR), b'x'),
            (flags.contains(Flags::SENDER), b's'),
            (flags.contains(Flags::RECEIVER), b'r'),
            (flags.contains(Flags::PERISHABLE), b'p'),
        ]
        .into_iter()
        .filter_map(|(wanted, letter)| wanted.then_some(letter))
    }

    /// Whether the receiver gets it. With `--delete-excluded` what is excluded is not protected, unless a rule says so
    /// itself.
    ///
    /// Peer: rsync exclude.c, `send_rules`.
    pub(crate) fn travels(&self, delete_excluded: bool) -> bool {
        if self.flags.contains(Flags::RECEIVER) {
            return true;
        }
        let prefixed = matches!(self.what, What::PerDir(_)) && !self.flags.contains(Flags::NO_PREFIXES);
        !self.flags.contains(Flags::SENDER) && (!delete_excluded || prefixed)
    }
}
