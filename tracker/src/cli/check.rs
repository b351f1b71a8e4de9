//! `ebbtide check`: what this kernel permits, and whether the destinations can be used.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use ebbtide_feed::{PROTOCOL_VERSION, Start, codec};
use serde::Serialize;

use super::Failure;
use super::mirror::MirrorArguments;
use crate::daemon::config::Config;
use crate::daemon::{self, User};
use crate::probe::{self, Plan, Tried};
use crate::sys::with_causes;

/// Show what this kernel permits, how each source would be watched, and whether each destination can be used.
///
/// Nothing is changed anywhere. Ends with 1 when something would keep `ebbtide run` from working.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// All of it as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    mirrors: MirrorArguments,
}

/// What was found.
#[derive(Serialize)]
struct Findings {
    kernel: String,
    /// Each eBPF program.
    programs: Vec<Tried>,
    /// Why there is no eBPF at all.
    no_ebpf: Option<String>,
    sources: Vec<SourceFinding>,
    /// As the sender tells it: one object per destination.
    destinations: Vec<serde_json::Value>,
    /// Why no destination could be tried.
    no_destinations: Option<String>,
}

#[derive(Serialize)]
struct SourceFinding {
    source: String,
    plan: Option<Plan>,
    error: Option<String>,
    advice: Option<&'static str>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = if arguments.mirrors.is_given() { Some(arguments.mirrors.config()?) } else { None };
    super::require_privileges()?;
    let findings = find(config.as_ref());
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &findings)?;
        writeln!(out)?;
    } else {
        write_page(&mut out, &findings)?;
    }
    let bad = findings.sources.iter().any(|source| source.error.is_some())
        || findings.no_destinations.is_some()
        || findings.destinations.iter().any(is_bad);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn find(config: Option<&Config>) -> Findings {
    let (programs, no_ebpf) = match probe::try_programs() {
        Ok(programs) => (programs, None),
        Err(e) => (Vec::new(), Some(with_causes(&e))),
    };
    let sources = config.map(sources).unwrap_or_default();
    let (destinations, no_destinations) = match config.map(destinations) {
        None => (Vec::new(), None),
        Some(Ok(destinations)) => (destinations, None),
        Some(Err(e)) => (Vec::new(), Some(format!("{e:#}"))),
    };
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Findings { kernel: release, programs, no_ebpf, sources, destinations, no_destinations }
}

fn sources(config: &Config) -> Vec<SourceFinding> {
    let findings = config.mirrors.iter().map(|mirror| {
        let source = mirror.source.display().to_string();
        match daemon::try_source(mirror, config.probes) {
            Ok(plan) => SourceFinding { source, plan: Some(plan), error: None, advice: None },
            Err(e) => SourceFinding { source, plan: None, error: Some(with_causes(&e)), advice: e.advice() },
        }
    });
    findings.collect()
}

/// Lets the sender try them, as the user that it would run as.
fn destinations(config: &Config) -> anyhow::Result<Vec<serde_json::Value>> {
    let binary = daemon::find_binary().map_err(|e| anyhow::anyhow!("{e}; {}", e.advice()))?;
    let user: User = daemon::find_user(config.user.as_deref())?;
    let mut command: Command = daemon::sender_command(&binary, &user, "--ebbtide-check");
    let start = Start {
        version: PROTOCOL_VERSION,
        state_dir: config.state_dir.clone(),
        mirrors: config.mirrors.clone(),
    };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("the sender")?;
    let stdin = child.stdin.take().context("the sender's standard input")?;
    codec::write(stdin, &start).context("the sender did not take what to check")?;
    let output = child.wait_with_output()?;
    serde_json::from_slice(&output.stdout).with_context(|| {
        format!("the sender's answer was not understood, and it ended with {}", output.status)
    })
}

fn write_page(out: &mut impl Write, findings: &Findings) -> std::io::Result<()> {
    writeln!(out, "kernel {}", findings.kernel)?;
    for tried in &findings.programs {
        let attached = tried.way.as_deref().map_or("attached".into(), |way| format!("attached ({way})"));
        let state = tried.refused.as_deref().unwrap_or(&attached);
        writeln!(out, "  eBPF {}: {state}\n       {}", tried.program, tried.purpose)?;
    }
    if let Some(why) = &findings.no_ebpf {
        writeln!(out, "  no eBPF: {why}")?;
    }
    for source in &findings.sources {
        write_source(out, source)?;
    }
    for destination in &findings.destinations {
        write_destination(out, destination)?;
    }
    if let Some(why) = &findings.no_destinations {
        writeln!(out, "destinations could not be tried: {why}")?;
    }
    Ok(())
}

fn write_source(out: &mut impl Write, finding: &SourceFinding) -> std::io::Result<()> {
    writeln!(out, "source {}", finding.source)?;
    if let Some(plan) = &finding.plan {
        writeln!(out, "  {plan}")?;
        plan.notes.iter().try_for_each(|note| writeln!(out, "  {note}"))?;
    }
    if let Some(error) = &finding.error {
        writeln!(out, "  cannot be watched: {error}")?;
    }
    if let Some(advice) = finding.advice {
        writeln!(out, "  try: {advice}")?;
    }
    Ok(())
}

fn write_destination(out: &mut impl Write, finding: &serde_json::Value) -> std::io::Result<()> {
    writeln!(out, "destination {}", text(finding, "url"))?;
    let Some(fields) = finding.as_object() else { return Ok(()) };
    for (key, value) in fields.iter().filter(|(key, value)| *key != "url" && !value.is_null()) {
        if let Some(lines) = value.as_array() {
            let lines = lines.iter().filter_map(serde_json::Value::as_str);
            lines.into_iter().try_for_each(|line| writeln!(out, "  {line}"))?;
            continue;
        }
        let said = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        writeln!(out, "  {key}: {said}")?;
    }
    Ok(())
}

fn is_bad(finding: &serde_json::Value) -> bool {
    finding.get("error").is_some_and(|error| !error.is_null())
}

fn text<'a>(finding: &'a serde_json::Value, key: &str) -> &'a str {
    finding.get(key).and_then(serde_json::Value::as_str).unwrap_or("?")
}
