//! Puts the built eBPF programs into the crate: from the file that EBBTIDE_EBPF names, or from where
//! `cargo xtask build` leaves them. Without programs the crate builds too, and says so when it runs.

use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=EBBTIDE_EBPF");
    let default = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .join("../target/ebpf/ebbtide.o");
    let object = env::var_os("EBBTIDE_EBPF").map_or(default, PathBuf::from);
    let bytes = match fs::read(&object) {
        Ok(bytes) => {
            println!("cargo::rerun-if-changed={}", object.display());
            refuse_stale(&object);
            bytes
        }
        Err(_) => {
            watch_for(&object);
            Vec::new()
        }
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("ebbtide.o");
    fs::write(out, bytes).expect("OUT_DIR is writable");
}

/// Programs that are older than their sources do not fit the tracker that is built beside them: the kernel would
/// refuse them, and the daemon would go on without.
fn refuse_stale(object: &Path) {
    if env::var_os("EBBTIDE_EBPF").is_some() {
        return;
    }
    let sources =
        Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../tracker-ebpf");
    println!("cargo::rerun-if-changed={}", sources.display());
    if changed(object) < newest(&sources) {
        let at = object.display();
        println!(
            "cargo::error={at} is older than the programs' sources: run `cargo xtask build`, or remove that file"
        );
    }
}

/// When the newest source file below this directory changed.
fn newest(dir: &Path) -> Option<SystemTime> {
    let paths = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let times = paths.filter_map(|path| match path.extension() {
        Some(extension) if extension == "rs" => changed(&path),
        _ if path.is_dir() => newest(&path),
        _ => None,
    });
    times.max()
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

/// Runs this again when the object appears: cargo looks at the directory, a missing file would be built every time.
fn watch_for(object: &Path) {
    if let Some(dir) = object.parent()
        && fs::create_dir_all(dir).is_ok()
    {
        println!("cargo::rerun-if-changed={}", dir.display());
    }
}
