//! The numbers at the end of a run.

use std::fmt::Write as _;
use std::time::Duration;

use ebbtide_wire::sender::DeleteStats;
use rustix::fs::FileType;

use crate::session::{Entry, Report};

/// Counts by kind of entry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) files: u64,
    pub(super) dirs: u64,
    pub(super) links: u64,
    pub(super) devices: u64,
    pub(super) specials: u64,
}

impl Counts {
    pub(super) fn add(&mut self, entry: &Entry) {
        match entry.meta.kind() {
            FileType::Directory => self.dirs += 1,
            FileType::Symlink => self.links += 1,
            FileType::CharacterDevice | FileType::BlockDevice => self.devices += 1,
            FileType::Fifo | FileType::Socket => self.specials += 1,
            _ => self.files += 1,
        }
    }

    fn all(&self) -> u64 {
        self.files + self.dirs + self.links + self.devices + self.specials
    }
}

impl From<DeleteStats> for Counts {
    fn from(stats: DeleteStats) -> Self {
        Counts {
            files: stats.files.into(),
            dirs: stats.dirs.into(),
            links: stats.symlinks.into(),
            devices: stats.devices.into(),
            specials: stats.specials.into(),
        }
    }
}

/// How amounts of bytes are printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    /// `-h`: 0 for bare digits, 1 for grouped ones, 2 for units of 1000, 3 for units of 1024.
    pub(super) human: u8,
}

impl Numbers {
    pub(super) fn bytes(self, number: u64) -> String {
        let unit = match self.human {
            0 => return number.to_string(),
            1 => return grouped(number),
            2 => 1000.0,
            _ => 1024.0,
        };
        let mut left = number as f64;
        let mut suffixes = "KMGTPE".chars();
        let mut suffix = None;
        while left >= unit {
            left /= unit;
            suffix = suffixes.next();
        }
        suffix.map_or_else(|| number.to_string(), |suffix| format!("{left:.2}{suffix}"))
    }
}

/// What `--stats` prints.
pub(super) fn full(
    report: &Report,
    listed: Counts,
    created: Counts,
    deletes: bool,
    listing: Duration,
    numbers: Numbers,
) -> String {
    let totals = &report.totals;
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name}: {value}");
    };
    line("Number of files", by_kind(listed));
    line("Number of created files", by_kind(created));
    if deletes || totals.deleted.is_some() {
        line("Number of deleted files", by_kind(totals.deleted.unwrap_or_default().into()));
    }
    line("Number of regular files transferred", grouped(totals.files_sent));
    line("Total file size", format!("{} bytes", numbers.bytes(totals.size_listed)));
    line("Total transferred file size", format!("{} bytes", numbers.bytes(totals.size_sent)));
    line("Literal data", format!("{} bytes", numbers.bytes(totals.literal)));
    line("Matched data", format!("{} bytes", numbers.bytes(totals.matched)));
    line("File list size", numbers.bytes(totals.list_bytes));
    line("File list generation time", format!("{:.3} seconds", listing.as_secs_f64()));
    line("File list transfer time", format!("{:.3} seconds", totals.list_time.as_secs_f64()));
    line("Total bytes sent", numbers.bytes(report.bytes_written));
    line("Total bytes received", numbers.bytes(report.bytes_read));
    out
}

/// The two lines that `-v` ends with.
pub(super) fn summary(report: &Report, taken: Duration, numbers: Numbers) -> String {
    let moved = report.bytes_written + report.bytes_read;
    // Whole seconds, as rsync counts them.
    let rate = moved as f64 / (0.5 + taken.as_secs() as f64);
    let speedup = report.totals.size_listed as f64 / moved.max(1) as f64;
    let rate = if numbers.human > 1 { numbers.bytes(rate as u64) } else { with_fraction(rate) };
    format!(
        "sent {} bytes  received {} bytes  {rate} bytes/sec\ntotal size is {}  speedup is {}",
        numbers.bytes(report.bytes_written),
        numbers.bytes(report.bytes_read),
        numbers.bytes(report.totals.size_listed),
        with_fraction(speedup),
    )
}

/// The last line of a log.
pub(super) fn logged(report: &Report) -> String {
    format!(
        "sent {} bytes  received {} bytes  total size {}",
        report.bytes_written, report.bytes_read, report.totals.size_listed
    )
}

fn by_kind(counts: Counts) -> String {
    let kinds = [
        ("reg", counts.files),
        ("dir", counts.dirs),
        ("link", counts.links),
        ("dev", counts.devices),
        ("special", counts.specials),
    ];
    let shown: Vec<_> = kinds
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name}: {}", grouped(count)))
        .collect();
    if shown.is_empty() {
        return grouped(counts.all());
    }
    format!("{} ({})", grouped(counts.all()), shown.join(", "))
}

fn with_fraction(number: f64) -> String {
    let cents = (number * 100.0).round() as u64;
    format!("{}.{:02}", grouped(cents / 100), cents % 100)
}

/// With a comma before each group of three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three_digits() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(with_fraction(1234.567), "1,234.57");
    }

    #[test]
    fn human_numbers_have_units() {
        assert_eq!(Numbers { human: 0 }.bytes(1_234_567), "1234567");
        assert_eq!(Numbers { human: 1 }.bytes(1_234_567), "1,234,567");
        assert_eq!(Numbers { human: 2 }.bytes(1_234_567), "1.23M");
        assert_eq!(Numbers { human: 3 }.bytes(1_048_576), "1.00M");
        assert_eq!(Numbers { human: 2 }.bytes(999), "999");
    }

    #[test]
    fn counts_name_the_kinds_that_occur() {
        let counts = Counts { files: 1200, dirs: 1, ..Counts::default() };
        assert_eq!(by_kind(counts), "1,201 (reg: 1,200, dir: 1)");
        assert_eq!(by_kind(Counts::default()), "0");
    }
}
