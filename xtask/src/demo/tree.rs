//! The demo's source tree: a copy of a given folder, or of files that this machine has anyway.

use std::fs::{self, File, FileTimes, Metadata};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::world::process::run;
use crate::world::wait;

/// Files to have at least when the machine's own are taken.
const FILES: u64 = 24_000;

/// Larger ones are left out: they add time and nothing to see.
const LARGEST: u64 = 2 << 20;

/// Where a machine has many files of all kinds, in the order of their use.
const PLACES: [&str; 8] = [
    "/usr/share/doc",
    "/usr/include",
    "/usr/share/perl",
    "/usr/lib/python3",
    "/usr/share/zoneinfo",
    "/usr/share/man",
    "/usr/src",
    "/usr/share",
];

/// What was copied.
pub(crate) struct Summary {
    /// Regular files.
    pub(crate) files: u64,
    /// Folders.
    pub(crate) folders: u64,
    /// Sum of the files' sizes.
    pub(crate) bytes: u64,
    /// Where they come from, in words.
    pub(crate) origin: String,
}

/// What will be copied.
pub(crate) struct Plan {
    folder: Option<PathBuf>,
    entries: Vec<(PathBuf, Metadata)>,
    places: Vec<PathBuf>,
}

impl Plan {
    /// Looks at what there is.
    pub(crate) fn new(folder: Option<&Path>) -> Result<Self> {
        let mut plan = Self { folder: folder.map(Path::to_owned), entries: Vec::new(), places: Vec::new() };
        match folder {
            Some(folder) => plan.add(folder, u64::MAX)?,
            None => plan.add_places()?,
        }
        Ok(plan)
    }

    fn add_places(&mut self) -> Result<()> {
        let large = largest_library();
        for place in places() {
            if self.files() >= FILES {
                break;
            }
            if !self.places.iter().any(|done| place.starts_with(done) || done.starts_with(&place)) {
                self.add(&place, LARGEST)?;
                self.places.push(place);
            }
        }
        self.entries.extend(large);
        Ok(())
    }

    fn add(&mut self, folder: &Path, largest: u64) -> Result<()> {
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            wait::go_on()?;
            let Ok(listing) = fs::read_dir(&folder) else { continue };
            let mut entries: Vec<PathBuf> =
                listing.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
            entries.sort();
            for path in entries {
                let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
                if metadata.is_dir() {
                    folders.push(path.clone());
                }
                let wanted = metadata.is_dir() || metadata.is_symlink() || metadata.len() <= largest;
                let enough = self.folder.is_none() && self.files() >= FILES;
                if wanted && !enough {
                    self.entries.push((path, metadata));
                }
            }
        }
        Ok(())
    }

    fn files(&self) -> u64 {
        self.entries.iter().filter(|(_, metadata)| metadata.is_file()).count() as u64
    }

    fn bytes(&self) -> u64 {
        self.entries
            .iter()
            .filter(|(_, metadata)| metadata.is_file())
            .map(|(_, metadata)| metadata.len())
            .sum()
    }

    /// Bytes that a file system for it should have.
    pub(crate) fn room(&self) -> u64 {
        2 * self.bytes() + 16_384 * self.entries.len() as u64 + (1 << 30)
    }

    /// Inodes that a file system for it should have.
    pub(crate) fn inodes(&self) -> u64 {
        2 * self.entries.len() as u64 + FILES + 20_000
    }

    /// Makes the copy in the empty folder `to`.
    pub(crate) fn copy(&self, to: &Path) -> Result<Summary> {
        let folders = self.entries.iter().filter(|(_, metadata)| metadata.is_dir()).count() as u64;
        let mut summary =
            Summary { files: self.files(), folders, bytes: self.bytes(), origin: self.origin() };
        match &self.folder {
            Some(folder) => {
                run(Command::new("cp").args(["-a", "--one-file-system"]).arg(folder.join(".")).arg(to))?;
            }
            None => {
                self.copy_entries(to)?;
                fill(to, &mut summary)?;
            }
        }
        if summary.files == 0 {
            bail!("{} holds no file", to.display());
        }
        Ok(summary)
    }

    fn origin(&self) -> String {
        match &self.folder {
            Some(folder) => format!("a copy of {}", folder.display().to_string().escape_debug()),
            None => {
                let names: Vec<_> = self.places.iter().map(|place| place.display().to_string()).collect();
                let (first, others) = names.split_at(names.len().min(3));
                let more = if others.is_empty() { "" } else { " and others" };
                format!("copies from this machine's {}{more}", first.join(", "))
            }
        }
    }

    fn copy_entries(&self, to: &Path) -> Result<()> {
        for (path, metadata) in &self.entries {
            wait::go_on()?;
            let target = to.join(path.strip_prefix("/").unwrap_or(path));
            copy_entry(path, metadata, &target).with_context(|| format!("copy {}", path.display()))?;
        }
        Ok(())
    }
}

fn copy_entry(path: &Path, metadata: &Metadata, target: &Path) -> Result<()> {
    if metadata.is_dir() {
        fs::create_dir_all(target)?;
        return Ok(());
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if metadata.is_symlink() {
        symlink(fs::read_link(path)?, target)?;
    } else if metadata.is_file() {
        fs::copy(path, target)?;
        File::open(target)?.set_times(FileTimes::new().set_modified(metadata.modified()?))?;
    }
    Ok(())
}

/// Places of this machine, then those of the toolchain.
fn places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = PLACES.iter().map(PathBuf::from).collect();
    if let Some(home) = std::env::home_dir() {
        let cargo = std::env::var_os("CARGO_HOME").map_or(home.join(".cargo"), PathBuf::from);
        places.push(cargo.join("registry/src"));
        places.push(home.join(".rustup/toolchains"));
    }
    places.retain(|place| place.is_dir());
    places
}

/// One file of some size, so that an edit in the middle of a large file can be shown.
fn largest_library() -> Option<(PathBuf, Metadata)> {
    let listing = fs::read_dir("/usr/lib/x86_64-linux-gnu").or_else(|_| fs::read_dir("/usr/lib")).ok()?;
    let files = listing.filter_map(|entry| {
        let path = entry.ok()?.path();
        let metadata = fs::symlink_metadata(&path).ok()?;
        (metadata.is_file() && metadata.len() <= 64 << 20).then_some((path, metadata))
    });
    files.max_by_key(|(_, metadata)| metadata.len())
}

/// On a bare machine, makes files of text until there are enough; the same ones each time.
fn fill(to: &Path, summary: &mut Summary) -> Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let missing = FILES.saturating_sub(summary.files);
    for number in 0..missing {
        wait::go_on()?;
        let folder = to.join(format!("made/{:03}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
            summary.folders += 1;
        }
        let mut text = String::new();
        for _ in 0..64 + number % 512 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(&format!("{state:016x}\n"));
        }
        summary.bytes += text.len() as u64;
        let file = folder.join(format!("{number}.txt"));
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    }
    if missing > 0 {
        summary.files += missing;
        summary.origin.push_str(&format!(", and {missing} made for this"));
    }
    Ok(())
}
