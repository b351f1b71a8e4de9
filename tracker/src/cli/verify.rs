//! `ebbtide verify`: what differs, by checksum, changing nothing.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::Context;
use ebbtide_feed::{DestinationSpec, MirrorSpec};
use serde::Serialize;

use super::Failure;
use super::mirror::MirrorArguments;
use crate::daemon;

/// Compare sources and destinations by checksum, and print what differs as rsync itemizes it. Nothing is changed.
///
/// Every file is read at both ends. What changes meanwhile, or is not sent yet, is a difference too.
/// Ends with 0 when all is equal, with 1 when something differs, and with rsync's exit code when a comparison failed.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only what is at and below this path, which is absolute or relative to a source.
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// All of it as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    mirrors: MirrorArguments,
}

/// What was found out about one destination.
#[derive(Debug, Serialize)]
struct Finding {
    source: String,
    destination: String,
    equal: bool,
    /// Number of lines in `drift`.
    differences: u64,
    drift: Vec<Drift>,
    /// How the comparison ended, as rsync's exit code.
    exit: i32,
    /// What it said about that.
    error: Option<String>,
}

/// A difference.
#[derive(Debug, Serialize)]
struct Drift {
    /// What differs, in rsync's letters.
    change: String,
    /// The name, with unprintable bytes escaped.
    name: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = arguments.mirrors.config()?;
    super::require_privileges()?;
    let binary =
        daemon::find_binary().map_err(|e| Failure::advise(anyhow::anyhow!("{e}"), Some(e.advice())))?;
    let user = daemon::find_user(config.user.as_deref())?;
    let mut findings = Vec::new();
    let mut out = std::io::stdout().lock();
    for mirror in &config.mirrors {
        let Some(place) = place(mirror, arguments.path.as_deref()) else { continue };
        for to in &mirror.destinations {
            let mut command = daemon::sender_command(&binary, &user, "--dry-run");
            command.args(options(mirror, to)).args(&place).arg(&to.url);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let tell = |drift: &Drift| match arguments.json {
                true => Ok(()),
                false => writeln!(out, "{} {}", drift.change, drift.name),
            };
            let finding = compare(mirror, to, command, tell)?;
            if !arguments.json {
                write_end(&mut out, &finding)?;
            }
            findings.push(finding);
        }
    }
    if findings.is_empty() {
        let path = arguments.path.clone().unwrap_or_default();
        return Err(anyhow::anyhow!("path {}: no source has it", path.display()).into());
    }
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &findings)?;
        writeln!(out)?;
    }
    Ok(exit_code(&findings))
}

/// A failed comparison says more than drift that another one found.
fn exit_code(findings: &[Finding]) -> ExitCode {
    let failed = findings.iter().map(|finding| finding.exit).find(|exit| *exit != 0);
    match failed {
        Some(exit) => ExitCode::from(u8::try_from(exit).unwrap_or(u8::MAX)),
        None if findings.iter().all(|finding| finding.equal) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

/// What is compared: the source, or what is below it, with its way from there on. `None` if this source has it not.
fn place(mirror: &MirrorSpec, path: Option<&Path>) -> Option<Vec<OsString>> {
    let source = mirror.source.canonicalize().unwrap_or_else(|_| mirror.source.clone());
    let Some(path) = path else {
        return Some(vec![joined(&source, b"/")]);
    };
    let below = if path.is_absolute() {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        real.strip_prefix(&source).ok()?.to_owned()
    } else {
        path.to_owned()
    };
    if source.join(&below).symlink_metadata().is_err() {
        return None;
    }
    if below.as_os_str().is_empty() {
        return Some(vec![joined(&source, b"/")]);
    }
    let from = joined(&source, &[b"/./", below.as_os_str().as_bytes()].concat());
    Some(vec!["--relative".into(), "--no-implied-dirs".into(), from])
}

fn joined(source: &Path, rest: &[u8]) -> OsString {
    OsString::from_vec([source.as_os_str().as_bytes(), rest].concat())
}

/// What the daemon's own sessions keep, compared by checksum.
fn options(mirror: &MirrorSpec, to: &DestinationSpec) -> Vec<OsString> {
    let mut options: Vec<OsString> =
        ["--archive", "--checksum", "--out-format=%i %n%L"].map(OsString::from).to_vec();
    let flags = [
        (mirror.delete, "--delete"),
        (mirror.hard_links, "--hard-links"),
        (mirror.acls, "--acls"),
        (mirror.xattrs, "--xattrs"),
        (mirror.numeric_ids, "--numeric-ids"),
        (true, "--one-file-system"),
    ];
    options.extend(flags.iter().filter(|(is_on, _)| *is_on).map(|(_, flag)| OsString::from(*flag)));
    let mut with = |option: &str, value: &[u8]| {
        options.push(OsString::from_vec([option.as_bytes(), b"=", value].concat()));
    };
    mirror.filters.iter().for_each(|rule| with("--filter", rule));
    let files = [
        ("--password-file", &to.password_file),
        ("--tls-ca", &to.tls.ca),
        ("--tls-cert", &to.tls.cert),
        ("--tls-key", &to.tls.key),
    ];
    for (option, file) in files {
        file.iter().for_each(|file| with(option, file.as_os_str().as_bytes()));
    }
    to.checksum_choice.iter().for_each(|choice| with("--checksum-choice", choice.as_bytes()));
    to.compress_choice.iter().for_each(|choice| with("--compress-choice", choice.as_bytes()));
    for (option, seconds) in [("--timeout", to.timeout_s), ("--contimeout", to.contimeout_s)] {
        with(option, seconds.to_string().as_bytes());
    }
    options
}

fn compare(
    mirror: &MirrorSpec,
    to: &DestinationSpec,
    mut command: std::process::Command,
    mut tell: impl FnMut(&Drift) -> std::io::Result<()>,
) -> Result<Finding, Failure> {
    let mut child = command.spawn().context("the sender could not be started")?;
    let stderr = child.stderr.take().context("the sender's standard error")?;
    // It may say more than a pipe holds.
    let errors = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap_or_default());
    let mut drift = Vec::new();
    let stdout = child.stdout.take().context("the sender's standard output")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if let Some(found) = parse(&line) {
            tell(&found)?;
            drift.push(found);
        }
    }
    let status = child.wait()?;
    let said = errors.join().unwrap_or_default().trim().to_owned();
    let exit = status.code().unwrap_or(1);
    Ok(Finding {
        source: mirror.source.display().to_string(),
        destination: to.url.clone(),
        equal: exit == 0 && drift.is_empty(),
        differences: drift.len() as u64,
        drift,
        exit,
        error: (exit != 0).then_some(said),
    })
}

/// `>fc.t...... name`, or `*deleting   name`: eleven letters and a space before the name.
fn parse(line: &str) -> Option<Drift> {
    let (change, name) = line.split_at_checked(11)?;
    Some(Drift { change: change.trim_end().to_owned(), name: name.strip_prefix(' ')?.to_owned() })
}

fn write_end(out: &mut impl Write, finding: &Finding) -> std::io::Result<()> {
    let Finding { source, destination, differences, .. } = finding;
    match &finding.error {
        Some(error) => {
            writeln!(out, "{source} -> {destination}: could not be compared ({}): {error}", finding.exit)
        }
        None if finding.equal => writeln!(out, "{source} -> {destination}: equal"),
        None => writeln!(out, "{source} -> {destination}: {differences} differences"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_equal_from_drift_and_from_failure() {
        let finding = |equal: bool, exit: i32| Finding {
            source: String::new(),
            destination: String::new(),
            equal,
            differences: 0,
            drift: Vec::new(),
            exit,
            error: None,
        };
        let code = |findings: &[Finding]| format!("{:?}", exit_code(findings));
        assert_eq!(code(&[finding(true, 0)]), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(&[finding(true, 0), finding(false, 0)]), format!("{:?}", ExitCode::from(1)));
        assert_eq!(code(&[finding(false, 0), finding(false, 10)]), format!("{:?}", ExitCode::from(10)));
    }

    #[test]
    fn a_difference_has_letters_and_a_name() {
        let drift = parse("*deleting    a name").unwrap();
        assert_eq!((drift.change.as_str(), drift.name.as_str()), ("*deleting", " a name"));
        assert!(parse("x").is_none());
    }
}
