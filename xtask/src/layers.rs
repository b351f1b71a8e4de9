//! `cargo xtask layers`: who may import whom. Cargo enforces the lines between crates once a manifest is right; this
//! reads the manifests, and the paths in the sources for the lines inside a crate.

mod manifest;
mod paths;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::world;
use rules::{CRATES, INSIDE, Inside};

/// Checks all rules and names every line that breaks one.
pub(crate) fn run() -> Result<()> {
    let mut broken = Vec::new();
    for rule in &CRATES {
        let text = read(&world::top().join(rule.folder).join("Cargo.toml"))?;
        broken.extend(manifest::violations(rule, &text)?);
    }
    for rule in &INSIDE {
        for file in sources(rule)? {
            let name = file.strip_prefix(world::top()).unwrap_or(&file).display().to_string();
            let found = paths::of(&read(&file)?).with_context(|| format!("{name} is not Rust"))?;
            broken.extend(rule.violations(&name, &found));
        }
    }
    if broken.is_empty() {
        println!("layers: {} crates and {} rules inside them hold", CRATES.len(), INSIDE.len());
        return Ok(());
    }
    for line in &broken {
        println!("{line}");
    }
    bail!("{} imports cross a line that docs/ARCHITECTURE.md draws", broken.len())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// The files that a rule is about.
fn sources(rule: &Inside) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for start in rule.files {
        let path = world::top().join(start);
        // A module is a file or a folder; it may be both.
        let file = path.with_extension("rs");
        if file.is_file() {
            found.push(file);
        }
        if path.is_dir() {
            collect(&path, &mut found)?;
        }
    }
    if found.is_empty() {
        bail!(
            "no source for the rule \"{}\": {:?} moved; mend xtask/src/layers/rules.rs",
            rule.why,
            rule.files
        );
    }
    Ok(found)
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|end| end == "rs")
            && path.file_stem() != Some("tests".as_ref())
        {
            into.push(path);
        }
    }
    Ok(())
}
