//! A mirror's source, checked each time it is used.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ebbtide_feed::{MirrorSpec, RelPath};
use ebbtide_filter::Filters;

use super::failure::Failure;
use crate::source::{Meta, Source, Wanted};

/// A mirror and its open source.
pub(crate) struct Mirror {
    /// Its position in the configuration.
    pub(crate) index: usize,
    /// What the configuration says.
    pub(crate) spec: MirrorSpec,
    state: Mutex<State>,
}

/// What the tracker says of the source, and what was opened.
#[derive(Default)]
struct State {
    opened: Option<(Arc<Source>, Identity)>,
    /// The directory that it must be; any is right where the tracker does not say.
    root: Option<Identity>,
    /// Why nothing is sent.
    halted: Option<String>,
    /// Directories that are not looked into.
    closed: Vec<RelPath>,
}

/// What makes a directory the same one.
type Identity = (u64, u64);

impl Mirror {
    /// The source is opened when it is first used.
    pub(crate) fn new(index: usize, spec: MirrorSpec) -> Self {
        let (halted, closed) = (spec.halted.clone(), spec.closed.clone());
        let state = State { opened: None, root: spec.root, halted, closed };
        Mirror { index, spec, state: Mutex::new(state) }
    }

    /// What the tracker says of the source now.
    pub(crate) fn halt(&self, halted: Option<String>, root: Option<Identity>) {
        let mut state = self.lock();
        (state.halted, state.root) = (halted, root);
    }

    /// Other directories than before are not looked into, from the next take on.
    pub(crate) fn close(&self, closed: Vec<RelPath>) {
        let mut state = self.lock();
        state.closed = closed;
        let first = state.opened.take().map(|(_, first)| first);
        state.root = state.root.or(first);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source, provided that the directory at its path is the one it was at first. One that was unmounted or
    /// replaced must not pass for one whose files were all removed.
    ///
    /// # Errors
    /// There is no directory, or another one.
    pub(crate) fn source(&self) -> Result<Arc<Source>, Failure> {
        self.open().map_err(|error| Failure::Source { path: self.spec.source.clone(), error })
    }

    fn open(&self) -> io::Result<Arc<Source>> {
        let mut state = self.lock();
        if let Some(why) = &state.halted {
            return Err(io::Error::other(why.clone()));
        }
        let now = identity(&rustix::fs::stat(&self.spec.source)?);
        let first = state.opened.as_ref().map(|(_, first)| *first);
        if state.root.or(first).is_some_and(|right| right != now) {
            return Err(io::Error::other("another directory stands there now than at the start"));
        }
        if let Some((source, _)) = state.opened.as_ref().filter(|(_, known)| *known == now) {
            return Ok(Arc::clone(source));
        }
        let rules = Filters::from_texts(&self.spec.filters).map_err(io::Error::other)?;
        let source = Source::open(&self.spec.source)?.reading(wanted(&self.spec));
        let source = Arc::new(source.with_filters(&Arc::new(rules)).closing(&state.closed));
        let meta = source.look(0, b".")?.meta;
        if (meta.dev, meta.ino) != now {
            return Err(io::Error::other("it was replaced while it was opened"));
        }
        state.opened = Some((Arc::clone(&source), now));
        Ok(source)
    }
}

/// What the source reads besides what `lstat` tells.
fn wanted(spec: &MirrorSpec) -> Wanted {
    Wanted { acls: spec.acls, xattrs: u8::from(spec.xattrs), atimes: false }
}

fn identity(stat: &rustix::fs::Stat) -> Identity {
    let meta = Meta::from(stat);
    (meta.dev, meta.ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_was_replaced_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("s");
        std::fs::create_dir(&source).unwrap();
        let spec = MirrorSpec {
            source: source.clone(),
            delete: true,
            numeric_ids: false,
            hard_links: false,
            filters: Vec::new(),
            destinations: Vec::new(),
            ..Default::default()
        };
        let mirror = Mirror::new(0, spec);
        assert!(mirror.source().is_ok());
        std::fs::rename(&source, dir.path().join("t")).unwrap();
        assert!(mirror.source().is_err());
        std::fs::create_dir(&source).unwrap();
        assert!(mirror.source().unwrap_err().to_string().contains("another directory"));
        std::fs::remove_dir(&source).unwrap();
        std::fs::rename(dir.path().join("t"), &source).unwrap();
        assert!(mirror.source().is_ok());
    }
}
