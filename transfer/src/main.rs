//! `ebbtide-send`: pushes files to rsync daemons.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = ebbtide_transfer::daemon::from_arguments() {
        return code;
    }
    ExitCode::from(ebbtide_transfer::cli::main(std::env::args_os()).0)
}
