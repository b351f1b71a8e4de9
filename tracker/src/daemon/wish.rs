//! What `ebbtide sync` asks for, as events.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use ebbtide_feed::{Fact, MirrorId, RelPath};

use super::core::Core;
use crate::control::SyncWhat;
use crate::engine::{Event, Reason, Remedy, Tainted};
use crate::sys::{file, mounts};

/// What is to happen so that this is compared.
///
/// # Errors
/// What cannot be compared, and why.
pub(super) fn events(what: &SyncWhat, sources: &[&Path], core: &Core) -> Result<Vec<Event>, String> {
    let mirrors = 0..sources.len() as MirrorId;
    match what {
        SyncWhat::Changed => {
            Ok(mirrors.map(|mirror| Event::Lost(mirror, core.tainted(mirror, Reason::Asked))).collect())
        }
        SyncWhat::Everything => Ok(mirrors.map(|mirror| Event::Lost(mirror, compared())).collect()),
        SyncWhat::Below(path) => {
            let places = places(path, sources)?;
            let told = places
                .into_iter()
                .map(|(mirror, dir)| Event::Told(mirror, vec![Fact::Subtree { dir, replaced: false }]));
            Ok(told.collect())
        }
    }
}

fn compared() -> Tainted {
    Tainted { since: SystemTime::now(), reason: Reason::Asked, remedy: Remedy::Compare }
}

/// Where a path is in the mirrors. A relative one is in all whose source has it, or in the only one there is: it may
/// just have been removed.
fn places(path: &[u8], sources: &[&Path]) -> Result<Vec<(MirrorId, RelPath)>, String> {
    let shown = path.escape_ascii();
    let mut places = Vec::new();
    for (mirror, source) in (0..).zip(sources) {
        let source = source.as_os_str().as_bytes();
        let below = if path.starts_with(b"/") { path.strip_prefix(source) } else { Some(path) };
        let Some(below) = below.filter(|_| !path.starts_with(b"/") || mounts::is_within(path, source)) else {
            continue;
        };
        let parts = below.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        let dir =
            RelPath::new(parts.collect::<Vec<_>>().join(&b'/')).map_err(|e| format!("path {shown}: {e}"))?;
        let there = || file::look_at_path(&[source, b"/", dir.as_bytes()].concat()).is_ok();
        if path.starts_with(b"/") || sources.len() == 1 || there() {
            places.push((mirror, dir));
        }
    }
    if places.is_empty() {
        return Err(format!("path {shown}: no source has it"));
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, sources: &[&str]) -> Result<Vec<(MirrorId, String)>, String> {
        let sources: Vec<_> = sources.iter().map(Path::new).collect();
        let places = places(path.as_bytes(), &sources)?;
        Ok(places.into_iter().map(|(mirror, dir)| (mirror, dir.to_string())).collect())
    }

    #[test]
    fn a_path_is_found_in_each_mirror_that_has_it() {
        let sources = ["/srv", "/srv/a", "/srvb"];
        assert_eq!(found("/srv/a/b/", &sources), Ok(vec![(0, "a/b".into()), (1, "b".into())]));
        assert_eq!(found("/srv", &sources), Ok(vec![(0, ".".into())]));
        assert!(found("/elsewhere", &sources).unwrap_err().contains("no source"));
        assert!(found("x/y", &sources).is_err(), "nothing is there");
        assert_eq!(found("./x//y", &["/srv"]), Ok(vec![(0, "x/y".into())]));
        assert!(found("../x", &["/srv"]).is_err());
    }
}
