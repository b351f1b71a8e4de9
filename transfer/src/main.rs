//! `ebbtide-send`: pushes files to rsync daemons.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(ebbtide_transfer::cli::main(std::env::args_os()).0)
}
