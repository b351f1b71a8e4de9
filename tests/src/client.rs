//! The sender under test, and stock rsync beside it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::programs::{program, stock_in_our_place};

/// A program that pushes to a daemon.
#[derive(Clone, Debug)]
pub struct Client {
    program: PathBuf,
    ours: bool,
    /// Most address space it may take, in bytes.
    memory: Option<usize>,
    /// Whether modes bind it, although it runs as root.
    bound_by_modes: bool,
    /// Variables of its environment.
    environment: Vec<(String, String)>,
}

/// How a push ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit code; 128 and the signal's number when one ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Client {
    /// `ebbtide-send`, or stock rsync where `EBBTIDE_TEST_CLIENT=rsync` says so.
    pub fn under_test() -> Client {
        if stock_in_our_place() {
            return Client::stock();
        }
        Client {
            program: program("ebbtide-send"),
            ours: true,
            memory: None,
            bound_by_modes: false,
            environment: Vec::new(),
        }
    }

    /// The installed rsync.
    pub fn stock() -> Client {
        Client {
            program: "/usr/bin/rsync".into(),
            ours: false,
            memory: None,
            bound_by_modes: false,
            environment: Vec::new(),
        }
    }

    /// Whether this is our own program.
    pub fn is_ours(&self) -> bool {
        self.ours
    }

    /// Gives it no more than this much address space, in bytes.
    pub fn with_memory(mut self, bytes: usize) -> Client {
        self.memory = Some(bytes);
        self
    }

    /// Takes root's right to read what its mode forbids away from it.
    pub fn bound_by_modes(mut self) -> Client {
        self.bound_by_modes = true;
        self
    }

    /// Sets a variable of its environment.
    pub fn with_env(mut self, name: &str, value: &str) -> Client {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs it and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Outcome {
        self.run_in(None, args)
    }

    /// Runs it in a folder and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn run_in<A: AsRef<OsStr>>(
        &self,
        folder: Option<&std::path::Path>,
        args: impl IntoIterator<Item = A>,
    ) -> Outcome {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=1", &LIMIT_S.to_string()]);
        if let Some(bytes) = self.memory {
            command.arg("prlimit").arg(format!("--as={bytes}")).arg("--core=0");
        }
        if self.bound_by_modes {
            let rights = "-dac_override,-dac_read_search";
            command.args(["setpriv", "--bounding-set", rights, "--inh-caps", rights]);
        }
        command.arg(&self.program).args(args).stdin(Stdio::null());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"RSYNC_")) {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C.UTF-8");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        let output = command.output().expect("timeout is installed");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code().unwrap_or(128);
        assert!(code != 124 && code != 137, "{command:?} did not end within {LIMIT_S} s\n{stderr}");
        Outcome { code, stdout: String::from_utf8_lossy(&output.stdout).into_owned(), stderr }
    }
}

impl Outcome {
    /// Expects an exit code.
    ///
    /// # Panics
    /// With everything the program said.
    #[track_caller]
    pub fn expect(self, code: i32) -> Outcome {
        assert_eq!(self.code, code, "exit code\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The lines of `-i`, in order of their bytes: programs may walk a tree in different orders.
    pub fn itemized(&self) -> Vec<&str> {
        let mut lines: Vec<&str> = self.stdout.lines().filter(|line| is_item(line)).collect();
        lines.sort_unstable();
        lines
    }
}

/// Whether this is a line such as `<f.st...... name` or `*deleting   name`.
fn is_item(line: &str) -> bool {
    let bytes = line.as_bytes();
    let update = bytes.len() > 12
        && b"<>ch.".contains(&bytes[0])
        && b"fdLDS".contains(&bytes[1])
        && bytes[2..11].iter().all(|b| b".+?cstpoguaxTn ".contains(b))
        && bytes[11] == b' ';
    update || line.starts_with("*deleting ")
}

/// After this many seconds a client has failed to end: far beyond what any of them needs beside others.
const LIMIT_S: u32 = 240;
