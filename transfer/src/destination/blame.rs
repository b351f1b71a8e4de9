//! Which name a daemon's error text speaks of.
//!
//! The texts are made for people. What they say decides nothing but who waits: an entry is called done only on other
//! evidence. Peer: rsync 3.0 to 3.5 put names in double quotes (with the module's own prefix), in parentheses, behind
//! a colon, or between `ERROR: ` and ` failed`; a file in the making is called `.NAME.XXXXXX`.

/// So many closing bytes are tried as the end of a name.
const ENDS: usize = 16;

/// The name in `text` that `is_listed` knows.
pub(crate) fn blamed(text: &[u8], is_listed: impl Fn(&[u8]) -> bool) -> Option<Box<[u8]>> {
    candidates(text).into_iter().find_map(|candidate| listed_end(&candidate, &is_listed))
}

fn candidates(text: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    found.extend(between(text, b'"', b'"'));
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

/// The longest end of a path that is listed.
fn listed_end(candidate: &[u8], is_listed: &impl Fn(&[u8]) -> bool) -> Option<Box<[u8]>> {
    let starts = std::iter::once(0)
        .chain(candidate.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at + 1));
    for start in starts {
        let end = &candidate[start..];
        let end = end.strip_suffix(b"/.").unwrap_or(end);
        if !end.is_empty() && is_listed(end) {
            return Some(end.into());
        }
        if let Some(name) = without_temporary(end).filter(|name| is_listed(name)) {
            return Some(name.into());
        }
    }
    None
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
    fn a_text_without_a_listed_name_blames_nobody() {
        assert_eq!(blamed(b"rsync: write failed on \"/x\": No space left on device (28)", |_| false), None);
        assert_eq!(blamed(b"", |_| true), None);
    }
}
