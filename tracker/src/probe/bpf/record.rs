//! Records as they come out of the ring.

use std::mem::offset_of;

use ebbtide_abi::{NAME_MAX, RecordHead, flags};

use super::Slot;

/// An inode was marked for the first time in its epoch, and this is one of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its device.
    pub slot: Slot,
    /// Low half of the epoch of the mark, as [`Epoch::low`](super::Epoch::low).
    pub epoch: u32,
    /// Its number.
    pub ino: u64,
    /// Tells it from former inodes of that number.
    pub generation: u32,
    /// Number of hard links. Only names in the kernel's cache have records.
    pub nlink: u32,
    /// Type and permission bits, as in `st_mode`.
    pub mode: u16,
    /// Which of its names this is, from 0.
    pub alias: u16,
    /// There may be names in the cache that no record tells.
    pub more: bool,
    /// The name was changing while it was read, or is cut: it may be wrong.
    pub torn: bool,
    /// Where it is.
    pub place: Place<'a>,
}

/// Where an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// It has no name yet (fresh), or none in the kernel's cache.
    Nameless,
    /// It is the root of its file system.
    Root,
    /// It is in a directory.
    In {
        /// The directory's inode number; 0 if unknown.
        parent_ino: u64,
        /// The directory's generation.
        parent_generation: u32,
        /// Its name there.
        name: &'a [u8],
    },
}

impl<'a> Record<'a> {
    /// Reads what a program wrote; `None` for bytes that are no record.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(size_of::<RecordHead>())?;
        let word = |at: usize| Some(u32::from_ne_bytes(*head.get(at..)?.first_chunk()?));
        let long = |at: usize| Some(u64::from_ne_bytes(*head.get(at..)?.first_chunk()?));
        let half = |at: usize| Some(u16::from_ne_bytes(*head.get(at..)?.first_chunk()?));
        let bits = word(offset_of!(RecordHead, flags))?;
        let name = rest.get(..usize::from(half(offset_of!(RecordHead, name_len))?))?;
        let place = match bits {
            _ if bits & flags::NAMELESS != 0 => Place::Nameless,
            _ if bits & flags::ROOT != 0 => Place::Root,
            _ => Place::In {
                parent_ino: long(offset_of!(RecordHead, parent_ino))?,
                parent_generation: word(offset_of!(RecordHead, parent_generation))?,
                name,
            },
        };
        Some(Record {
            slot: Slot(word(offset_of!(RecordHead, slot))?),
            epoch: word(offset_of!(RecordHead, epoch))?,
            ino: long(offset_of!(RecordHead, ino))?,
            generation: word(offset_of!(RecordHead, generation))?,
            nlink: word(offset_of!(RecordHead, nlink))?,
            mode: half(offset_of!(RecordHead, mode))?,
            alias: half(offset_of!(RecordHead, alias))?,
            more: bits & flags::MORE != 0,
            torn: bits & (flags::TORN | flags::CUT) != 0 || name.len() > NAME_MAX,
            place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(flags: u32, name: &[u8], room: usize) -> Vec<u8> {
        let longs = [0x1122_3344_5566_7788_u64, 2];
        let words = [7_u32, 9, 10, 11, 3, flags];
        let halves = [0o100_644_u16, name.len() as u16, 1, 0];
        let mut bytes: Vec<u8> = longs.iter().flat_map(|x| x.to_ne_bytes()).collect();
        bytes.extend(words.iter().flat_map(|x| x.to_ne_bytes()));
        bytes.extend(halves.iter().flat_map(|x| x.to_ne_bytes()));
        bytes.extend_from_slice(name);
        bytes.resize(size_of::<RecordHead>() + room, 0xee);
        bytes
    }

    #[test]
    fn a_record_is_read_as_it_was_laid_out() {
        let bytes = bytes(0, b"na\nme\xff", 48);
        let record = Record::parse(&bytes).unwrap();
        assert_eq!((record.slot, record.epoch, record.ino), (Slot(7), 9, 0x1122_3344_5566_7788));
        assert_eq!((record.generation, record.nlink, record.mode, record.alias), (10, 3, 0o100_644, 1));
        let place = Place::In { parent_ino: 2, parent_generation: 11, name: b"na\nme\xff" };
        assert_eq!((record.place, record.more, record.torn), (place, false, false));
    }

    #[test]
    fn flags_are_told_apart() {
        assert_eq!(Record::parse(&bytes(flags::NAMELESS, b"", 48)).unwrap().place, Place::Nameless);
        assert_eq!(Record::parse(&bytes(flags::ROOT, b"/", 48)).unwrap().place, Place::Root);
        assert!(Record::parse(&bytes(flags::MORE, b"x", 48)).unwrap().more);
        assert!(Record::parse(&bytes(flags::TORN, b"x", 48)).unwrap().torn);
        assert!(Record::parse(&bytes(flags::CUT, b"x", 48)).unwrap().torn);
    }

    #[test]
    fn bytes_that_are_too_short_for_what_they_say_are_no_record() {
        let whole = bytes(0, b"0123456789", 10);
        assert!(Record::parse(&whole).is_some());
        assert!((0..whole.len()).all(|len| Record::parse(&whole[..len]).is_none()));
    }
}
