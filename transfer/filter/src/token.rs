//! From text to one rule after the other.
//!
//! Peer: rsync exclude.c, `parse_rule_tok`.

use crate::error::Wrong;
use crate::flags::Flags;
use crate::text::is_space;

/// A rule's parts, not yet looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) flags: Flags,
    pub(crate) pattern: &'a [u8],
}

/// Takes the next rule from `text`. `container` are the flags of the rule that names the file it stands in. With
/// `old_prefixes` the only prefixes are `+ `, `- ` and `!`, as `--exclude` and `--include` have it.
pub(crate) fn next<'a>(
    text: &mut &'a [u8],
    container: Flags,
    old_prefixes: bool,
) -> Result<Option<Token<'a>>, Wrong> {
    let words = container.contains(Flags::WORDS);
    if words {
        *text = skip_space(text);
    }
    if text.is_empty() {
        return Ok(None);
    }
    let (mut flags, rest) = head(text, container, old_prefixes)?;
    if container.intersects(Flags::SIDES) {
        if flags.intersects(Flags::SIDES) {
            return Err(Wrong::TwoSides);
        }
        flags |= container & Flags::SIDES;
    }
    let length = if words { word_length(rest) } else { rest.len() };
    let (pattern, after) = rest.split_at(length);
    if flags.contains(Flags::CLEAR) {
        let plain = container.contains(Flags::NO_PREFIXES) || old_prefixes;
        if !plain && !pattern.is_empty() {
            return Err(Wrong::Trailing);
        }
        // Without prefixes only a lone exclamation mark is no pattern.
        flags.set(Flags::CLEAR, pattern.len() <= 1);
    } else if pattern.is_empty() && !flags.contains(Flags::CVS) {
        return Err(Wrong::NoPattern);
    }
    *text = after;
    Ok(Some(Token { flags, pattern }))
}

/// What stands before the pattern, and the rest.
fn head(text: &[u8], container: Flags, old_prefixes: bool) -> Result<(Flags, &[u8]), Wrong> {
    let flags = container & Flags::INHERITED;
    if container.contains(Flags::NO_PREFIXES) {
        let clears = text.starts_with(b"!") && container.contains(Flags::CVS);
        return Ok((if clears { flags | Flags::CLEAR } else { flags }, text));
    }
    if old_prefixes {
        return Ok(match text {
            [b'-', b' ', rest @ ..] => (flags - Flags::INCLUDE, rest),
            [b'+', b' ', rest @ ..] => (flags | Flags::INCLUDE, rest),
            [b'!', ..] => (flags | Flags::CLEAR, text),
            _ => (flags, text),
        });
    }
    prefixed(text, flags, container.contains(Flags::WORDS))
}

fn prefixed(text: &[u8], flags: Flags, words: bool) -> Result<(Flags, &[u8]), Wrong> {
    let (kind, mut at) = kind(text).ok_or(Wrong::Unknown)?;
    let (added, sided) = kind_flags(kind).ok_or(Wrong::Unknown)?;
    let mut flags = flags | added;
    if kind == b'!' {
        return Ok((flags, text.get(at + 1..).unwrap_or_default()));
    }
    loop {
        at += 1;
        match text.get(at) {
            None | Some(b' ' | b'_') => break,
            Some(space) if words && is_space(*space) => {
                at -= 1;
                break;
            }
            Some(letter) => {
                flags |= modifier(*letter, flags, sided).ok_or(Wrong::Modifier { letter: *letter, at })?;
            }
        }
    }
    Ok((flags, text.get(at + 1..).unwrap_or_default()))
}

/// The kind of a rule by its letter, and the position before its first modifier.
fn kind(text: &[u8]) -> Option<(u8, usize)> {
    let first = *text.first()?;
    if WORDS.iter().all(|(word, _)| word[0] != first) {
        return Some((first, usize::from(text.get(1) == Some(&b','))));
    }
    let (word, letter) = WORDS.iter().find(|(word, _)| text.starts_with(word))?;
    match text.get(word.len()) {
        None | Some(b'_') => Some((*letter, word.len() - 1)),
        Some(b',') => Some((*letter, word.len())),
        Some(space) if is_space(*space) => Some((*letter, word.len() - 1)),
        Some(_) => None,
    }
}

/// The flags of a kind, and whether its name says a side.
fn kind_flags(kind: u8) -> Option<(Flags, bool)> {
    Some(match kind {
        b':' => (Flags::MERGE | Flags::PER_DIR, false),
        b'.' => (Flags::MERGE, false),
        b'+' => (Flags::INCLUDE, false),
        b'-' => (Flags::empty(), false),
        b'S' => (Flags::INCLUDE | Flags::SENDER, true),
        b'H' => (Flags::SENDER, true),
        b'R' => (Flags::INCLUDE | Flags::RECEIVER, true),
        b'P' => (Flags::RECEIVER, true),
        b'!' => (Flags::CLEAR, false),
        _ => return None,
    })
}

fn modifier(letter: u8, flags: Flags, sided: bool) -> Option<Flags> {
    let merge = flags.contains(Flags::MERGE);
    let prefixes = !flags.contains(Flags::NO_PREFIXES);
    let (allowed, added) = match letter {
        b'-' => (merge && prefixes, Flags::NO_PREFIXES),
        b'+' => (merge && prefixes, Flags::NO_PREFIXES | Flags::INCLUDE),
        b'/' => (true, Flags::ABSOLUTE),
        b'!' => (!merge, Flags::NEGATE),
        b'C' => (prefixes && !sided, Flags::CVS_MODE),
        b'e' => (merge, Flags::EXCLUDE_SELF),
        b'n' => (merge, Flags::NO_INHERIT),
        b'p' => (true, Flags::PERISHABLE),
        b'r' => (!sided, Flags::RECEIVER),
        b's' => (!sided, Flags::SENDER),
        b'w' => (merge, Flags::WORDS),
        b'x' => (true, Flags::XATTR),
        _ => return None,
    };
    allowed.then_some(added)
}

fn skip_space(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_space(*byte)).unwrap_or(text.len());
    &text[start..]
}

fn word_length(text: &[u8]) -> usize {
    text.iter().position(|byte| is_space(*byte)).unwrap_or(text.len())
}

/// The long names of the kinds. A rule that begins like one of them is none of the others.
const WORDS: [(&[u8], u8); 9] = [
    (b"clear", b'!'),
    (b"dir-merge", b':'),
    (b"exclude", b'-'),
    (b"hide", b'H'),
    (b"include", b'+'),
    (b"merge", b'.'),
    (b"protect", b'P'),
    (b"risk", b'R'),
    (b"show", b'S'),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<(Flags, &[u8]), Wrong> {
        let mut rest = text.as_bytes();
        let token = next(&mut rest, Flags::empty(), false)?.expect("there is a rule");
        assert!(rest.is_empty());
        Ok((token.flags, token.pattern))
    }

    #[test]
    fn short_and_long_forms_mean_the_same() {
        for (short, long) in [
            ("- x", "exclude x"),
            ("+ x", "include x"),
            ("H x", "hide x"),
            ("S x", "show x"),
            ("P x", "protect_x"),
            ("R x", "risk x"),
            (". x", "merge x"),
            (": x", "dir-merge x"),
            ("!", "clear"),
            ("-!/ x", "exclude,!/ x"),
            ("-_x", "-,_x"),
            (":n- x", "dir-merge,n- x"),
        ] {
            assert_eq!(one(short), one(long), "{short}");
        }
    }

    #[test]
    fn modifiers_are_read() {
        assert_eq!(
            one("-/!srpx a b"),
            Ok((
                Flags::ABSOLUTE | Flags::NEGATE | Flags::SIDES | Flags::PERISHABLE | Flags::XATTR,
                &b"a b"[..]
            ))
        );
        assert_eq!(
            one(":enw+ f"),
            Ok((
                Flags::MERGE
                    | Flags::PER_DIR
                    | Flags::EXCLUDE_SELF
                    | Flags::NO_INHERIT
                    | Flags::WORDS
                    | Flags::NO_PREFIXES
                    | Flags::INCLUDE,
                &b"f"[..]
            ))
        );
        assert_eq!(one(":C"), Ok((Flags::MERGE | Flags::PER_DIR | Flags::CVS_MODE, &b""[..])));
    }

    #[test]
    fn wrong_rules_are_refused() {
        for text in ["foo", "x y", "excludes x", "dfoo", "?"] {
            assert_eq!(one(text), Err(Wrong::Unknown), "{text}");
        }
        assert_eq!(one("-q foo"), Err(Wrong::Modifier { letter: b'q', at: 1 }));
        assert_eq!(one("exclude,n foo"), Err(Wrong::Modifier { letter: b'n', at: 8 }));
        assert_eq!(one("Pr foo"), Err(Wrong::Modifier { letter: b'r', at: 1 }));
        assert_eq!(one(":-+ foo"), Err(Wrong::Modifier { letter: b'+', at: 2 }));
        assert_eq!(one("-"), Err(Wrong::NoPattern));
        assert_eq!(one("- "), Err(Wrong::NoPattern));
        assert_eq!(one("! x"), Err(Wrong::Trailing));
        let sided = next(&mut &b"-s x"[..], Flags::RECEIVER, false);
        assert_eq!(sided, Err(Wrong::TwoSides));
    }

    #[test]
    fn plain_patterns_have_few_prefixes() {
        let old = |text: &'static str| next(&mut text.as_bytes(), Flags::INCLUDE, true).unwrap().unwrap();
        assert_eq!(old("- x"), Token { flags: Flags::empty(), pattern: b"x" });
        assert_eq!(old("+ x"), Token { flags: Flags::INCLUDE, pattern: b"x" });
        assert_eq!(old("-x"), Token { flags: Flags::INCLUDE, pattern: b"-x" });
        assert!(old("!").flags.contains(Flags::CLEAR));
        assert_eq!(old("!x"), Token { flags: Flags::INCLUDE, pattern: b"!x" });
    }

    #[test]
    fn words_are_rules_of_their_own() {
        let mut text = &b"  +_a\t-_b\n"[..];
        let mut patterns = Vec::new();
        while let Some(token) = next(&mut text, Flags::WORDS, false).unwrap() {
            patterns.push((token.flags, token.pattern));
        }
        assert_eq!(patterns, [(Flags::INCLUDE, &b"a"[..]), (Flags::empty(), b"b")]);
        assert_eq!(next(&mut &b"-\ta"[..], Flags::WORDS, false), Err(Wrong::NoPattern));
    }
}
