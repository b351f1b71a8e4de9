//! Identities of the kernel's objects, each a type of its own.

use std::fmt;

/// Index of a watched file system, given at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fs(pub usize);

/// An inode number. XFS uses all 64 bits. On btrfs, whose subvolumes each have numbers of their own, it is the
/// subvolume's number above the inode's, as [`ebbtide_abi::number_in`] puts them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

/// Tells apart the files that used one inode number one after the other. 0 is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u32);

/// An inode number with what tells its users apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode {
    /// Its number.
    pub ino: Ino,
    /// Which of the number's users it is.
    pub generation: Generation,
}

/// One name in a directory: bytes without a slash or NUL, never empty, `.` or `..`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Takes a name; `None` for bytes that are no directory entry.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let fits = !matches!(bytes, b"" | b"." | b"..") && !bytes.contains(&b'/') && !bytes.contains(&0);
        fits.then(|| Name(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// A file handle as the kernel gives it: `struct file_handle`, its header of 8 bytes included.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Handle(Box<[u8]>);

impl Handle {
    /// Takes the bytes of a `struct file_handle`; `None` when they are too short or longer than they say.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let length = u32::from_ne_bytes(*bytes.first_chunk::<4>()?) as usize;
        (bytes.len() == HEADER + length).then(|| Handle(bytes.into()))
    }

    /// The bytes, as `open_by_handle_at(2)` takes them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn kind(&self) -> i32 {
        i32::from_ne_bytes(self.0[4..HEADER].try_into().expect("Handle::new checked the header"))
    }

    fn body(&self) -> &[u8] {
        &self.0[HEADER..]
    }

    fn build(kind: i32, body: &[&[u8]]) -> Self {
        let body = body.concat();
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        // At most 20 bytes: the cast is lossless.
        bytes.extend_from_slice(&(body.len() as u32).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&body);
        Handle(bytes.into())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handle {:#x}:", self.kind())?;
        self.body().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How a file system lays inode and generation into its handles.
///
/// Handles are opaque by contract. These layouts have been stable since they were introduced, since NFS clients
/// keep handles across reboots; a handle of another shape is simply not taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleForm {
    /// `FILEID_INO32_GEN` (1): u32 inode, u32 generation, of which 0 stands for any. ext4.
    /// Kernel: fs/libfs.c `generic_encode_ino32_fh`, fs/ext4/super.c `ext4_nfs_get_inode`.
    Ino32,
    /// The same of an XFS that is mounted with `inode32`, which takes generation 0 for a generation.
    /// Kernel: fs/xfs/xfs_export.c `xfs_nfs_get_inode`.
    Xfs32,
    /// `FILEID_INO32_GEN | XFS_FILEID_TYPE_64FLAG` (0x81): u64 inode, u32 generation. Kernel: fs/xfs/xfs_export.h.
    Xfs64,
    /// `FILEID_BTRFS_WITHOUT_PARENT` (0x4d): u64 inode, u64 subvolume, u32 generation. Kernel: fs/btrfs/export.h.
    Btrfs,
    /// tmpfs: type 1, u32 generation, u32 low and u32 high half of the inode. Kernel: mm/shmem.c `shmem_encode_fh`.
    Shmem,
    /// None of these.
    Opaque,
}

impl HandleForm {
    /// The form of this handle, which the kernel gave for an object on a file system of this type.
    pub fn of(fs_type: &str, handle: &Handle) -> Self {
        match (fs_type, handle.kind(), handle.body().len()) {
            ("tmpfs", 1, 12) => HandleForm::Shmem,
            ("btrfs", 0x4d, 20) => HandleForm::Btrfs,
            ("ext2" | "ext3" | "ext4", 1, 8) => HandleForm::Ino32,
            ("xfs", 1, 8) => HandleForm::Xfs32,
            ("xfs", 0x81, 12) => HandleForm::Xfs64,
            _ => HandleForm::Opaque,
        }
    }

    /// The handle of an inode; `None` where this form cannot say it.
    pub fn encode(self, ino: Ino, generation: Generation) -> Option<Handle> {
        let (ino, generation) = (ino.0, generation.0.to_ne_bytes());
        match self {
            HandleForm::Ino32 | HandleForm::Xfs32 => {
                let ino = u32::try_from(ino).ok()?;
                Some(Handle::build(1, &[&ino.to_ne_bytes(), &generation]))
            }
            HandleForm::Xfs64 => Some(Handle::build(0x81, &[&ino.to_ne_bytes(), &generation])),
            HandleForm::Btrfs => {
                let (subvolume, ino) = ebbtide_abi::parts_of(ino);
                Some(Handle::build(0x4d, &[&ino.to_ne_bytes(), &subvolume.to_ne_bytes(), &generation]))
            }
            HandleForm::Shmem => {
                let (low, high) = (ino as u32, (ino >> 32) as u32);
                Some(Handle::build(1, &[&generation, &low.to_ne_bytes(), &high.to_ne_bytes()]))
            }
            HandleForm::Opaque => None,
        }
    }

    /// The number that `stat` shows for an inode.
    pub fn shown(self, ino: Ino) -> Ino {
        if self == HandleForm::Btrfs { Ino(ebbtide_abi::parts_of(ino.0).1) } else { ino }
    }

    /// The inode with the number that `stat` shows for an entry of this directory; as far as can be known: on btrfs the
    /// entry may be another subvolume.
    pub fn entry_of(self, dir: &Handle, shown: Ino) -> Ino {
        if self != HandleForm::Btrfs {
            return shown;
        }
        let subvolume = self.decode(dir).map_or(0, |dir| ebbtide_abi::parts_of(dir.ino.0).0);
        Ino(ebbtide_abi::number_in(subvolume, shown.0).unwrap_or(shown.0))
    }

    /// The inode that a handle names; `None` when the handle has another form.
    pub fn decode(self, handle: &Handle) -> Option<Inode> {
        let body = handle.body();
        let (ino, generation) = match (self, handle.kind(), body.len()) {
            (HandleForm::Ino32 | HandleForm::Xfs32, 1, 8) => (u64::from(u32_at(body, 0)), u32_at(body, 4)),
            (HandleForm::Xfs64, 0x81, 12) => (u64_at(body, 0), u32_at(body, 8)),
            (HandleForm::Btrfs, 0x4d, 20) => {
                (ebbtide_abi::number_in(u64_at(body, 8), u64_at(body, 0))?, u32_at(body, 16))
            }
            (HandleForm::Shmem, 1, 12) => {
                (u64::from(u32_at(body, 4)) | u64::from(u32_at(body, 8)) << 32, u32_at(body, 0))
            }
            _ => return None,
        };
        Some(Inode { ino: Ino(ino), generation: Generation(generation) })
    }
}

/// `handle_bytes` and `handle_type`.
const HEADER: usize = 8;

fn u32_at(body: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(body[at..at + 4].try_into().expect("callers matched the length"))
}

fn u64_at(body: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(body[at..at + 8].try_into().expect("callers matched the length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_what_it_wrote() {
        let (ino, generation) = (Ino(0xfeed_f00d), Generation(77));
        for form in
            [HandleForm::Ino32, HandleForm::Xfs32, HandleForm::Xfs64, HandleForm::Btrfs, HandleForm::Shmem]
        {
            let handle = form.encode(ino, generation).unwrap();
            assert_eq!(form.decode(&handle), Some(Inode { ino, generation }), "{form:?}");
            assert_eq!(Handle::new(handle.as_bytes()), Some(handle));
        }
    }

    #[test]
    fn equal_numbers_in_two_subvolumes_are_two_inodes() {
        let (here, there) =
            (Handle::build(0x4d, &[&raw_btrfs(257, 256)]), Handle::build(0x4d, &[&raw_btrfs(257, 5)]));
        let inodes = [&here, &there].map(|handle| HandleForm::Btrfs.decode(handle).unwrap());
        assert_ne!(inodes[0].ino, inodes[1].ino);
        assert_eq!(inodes.map(|inode| HandleForm::Btrfs.shown(inode.ino)), [Ino(257); 2]);
        assert_eq!(HandleForm::Btrfs.encode(inodes[0].ino, inodes[0].generation), Some(here.clone()));
        assert_eq!(HandleForm::Btrfs.entry_of(&here, Ino(257)), inodes[0].ino);
    }

    fn raw_btrfs(ino: u64, subvolume: u64) -> Vec<u8> {
        [&ino.to_ne_bytes()[..], &subvolume.to_ne_bytes(), &7u32.to_ne_bytes()].concat()
    }

    #[test]
    fn a_number_too_large_for_its_form_gives_no_handle() {
        assert_eq!(HandleForm::Ino32.encode(Ino(1 << 32), Generation(1)), None);
        assert_eq!(HandleForm::Opaque.encode(Ino(1), Generation(1)), None);
    }

    #[test]
    fn the_same_bytes_mean_different_inodes_on_different_file_systems() {
        let handle = HandleForm::Shmem.encode(Ino(5), Generation(9)).unwrap();
        assert_eq!(HandleForm::of("tmpfs", &handle), HandleForm::Shmem);
        assert_eq!(HandleForm::of("ext4", &handle), HandleForm::Opaque);
        assert_eq!(HandleForm::Ino32.decode(&handle), None);
    }

    #[test]
    fn bytes_that_are_no_name_or_handle_are_refused() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert_eq!(Name::new(bad), None);
        }
        assert!(Name::new(b"new\nline\xff").is_some());
        assert_eq!(Handle::new(&[9, 0, 0, 0, 1, 0, 0, 0, 1]), None);
        assert_eq!(Handle::new(b"abc"), None);
    }
}
