//! Source and destination of one case, brought back to their start before each push.

use std::fs;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::case::Case;
use super::data::{self, Text, mix};
use super::{Cost, Tool};
use crate::bench::Bench;
use crate::bench::trees::{self, Stage, Trees};
use crate::world::process;
use crate::world::relay::Relay;
use crate::world::rsyncd::Rsyncd;
use crate::world::wait;

const LIMIT: Duration = Duration::from_secs(900);

/// How long a byte takes to a daemon that is far away, and as long back.
const FAR: Duration = Duration::from_millis(50);

/// A case, ready to be pushed again and again.
pub(super) struct World {
    case: Case,
    /// What is pushed.
    source: PathBuf,
    /// The folder that the daemon serves.
    destination: PathBuf,
    /// Removed in the end.
    scratch: PathBuf,
    daemon: Rsyncd,
    /// The long way to it.
    relay: Option<Relay>,
    tree: Option<Stage>,
    /// The list of `--files-from`.
    list: Option<PathBuf>,
    /// Pushes prepared so far.
    pushes: u64,
}

impl World {
    /// Makes the source, and a destination as it is before the first push.
    pub(super) fn new(bench: &Bench, trees: &mut Trees, case: Case) -> Result<Self> {
        let scratch = bench.scratch.join(case.word());
        let (mut source, mut destination) = (scratch.join("source"), scratch.join("destination"));
        for folder in [&source, &destination] {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        let tree = match case {
            Case::Named | Case::One | Case::Far | Case::FirstSync | Case::NothingToDo => {
                Some(trees.stage(case.files(bench))?)
            }
            _ => None,
        };
        if let Some(tree) = &tree {
            source = tree.source();
            // A first sync empties it, and makes it equal again.
            destination = tree.mirror();
        }
        let daemon = Rsyncd::start(&bench.scratch, "transfer", &destination)?;
        let relay = match case {
            Case::Far => Some(Relay::start(daemon.port(), FAR)?),
            _ => None,
        };
        let mut world =
            Self { case, source, destination, scratch, daemon, relay, tree, list: None, pushes: 0 };
        world.fill(bench)?;
        if matches!(case, Case::Named | Case::One | Case::Far) {
            // The first change of a file of the tree is smaller than all that follow.
            world.prepare()?;
            world.push(bench, Tool::Stock)?;
        }
        Ok(world)
    }

    fn fill(&mut self, bench: &Bench) -> Result<()> {
        let mib = bench.options.mib;
        println!(" making the source of {} ...", self.case.word());
        match self.case {
            Case::NewFile | Case::NewFileZstd => Text::new().write(&self.source.join("large"), mib, 0),
            Case::NoiseZstd => data::write_noise(&self.source.join("large"), mib),
            Case::Delta => {
                let text = Text::new();
                for version in [0, 1] {
                    text.write(&self.source.join(version.to_string()).join("large"), mib, version)?;
                }
                copy(&self.source.join("1/large"), &self.destination.join("large"))
            }
            Case::TextsZstd => {
                let text = Text::new();
                (0..self.case.files(bench)).try_for_each(|number| {
                    let path = self.source.join(trees::name(number));
                    let folder = path.parent().unwrap_or(&self.source);
                    fs::create_dir_all(folder)
                        .and_then(|()| fs::write(&path, text.small(number)))
                        .with_context(|| format!("write {}", path.display()))
                })
            }
            Case::Named => self.name(0..self.case.files(bench)),
            Case::One | Case::Far => self.name(std::iter::once(self.case.files(bench) / 3)),
            Case::FirstSync | Case::NothingToDo => Ok(()),
        }
    }

    fn name(&mut self, numbers: impl Iterator<Item = u64>) -> Result<()> {
        let list = self.scratch.join("list");
        let text: String = numbers.map(|number| format!("{}\n", trees::name(number).display())).collect();
        fs::write(&list, text).with_context(|| format!("write {}", list.display()))?;
        self.list = Some(list);
        Ok(())
    }

    /// Brings both sides to where a push begins.
    pub(super) fn prepare(&mut self) -> Result<()> {
        self.pushes += 1;
        match self.case {
            Case::NewFile | Case::NewFileZstd | Case::NoiseZstd | Case::TextsZstd | Case::FirstSync => {
                empty(&self.destination)
            }
            // The other version is at the destination.
            Case::Delta | Case::NothingToDo => Ok(()),
            Case::Named | Case::One | Case::Far => self.change_named(),
        }
    }

    fn change_named(&self) -> Result<()> {
        let list = self.list.as_ref().context("no files are named")?;
        let names = fs::read_to_string(list).context("read the list")?;
        for name in names.lines() {
            wait::go_on()?;
            let path = self.source.join(name);
            let file = OpenOptions::new().write(true).open(&path);
            let text = format!("{:016x} {:>100} {name}", mix(self.pushes), self.pushes);
            // rsync's quick check takes times within one second as equal.
            let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000 + self.pushes);
            file.and_then(|file| {
                file.write_all_at(text.as_bytes(), 0).and_then(|()| file.set_modified(time))
            })
            .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// One push, with what it cost.
    pub(super) fn push(&mut self, bench: &Bench, tool: Tool) -> Result<Cost> {
        let mut arguments: Vec<String> =
            self.case.options().iter().map(|&option| option.to_owned()).collect();
        if let Some(list) = &self.list {
            arguments.push(format!("--files-from={}", list.display()));
        }
        arguments.extend([slashed(&self.pushed()), self.url()]);
        // What preparation wrote goes to the disk before the clock starts.
        rustix::fs::sync();
        let mark = self.daemon.mark();
        let cost = Cost::of(&tool.program(bench), &arguments)?;
        let traffic = self.daemon.settled(mark, 1, LIMIT)?;
        Ok(Cost { sent: traffic.received as f64, ..cost })
    }

    fn url(&self) -> String {
        match &self.relay {
            Some(relay) => format!("rsync://127.0.0.1:{}/m/", relay.port()),
            None => self.daemon.url(),
        }
    }

    /// The folder that this push sends.
    fn pushed(&self) -> PathBuf {
        match self.case {
            Case::Delta => self.source.join(((self.pushes + 1) % 2).to_string()),
            _ => self.source.clone(),
        }
    }

    /// After the last push both sides must be equal.
    pub(super) fn referee(&self) -> Result<()> {
        let output = process::run(
            Command::new("rsync")
                .args(["-nac", "--itemize-changes"])
                .arg(slashed(&self.pushed()))
                .arg(slashed(&self.destination)),
        )?;
        if !output.stdout.is_empty() {
            let text = String::from_utf8_lossy(&output.stdout);
            bail!("source and destination differ after {}: {}", self.case.word(), text.escape_debug());
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.tree.is_none() {
            let _ = empty(&self.destination);
        }
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

fn slashed(path: &Path) -> String {
    format!("{}/", path.display())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    process::run(Command::new("cp").arg("-p").arg(from).arg(to)).map(drop)
}

fn empty(folder: &Path) -> Result<()> {
    let again = fs::remove_dir_all(folder).and_then(|()| fs::create_dir_all(folder));
    again.with_context(|| format!("empty {}", folder.display()))
}
