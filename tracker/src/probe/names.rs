//! Names: fanotify on a whole file system, with handles of directories and entries.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fanotify_fid::consts::{
    FAN_ATTRIB, FAN_CLASS_NOTIF, FAN_CLOEXEC, FAN_CLOSE_WRITE, FAN_CREATE, FAN_DELETE, FAN_MARK_ADD,
    FAN_MARK_FILESYSTEM, FAN_MARK_IGNORED_MASK, FAN_MARK_IGNORED_SURV_MODIFY, FAN_MODIFY, FAN_NONBLOCK,
    FAN_ONDIR, FAN_RENAME, FAN_REPORT_DFID_NAME_TARGET, FAN_UNLIMITED_MARKS, FAN_UNLIMITED_QUEUE,
};
use fanotify_fid::{Fanotify, FanotifyError, FidEvent, RenameSide};

use rustix::io::Errno;

use crate::engine::{Hint, Seen};
use crate::id::{Handle, HandleForm, Name};
use crate::sys::fanotify;

/// The queue of name events of one file system.
#[derive(Debug)]
pub struct Names {
    group: Fanotify,
    form: HandleForm,
}

/// What is asked of fanotify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Names alone.
    Names,
    /// Changed attributes too: extended ones, which no eBPF program sees.
    Attributes,
    /// Changed content and attributes too.
    Contents,
    /// The same, and when a file that was open for writing is closed: all that tells of stores through a mapping on a file
    /// system without writeback.
    ContentsAndCloses,
}

/// Whether the kernel shall call `fsnotify()` for changes that are not asked for: an eBPF program sees them there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arming {
    /// It does anyway, or nobody needs it.
    None,
    /// By a mask of ignored events: interest is shown, and no event comes of it.
    Ignored,
}

/// Where events are read to.
pub trait Buffer {
    /// Room for the next read; all zero, if what is read shall be found there by others.
    fn room(&mut self) -> &mut [u8];
    /// So many bytes were read to it; gives them.
    fn read(&mut self, count: usize) -> &[u8];
}

/// What a read of the queue met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Events read.
    pub events: u64,
    /// The kernel had to drop events, or some could not be understood.
    pub lost: bool,
}

/// Why a file system cannot be listened to.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// The capability is missing.
    #[error(
        "fanotify on a whole file system was refused: it needs CAP_SYS_ADMIN in the initial user namespace"
    )]
    Permission(#[source] FanotifyError),
    /// The kernel is too old, or built without fanotify.
    #[error(
        "the kernel knows no fanotify with directory handles, names and rename pairs: it needs Linux 5.17"
    )]
    Kernel(#[source] FanotifyError),
    /// A subvolume of btrfs.
    #[error("the source is in a btrfs subvolume, and the file system's own root is not mounted anywhere")]
    Subvolume(#[source] FanotifyError),
    /// The file system has no stable handles.
    #[error("the file system has no stable file handles, so its events would not say what they are about")]
    Unsupported(#[source] FanotifyError),
    /// The queue cannot be read.
    #[error("the queue of name events cannot be read")]
    Read(#[source] Errno),
    /// Something else failed.
    #[error("fanotify failed")]
    Other(#[source] FanotifyError),
}

impl NamesError {
    /// What the user can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            NamesError::Permission(_) => "run ebbtide as root, outside of an unprivileged container",
            NamesError::Kernel(_) => "run a newer kernel",
            NamesError::Subvolume(_) => {
                "mount the file system's root somewhere, such as with `mount -o subvolid=5 DEVICE /mnt/btrfs-root`"
            }
            NamesError::Unsupported(_) => {
                "mirror the file system underneath (for overlayfs its upper directory)"
            }
            NamesError::Read(_) | NamesError::Other(_) => "see the cause",
        }
    }
}

impl Names {
    /// Listens to the whole file system that `anchor` is on.
    ///
    /// # Errors
    /// The kernel refuses; nothing is listened to then.
    pub fn listen(
        anchor: BorrowedFd<'_>,
        form: HandleForm,
        asked: Asked,
        arming: Arming,
    ) -> Result<Self, NamesError> {
        // Tests ask for the kernel's own limit (fs.fanotify.max_queued_events), so that the queue overflows.
        let limit = std::env::var_os("EBBTIDE_BOUNDED_QUEUE").map_or(FAN_UNLIMITED_QUEUE, |_| 0);
        let flags = FAN_CLASS_NOTIF
            | FAN_REPORT_DFID_NAME_TARGET
            | limit
            | FAN_UNLIMITED_MARKS
            | FAN_NONBLOCK
            | FAN_CLOEXEC;
        let group = Fanotify::new(flags).map_err(refused)?;
        group.mark_fd(anchor, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, asked.mask()).map_err(refused)?;
        let names = Names { group, form };
        names.arm(anchor, asked, arming)?;
        Ok(names)
    }

    /// Shows interest in what is not asked for, where that is wanted.
    fn arm(&self, anchor: BorrowedFd<'_>, asked: Asked, arming: Arming) -> Result<(), NamesError> {
        if arming == Arming::None {
            return Ok(());
        }
        let ignored = FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY;
        let unasked = (FAN_MODIFY | FAN_ATTRIB | FAN_CLOSE_WRITE) & !asked.mask();
        let add = FAN_MARK_ADD | FAN_MARK_FILESYSTEM | ignored;
        self.group.mark_fd(anchor, add, unasked).map_err(refused)
    }

    /// Goes on with a queue that another process began, if it is one that hears all this of the file system with this
    /// device number (`super_block.s_dev`), which `anchor` is on.
    pub fn adopt(
        fd: OwnedFd,
        device: u32,
        anchor: BorrowedFd<'_>,
        form: HandleForm,
        asked: Asked,
        arming: Arming,
    ) -> Option<Self> {
        let group = fanotify::adopt(fd, device, asked.mask(), REPORTS)?;
        let names = Names { group, form };
        names.arm(anchor, asked, arming).ok()?;
        Some(names)
    }

    /// Hands over what is in the queue now. What arrives meanwhile may stay for the next time, so that this ends.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub fn read(&mut self, buffer: &mut dyn Buffer, mut note: impl FnMut(Hint)) -> Result<Pass, NamesError> {
        let mut pass = Pass::default();
        // The kernel answers with the bytes of the events' fixed parts.
        let queued = rustix::io::ioctl_fionread(&self.group).unwrap_or(u64::MAX) / METADATA;
        while pass.events < queued {
            let count = match rustix::io::read(&self.group, buffer.room()) {
                Ok(count) => count,
                Err(Errno::AGAIN) => {
                    buffer.read(0);
                    break;
                }
                Err(e) => {
                    buffer.read(0);
                    return Err(NamesError::Read(e));
                }
            };
            pass.add(understand_all(self.form, buffer.read(count), &mut note));
        }
        Ok(pass)
    }
}

impl AsFd for Names {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

/// Hands over what the bytes of events hint at.
pub fn understand_all(form: HandleForm, bytes: &[u8], mut note: impl FnMut(Hint)) -> Pass {
    let (events, report) = fanotify_fid::parse_fid_events_reported(bytes);
    let mut pass = Pass { events: events.len() as u64, lost: !report.is_complete() };
    for event in &events {
        match understand(form, event) {
            Some(hint) => hint.into_iter().for_each(&mut note),
            None => pass.lost = true,
        }
    }
    pass
}

impl Pass {
    fn add(&mut self, other: Pass) {
        self.events += other.events;
        self.lost |= other.lost;
    }
}

impl Asked {
    fn mask(self) -> u64 {
        let names = FAN_CREATE | FAN_DELETE | FAN_RENAME | FAN_ONDIR;
        match self {
            Asked::Names => names,
            Asked::Attributes => names | FAN_ATTRIB,
            Asked::Contents => names | FAN_MODIFY | FAN_ATTRIB,
            Asked::ContentsAndCloses => names | FAN_MODIFY | FAN_ATTRIB | FAN_CLOSE_WRITE,
        }
    }
}

/// `fanotify_mark(2)`: EXDEV for a subvolume, ENODEV and EOPNOTSUPP where handles are missing or not stable.
fn refused(error: FanotifyError) -> NamesError {
    match (error.errno(), &error) {
        (Some(libc::EPERM), _) => NamesError::Permission(error),
        (Some(libc::ENOSYS), _) | (Some(libc::EINVAL), FanotifyError::Init(_) | FanotifyError::Mark(_)) => {
            NamesError::Kernel(error)
        }
        (Some(libc::EXDEV), _) => NamesError::Subvolume(error),
        (Some(libc::EOPNOTSUPP | libc::ENODEV), _) => NamesError::Unsupported(error),
        _ => NamesError::Other(error),
    }
}

/// What an event hints at: nothing, one thing, or (`None`) something that is not understood.
fn understand(form: HandleForm, event: &FidEvent<'_>) -> Option<Option<Hint>> {
    if event.is_overflow() {
        return None;
    }
    let child = event.self_handle().and_then(Handle::new);
    let inode = child.as_ref().and_then(|handle| form.decode(handle));
    let directory = event.mask() & FAN_ONDIR != 0;
    if event.mask() & FAN_RENAME != 0 {
        let (from, to) = (side(event.rename_source()?)?, side(event.rename_target()?)?);
        return Some(Some(Hint::Renamed { from, to, directory, child: inode }));
    }
    let seen = seen(event.mask());
    let Some(dir) = event.dfid_name_handle() else {
        // An inode's link count changed.
        let only_links = seen.is_empty() || seen == Seen::ATTRIBUTES;
        return Some(if only_links {
            inode.map(|inode| Hint::Unlinked { inode })
        } else {
            Some(Hint::Inode { inode: child?, seen })
        });
    };
    let dir = Handle::new(dir)?;
    Some(Some(match Name::new(event.dfid_name_raw()) {
        Some(name) => Hint::Entry { dir, name, seen, child: inode },
        // "." for the directory itself, "/" for what has no name that the kernel knows.
        None if directory => Hint::Directory { dir },
        None => Hint::Inode { inode: dir, seen },
    }))
}

fn side(side: &RenameSide<'_>) -> Option<(Handle, Name)> {
    Some((Handle::new(side.handle())?, Name::new(&side.name)?))
}

fn seen(mask: u64) -> Seen {
    let directory = mask & FAN_ONDIR != 0;
    let mut seen = Seen::empty();
    seen.set(if directory { Seen::CREATED_DIR } else { Seen::CREATED | Seen::DATA }, mask & FAN_CREATE != 0);
    seen.set(if directory { Seen::REMOVED_DIR } else { Seen::REMOVED }, mask & FAN_DELETE != 0);
    if mask & (FAN_MODIFY | FAN_CLOSE_WRITE) != 0 {
        seen |= Seen::DATA;
    }
    if mask & FAN_ATTRIB != 0 {
        seen |= Seen::ATTRIBUTES;
    }
    seen
}

/// How a queue must report.
const REPORTS: u32 = FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME_TARGET | FAN_UNLIMITED_MARKS | FAN_NONBLOCK;

/// Bytes of `struct fanotify_event_metadata`.
const METADATA: u64 = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, Ino, Inode};

    fn handle(bytes: &[u8]) -> Vec<u8> {
        let mut all = (bytes.len() as u32).to_ne_bytes().to_vec();
        all.extend_from_slice(&1i32.to_ne_bytes());
        all.extend_from_slice(bytes);
        all
    }

    fn event(mask: u64, dir: Option<&[u8]>, child: Option<u32>) -> FidEvent<'static> {
        let mut event = FidEvent::new();
        event.set_mask(mask);
        if let Some(name) = dir {
            event.set_dfid_name(handle(&[2, 0, 0, 0, 1, 0, 0, 0]), name.to_vec());
        }
        if let Some(ino) = child {
            event.set_self_handle(handle(&[ino.to_ne_bytes(), [7, 0, 0, 0]].concat()));
        }
        event
    }

    fn hint(event: &FidEvent<'_>) -> Hint {
        understand(HandleForm::Ino32, event).unwrap().unwrap()
    }

    #[test]
    fn a_merged_event_tells_all_that_happened_to_the_name() {
        let Hint::Entry { seen, child, .. } =
            hint(&event(FAN_CREATE | FAN_MODIFY | FAN_DELETE, Some(b"a\n"), Some(12)))
        else {
            panic!()
        };
        assert_eq!(seen, Seen::CREATED | Seen::DATA | Seen::REMOVED);
        assert_eq!(child, Some(Inode { ino: Ino(12), generation: Generation(7) }));
    }

    #[test]
    fn an_event_about_a_directory_itself_names_it_by_a_dot() {
        assert!(matches!(hint(&event(FAN_ATTRIB | FAN_ONDIR, Some(b"."), Some(2))), Hint::Directory { .. }));
    }

    #[test]
    fn a_write_without_a_known_name_is_kept_by_inode_and_so_is_the_loss_of_a_name() {
        assert!(matches!(hint(&event(FAN_MODIFY, Some(b"/"), Some(12))), Hint::Inode { .. }));
        assert!(matches!(hint(&event(FAN_MODIFY, None, Some(12))), Hint::Inode { .. }));
        assert!(matches!(hint(&event(FAN_ATTRIB, None, Some(12))), Hint::Unlinked { .. }));
    }

    #[test]
    fn an_overflow_and_half_a_rename_count_as_loss() {
        let overflow = event(fanotify_fid::consts::FAN_Q_OVERFLOW, None, None);
        assert_eq!(understand(HandleForm::Ino32, &overflow), None);
        assert_eq!(understand(HandleForm::Ino32, &event(FAN_RENAME, None, Some(12))), None);
    }
}
