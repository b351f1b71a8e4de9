//! `docs/KERNELS.md`: what ran, in words. Each kernel has a part of its own between two marks; a run writes or checks
//! the part of the kernel that it runs on.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use ebbtide_tests::Change;

use crate::column::Results;
use crate::harness::End;
use crate::judge::{Cell, name_of};

/// Whether the document says what ran; with `EBBTIDE_WRITE_KERNELS` makes it so.
pub(crate) fn check(results: &[Results]) -> End {
    let path = path();
    let document = fs::read_to_string(&path).unwrap_or_else(|_| HEAD.to_owned());
    let (kernel, part) = (kernel(), part(results));
    if std::env::var_os("EBBTIDE_WRITE_KERNELS").is_some() {
        let written = with_part(&document, &kernel, &part);
        fs::write(&path, written).map_err(|e| format!("write {}: {e}", path.display()))?;
        return Ok(Some(format!("written to {}", path.display())));
    }
    match part_of(&document, &kernel) {
        None => Ok(Some(format!("it says nothing of Linux {kernel}"))),
        Some(said) if said == part => Ok(None),
        Some(_) => Err(format!(
            "{} says something else of Linux {kernel} than what ran; see what changed, and write it anew with \
             EBBTIDE_WRITE_KERNELS=1 or `cargo xtask vm-test --write`\n{part}",
            path.display()
        )),
    }
}

/// In a guest there is no source tree: `EBBTIDE_KERNELS_MD` says where the document is.
fn path() -> PathBuf {
    let here = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/KERNELS.md"));
    std::env::var_os("EBBTIDE_KERNELS_MD").map_or_else(here, PathBuf::from)
}

/// Major and minor number of the running kernel: its fixes change no cell.
fn kernel() -> String {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// The part of one kernel.
fn part(results: &[Results]) -> String {
    let mut text = String::from("\nWhat sees which kind of change:\n\n");
    row(
        &mut text,
        "",
        &["names", "content", "attributes", "mapped stores", "directories"].map(str::to_owned),
    );
    row(&mut text, "---", &["---"; 5].map(str::to_owned));
    for result in results {
        let via = |what: &str| match result.plan[what].as_str() {
            Some("ebpf") => "eBPF".to_owned(),
            Some("nothing") | None => "nobody".to_owned(),
            Some(other) => other.to_owned(),
        };
        let column = format!("{}, `{}`", result.column.kind.name(), result.column.plan);
        row(&mut text, &column, &["names", "content", "attributes", "mapped", "directories"].map(via));
    }
    text.push_str("\nWhat was mirrored:\n\n");
    let heads: Vec<String> = results
        .iter()
        .map(|result| format!("{} `{}`", result.column.kind.name(), result.column.plan))
        .collect();
    row(&mut text, "change", &heads);
    row(&mut text, "---", &vec![":-:".to_owned(); heads.len()]);
    for change in Change::all() {
        let cells: Vec<String> = results.iter().map(|result| word(result.cells.get(change.name))).collect();
        row(&mut text, change.name, &cells);
    }
    text.push('\n');
    text
}

fn row(text: &mut String, head: &str, cells: &[String]) {
    let _ = writeln!(text, "| {head} | {} |", cells.join(" | "));
}

fn word(cell: Option<&Cell>) -> String {
    match cell {
        Some(Cell::Followed) => "yes".into(),
        Some(Cell::NotPossible(errno)) => format!("`{}`", name_of(*errno)),
        Some(Cell::KnownUnseen(_)) => "**no**".into(),
        Some(Cell::ByChance(_)) => "*chance*".into(),
        None => "failed".into(),
    }
}

fn marks(kernel: &str) -> (String, String) {
    (format!("<!-- Linux {kernel}: begin -->\n"), format!("<!-- Linux {kernel}: end -->\n"))
}

fn part_of<'a>(document: &'a str, kernel: &str) -> Option<&'a str> {
    let (begin, end) = marks(kernel);
    let after = &document[document.find(&begin)? + begin.len()..];
    Some(&after[..after.find(&end)?])
}

/// The document with this part in the place of the old one, or at its end.
fn with_part(document: &str, kernel: &str, part: &str) -> String {
    let (begin, end) = marks(kernel);
    match part_of(document, kernel) {
        Some(old) => document.replace(&format!("{begin}{old}{end}"), &format!("{begin}{part}{end}")),
        None => format!("{document}\n## Linux {kernel}\n\n{begin}{part}{end}"),
    }
}

const HEAD: &str = "\
# What is seen on which kernel

This is written by the tests and checked by them: `tests/tests/matrix` makes every kind of change on every file system
with every plan of probes, on the kernel of the build machine and, in an emulated machine, on Debian's
(`cargo xtask vm-test`). A plan is what `--probes` says; `auto` is all that the kernel permits, and `ebbtide check` shows
what that is on yours.

- *yes*: the right facts came out of the tracker, and the destination followed.
- *no*: this change does not arrive; the next one of the same file brings it along. `docs/ARCHITECTURE.md` says why.
- *chance*: it arrives when something else has written the page back before, or with the next change of the file.
- An error's name: the kernel does not do this on this file system.

A program that maps or writes a file here also closes it. On tmpfs that may be what tells of stores through mappings and of
asynchronous writes: while the file stays open, nobody may see them there.
";
