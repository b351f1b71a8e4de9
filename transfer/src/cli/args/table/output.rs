//! What is printed.

use super::super::given::{Buffering, StderrMode};
use super::super::value::path;
use super::{Spec, count, switch, value};

pub(super) const SPECS: &[Spec] = &[
    switch(Some('v'), &["verbose"], &["no-verbose", "no-v"], "increase verbosity", |given, on| {
        count(&mut given.output.verbose, on);
    }),
    value(None, &["info"], "FLAGS", "fine-grained informational verbosity", |given, value| {
        given.output.info.push(value.to_vec());
        Ok(())
    }),
    value(None, &["debug"], "FLAGS", "fine-grained debug verbosity", |given, value| {
        given.output.debug.push(value.to_vec());
        Ok(())
    }),
    value(None, &["stderr"], "e|a|c", "change stderr output mode (default: errors)", |given, value| {
        given.output.stderr = stderr(value)?;
        Ok(())
    }),
    switch(None, &["msgs2stderr"], &["no-msgs2stderr"], "same as --stderr=all", |given, on| {
        given.output.stderr = if on { StderrMode::All } else { StderrMode::Client };
    }),
    switch(Some('q'), &["quiet"], &[], "suppress non-error messages", |given, on| given.output.quiet = on),
    switch(None, &["motd"], &["no-motd"], "show the daemon's message of the day (usual)", |given, on| {
        given.output.motd = on;
    }),
    switch(
        Some('i'),
        &["itemize-changes"],
        &["no-itemize-changes", "no-i"],
        "output a change-summary for all updates",
        |given, on| count(&mut given.output.itemize, on),
    ),
    switch(
        Some('h'),
        &["human-readable"],
        &["no-human-readable", "no-h"],
        "output numbers in a human-readable format",
        |given, on| given.output.human = if on { (given.output.human + 1).min(3) } else { 0 },
    ),
    switch(None, &["stats"], &[], "give some file-transfer stats", |given, on| given.output.stats = on),
    switch(None, &["progress"], &["no-progress"], "show progress during transfer", |given, on| {
        given.output.progress = on;
    }),
    switch(Some('P'), &["P"], &[], "same as --partial --progress", |given, on| {
        given.output.progress = on;
        given.update.partial = on;
    }),
    value(
        None,
        &["out-format", "log-format"],
        "FORMAT",
        "output updates using the specified FORMAT",
        |given, value| {
            given.output.out_format = Some(value.to_vec());
            Ok(())
        },
    ),
    value(None, &["log-file"], "FILE", "log what we're doing to the specified FILE", |given, value| {
        given.output.log_file = Some(path(value)?);
        Ok(())
    }),
    value(None, &["log-file-format"], "FMT", "log updates using the specified FMT", |given, value| {
        given.output.log_file_format = Some(value.to_vec());
        Ok(())
    }),
    switch(
        Some('8'),
        &["8-bit-output"],
        &["no-8-bit-output", "no-8"],
        "leave high-bit chars unescaped in output",
        |given, on| given.output.eight_bit = on,
    ),
    value(None, &["outbuf"], "N|L|B", "set out buffering to None, Line, or Block", |given, value| {
        given.output.buffering = Some(buffering(value)?);
        Ok(())
    }),
    switch(None, &["list-only"], &[], "list a daemon's modules instead of copying", |given, on| {
        given.output.list_only = on;
    }),
    switch(Some('n'), &["dry-run"], &[], "perform a trial run with no changes made", |given, on| {
        given.update.dry_run = on;
    }),
];

/// A mode may be cut short down to its first letter.
fn stderr(value: &[u8]) -> Result<StderrMode, String> {
    let modes = [("errors", StderrMode::Errors), ("all", StderrMode::All), ("client", StderrMode::Client)];
    let found = modes.iter().find(|(name, _)| !value.is_empty() && name.as_bytes().starts_with(value));
    found.map(|(_, mode)| *mode).ok_or_else(|| "not one of errors, all, or client".to_owned())
}

fn buffering(value: &[u8]) -> Result<Buffering, String> {
    let first = value.first().map(u8::to_ascii_uppercase);
    match first {
        Some(b'N' | b'U') => Ok(Buffering::None),
        Some(b'L') => Ok(Buffering::Line),
        Some(b'B' | b'F') => Ok(Buffering::Block),
        _ => Err("specify N, L, or B".to_owned()),
    }
}
