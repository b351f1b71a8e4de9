//! Which entries of the tree the demo changes: each of a fitting size, none of them twice.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Files and folders below the source that no change has taken yet. Paths are relative to it.
pub(crate) struct Picks {
    source: PathBuf,
    files: Vec<(PathBuf, u64)>,
    folders: Vec<(PathBuf, usize)>,
}

impl Picks {
    /// Reads the tree, in the order of the names.
    pub(crate) fn new(source: &Path) -> Result<Self> {
        let mut picks = Self { source: source.to_owned(), files: Vec::new(), folders: Vec::new() };
        picks.walk(Path::new(""))?;
        picks.files.sort();
        picks.folders.sort();
        Ok(picks)
    }

    /// Lists `folder` and what is below it. Returns how many files and folders there are.
    fn walk(&mut self, folder: &Path) -> Result<usize> {
        let full = self.source.join(folder);
        let mut entries = 0;
        for entry in fs::read_dir(&full).with_context(|| format!("list {}", full.display()))? {
            let entry = entry.with_context(|| format!("list {}", full.display()))?;
            let name = folder.join(entry.file_name());
            let metadata = entry.metadata().with_context(|| format!("look at {}", name.display()))?;
            if metadata.is_dir() {
                entries += 1 + self.walk(&name)?;
            } else if metadata.is_file() {
                entries += 1;
                self.files.push((name, metadata.len()));
            }
        }
        if !folder.as_os_str().is_empty() {
            self.folders.push((folder.to_owned(), entries));
        }
        Ok(entries)
    }

    /// Takes the folder whose number of files and folders is nearest to `entries`.
    pub(crate) fn folder(&mut self, entries: usize) -> Option<(PathBuf, usize)> {
        let (folder, count) = self.folders.iter().min_by_key(|(_, count)| count.abs_diff(entries))?.clone();
        self.files.retain(|(file, _)| !file.starts_with(&folder));
        self.folders.retain(|(other, _)| !other.starts_with(&folder) && !folder.starts_with(other));
        Some((folder, count))
    }

    /// Takes a file of a size in `sizes`, or makes one.
    pub(crate) fn file(&mut self, sizes: Range<u64>) -> Result<PathBuf> {
        let fitting = self.files.iter().position(|(_, size)| sizes.contains(size));
        if let Some(at) = fitting {
            return Ok(self.files.remove(at).0);
        }
        let name = PathBuf::from(format!("made-for-the-demo-{}-bytes", sizes.start));
        let text: String = (0..sizes.start.div_ceil(9)).map(|line| format!("{line:08}\n")).collect();
        let full = self.source.join(&name);
        fs::write(&full, text).with_context(|| format!("write {}", full.display()))?;
        Ok(name)
    }

    /// Takes the largest file. Returns its size too.
    pub(crate) fn largest(&mut self) -> Result<(PathBuf, u64)> {
        let at = self.files.iter().enumerate().max_by_key(|(_, (_, size))| *size).map(|(at, _)| at);
        Ok(self.files.remove(at.context("the tree holds no file")?))
    }

    /// Takes up to `count` files of a size in `sizes`, spread over the tree.
    pub(crate) fn many(&mut self, count: usize, sizes: Range<u64>) -> Vec<PathBuf> {
        let fitting: Vec<PathBuf> = self
            .files
            .iter()
            .filter(|(_, size)| sizes.contains(size))
            .map(|(file, _)| file.clone())
            .collect();
        let step = (fitting.len() / count.max(1)).max(1);
        let taken: Vec<PathBuf> = fitting.into_iter().step_by(step).take(count).collect();
        self.files.retain(|(file, _)| taken.binary_search(file).is_err());
        taken
    }
}
