//! ACLs and extended attributes of an entry, and their form on the wire (protocol note, sections 5.9 and 5.10).

use md5::{Digest, Md5};

use super::list::IdKind;
use crate::wire::Reader;
use crate::wire::varint::{put_varint, varint};

/// What an entry has besides what `stat` says. Most entries have none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// The access ACL as the file system has it; empty where the mode says all. Sent with `acls`, but for symlinks.
    pub access: Acl,
    /// A directory's default ACL; empty where it has none. Sent with `acls`.
    pub default: Acl,
    /// Extended attributes. Sent with `xattrs`.
    pub xattrs: Xattrs,
}

impl Attributes {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.access.is_empty() && self.default.is_empty() && self.xattrs.is_empty()
    }
}

/// A POSIX ACL. Permissions are 0 to 7.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Acl {
    /// Of the owner.
    pub user: Option<u8>,
    /// Of the owning group.
    pub group: Option<u8>,
    /// What named users and groups and the owning group get at most.
    pub mask: Option<u8>,
    /// Of everybody else.
    pub other: Option<u8>,
    /// Named users and groups, in the order in which they came.
    pub names: Vec<AclName>,
}

/// What an ACL grants to one user or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AclName {
    /// Whether it is a user or a group.
    pub kind: IdKind,
    /// Its number.
    pub id: u32,
    /// 0 to 7.
    pub permissions: u8,
}

impl Acl {
    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        *self == Acl::default()
    }

    /// What of an access ACL the mode does not say already. Peer: rsync's acls.c leaves the same out before it sends.
    #[must_use]
    pub(super) fn beyond_mode(mut self, mode: u32) -> Acl {
        // Lossless: three bits.
        let of_group = (mode >> 3 & 7) as u8;
        if self.mask.is_none() || self.group == Some(of_group) {
            self.group = None;
        }
        if !self.names.is_empty() && self.mask == Some(of_group) {
            self.mask = None;
        }
        Acl { user: None, other: None, ..self }
    }

    /// Appends it in full. `name` tells the name of an id where it is to travel with it, which is so only with
    /// incremental recursion, and the first time that the id appears.
    pub(super) fn put<'n>(&self, out: &mut Vec<u8>, mut name: impl FnMut(IdKind, u32) -> Option<&'n [u8]>) {
        let fixed = [self.user, self.group, self.mask, self.other];
        let present = |(at, permissions): (usize, &Option<u8>)| u8::from(permissions.is_some()) << at;
        let flags: u8 = fixed.iter().enumerate().map(present).sum();
        out.push(flags | if self.names.is_empty() { 0 } else { NAMED });
        fixed.into_iter().flatten().for_each(|permissions| put_varint(out, permissions.into()));
        if self.names.is_empty() {
            return;
        }
        put_varint(out, self.names.len() as i32);
        for named in &self.names {
            let name = name(named.kind, named.id);
            let user = if named.kind == IdKind::User { IS_USER } else { 0 };
            let follows = if name.is_some() { NAME_FOLLOWS } else { 0 };
            put_varint(out, named.id as i32);
            put_varint(out, i32::from(named.permissions) << 2 | user | follows);
            if let Some(name) = name {
                // Lossless: names of ids have at most 255 bytes.
                out.push(name.len() as u8);
                out.extend_from_slice(name);
            }
        }
    }
}

/// The extended attributes of one entry: sorted by name, long values as their length and MD5 only. Kept in the form
/// in which they travel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Xattrs {
    /// The count and the attributes, as on the wire.
    literal: Box<[u8]>,
}

impl Default for Xattrs {
    fn default() -> Self {
        Xattrs { literal: Box::new([0]) }
    }
}

impl Xattrs {
    /// The most attributes that daemons take for one entry.
    pub const LIMIT: usize = 65_536;

    /// Longer values travel only when the daemon asks for them.
    pub const LONGEST_INLINE: usize = 32;

    /// From names (without NUL, each once) and values; in any order. What is beyond [`Xattrs::LIMIT`] is left out.
    pub fn new<'a>(attributes: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Xattrs {
        let mut attributes: Vec<_> = attributes.into_iter().collect();
        attributes.sort_unstable_by_key(|(name, _)| *name);
        attributes.truncate(Xattrs::LIMIT);
        let mut literal = Vec::new();
        put_varint(&mut literal, attributes.len() as i32);
        for (name, value) in attributes {
            put_varint(&mut literal, name.len() as i32 + 1);
            put_varint(&mut literal, value.len() as i32);
            literal.extend_from_slice(name);
            literal.push(0);
            if value.len() > Xattrs::LONGEST_INLINE {
                literal.extend_from_slice(&Md5::digest(value));
            } else {
                literal.extend_from_slice(value);
            }
        }
        Xattrs { literal: literal.into_boxed_slice() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self.literal == [0]
    }

    /// Appends them in full.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.literal);
    }

    /// The name of the attribute with this number, counted from 1, if its value is one that did not travel inline.
    pub(crate) fn abbreviated(&self, number: u32) -> Option<&[u8]> {
        let mut reader = Reader::new(&self.literal);
        let count = varint(&mut reader).ok()?;
        let mut found = None;
        for _ in 0..count.min(i32::try_from(number).ok()?) {
            let name_len = usize::try_from(varint(&mut reader).ok()?).ok()?;
            let value_len = usize::try_from(varint(&mut reader).ok()?).ok()?;
            let name = reader.take(name_len).ok()?;
            let long = value_len > Xattrs::LONGEST_INLINE;
            reader.take(if long { DIGEST_LEN } else { value_len }).ok()?;
            found = name.split_last().filter(|_| long).map(|(_, name)| name);
        }
        found.filter(|_| (1..=count).contains(&(number as i32)))
    }
}

/// In the byte before an ACL's permissions: a list of names follows them.
const NAMED: u8 = 16;

/// With a named entry's permissions: the name of its id follows.
const NAME_FOLLOWS: i32 = 1;

/// With a named entry's permissions: it is a user.
const IS_USER: i32 = 2;

/// Bytes of the MD5 that stands for a long value.
const DIGEST_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn named(kind: IdKind, id: u32, permissions: u8) -> AclName {
        AclName { kind, id, permissions }
    }

    fn bytes(acl: &Acl) -> Vec<u8> {
        let mut out = Vec::new();
        acl.put(&mut out, |_, _| None);
        out
    }

    #[test]
    fn an_access_acl_is_sent_as_a_stock_client_sends_it() {
        let names = vec![named(IdKind::User, 1000, 6), named(IdKind::Group, 1, 5)];
        let acl = Acl { user: Some(6), group: Some(4), mask: Some(7), other: Some(4), names };
        let expected = [0x12, 4, 2, 0x83, 0xe8, 0x1a, 1, 0x14];
        assert_eq!(bytes(&acl.beyond_mode(0o100_674)), expected);
    }

    #[test]
    fn a_mask_stays_where_nobody_is_named_or_a_chmod_changed_the_mode() {
        let acl = Acl { user: Some(6), group: Some(4), mask: Some(4), other: Some(4), names: Vec::new() };
        assert_eq!(bytes(&acl.clone().beyond_mode(0o100_644)), [4, 4]);
        let names = vec![named(IdKind::User, 7, 7)];
        let acl = Acl { names, ..acl };
        assert_eq!(bytes(&acl.clone().beyond_mode(0o100_644)), [0x10, 1, 7, 0x1e]);
        assert_eq!(bytes(&acl.beyond_mode(0o100_604)), [0x16, 4, 4, 1, 7, 0x1e]);
    }

    #[test]
    fn a_default_acl_is_sent_whole_and_names_follow_where_they_are_given() {
        let names = vec![named(IdKind::User, 1000, 6)];
        let acl = Acl { user: Some(7), group: Some(5), mask: Some(7), other: Some(0), names };
        let mut out = Vec::new();
        acl.put(&mut out, |_, _| Some(b"ebb"));
        assert_eq!(out, [&[0x1f, 7, 5, 7, 0, 1, 0x83, 0xe8, 0x1b, 3][..], b"ebb"].concat());
    }

    #[test]
    fn an_acl_that_the_mode_tells_is_empty() {
        let acl = Acl { user: Some(6), group: Some(4), mask: None, other: Some(0), names: Vec::new() };
        assert_eq!(bytes(&acl.beyond_mode(0o100_640)), [0]);
    }

    #[test]
    fn extended_attributes_are_sent_as_a_stock_client_sends_them() {
        let long = [b'x'; 40];
        let xattrs =
            Xattrs::new([(&b"user.one"[..], &b"1234"[..]), (b"user.big", &long), (b"user.rsync.foo", b"q")]);
        let mut out = Vec::new();
        xattrs.put(&mut out);
        let digest = b"\x2e\x5a\x5d\xf3\x0e\xbd\x85\x39\x44\x5b\xa6\xe0\xf6\x38\xb6\xf9";
        let expected = [
            &b"\x03\x09\x28user.big\0"[..],
            &digest[..],
            b"\x09\x04user.one\x001234\x0f\x01user.rsync.foo\0q",
        ];
        assert_eq!(out[..12], expected.concat()[..12]);
        assert_eq!(out[28..], expected.concat()[28..]);
        assert_eq!(xattrs.abbreviated(1), Some(&b"user.big"[..]));
        assert_eq!([0, 2, 3, 4, u32::MAX].map(|number| xattrs.abbreviated(number)), [None; 5]);
    }

    #[test]
    fn no_attributes_are_an_empty_list() {
        assert!(Xattrs::new([]).is_empty() && Attributes::default().is_empty());
        let mut out = Vec::new();
        Xattrs::default().put(&mut out);
        assert_eq!(out, [0]);
    }
}
