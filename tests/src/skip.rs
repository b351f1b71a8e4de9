//! Tests that this machine cannot run say so, and are counted.

use std::fs::OpenOptions;
use std::io::Write;

/// Why a test cannot run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip(pub String);

/// Says that `test` is skipped, and why.
///
/// # Panics
/// With `CI=true`: a machine that is there to run every test must run it.
pub fn report(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped where every test must run: {why}");
    if let Some(path) = std::env::var_os("EBBTIDE_SKIPS") {
        let mut file =
            OpenOptions::new().create(true).append(true).open(path).expect("EBBTIDE_SKIPS is writable");
        // One write call, so lines of parallel tests do not mix.
        file.write_all(format!("{test}: {why}\n").as_bytes()).expect("EBBTIDE_SKIPS takes a line");
    }
}

/// Leaves the test as skipped: `skip!("this kernel has no BPF")`.
#[macro_export]
macro_rules! skip {
    ($($why:tt)*) => {{
        let name = std::thread::current().name().unwrap_or(module_path!()).to_owned();
        $crate::report(&name, &format!($($why)*));
        return;
    }};
}

/// Takes the value of a `Result<T, Skip>`, or leaves the test as skipped.
#[macro_export]
macro_rules! needs {
    ($wanted:expr) => {
        match $wanted {
            Ok(value) => value,
            Err($crate::Skip(why)) => $crate::skip!("{why}"),
        }
    };
}
