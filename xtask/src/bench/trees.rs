//! Large trees, made fast: small sparse files, fifty to a folder, on an ext4 image, and an equal copy of it as
//! destination.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};

use crate::world::image::{Image, Mounted};
use crate::world::wait;

/// Files in one folder.
const PER_FOLDER: u64 = 50;

/// Folders in one folder.
const FOLDERS: u64 = 200;

/// Length of each file in bytes: a hole, until it is written to.
const LENGTH: u64 = 1024;

/// Threads that make files.
const MAKERS: u64 = 4;

/// The trees made so far, by number of files. They stay until this is dropped.
pub(super) struct Trees {
    scratch: PathBuf,
    made: BTreeMap<u64, [Image; 2]>,
}

/// A tree and its equal destination, both mounted.
pub(super) struct Stage {
    /// The source's and the destination's mount.
    mounts: [Mounted; 2],
    /// How many files there are.
    pub(super) files: u64,
}

impl Trees {
    /// None so far; their images go to `scratch`.
    pub(super) fn new(scratch: &Path) -> Self {
        Self { scratch: scratch.to_owned(), made: BTreeMap::new() }
    }

    /// Mounts a tree of `files` files and its destination, which are made if this is the first time.
    /// All their entries have been looked at once: the caches are warm.
    pub(super) fn stage(&mut self, files: u64) -> Result<Stage> {
        self.stage_beside(files, "")
    }

    /// The same beside others, which have other words for `place`.
    pub(super) fn stage_beside(&mut self, files: u64, place: &str) -> Result<Stage> {
        if !self.made.contains_key(&files) {
            let images = self.make(files)?;
            self.made.insert(files, images);
        }
        let [source, mirror] = &self.made[&files];
        let at = |side: &str| self.scratch.join(format!("{side}{place}"));
        let mounts = [source.mount(&at("source"))?, mirror.mount(&at("mirror"))?];
        let stage = Stage { mounts, files };
        for root in [stage.source(), stage.mirror()] {
            warm(&root)?;
        }
        Ok(stage)
    }

    fn make(&self, files: u64) -> Result<[Image; 2]> {
        println!(" making a tree of {files} files ...");
        let room = (1 << 30) + files * 8192;
        let inodes = files + files / PER_FOLDER + files / 10 + 10_000;
        let source = Image::create(&self.scratch.join(format!("source-{files}.img")), room, inodes)?;
        let mount = source.mount(&self.scratch.join("source"))?;
        let root = mount.at().join("tree");
        thread::scope(|scope| {
            let makers: Vec<_> = (0..MAKERS)
                .map(|maker| {
                    scope.spawn({
                        let root = &root;
                        move || make_share(root, files, maker)
                    })
                })
                .collect();
            makers
                .into_iter()
                .try_for_each(|maker| maker.join().unwrap_or_else(|_| anyhow::bail!("a maker panicked")))
        })?;
        drop(mount);
        let mirror = source.copy(&self.scratch.join(format!("mirror-{files}.img")))?;
        Ok([source, mirror])
    }
}

impl Stage {
    /// The source tree.
    pub(super) fn source(&self) -> PathBuf {
        self.mounts[0].at().join("tree")
    }

    /// The destination.
    pub(super) fn mirror(&self) -> PathBuf {
        self.mounts[1].at().join("tree")
    }
}

/// The name of a file, relative to the tree.
pub(super) fn name(number: u64) -> PathBuf {
    folder(number / PER_FOLDER).join(format!("file-{:02}", number % PER_FOLDER))
}

fn folder(number: u64) -> PathBuf {
    PathBuf::from(format!("{:03}/{:03}", number / FOLDERS, number % FOLDERS))
}

fn make_share(root: &Path, files: u64, maker: u64) -> Result<()> {
    for number in (maker..files.div_ceil(PER_FOLDER)).step_by(MAKERS as usize) {
        wait::go_on()?;
        let path = root.join(folder(number));
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        for file in number * PER_FOLDER..((number + 1) * PER_FOLDER).min(files) {
            let path = root.join(name(file));
            let made = File::create(&path).and_then(|file| file.set_len(LENGTH));
            made.with_context(|| format!("create {}", path.display()))?;
        }
    }
    Ok(())
}

fn warm(root: &Path) -> Result<()> {
    wait::go_on()?;
    for entry in fs::read_dir(root).with_context(|| format!("list {}", root.display()))? {
        let entry = entry.with_context(|| format!("list {}", root.display()))?;
        if entry.metadata().with_context(|| format!("look at {}", entry.path().display()))?.is_dir() {
            warm(&entry.path())?;
        }
    }
    Ok(())
}
