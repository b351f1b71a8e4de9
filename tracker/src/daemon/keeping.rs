//! What one daemon leaves to the next, beside the pins: what it watched and how, what it had lost, and the spool. All of
//! it is of one session, as is what is pinned, and lives as long as the machine runs.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ebbtide_feed::MirrorSpec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::source::Source;
use super::spool::Spool;
use crate::probe::bpf::Told;
use crate::probe::{Asked, Pins, Plan, pins};
use crate::sys::{file, store};

/// The state that is kept.
#[derive(Debug)]
pub(super) struct Keeping {
    dir: PathBuf,
    before: Before,
    spool: Option<Spool>,
    pins: Option<Pins>,
    told: Told,
    /// Mirrors whose coverage was not complete, by source, and why.
    tainted: BTreeMap<Vec<u8>, String>,
    /// Descriptors that came back from a store, by name.
    inherited: Vec<(String, OwnedFd)>,
    /// Of the session that is begun if this one cannot go on.
    next: u64,
}

/// What the last daemon left.
#[derive(Debug)]
enum Before {
    Nothing,
    /// Nothing of use, for this reason.
    Lost(String),
    Session(Session),
}

/// What a daemon watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    version: u32,
    id: u64,
    /// Of the machine's start.
    boot: String,
    mirrors: Vec<Known>,
}

/// A mirror as a daemon knew it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    source: Vec<u8>,
    /// The source directory's handle.
    root: Vec<u8>,
    /// Which mount it is on, of all since the machine's start.
    mount: String,
    /// Mount points below.
    points: Vec<Vec<u8>>,
    filters: Vec<Vec<u8>>,
    /// What is asked of name events.
    asked: String,
    plan: Plan,
}

impl Known {
    pub(super) fn new(
        source: &Source,
        spec: &MirrorSpec,
        points: &[Vec<u8>],
        plan: &Plan,
        asked: Asked,
    ) -> Self {
        Known {
            source: source.path.as_os_str().as_bytes().to_vec(),
            root: source.handle.as_bytes().to_vec(),
            mount: file::mount_id(source.fd.as_fd()).unwrap_or_else(|_| "unknown".into()),
            points: points.to_vec(),
            filters: spec.filters.clone(),
            asked: format!("{asked:?}"),
            plan: Plan { notes: Vec::new(), ..plan.clone() },
        }
    }

    /// What keeps this mirror from being taken over from that one.
    fn differs_from(&self, before: &Known) -> Option<&'static str> {
        if self.root != before.root {
            Some("another directory is its source")
        } else if self.mount != before.mount {
            Some("its file system was mounted anew")
        } else if self.points != before.points {
            Some("other file systems are mounted below it")
        } else if self.filters != before.filters {
            Some("it has other filter rules")
        } else if self.plan != before.plan || self.asked != before.asked {
            Some("it is watched in another way")
        } else {
            None
        }
    }
}

/// Why a mirror is not taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Strange {
    /// There was no such mirror.
    New,
    /// There was, but.
    Lost(String),
}

impl Keeping {
    /// What is in these folders; with `forget` it is dropped.
    pub(super) fn open(runtime_dir: &Path, state_dir: &Path, forget: bool) -> io::Result<Self> {
        let dir = runtime_dir.join(KEPT);
        if forget {
            drop_all(runtime_dir, state_dir)?;
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let next = random();
        let (mut before, mut spool) = (read_session(&dir), None);
        if let Before::Session(session) = &before {
            match Spool::resume(&dir, session.id) {
                Ok(found) => spool = Some(found),
                Err(why) => before = Before::Lost(why),
            }
        }
        let id = if let Before::Session(session) = &before { session.id } else { next };
        pins::sweep();
        let pins = Pins::open(state_dir, id, next);
        if let Err(e) = &pins {
            tracing::warn!(error = %e, "there is no bpffs to keep programs in: what they mark ends with this process");
        }
        Ok(Keeping {
            told: read(&dir.join(TOLD)).unwrap_or_default(),
            tainted: read::<Vec<_>>(&dir.join(TAINTED)).unwrap_or_default().into_iter().collect(),
            dir,
            before,
            spool,
            pins: pins.ok(),
            inherited: store::inherited(),
            next,
        })
    }

    /// Where programs are pinned, and which losses of theirs were told.
    pub(super) fn pins(&mut self) -> Option<(&mut Pins, &Told)> {
        self.pins.as_mut().map(|pins| (pins, &self.told))
    }

    /// Nothing is pinned any more.
    pub(super) fn unpin(&mut self) {
        if let Some(pins) = &self.pins {
            let _ = pins.remove();
        }
    }

    /// The queue of name events of this device, if it came back from a store.
    pub(super) fn queue(&mut self, device: u32) -> Option<OwnedFd> {
        let name = queue_name(device);
        let at = self.inherited.iter().position(|(of, _)| *of == name)?;
        Some(self.inherited.swap_remove(at).1)
    }

    /// Takes out of the store what nobody asked for.
    pub(super) fn drop_queues(&mut self) {
        for (name, fd) in self.inherited.drain(..) {
            drop(fd);
            let _ = store::remove(&name);
        }
    }

    /// The spool of the session that goes on, or else of a new one; and whether it goes on.
    pub(super) fn spool(&mut self) -> (Spool, bool) {
        let id = self.pins.as_ref().map_or_else(|| self.id(), Pins::session);
        match self.spool.take() {
            Some(spool) if id == self.id() => (spool, true),
            _ => (Spool::create(&self.dir, id), false),
        }
    }

    /// Whether this mirror was watched before in the same way, and nothing of it was lost; `marks` tells whether all
    /// that was marked is there.
    pub(super) fn knows(&self, mirror: &Known, marks: &Result<(), String>) -> Result<(), Strange> {
        let lost = |why: &str| Err(Strange::Lost(why.to_owned()));
        let session = match &self.before {
            Before::Nothing => return Err(Strange::New),
            Before::Lost(why) => return lost(why),
            Before::Session(session) => session,
        };
        let Some(before) = session.mirrors.iter().find(|known| known.source == mirror.source) else {
            return Err(Strange::New);
        };
        if let Some(why) = self.tainted.get(&mirror.source) {
            return lost(&format!("the last daemon ended when {why}"));
        }
        if let Some(why) = mirror.differs_from(before) {
            return lost(why);
        }
        marks.as_ref().map_or_else(|why| lost(why), |()| Ok(()))
    }

    /// From now on what is found is this.
    pub(super) fn begin(&mut self, mirrors: Vec<Known>) -> io::Result<()> {
        let id = self.pins.as_ref().map_or_else(|| self.id(), Pins::session);
        let session = Session { version: VERSION, id, boot: boot(), mirrors };
        write(&self.dir.join(SESSION), &session)?;
        self.before = Before::Session(session);
        Ok(())
    }

    /// These mirrors' coverage is not complete.
    pub(super) fn taint(&mut self, tainted: BTreeMap<Vec<u8>, String>) -> io::Result<()> {
        if tainted != self.tainted {
            write(&self.dir.join(TAINTED), &tainted.iter().collect::<Vec<_>>())?;
            self.tainted = tainted;
        }
        Ok(())
    }

    /// These losses of the programs were told.
    pub(super) fn tell(&mut self, told: Told) -> io::Result<()> {
        if told != self.told {
            write(&self.dir.join(TOLD), &told)?;
            self.told = told;
        }
        Ok(())
    }

    fn id(&self) -> u64 {
        if let Before::Session(session) = &self.before { session.id } else { self.next }
    }
}

/// Gives a queue of name events to the store, if there is one.
pub(super) fn store_queue(device: u32, queue: &impl AsFd) {
    let name = queue_name(device);
    let kept = store::remove(&name).and_then(|_| store::keep(&name, queue.as_fd()));
    if let Err(e) = kept {
        tracing::warn!(error = %e, cause = %e.source, "the service manager does not take the queue of name events");
    }
}

/// Drops all that a daemon with these folders left; returns whether there was anything.
pub(super) fn drop_all(runtime_dir: &Path, state_dir: &Path) -> io::Result<bool> {
    let dir = runtime_dir.join(KEPT);
    let there = dir.exists();
    match std::fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    match pins::unload(state_dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(there),
        unloaded => unloaded.map(|unloaded| unloaded || there),
    }
}

fn read_session(dir: &Path) -> Before {
    let path = dir.join(SESSION);
    if !path.exists() {
        return Before::Nothing;
    }
    match read::<Session>(&path) {
        Some(session) if session.version != VERSION => {
            Before::Lost("another version of ebbtide left it".into())
        }
        Some(session) if session.boot != boot() => Before::Lost("the machine was started anew".into()),
        Some(session) => Before::Session(session),
        None => Before::Lost(format!("{} is damaged, or of another version of ebbtide", path.display())),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// In whole or not at all.
fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(value)?)?;
    std::fs::rename(&new, path)
}

fn queue_name(device: u32) -> String {
    format!("ebbtide-names-{}-{}", device >> 20, device & 0xf_ffff)
}

/// Of the machine's start.
fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// The kernel makes a number that nobody had before.
fn random() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or_else(|_| u64::from(std::process::id()))
}

/// In the runtime folder.
const KEPT: &str = "kept";
const SESSION: &str = "session";
const TAINTED: &str = "tainted";
const TOLD: &str = "told";

/// Of these files and of the spool.
const VERSION: u32 = 1;
