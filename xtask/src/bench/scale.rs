//! `scale`: what one change costs in time and processor time, by size of the tree; and the memory of both processes
//! with many changes pending.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::report::Run;
use super::trees::{self, Stage, Trees};
use super::{Bench, median, percentile, turns};
use crate::world::ebbtide::Ebbtide;
use crate::world::process::begins_with;
use crate::world::rsyncd::Rsyncd;
use crate::world::table::{Table, bytes, count, ratio, time};
use crate::world::wait;

const LIMIT: Duration = Duration::from_secs(1800);

/// Changes that wait while memory is looked at, or all files of a smaller tree.
const PENDING: u64 = 100_000;

/// What one size showed.
struct Figures {
    files: u64,
    milliseconds: Vec<f64>,
    /// Of both processes, per change.
    processor: f64,
    idle: Memory,
    pending: Memory,
}

/// Resident memory in bytes: of the tracker and of the sender.
#[derive(Clone, Copy)]
struct Memory(u64, u64);

/// A tree, its destination and the daemon between them.
struct Site {
    stage: Stage,
    /// Until it goes away.
    destination: Option<Rsyncd>,
    daemon: Ebbtide,
    idle: Memory,
    /// Milliseconds of processor before the first change that counts.
    before: f64,
    milliseconds: Vec<f64>,
}

/// Measures and reports: all sizes at the same time, one change here and then one there, so that whatever else goes on
/// on this machine meets all of them.
pub(super) fn measure(bench: &Bench, trees: &mut Trees, run: &mut Run) -> Result<()> {
    run.columns(&["files", "change", "milliseconds", "processor_ms", "tracker_bytes", "sender_bytes"]);
    let files = &bench.options.files;
    let mut sites =
        files.iter().map(|&files| Site::start(bench, trees, files)).collect::<Result<Vec<_>>>()?;
    let changes = bench.options.changes as u64;
    for number in 0..WARM + changes {
        for at in turns(&(0..sites.len()).collect::<Vec<_>>(), number as usize) {
            let site = &mut sites[at];
            // The first changes warm up what every later one finds.
            if number == WARM {
                site.before = processor(&site.daemon)?;
            }
            let took = site.change(number)?;
            if number >= WARM {
                let cells =
                    row(site.stage.files, &number.to_string(), &format!("{took:.3}"), "", Memory(0, 0));
                run.figures(&cells);
                site.milliseconds.push(took);
            }
        }
    }
    let spent = sites
        .iter()
        .map(|site| Ok((processor(&site.daemon)? - site.before) / changes.max(1) as f64))
        .collect::<Result<Vec<_>>>()?;
    let all = sites
        .into_iter()
        .zip(spent)
        .map(|(site, spent)| site.fill(run, spent))
        .collect::<Result<Vec<_>>>()?;
    report(&all, run);
    Ok(())
}

impl Site {
    /// In step.
    fn start(bench: &Bench, trees: &mut Trees, files: u64) -> Result<Self> {
        let scratch = bench.scratch.join(format!("scale-{files}"));
        fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
        let stage = trees.stage_beside(files, &format!("-{files}"))?;
        let destination = Rsyncd::start(&scratch, "scale", &stage.mirror())?;
        let url = destination.url();
        let mut daemon = Ebbtide::start(&bench.ebbtide, &stage.source(), &url, &scratch)?;
        daemon.until_up(LIMIT)?;
        daemon.wait(LIMIT)?;
        let idle = memory(&daemon)?;
        println!(" {files} files are in step");
        let destination = Some(destination);
        Ok(Site { stage, destination, daemon, idle, before: 0.0, milliseconds: Vec::new() })
    }

    fn change(&mut self, number: u64) -> Result<f64> {
        let (source, mirror) = (self.stage.source(), self.stage.mirror());
        change(&mut self.daemon, &source, &mirror, self.stage.files, number)
    }

    /// The destination goes away, and changes wait.
    fn fill(mut self, run: &mut Run, spent: f64) -> Result<Figures> {
        drop(self.destination.take());
        let files = self.stage.files;
        let waits = files.min(PENDING);
        for number in 0..waits {
            let path = self.stage.source().join(trees::name(number));
            write(&path, format!("pending {number:>20}\n").as_bytes())?;
        }
        let all_wait = || Ok(waiting(&self.daemon)? >= waits);
        wait::until("everything shall be pending", Instant::now(), LIMIT, all_wait)?;
        let pending = memory(&self.daemon)?;
        run.figures(&row(files, "idle", "", &format!("{spent:.3}"), self.idle));
        run.figures(&row(files, "pending", "", "", pending));
        self.daemon.stop()?;
        Ok(Figures { files, milliseconds: self.milliseconds, processor: spent, idle: self.idle, pending })
    }
}

fn row(files: u64, change: &str, took: &str, spent: &str, memory: Memory) -> Vec<String> {
    let texts = [files.to_string(), change.into(), took.into(), spent.into()];
    [&texts[..], &[memory.0.to_string(), memory.1.to_string()]].concat()
}

/// One file is written; the milliseconds until it reads the same at the destination. Returns when everything is quiet.
fn change(daemon: &mut Ebbtide, source: &Path, mirror: &Path, files: u64, number: u64) -> Result<f64> {
    // Far from each other, as changes are.
    let name = trees::name(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % files);
    let text = format!("change {number:>20} {:?}\n", std::time::SystemTime::now());
    let started = Instant::now();
    write(&source.join(&name), text.as_bytes())?;
    let stands = || Ok(begins_with(&mirror.join(&name), text.as_bytes()));
    let took = wait::until("the change shall stand at the destination", started, LIMIT, stands)?;
    daemon.wait(LIMIT)?;
    Ok(took.as_secs_f64() * 1e3)
}

fn write(path: &Path, text: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    file.write_all_at(text, 0).with_context(|| format!("write {}", path.display()))
}

/// Facts that the destination has not acknowledged.
fn waiting(daemon: &Ebbtide) -> Result<u64> {
    let status = daemon.status()?;
    Ok(status["transfer"]["destinations"][0]["pending"].as_u64().unwrap_or_default())
}

/// Milliseconds of processor that both processes have used.
fn processor(daemon: &Ebbtide) -> Result<f64> {
    let mut ticks = 0;
    for pid in daemon.processes()? {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("read a process's times")?;
        // Fields 14 and 15; the second one is in parentheses and may hold spaces.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        ticks += fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(ticks as f64 * 1e3 / rustix::param::clock_ticks_per_second() as f64)
}

fn memory(daemon: &Ebbtide) -> Result<Memory> {
    let [tracker, sender] = daemon.processes()?;
    Ok(Memory(resident(tracker)?, resident(sender)?))
}

fn resident(pid: u64) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read a process's status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let Some(kib) = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()) else {
        bail!("process {pid} has no resident memory");
    };
    Ok(kib << 10)
}

fn report(all: &[Figures], run: &mut Run) {
    let heading =
        ["files", "p50", "ratio", "p99", "processor", "ratio", "memory in step", "pending", "memory pending"];
    let mut table = Table::new(0, &heading);
    let first = |value: fn(&Figures) -> f64| all.first().map_or(0.0, value);
    let p50 = |figures: &Figures| percentile(&figures.milliseconds, 0.5);
    let milliseconds = |value: f64| time(Duration::from_secs_f64(value / 1e3));
    let both = |Memory(tracker, sender): Memory| {
        format!("{} ({} + {})", bytes(tracker + sender), bytes(tracker), bytes(sender))
    };
    for figures in all {
        table.row(vec![
            count(figures.files),
            milliseconds(p50(figures)),
            ratio(p50(figures), first(p50)),
            milliseconds(percentile(&figures.milliseconds, 0.99)),
            milliseconds(figures.processor),
            ratio(figures.processor, first(|figures| figures.processor)),
            both(figures.idle),
            count(figures.files.min(PENDING)),
            both(figures.pending),
        ]);
    }
    run.table("one change, and memory, by size of the tree", &table);
    run.say(" p50, p99: from the write until the destination's file read the same. processor: of both processes, for one");
    run.say(" change and the `ebbtide wait` after it. memory: resident, of the tracker and of the sender; pending: while");
    run.say(
        " so many changed files wait for a destination that is away. All sizes in turns, at the same time.",
    );
    let middle: Vec<f64> = all.iter().map(|figures| median(&figures.milliseconds)).collect();
    if let (Some(least), Some(most)) =
        (middle.iter().copied().reduce(f64::min), middle.iter().copied().reduce(f64::max))
    {
        run.say(&format!(" the slowest median is {:.0} % above the fastest.", (most / least - 1.0) * 100.0));
    }
}

/// Changes that are not counted.
const WARM: u64 = 10;
