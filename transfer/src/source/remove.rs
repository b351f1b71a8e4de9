//! Removing what was sent, for `--remove-source-files`.

use std::io;

use rustix::fs::AtFlags;

use super::{Meta, Source};

impl Source {
    /// Removes the file or symlink at `name`, unless it is no longer what `sent` says; then `false`.
    ///
    /// Between the look and the removal another process may still put something else there. rsync has the same gap, and
    /// no system call closes it.
    ///
    /// # Errors
    /// It cannot be looked at or removed.
    pub fn remove(&self, root: u16, name: &[u8], sent: &Meta) -> io::Result<bool> {
        let now = self.look(root, name)?.meta;
        let same = (now.kind(), now.size, now.mtime, now.dev, now.ino)
            == (sent.kind(), sent.size, sent.mtime, sent.dev, sent.ino);
        if !same || now.is_dir() {
            return Ok(false);
        }
        let (parent, last) = match name.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&name[..slash], &name[slash + 1..]),
            None => (&b"."[..], name),
        };
        let parent = self.open_way(root, parent)?;
        rustix::fs::unlinkat(parent, last, AtFlags::empty())?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sent_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        let file = dir.path().join("d/file");
        std::fs::write(&file, "one").unwrap();
        let source = Source::open(dir.path()).unwrap();
        let sent = source.look(0, b"d/file").unwrap().meta;
        std::fs::write(&file, "another").unwrap();
        assert!(!source.remove(0, b"d/file", &sent).unwrap());
        let sent = source.look(0, b"d/file").unwrap().meta;
        assert!(source.remove(0, b"d/file", &sent).unwrap());
        assert!(!file.exists());
        let folder = source.look(0, b"d").unwrap().meta;
        assert!(!source.remove(0, b"d", &folder).unwrap());
    }
}
