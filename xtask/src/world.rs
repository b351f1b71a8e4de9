//! What the demo and the benches share: a corner of the machine of our own, with file systems, daemons and
//! processes that go away by themselves.

pub(crate) mod ebbtide;
pub(crate) mod image;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod rsyncd;
pub(crate) mod table;
pub(crate) mod wait;

use std::env;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

/// Says to the process started by [`enter`] that it is the inner one.
const INSIDE: &str = "EBBTIDE_XTASK_INSIDE";

/// Whether this process already has a mount namespace of its own.
pub(crate) fn inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Gives the command a mount namespace of its own, as root, by starting it once more through `unshare` (and
/// `sudo` where needed). Whatever it mounts goes away with its last process, even if it is killed.
/// Returns only in the inner process.
pub(crate) fn enter() -> Result<()> {
    if inside() {
        return wait::end_on_signals();
    }
    let executable = env::current_exe().context("find the path of xtask")?;
    let unshare = ["unshare", "--mount", "--propagation", "private", "env"];
    let sudo: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["sudo", "--preserve-env"] };
    let words: Vec<&str> = sudo.iter().copied().chain(unshare).collect();
    let failed = Command::new(words[0])
        .args(&words[1..])
        .arg(format!("{INSIDE}=1"))
        .arg(executable)
        .args(env::args_os().skip(1))
        .exec();
    Err(failed).with_context(|| format!("start {} for a mount namespace of our own (needs root)", words[0]))
}

/// The folder that cargo builds into, found from where xtask itself was built to.
pub(crate) fn target() -> Result<PathBuf> {
    let executable = env::current_exe().context("find the path of xtask")?;
    let folder = executable.ancestors().nth(2);
    folder.map(PathBuf::from).context("xtask does not stand in <target>/<profile>/")
}

/// The top of the source tree.
pub(crate) fn top() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(PathBuf::from).unwrap_or(manifest)
}
