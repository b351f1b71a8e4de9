//! The tests that run in a guest: those that are run once more under another kernel, all in one start of it, and those
//! that need systemd and a reboot.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::count::Count;
use super::programs::{self, Program};
use super::seeds;
use super::watch::{End, Watch};
use super::{Run, SILENCE, WHOLE, report};
use crate::vm::{self, Guest, Job, LastWords};
use crate::{setup, world};

/// What depends on the kernel: which programs it takes, what then marks which change, and what outlives the daemon; and
/// what of each suite runs in a run of all tests. An emulated machine is slow, so that is what is seen otherwise there
/// than here: `cargo xtask vm-test` runs the whole matrix.
const SUITES: [(&str, &[&str]); 6] = [
    ("marks", &[]),
    ("marks_records", &[]),
    ("marks_vfs", &[]),
    (MATRIX, &["::fsnotify::", "::ext4::auto::"]),
    ("daemon_restarts", &["killed_daemon_was_away"]),
    (SYSTEMD, &[]),
];

/// The kinds of change, on every file system by every plan.
const MATRIX: &str = "matrix";

/// Among them, what needs kprobes or fentry: kernels without run none of it, so it runs in the guest alone.
const ALONE: &str = "marks_vfs";

/// Starts and kills services, and expects a reboot between its tests, so it needs a machine of its own.
const SYSTEMD: &str = "systemd";

/// Whether this program runs in the guest and nowhere else.
pub(super) fn is_alone_there(program: &Program) -> bool {
    [ALONE, SYSTEMD].contains(&name(program))
}

/// Runs them alone. The last line counts, as that of all tests does. With `write` the document of the matrix is written
/// anew rather than checked.
pub(crate) fn in_guest(guest: &Guest<'_>, filter: Option<&str>, write: bool) -> Result<()> {
    world::wait::end_on_signals()?;
    let skips = world::target()?.join("skipped-in-guest");
    let _ = fs::remove_file(&skips);
    let suites = SUITES.iter().flat_map(|(name, _)| ["--test", name]);
    let which: Vec<&str> = ["--package", "ebbtide-tests"].into_iter().chain(suites).collect();
    let Some(programs) = programs::build(&which)? else {
        return report(&Count::default().ended(false), "");
    };
    let end = Instant::now() + WHOLE;
    let run = Run {
        watch: Watch::new(SILENCE),
        end,
        built: guest.built,
        skips: &skips,
        filter,
        seed: seeds::of_this_run(),
    };
    let wanted = run.wanted(&programs, true);
    if wanted.is_empty() {
        return report(&Count::default(), "");
    }
    let count = run.suites(guest, &wanted, write)?;
    let skipped = fs::read_to_string(&skips).unwrap_or_default();
    report(&count.with_skips(skipped.lines().count()), &skipped)
}

/// A suite, and what its command line says of which tests.
struct Suite<'a> {
    program: &'a Program,
    which: Vec<String>,
}

fn name(program: &Program) -> &str {
    program.name.trim_start_matches("tests/tests/").trim_end_matches(".rs").trim_end_matches("/main")
}

impl Run<'_> {
    /// The suites among all programs of a run, where one of their tests is wanted and a guest can be had.
    pub(super) fn guest(&self, programs: &[Program]) -> Result<Count> {
        let wanted = self.wanted(programs, false);
        if wanted.is_empty() {
            return Ok(Count::default());
        }
        if !setup::has_apt() {
            println!("\nno apt-get, so no other kernel: nothing runs in a guest");
            return Ok(Count::default());
        }
        self.suites(&Guest { built: self.built, with: &[], kernel: vm::KERNEL }, &wanted, false)
    }

    fn suites(&self, guest: &Guest<'_>, suites: &[Suite<'_>], write: bool) -> Result<Count> {
        let (systemd, others): (Vec<_>, Vec<_>) =
            suites.iter().partition(|suite| name(suite.program) == SYSTEMD);
        let mut count = Count::default();
        if !others.is_empty() {
            count = count.plus(&self.job(guest, &others, write)?);
        }
        if !systemd.is_empty() {
            count = count.plus(&self.job(guest, &systemd, false)?);
        }
        Ok(count)
    }

    fn job(&self, guest: &Guest<'_>, suites: &[&Suite<'_>], write: bool) -> Result<Count> {
        let mut prepared = guest.prepare(job(suites, write))?;
        println!("\n     Running {} under {}", names(suites), prepared.release);
        let mut said = Said::default();
        let mut screen = std::io::stdout().lock();
        let end = loop {
            let end = self.watch.run(&mut prepared.command, self.end, |line| {
                if said.see(&String::from_utf8_lossy(line)) {
                    let _ = screen.write_all(line);
                }
            })?;
            if !said.words.restarts() {
                break end;
            }
        };
        let Said { count, words, skips, document } = said;
        if let End::Hung { why, .. } = &end {
            println!("HUNG: the guest: {why}");
            count.hung().for_each(|test| println!("HUNG: test {test}"));
        }
        if !words.came() {
            println!("the guest did not come to its end; its kernel's last words:\n{}", prepared.console());
        }
        append(self.skips, &skips)?;
        if write && words.came() {
            fs::write(document_path(), document).context("write docs/KERNELS.md")?;
        }
        Ok(count.ended(words.came()))
    }

    /// The programs of [`SUITES`] with a wanted test. The `whole` matrix, or all that a filter names, runs when it is asked
    /// for alone.
    fn wanted<'a>(&self, programs: &'a [Program], whole: bool) -> Vec<Suite<'a>> {
        let wanted = programs.iter().filter_map(|program| {
            let (name, picks) = SUITES.iter().find(|(suite, _)| *suite == name(program))?;
            let all = picks.is_empty() || whole && (*name == MATRIX || self.filter.is_some());
            let mut tests = self.tests(program);
            tests.retain(|test| all || picks.iter().any(|pick| test.contains(pick)));
            if tests.is_empty() {
                return None;
            }
            let filter = self.filter.map(str::to_owned).into_iter();
            let which = if all {
                filter.collect()
            } else {
                ["--exact".to_owned()].into_iter().chain(tests).collect()
            };
            Some(Suite { program, which })
        });
        wanted.collect()
    }

    /// The names of a program's tests that the filter leaves.
    fn tests(&self, program: &Program) -> Vec<String> {
        let listed =
            Command::new(&program.path).arg("--list").args(self.filter).stderr(Stdio::null()).output();
        let listed =
            listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned()).unwrap_or_default();
        listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
    }
}

/// What a guest said.
#[derive(Default)]
struct Said {
    count: Count,
    words: LastWords,
    skips: String,
    /// What the matrix wrote.
    document: String,
}

impl Said {
    /// Takes a line; whether it is for people.
    fn see(&mut self, line: &str) -> bool {
        if let Some(skipped) = line.strip_prefix(SKIPPED) {
            self.skips.push_str("in the guest: ");
            self.skips.push_str(skipped);
            return false;
        }
        if let Some(document) = line.strip_prefix(WRITTEN) {
            self.document.push_str(document);
            return false;
        }
        self.count.see(line);
        self.words.see(line);
        true
    }
}

fn names(suites: &[&Suite<'_>]) -> String {
    let names: Vec<_> = suites.iter().map(|suite| name(suite.program)).collect();
    names.join(", ")
}

fn place(program: &Program) -> String {
    let name = program.path.file_name().unwrap_or_default().to_string_lossy();
    format!("usr/local/bin/{name}")
}

/// One suite after the other. How each ended, its own last line says; the script itself always succeeds.
fn job(suites: &[&Suite<'_>], write: bool) -> Job {
    let bin = "/usr/local/bin";
    let mut script = format!(
        "export EBBTIDE_BIN={bin}/ebbtide EBBTIDE_SEND_BIN={bin}/ebbtide-send CARGO_TARGET_DIR=/scratch\n\
         export EBBTIDE_SKIPS=/tmp/skips EBBTIDE_KERNELS_MD=/root/KERNELS.md\n"
    );
    for name in PASSED_ON {
        if let Ok(value) = std::env::var(name) {
            script.push_str(&format!("export {name}='{value}'\n"));
        }
    }
    if let Some(seed) = seeds::of_this_run() {
        script.push_str(&format!("export EBBTIDE_SEED='{seed}'\n"));
    }
    if write {
        script.push_str("export EBBTIDE_WRITE_KERNELS=1\n");
    }
    let systemd = suites.iter().any(|suite| name(suite.program) == SYSTEMD);
    for Suite { program, which } in suites {
        let which: Vec<_> = which.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
        // Its tests are for one start of the machine each.
        let which = if systemd { "start_$BOOT::".to_owned() } else { which.join(" ") };
        script.push_str(&format!("echo '{}'\n/{} --test-threads=2 {which}\n", program.name, place(program)));
    }
    script.push_str(&format!("sed 's/^/{SKIPPED}/' /tmp/skips 2>/dev/null\n"));
    if write {
        script.push_str(&format!("sed 's/^/{WRITTEN}/' /root/KERNELS.md\n"));
    }
    script.push_str("true\n");
    let programs = suites.iter().map(|suite| (place(suite.program), suite.program.path.clone())).collect();
    let document = document_path();
    let mut files = if document.is_file() { vec![("root/KERNELS.md".into(), document)] } else { Vec::new() };
    if systemd {
        let unit = "ebbtide.service";
        files.push((format!("etc/systemd/system/{unit}"), world::top().join("packaging").join(unit)));
    }
    Job { script, programs, files, systemd }
}

fn document_path() -> PathBuf {
    world::top().join("docs/KERNELS.md")
}

/// Variables of ours that tests in the guest read, too.
const PASSED_ON: [&str; 3] = ["CI", "EBBTIDE_KILLS", "EBBTIDE_BURST"];

/// Stands before each line about a skipped test.
const SKIPPED: &str = "guest skipped: ";
/// Stands before each line of the document.
const WRITTEN: &str = "guest wrote: ";

fn append(file: &std::path::Path, text: &str) -> Result<()> {
    let before = fs::read_to_string(file).unwrap_or_default();
    fs::write(file, before + text).with_context(|| format!("write {}", file.display()))
}
