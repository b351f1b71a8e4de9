//! Going from name to name: the folder of the last one stays open, so that its neighbours cost one step each and not
//! the whole way from the root.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Source;
use super::content::{OpenFile, refused};
use super::meta::Meta;
use super::root::{Look, read_link_in, stat, stat_in};

/// The way to the last name.
///
/// A folder that is moved while it is kept open is still read as what it was when it was opened, as if all had been
/// read at that moment. So keep this for as long as names come one after the other, and no longer.
#[derive(Debug, Default)]
pub struct Steps {
    folder: Option<Folder>,
}

#[derive(Debug)]
struct Folder {
    root: u16,
    /// Below the root, without a slash at its end; empty for the root itself.
    name: Vec<u8>,
    descriptor: OwnedFd,
}

impl Steps {
    /// As [`Source::look`].
    ///
    /// # Errors
    /// As [`Source::look`].
    pub fn look(&mut self, source: &Source, root: u16, name: &[u8]) -> io::Result<Look> {
        let beyond = name.is_empty() || name == b".." || name.ends_with(b"/..");
        let led = source.is_led_by(root, name);
        if beyond || led || !source.is_plain() || !source.wanted().is_nothing() {
            return source.look(root, name);
        }
        let (folder, last) = self.reach(source, root, name)?;
        let meta = stat_in(folder.descriptor.as_fd(), &last)?;
        let link_target = match meta.is_symlink() {
            true => source.links().sent(read_link_in(folder.descriptor.as_fd(), &last)?),
            false => Box::default(),
        };
        Ok(Look { meta, link_target, details: None })
    }

    /// As [`Source::open_file`]. What is no regular file is refused when it is looked at; what takes a name between
    /// that and the opening is opened without waiting for anything, and refused when its content is read.
    ///
    /// # Errors
    /// As [`Source::open_file`].
    pub fn open_file(&mut self, source: &Source, root: u16, name: &[u8]) -> io::Result<OpenFile> {
        if !source.is_plain() {
            return source.open_file(root, name);
        }
        let (folder, last) = self.reach(source, root, name)?;
        let meta = stat_in(folder.descriptor.as_fd(), &last)?;
        if !meta.is_file() {
            return Err(refused());
        }
        let file = File::from(folder.open(&last)?);
        source.await_writers(&file);
        Ok(OpenFile::new(file, meta))
    }

    /// The same for an entry of a list that says that it is a regular file. Where nobody marks changes, that is
    /// believed, as rsync does: what took the name since then is opened without waiting for anything, and refused then.
    ///
    /// # Errors
    /// As [`Source::open_file`].
    pub fn open_listed(
        &mut self,
        source: &Source,
        root: u16,
        name: &[u8],
        listed: &Meta,
    ) -> io::Result<OpenFile> {
        if !source.is_plain() || !source.is_unmarked() || !listed.is_file() {
            return self.open_file(source, root, name);
        }
        let (folder, last) = self.reach(source, root, name)?;
        let file = File::from(folder.open(&last)?);
        if OpenFile::reads_at_once(listed) {
            return Ok(OpenFile::as_listed(file, *listed));
        }
        let meta = stat(&file)?;
        if meta.is_file() { Ok(OpenFile::new(file, meta)) } else { Err(refused()) }
    }

    /// Closes the folder.
    pub fn rest(&mut self) {
        self.folder = None;
    }

    /// The folder of a name, and the name in it.
    fn reach(&mut self, source: &Source, root: u16, name: &[u8]) -> io::Result<(&Folder, CString)> {
        let slash = name.iter().rposition(|byte| *byte == b'/');
        let (way, last) = slash.map_or((&b""[..], name), |at| (&name[..at], &name[at + 1..]));
        if last == b".." {
            return Err(Errno::XDEV.into());
        }
        let last = CString::new(last)?;
        let there = self.folder.take().filter(|folder| folder.root == root && folder.name == way);
        let folder = match there {
            Some(folder) => folder,
            None => Folder { root, name: way.to_vec(), descriptor: source.open_way(root, way)? },
        };
        Ok((self.folder.insert(folder), last))
    }
}

impl Folder {
    fn open(&self, name: &CString) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match self.try_open(name, flags | OFlags::NOATIME) {
            Err(Errno::PERM) => Ok(self.try_open(name, flags)?),
            outcome => Ok(outcome?),
        }
    }

    /// One component that is not followed leads nowhere else, if it is not `..`, which [`Steps::reach`] refuses: the
    /// checks of `openat2`, which cost a tenth of the opening, would find nothing.
    fn try_open(&self, name: &CString, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        loop {
            match rustix::fs::openat(&self.descriptor, name, flags, Mode::empty()) {
                Err(Errno::INTR) => {}
                outcome => return outcome,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree() -> (tempfile::TempDir, Source) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("d/e")).unwrap();
        for name in ["top", "d/one", "d/two", "d/e/three"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("one", dir.path().join("d/link")).unwrap();
        std::os::unix::fs::symlink("d", dir.path().join("way")).unwrap();
        let source = Source::open(dir.path()).unwrap();
        (dir, source)
    }

    #[test]
    fn step_by_step_the_same_is_seen_and_read_as_from_the_root() {
        let (_dir, source) = tree();
        let mut steps = Steps::default();
        for name in
            ["top", "d/one", "d/two", "d/e/three", "d/link", "d", ".", "d/e", "top", "d/none", "none/x"]
        {
            let name = name.as_bytes();
            let (near, far) = (steps.look(&source, 0, name), source.look(0, name));
            assert_eq!(near.as_ref().ok(), far.as_ref().ok());
            assert_eq!(near.err().map(|error| error.kind()), far.err().map(|error| error.kind()));
            let text = |file: io::Result<OpenFile>| {
                file.and_then(|file| Ok(file.content(Vec::new())?.to_vec())).map_err(|error| error.kind())
            };
            assert_eq!(text(steps.open_file(&source, 0, name)), text(source.open_file(0, name)));
        }
    }

    #[test]
    fn no_step_leads_through_a_symlink_or_upwards() {
        let (_dir, source) = tree();
        let mut steps = Steps::default();
        for name in ["way/one", "..", "../x", "d/.."] {
            assert!(steps.open_file(&source, 0, name.as_bytes()).is_err(), "{name}");
        }
        for name in ["way/one", "..", "../x", "d/../.."] {
            assert!(steps.look(&source, 0, name.as_bytes()).is_err(), "{name}");
        }
        assert!(steps.open_file(&source, 0, b"d/link").is_err());
    }

    #[test]
    fn a_listed_file_is_read_as_it_is_by_now() {
        let (dir, source) = tree();
        let source = source.unmarked();
        let mut steps = Steps::default();
        let listed = source.look(0, b"d/one").unwrap().meta;
        for length in [3, 0, 5, 100, 2 << 20] {
            fs::write(dir.path().join("d/one"), vec![b'x'; length]).unwrap();
            let file = steps.open_listed(&source, 0, b"d/one", &listed).unwrap();
            assert_eq!(file.content(Vec::new()).unwrap().len(), length);
            assert_eq!(file.after().unwrap().size, length as u64);
        }
    }

    #[test]
    fn what_took_the_name_of_a_listed_file_is_refused() {
        let (dir, source) = tree();
        let source = source.unmarked();
        let listed = source.look(0, b"d/one").unwrap().meta;
        let open = |name: &[u8]| {
            let file = Steps::default().open_listed(&source, 0, name, &listed)?;
            file.content(Vec::new()).map(drop)
        };
        let fifo = dir.path().join("d/fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, fifo, Mode::from_raw_mode(0o600)).unwrap();
        for name in [b"d/fifo", &b"d/e"[..]] {
            assert_eq!(open(name).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert!(open(b"d/link").is_err() && open(b"d/none").is_err() && open(b"d/one").is_ok());
    }

    #[test]
    fn a_fifo_is_not_opened() {
        let (dir, source) = tree();
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("d/fifo"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        );
        made.unwrap();
        let error = Steps::default().open_file(&source, 0, b"d/fifo").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
