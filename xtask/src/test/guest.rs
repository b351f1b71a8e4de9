//! The tests that run once more under another kernel, all in one start of the guest.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::count::Count;
use super::programs::{self, Program};
use super::watch::{End, Watch};
use super::{Run, SILENCE, WHOLE, report};
use crate::vm::{self, Guest, LastWords};
use crate::{setup, world};

/// What depends on the kernel: which programs it takes, and what then marks which change.
const SUITES: [&str; 2] = ["marks", "marks_records"];

/// Runs them alone. The last line counts, as that of all tests does.
pub(crate) fn in_guest(guest: &Guest<'_>, filter: Option<&str>) -> Result<()> {
    world::wait::end_on_signals()?;
    let skips = world::target()?.join("skipped-in-guest");
    let _ = fs::remove_file(&skips);
    let which: Vec<&str> = ["--package", "ebbtide-tests"]
        .into_iter()
        .chain(SUITES.iter().flat_map(|name| ["--test", name]))
        .collect();
    let Some(programs) = programs::build(&which)? else {
        return report(&Count::default().ended(false), "");
    };
    let end = Instant::now() + WHOLE;
    let run = Run { watch: Watch::new(SILENCE), end, built: guest.built, skips: &skips, filter };
    let count = run.suites(guest, &suites(&programs))?;
    let skipped = fs::read_to_string(&skips).unwrap_or_default();
    report(&count.with_skips(skipped.lines().count()), &skipped)
}

/// The programs of [`SUITES`].
fn suites(programs: &[Program]) -> Vec<&Program> {
    let is =
        |program: &&Program| SUITES.iter().any(|suite| program.name == format!("tests/tests/{suite}.rs"));
    programs.iter().filter(is).collect()
}

impl Run<'_> {
    /// The suites among all programs of a run, where one of their tests is wanted and a guest can be had.
    pub(super) fn guest(&self, programs: &[Program]) -> Result<Count> {
        let mut wanted = suites(programs);
        wanted.retain(|program| self.is_wanted(program));
        if wanted.is_empty() {
            return Ok(Count::default());
        }
        if !setup::has_apt() {
            println!("\nno apt-get, so no other kernel: nothing runs in a guest");
            return Ok(Count::default());
        }
        self.suites(&Guest { built: self.built, with: &[], kernel: vm::KERNEL }, &wanted)
    }

    fn suites(&self, guest: &Guest<'_>, programs: &[&Program]) -> Result<Count> {
        let more: Vec<(String, PathBuf)> =
            programs.iter().map(|program| (place(program), program.path.clone())).collect();
        let mut prepared = guest.prepare(&job(programs, self.filter), &more)?;
        println!("\n     Running {} suites under {}", programs.len(), prepared.release);
        let (mut count, mut words, mut skips) = (Count::default(), LastWords::default(), String::new());
        let mut screen = std::io::stdout().lock();
        let end = self.watch.run(&mut prepared.command, self.end, |line| {
            let text = String::from_utf8_lossy(line);
            match text.strip_prefix(SKIPPED) {
                Some(skipped) => skips.push_str(&format!("in the guest: {skipped}")),
                None => drop(screen.write_all(line)),
            }
            count.see(&text);
            words.see(&text);
        })?;
        if let End::Hung { why, .. } = &end {
            println!("HUNG: the guest: {why}");
            count.hung().for_each(|test| println!("HUNG: test {test}"));
        }
        if !words.came() {
            println!("the guest did not come to its end; its kernel's last words:\n{}", prepared.console());
        }
        append(self.skips, &skips)?;
        Ok(count.ended(words.came()))
    }

    fn is_wanted(&self, program: &Program) -> bool {
        let Some(filter) = self.filter else { return true };
        let listed = Command::new(&program.path).args(["--list", filter]).stderr(Stdio::null()).output();
        listed.is_ok_and(|listed| {
            String::from_utf8_lossy(&listed.stdout).lines().any(|line| line.ends_with(": test"))
        })
    }
}

fn place(program: &Program) -> String {
    let name = program.path.file_name().unwrap_or_default().to_string_lossy();
    format!("usr/local/bin/{name}")
}

/// One suite after the other. How each ended, its own last line says; the job itself always succeeds.
fn job(programs: &[&Program], filter: Option<&str>) -> String {
    let bin = "/usr/local/bin";
    let mut job = format!(
        "export EBBTIDE_BIN={bin}/ebbtide EBBTIDE_SEND_BIN={bin}/ebbtide-send CARGO_TARGET_DIR=/scratch\n\
         export EBBTIDE_SKIPS=/tmp/skips EBBTIDE_IN_GUEST=1 {}\n",
        std::env::var("CI").map(|ci| format!("CI={ci}")).unwrap_or_default()
    );
    for program in programs {
        let filter = filter.map(|filter| format!("'{}'", filter.replace('\'', "'\\''"))).unwrap_or_default();
        job.push_str(&format!("echo '{}'\n/{} --test-threads=2 {filter}\n", program.name, place(program)));
    }
    job.push_str(&format!("sed 's/^/{SKIPPED}/' /tmp/skips 2>/dev/null\ntrue\n"));
    job
}

/// Stands before each line about a skipped test.
const SKIPPED: &str = "guest skipped: ";

fn append(file: &std::path::Path, text: &str) -> Result<()> {
    let before = fs::read_to_string(file).unwrap_or_default();
    fs::write(file, before + text).with_context(|| format!("write {}", file.display()))
}
