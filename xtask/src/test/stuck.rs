//! Where the processes of a hung test stand, as far as the kernel tells us.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, RawPid};

/// One paragraph for each thread of each process in the group of `leader`. What may not be read is left out.
pub(super) fn describe(leader: Pid) -> String {
    let mut text = String::new();
    for process in numbered(Path::new("/proc")).filter(|process| is_of(process, leader)) {
        for thread in numbered(&process.join("task")) {
            let _ = write!(text, "thread {}:", thread.display());
            for file in ["comm", "wchan", "syscall"] {
                let _ = write!(text, " {file} {}", read(&thread.join(file)).trim_end());
            }
            text.push('\n');
            for line in read(&thread.join("stack")).lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
    }
    text
}

/// The entries of a folder whose names are numbers.
fn numbered(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.parse::<RawPid>().is_ok());
    entries.filter(move |entry| number(&entry.file_name())).map(|entry| entry.path())
}

/// Whether a process is in the group. The fields after the command, which may hold anything but ends at the last
/// parenthesis, are state, parent and group.
fn is_of(process: &Path, leader: Pid) -> bool {
    let stat = read(&process.join("stat"));
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().nth(2).and_then(|group| group.parse().ok())
        == Some(leader.as_raw_nonzero().get())
}

fn read(file: &Path) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
