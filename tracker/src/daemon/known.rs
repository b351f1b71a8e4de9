//! What an earlier daemon left of what it knew.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use ebbtide_feed::{MirrorId, MirrorSpec};

use super::beginning::Beginning;
use super::stamp::{Keeper, Moment, Stamps, Subject};
use super::tracker::Tracker;
use crate::engine::Reason;
use crate::sys::{self, scan};

/// Reads what this folder tells of each mirror, and how it may begin if nothing can be taken over.
///
/// # Errors
/// A source directory cannot be looked at.
pub(super) fn read(
    mirrors: &[MirrorSpec],
    tracker: &Tracker,
    folder: &File,
    margin: Duration,
) -> sys::Result<(Vec<Beginning>, Stamps)> {
    let boot = scan::boot_id()?;
    let subjects = (0..).zip(mirrors).map(|(mirror, spec)| subject(mirror, spec, tracker));
    let (keeper, left) = match Keeper::open(folder, subjects.collect::<Result<_, _>>()?) {
        Ok((keeper, left)) => (Some(keeper), left),
        Err(error) => {
            tracing::warn!(%error, "no stamps are kept: after every start the whole mirror will be compared");
            (None, vec![None; mirrors.len()])
        }
    };
    let now = Moment::now(&boot);
    let left: Vec<_> = left
        .into_iter()
        .map(|left| left.map(|left| left.and_then(|known| usable(known, &now, margin))))
        .collect();
    let beginnings = left.iter().map(|left| beginning(left.as_ref(), &now)).collect();
    let known = left.into_iter().map(|left| left.and_then(Result::ok)).collect();
    Ok((beginnings, Stamps::new(boot, known, keeper, margin)))
}

fn subject(mirror: MirrorId, spec: &MirrorSpec, tracker: &Tracker) -> sys::Result<Subject> {
    let source = tracker.source_path(mirror).as_os_str().as_bytes();
    Ok(Subject::new(source, tracker.identity_of(mirror)?, &spec.filters))
}

fn usable(known: Moment, now: &Moment, margin: Duration) -> Result<Moment, String> {
    known.look_back(now, margin).map(|_| known)
}

fn beginning(left: Option<&Result<Moment, String>>, now: &Moment) -> Beginning {
    match left {
        None => Beginning::First,
        Some(Err(why)) => Beginning::Distrusted(why.clone()),
        Some(Ok(known)) if known.boot != now.boot => {
            Beginning::Reconcile(Reason::NotKept("the machine was started anew".into()))
        }
        Some(Ok(_)) => Beginning::Reconcile(Reason::NotKept("the daemon was started anew".into())),
    }
}
