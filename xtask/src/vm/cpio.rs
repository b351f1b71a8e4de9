//! The archive that a kernel unpacks into its first file system: cpio's "newc" form, of which several may follow one
//! another. Kernel: Documentation/driver-api/early-userspace/buffer-format.rst.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

/// An archive that is being written. Folders above an entry come by themselves.
pub(super) struct Archive {
    out: BufWriter<File>,
    folders: BTreeSet<PathBuf>,
    entries: u32,
}

impl Archive {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let out = File::create(path).with_context(|| format!("create {}", path.display()))?;
        Ok(Archive { out: BufWriter::new(out), folders: BTreeSet::new(), entries: 0 })
    }

    /// A folder, and those above it.
    pub(super) fn folder(&mut self, path: &str) -> Result<()> {
        let mut whole = PathBuf::new();
        let parts = Path::new(path).components();
        for part in parts.filter(|part| matches!(part, Component::Normal(_))) {
            whole.push(part);
            if self.folders.insert(whole.clone()) {
                self.entry(&whole, 0o040_755, (0, 0), b"")?;
            }
        }
        Ok(())
    }

    /// A file with this content. `mode` holds the permission bits.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.beneath(path)?;
        self.entry(Path::new(path), 0o100_000 | mode, (0, 0), content)
    }

    /// A copy of a file of this machine, with its permission bits.
    pub(super) fn copy(&mut self, path: &str, from: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let content = fs::read(from).with_context(|| format!("read {}", from.display()))?;
        let mode = fs::metadata(from).with_context(|| format!("look at {}", from.display()))?.permissions();
        self.file(path, mode.mode() & 0o777, &content)
    }

    /// A symlink.
    pub(super) fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        self.beneath(path)?;
        self.entry(Path::new(path), 0o120_777, (0, 0), target.as_bytes())
    }

    /// A character device.
    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.beneath(path)?;
        self.entry(Path::new(path), 0o020_600, (major, minor), b"")
    }

    /// The end of the archive. Another one may be appended to the file.
    pub(super) fn finish(mut self) -> Result<()> {
        self.entry(Path::new("TRAILER!!!"), 0, (0, 0), b"")?;
        self.out.flush().context("write the archive")
    }

    fn beneath(&mut self, path: &str) -> Result<()> {
        let above = Path::new(path).parent().and_then(Path::to_str).unwrap_or_default().to_owned();
        self.folder(&above)
    }

    fn entry(&mut self, path: &Path, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        let name = path.to_str().context("names in the archive are ours")?.trim_start_matches('/');
        let size = u32::try_from(content.len()).with_context(|| format!("{name} is larger than 4 GiB"))?;
        let name_size = u32::try_from(name.len() + 1).context("names in the archive are short")?;
        self.entries += 1;
        let (links, time) = (1, 0);
        let fields = [self.entries, mode, 0, 0, links, time, size, 0, 0, device.0, device.1, name_size, 0];
        let header = fields.iter().fold(String::from("070701"), |text, field| text + &format!("{field:08x}"));
        let head = header.len() + name.len() + 1;
        self.write(header.as_bytes())?;
        self.write(name.as_bytes())?;
        self.write(&ZEROS[..1 + padding(head)])?;
        self.write(content)?;
        self.write(&ZEROS[..padding(content.len())])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).context("write the archive")
    }
}

/// Everything begins at a multiple of four.
fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

const ZEROS: [u8; 4] = [0; 4];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_read_by_another_program() {
        let path = std::env::temp_dir().join(format!("ebbtide-cpio-{}", std::process::id()));
        let mut archive = Archive::create(&path).unwrap();
        archive.file("a/b/file", 0o644, b"12345").unwrap();
        archive.symlink("a/link", "b/file").unwrap();
        archive.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let heads: Vec<usize> = (0..bytes.len() - 5).filter(|&at| &bytes[at..at + 6] == b"070701").collect();
        assert!(heads.iter().all(|at| at % 4 == 0));
        let names: Vec<&[u8]> =
            heads.iter().map(|at| bytes[at + 110..].split(|&byte| byte == 0).next().unwrap()).collect();
        assert_eq!(names, [&b"a"[..], b"a/b", b"a/b/file", b"a/link", b"TRAILER!!!"]);
    }
}
