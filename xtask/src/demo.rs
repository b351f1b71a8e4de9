//! `cargo xtask demo [DIR]`: a tree of real files, a stock rsync daemon, ebbtide between them, and what each
//! kind of change costs, beside what the classic script needs for the same change.

mod changes;
mod picks;
mod report;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::world::ebbtide::{self, Ebbtide};
use crate::world::image::{Image, Mounted};
use crate::world::process::run;
use crate::world::rsyncd::{Rsyncd, Traffic};
use crate::world::{self, wait};
use changes::Change;
use report::{Cost, Row};

/// How long anything may take before the demo calls it a failure.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs the demo with the binaries in `built`, on a copy of `folder` or of this machine's own files.
pub(crate) fn run_demo(built: &Path, folder: Option<&Path>) -> Result<()> {
    let program = ebbtide::program(built)?;
    let scratch = world::target()?.join("demo");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    let outcome = Demo::prepare(program, folder, &scratch).and_then(Demo::play);
    if outcome.is_ok() {
        fs::remove_dir_all(&scratch).with_context(|| format!("remove {}", scratch.display()))?;
    }
    outcome.with_context(|| format!("the demo failed; logs are in {}", scratch.display()))
}

/// Everything the demo stands on. Fields end in the order written: first programs, then mounts, then images.
struct Demo {
    ours: Rsyncd,
    scripts: Rsyncd,
    places: Places,
    tree: tree::Summary,
    program: PathBuf,
    _mounts: [Mounted; 2],
    _images: [Image; 2],
}

/// The three folders: the source, and one destination for each way of mirroring it.
struct Places {
    source: PathBuf,
    ours: PathBuf,
    scripts: PathBuf,
    scratch: PathBuf,
}

impl Demo {
    fn prepare(program: PathBuf, folder: Option<&Path>, scratch: &Path) -> Result<Self> {
        println!("  copying the files for the source ...");
        let plan = tree::Plan::new(folder)?;
        let source = Image::create(&scratch.join("source.img"), plan.room(), plan.inodes())?;
        let mirrors = Image::create(&scratch.join("mirrors.img"), 2 * plan.room(), 2 * plan.inodes())?;
        let mounts = [source.mount(&scratch.join("source"))?, mirrors.mount(&scratch.join("mirrors"))?];
        let places = Places {
            source: mounts[0].at().join("tree"),
            ours: mounts[1].at().join("ebbtide"),
            scripts: mounts[1].at().join("script"),
            scratch: scratch.to_owned(),
        };
        for folder in [&places.source, &places.ours, &places.scripts] {
            fs::create_dir(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        let tree = plan.copy(&places.source)?;
        let ours = Rsyncd::start(scratch, "ebbtide", &places.ours)?;
        let scripts = Rsyncd::start(scratch, "script", &places.scripts)?;
        Ok(Self { ours, scripts, places, tree, program, _mounts: mounts, _images: [source, mirrors] })
    }

    fn play(mut self) -> Result<()> {
        let changes = changes::all(&self.places.source, &self.places.scratch)?;
        report::opening(&self.tree);
        let mut daemon = self.first_sync()?;
        let (mut notes, mut rows) = (Vec::new(), Vec::new());
        for change in changes {
            let row = self.change(&mut daemon, change, &mut notes)?;
            report::print(&row);
            rows.push(row);
        }
        report::middle(&rows);
        daemon.wait(LIMIT)?;
        daemon.stop()?;
        report::notes(&notes);
        report::verdict(&self.referee()?);
        Ok(())
    }

    fn first_sync(&mut self) -> Result<Ebbtide> {
        let mark = self.ours.mark();
        let started = Instant::now();
        let mut daemon =
            Ebbtide::start(&self.program, &self.places.source, &self.ours.url(), &self.places.scratch)?;
        daemon.until_up(LIMIT)?;
        daemon.wait(LIMIT)?;
        let time = started.elapsed();
        let traffic = self.ours.settled(mark, 1, LIMIT)?;
        let script = Some(self.script()?);
        let what = format!("first sync of {} files", world::table::count(self.tree.files));
        report::print(&Row { what, ours: cost(time, traffic), script });
        Ok(daemon)
    }

    fn change(&mut self, daemon: &mut Ebbtide, change: Change, notes: &mut Vec<String>) -> Result<Row> {
        let mark = self.ours.mark();
        let started = (change.make)().with_context(|| format!("make the change: {}", change.what))?;
        let what = format!("{} shall stand at the destination", change.what);
        let time = wait::until(&what, started, LIMIT, || Ok((change.stands)(&self.places.ours)))?;
        daemon.wait(LIMIT)?;
        let traffic = self.ours.settled(mark, 1, LIMIT)?;
        let script = self.script()?;
        let followed = (change.stands)(&self.places.scripts);
        notes.extend((change.note)(followed));
        Ok(Row { what: change.what, ours: cost(time, traffic), script: followed.then_some(script) })
    }

    /// What the classic script does at every event: push the whole tree.
    fn script(&mut self) -> Result<Cost> {
        let mark = self.scripts.mark();
        let started = Instant::now();
        run(Command::new("rsync")
            .args(["-vzrtopg", "--delete"])
            .arg(slashed(&self.places.source))
            .arg(self.scripts.url()))?;
        let time = started.elapsed();
        Ok(cost(time, self.scripts.settled(mark, 1, LIMIT)?))
    }

    /// Stock rsync's own opinion: a full comparison by checksum. Returns the number of entries that it compared.
    fn referee(&self) -> Result<String> {
        let output = run(Command::new("rsync")
            .args(["-naHAXc", "--delete", "--itemize-changes"])
            .arg(slashed(&self.places.source))
            .arg(self.ours.url()))?;
        if !output.stdout.is_empty() {
            bail!(
                "source and destination differ:\n{}",
                String::from_utf8_lossy(&output.stdout).escape_debug()
            );
        }
        let output = run(Command::new("rsync")
            .args(["-naHAX", "--delete", "--stats"])
            .arg(slashed(&self.places.source))
            .arg(self.ours.url()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("Number of files: "));
        line.map(str::to_owned).context("rsync --stats did not say the number of files")
    }
}

fn cost(time: Duration, traffic: Traffic) -> Cost {
    Cost { time, bytes: traffic.received }
}

/// A path that ends in a slash: rsync's word for what is inside the folder.
fn slashed(path: &Path) -> PathBuf {
    path.join("")
}
