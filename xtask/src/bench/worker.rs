//! What `mark` measures and measures against, each in a process of its own: writers that count their time, and
//! plain watchers that read all that they are told. And the meter of `transfer`, whose only child is what it meters.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use fanotify_fid::consts::{
    FAN_CLASS_NOTIF, FAN_CLOEXEC, FAN_MARK_ADD, FAN_MARK_FILESYSTEM, FAN_MODIFY, FAN_REPORT_FID,
    FAN_UNLIMITED_QUEUE,
};
use fanotify_fid::{EventReader, Fanotify};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::time::{ClockId, clock_gettime};

/// What a watcher prints when it stands.
pub(super) const READY: &str = "ready";

/// Length of each write in bytes.
const WRITE: [u8; 100] = [b'w'; 100];

/// The processes of the `mark` scenario.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Worker {
    /// Rewrites the first 100 bytes of one open file.
    Rewrite { file: PathBuf, count: u64 },
    /// Opens, writes 100 bytes to and closes each file below a folder, some times over.
    Many { folder: PathBuf, passes: u64 },
    /// Watches all folders below a folder with inotify.
    Inotify { folder: PathBuf },
    /// Watches a whole file system with fanotify.
    Fanotify { folder: PathBuf },
    /// Runs a program to its end, and prints the seconds by the clock and of processor time that it took, and its
    /// largest resident set in bytes.
    Meter {
        #[arg(required = true, trailing_var_arg = true)]
        command: Vec<OsString>,
    },
}

/// Does one of them. Writers print three numbers: writes, nanoseconds by the clock, nanoseconds of processor time.
pub(crate) fn work(worker: &Worker) -> Result<()> {
    match worker {
        Worker::Rewrite { file, count } => rewrite(file, *count),
        Worker::Many { folder, passes } => many(folder, *passes),
        Worker::Inotify { folder } => watch_inotify(folder),
        Worker::Fanotify { folder } => watch_fanotify(folder),
        Worker::Meter { command } => meter(command),
    }
}

fn meter(command: &[OsString]) -> Result<()> {
    let (program, arguments) = command.split_first().context("no program to meter")?;
    let started = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("start {}", program.to_string_lossy()))?;
    let wall = started.elapsed().as_secs_f64();
    if !status.success() {
        bail!("{} ended with {status}", program.to_string_lossy());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("ask what the program took")?;
    let seconds = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
    let processor = seconds(usage.user_time()) + seconds(usage.system_time());
    println!("{wall} {processor} {}", usage.max_rss() * 1024);
    Ok(())
}

fn rewrite(path: &Path, count: u64) -> Result<()> {
    let file =
        OpenOptions::new().write(true).open(path).with_context(|| format!("open {}", path.display()))?;
    let some = |count| (0..count).try_for_each(|_| file.write_all_at(&WRITE, 0));
    some(count / 20).context("write before the measurement")?;
    let meter = Meter::start();
    some(count).context("write")?;
    meter.print(count);
    Ok(())
}

fn many(folder: &Path, passes: u64) -> Result<()> {
    let mut files = Vec::new();
    walk(folder, &mut |path, is_folder| {
        if !is_folder {
            files.push(path.to_owned());
        }
    })?;
    let pass = || {
        files.iter().try_for_each(|path| OpenOptions::new().write(true).open(path)?.write_all_at(&WRITE, 0))
    };
    pass().context("write before the measurement")?;
    let meter = Meter::start();
    for _ in 0..passes {
        pass().context("open and write")?;
    }
    meter.print(passes * files.len() as u64);
    Ok(())
}

/// Hears the events that the classic script asks `inotifywait` for.
fn watch_inotify(folder: &Path) -> Result<()> {
    let group = inotify::init(CreateFlags::CLOEXEC).context("make an inotify group")?;
    let events =
        WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ATTRIB | WatchFlags::MOVE;
    let mut failed = None;
    let mut add = |path: &Path| {
        if let Err(error) = inotify::add_watch(&group, path, events) {
            failed.get_or_insert(error);
        }
    };
    add(folder);
    walk(folder, &mut |path, is_folder| {
        if is_folder {
            add(path);
        }
    })?;
    if let Some(error) = failed {
        return Err(error).context("add an inotify watch");
    }
    ready()?;
    let mut buffer = [MaybeUninit::uninit(); 65_536];
    let mut reader = inotify::Reader::new(group, &mut buffer);
    loop {
        let event = reader.next().context("read inotify events")?;
        std::hint::black_box(event.file_name());
    }
}

fn watch_fanotify(folder: &Path) -> Result<()> {
    let group = Fanotify::new(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_REPORT_FID | FAN_UNLIMITED_QUEUE)
        .context("make a fanotify group")?;
    group.mark(FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_MODIFY, folder).context("mark the file system")?;
    ready()?;
    let mut reader = EventReader::new(&group, 65_536);
    loop {
        let events = reader.read().context("read fanotify events")?;
        std::hint::black_box(events.len());
    }
}

fn ready() -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{READY}").and_then(|()| out.flush()).context("say that the watch stands")
}

/// Calls `see` with each path below `folder`, and whether it is a folder.
fn walk(folder: &Path, see: &mut impl FnMut(&Path, bool)) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        let is_folder = entry.file_type().context("look at an entry")?.is_dir();
        let path = entry.path();
        see(&path, is_folder);
        if is_folder {
            walk(&path, see)?;
        }
    }
    Ok(())
}

/// Makes `files` small files below `folder`, fifty to a folder.
pub(super) fn make_files(folder: &Path, files: u64) -> Result<()> {
    for number in 0..files {
        let path = folder.join((number / 50).to_string());
        if number % 50 == 0 {
            fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        }
        let path = path.join(number.to_string());
        File::create(&path)
            .and_then(|mut file| file.write_all(&[0; 200]))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Time by the clock and of this thread's work.
struct Meter {
    clock: Instant,
    processor: i128,
}

impl Meter {
    fn start() -> Self {
        Self { clock: Instant::now(), processor: processor_time() }
    }

    fn print(&self, count: u64) {
        let (processor, clock) = (processor_time() - self.processor, self.clock.elapsed().as_nanos());
        println!("{count} {clock} {processor}");
    }
}

/// User and system time of this thread, in nanoseconds.
fn processor_time() -> i128 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}
