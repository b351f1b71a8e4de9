//! The test programs of the workspace: built, and found by what cargo says about them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::cargo;

/// One test program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Program {
    /// The source file that it was built from, below the top of the source tree.
    pub(super) name: String,
    /// Where it was built to.
    pub(super) path: PathBuf,
    /// The folder of its package, where cargo would start it.
    pub(super) folder: PathBuf,
}

/// Builds them all, or those that `which` says to cargo. `None` when that fails; cargo has said why.
pub(super) fn build(which: &[&str]) -> Result<Option<Vec<Program>>> {
    let built = cargo()
        .args(["test", "--no-run", "--message-format=json-render-diagnostics"])
        .args(which)
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo test")?;
    let programs = programs(&String::from_utf8_lossy(&built.stdout), &crate::world::top());
    Ok(built.status.success().then_some(programs))
}

/// Units first, as they are quick and say more precisely what is wrong; then the worlds of daemons and file systems.
fn programs(messages: &str, top: &Path) -> Vec<Program> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs: Vec<Program> = messages.filter_map(|message| program(&message, top)).collect();
    programs.sort();
    let (units, worlds): (Vec<_>, Vec<_>) =
        programs.into_iter().partition(|program| !program.name.starts_with("tests/"));
    units.into_iter().chain(worlds).collect()
}

fn program(message: &Value, top: &Path) -> Option<Program> {
    let executable = message["executable"].as_str()?;
    if message["profile"]["test"] != true {
        return None;
    }
    let source = Path::new(message["target"]["src_path"].as_str()?);
    let manifest = Path::new(message["manifest_path"].as_str()?);
    Some(Program {
        name: source.strip_prefix(top).unwrap_or(source).display().to_string(),
        path: executable.into(),
        folder: manifest.parent()?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_programs_are_taken_and_worlds_come_last() {
        let message = |package: &str, source: &str, test: bool| {
            format!(
                r#"{{"manifest_path":"/top/{package}/Cargo.toml","target":{{"src_path":"/top/{package}/{source}"}},"profile":{{"test":{test}}},"executable":"/target/{source}"}}"#
            )
        };
        let lines = [
            message("tests", "tests/push.rs", true),
            message("transfer", "src/main.rs", false),
            r#"{"profile":{"test":false},"executable":null}"#.into(),
            "what a build script printed".into(),
            message("transfer", "src/lib.rs", true),
        ];
        let found = programs(&lines.join("\n"), Path::new("/top"));
        let names: Vec<&str> = found.iter().map(|program| program.name.as_str()).collect();
        assert_eq!(names, ["transfer/src/lib.rs", "tests/tests/push.rs"]);
        assert_eq!(found[0].folder, Path::new("/top/transfer"));
        assert_eq!(found[0].path, Path::new("/target/src/lib.rs"));
    }
}
