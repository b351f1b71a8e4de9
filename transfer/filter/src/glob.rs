//! rsync's wildcards, compiled.
//!
//! Peer: rsync lib/wildmatch.c. `*` and `?` and classes never match a slash, `**` does; a backslash makes the next
//! character literal. It differs from fnmatch and from shells: a leading dot is nothing special, `[^…]` and `[!…]` are
//! the same, and a class that is not closed, or of a name that does not exist, makes the whole pattern match nothing.

use std::fmt;

use crate::class::Class;
use crate::text::Text;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    ops: Box<[Op]>,
}

/// One step of a pattern.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// These bytes.
    Literal(Box<[u8]>),
    /// One byte that is no slash.
    Any,
    /// One byte of a set.
    Class(Box<Class>),
    /// Any bytes but slashes.
    Star,
    /// Any bytes.
    Stars,
    /// Nothing: the pattern is malformed.
    Never,
}

/// How an attempt at one position ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The rest of the text matches.
    Match,
    /// Not here.
    No,
    /// No `*` further left can help, for it would have to cross a slash; a `**` can.
    NoBeforeStars,
    /// Nothing further left can help, for the text is too short.
    NoAtAll,
}

impl Glob {
    /// Compiles a pattern in which wildcards and backslashes count.
    pub fn new(pattern: &[u8]) -> Glob {
        Glob { ops: compile(pattern).into() }
    }

    /// A pattern that matches only itself.
    pub(crate) fn literal(text: &[u8]) -> Glob {
        Glob { ops: literal(text).into() }
    }

    /// The same after some literal text.
    pub(crate) fn after(self, text: &[u8]) -> Glob {
        let mut ops = literal(text);
        ops.extend(self.ops);
        Glob { ops: ops.into() }
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.at(text, 0) == Outcome::Match
    }

    /// Whether the text from `start` on matches.
    pub(crate) fn at<T: Text>(&self, text: T, start: usize) -> Outcome {
        run(&self.ops, text, start)
    }

    /// How many slashes are in each text that matches; `None` when that differs. A slash in a class is none.
    pub(crate) fn slashes(&self) -> Option<usize> {
        let of = |op: &Op| match op {
            Op::Literal(text) => Some(text.iter().filter(|byte| **byte == b'/').count()),
            Op::Stars => None,
            _ => Some(0),
        };
        self.ops.iter().map(of).sum()
    }

    pub(crate) fn ops(&self) -> &[Op] {
        &self.ops
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Literal(text) => write!(out, "\"{}\"", text.escape_ascii()),
            Op::Any => out.write_str("?"),
            Op::Class(_) => out.write_str("[]"),
            Op::Star => out.write_str("*"),
            Op::Stars => out.write_str("**"),
            Op::Never => out.write_str("!"),
        }
    }
}

fn literal(text: &[u8]) -> Vec<Op> {
    if text.is_empty() { Vec::new() } else { vec![Op::Literal(text.into())] }
}

fn compile(mut rest: &[u8]) -> Vec<Op> {
    let mut ops = Vec::new();
    let mut plain = Vec::new();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let op = match first {
            b'\\' => match rest.split_first() {
                Some((&escaped, after)) => {
                    rest = after;
                    plain.push(escaped);
                    continue;
                }
                None => Op::Never,
            },
            b'?' => Op::Any,
            b'*' => stars(&mut rest),
            b'[' => Class::parse(&mut rest).map_or(Op::Never, |class| Op::Class(Box::new(class))),
            other => {
                plain.push(other);
                continue;
            }
        };
        ops.extend(literal(&std::mem::take(&mut plain)));
        ops.push(op);
    }
    ops.extend(literal(&plain));
    if ops.contains(&Op::Never) { vec![Op::Never] } else { ops }
}

/// Two or more stars are all the same.
fn stars(rest: &mut &[u8]) -> Op {
    let more = rest.iter().take_while(|byte| **byte == b'*').count();
    *rest = &rest[more..];
    if more == 0 { Op::Star } else { Op::Stars }
}

fn run<T: Text>(ops: &[Op], text: T, mut at: usize) -> Outcome {
    for (index, op) in ops.iter().enumerate() {
        let step = match op {
            Op::Literal(bytes) => text.begins(at, bytes).map(|()| bytes.len()),
            Op::Any => one(text, at, |byte| byte != b'/'),
            Op::Class(class) => one(text, at, |byte| class.has(byte)),
            Op::Star => return star(&ops[index + 1..], text, at),
            Op::Stars => return stars_then(&ops[index + 1..], text, at),
            Op::Never => Err(Outcome::NoAtAll),
        };
        match step {
            Ok(length) => at += length,
            Err(outcome) => return outcome,
        }
    }
    if at == text.length() { Outcome::Match } else { Outcome::No }
}

fn one<T: Text>(text: T, at: usize, fits: impl Fn(u8) -> bool) -> Result<usize, Outcome> {
    match text.byte(at) {
        None => Err(Outcome::NoAtAll),
        Some(byte) if fits(byte) => Ok(1),
        Some(_) => Err(Outcome::No),
    }
}

/// `*` and what follows it.
fn star<T: Text>(rest: &[Op], text: T, mut at: usize) -> Outcome {
    if rest.is_empty() {
        return if text.slash_from(at) { Outcome::No } else { Outcome::Match };
    }
    let first = first_byte(rest);
    while let Some(byte) = text.byte(at) {
        if first.is_none_or(|first| first == byte) {
            match run(rest, text, at) {
                Outcome::No => {}
                other => return other,
            }
        }
        if byte == b'/' {
            return Outcome::NoBeforeStars;
        }
        at += 1;
    }
    Outcome::NoAtAll
}

/// `**` and what follows it.
fn stars_then<T: Text>(rest: &[Op], text: T, mut at: usize) -> Outcome {
    if rest.is_empty() {
        return Outcome::Match;
    }
    let first = first_byte(rest);
    while let Some(byte) = text.byte(at) {
        if first.is_none_or(|first| first == byte) {
            match run(rest, text, at) {
                Outcome::No | Outcome::NoBeforeStars => {}
                other => return other,
            }
        }
        at += 1;
    }
    Outcome::NoAtAll
}

/// The byte that must come next, if only one can.
fn first_byte(ops: &[Op]) -> Option<u8> {
    match ops.first() {
        Some(Op::Literal(text)) => text.first().copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let glob = Glob::new(pattern.as_bytes());
        for text in matching {
            assert!(glob.matches(text.as_bytes()), "{pattern} should match {text:?}");
        }
        for text in others {
            assert!(!glob.matches(text.as_bytes()), "{pattern} should not match {text:?}");
        }
    }

    #[test]
    fn text_without_wildcards_matches_itself() {
        check("foo", &["foo"], &["", "fo", "fooo", "bar", "Foo"]);
        check("", &[""], &["a"]);
    }

    #[test]
    fn a_question_mark_is_one_byte_that_is_no_slash() {
        check("?", &["a", ".", "*"], &["", "ab", "/"]);
        check("???", &["foo"], &["fo", "fooo", "f/o"]);
        check("a?c", &["abc"], &["a/c", "ac"]);
    }

    #[test]
    fn a_star_stays_within_one_component() {
        check("*", &["", "foo", ".foo"], &["a/b", "/"]);
        check("f*", &["f", "foo"], &["f/o", "of"]);
        check("*f", &["f", "of", "ff"], &["o/f", "fo"]);
        check("*foo*", &["foo", "xfoox", "foofoo"], &["a/foo", "fo"]);
        check("*ob*a*r*", &["foobar", "obar"], &["bar"]);
        check("*ab", &["aaaaaaabababab"], &["aba"]);
        check("foo/*/bar", &["foo/x/bar", "foo//bar"], &["foo/x/y/bar", "foo/bar"]);
        check("*/foo", &["bar/foo", "/foo"], &["bar/baz/foo", "foo"]);
        check("a*/b", &["a/b", "ax/b"], &["a/x/b"]);
        check(
            "*-*-*-*-*-*-12-*-*-*-m-*-*-*",
            &["-adobe-courier-bold-o-normal--12-120-75-75-m-70-iso8859-1"],
            &["-adobe-courier-bold-o-normal--12-120-75-75-X-70-iso8859-1"],
        );
    }

    #[test]
    fn two_stars_cross_slashes() {
        check("**", &["", "a", "a/b/c"], &[]);
        check("**/foo", &["bar/baz/foo", "/foo"], &["foo", "foo/bar"]);
        check("foo**bar", &["foobar", "foo/x/bar", "foobazbar"], &["foo/barx"]);
        check("**/bar*", &["deep/foo/bar/baz/barx", "a/bar"], &["deep/foo/bar/baz/x"]);
        check("**/bar/*", &["deep/foo/bar/baz"], &["deep/foo/bar/baz/x", "bar/x"]);
        check("**/bar/**", &["deep/foo/bar/baz/x", "a/bar/"], &["deep/foo/bar"]);
        check("**/bar/*/*", &["deep/foo/bar/baz/x"], &["deep/foo/bar/baz"]);
        check(
            "**/*a*b*g*n*t",
            &["abcd/abcdefg/abcdefghijk/abcdefghijklmnop.txt"],
            &["abcd/abcdefg/abcdefghijk/abcdefghijklmnop.txtz"],
        );
        check("/***", &["/", "/a/b"], &["a"]);
        check("a**/b*c**d", &["a/bxc/d", "axx/yy/bc/x/d"], &["a/bx/c/d"]);
    }

    #[test]
    fn classes_have_ranges_negation_names_and_escapes() {
        check("[ab]", &["a", "b"], &["c", "", "ab"]);
        check("t[a-g]n", &["ten"], &["tzn", "t-n"]);
        check("t[!a-g]n", &["ton"], &["ten"]);
        check("t[^a-g]n", &["ton", "t!n"], &["ten"]);
        check("a[]]b", &["a]b"], &["a[b"]);
        check("a[]-]b", &["a]b", "a-b"], &["aab"]);
        check("a[]a-]b", &["aab", "a]b", "a-b"], &["acb"]);
        check("a[!]]b", &["axb"], &["a]b", "a/b"]);
        check("[a-c]b*", &["abc", "cbx"], &["dbc"]);
        check("[]-a]", &["]", "a", "^", "_", "`"], &["b"]);
        check("[\\-_]", &["-", "_"], &["\\"]);
        check("[\\]]", &["]"], &["\\", "\\]"]);
        check("[a\\-c]", &["a", "-", "c"], &["b"]);
        check("[a-\\c]", &["b", "c"], &["d", "\\", "-"]);
        check("[--A]", &["-", "5", "A"], &[",", "B"]);
        check("[ --]", &[" ", "$", "-"], &["."]);
        check("[---]", &["-"], &["."]);
        check("[a-e-n]", &["-", "c", "n"], &["j", "f"]);
        check("[!------]", &["a"], &["-"]);
        check("[]--z]", &["]", "z"], &["-", "a"]);
        check("[[:alpha:]][[:digit:]][[:upper:]]", &["a1B"], &["a1b", "11B"]);
        check("[[:digit:][:upper:][:space:]]", &["A", "1", " ", "\x0b"], &["a", "."]);
        check("[[:xdigit:]]", &["5", "f", "D"], &["g"]);
        check("[a-c[:digit:]x-z]", &["5", "b", "y"], &["q"]);
        check("[^[:alnum:][:space:]]", &["."], &["a", "1", " ", "/"]);
        check("[[:punct:]]", &[".", "~"], &["a"]);
        check("[[:lower:]]", &["a"], &["A", "\u{e4}"]);
        check("[[:]", &["[", ":"], &["a"]);
        check("[[:a]", &["[", ":", "a"], &["b"]);
        check("[a-[:digit:]]", &["a]", "d]", ":]"], &["5", "a", "-]"]);
    }

    #[test]
    fn a_class_never_matches_a_slash() {
        check("a[/]b", &[], &["a/b"]);
        check("a[.-0]b", &["a.b", "a0b"], &["a/b"]);
        check("a[!x]b", &["ayb"], &["a/b"]);
    }

    #[test]
    fn a_backslash_makes_the_next_character_literal() {
        check("\\*", &["*"], &["\\*", "a"]);
        check("foo\\*bar", &["foo*bar"], &["fooxbar"]);
        check("f\\oo*", &["foo", "foox"], &["f\\oo"]);
        check("\\??", &["?a"], &["ba"]);
        check("a\\\\*", &["a\\", "a\\b"], &["ab"]);
        check("\\[ab]*", &["[ab]", "[ab]x"], &["a"]);
    }

    #[test]
    fn malformed_patterns_match_nothing() {
        for pattern in [
            "[",
            "a[",
            "[!",
            "[]",
            "[a-",
            "*[",
            "[[:foo:]]",
            "a*\\",
            "[a\\",
            "[[:alpha:",
            "[[:alpha",
            "[a-\\",
        ] {
            check(pattern, &[], &["", "a", "[", "[!", "[]", "a[", "[a-", "\\", "ab", "[[:foo:]]"]);
        }
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        let glob = Glob::new("*a".repeat(200).as_bytes());
        assert!(!glob.matches("a".repeat(199).as_bytes()));
        let glob = Glob::new(("**a".repeat(200) + "b").as_bytes());
        assert!(!glob.matches("a/".repeat(2000).as_bytes()));
    }
}
