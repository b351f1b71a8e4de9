//! A rule's pattern, compiled to the cheapest test that says the same.

use crate::flags::Flags;
use crate::glob::{Glob, Op, Outcome};
use crate::text::{Joined, Text, base};

/// A name that rules are asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    /// The directory that the name starts from: absolute, without the first slash, with one at the end.
    pub(crate) root: &'a [u8],
    /// The name, without a slash at either end; not empty.
    pub(crate) name: &'a [u8],
    /// Its last component.
    pub(crate) base: &'a [u8],
    /// Whether it is a directory.
    pub(crate) dir: bool,
    /// Whether it is the name of an extended attribute.
    pub(crate) xattr: bool,
}

impl<'a> Query<'a> {
    pub(crate) fn new(root: &'a [u8], name: &'a [u8], dir: bool) -> Query<'a> {
        Query { root, name, base: base(name), dir, xattr: false }
    }
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) test: Test,
    /// It ended in a slash.
    pub(crate) dirs_only: bool,
    pub(crate) negated: bool,
}

/// The first and the last byte that a last component must have to match, where only one will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    first: Option<u8>,
    last: Option<u8>,
}

impl Ends {
    /// Whether a component with these ends may match.
    pub(crate) fn allow(self, first: Option<&u8>, last: Option<&u8>) -> bool {
        (self.first.is_none() || self.first.as_ref() == first)
            && (self.last.is_none() || self.last.as_ref() == last)
    }
}

/// Which names match.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    /// Those whose last component is this.
    Base(Box<[u8]>),
    /// Those whose last component begins and ends so, and is not shorter than both.
    Affix(Box<[u8]>, Box<[u8]>),
    /// Those whose last component matches.
    BaseGlob(Glob),
    /// This name.
    Whole(Box<[u8]>),
    /// Names whose last components are these.
    Tail(Box<[u8]>),
    /// Anything else.
    Path(PathGlob),
}

/// A pattern that is matched against more than a last component.
#[derive(Clone, Debug)]
pub(crate) struct PathGlob {
    glob: Glob,
    start: Start,
    /// The directory that names start from is part of what is matched.
    absolute: bool,
    /// So is a slash before the name: the pattern begins with two stars and could match one.
    led: bool,
    /// So is a slash after a directory's name: the pattern ends in `***`.
    slashed: bool,
}

/// Where in the text a match may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// At its beginning.
    Begin,
    /// There, or after any slash.
    Anywhere,
    /// So that this many components are left.
    Last(usize),
}

impl Pattern {
    /// Compiles the pattern of a rule, without the slash that [`Flags::DIRECTORY`] stands for. `within` is the absolute
    /// path, without slashes at either end, of the directory whose merge file has the rule; an anchored pattern is
    /// anchored there.
    ///
    /// Peer: rsync exclude.c, `add_rule` and `rule_matches`.
    pub(crate) fn new(flags: Flags, text: &[u8], within: Option<&[u8]>) -> Pattern {
        let test = match within {
            Some(dir) if text.first() == Some(&b'/') && !flags.contains(Flags::ABSOLUTE) => {
                let dir = if dir.is_empty() { Vec::new() } else { [dir, b"/"].concat() };
                Parsed::new(text, true).test(Some(&dir))
            }
            _ => Parsed::new(text, flags.contains(Flags::ABSOLUTE)).test(None),
        };
        Pattern { test, dirs_only: flags.contains(Flags::DIRECTORY), negated: flags.contains(Flags::NEGATE) }
    }

    /// What can be asked before anything else.
    pub(crate) fn ends(&self) -> Ends {
        if self.negated { Ends::default() } else { self.test.ends() }
    }

    /// Whether the rule applies. A rule for directories says nothing of a file; negated, it applies to each.
    pub(crate) fn applies(&self, query: &Query<'_>) -> bool {
        ((query.dir || !self.dirs_only) && self.test.fits(query)) != self.negated
    }
}

impl Test {
    fn ends(&self) -> Ends {
        match self {
            Test::Base(name) => Ends { first: name.first().copied(), last: name.last().copied() },
            Test::Affix(first, last) => Ends { first: first.first().copied(), last: last.last().copied() },
            Test::BaseGlob(glob) => glob.ends(),
            Test::Whole(name) | Test::Tail(name) => Ends { first: None, last: name.last().copied() },
            Test::Path(path) if path.slashed => Ends::default(),
            Test::Path(path) => Ends { first: None, ..path.glob.ends() },
        }
    }

    fn fits(&self, query: &Query<'_>) -> bool {
        match self {
            Test::Base(name) => *query.base == **name,
            Test::Affix(first, last) => {
                query.base.len() >= first.len() + last.len()
                    && query.base.ends_with(last)
                    && query.base.starts_with(first)
            }
            Test::BaseGlob(glob) => glob.matches(query.base),
            Test::Whole(name) => *query.name == **name,
            Test::Tail(tail) => ends_in(query.name, tail),
            Test::Path(path) => path.fits(query),
        }
    }
}

impl Glob {
    /// The first and the last byte of each text that matches, where only one will do.
    fn ends(&self) -> Ends {
        let first = match self.ops().first() {
            Some(Op::Literal(text)) => text.first().copied(),
            _ => None,
        };
        let last = match self.ops().last() {
            Some(Op::Literal(text)) => text.last().copied(),
            _ => None,
        };
        Ends { first, last }
    }
}

fn ends_in(name: &[u8], tail: &[u8]) -> bool {
    name.strip_suffix(tail).is_some_and(|rest| rest.is_empty() || rest.ends_with(b"/"))
}

/// What a pattern's text amounts to.
struct Parsed<'a> {
    /// Without the slash that anchors it.
    text: &'a [u8],
    anchored: bool,
    absolute: bool,
    slashes: usize,
    wild: bool,
    /// It has two stars in a row.
    crossing: bool,
}

impl<'a> Parsed<'a> {
    fn new(text: &'a [u8], absolute: bool) -> Parsed<'a> {
        let slashes = text.iter().filter(|byte| **byte == b'/').count();
        let wild = text.iter().any(|byte| b"*[?".contains(byte));
        let crossing = text.windows(2).any(|pair| pair == b"**");
        let (anchored, text) = text.strip_prefix(b"/").map_or((false, text), |rest| (true, rest));
        Parsed { text, anchored, absolute, slashes, wild, crossing }
    }

    /// The test; `within` is literal text that an anchored pattern stands behind.
    fn test(&self, within: Option<&[u8]>) -> Test {
        let glob = if self.wild { Glob::new(self.text) } else { Glob::literal(self.text) };
        if let Some(dir) = within {
            return self.path(glob.after(dir), Start::Begin);
        }
        if self.slashes == 0 && !self.crossing {
            return of_base(glob);
        }
        if self.absolute {
            return self.path(glob, self.start());
        }
        if let Some(rest) = self.text.strip_prefix(b"**/").filter(|_| !self.anchored) {
            return self.after_any_slash(rest);
        }
        match self.start() {
            Start::Begin if !self.wild => Test::Whole(self.text.into()),
            Start::Last(_) if !self.wild => Test::Tail(self.text.into()),
            start => self.path(glob, start),
        }
    }

    /// `**/rest` matches where the name, or what follows one of its slashes, matches the rest.
    fn after_any_slash(&self, rest: &[u8]) -> Test {
        let glob = Glob::new(rest);
        match glob.slashes() {
            None => self.path_led(glob, Start::Anywhere, false),
            Some(0) => of_base(glob),
            Some(slashes) => self.path_led(glob, Start::Last(slashes + 1), false),
        }
    }

    fn start(&self) -> Start {
        if self.anchored {
            Start::Begin
        } else if !self.crossing {
            Start::Last(self.slashes + 1)
        } else if self.text.starts_with(b"**") {
            Start::Begin
        } else {
            Start::Anywhere
        }
    }

    fn path(&self, glob: Glob, start: Start) -> Test {
        let led = !self.anchored
            && matches!(glob.ops(), [Op::Stars, Op::Literal(next), ..] if next.starts_with(b"/"));
        self.path_led(glob, start, led)
    }

    fn path_led(&self, glob: Glob, start: Start, led: bool) -> Test {
        let slashed = self.crossing && self.text.ends_with(b"***");
        Test::Path(PathGlob { glob, start, absolute: self.absolute, led, slashed })
    }
}

fn of_base(glob: Glob) -> Test {
    let affix = |first: &[u8], last: &[u8]| Test::Affix(first.into(), last.into());
    match glob.ops() {
        [Op::Literal(name)] => Test::Base(name.clone()),
        [Op::Star] => affix(b"", b""),
        [Op::Star, Op::Literal(last)] => affix(b"", last),
        [Op::Literal(first), Op::Star] => affix(first, b""),
        [Op::Literal(first), Op::Star, Op::Literal(last)] => affix(first, last),
        _ => Test::BaseGlob(glob),
    }
}

impl PathGlob {
    fn fits(&self, query: &Query<'_>) -> bool {
        let head = match self {
            PathGlob { absolute: true, .. } if !query.root.is_empty() => query.root,
            PathGlob { led: true, .. } => b"/",
            _ => b"",
        };
        let tail: &[u8] = if self.slashed && query.dir { b"/" } else { b"" };
        if head.is_empty() && tail.is_empty() {
            return self.fits_text(query.name);
        }
        self.fits_text(Joined { head, name: query.name, tail })
    }

    fn fits_text<T: Text>(&self, text: T) -> bool {
        match self.start {
            Start::Begin => self.glob.at(text, 0) == Outcome::Match,
            Start::Last(count) => {
                last_components(text, count).is_some_and(|at| self.glob.at(text, at) == Outcome::Match)
            }
            Start::Anywhere => self.fits_anywhere(text),
        }
    }

    fn fits_anywhere<T: Text>(&self, text: T) -> bool {
        let mut at = 0;
        loop {
            match self.glob.at(text, at) {
                Outcome::Match => return true,
                Outcome::NoAtAll => return false,
                Outcome::No | Outcome::NoBeforeStars => {}
            }
            let Some(slash) = (at..text.length()).find(|at| text.byte(*at) == Some(b'/')) else {
                return false;
            };
            at = slash + 1;
        }
    }
}

/// Where the last `count` components begin.
fn last_components<T: Text>(text: T, count: usize) -> Option<usize> {
    let slashes = (0..text.length()).rev().filter(|at| text.byte(*at) == Some(b'/'));
    let mut seen = 0;
    for at in slashes {
        seen += 1;
        if seen == count {
            return Some(at + 1);
        }
    }
    (seen + 1 == count).then_some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, name: &str, dir: bool) -> bool {
        let (text, flags) = match pattern.strip_suffix('/') {
            Some(rest) => (rest, Flags::DIRECTORY),
            None => (pattern, Flags::empty()),
        };
        Pattern::new(flags, text.as_bytes(), None).applies(&Query::new(b"srv/www/", name.as_bytes(), dir))
    }

    #[test]
    fn a_pattern_without_slashes_is_about_the_last_component() {
        assert!(fits("foo", "foo", false) && fits("foo", "a/b/foo", true));
        assert!(!fits("foo", "foo/bar", false) && !fits("foo", "xfoo", false));
        assert!(fits("*.o", "a/b/.o", false) && !fits("*.o", "a.o/b", false));
        assert!(fits("a*z", "x/az", false) && !fits("aa*aa", "aaa", false));
        assert!(fits("*", "x/y", true));
    }

    #[test]
    fn a_leading_slash_anchors() {
        assert!(fits("/foo", "foo", false) && !fits("/foo", "a/foo", false));
        assert!(fits("/a/b", "a/b", false) && !fits("/a/b", "x/a/b", false));
        assert!(fits("/*.c", "x.c", false) && !fits("/*.c", "a/x.c", false));
    }

    #[test]
    fn an_inner_slash_is_about_the_last_components() {
        assert!(fits("a/b", "a/b", false) && fits("a/b", "x/a/b", false) && !fits("a/b", "xa/b", false));
        assert!(fits("a/*", "x/a/y", false) && !fits("a/*", "a/x/y", false) && !fits("a/*", "a", true));
    }

    #[test]
    fn two_stars_without_an_anchor_may_begin_anywhere() {
        assert!(fits("a/**", "a/b", false) && fits("a/**", "x/a/b/c", false) && !fits("a/**", "xa/b", false));
        assert!(
            fits("**/foo", "foo", false)
                && fits("**/foo", "a/b/foo", false)
                && !fits("**/foo", "xfoo", false)
        );
        assert!(
            fits("**/a/*", "a/b", false) && fits("**/a/*", "x/a/b", false) && !fits("**/a/*", "xa/b", false)
        );
        assert!(
            fits("**foo", "a/xfoo", false)
                && fits("/a/**/b", "a/x/y/b", false)
                && !fits("/a/**/b", "a/b", false)
        );
        assert!(fits("**", "a/b", false) && fits("a**b/c", "x/ax/yb/c", false));
        assert!(
            fits("***/foo", "foo", false)
                && fits("***/foo", "a/foo", false)
                && !fits("***/foo", "xfoo", false)
        );
    }

    #[test]
    fn three_stars_at_the_end_match_the_directory_too() {
        assert!(fits("/a/***", "a", true) && fits("/a/***", "a/b/c", false) && !fits("/a/***", "a", false));
        assert!(fits("a/***", "x/a", true) && !fits("a/***", "xa", true));
        assert!(fits("**/a/***", "a", true) && fits("**/a/***", "x/a/c", false));
    }

    #[test]
    fn a_trailing_slash_is_about_directories() {
        assert!(fits("foo/", "a/foo", true) && !fits("foo/", "a/foo", false));
    }

    #[test]
    fn negation_turns_a_directory_rule_to_all_files() {
        let rule = Pattern::new(Flags::DIRECTORY | Flags::NEGATE, b"foo", None);
        let applies = |name: &str, dir| rule.applies(&Query::new(b"", name.as_bytes(), dir));
        assert!(applies("foo", false) && applies("bar", true) && !applies("foo", true));
    }

    #[test]
    fn absolute_patterns_see_the_whole_path() {
        let fits = |pattern: &str, name: &str| {
            Pattern::new(Flags::ABSOLUTE, pattern.as_bytes(), None).applies(&Query::new(
                b"srv/www/",
                name.as_bytes(),
                true,
            ))
        };
        assert!(fits("/srv/www/x", "x") && !fits("/x", "x"));
        assert!(fits("www/x", "x") && fits("/srv/*/x", "x") && fits("/srv/**", "a/b") && fits("x", "a/x"));
        assert!(fits("/srv/www/x/***", "x") && fits("srv/www/a/*", "a/b") && !fits("e/srv/www/a/*", "a/b"));
    }

    #[test]
    fn a_merge_file_anchors_at_its_own_directory() {
        let rule = Pattern::new(Flags::empty(), b"/x*", Some(b"srv/www/[a]"));
        let applies = |name: &str| rule.applies(&Query::new(b"srv/www/", name.as_bytes(), false));
        assert!(applies("[a]/xy") && !applies("a/xy") && !applies("[a]/b/xy") && !applies("xy"));
        let above = Pattern::new(Flags::empty(), b"/www/x", Some(b"srv"));
        assert!(above.applies(&Query::new(b"srv/www/", b"x", false)));
    }

    #[test]
    fn backslashes_count_only_beside_wildcards() {
        assert!(fits("a\\b", "a\\b", false) && !fits("a\\b", "ab", false));
        assert!(fits("a\\b*", "abc", false) && fits("\\*x", "*x", false));
    }
}
