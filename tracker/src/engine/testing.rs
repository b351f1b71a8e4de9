//! Short ways to write hints in tests.

use super::{Hint, Seen};
use crate::id::{Generation, Handle, HandleForm, Ino, Name};

/// The handle of a directory.
pub(crate) fn handle(ino: u64) -> Handle {
    HandleForm::Ino32.encode(Ino(ino), Generation(1)).unwrap()
}

/// A name.
pub(crate) fn name(bytes: &[u8]) -> Name {
    Name::new(bytes).unwrap()
}

/// A hint about a name in a directory.
pub(crate) fn entry(dir: u64, entry: &[u8], seen: Seen) -> Hint {
    Hint::Entry { dir: handle(dir), name: name(entry), seen, child: None }
}
