//! Puts the built eBPF programs into the crate: from the file that EBBTIDE_EBPF names, or from where
//! `cargo xtask build` leaves them. Without programs the crate builds too, and says so when it runs.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=EBBTIDE_EBPF");
    let default = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .join("../target/ebpf/ebbtide.o");
    let object = env::var_os("EBBTIDE_EBPF").map_or(default, PathBuf::from);
    let bytes = match fs::read(&object) {
        Ok(bytes) => {
            println!("cargo::rerun-if-changed={}", object.display());
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

/// Runs this again when the object appears: cargo looks at the directory, a missing file would be built every time.
fn watch_for(object: &std::path::Path) {
    if let Some(dir) = object.parent()
        && fs::create_dir_all(dir).is_ok()
    {
        println!("cargo::rerun-if-changed={}", dir.display());
    }
}
