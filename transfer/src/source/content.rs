//! Reading one regular file: small ones into a buffer, large ones through a map.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt;

use rustix::fs::Advice;

use super::map::Map;
use super::meta::Meta;
use super::root::stat;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    /// From when it was opened, or looked at right before.
    before: Meta,
    /// From right after a read of all of it.
    after: Cell<Option<Meta>>,
    /// `before` is what a list says, and may be old.
    listed: bool,
}

/// The bytes of a file.
#[derive(Debug)]
pub enum Content {
    /// Read into memory.
    Read(Vec<u8>),
    /// Mapped; see [`Content::was_cut`].
    Mapped(Map),
}

/// Files of at least this many bytes are mapped: below, a read costs less than the map and its faults.
const MAP_FROM: u64 = 1 << 20;

/// Smaller files come with the kernel's usual read-ahead.
const READ_AHEAD_FROM: u64 = 128 * 1024;

impl OpenFile {
    pub(super) fn new(file: File, before: Meta) -> OpenFile {
        OpenFile { file, before, after: Cell::new(None), listed: false }
    }

    /// The same with the attributes in a list that was made before.
    pub(super) fn as_listed(file: File, listed: Meta) -> OpenFile {
        OpenFile { listed: true, ..OpenFile::new(file, listed) }
    }

    /// Whether a file of this length is read, and not mapped.
    pub(super) fn reads_at_once(meta: &Meta) -> bool {
        meta.size < MAP_FROM
    }

    /// The attributes when it was opened, or looked at right before.
    pub fn before(&self) -> &Meta {
        &self.before
    }

    /// The attributes now, or right after its content was read, if it was read and not mapped; those of the list where
    /// that is believed and the file was as long as it says.
    ///
    /// # Errors
    /// The file system does not tell.
    pub fn after(&self) -> io::Result<Meta> {
        self.after.get().map_or_else(|| stat(&self.file), Ok)
    }

    /// The content, as long as the file was when it was opened, or shorter if it is by now. `buffer` is used for
    /// files that are read.
    ///
    /// # Errors
    /// Reading or mapping fails, or the file is larger than the address space; `InvalidInput` if it is no regular file,
    /// but something that took the name while it was opened.
    pub fn content(&self, buffer: Vec<u8>) -> io::Result<Content> {
        if self.before.size >= READ_AHEAD_FROM {
            // Only a hint.
            let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::Sequential);
        }
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let length = usize::try_from(self.before.size).map_err(too_large)?;
        if self.before.size >= MAP_FROM {
            return self.map(length);
        }
        let content = self.read(buffer, length)?;
        match (content, self.grown()) {
            (content, None) => Ok(content),
            (Content::Read(buffer), Some(length)) if (length as u64) < MAP_FROM => self.read(buffer, length),
            (_, Some(length)) => self.map(length),
        }
    }

    /// The length of a file that has become longer than it was in the list.
    fn grown(&self) -> Option<usize> {
        let now = self.after.get().filter(|now| self.listed && now.size > self.before.size)?;
        self.after.set(None);
        usize::try_from(now.size).ok()
    }

    fn read(&self, mut buffer: Vec<u8>, length: usize) -> io::Result<Content> {
        // Where the list is believed, one byte more tells whether the file is longer by now, for less than a look.
        let room = length + usize::from(self.listed);
        buffer.resize(room, 0);
        let mut done = 0;
        while done < room {
            match self.file.read_at(&mut buffer[done..], done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.look_after().err().unwrap_or(error)),
            }
            if done == length {
                break;
            }
        }
        let as_listed = self.listed && done as u64 == self.before.size && done == length;
        self.after.set(Some(if as_listed { self.before } else { self.look_after()? }));
        buffer.truncate(done.min(length));
        Ok(Content::Read(buffer))
    }

    fn look_after(&self) -> io::Result<Meta> {
        stat(&self.file).and_then(|now| if now.is_file() { Ok(now) } else { Err(refused()) })
    }

    fn map(&self, length: usize) -> io::Result<Content> {
        // What was cut off before the map would only fault.
        let now = self.look_after()?;
        match length.min(usize::try_from(now.size).unwrap_or(usize::MAX)) {
            0 => Ok(Content::Read(Vec::new())),
            length => Map::new(&self.file, length).map(Content::Mapped),
        }
    }
}

/// What stands at the name is nothing that is read.
pub(super) fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "no longer a regular file")
}

impl Content {
    /// Lets the pages before offset `end` go: they can be read again, and count as our memory no more. Only a map has
    /// such pages.
    pub fn release(&self, end: usize) {
        if let Content::Mapped(map) = self {
            map.release(end);
        }
    }

    /// Whether the file was cut short while it was mapped: what was read behind the cut are zeros.
    pub fn was_cut(&self) -> bool {
        matches!(self, Content::Mapped(map) if map.was_cut())
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Content::Read(bytes) => bytes,
            Content::Mapped(map) => map,
        }
    }
}

impl AsRef<[u8]> for Content {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::*;

    fn open(bytes: &[u8]) -> (tempfile::TempDir, OpenFile) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), bytes).unwrap();
        let file = Source::open(dir.path()).unwrap().open_file(0, b"f").unwrap();
        (dir, file)
    }

    #[test]
    fn small_and_large_files_read_the_same() {
        for length in [0, 1, 5000, MAP_FROM as usize - 1, MAP_FROM as usize, MAP_FROM as usize + 4097] {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
            let (_dir, file) = open(&bytes);
            let content = file.content(Vec::new()).unwrap();
            assert_eq!(matches!(content, Content::Mapped(_)), length as u64 >= MAP_FROM);
            assert!(*content == *bytes, "length {length}");
        }
    }

    #[test]
    fn a_file_cut_short_after_it_was_opened_reads_as_far_as_it_goes() {
        for length in [1000_u64, 3 * MAP_FROM] {
            let (dir, file) = open(&vec![1; length as usize]);
            File::options().write(true).open(dir.path().join("f")).unwrap().set_len(10).unwrap();
            assert_eq!(*file.content(Vec::new()).unwrap(), [1; 10]);
            assert!(file.before().content_differs(&file.after().unwrap()));
        }
    }

    #[test]
    fn a_file_cut_short_while_mapped_reads_zeros_and_says_so() {
        let length = 3 * MAP_FROM;
        let (dir, file) = open(&vec![1; length as usize]);
        let content = file.content(Vec::new()).unwrap();
        assert_eq!(content[0], 1);
        assert!(!content.was_cut());
        File::options().write(true).open(dir.path().join("f")).unwrap().set_len(4096).unwrap();
        assert_eq!(content[..4096].iter().map(|&b| u64::from(b)).sum::<u64>(), 4096);
        assert_eq!(content[4096..].iter().map(|&b| u64::from(b)).sum::<u64>(), 0);
        assert!(content.was_cut());
    }
}
