//! What a session tells its caller afterwards.

use std::pin::Pin;
use std::time::Duration;

use ebbtide_wire::proto::{Dialect, ExitCode};
use ebbtide_wire::sender::{DeleteStats, Iflags};

use super::entry::{Entry, IoErrors};
use crate::transport::Password;
use crate::walk::Problem;

/// How a session that ran to its end went.
#[derive(Clone, Debug)]
pub struct Report {
    /// rsync's exit code: 0, or 23, 24, 25 when something is missing.
    pub exit: ExitCode,
    /// One per entry of the list, in the list's order; empty when the list came in parts
    /// ([`push_listings`](super::push_listings)).
    pub outcomes: Vec<Outcome>,
    /// Whether the daemon reported a failed transfer. Its texts name the file for people only, so after this no
    /// entry without an outcome of its own can be taken as done.
    pub partial: bool,
    /// The I/O errors of both sides.
    pub io_errors: IoErrors,
    /// The daemon's texts, the first [`Report::TEXT_LIMIT`] bytes of them.
    pub texts: Vec<Text>,
    /// Bytes written to the socket.
    pub bytes_written: u64,
    /// Bytes read from the socket.
    pub bytes_read: u64,
    /// What both sides agreed on; `None` after a module listing.
    pub dialect: Option<Dialect>,
    /// Sums over the session.
    pub totals: Totals,
}

impl Report {
    /// How many bytes of texts a report keeps.
    pub const TEXT_LIMIT: usize = 256 * 1024;
}

/// Sums over one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Regular files whose data was asked for.
    pub files_sent: u64,
    /// Lengths of those files, in bytes.
    pub size_sent: u64,
    /// Lengths of all files and symlinks of the list, in bytes.
    pub size_listed: u64,
    /// Bytes of those files that went as data.
    pub literal: u64,
    /// Bytes of those files that the destination had already.
    pub matched: u64,
    /// Bytes of the list on the wire.
    pub list_bytes: u64,
    /// How long it took to put the list into its wire form.
    pub list_time: Duration,
    /// What the daemon says it removed, if it says so.
    pub deleted: Option<DeleteStats>,
}

/// What happened to one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// The daemon said nothing. In a session that ended with code 0 that means it was up to date; otherwise it
    /// means nothing.
    #[default]
    NotReported,
    /// The daemon reported it as already up to date.
    Unchanged,
    /// The daemon changed it by itself: attributes, a directory, a symlink, a link, a device.
    Updated,
    /// The daemon asked for its data and got it, and raised no objection.
    Sent,
    /// It was gone when its data was asked for.
    Vanished,
    /// It changed between the list and the end of reading: what was sent may be a mixture.
    ChangedWhileRead,
    /// It could not be read, or the daemon discarded what it got.
    Failed(String),
}

impl Outcome {
    /// Whether the destination is known to hold this entry as the list described it.
    pub fn is_confirmed(&self) -> bool {
        matches!(self, Outcome::Unchanged | Outcome::Updated | Outcome::Sent)
    }
}

/// A message of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// What the daemon calls it.
    pub kind: TextKind,
    /// Its bytes, without the last line end. Escape before printing.
    pub bytes: Vec<u8>,
}

/// How grave a daemon's message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// A line of the message of the day.
    Motd,
    /// A line of a module listing.
    Listing,
    /// Information.
    Info,
    /// A warning.
    Warning,
    /// An error.
    Error,
    /// An error that left an entry undone: the session ends with code 23.
    TransferError,
}

/// A password that somebody is asked for; `None` if none comes. Dropped when the session ends before.
pub type Asking = Pin<Box<dyn Future<Output = Option<Password>> + Send>>;

/// Watches a session while it runs. All methods do nothing unless they are overridden.
pub trait Observer: Send {
    /// The module wants a password, and the target has none. Without anybody to ask, the session ends.
    fn password(&mut self) -> Option<Asking> {
        None
    }

    /// The session stands; the list goes out next.
    fn ready(&mut self, _dialect: &Dialect) {}

    /// The daemon reported an entry. `link_name` is the basis or the name that it was linked to.
    fn item(&mut self, _item: &Item<'_>) {}

    /// The daemon has this entry, by its position in the list, in its place. Only with
    /// [`ServerOptions::acknowledge_files`](ebbtide_wire::proto::ServerOptions::acknowledge_files), and never for
    /// directories.
    fn stored(&mut self, _index: usize, _entry: &Entry) {}

    /// What came of the data of an entry that the daemon asked for, as far as this side knows.
    fn answered(&mut self, _index: usize, _outcome: &Outcome) {}

    /// The data of a file went over; the daemon has not yet said that it is in place.
    fn sent(&mut self, _sent: &Sent<'_>) {}

    /// So many more bytes of files are answered for: they went over, or the daemon has them.
    fn moved(&mut self, _bytes: u64) {}

    /// The daemon removed a name.
    fn deleted(&mut self, _name: &[u8], _is_dir: bool) {}

    /// Entries were listed; only with [`push_listings`](super::push_listings). What could not be listed comes along.
    fn listed(&mut self, _entries: &[Entry], _problems: &[Problem]) {}

    /// The session is done with an entry; only with [`push_listings`](super::push_listings). `index` is its number in
    /// the order of listing. An outcome means what it means in a report, so [`Outcome::NotReported`] says nothing before
    /// the session has ended with code 0.
    fn settled(&mut self, _index: usize, _entry: &Entry, _outcome: &Outcome) {}

    /// The daemon sent a message.
    fn text(&mut self, _text: &Text) {}

    /// Reading an entry failed, or it vanished; the reason is what the file system said.
    fn unreadable(&mut self, _entry: &Entry, _reason: &std::io::Error) {}
}

/// One report of the daemon about an entry.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The entry's position in the list given to the session.
    pub index: usize,
    /// The entry.
    pub entry: &'a Entry,
    /// What differs, and what is done about it.
    pub flags: Iflags,
    /// The name that it was linked to, or the basis.
    pub link_name: Option<&'a [u8]>,
}

/// One file that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The entry's position in the list given to the session.
    pub index: usize,
    /// Its position in the list as it went over.
    pub place: usize,
    /// The entry.
    pub entry: &'a Entry,
    /// Length of what was sent, in bytes.
    pub size: u64,
    /// How many bytes of the stream the answer took.
    pub written: u64,
    /// How many bytes of block sums came for it.
    pub sums: u64,
    /// The checksum of the whole file, as it went over; empty if the file is being sent in parts that lack it.
    pub checksum: &'a [u8],
}

/// An observer that does not look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
