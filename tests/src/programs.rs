//! Where the programs under test and the stock rsyncs are.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip::Skip;

/// A stock rsync release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The one this machine has installed (3.5.0 on Debian 12 with its security archive).
    Installed,
    /// 3.2.7, unpacked from Debian's package by `cargo xtask setup`.
    Old,
}

impl Release {
    /// Both.
    pub const ALL: [Release; 2] = [Release::Installed, Release::Old];

    /// The program.
    ///
    /// # Errors
    /// It is not on this machine.
    pub fn program(self) -> Result<PathBuf, Skip> {
        let path = match self {
            Release::Installed => PathBuf::from("/usr/bin/rsync"),
            Release::Old => std::env::var_os("EBBTIDE_RSYNC_OLD")
                .map_or_else(|| target_dir().join("tools/rsync-3.2.7/usr/bin/rsync"), PathBuf::from),
        };
        match Command::new(&path).arg("--version").output() {
            Ok(output) if output.status.success() => Ok(path),
            _ => Err(Skip(format!("no rsync at {}; `cargo xtask setup` brings it", path.display()))),
        }
    }
}

/// One of the programs under test: `ebbtide` or `ebbtide-send`.
///
/// # Panics
/// When it was not built: there is nothing to test then.
pub fn program(name: &str) -> PathBuf {
    let variable = format!("{}_BIN", name.to_uppercase().replace('-', "_"));
    let path = match std::env::var_os(&variable) {
        Some(path) => PathBuf::from(path),
        None => build_dir().join(name),
    };
    assert!(path.is_file(), "{} is not built (cargo xtask build, or set {variable})", path.display());
    path
}

/// Whether stock rsync stands in for our programs.
pub(crate) fn stock_in_our_place() -> bool {
    std::env::var("EBBTIDE_TEST_CLIENT").as_deref() == Ok("rsync")
}

/// The profile's folder that this test binary was built into (`target/debug`).
fn build_dir() -> PathBuf {
    let test = std::env::current_exe().expect("a test binary knows where it is");
    // target/debug/deps/<test>
    test.ancestors().nth(2).expect("test binaries stand in <profile>/deps").to_owned()
}

/// The target folder.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(path) if Path::new(&path).is_absolute() => PathBuf::from(path),
        _ => {
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").join("target")
        }
    }
}
