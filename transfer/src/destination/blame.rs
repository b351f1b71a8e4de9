//! Which name a daemon's error text speaks of.
//!
//! The texts are made for people. What they say decides nothing but who waits: an entry is called done only on other
//! evidence. Peer: rsync 3.0 to 3.5 put names in double quotes (with the module's own prefix), in parentheses, behind
//! a colon, or between `ERROR: ` and ` failed`; a file in the making is called `.NAME.XXXXXX`.

/// So many closing bytes are tried as the end of a name.
const ENDS: usize = 16;

/// The name in `text` that `is_listed` knows.
pub(crate) fn blamed(text: &[u8], is_listed: impl Fn(&[u8]) -> bool) -> Option<Box<[u8]>> {
    accused(text, |name| is_listed(name).then(|| name.into())).into_iter().next()
}

/// Everything that `find` knows by a name that `text` may mean, the most likely first: a text that begins with a
/// path which the list does not know may mean what the end of the path stands for, or may not.
pub(crate) fn accused<T: PartialEq>(text: &[u8], find: impl Fn(&[u8]) -> Option<T>) -> Vec<T> {
    let mut found = Vec::new();
    for candidate in candidates(text) {
        for suspect in listed_ends(&candidate, &find) {
            if !found.contains(&suspect) {
                found.push(suspect);
            }
        }
    }
    found
}

/// The last component of a file in the making that `text` speaks of.
pub(crate) fn in_the_making(text: &[u8]) -> Option<Vec<u8>> {
    let of_path = |path: Vec<u8>| {
        let at = path.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
        without_temporary(&path[at..])
    };
    candidates(text).into_iter().find_map(of_path)
}

fn candidates(text: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    found.extend(between(text, b'"', b'"'));
    found.extend(second(text));
    found.extend(between(text, b'(', b')'));
    if let Some(rest) = text.strip_prefix(b"ERROR: ")
        && let Some(end) = find(rest, b" failed")
    {
        found.push(rest[..end].to_vec());
    }
    if let Some(at) = rfind(text, b": ") {
        found.push(text[at + 2..].to_vec());
    }
    found
}

/// The ends of a path that are listed, the longest first.
fn listed_ends<T>(candidate: &[u8], find: &impl Fn(&[u8]) -> Option<T>) -> Vec<T> {
    let starts = std::iter::once(0)
        .chain(candidate.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at + 1));
    let mut found = Vec::new();
    for start in starts {
        let end = &candidate[start..];
        let end = end.strip_suffix(b"/.").unwrap_or(end);
        found.extend(Some(end).filter(|end| !end.is_empty()).and_then(find));
        found.extend(without_temporary(end).and_then(|name| find(&name)));
    }
    found
}

/// `d/.f.Ab12Cd` is `d/f` in the making.
fn without_temporary(path: &[u8]) -> Option<Vec<u8>> {
    let at = path.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
    let (dir, name) = path.split_at(at);
    let name = name.strip_prefix(b".")?;
    let (name, suffix) = name.split_at_checked(name.len().checked_sub(7)?)?;
    (suffix[0] == b'.').then(|| [dir, name].concat())
}

fn between(text: &[u8], open: u8, close: u8) -> Vec<Vec<u8>> {
    let Some(from) = text.iter().position(|&b| b == open) else { return Vec::new() };
    let rest = &text[from + 1..];
    // A name may hold the closing byte itself.
    let ends = rest.iter().enumerate().filter(|(_, byte)| **byte == close).map(|(at, _)| at);
    ends.take(ENDS).map(|end| rest[..end].to_vec()).collect()
}

/// The second name of a text with two, such as that of a rename: `"A" -> "B"`, or `A => B failed`.
fn second(text: &[u8]) -> Vec<Vec<u8>> {
    let arrow = find(text, b" -> ").or_else(|| find(text, b" => "));
    let Some(rest) = arrow.map(|at| &text[at + 4..]) else { return Vec::new() };
    let bare = find(rest, b" failed").map(|end| rest[..end].to_vec());
    between(rest, b'"', b'"').into_iter().chain(bare).collect()
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn rfind(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).rposition(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_the_texts_of_daemons() {
        let texts: [(&[u8], &[u8]); 7] = [
            (b"rsync: [receiver] mkstemp \"/d/.f.aBc123\" (in m) failed: Permission denied (13)", b"d/f"),
            (b"rsync: [generator] delete_file: unlink(d/f) failed: Operation not permitted (1)", b"d/f"),
            (b"rsync: [generator] chgrp \"/sub/d/f\" (in m) failed: Operation not permitted (1)", b"d/f"),
            (b"ERROR: d/f failed verification -- update discarded.", b"d/f"),
            (b"could not make way for new regular file: d/f", b"d/f"),
            (b"rsync: [generator] failed to set times on \"/d/.\" (in m): Read-only file system (30)", b"d"),
            (b"rsync: [generator] delete_file: unlink(d/a)b) failed: Operation not permitted (1)", b"d/a)b"),
        ];
        for (text, name) in texts {
            let listed = |other: &[u8]| other == name;
            assert_eq!(blamed(text, listed).as_deref(), Some(name), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn everything_that_a_text_may_mean_is_found_the_longest_name_first() {
        let listed = |name: &[u8]| [&b"f"[..], b"d/f", b"t"].contains(&name).then(|| name.to_vec());
        let text = b"rsync: [receiver] mkstemp \"/d/.f.aBc123\" (in t) failed: Permission denied (13)";
        assert_eq!(accused(text, listed), [&b"d/f"[..], b"f"]);
        let text = b"rsync: [receiver] rename \"/tmp/.x.aBc123\" -> \"d/f\": Is a directory (21)";
        assert_eq!(accused(text, listed).len(), 2);
        let text = b"rsync: [generator] link \"/d/f\" (in m) => t failed: Operation not permitted (1)";
        assert_eq!(accused(text, listed), [&b"d/f"[..], b"f", b"t"]);
        assert_eq!(in_the_making(b"mkstemp \"/tmp/.f.aBc123\" failed: x"), Some(b"f".to_vec()));
        assert_eq!(in_the_making(b"open \"/tmp/f\" failed: x"), None);
    }

    #[test]
    fn a_text_without_a_listed_name_blames_nobody() {
        assert_eq!(blamed(b"rsync: write failed on \"/x\": No space left on device (28)", |_| false), None);
        assert_eq!(blamed(b"", |_| true), None);
    }
}
