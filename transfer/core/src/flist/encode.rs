//! The list on the wire (protocol note, sections 5.1 to 5.4, 5.8 and 5.11).
//!
//! With incremental recursion it comes in parts, one for each directory. What both sides remember from entry to entry
//! goes on from part to part. Names of users and groups stand with the first entry that needs them.
//!
//! Entries travel in rsync's order, but names to be removed come first: 3.4.3 takes a mode of 0 only where it need
//! not be written because the mode before it was 0 too.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::entry::{Device, DirKind, mode};
use super::list::{Extra, FileList, IdKind, Record};
use super::table::Sent;
use crate::proto::{CompatFlags, Dialect, IoErrors, Protocol, ServerOptions};
use crate::sender::Ndx;
use crate::wire::varint::{put_varint, put_varlong};

/// What decides about the layout of entries.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) protocol: Protocol,
    pub(crate) varint_flags: bool,
    pub(crate) safe_end: bool,
    pub(crate) id0_names: bool,
    pub(crate) owner: bool,
    pub(crate) group: bool,
    pub(crate) numeric_ids: bool,
    pub(crate) devices: bool,
    pub(crate) links: bool,
    pub(crate) hard_links: bool,
    pub(crate) acls: bool,
    pub(crate) xattrs: bool,
    pub(crate) atimes: bool,
    /// Length of the checksum of regular files, 0 without `-c`.
    pub(crate) checksum_len: usize,
    /// The list comes in parts.
    pub(crate) incremental: bool,
}

impl Layout {
    pub(crate) fn new(options: &ServerOptions, dialect: &Dialect) -> Self {
        Layout {
            protocol: dialect.protocol,
            varint_flags: dialect.compat.has(CompatFlags::VARINT_FLIST_FLAGS),
            safe_end: dialect.compat.has(CompatFlags::SAFE_FLIST) || dialect.protocol >= Protocol::V31,
            id0_names: dialect.compat.has(CompatFlags::ID0_NAMES),
            owner: options.owner,
            group: options.group,
            numeric_ids: options.numeric_ids,
            devices: options.devices,
            links: options.links,
            hard_links: options.hard_links,
            acls: options.acls,
            xattrs: options.xattrs > 0,
            atimes: options.atimes > 0,
            checksum_len: if options.checksum { dialect.checksum.digest_len() } else { 0 },
            incremental: dialect.compat.has(CompatFlags::INC_RECURSE),
        }
    }
}

/// Encodes lists piece by piece: the only one, or one part after the other.
#[derive(Debug)]
pub(crate) struct ListEncoder {
    list: Option<Arc<FileList>>,
    layout: Layout,
    /// Whether the names to be removed are still under way.
    removals: bool,
    /// Next position in the sorted list.
    next: u32,
    previous: Previous,
    /// How many members each group of hard links has; unknown when there are parts to come.
    members: HashMap<u64, u32>,
    /// Access ACLs, default ACLs and extended attributes that were sent.
    access_sent: Sent,
    default_sent: Sent,
    xattrs_sent: Sent,
    /// User and group ids whose names were sent with an entry.
    named: [HashSet<u32>; 2],
}

/// What both sides remember from entry to entry.
#[derive(Debug, Default)]
struct Previous {
    /// Whether an entry went out.
    begun: bool,
    /// Position on the wire of the first entry of this part.
    start: u32,
    /// Position on the wire of the next entry.
    position: u32,
    name: Vec<u8>,
    running: Running,
    /// Of each group of hard links: position of its first member on the wire, and the state it left.
    groups: HashMap<u64, (u32, Running)>,
    /// The same of earlier parts, whose entries do not stand in for later ones.
    earlier: HashMap<u64, u32>,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Running {
    secs: i64,
    mode: u32,
    uid: u32,
    gid: u32,
    atime: i64,
    major: u32,
}

impl ListEncoder {
    pub(crate) fn new(layout: Layout) -> Self {
        ListEncoder {
            list: None,
            layout,
            removals: true,
            next: 0,
            previous: Previous::default(),
            members: HashMap::new(),
            access_sent: Sent::default(),
            default_sent: Sent::default(),
            xattrs_sent: Sent::default(),
            named: Default::default(),
        }
    }

    /// Begins a list, or the next part of it. `start` is the position of its first entry.
    pub(crate) fn begin(&mut self, list: Arc<FileList>, start: u32) {
        if self.layout.hard_links && !self.layout.incremental {
            for group in list.store.extras.iter().filter_map(|extra| extra.link_group) {
                *self.members.entry(group).or_insert(0) += 1;
            }
        }
        self.previous.begin_part(start);
        // Each part has tables of its own. What it shares with an earlier one is sent in full again.
        for sent in [&mut self.access_sent, &mut self.default_sent, &mut self.xattrs_sent] {
            sent.forget();
        }
        (self.removals, self.next) = (true, 0);
        self.list = Some(list);
    }

    /// Appends entries until `out` has about `limit` bytes; returns whether those were the last ones.
    pub(crate) fn encode(&mut self, out: &mut Vec<u8>, limit: usize) -> bool {
        let Some(list) = self.list.clone() else { return true };
        while out.len() < limit {
            let Some(record) = list.record(Ndx(self.next)) else {
                if !self.removals {
                    return true;
                }
                (self.removals, self.next) = (false, 0);
                continue;
            };
            let ndx = Ndx(self.next);
            self.next += 1;
            if (record.mode == 0) == self.removals {
                self.entry(&list, ndx, record, out);
            }
        }
        false
    }

    /// Appends the end marker and the id lists.
    pub(crate) fn end(&self, io_errors: IoErrors, out: &mut Vec<u8>) {
        let layout = &self.layout;
        // Lossless: three bits.
        let bits = io_errors.bits() as i32;
        if layout.varint_flags {
            put_varint(out, 0);
            put_varint(out, bits);
        } else if bits != 0 && layout.safe_end {
            out.extend_from_slice(&[EXTENDED as u8, (IO_ERROR_END >> 8) as u8]);
            put_varint(out, bits);
        } else {
            out.push(0);
        }
        let Some(list) = self.list.as_ref().filter(|_| !layout.numeric_ids && !layout.incremental) else {
            return;
        };
        let kinds =
            [(layout.owner || layout.acls, IdKind::User), (layout.group || layout.acls, IdKind::Group)];
        for (_, kind) in kinds.into_iter().filter(|(on, _)| *on) {
            self.id_list(list.names(kind), out);
        }
    }

    /// Whether the end marker carries I/O errors.
    pub(crate) fn end_carries_errors(&self) -> bool {
        self.layout.varint_flags || self.layout.safe_end
    }

    fn id_list(&self, names: &[(u32, Vec<u8>)], out: &mut Vec<u8>) {
        for (id, name) in names.iter().filter(|(id, name)| *id != 0 && !name.is_empty()) {
            put_varint(out, *id as i32);
            out.push(name.len() as u8);
            out.extend_from_slice(name);
        }
        put_varint(out, 0);
        if self.layout.id0_names {
            let root = names.iter().find(|(id, _)| *id == 0).map_or(&[][..], |(_, name)| name);
            out.push(root.len() as u8);
            out.extend_from_slice(root);
        }
    }

    fn entry(&mut self, list: &FileList, ndx: Ndx, record: &Record, out: &mut Vec<u8>) {
        let atime = list.atime(ndx);
        let extra = list.store.extra(record).cloned().unwrap_or_default();
        let shared = |group: &u64| self.members.get(group).is_some_and(|count| *count > 1);
        let group = extra
            .link_group
            .filter(|group| self.layout.hard_links && (self.layout.incremental || shared(group)));
        let names = self.new_names(list, record);
        let mut name = std::mem::take(&mut self.previous.scratch);
        list.store.path(record, &mut name);
        let fields = Fields {
            layout: &self.layout,
            record,
            device: extra.device,
            target: list.store.text(&extra.target),
            checksum: list.store.text(&extra.checksum),
            atime,
            group,
            name: &name,
            names,
        };
        fields.put(&mut self.previous, out);
        self.put_attributes(list, record, &extra, out);
        self.previous.begun = true;
        self.previous.position += 1;
        self.previous.scratch = std::mem::replace(&mut self.previous.name, name);
    }

    /// Names of one inode each have theirs, also where the entry says no more than which inode it is.
    fn put_attributes(&mut self, list: &FileList, record: &Record, extra: &Extra, out: &mut Vec<u8>) {
        let shared = &list.store.shared;
        if self.layout.acls && record.mode & mode::TYPE != mode::SYMLINK {
            let with_names = self.layout.incremental && !self.layout.numeric_ids;
            let (named, id0) = (&mut self.named, self.layout.id0_names);
            let mut name = |kind, id| if with_names { new_name(named, id0, list, kind, id) } else { None };
            put_once(&mut self.access_sent, extra.acl, out, |out| {
                shared.acls.get(extra.acl).put(out, &mut name);
            });
            if record.is_dir() {
                put_once(&mut self.default_sent, extra.default_acl, out, |out| {
                    shared.acls.get(extra.default_acl).put(out, &mut name);
                });
            }
        }
        if self.layout.xattrs {
            put_once(&mut self.xattrs_sent, extra.xattrs, out, |out| {
                shared.xattrs.get(extra.xattrs).put(out);
            });
        }
    }

    /// The names of its user and its group that go with this entry: those of ids that no entry before had.
    fn new_names<'a>(&mut self, list: &'a FileList, record: &Record) -> [Option<&'a [u8]>; 2] {
        if !self.layout.incremental || self.layout.numeric_ids {
            return [None, None];
        }
        let (begun, running) = (self.previous.begun, self.previous.running);
        let id0 = self.layout.id0_names;
        let mut unlike = |on: bool, kind: IdKind, id: u32, before: u32| {
            if on && (id != before || !begun) { new_name(&mut self.named, id0, list, kind, id) } else { None }
        };
        [
            unlike(self.layout.owner, IdKind::User, record.uid, running.uid),
            unlike(self.layout.group, IdKind::Group, record.gid, running.gid),
        ]
    }
}

/// The name of an id, if it has one that did not travel before.
fn new_name<'a>(
    named: &mut [HashSet<u32>; 2],
    id0: bool,
    list: &'a FileList,
    kind: IdKind,
    id: u32,
) -> Option<&'a [u8]> {
    let new = (id != 0 || id0) && named[kind as usize].insert(id);
    list.name(kind, id).filter(|_| new)
}

/// Appends a value's number, or the value itself the first time.
fn put_once(sent: &mut Sent, number: u32, out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let reference = sent.reference(number);
    put_varint(out, reference as i32);
    if reference == 0 {
        put(out);
    }
}

impl Previous {
    fn begin_part(&mut self, start: u32) {
        (self.start, self.position) = (start, start);
        self.earlier.extend(self.groups.drain().map(|(group, (position, _))| (group, position)));
    }

    /// Position of the first member of a group, if it went out.
    fn first_of(&self, group: u64) -> Option<u32> {
        let here = self.groups.get(&group).map(|(position, _)| *position);
        here.or_else(|| self.earlier.get(&group).copied())
    }
}

/// One entry, ready to be written.
struct Fields<'a> {
    layout: &'a Layout,
    record: &'a Record,
    device: Device,
    target: &'a [u8],
    checksum: &'a [u8],
    /// Set when the entry shares its inode with another one of the list.
    group: Option<u64>,
    atime: i64,
    name: &'a [u8],
    /// Of its user and its group, where they come along.
    names: [Option<&'a [u8]>; 2],
}

impl Fields<'_> {
    fn put(&self, previous: &mut Previous, out: &mut Vec<u8>) {
        let prefix = self.prefix(previous);
        let flags = self.flags(previous, prefix);
        self.put_flags(flags, out);
        self.put_name(flags, prefix, out);
        if let Some(position) = self.group.and_then(|group| previous.first_of(group)) {
            put_varint(out, position as i32);
        }
        if let Some((_, state)) = self.group.and_then(|group| previous.groups.get(&group)) {
            previous.running = *state;
            return;
        }
        self.put_attributes(flags, out);
        self.put_content(flags, out);
        self.remember(previous);
    }

    /// How much of the name is that of the entry before.
    fn prefix(&self, previous: &Previous) -> usize {
        let pairs = self.name.iter().zip(&previous.name);
        pairs.take(MAX_PREFIX).take_while(|(a, b)| a == b).count()
    }

    fn flags(&self, previous: &Previous, prefix: usize) -> u32 {
        let (record, running, layout) = (self.record, &previous.running, self.layout);
        // rsync itself always writes the ids of the first entry.
        let first = !previous.begun;
        let mut flags = 0;
        let mut set = |on: bool, flag: u32| flags |= if on { flag } else { 0 };
        set(prefix > 0, SAME_NAME);
        set(self.name.len() - prefix > 255, LONG_NAME);
        set(record.secs == running.secs, SAME_TIME);
        set(record.mode == running.mode, SAME_MODE);
        set(!layout.owner || record.uid == running.uid && !first, SAME_UID);
        set(!layout.group || record.gid == running.gid && !first, SAME_GID);
        set(layout.protocol >= Protocol::V31 && record.nanos != 0, MOD_NSEC);
        set(self.has_atime() && self.atime == running.atime, SAME_ATIME);
        if record.is_dir() {
            set(
                self.name == b"." && record.kind == DirKind::Content || record.kind == DirKind::Implied,
                TOP_DIR,
            );
            set(record.kind != DirKind::Content, NO_CONTENT_DIR);
        }
        set(self.has_device() && self.device.major == running.major, SAME_RDEV_MAJOR);
        if let Some(group) = self.group {
            set(true, HLINKED);
            set(previous.first_of(group).is_none(), HLINK_FIRST);
        }
        set(self.names[0].is_some(), USER_NAME_FOLLOWS);
        set(self.names[1].is_some(), GROUP_NAME_FOLLOWS);
        flags
    }

    fn put_flags(&self, flags: u32, out: &mut Vec<u8>) {
        if self.layout.varint_flags {
            put_varint(out, if flags == 0 { EXTENDED } else { flags } as i32);
            return;
        }
        // A single byte of 0 is the end of the list. TOP_DIR means nothing on a file.
        let flags = if flags == 0 && !self.record.is_dir() { TOP_DIR } else { flags };
        if flags == 0 || flags & 0xff00 != 0 {
            out.extend_from_slice(&((flags | EXTENDED) as u16).to_le_bytes());
        } else {
            out.push(flags as u8);
        }
    }

    fn put_name(&self, flags: u32, prefix: usize, out: &mut Vec<u8>) {
        if flags & SAME_NAME != 0 {
            out.push(prefix as u8);
        }
        let suffix = &self.name[prefix..];
        if flags & LONG_NAME != 0 {
            put_varint(out, suffix.len() as i32);
        } else {
            out.push(suffix.len() as u8);
        }
        out.extend_from_slice(suffix);
    }

    fn put_attributes(&self, flags: u32, out: &mut Vec<u8>) {
        let record = self.record;
        put_varlong(out, record.size as i64, 3);
        if flags & SAME_TIME == 0 {
            put_varlong(out, record.secs, 4);
        }
        if flags & MOD_NSEC != 0 {
            put_varint(out, record.nanos as i32);
        }
        if flags & SAME_MODE == 0 {
            out.extend_from_slice(&record.mode.to_le_bytes());
        }
        if self.has_atime() && flags & SAME_ATIME == 0 {
            put_varlong(out, self.atime, 4);
        }
        if flags & SAME_UID == 0 {
            put_varint(out, record.uid as i32);
            put_id_name(self.names[0], out);
        }
        if flags & SAME_GID == 0 {
            put_varint(out, record.gid as i32);
            put_id_name(self.names[1], out);
        }
    }

    fn put_content(&self, flags: u32, out: &mut Vec<u8>) {
        if self.has_device() {
            if flags & SAME_RDEV_MAJOR == 0 {
                put_varint(out, self.device.major as i32);
            }
            put_varint(out, self.device.minor as i32);
        }
        if self.layout.links && self.kind() == mode::SYMLINK {
            put_varint(out, self.target.len() as i32);
            out.extend_from_slice(self.target);
        }
        if self.layout.checksum_len > 0 && self.kind() == mode::FILE {
            let mut checksum = self.checksum.to_vec();
            checksum.resize(self.layout.checksum_len, 0);
            out.extend_from_slice(&checksum);
        }
    }

    fn remember(&self, previous: &mut Previous) {
        let record = self.record;
        let major = if self.has_device() { self.device.major } else { previous.running.major };
        let running = Running {
            secs: record.secs,
            mode: record.mode,
            uid: record.uid,
            gid: record.gid,
            atime: if self.has_atime() { self.atime } else { previous.running.atime },
            major,
        };
        previous.running = running;
        // A member of an earlier part's group stays one: a reference leads to the first of them.
        if let Some(group) = self.group.filter(|group| !previous.earlier.contains_key(group)) {
            previous.groups.insert(group, (previous.position, running));
        }
    }

    fn kind(&self) -> u32 {
        self.record.mode & mode::TYPE
    }

    fn has_atime(&self) -> bool {
        self.layout.atimes && !self.record.is_dir()
    }

    /// Specials carry device numbers only at protocol 30.
    fn has_device(&self) -> bool {
        let special =
            matches!(self.kind(), mode::FIFO | mode::SOCKET) && self.layout.protocol < Protocol::V31;
        self.layout.devices && (special || matches!(self.kind(), mode::BLOCK | mode::CHARACTER))
    }
}

fn put_id_name(name: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(name) = name {
        // Lossless: names were cut to 255 bytes.
        out.push(name.len() as u8);
        out.extend_from_slice(name);
    }
}

const TOP_DIR: u32 = 0x0001;
const SAME_MODE: u32 = 0x0002;
const EXTENDED: u32 = 0x0004;
const SAME_UID: u32 = 0x0008;
const SAME_GID: u32 = 0x0010;
const SAME_NAME: u32 = 0x0020;
const LONG_NAME: u32 = 0x0040;
const SAME_TIME: u32 = 0x0080;
const NO_CONTENT_DIR: u32 = 0x0100;
const SAME_RDEV_MAJOR: u32 = 0x0100;
const HLINKED: u32 = 0x0200;
const USER_NAME_FOLLOWS: u32 = 0x0400;
const GROUP_NAME_FOLLOWS: u32 = 0x0800;
const HLINK_FIRST: u32 = 0x1000;
const IO_ERROR_END: u32 = 0x1000;
const MOD_NSEC: u32 = 0x2000;
const SAME_ATIME: u32 = 0x4000;

/// The shared prefix has a length of one byte.
const MAX_PREFIX: usize = 255;
