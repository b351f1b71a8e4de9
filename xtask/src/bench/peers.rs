//! The tools that ebbtide is measured against, started as their users start them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::world::process::Running;

/// The events that the classic script waits for.
const EVENTS: &str = "modify,create,delete,attrib,move";

/// Starts `inotifywait -mr`. Returns it, and the time until its watches stood.
pub(super) fn inotifywait(source: &Path, scratch: &Path, limit: Duration) -> Result<(Running, Duration)> {
    let mut command = Command::new("inotifywait");
    command.args(["-m", "-r", "-e", EVENTS]).arg(source);
    let mut running = Running::start(&mut command, &scratch.join("inotifywait.log"))?;
    let time = running.until_printed("Watches established", limit)?;
    Ok((running, time))
}

/// Starts lsyncd without its delay. Returns it, and the time until it had compared both sides.
pub(super) fn lsyncd(
    source: &Path,
    url: &str,
    scratch: &Path,
    limit: Duration,
) -> Result<(Running, Duration)> {
    let config = scratch.join("lsyncd.lua");
    let text = format!(
        "settings {{ nodaemon = true }}\nsync {{ default.rsync, source = {:?}, target = {url:?}, delay = 0,\n  \
         rsync = {{ archive = true }} }}\n",
        source.display().to_string()
    );
    fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
    let mut command = Command::new("lsyncd");
    command.arg(&config);
    let mut running = Running::start(&mut command, &scratch.join("lsyncd.log"))?;
    let time = running.until_printed("finished", limit)?;
    Ok((running, time))
}

/// Starts the classic script: a full push of the tree at every event. Returns when its watches stand.
pub(super) fn script(source: &Path, url: &str, scratch: &Path, limit: Duration) -> Result<Running> {
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!(
        "inotifywait -m -r -e {EVENTS} --format %w%f \"$1\" | while read -r file; do \
         rsync -vzrtopg --delete \"$1/\" \"$2\" >/dev/null; done"
    ));
    command.arg("script").arg(source).arg(url);
    let mut running = Running::start(&mut command, &scratch.join("script.log"))?;
    running.until_printed("Watches established", limit)?;
    Ok(running)
}

/// Starts rsync for one named file: the least that stock tools can do once they know the name.
pub(super) fn files_from(source: &Path, name: &Path, url: &str, scratch: &Path) -> Result<Running> {
    let list = scratch.join("files-from");
    fs::write(&list, name.as_os_str().as_encoded_bytes())
        .with_context(|| format!("write {}", list.display()))?;
    let from: PathBuf = source.join("");
    let mut command = Command::new("rsync");
    command.arg("-ztopg").arg(format!("--files-from={}", list.display())).arg(from).arg(url);
    Running::start(&mut command, &scratch.join("files-from.log"))
}
