//! The dependencies that a manifest names.

use anyhow::{Context, Result};
use toml::Table;

use super::rules::Crate;

/// One line for each dependency that a crate must not have.
pub(super) fn violations(rule: &Crate, text: &str) -> Result<Vec<String>> {
    let manifest: Table = text.parse().with_context(|| format!("{}/Cargo.toml is not TOML", rule.folder))?;
    let mut names = Vec::new();
    collect(&manifest, &mut names);
    let line = |name: &String| format!("{}/Cargo.toml: `{name}` is not for this crate", rule.folder);
    Ok(names.iter().filter(|name| !allowed(rule, name)).map(line).collect())
}

fn allowed(rule: &Crate, name: &str) -> bool {
    if OURS.contains(&name) {
        return rule.ours.contains(&name);
    }
    let is = |never: &&&str| {
        name == **never || name.strip_prefix(**never).is_some_and(|rest| rest.starts_with(['-', '_']))
    };
    !rule.never.iter().any(|never| is(&never))
}

/// Names in every dependency table, those for one target or for tests included.
fn collect(table: &Table, names: &mut Vec<String>) {
    for (key, value) in table {
        let Some(inner) = value.as_table() else { continue };
        if key.ends_with("dependencies") {
            names.extend(inner.iter().map(|(name, value)| {
                // `x = { package = "y" }` is y.
                value.get("package").and_then(toml::Value::as_str).unwrap_or(name).to_owned()
            }));
        } else if matches!(key.as_str(), "target") || key.starts_with("cfg(") {
            collect(inner, names);
        }
    }
}

/// Every crate of the workspace, by its package name.
const OURS: [&str; 9] = [
    "ebbtide",
    "ebbtide-abi",
    "ebbtide-feed",
    "ebbtide-transfer",
    "ebbtide-wire",
    "ebbtide-tests",
    "tracker-ebpf",
    "ebbtide-ebpf",
    "xtask",
];

#[cfg(test)]
mod tests {
    use super::super::rules::CRATES;
    use super::*;

    fn check(folder: &str, text: &str) -> Vec<String> {
        let rule = CRATES.iter().find(|rule| rule.folder == folder).expect("the rule is there");
        violations(rule, text).unwrap()
    }

    #[test]
    fn a_runtime_in_the_wire_protocol_is_a_violation() {
        let found = check("transfer/core", "[dependencies]\nthiserror = \"2\"\ntokio-util = \"1\"\n");
        assert_eq!(found, ["transfer/core/Cargo.toml: `tokio-util` is not for this crate"]);
    }

    #[test]
    fn our_own_crates_are_checked_under_other_names_and_for_tests_too() {
        let renamed = "[dev-dependencies]\nt = { package = \"ebbtide-transfer\", path = \"x\" }\n";
        assert_eq!(check("tracker", renamed).len(), 1);
        let target = "[target.'cfg(unix)'.dependencies]\nebbtide = \"1\"\n";
        assert_eq!(check("transfer", target).len(), 1);
        assert_eq!(check("transfer", "[dependencies]\nebbtide-feed.workspace = true\n").len(), 0);
    }
}
