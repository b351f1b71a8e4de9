//! `ebbtide status`: how the daemon is.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ebbtide_feed::{DestinationState, DestinationStatus};

use super::Failure;
use crate::control::{
    AccountStatus, Answer, BeginningStatus, Client, MirrorStatus, RemedyStatus, Request, ScanStatus,
    SenderState, Status, TrackerStatus, Way,
};
use crate::daemon::config::RUNTIME_DIR;

/// Show how the daemon is: what it watches and how, what is pending where, and why.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// All of it as JSON.
    #[arg(long)]
    json: bool,
    /// The daemon's runtime folder.
    #[arg(long, value_name = "DIR", default_value = RUNTIME_DIR)]
    runtime_dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let status = ask(&arguments.runtime_dir)?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &status)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", Page::of(&status))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn ask(runtime_dir: &Path) -> Result<Status, Failure> {
    let client = Client::connect(runtime_dir).map_err(super::unreachable_daemon)?;
    match client.ask(&Request::Status, Some(PATIENCE)).map_err(super::unreachable_daemon)? {
        Answer::Status(status) => Ok(*status),
        other => Err(anyhow::anyhow!("the daemon answered something else: {other:?}").into()),
    }
}

/// Only what is pending, and where.
pub(super) fn pending(status: &Status) -> String {
    let mut page = Page(String::new());
    for mirror in status.mirrors.iter().filter(|mirror| mirror.root_lost) {
        page.line(format_args!("  {}: the source directory is not there", mirror.source));
    }
    let tracker = &status.tracker;
    if tracker.pending + tracker.in_flight > 0 {
        page.line(format_args!("  tracker: {} noted, {} handed over", tracker.pending, tracker.in_flight));
    }
    match &status.transfer {
        Some(transfer) => {
            transfer.destinations.iter().filter(|to| is_busy(to)).for_each(|to| page.destination(to));
        }
        None => page.sender(&status.sender),
    }
    page.0
}

fn is_busy(to: &DestinationStatus) -> bool {
    to.pending > 0 || to.state != DestinationState::Idle
}

/// Text for people.
struct Page(String);

impl std::fmt::Display for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Page {
    fn of(status: &Status) -> Self {
        let mut page = Page(String::new());
        let up = span(status.uptime_ms);
        page.line(format_args!(
            "ebbtide {}, process {}, up {up}, tracking since {} ms after its start",
            status.version, status.pid, status.tracking_after_ms
        ));
        for (index, mirror) in (0..).zip(&status.mirrors) {
            page.mirror(mirror);
            let all = status.transfer.iter().flat_map(|transfer| &transfer.destinations);
            all.filter(|to| to.mirror == index).for_each(|to| page.destination(to));
        }
        page.line(format_args!(""));
        page.tracker(&status.tracker);
        page.sender(&status.sender);
        let notes = status.transfer.iter().flat_map(|transfer| &transfer.notes);
        notes.for_each(|note| page.line(format_args!("  {note}")));
        page
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{text}");
    }

    fn mirror(&mut self, mirror: &MirrorStatus) {
        let delete = if mirror.delete { ", deleting" } else { "" };
        self.line(format_args!("\n{}{delete}", mirror.source));
        self.line(format_args!("  watched: {}", mirror.plan));
        mirror.plan.notes.iter().for_each(|note| self.line(format_args!("           {note}")));
        self.line(format_args!("  started: {}", start(&mirror.start)));
        if let Some(why) = &mirror.halted {
            self.line(format_args!("  halted: {why}; `ebbtide release` takes it for the right one"));
        }
        for dir in &mirror.away {
            self.line(format_args!(
                "  away: what was mounted on {dir}: nothing below it is sent or removed until it is back, or until \
                 `ebbtide release`"
            ));
        }
        match &mirror.tainted {
            None => self.line(format_args!("  coverage: complete")),
            Some(_) if mirror.root_lost => {
                self.line(format_args!(
                    "  coverage: the source directory is not the one it was; this mirror stands still until that is back, or \
                     until `ebbtide release` accepts the one that is there"
                ));
            }
            Some(taint) => {
                let since = span(taint.since_ms);
                let remedy = match taint.remedy {
                    RemedyStatus::Scan => "what changed since the last drain is looked for",
                    RemedyStatus::Compare => "the whole mirror is compared",
                };
                self.line(format_args!(
                    "  coverage: incomplete for {since}, since {}; {remedy}",
                    taint.reason
                ));
            }
        }
        mirror.scan.iter().for_each(|scan| self.scan(scan));
    }

    fn scan(&mut self, scan: &ScanStatus) {
        let state = if scan.running { "looking for changes for" } else { "looked for changes in" };
        self.line(format_args!(
            "  scan: {state} {}: {} directories, {} entries, {} told, {} unreadable; since {}",
            span(scan.ms),
            scan.directories,
            scan.entries,
            scan.picked,
            scan.unreadable,
            scan.reason
        ));
    }

    fn destination(&mut self, to: &DestinationStatus) {
        let state = match (to.state, to.retry_in_ms) {
            (DestinationState::Idle, _) if to.held.is_some() => "in step but for what is held".to_owned(),
            (DestinationState::Idle, _) => "in step".to_owned(),
            (DestinationState::Paused, _) => "paused".to_owned(),
            (DestinationState::Syncing, _) => "comparing trees".to_owned(),
            (DestinationState::Sending, _) => "sending".to_owned(),
            (DestinationState::Waiting, Some(ms)) => format!("waiting, next attempt in {}", span(ms)),
            (DestinationState::Waiting, None) => "waiting".to_owned(),
            (DestinationState::Resting, _) => "waiting for files that rest".to_owned(),
        };
        self.line(format_args!("  -> {}: {state}", to.url));
        self.line(format_args!(
            "     {} pending, {} acknowledged, {} sessions, {} failed, {} sent, {} received{}",
            to.pending,
            to.acknowledged,
            to.sessions,
            to.failures,
            bytes(to.bytes_sent),
            bytes(to.bytes_received),
            to.dialect.as_ref().map(|dialect| format!(", {dialect}")).unwrap_or_default()
        ));
        if let Some(error) = &to.last_error {
            self.line(format_args!("     last error: {error}"));
        }
        if let Some(resting) = &to.resting {
            let (names, next) = (resting.names, span(resting.next_in_ms));
            self.line(format_args!(
                "     {names} still being written or resting, the next is looked at in {next}"
            ));
        }
        if let Some(held) = &to.held {
            self.line(format_args!(
                "     held for {}: {} removals, since {}; `ebbtide release` lets them go: {}",
                span(held.since_ms),
                held.removals,
                held.reason,
                held.examples.join(", ")
            ));
        }
        for (name, why) in &to.failing_names {
            self.line(format_args!("     fails: {name}: {why}"));
        }
    }

    fn tracker(&mut self, tracker: &TrackerStatus) {
        let t = tracker;
        self.line(format_args!(
            "tracker: {}, {} name events, {} marks, {} drains, batch {}{}",
            t.phase,
            t.events,
            t.marks,
            t.drains,
            t.batch,
            if t.durable { "" } else { " not yet durable" }
        ));
        self.line(format_args!(
            "  {} looked up = {} told + {} outside + {} gone + {} untraced + {} again; {} folded, {} pending, {} in flight",
            t.drained, t.told, t.outside, t.gone, t.untraced, t.again, t.folded, t.pending, t.in_flight
        ));
        if t.listed > 0 {
            self.line(format_args!(
                "  {} directories listed for what changed while nobody listened",
                t.listed
            ));
        }
        self.account(&t.account);
    }

    /// Only what is worth a look.
    fn account(&mut self, account: &AccountStatus) {
        let lost = (account.lost_marks, account.lost_records, account.overflows);
        if lost != (0, 0, 0) {
            self.line(format_args!(
                "  lost: {} marks, {} names of marks, {} overflows of the queue; what that concerns was compared",
                lost.0, lost.1, lost.2
            ));
        }
        if !account.adds_up {
            self.line(format_args!("  the counters do not add up; please report this, with `status --json`"));
        }
    }

    fn sender(&mut self, sender: &SenderState) {
        let now = match (sender.pid, sender.ready) {
            (Some(pid), true) => format!("process {pid}"),
            (Some(pid), false) => format!("process {pid}, not ready yet"),
            (None, _) => "not running, it will be started again".to_owned(),
        };
        self.line(format_args!("sender: {now}, user {}, died {} times", sender.user, sender.deaths));
        if let Some(end) = &sender.last_end {
            self.line(format_args!("  last end: {end}"));
        }
    }
}

fn start(start: &BeginningStatus) -> String {
    let way = match start.way {
        Way::TakenOver => "what was marked before was taken over",
        Way::Reconcile => "what changed since the last drain was looked for",
        Way::FirstStart => "nothing was known",
    };
    start.reason.as_ref().map_or(way.to_owned(), |reason| format!("{way}, since {reason}"))
}

fn span(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        10_000..600_000 => format!("{} s", ms / 1000),
        600_000..36_000_000 => format!("{} min", ms / 60_000),
        36_000_000..864_000_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_said_in_fitting_units() {
        assert_eq!([span(5), span(59_000), span(3_600_000)], ["5 ms", "59 s", "60 min"]);
        assert_eq!([bytes(999), bytes(1500), bytes(2_000_000)], ["999 B", "1.5 KB", "2.0 MB"]);
    }
}
