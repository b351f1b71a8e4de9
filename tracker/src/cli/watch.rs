//! `ebbtide watch`: facts as they happen.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ebbtide_feed::{Fact, RelPath};
use serde::Serialize;

use super::Failure;
use crate::daemon::{self, WatchError};
use crate::probe::ProbeChoice;

/// Print what changes below a directory, as it happens, one fact a line.
///
/// Watches the whole file system through the kernel, so it starts at once on trees of any size and misses nothing.
/// Control characters, backslashes and bytes that are not UTF-8 come out escaped.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The directory.
    dir: PathBuf,
    /// One JSON object a line; paths that cannot be said in UTF-8 have their bytes in `path_bytes` as well.
    #[arg(long)]
    json: bool,
    /// Which probes may be used.
    #[arg(long, value_enum, default_value_t)]
    probes: ProbeChoice,
    /// Milliseconds from the first hint until facts are told; what changes meanwhile is told once.
    #[arg(long, value_name = "MS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    settle: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    super::require_privileges()?;
    let mut out = std::io::stdout().lock();
    let started = |plan: &crate::probe::Plan| {
        let notes = plan.notes.iter().map(|note| format!("  note: {note}\n"));
        let text = format!("watching {}: {plan}\n{}", arguments.dir.display(), notes.collect::<String>());
        // Nobody need listen there.
        let _ = std::io::stderr().write_all(text.as_bytes());
    };
    let tell = |facts: &[Fact]| {
        for fact in facts {
            if arguments.json { write_json(&mut out, fact)? } else { write_line(&mut out, fact)? }
        }
        out.flush()
    };
    let settle = Duration::from_millis(arguments.settle);
    match daemon::watch(&arguments.dir, arguments.probes, settle, started, tell) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Whoever read this wants no more of it.
        Err(WatchError::Output(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(e) => {
            let advice = e.advice();
            Err(Failure::advise(e, advice))
        }
    }
}

fn write_line(out: &mut impl Write, fact: &Fact) -> std::io::Result<()> {
    match fact {
        Fact::Touched { path, data: true } => writeln!(out, "data      {path}"),
        Fact::Touched { path, data: false } => writeln!(out, "attrs     {path}"),
        Fact::Gone { path } => writeln!(out, "gone      {path}"),
        Fact::Moved { from, to } => writeln!(out, "moved     {from} -> {to}"),
        Fact::Relist { dir } => writeln!(out, "relist    {dir}"),
        Fact::Subtree { dir, replaced: false } => writeln!(out, "subtree   {dir}"),
        Fact::Subtree { dir, replaced: true } => writeln!(out, "replaced  {dir}"),
        Fact::Contents { dir } => writeln!(out, "contents  {dir}"),
        Fact::Made { .. } => Ok(()),
    }
}

/// A fact as JSON: the same words.
#[derive(Serialize)]
struct Line<'a> {
    fact: &'static str,
    #[serde(flatten)]
    path: PathJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_bytes: Option<&'a [u8]>,
}

#[derive(Serialize)]
struct PathJson<'a> {
    /// The path itself where it is UTF-8, otherwise with the other bytes replaced.
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<&'a [u8]>,
}

fn write_json(out: &mut impl Write, fact: &Fact) -> std::io::Result<()> {
    let word = match fact {
        Fact::Touched { data: true, .. } => "data",
        Fact::Touched { data: false, .. } => "attrs",
        Fact::Gone { .. } => "gone",
        Fact::Moved { .. } => "moved",
        Fact::Relist { .. } => "relist",
        Fact::Subtree { replaced: false, .. } => "subtree",
        Fact::Subtree { replaced: true, .. } => "replaced",
        Fact::Contents { .. } => "contents",
        Fact::Made { .. } => return Ok(()),
    };
    let (path, path_bytes) = utf8(fact.path());
    let (from, from_bytes) = match fact {
        Fact::Moved { from, .. } => (Some(utf8(from).0), utf8(from).1),
        _ => (None, None),
    };
    let line = Line { fact: word, path: PathJson { path, path_bytes }, from, from_bytes };
    serde_json::to_writer(&mut *out, &line)?;
    writeln!(out)
}

fn utf8(path: &RelPath) -> (String, Option<&[u8]>) {
    match std::str::from_utf8(path.as_bytes()) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(path.as_bytes()).into_owned(), Some(path.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(fact: &Fact) -> String {
        let mut out = Vec::new();
        write_json(&mut out, fact).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_fact_is_one_line_whatever_its_name() {
        let path = RelPath::new(&b"a\nb\xff"[..]).unwrap();
        let mut out = Vec::new();
        write_line(&mut out, &Fact::Gone { path: path.clone() }).unwrap();
        assert_eq!(out, b"gone      a\\nb\\xff\n");
        assert_eq!(
            json(&Fact::Gone { path }),
            "{\"fact\":\"gone\",\"path\":\"a\\nb\u{fffd}\",\"path_bytes\":[97,10,98,255]}\n"
        );
    }

    #[test]
    fn a_move_names_both_ends() {
        let fact =
            Fact::Moved { from: RelPath::new(&b"a"[..]).unwrap(), to: RelPath::new(&b"b"[..]).unwrap() };
        assert_eq!(json(&fact), "{\"fact\":\"moved\",\"path\":\"b\",\"from\":\"a\"}\n");
    }
}
