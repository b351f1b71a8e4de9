//! Goes on where the last daemon was when it ended, and keeps what the next one needs for that.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use ebbtide_feed::{MirrorId, MirrorSpec};

use super::{Loss, Tracker, Watched};
use crate::daemon::beginning::Beginning;
use crate::daemon::gap::Gap;
use crate::daemon::keeping::{Keeping, Known, Strange, store_queue};
use crate::daemon::spool::{Kept, Spool};
use crate::engine::{Engine, Hint, Reason};
use crate::id::{Fs, Ino};
use crate::probe::{self, Asked, Buffer, Probe, Via};

/// Events of one device are read to the spool.
pub(super) struct Sheet<'a>(pub(super) &'a mut Spool, pub(super) u32);

impl Buffer for Sheet<'_> {
    fn room(&mut self) -> &mut [u8] {
        self.0.room(self.1)
    }

    fn read(&mut self, count: usize) -> &[u8] {
        self.0.events_read(count)
    }
}

/// Events are read to memory of our own.
#[derive(Debug, Default)]
pub(super) struct Scratch(Vec<u8>);

impl Buffer for Scratch {
    fn room(&mut self) -> &mut [u8] {
        self.0.resize(SCRATCH, 0);
        &mut self.0
    }

    fn read(&mut self, count: usize) -> &[u8] {
        &self.0[..count]
    }
}

impl Tracker {
    /// Takes over what was kept of each mirror, if all of it was, and from now on keeps what is read. Tells how each
    /// mirror begins, which is as in `without` where it cannot be taken over, and what turned out to be lost. To be called once, before anything is read.
    pub(crate) fn take_over(
        &mut self,
        mirrors: &[MirrorSpec],
        without: &[Beginning],
        mut keeping: Keeping,
        losses: &mut Vec<Loss>,
    ) -> Vec<Beginning> {
        keeping.drop_queues();
        let (spool, goes_on) = keeping.spool();
        let known = self.known(mirrors);
        let kept: Vec<_> =
            (0..).zip(&known).map(|(mirror, known)| self.is_kept(mirror, known, &keeping, goes_on)).collect();
        self.spool = Some(spool);
        let mut gaps = vec![false; self.watched.len()];
        if goes_on {
            gaps = self.replay(losses);
        }
        for (fs, watched) in self.watched.iter().enumerate() {
            if !watched.goes_on {
                store_queue(watched.device, &watched.names);
                gaps[fs] = true;
            }
        }
        let mut beginnings: Vec<_> =
            kept.into_iter().zip(without).map(|(kept, without)| Beginning::of(kept, without)).collect();
        self.read(losses);
        for (fs, _) in gaps.iter().enumerate().filter(|(_, gap)| **gap) {
            self.close_gap(Fs(fs), &mut beginnings, without);
        }
        // In this order: who finds the mirrors must find what they lack.
        let lacking = self.sources.iter().zip(&beginnings).filter_map(|(source, beginning)| {
            Some((source.path.as_os_str().as_bytes().to_vec(), beginning.taint()?.reason.to_string()))
        });
        let kept = keeping.taint(lacking.collect());
        if let Err(e) = kept.and_then(|()| keeping.begin(known)) {
            tracing::warn!(error = %e, "what the next start needs cannot be written: it will compare the mirrors");
        }
        self.keeping = Some(keeping);
        beginnings
    }

    fn known(&self, mirrors: &[MirrorSpec]) -> Vec<Known> {
        let each = self.sources.iter().zip(mirrors).zip(&self.scope.roots);
        let known = each.map(|((source, spec), root)| {
            let watched = &self.watched[root.fs.0];
            Known::new(source, spec, &self.points_of(source), &watched.plan, watched.asked)
        });
        known.collect()
    }

    fn is_kept(
        &self,
        mirror: MirrorId,
        known: &Known,
        keeping: &Keeping,
        goes_on: bool,
    ) -> Result<(), Strange> {
        let fs = self.scope.roots[mirror as usize].fs;
        let watched = &self.watched[fs.0];
        let marks = match &self.marks {
            Some(marks) if watched.plan.uses_ebpf() => marks.is_kept(fs),
            _ => Ok(()),
        };
        keeping.knows(known, &marks)?;
        if !goes_on {
            return Err(Strange::Lost("what had been noted was left by another build of ebbtide".into()));
        }
        if watched.goes_on {
            return Ok(());
        }
        if watched.plan.uses_ebpf() && !watched.plan.alone && watched.plan.directories == Via::Ebpf {
            return Err(Strange::Lost(
                "nobody listened for a while, and fsnotify() is not reached then".into(),
            ));
        }
        // Records tell where a directory was before it was renamed only if they are made before its name changes, as
        // those of ext4's tracepoint are, which comes before `fsnotify()` where somebody else listens; and a number's next
        // user is found only where any generation will do.
        let tells_moves = watched.plan.fs_type == "ext4"
            && (watched.plan.probe == Probe::Tracepoints || watched.plan.alone);
        let by_bits = watched.plan.directories == Via::Ebpf
            && matches!(watched.asked, Asked::Names | Asked::Attributes)
            && tells_moves;
        if by_bits && !watched.extended {
            return Ok(());
        }
        let lacks = if by_bits { "extended attributes" } else { "names" };
        Err(Strange::Lost(format!(
            "nobody listened for a while, and no bits on this file system tell what {lacks} changed"
        )))
    }

    /// Notes again what the last daemon had noted; tells of which file systems it had missed name events.
    fn replay(&mut self, losses: &mut Vec<Loss>) -> Vec<bool> {
        let mut gaps = vec![false; self.watched.len()];
        let mut lost = Vec::new();
        let Some(spool) = self.spool.take() else { return gaps };
        let (watched, marks) = (&mut self.watched, &self.marks);
        spool.replay(|kept| match kept {
            Kept::Record(bytes) => {
                for (fs, marked) in marks.iter().flat_map(|marks| marks.parse(bytes)) {
                    watched[fs.0].fold.note(Hint::Marked(marked));
                }
            }
            Kept::Events(device, bytes) => {
                for (fs, Watched { form, fold, .. }) in of_device(watched, device) {
                    if probe::understand_all(*form, bytes, |hint| fold.note(hint)).lost {
                        lost.push(fs);
                    }
                }
            }
            Kept::Again { device, ino, data, mapped } => {
                for (_, watched) in of_device(watched, device) {
                    watched.resolver.look_again(Ino(ino), data, mapped);
                }
            }
            Kept::Gap(device) => {
                for (fs, _) in of_device(watched, device) {
                    gaps[fs.0] = true;
                }
            }
        });
        self.spool = Some(spool);
        lost.into_iter().for_each(|fs| self.lose(Some(fs), &Reason::QueueOverflow, losses));
        gaps
    }

    /// Finds the names that changed while nobody listened.
    fn close_gap(&mut self, fs: Fs, beginnings: &mut [Beginning], without: &[Beginning]) {
        let roots = &self.scope.roots;
        let of_fs = |mirror: usize| roots[mirror].fs == fs;
        if !(0..beginnings.len()).any(|mirror| of_fs(mirror) && beginnings[mirror] == Beginning::TakenOver) {
            return;
        }
        let Watched { anchor, fold, form, device, .. } = &mut self.watched[fs.0];
        if let Some(spool) = &mut self.spool {
            spool.gap(*device);
        }
        let bits = match self.marks.as_ref().map(|marks| marks.all_marked(fs)).transpose() {
            Ok(bits) => bits.unwrap_or_default(),
            Err(e) => return self.distrust(fs, &e.to_string(), beginnings, without),
        };
        let gap = Gap { fs, form: *form, anchor, scope: &self.scope, bits: &bits };
        let found = gap.search(fold);
        self.tally.listed += found.listed;
        tracing::info!(
            device = self.watched[fs.0].plan.dev,
            marked = bits.changed.len(),
            listed = found.listed,
            "looked for names that changed while nobody listened, in the directories that are marked"
        );
        if found.unsure > 0 {
            let why = format!("the whereabouts of {} changed directories are not known", found.unsure);
            self.distrust(fs, &why, beginnings, without);
        }
    }

    /// No mirror of this file system is taken over.
    fn distrust(&self, fs: Fs, why: &str, beginnings: &mut [Beginning], without: &[Beginning]) {
        let roots = &self.scope.roots;
        for (mirror, beginning) in
            beginnings.iter_mut().enumerate().filter(|(mirror, _)| roots[*mirror].fs == fs)
        {
            tracing::warn!(mirror, why, "not taken over");
            if *beginning == Beginning::TakenOver {
                *beginning = Beginning::of(Err(Strange::Lost(why.to_owned())), &without[mirror]);
            }
        }
    }

    /// Keeps which mirrors' coverage is not complete.
    pub(crate) fn keep_taints(&mut self, engine: &Engine) {
        let Some(keeping) = &mut self.keeping else { return };
        let mut tainted = BTreeMap::new();
        for (mirror, source) in (0..).zip(&self.sources) {
            if let Some(taint) = engine.coverage(mirror).tainted() {
                tainted.insert(source.path.as_os_str().as_bytes().to_vec(), taint.reason.to_string());
            }
        }
        if let Err(e) = keeping.taint(tainted) {
            tracing::error!(error = %e, "it cannot be kept that coverage is not complete");
        }
    }

    /// What the last drain was about is durable, and is not kept any longer.
    pub(super) fn forget_kept(&mut self) {
        let mut again = false;
        for watched in &self.watched {
            again |= watched.resolver.waiting() > 0;
        }
        if let (Some(keeping), Some(marks)) = (&mut self.keeping, &self.marks)
            && let Err(e) = keeping.tell(marks.told())
        {
            tracing::warn!(error = %e, "it cannot be kept which losses were told");
        }
        if let Some(spool) = &mut self.spool {
            spool.forget(again);
        }
    }

    /// All was looked up but for these.
    pub(super) fn keep_waiting(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        for watched in &self.watched {
            for (ino, data, mapped) in watched.resolver.waiting_inodes() {
                spool.again(watched.device, ino.0, data, mapped);
            }
        }
    }
}

fn of_device(watched: &mut [Watched], device: u32) -> impl Iterator<Item = (Fs, &mut Watched)> {
    let all = watched.iter_mut().enumerate();
    all.filter(move |(_, watched)| watched.device == device).map(|(fs, watched)| (Fs(fs), watched))
}

/// Room for some 1000 events.
const SCRATCH: usize = 128 << 10;
