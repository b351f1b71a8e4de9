//! Running commands and waiting for states, both with an end.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a test waits for a state that must come, before it fails. Far beyond what any of them needs, so a slow
/// machine does not fail, nor one that is emulated beside others. Below the silence after which a run takes a test for hung.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Pause between two looks at a state that cannot be waited on otherwise.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Looks until `look` yields something.
///
/// # Panics
/// After [`PATIENCE`], with `what` and whatever `otherwise` can tell.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "this never happened: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Runs a command that must succeed and returns what it printed.
///
/// # Panics
/// When it cannot be started or fails, with everything it printed.
pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}{}",
        output.status,
        output.stdout.escape_ascii().to_string().replace("\\n", "\n"),
        output.stderr.escape_ascii().to_string().replace("\\n", "\n"),
    );
    output
}

/// A command whose process dies with the thread that started it, so that an aborted test leaves nothing running.
pub(crate) fn bound_to_us(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
