//! A POSIX ACL as the kernel keeps it in an extended attribute: a version, then entries of a tag, permissions and an
//! id (linux/posix_acl_xattr.h, little-endian).

use ebbtide_wire::flist::{Acl, AclName, IdKind};

/// Reads an ACL; `None` if it is of another form.
pub(super) fn parse(value: &[u8]) -> Option<Acl> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<ENTRY_LEN>();
    if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
        return None;
    }
    let mut acl = Acl::default();
    for [tag0, tag1, perm0, perm1, id @ ..] in entries {
        // Lossless: masked to three bits.
        let permissions = (u16::from_le_bytes([*perm0, *perm1]) & 7) as u8;
        let id = u32::from_le_bytes(*id);
        match u16::from_le_bytes([*tag0, *tag1]) {
            USER_OBJ => acl.user = Some(permissions),
            GROUP_OBJ => acl.group = Some(permissions),
            MASK => acl.mask = Some(permissions),
            OTHER => acl.other = Some(permissions),
            USER => acl.names.push(AclName { kind: IdKind::User, id, permissions }),
            GROUP => acl.names.push(AclName { kind: IdKind::Group, id, permissions }),
            _ => return None,
        }
    }
    Some(acl)
}

const VERSION: u32 = 2;

/// Length of an entry in bytes.
const ENTRY_LEN: usize = 8;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tag: u16, permissions: u16, id: u32) -> Vec<u8> {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    }

    #[test]
    fn the_kernels_form_is_understood() {
        let none = u32::MAX;
        let entries = [
            entry(1, 6, none),
            entry(2, 6, 1000),
            entry(4, 4, none),
            entry(8, 5, 1),
            entry(0x10, 7, none),
            entry(0x20, 0, none),
        ];
        let value = [&2_u32.to_le_bytes()[..], &entries.concat()].concat();
        let expected = Acl {
            user: Some(6),
            group: Some(4),
            mask: Some(7),
            other: Some(0),
            names: vec![
                AclName { kind: IdKind::User, id: 1000, permissions: 6 },
                AclName { kind: IdKind::Group, id: 1, permissions: 5 },
            ],
        };
        assert_eq!(parse(&value), Some(expected));
    }

    #[test]
    fn other_forms_are_not_guessed_at() {
        let version = 2_u32.to_le_bytes();
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&3_u32.to_le_bytes()), None);
        assert_eq!(parse(&[&version[..], &[1, 0, 7]].concat()), None);
        assert_eq!(parse(&[&version[..], &entry(0x40, 7, 0)].concat()), None);
        assert_eq!(parse(&version), Some(Acl::default()));
    }
}
