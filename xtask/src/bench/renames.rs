//! `renames`: what a renamed directory of 10,000 files costs on the wire, beside stock rsync.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::report::Run;
use super::{Bench, median, turns};
use crate::world::ebbtide::Ebbtide;
use crate::world::image::{Image, Mounted};
use crate::world::process;
use crate::world::rsyncd::{Rsyncd, Traffic};
use crate::world::table::{Table, bytes, time};
use crate::world::wait;

const LIMIT: Duration = Duration::from_secs(900);

const FILES: u64 = 10_000;

/// Size of each file in bytes.
const LENGTH: usize = 100 << 10;

/// Files in one folder.
const PER_FOLDER: u64 = 100;

/// The two names of the directory.
const NAMES: [&str; 2] = ["this", "that"];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tool {
    Ebbtide,
    Rsync,
}

/// One rename, followed.
#[derive(Clone, Copy)]
struct Sample {
    milliseconds: f64,
    /// What the daemon counted as received and as sent, in bytes.
    traffic: Traffic,
}

/// Measures and reports.
pub(super) fn measure(bench: &Bench, run: &mut Run) -> Result<()> {
    run.columns(&["round", "tool", "milliseconds", "bytes_sent", "bytes_received"]);
    let data = FILES * LENGTH as u64;
    let source = Disk::new(&bench.scratch, "renames-source", data + data / 4)?;
    // A receiver may have both names for a while.
    let mirror = Disk::new(&bench.scratch, "renames-mirror", 2 * data + data / 4)?;
    let (source, mirror) = (source.mounted.at().join("tree"), mirror.mounted.at().join("tree"));
    make(&source.join(NAMES[0]))?;
    fs::create_dir_all(&mirror).with_context(|| format!("create {}", mirror.display()))?;
    let mut destination = Rsyncd::start(&bench.scratch, "renames", &mirror)?;
    rsync(&source, &destination.url())?;
    let mut samples: BTreeMap<Tool, Vec<Sample>> = BTreeMap::new();
    let mut names = NAMES;
    for round in 0..bench.rounds(3) {
        for tool in turns(&[Tool::Ebbtide, Tool::Rsync], round) {
            let [from, to] = names.map(|name| source.join(name));
            names.reverse();
            let sample = follow(bench, tool, &source, &mut destination, || {
                fs::rename(&from, &to).with_context(|| format!("rename {}", from.display()))
            })?;
            referee(&source, &destination.url())?;
            run.figures(&[
                round.to_string(),
                tool.word().to_owned(),
                format!("{:.3}", sample.milliseconds),
                sample.traffic.received.to_string(),
                sample.traffic.sent.to_string(),
            ]);
            samples.entry(tool).or_default().push(sample);
        }
    }
    report(&samples, run);
    Ok(())
}

/// A file system of its own.
struct Disk {
    // Unmounted before its image goes.
    mounted: Mounted,
    _image: Image,
}

impl Disk {
    fn new(scratch: &Path, name: &str, room: u64) -> Result<Self> {
        let image = Image::create(&scratch.join(format!("{name}.img")), room, 4 * FILES)?;
        Ok(Self { mounted: image.mount(&scratch.join(name))?, _image: image })
    }
}

/// Files whose bytes do not compress.
fn make(root: &Path) -> Result<()> {
    println!(" making {FILES} files of {LENGTH} bytes ...");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut content = vec![0; LENGTH];
    for number in 0..FILES {
        wait::go_on()?;
        let folder = root.join(format!("{:03}", number / PER_FOLDER));
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        for chunk in content.chunks_exact_mut(8) {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        let path = folder.join(format!("file-{:02}", number % PER_FOLDER));
        fs::write(&path, &content).with_context(|| format!("write {}", path.display()))?;
    }
    // Blocks that are allocated later would change the files once more.
    process::run(Command::new("sync").arg("-f").arg(root)).map(drop)
}

fn follow(
    bench: &Bench,
    tool: Tool,
    source: &Path,
    destination: &mut Rsyncd,
    rename: impl FnOnce() -> Result<()>,
) -> Result<Sample> {
    let url = destination.url();
    let mut daemon = match tool {
        Tool::Rsync => None,
        Tool::Ebbtide => {
            let mut daemon = Ebbtide::start(&bench.ebbtide, source, &url, &bench.scratch)?;
            daemon.until_up(LIMIT)?;
            daemon.wait(LIMIT)?;
            Some(daemon)
        }
    };
    let mark = destination.mark();
    let began = Instant::now();
    rename()?;
    match &mut daemon {
        Some(daemon) => daemon.wait(LIMIT)?,
        None => rsync(source, &url)?,
    }
    let milliseconds = began.elapsed().as_secs_f64() * 1e3;
    let traffic = destination.settled(mark, 1, LIMIT)?;
    daemon.map_or(Ok(()), Ebbtide::stop)?;
    Ok(Sample { milliseconds, traffic })
}

fn rsync(source: &Path, url: &str) -> Result<()> {
    process::run(Command::new("rsync").args(["-a", "--delete"]).arg(source.join("")).arg(url)).map(drop)
}

/// Both sides must be equal after each rename.
fn referee(source: &Path, url: &str) -> Result<()> {
    let mut command = Command::new("rsync");
    command.args(["-naH", "--delete", "--itemize-changes"]).arg(source.join("")).arg(url);
    let output = process::run(&mut command)?;
    if !output.stdout.is_empty() {
        let text = String::from_utf8_lossy(&output.stdout);
        bail!("source and destination differ after the run: {}", text.escape_debug());
    }
    Ok(())
}

impl Tool {
    fn word(self) -> &'static str {
        match self {
            Self::Ebbtide => "ebbtide",
            Self::Rsync => "rsync -a --delete",
        }
    }
}

fn report(samples: &BTreeMap<Tool, Vec<Sample>>, run: &mut Run) {
    let middle = |tool: Tool, figure: fn(&Sample) -> f64| {
        let all: Vec<f64> = samples.get(&tool).into_iter().flatten().map(figure).collect();
        median(&all)
    };
    // Bytes of a bench are exact as f64.
    let (sent, received) =
        (|sample: &Sample| sample.traffic.received as f64, |sample: &Sample| sample.traffic.sent as f64);
    let mut table = Table::new(1, &["tool", "sent", "of rsync's", "received", "time"]);
    for &tool in samples.keys() {
        table.row(vec![
            tool.word().to_owned(),
            bytes(middle(tool, sent) as u64),
            format!("{:.2} %", 100.0 * middle(tool, sent) / middle(Tool::Rsync, sent).max(1.0)),
            bytes(middle(tool, received) as u64),
            time(Duration::from_secs_f64(middle(tool, |sample| sample.milliseconds) / 1e3)),
        ]);
    }
    run.table("a directory of 10,000 files of 100 KiB gets another name", &table);
    run.say(" sent, received: the bytes that the receiving daemon counted, the other way round. time: from the rename until");
    run.say(" the destination has it (ebbtide wait), or until rsync ends. Medians. Contents are compared by checksum on both");
    run.say(" sides by ebbtide, so it reads them there.");
}
