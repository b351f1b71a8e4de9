//! Progress: lines in rsync's form where output goes to a file, a bar on a terminal.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::stats::Numbers;

/// What is shown of a running transfer.
pub(super) struct Progress {
    /// Each file has its own line.
    pub(super) per_file: bool,
    numbers: Numbers,
    started: Instant,
    /// Entries of the list.
    entries: usize,
    /// Bytes of all files of the list.
    total: u64,
    files_sent: u64,
    bytes_sent: u64,
    /// On a terminal.
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Before anything is listed. A bar is not drawn yet.
    pub(super) fn new(per_file: bool, numbers: Numbers) -> Progress {
        let bar = std::io::stdout().is_terminal().then(|| {
            let style = ProgressStyle::with_template(TEMPLATE);
            ProgressBar::hidden().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let started = Instant::now();
        Progress { per_file, numbers, started, entries: 0, total: 0, files_sent: 0, bytes_sent: 0, bar }
    }

    /// Draws the bar from now on: the session stands, and asks nobody for a password any more.
    pub(super) fn show(&mut self) {
        self.started = Instant::now();
        if let Some(bar) = &self.bar {
            bar.reset();
            bar.set_draw_target(ProgressDrawTarget::stdout());
        }
    }

    /// So many entries with so many bytes were listed.
    pub(super) fn listed(&mut self, entries: usize, bytes: u64) {
        self.entries += entries;
        self.total += bytes;
        if let Some(bar) = &self.bar {
            bar.set_length(self.total);
        }
    }

    /// The bar, where there is one.
    pub(super) fn bar(&self) -> Option<&ProgressBar> {
        self.bar.as_ref()
    }

    /// Some bytes of a file went over, or are there.
    pub(super) fn moved(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position((bar.position() + bytes).min(self.total));
        }
    }

    /// A file of `size` bytes is done, at this place in the list; what to print where there is no bar.
    pub(super) fn sent(&mut self, place: usize, size: u64, took: Duration) -> Option<String> {
        self.files_sent += 1;
        self.bytes_sent += size;
        let left = self.entries.saturating_sub(place + 1);
        let tail = format!("(xfr#{}, to-chk={left}/{})", self.files_sent, self.entries);
        if let Some(bar) = &self.bar {
            bar.set_position(self.bytes_sent.min(self.total));
            bar.set_message(tail);
            return None;
        }
        Some(if self.per_file {
            format!("\r{} {tail}\n", self.numbers_of(size, size, took))
        } else {
            format!("\r{} {tail}", self.numbers_of(self.bytes_sent, self.total, self.started.elapsed()))
        })
    }

    /// The end; what to print before anything else.
    pub(super) fn end(&self) -> Option<&'static str> {
        let open_line = match &self.bar {
            Some(bar) => {
                bar.abandon();
                !bar.is_hidden()
            }
            None => !self.per_file && self.files_sent > 0,
        };
        open_line.then_some("\n")
    }

    /// Peer: the columns of rsync's manual page, option `--progress`.
    fn numbers_of(&self, done: u64, of: u64, took: Duration) -> String {
        let percent = if of == 0 { 100 } else { u128::from(done) * 100 / u128::from(of) };
        let millis = took.as_millis();
        let kilobytes = if millis == 0 { 0.0 } else { done as f64 * 1000.0 / millis as f64 / 1024.0 };
        let seconds = took.as_secs();
        let mut out = format!("{:>15} {percent:>3}% ", self.numbers.bytes(done));
        let _ = write!(
            out,
            "{} {:>4}:{:02}:{:02}",
            rate(kilobytes),
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        );
        out
    }
}

/// Bytes done, of all, in percent, per second, and the time left; the bar has what the line leaves of the width.
const TEMPLATE: &str =
    "{bytes:>10}/{total_bytes} {percent:>3}% [{wide_bar}] {bytes_per_sec:>12} left {eta} {msg}";

fn rate(kilobytes: f64) -> String {
    let (number, unit) = match kilobytes {
        rate if rate > 1024.0 * 1024.0 => (rate / 1024.0 / 1024.0, "GB/s"),
        rate if rate > 1024.0 => (rate / 1024.0, "MB/s"),
        rate => (rate, "kB/s"),
    };
    format!("{number:7.2}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_line_has_rsyncs_columns() {
        let mut progress = Progress::new(true, Numbers { human: 1 });
        progress.bar = None;
        progress.listed(5, 300_005);
        let line = progress.sent(1, 5, Duration::ZERO).unwrap();
        assert_eq!(line, "\r              5 100%    0.00kB/s    0:00:00 (xfr#1, to-chk=3/5)\n");
        let line = progress.sent(4, 300_000, Duration::from_millis(1)).unwrap();
        assert_eq!(line, "\r        300,000 100%  286.10MB/s    0:00:00 (xfr#2, to-chk=0/5)\n");
        assert_eq!(progress.end(), None);
    }

    #[test]
    fn the_whole_transfer_has_one_line() {
        let mut progress = Progress::new(false, Numbers { human: 1 });
        progress.bar = None;
        progress.listed(5, 300_006);
        let line = progress.sent(4, 300_005, Duration::ZERO).unwrap();
        assert!(
            line.starts_with("\r        300,005  99% ") && line.ends_with(" (xfr#1, to-chk=0/5)"),
            "{line}"
        );
        assert_eq!(progress.end(), Some("\n"));
    }
}
