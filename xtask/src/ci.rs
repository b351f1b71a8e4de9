//! `cargo xtask ci`: everything that a change must pass, the same at home and on the build machine.

use anyhow::Result;

use crate::build::{self, Profile};
use crate::process::{self, cargo};
use crate::{layers, setup, test};

/// Formatting, layers, lints, tests; the first that fails ends it.
pub(crate) fn run() -> Result<()> {
    process::run(cargo().args(["fmt", "--all", "--check"]), "`cargo fmt --all` mends this")?;
    layers::run()?;
    setup::for_tests()?;
    // The tracker's build takes in the programs, so they come before the lints.
    build::run(Profile::Debug)?;
    process::run(
        cargo().args(["clippy", "--all-targets", "--quiet", "--", "-D", "warnings"]),
        "mend it, or give the exception a reason",
    )?;
    test::run(&build::folder(Profile::Debug)?, None)
}
