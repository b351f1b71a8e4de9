//! The `ebbtide` command.

fn main() -> std::process::ExitCode {
    ebbtide::cli::main()
}
