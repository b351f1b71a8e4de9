//! The changes of the demo: how each is made, and how one sees at a destination that it stands there.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::picks::Picks;
use crate::world::process::Running;
use crate::world::table::bytes;

/// One change of the source.
pub(crate) struct Change {
    /// It in words.
    pub(crate) what: String,
    /// Makes it below the source. Returns the moment at which it was made.
    pub(crate) make: Box<dyn Fn() -> Result<Instant>>,
    /// Whether it stands in the destination's folder.
    pub(crate) stands: Box<dyn Fn(&Path) -> bool>,
    /// What to say about it in the end, given whether the script brought it over.
    pub(crate) note: Box<dyn Fn(bool) -> Option<String>>,
}

impl Change {
    fn new(
        what: impl Into<String>,
        make: impl Fn() -> Result<Instant> + 'static,
        stands: impl Fn(&Path) -> bool + 'static,
    ) -> Self {
        Self { what: what.into(), make: Box::new(make), stands: Box::new(stands), note: Box::new(|_| None) }
    }

    fn with_note(self, note: impl Fn(bool) -> Option<String> + 'static) -> Self {
        Self { note: Box::new(note), ..self }
    }
}

/// All changes, in the order of the show. What they need is chosen (or made) in the tree now.
pub(crate) fn all(source: &Path, scratch: &Path) -> Result<Vec<Change>> {
    let mut picks = Picks::new(source)?;
    let (moved, moved_entries) = picks.folder(300).context("the tree holds no folder")?;
    let doomed = picks.folder(60);
    let (large, size) = picks.largest()?;
    let mut changes = vec![
        edited(source, picks.file(8_000..64_000)?)?,
        appended(source, picks.file(64_000..512_000)?),
        cut(source, picks.file(32_000..256_000)?)?,
        patched(source, large, size),
        mapped(source, scratch, picks.file(16_384..128_000)?),
        created(source),
        filled_folder(source, picks.many(100, 1..20_000)),
        burst(source, picks.many(500, 1..50_000)),
        renamed(source, picks.file(64_000..1_000_000)?),
        renamed_folder(source, moved, moved_entries),
        restricted(source, picks.file(1..100_000)?)?,
        linked(source, picks.file(1..100_000)?),
        deleted(source, picks.file(1..100_000)?),
    ];
    changes.extend(doomed.map(|(folder, entries)| deleted_folder(source, folder, entries)));
    Ok(changes)
}

fn edited(source: &Path, name: PathBuf) -> Result<Change> {
    let full = source.join(&name);
    let size = fs::metadata(&full).with_context(|| format!("look at {}", full.display()))?.len();
    let at = size / 2;
    let (file, line) = (full.clone(), b"# this line was edited\n");
    Ok(Change::new(
        format!("a line edited in a file of {}", bytes(size)),
        move || timed(|| open(&file)?.write_all_at(line, at)),
        move |root| same(&full, &root.join(&name), at, line.len()),
    ))
}

fn appended(source: &Path, name: PathBuf) -> Change {
    let full = source.join(&name);
    let file = full.clone();
    let lines = "one more line in a log that grows\n".repeat(300);
    Change::new(
        format!("{} appended to a log", bytes(lines.len() as u64)),
        move || timed(|| OpenOptions::new().append(true).open(&file)?.write_all(lines.as_bytes())),
        move |root| whole(&full, &root.join(&name)),
    )
}

fn cut(source: &Path, name: PathBuf) -> Result<Change> {
    let full = source.join(&name);
    let half = fs::metadata(&full).with_context(|| format!("look at {}", full.display()))?.len() / 2;
    let file = full.clone();
    Ok(Change::new(
        "a file cut to half its length",
        move || timed(|| open(&file)?.set_len(half)),
        move |root| whole(&full, &root.join(&name)),
    ))
}

fn patched(source: &Path, name: PathBuf, size: u64) -> Change {
    let full = source.join(&name);
    let at = size / 2 / 4096 * 4096;
    let page: Vec<u8> = (0..4096_u32).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (file, length) = (full.clone(), page.len());
    Change::new(
        format!("4 KiB changed in a file of {}", bytes(size)),
        move || timed(|| open(&file)?.write_all_at(&page, at)),
        move |root| same(&full, &root.join(&name), at, length),
    )
}

/// A store through a shared mapping, made by `xfs_io`; an `inotifywait` beside it listens for what the script
/// would hear.
fn mapped(source: &Path, scratch: &Path, name: PathBuf) -> Change {
    let full = source.join(&name);
    let (file, scratch) = (full.clone(), scratch.to_owned());
    let helpers = Rc::new(RefCell::new(None));
    let heard = Rc::clone(&helpers);
    Change::new(
        "100 bytes stored through mmap",
        move || {
            let (listener, mut writer) = (listen(&file, &scratch)?, map(&file, &scratch)?);
            let made = Instant::now();
            writer.tell("mwrite -S 0x61 4096 100\n")?;
            *helpers.borrow_mut() = Some((listener, writer));
            Ok(made)
        },
        move |root| same_byte(&root.join(&name), 4096, b'a') && whole(&full, &root.join(&name)),
    )
    .with_note(move |_| {
        let (listener, _writer) = heard.borrow_mut().take()?;
        let events = listener.printed().lines().filter(|line| line.starts_with("event ")).count();
        (events == 0).then(|| {
            "inotifywait heard nothing of the store through mmap: the script would not have run at all."
                .to_owned()
        })
    })
}

fn listen(file: &Path, scratch: &Path) -> Result<Running> {
    let mut command = Command::new("inotifywait");
    command.args(["-m", "-e", "modify,create,delete,attrib,move", "--format", "event %e"]).arg(file);
    let mut listener = Running::start(&mut command, &scratch.join("inotifywait.log"))?;
    listener.until_printed("Watches established", Duration::from_secs(20))?;
    Ok(listener)
}

fn map(file: &Path, scratch: &Path) -> Result<Running> {
    let mut command = Command::new("xfs_io");
    command.arg(file).stdin(Stdio::piped());
    let mut writer = Running::start(&mut command, &scratch.join("xfs_io.log"))?;
    writer.tell("mmap -rw 0 8192\n")?;
    let maps = format!("/proc/{}/maps", writer.pid());
    writer.until("map the file", Duration::from_secs(20), |_| {
        Ok(fs::read_to_string(&maps)?.lines().any(|line| line.contains(" rw-s ")))
    })?;
    Ok(writer)
}

fn created(source: &Path) -> Change {
    let name = PathBuf::from("a-new-file.txt");
    let full = source.join(&name);
    let (file, text) = (full.clone(), "a new file, line by line\n".repeat(800));
    Change::new(
        format!("a file of {} created", bytes(text.len() as u64)),
        move || timed(|| fs::write(&file, &text)),
        move |root| whole(&full, &root.join(&name)),
    )
}

fn filled_folder(source: &Path, from: Vec<PathBuf>) -> Change {
    let source = source.to_owned();
    let names: Vec<PathBuf> = (0..from.len()).map(|number| format!("a-new-folder/{number}").into()).collect();
    let (root, targets) = (source.clone(), names.clone());
    Change::new(
        format!("a folder with {} files created", from.len()),
        move || {
            timed(|| {
                fs::create_dir(root.join("a-new-folder"))?;
                from.iter()
                    .zip(&targets)
                    .try_for_each(|(from, to)| fs::copy(root.join(from), root.join(to)).map(drop))
            })
        },
        move |root| names.iter().rev().all(|name| whole(&source.join(name), &root.join(name))),
    )
}

fn burst(source: &Path, names: Vec<PathBuf>) -> Change {
    let source = source.to_owned();
    let (root, files) = (source.clone(), names.clone());
    Change::new(
        format!("{} files changed at once, the last", names.len()),
        move || {
            timed(|| {
                files.iter().try_for_each(|name| {
                    OpenOptions::new().append(true).open(root.join(name))?.write_all(b"one of many\n")
                })
            })
        },
        move |root| names.iter().rev().all(|name| whole(&source.join(name), &root.join(name))),
    )
}

fn renamed(source: &Path, name: PathBuf) -> Change {
    let to = name.with_file_name("a-renamed-file");
    let (old, new) = (source.join(&name), source.join(&to));
    let full = new.clone();
    Change::new(
        "a file renamed",
        move || timed(|| fs::rename(&old, &new)),
        move |root| whole(&full, &root.join(&to)) && gone(&root.join(&name)),
    )
}

fn renamed_folder(source: &Path, name: PathBuf, entries: usize) -> Change {
    let to = name.with_file_name("a-renamed-folder");
    let (old, new) = (source.join(&name), source.join(&to));
    Change::new(
        format!("a folder with {entries} entries renamed"),
        move || timed(|| fs::rename(&old, &new)),
        move |root| gone(&root.join(&name)) && entries_below(&root.join(&to)) == entries,
    )
}

fn restricted(source: &Path, name: PathBuf) -> Result<Change> {
    let full = source.join(&name);
    let before = mode(&full).with_context(|| format!("look at {}", full.display()))?;
    let wanted = if before == 0o600 { 0o640 } else { 0o600 };
    Ok(Change::new(
        format!("chmod {wanted:o}"),
        move || timed(|| fs::set_permissions(&full, Permissions::from_mode(wanted))),
        move |root| mode(&root.join(&name)) == Some(wanted),
    ))
}

fn linked(source: &Path, name: PathBuf) -> Change {
    let link = PathBuf::from("a-symbolic-link");
    let full = source.join(&link);
    let target = name.clone();
    Change::new(
        "a symbolic link made",
        move || timed(|| symlink(&target, &full)),
        move |root| fs::read_link(root.join(&link)).is_ok_and(|found| found == name),
    )
    .with_note(|followed| {
        (!followed).then(|| "The script's options leave symbolic links out (they hold no -l).".to_owned())
    })
}

fn deleted(source: &Path, name: PathBuf) -> Change {
    let full = source.join(&name);
    Change::new(
        "a file deleted",
        move || timed(|| fs::remove_file(&full)),
        move |root| gone(&root.join(&name)),
    )
}

fn deleted_folder(source: &Path, name: PathBuf, entries: usize) -> Change {
    let full = source.join(&name);
    Change::new(
        format!("a folder with {entries} entries deleted"),
        move || timed(|| fs::remove_dir_all(&full)),
        move |root| gone(&root.join(&name)),
    )
}

/// Does it. Returns when it was done.
fn timed(act: impl Fn() -> std::io::Result<()>) -> Result<Instant> {
    act()?;
    Ok(Instant::now())
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

/// Whether both files have the same size and the same `length` bytes at `at`.
fn same(ours: &Path, theirs: &Path, at: u64, length: usize) -> bool {
    let read = |path: &Path| {
        let file = File::open(path).ok()?;
        let mut part = vec![0; length];
        file.read_exact_at(&mut part, at).ok()?;
        Some((file.metadata().ok()?.len(), part))
    };
    let theirs = read(theirs);
    theirs.is_some() && theirs == read(ours)
}

fn whole(ours: &Path, theirs: &Path) -> bool {
    let size = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
    let theirs_size = size(theirs);
    theirs_size.is_some() && theirs_size == size(ours) && fs::read(theirs).ok() == fs::read(ours).ok()
}

fn same_byte(path: &Path, at: u64, byte: u8) -> bool {
    let mut found = [0];
    File::open(path).and_then(|file| file.read_exact_at(&mut found, at)).is_ok() && found[0] == byte
}

fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|found| found.permissions().mode() & 0o7777)
}

fn gone(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err()
}

/// How many files and folders are below `folder`; the script would leave symbolic links out.
fn entries_below(folder: &Path) -> usize {
    let Ok(listing) = fs::read_dir(folder) else { return 0 };
    let entries = listing.flatten().map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => 1 + entries_below(&entry.path()),
        Ok(kind) if kind.is_file() => 1,
        _ => 0,
    });
    entries.sum()
}
