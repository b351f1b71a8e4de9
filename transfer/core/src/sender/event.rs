//! What a session tells its driver.

use std::sync::Arc;

use crate::delta::{BlockSums, SumHeader};
use crate::proto::{Dialect, ExitCode, IoErrors};

/// Index of an entry in the sorted list, from 0. With incremental recursion there are many lists, and
/// indexes go on from list to list ([`Client::push_list`](super::Client::push_list)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ndx(pub u32);

/// What happened, for the driver to act on or to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line of the daemon's greeting text, without its end.
    Motd(Vec<u8>),
    /// A line of the module listing (name, blanks, comment), without its end.
    Listing(Vec<u8>),
    /// The module wants a password, and the configuration has none. The driver goes on with
    /// [`Client::give_password`](super::Client::give_password), or ends the session.
    PasswordWanted,
    /// The session is set up. The driver calls [`Client::send_list`](super::Client::send_list) now, unless it did
    /// before.
    Ready(Dialect),
    /// The list is on its way: all of it is in the output.
    ListSent,
    /// With incremental recursion: the daemon is done with the list of this number, counted from 0. What it had to say
    /// about its entries has been said.
    ListDone(u64),
    /// The daemon wants a file's data. The driver answers each of these, in any order.
    Request(Request),
    /// The daemon wants values of extended attributes that only their digests were sent of. The driver answers with
    /// [`Client::give_values`](super::Client::give_values) before it takes the next event.
    Values(ValuesRequest),
    /// What the daemon's generator says about an entry; also comes with each [`Event::Request`], before it.
    Item(Item),
    /// Text for the user, without its last line end.
    Message {
        /// Of what kind.
        kind: MessageKind,
        /// The text; not to be trusted, to be escaped when printed.
        text: Vec<u8>,
    },
    /// The daemon removed an entry.
    Deleted(Deleted),
    /// The file is in place at the receiver (with `acknowledge_files`).
    Success(Ndx),
    /// How many entries the daemon removed.
    DeleteStats(DeleteStats),
    /// The daemon gives up after this many seconds without a byte; the driver adopts it if its own timeout is
    /// longer or 0.
    IoTimeout(u32),
    /// All is done; close the connection once the output is written. No further event follows.
    Finished(Outcome),
}

/// What kind of text a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// An entry could not be brought up to date: the session will end with code 23.
    TransferError,
    /// For the user.
    Info,
    /// An error.
    Error,
    /// A warning.
    Warning,
}

/// An entry that the daemon removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Path below the destination; not to be trusted.
    pub name: Vec<u8>,
    /// Whether it was a directory.
    pub directory: bool,
}

/// How many entries were removed, by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteStats {
    /// Regular files.
    pub files: u32,
    /// Directories.
    pub dirs: u32,
    /// Symlinks.
    pub symlinks: u32,
    /// Devices.
    pub devices: u32,
    /// FIFOs and sockets.
    pub specials: u32,
}

/// Item flags (protocol note, section 7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Iflags(pub u16);

impl Iflags {
    /// Access time differs.
    pub const ATIME: u16 = 0x0001;
    /// Checksum, symlink target or device differs.
    pub const CHANGE: u16 = 0x0002;
    /// Size differs; of a symlink: its time could not be set.
    pub const SIZE: u16 = 0x0004;
    /// Modification time differs.
    pub const TIME: u16 = 0x0008;
    /// Permissions differ.
    pub const PERMS: u16 = 0x0010;
    /// Owner differs.
    pub const OWNER: u16 = 0x0020;
    /// Group differs.
    pub const GROUP: u16 = 0x0040;
    /// ACL differs.
    pub const ACL: u16 = 0x0080;
    /// Extended attributes differ.
    pub const XATTR: u16 = 0x0100;
    /// Creation time differs.
    pub const CRTIME: u16 = 0x0400;
    /// A basis type follows.
    pub const BASIS_TYPE_FOLLOWS: u16 = 0x0800;
    /// A name follows.
    pub const XNAME_FOLLOWS: u16 = 0x1000;
    /// New at the receiver.
    pub const IS_NEW: u16 = 0x2000;
    /// Done by the receiver alone: mkdir, link, copy.
    pub const LOCAL_CHANGE: u16 = 0x4000;
    /// Data is wanted.
    pub const TRANSFER: u16 = 0x8000;

    /// Whether any bit of `flags` is set.
    pub fn has(self, flags: u16) -> bool {
        self.0 & flags != 0
    }
}

/// Which file at the receiver the block sums describe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Basis(pub u8);

impl Basis {
    /// The destination file itself.
    pub const DESTINATION: Basis = Basis(0x80);
    /// The file in the partial directory.
    pub const PARTIAL_DIR: Basis = Basis(0x81);
}

/// What the daemon's generator says about an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Which entry.
    pub ndx: Ndx,
    /// What differs; 0 with `report_all` for an entry that was up to date.
    pub iflags: Iflags,
    /// The basis, if it is not the destination file.
    pub basis: Option<Basis>,
    /// A name that came along: the target of a hard link, the name of a fuzzy basis. Not to be trusted.
    pub xname: Option<Vec<u8>>,
    /// With extended attributes, where [`Iflags::XATTR`] asks for it: the set of attributes that this entry shares
    /// with others; values that were asked for go with the next item of the set.
    pub(super) xattrs: Option<u32>,
}

/// Values of extended attributes that the daemon wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValuesRequest {
    /// Which entry.
    pub ndx: Ndx,
    /// The attributes' names, without NUL.
    pub names: Vec<Vec<u8>>,
}

/// A file that the daemon wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which entry; always a regular file of the list.
    pub ndx: Ndx,
    /// What the receiver has of it.
    pub sums: Arc<BlockSums>,
    /// Whether the receiver overwrites its basis while it writes: blocks then may only be used at their own or at a
    /// smaller output offset.
    pub in_place: bool,
    /// Whether the first answer failed its checksum.
    pub redo: bool,
}

impl Request {
    /// How the basis lies.
    pub fn header(&self) -> SumHeader {
        self.sums.header()
    }
}

/// Why a file is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSend {
    /// It is gone: the session ends with 24.
    Gone,
    /// It could not be read: the session ends with 23.
    Other,
    /// The caller keeps it back: no error.
    Withheld,
}

/// The end of a session that ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// rsync's exit code: 0, 23, 24 or 25.
    pub exit: ExitCode,
    /// How many transfer errors the daemon reported.
    pub transfer_errors: u64,
    /// I/O errors of both sides.
    pub io_errors: IoErrors,
    /// What was removed, if the daemon said so.
    pub deleted: Option<DeleteStats>,
}
