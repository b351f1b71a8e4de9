//! What a run leaves: tables on the terminal, and a folder with the raw figures and how they came to be.

use std::env;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::world::process::first_line;
use crate::world::{self, table::Table};

/// One scenario's results.
pub(super) struct Run {
    scenario: &'static str,
    load_before: String,
    daemons_before: usize,
    csv: String,
    text: String,
}

impl Run {
    /// An empty one, begun now.
    pub(super) fn new(scenario: &'static str) -> Self {
        Self {
            scenario,
            load_before: load(),
            daemons_before: daemons(),
            csv: String::new(),
            text: String::new(),
        }
    }

    /// Names the columns of the raw figures. Comes first.
    pub(super) fn columns(&mut self, names: &[&str]) {
        self.csv = names.join(",") + "\n";
    }

    /// Adds a line of raw figures. No cell holds a comma.
    pub(super) fn figures(&mut self, cells: &[String]) {
        self.csv.push_str(&cells.join(","));
        self.csv.push('\n');
    }

    /// Shows a line of text.
    pub(super) fn say(&mut self, line: &str) {
        println!("{line}");
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Shows a table.
    pub(super) fn table(&mut self, title: &str, table: &Table) {
        self.say("");
        self.say(&format!(" {title}"));
        self.say("");
        self.say(table.text().trim_end());
        self.say("");
    }

    /// Writes `raw.csv` and `README.md` to a new folder below bench/runs.
    pub(super) fn save(&self) -> Result<()> {
        let folder = self.folder();
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        for (name, text) in [("raw.csv", self.csv.clone()), ("README.md", self.readme())] {
            let file = folder.join(name);
            fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        }
        println!(" raw figures: {}", folder.display());
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        let runs = world::top().join("bench/runs");
        let name = format!("{}-{}", first_line("date", &["-u", "+%F"]), self.scenario);
        let again = (2..1000).map(|number| format!("{name}-{number}"));
        let mut folders = std::iter::once(name.clone()).chain(again).map(|name| runs.join(name));
        folders.find(|folder| !folder.exists()).unwrap_or_else(|| runs.join(name))
    }

    fn readme(&self) -> String {
        format!(
            "# {}\n\n```\n{}```\n\n`raw.csv` holds each single figure.\n\n## How it came to be\n\n{}",
            self.scenario,
            self.text.trim_start_matches('\n'),
            self.circumstances()
        )
    }

    fn circumstances(&self) -> String {
        let arguments: Vec<String> = env::args().skip(1).collect();
        let lines = [
            ("command", format!("`cargo xtask {}`", arguments.join(" "))),
            ("when", first_line("date", &["-u", "+%F %H:%M UTC"])),
            ("commit", commit()),
            ("processor", format!("{} ({} of them)", processor(), first_line("nproc", &[]))),
            ("memory", memory()),
            ("kernel", first_line("uname", &["-srm"])),
            ("rsync", first_line("rsync", &["--version"])),
            ("lsyncd", first_line("lsyncd", &["--version"])),
            ("inotifywait", first_line("inotifywait", &["--help"])),
            ("load before and after", format!("{} and {}", self.load_before, load())),
            (
                "other ebbtide processes before and after",
                format!("{} and {}", self.daemons_before, daemons()),
            ),
        ];
        lines.iter().map(|(what, text)| format!("- {what}: {text}\n")).collect()
    }
}

fn commit() -> String {
    let top = world::top().display().to_string();
    first_line(
        "git",
        &["-c", &format!("safe.directory={top}"), "-C", &top, "describe", "--always", "--dirty"],
    )
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    line.trim_start_matches(['\t', ' ', ':']).to_owned()
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    format!("{:.1} GiB", kilobytes.unwrap_or(0.0) / f64::from(1 << 20))
}

/// Processes that ran or wanted to, averaged over one minute.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Processes of ebbtide that run now. The programs of each are called by every write on this machine.
fn daemons() -> usize {
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let names = processes.flatten().filter_map(|process| fs::read(process.path().join("comm")).ok());
    names.filter(|name| name.starts_with(b"ebbtide\n")).count()
}
