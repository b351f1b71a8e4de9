//! What the daemon shall do, checked.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebbtide_feed::{DestinationSpec, MaxDelete, MirrorSpec, PaceSpec};
use ebbtide_filter::{Builder, FilterError, Settings};

use crate::probe::ProbeChoice;

/// All that the daemon is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Folder for what must survive: the ledger.
    pub state_dir: PathBuf,
    /// Folder for what must not: the lock and the control socket.
    pub runtime_dir: PathBuf,
    /// Which probes may be used.
    pub probes: ProbeChoice,
    /// Who the sender runs as; `None` for `ebbtide` where that user exists, else `nobody`.
    pub user: Option<String>,
    /// From the first hint until facts are handed over, and how long a file must be quiet.
    pub settle: Duration,
    /// How long a file that never is quiet waits.
    pub max_delay: Duration,
    /// How long a file rests that took long to send, in times as long.
    pub rest: u32,
    /// How much further than to the last drain a reconcile looks back.
    pub reconcile_margin: Duration,
    /// What the last daemon left is dropped: nothing is taken over.
    pub forget: bool,
    /// At least one.
    pub mirrors: Vec<MirrorSpec>,
}

/// A value that cannot be used: what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Invalid {
    /// What is wrong with which value.
    pub what: String,
    /// What would be right.
    pub advice: String,
}

impl Invalid {
    fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Invalid { what: what.into(), advice: advice.into() }
    }
}

/// Where the state is by default.
pub const STATE_DIR: &str = "/var/lib/ebbtide";
/// Where lock and control socket are by default.
pub const RUNTIME_DIR: &str = "/run/ebbtide";
/// Default settle window in milliseconds.
pub const SETTLE_MS: u64 = 10;
/// Default of `max-delay` in milliseconds.
pub const MAX_DELAY_MS: u64 = 1000;
/// Longest `max-delay` in milliseconds.
pub const LONGEST_DELAY_MS: u64 = 3_600_000;
/// Default of `rest`.
pub const REST: u32 = 2;
/// Greatest `rest`.
pub const MAX_REST: u32 = 1000;
/// Default of `reconcile-margin` in seconds.
pub const RECONCILE_MARGIN_S: u32 = 120;
/// Longest settle window in milliseconds.
pub const MAX_SETTLE_MS: u64 = 60_000;
/// Default of `timeout` in seconds: a peer that is silent for so long is given up.
pub const TIMEOUT_S: u32 = 60;
/// Default of `contimeout` in seconds.
pub const CONTIMEOUT_S: u32 = 10;

impl Config {
    /// Tells the mirrors when files that change all the time are sent.
    #[must_use]
    pub fn paced(mut self) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let pace = PaceSpec { settle_ms: ms(self.settle), max_delay_ms: ms(self.max_delay), rest: self.rest };
        self.mirrors.iter_mut().for_each(|mirror| mirror.pace = pace);
        self
    }
}

/// Checks what no single value shows: that mirrors do not fight over a destination.
///
/// # Errors
/// What is wrong.
pub fn check_together(mirrors: &[MirrorSpec]) -> Result<(), Invalid> {
    if mirrors.is_empty() {
        return Err(Invalid::new("there is no mirror", "give at least one source and where it goes"));
    }
    let mut seen = std::collections::HashSet::new();
    for mirror in mirrors {
        if mirror.destinations.is_empty() {
            let source = mirror.source.display();
            return Err(Invalid::new(format!("mirror of {source}: it goes nowhere"), "add a destination"));
        }
        for to in &mirror.destinations {
            if !seen.insert(to.url.trim_end_matches('/')) {
                return Err(Invalid::new(
                    format!(
                        "destination {}: it is named twice, so two mirrors would overwrite each other",
                        to.url
                    ),
                    "give each mirror a path of its own",
                ));
            }
        }
    }
    Ok(())
}

/// Checks a source's path.
///
/// # Errors
/// It is not absolute.
pub fn check_source(path: &Path) -> Result<(), Invalid> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(Invalid::new(format!("source {}: is not an absolute path", path.display()), "write it from the / on"))
}

/// How a rule is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// As rsync's `--filter` has it.
    Filter,
    /// A pattern to include.
    Include,
    /// A pattern to exclude.
    Exclude,
}

/// Reads rules in rsync's language; `at` says where each one stands, for whoever tells what is wrong with it.
///
/// # Errors
/// The first rule that cannot be followed, with its `at`.
pub fn read_rules<'a, A>(
    rules: impl Iterator<Item = (RuleKind, &'a str, A)>,
) -> Result<Vec<Vec<u8>>, (A, Invalid)> {
    let mut files = read_rule_file;
    let mut builder = Builder::new(Settings::default(), &mut files);
    for (kind, text, at) in rules {
        let added = match kind {
            RuleKind::Filter => builder.filter(text.as_bytes()),
            RuleKind::Include => builder.include(text.as_bytes()),
            RuleKind::Exclude => builder.exclude(text.as_bytes()),
        };
        if let Err(error) = added {
            return Err((at, wrong_rule(&error)));
        }
        if builder.has_directory_files() {
            return Err((
                at,
                Invalid::new(
                    format!("filter {text}: a mirror cannot follow merge files in directories"),
                    "write the rules here, or name one file with `merge /path`",
                ),
            ));
        }
    }
    Ok(builder.finish().to_texts())
}

fn wrong_rule(error: &FilterError) -> Invalid {
    match error {
        FilterError::Open { source, .. } => Invalid::new(
            format!("filter: {error}: {source}"),
            "write its name from the / on, and let it be readable",
        ),
        _ => Invalid::new(
            format!("filter: {error}"),
            "write rules as the section FILTER RULES of rsync(1) has them",
        ),
    }
}

fn read_rule_file(name: &[u8]) -> io::Result<Vec<u8>> {
    let path = Path::new(OsStr::from_bytes(name));
    if path.is_absolute() {
        return std::fs::read(path);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not an absolute path"))
}

/// Checks `rsync://[user@]host[:port]/module/[path]`, or the same with `rsyncs://`.
///
/// # Errors
/// What is missing.
pub fn check_url(url: &str) -> Result<(), Invalid> {
    let advice = "write rsync://[user@]host[:port]/module/[path]";
    let bad = |what: &str| Err(Invalid::new(format!("destination {url}: {what}"), advice));
    let Some(rest) = url.strip_prefix("rsync://").or_else(|| url.strip_prefix("rsyncs://")) else {
        // A remote shell would need a key, and a home, of the user that the sender runs as.
        return bad(
            "does not begin with rsync:// or rsyncs://, and rsync daemons are the only destinations there are",
        );
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = split_port(host);
    if host.is_empty() {
        return bad("names no host");
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return bad("has a port that is no number from 0 to 65535");
    }
    if path.split('/').next().is_none_or(str::is_empty) {
        return bad("names no module");
    }
    Ok(())
}

/// An IPv6 address stands in brackets.
fn split_port(host: &str) -> (&str, Option<&str>) {
    if let Some((address, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, rest.strip_prefix(':'));
    }
    host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port)))
}

/// Checks the options of a destination that have few values.
///
/// # Errors
/// A value is out of range.
pub fn check_destination(to: &DestinationSpec) -> Result<(), Invalid> {
    check_url(&to.url)?;
    if let Some(choice) = &to.compress_choice
        && !COMPRESSIONS.contains(&choice.as_str())
    {
        let known = COMPRESSIONS.join(", ");
        return Err(Invalid::new(
            format!("compress-choice {choice}: is not known"),
            format!("use one of {known}"),
        ));
    }
    if let Some(choice) = &to.checksum_choice
        && !CHECKSUMS.contains(&choice.as_str())
    {
        let known = CHECKSUMS.join(", ");
        return Err(Invalid::new(
            format!("checksum-choice {choice}: is not known"),
            format!("use one of {known}"),
        ));
    }
    check_folder("temp-dir", to.temp_dir.as_deref())?;
    check_folder("partial-dir", to.partial_dir.as_deref())?;
    if let Some(level) = to.compress_level
        && !LEVELS.contains(&level)
    {
        let range = format!("use a number from {} to {}", LEVELS.start(), LEVELS.end());
        return Err(Invalid::new(format!("compress-level {level}: is out of range"), range));
    }
    check_tls(to)?;
    check_file("password-file", to.password_file.as_deref())
}

fn check_tls(to: &DestinationSpec) -> Result<(), Invalid> {
    let files = [("tls-ca", &to.tls.ca), ("tls-cert", &to.tls.cert), ("tls-key", &to.tls.key)];
    for (key, file) in files {
        if file.is_some() && !to.url.starts_with("rsyncs://") {
            let what = format!("destination {}: {key} has no use without TLS", to.url);
            return Err(Invalid::new(what, "write rsyncs:// if the daemon stands behind a TLS proxy"));
        }
        check_file(key, file.as_deref())?;
    }
    if to.tls.key.is_some() && to.tls.cert.is_none() {
        let what = format!("destination {}: tls-key stands alone", to.url);
        return Err(Invalid::new(what, "give its certificate with tls-cert"));
    }
    Ok(())
}

fn check_file(key: &str, file: Option<&Path>) -> Result<(), Invalid> {
    match file {
        Some(file) if !file.is_absolute() => Err(Invalid::new(
            format!("{key} {}: is not an absolute path", file.display()),
            "write it from the / on",
        )),
        _ => Ok(()),
    }
}

/// Reads a `max-delete`: a number of names, or a share of them such as `10%`.
///
/// # Errors
/// It is neither.
pub fn read_max_delete(text: &str) -> Result<MaxDelete, Invalid> {
    let share = text.strip_suffix('%').map(|share| share.parse::<u8>().ok().filter(|share| *share <= 100));
    let read = match share {
        Some(share) => share.map(MaxDelete::Percent),
        None => text.parse().ok().map(MaxDelete::Count),
    };
    read.ok_or_else(|| {
        let advice = "use a number of names, or a share of them from 0% to 100%";
        Invalid::new(format!("max-delete {text}: is neither"), advice)
    })
}

/// Checks the settle window.
///
/// # Errors
/// It is too long.
pub fn check_settle(ms: u64) -> Result<Duration, Invalid> {
    at_most("settle", ms, MAX_SETTLE_MS, "milliseconds").map(Duration::from_millis)
}

/// Checks how long a file that never is quiet waits.
///
/// # Errors
/// It is too long.
pub fn check_max_delay(ms: u64) -> Result<Duration, Invalid> {
    at_most("max-delay", ms, LONGEST_DELAY_MS, "milliseconds").map(Duration::from_millis)
}

/// Checks whether a mirror is to stay on its file system.
///
/// # Errors
/// It is not to.
pub fn check_one_file_system(staying: bool) -> Result<(), Invalid> {
    if staying {
        return Ok(());
    }
    let advice = "give each file system below the source a [[mirror]] of its own, to a path below this one's";
    Err(Invalid::new("one-file-system false: a mirror does not follow mounts", advice))
}

/// Checks how long a file rests that took long to send.
///
/// # Errors
/// It is too long.
pub fn check_rest(times: u32) -> Result<u32, Invalid> {
    at_most("rest", times, MAX_REST, "a number")
}

fn at_most<N: Copy + PartialOrd + std::fmt::Display>(
    key: &str,
    given: N,
    most: N,
    unit: &str,
) -> Result<N, Invalid> {
    if given <= most {
        return Ok(given);
    }
    Err(Invalid::new(format!("{key} {given}: is out of range"), format!("use {unit} from 0 to {most}")))
}

/// Checks the path of a folder at a destination.
fn check_folder(key: &str, path: Option<&str>) -> Result<(), Invalid> {
    match path {
        Some(path) if path.is_empty() || path.split('/').any(|part| part == "..") => Err(Invalid::new(
            format!("{key} {path:?}: is no folder within a module"),
            "write a path from the module on, with a / in front, or a name for each directory",
        )),
        _ => Ok(()),
    }
}

const CHECKSUMS: [&str; 5] = ["xxh128", "xxh3", "xxh64", "md5", "sha1"];

const COMPRESSIONS: [&str; 4] = ["zstd", "lz4", "zlibx", "none"];

/// zstd has negative levels; rsync passes them on.
const LEVELS: std::ops::RangeInclusive<i32> = -131_072..=22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_rsync_daemons_are_taken_and_others_are_not() {
        for good in [
            "rsync://h/m",
            "rsync://u@h:8730/m/a/b",
            "rsync://[::1]:873/m/",
            "rsyncs://h/m/",
            "rsync://u@[fe80::1]/m",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "h::m",
            "ssh://h/m",
            "rsync://h",
            "rsync:///m",
            "rsync://h:x/m",
            "rsync://h:99999/m",
            "rsync://h/",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_mirrors_may_not_share_a_destination() {
        let to = |url: &str| DestinationSpec {
            url: url.into(),
            timeout_s: 0,
            tls: ebbtide_feed::TlsSpec::default(),
            contimeout_s: 0,
            ..Default::default()
        };
        let mirror = |urls: &[&str]| MirrorSpec {
            source: "/a".into(),
            delete: true,
            numeric_ids: false,
            hard_links: true,
            filters: Vec::new(),
            destinations: urls.iter().map(|url| to(url)).collect(),
            ..Default::default()
        };
        assert!(check_together(&[]).is_err());
        assert!(check_together(&[mirror(&[])]).is_err());
        assert!(check_together(&[mirror(&["rsync://h/m/a"]), mirror(&["rsync://h/m/a/"])]).is_err());
        assert_eq!(check_together(&[mirror(&["rsync://h/m/a", "rsync://h/m/b"])]), Ok(()));
    }
}
