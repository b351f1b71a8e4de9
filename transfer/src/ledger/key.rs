//! A fact as the store's key: the mirror's number, the kind, the path.
//!
//! ```text
//! ┌──────────────────┬─────────┬──────────────┐
//! │ mirror, u32 BE   │ kind, 1 │ path, bytes  │
//! └──────────────────┴─────────┴──────────────┘
//! ```

use ebbtide_feed::{Fact, RelPath};

/// Number of a mirror in the store; stays the same as long as the mirror is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct MirrorNumber(pub(crate) u32);

const TOUCHED: u8 = b't';
const TOUCHED_DATA: u8 = b'd';
const GONE: u8 = b'g';
const RELIST: u8 = b'l';
const SUBTREE: u8 = b's';
const SUBTREE_REPLACED: u8 = b'r';
const CONTENTS: u8 = b'c';

/// The key of a fact. `None` for [`Fact::Moved`] and [`Fact::Made`]: hints that always come with facts that are sufficient
/// without them. The first are kept by themselves ([`super::moves`]), the others need not survive.
pub(crate) fn encode(mirror: MirrorNumber, fact: &Fact) -> Option<Vec<u8>> {
    let kind = match fact {
        Fact::Touched { data: false, .. } => TOUCHED,
        Fact::Touched { data: true, .. } => TOUCHED_DATA,
        Fact::Gone { .. } => GONE,
        Fact::Moved { .. } | Fact::Made { .. } => return None,
        Fact::Relist { .. } => RELIST,
        Fact::Subtree { replaced: false, .. } => SUBTREE,
        Fact::Subtree { replaced: true, .. } => SUBTREE_REPLACED,
        Fact::Contents { .. } => CONTENTS,
    };
    let path = fact.path().as_bytes();
    let mut key = Vec::with_capacity(5 + path.len());
    key.extend_from_slice(&mirror.0.to_be_bytes());
    key.push(kind);
    key.extend_from_slice(path);
    Some(key)
}

/// The mirror and the fact of a key; `None` when no version of this program wrote such a key.
pub(crate) fn decode(key: &[u8]) -> Option<(MirrorNumber, Fact)> {
    let (mirror, rest) = key.split_first_chunk::<4>()?;
    let (kind, path) = rest.split_first()?;
    let path = RelPath::new(path).ok()?;
    let fact = match *kind {
        TOUCHED => Fact::Touched { path, data: false },
        TOUCHED_DATA => Fact::Touched { path, data: true },
        GONE => Fact::Gone { path },
        RELIST => Fact::Relist { dir: path },
        SUBTREE => Fact::Subtree { dir: path, replaced: false },
        SUBTREE_REPLACED => Fact::Subtree { dir: path, replaced: true },
        CONTENTS => Fact::Contents { dir: path },
        _ => return None,
    };
    Some((MirrorNumber(u32::from_be_bytes(*mirror)), fact))
}

/// The fact that asks for a comparison of the whole mirror.
pub(crate) fn whole() -> Fact {
    Fact::Subtree { dir: RelPath::root(), replaced: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fact_but_a_move_comes_back_from_its_key() {
        let path = RelPath::new(&b"d/\xff\n"[..]).unwrap();
        let facts = [
            Fact::Touched { path: path.clone(), data: false },
            Fact::Touched { path: path.clone(), data: true },
            Fact::Gone { path: path.clone() },
            Fact::Relist { dir: path.clone() },
            Fact::Subtree { dir: path.clone(), replaced: false },
            Fact::Subtree { dir: path.clone(), replaced: true },
            Fact::Contents { dir: path.clone() },
            whole(),
        ];
        for fact in facts {
            let key = encode(MirrorNumber(7), &fact).unwrap();
            assert_eq!(decode(&key), Some((MirrorNumber(7), fact)));
        }
        assert_eq!(encode(MirrorNumber(7), &Fact::Moved { from: path.clone(), to: path }), None);
    }

    #[test]
    fn a_key_that_nobody_wrote_is_refused() {
        for bad in [&b""[..], b"\0\0\0\x01", b"\0\0\0\x01?a", b"\0\0\0\x01t../a"] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
