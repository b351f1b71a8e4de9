//! Names and facts as tests write them.

use ebbtide_feed::{Fact, RelPath};

pub(crate) fn path(name: &str) -> RelPath {
    RelPath::new(name).unwrap()
}

/// The content of this name changed.
pub(crate) fn data(name: &str) -> Fact {
    Fact::Touched { path: path(name), data: true }
}

pub(crate) fn gone(name: &str) -> Fact {
    Fact::Gone { path: path(name) }
}
