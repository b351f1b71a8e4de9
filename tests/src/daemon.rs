//! ebbtide itself, running over a tree.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::machine::{PATIENCE, bound_to_us, eventually};
use crate::programs::{program, stock_in_our_place};
use crate::{Client, Scratch};

/// What to run ebbtide with.
#[derive(Clone, Debug)]
pub struct Setup {
    source: PathBuf,
    to: Vec<String>,
    password_file: Option<PathBuf>,
    delete: bool,
    probes: Option<String>,
    filters: Vec<String>,
    more: Vec<String>,
    /// Text of a config file that says all of the above instead.
    file: Option<String>,
}

/// A running ebbtide. Ends on drop; its log is printed when the test failed.
///
/// With stock rsync in our place, [`Daemon::wait`] syncs the whole tree: what a test expects after it then holds if
/// the test itself is right.
#[derive(Debug)]
pub struct Daemon {
    setup: Setup,
    process: Option<Child>,
    folder: Scratch,
    /// Where its two programs are, if not where they were built.
    programs: Option<PathBuf>,
    environment: Vec<(String, String)>,
    /// Where its state is, if not in its own folder.
    state: Option<PathBuf>,
}

impl Setup {
    /// Mirrors `source` with deletions; add at least one destination.
    pub fn new(source: &Path) -> Setup {
        Setup {
            source: source.into(),
            to: Vec::new(),
            password_file: None,
            delete: true,
            probes: None,
            filters: Vec::new(),
            more: Vec::new(),
            file: None,
        }
    }

    /// What the text of a config file says.
    pub fn from_file(text: &str) -> Setup {
        Setup { file: Some(text.into()), ..Setup::new(Path::new("")) }
    }

    /// One more destination.
    pub fn to(mut self, url: impl Into<String>) -> Setup {
        self.to.push(url.into());
        self
    }

    /// Its password.
    pub fn password_file(mut self, path: PathBuf) -> Setup {
        self.password_file = Some(path);
        self
    }

    /// Removes nothing at the destinations.
    pub fn keeping(mut self) -> Setup {
        self.delete = false;
        self
    }

    /// Uses fanotify alone, as a machine without BPF would.
    pub fn fanotify_alone(mut self) -> Setup {
        self.probes = Some("fanotify".into());
        self
    }

    /// An option of `ebbtide run` without a value.
    pub fn flag(mut self, option: &str) -> Setup {
        self.more.push(option.into());
        self
    }

    /// One more filter rule, in rsync's language.
    pub fn filter(mut self, rule: &str) -> Setup {
        self.filters.push(rule.into());
        self
    }

    /// Any other option of `ebbtide run`.
    pub fn option(mut self, option: &str, value: &str) -> Setup {
        self.more.extend([option.into(), value.into()]);
        self
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// When it ends instead, with its log.
    pub fn start(self) -> Daemon {
        self.start_in(None)
    }

    /// The same with its state in this folder.
    ///
    /// # Panics
    /// When it ends instead, with its log.
    pub fn start_with_state(self, state: &Path) -> Daemon {
        self.start_in(Some(state.to_owned()))
    }

    fn start_in(self, state: Option<PathBuf>) -> Daemon {
        let folder = Scratch::new("ebbtide");
        let mut daemon =
            Daemon { setup: self, process: None, folder, programs: None, environment: Vec::new(), state };
        daemon.start_again();
        daemon
    }

    /// The arguments of `ebbtide run`; `folder` takes the config file.
    fn arguments(&self, folder: &Path) -> Vec<String> {
        if let Some(text) = &self.file {
            let (path, draft) = (folder.join("ebbtide.toml"), folder.join("ebbtide.toml.new"));
            // In one step: a daemon may be reading it.
            fs::write(&draft, text).expect("scratch is writable");
            fs::rename(draft, &path).expect("it was just written");
            return [&["-c".into(), path.display().to_string()], &self.more[..]].concat();
        }
        let mut arguments = vec!["--source".into(), self.source.display().to_string()];
        for url in &self.to {
            arguments.extend(["--to".into(), url.clone()]);
        }
        if let Some(path) = &self.password_file {
            arguments.extend(["--password-file".into(), path.display().to_string()]);
        }
        if self.delete {
            arguments.push("--delete".into());
        }
        if let Some(probes) = &self.probes {
            arguments.extend(["--probes".into(), probes.clone()]);
        }
        arguments.extend(self.filters.iter().map(|rule| format!("--filter={rule}")));
        arguments.extend_from_slice(&self.more);
        arguments
    }
}

impl Daemon {
    /// What it will be started with the next time.
    pub fn reconfigure(&mut self, setup: Setup) {
        self.setup = setup;
    }

    /// Starts it again with the state it left.
    ///
    /// # Panics
    /// When it is running, or ends instead of answering.
    pub fn start_again(&mut self) {
        if stock_in_our_place() {
            return;
        }
        assert!(self.process.is_none(), "the daemon is running");
        let log =
            File::options().create(true).append(true).open(self.log_path()).expect("scratch is writable");
        // Its sender is another user, who must be able to pass.
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let process = bound_to_us(self.program("ebbtide"))
            .arg("run")
            .args(self.setup.arguments(self.folder.path()))
            .arg("--state-dir")
            .arg(self.state_dir())
            .arg("--runtime-dir")
            .arg(self.runtime_dir())
            .env("EBBTIDE_SEND", self.program("ebbtide-send"))
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("descriptors are left"))
            .stderr(log)
            .spawn()
            .expect("setpriv is installed");
        self.process = Some(process);
        eventually("ebbtide answers on its control socket", || {
            let process = self.process.as_mut().expect("it was started above");
            if let Some(status) = process.try_wait().expect("it is our child") {
                panic!("ebbtide run ended with {status}\n{}", self.log());
            }
            self.ask(&["status", "--json"]).status.success().then_some(())
        });
    }

    /// From its next start on its programs are those in `folder`; `None` for those that were built.
    pub fn use_programs(&mut self, folder: Option<&Path>) {
        self.programs = folder.map(Path::to_owned);
    }

    /// From its next start on its state is kept here.
    pub fn keep_state_in(&mut self, folder: &Path) {
        self.state = Some(folder.to_owned());
    }

    /// Variables of its environment, from its next start on, instead of those that were set so before.
    pub fn set_environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        self.environment = variables.into_iter().collect();
    }

    /// Whether its process is there; it may be frozen.
    ///
    /// # Panics
    /// When it has ended by itself, with its log.
    pub fn is_running(&mut self) -> bool {
        let Some(process) = &mut self.process else { return false };
        if let Some(status) = process.try_wait().expect("it is our child") {
            panic!("ebbtide run ended by itself with {status}\n{}", self.log());
        }
        true
    }

    fn program(&self, name: &str) -> PathBuf {
        self.programs.as_ref().map_or_else(|| program(name), |folder| folder.join(name))
    }

    /// Gives it another config file, and asks it with HUP to read it.
    ///
    /// # Panics
    /// When it was not started from a file, or is not running.
    pub fn reload(&mut self, text: &str) {
        self.rewrite(text);
        let pid = pid_of(self.pid().expect("the daemon is running"));
        rustix::process::kill_process(pid, Signal::HUP).expect("it is our child");
    }

    /// Gives it another config file, and says nothing.
    ///
    /// # Panics
    /// When it was not started from a file.
    pub fn rewrite(&mut self, text: &str) {
        assert!(self.setup.file.is_some(), "there is no config file");
        self.setup.file = Some(text.into());
        // Writes the file.
        let _ = self.setup.arguments(self.folder.path());
    }

    /// One more option without a value, from its next start on.
    pub fn add_flag(&mut self, option: &str) {
        self.setup.more.push(option.into());
    }

    /// The barrier: returns when everything that changed before is at every destination.
    ///
    /// # Panics
    /// When that takes too long, with its status and log.
    #[track_caller]
    pub fn wait(&self) {
        if stock_in_our_place() {
            return self.sync_in_our_place();
        }
        let timeout = PATIENCE.as_secs().to_string();
        let output = self.ask(&["wait", "--timeout", &timeout]);
        assert!(
            output.status.success(),
            "ebbtide wait ended with {}: {}\n{:#}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.status()
        );
    }

    /// Compares everything, and waits for the end of it.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn full_sync(&self) {
        let timeout = PATIENCE.as_secs().to_string();
        let output = self.ask(&["sync", "--full", "--wait", "--timeout", &timeout]);
        assert!(output.status.success(), "ebbtide sync: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// How `ebbtide wait` ends within this many seconds, where it need not succeed.
    pub fn try_wait(&self, seconds: u32) -> ExitStatus {
        self.ask(&["wait", "--timeout", &seconds.to_string()]).status
    }

    /// Runs a verb against this daemon.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("ebbtide"));
        command.args(arguments).arg("--runtime-dir").arg(self.runtime_dir());
        command.stdin(Stdio::null()).output().expect("ebbtide can be started")
    }

    /// `ebbtide status --json`.
    ///
    /// # Panics
    /// When that fails or is not JSON.
    pub fn status(&self) -> Value {
        let output = self.ask(&["status", "--json"]);
        let answer = serde_json::from_slice(&output.stdout);
        answer.unwrap_or_else(|e| panic!("status --json: {e}\n{output:?}"))
    }

    /// What the sender tells of itself and its destinations, as soon as it does: a status does not wait for it for long.
    pub fn transfer(&self) -> Value {
        eventually("the sender tells how it is", || {
            let transfer = self.status()["transfer"].take();
            (!transfer.is_null()).then_some(transfer)
        })
    }

    /// The status of the destination with this URL, as soon as `which` accepts it.
    pub fn destination(&self, url: &str, what: &str, which: impl Fn(&Value) -> bool) -> Value {
        if stock_in_our_place() {
            return Value::Null;
        }
        eventually(what, || {
            let status = self.status();
            let all = status["transfer"]["destinations"].as_array()?;
            all.iter().find(|d| d["url"] == url).filter(|d| which(d)).cloned()
        })
    }

    /// Process id of the sender, while there is one.
    pub fn sender(&self) -> Option<u32> {
        if stock_in_our_place() {
            return None;
        }
        // The daemon may be busy for a moment.
        let status: Value = serde_json::from_slice(&self.ask(&["status", "--json"]).stdout).ok()?;
        u32::try_from(status["sender"]["pid"].as_u64()?).ok()
    }

    /// Number of the last batch of facts that is durable.
    pub fn batch(&self) -> u64 {
        let status = self.status();
        let last = status["tracker"]["batch"].as_u64().expect("a counter");
        if status["tracker"]["durable"] == true { last } else { last.saturating_sub(1) }
    }

    /// Kills the sender at whatever it is doing, and tells its process id. `None` while there is none to kill.
    ///
    /// # Panics
    /// When the process is another program.
    pub fn kill_sender(&self) -> Option<u32> {
        if stock_in_our_place() {
            return Some(0);
        }
        let pid = self.sender()?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        // The daemon may answer with a process that is gone; its number is never another program's here.
        assert!(name.starts_with("ebbtide"), "process {pid} is {name}");
        rustix::process::kill_process(pid_of(pid), Signal::KILL).ok()?;
        Some(pid)
    }

    /// Lets `act` happen while it does not look; the sender goes on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn unseen(&self, act: impl FnOnce()) {
        let pid = pid_of(self.pid().expect("it runs"));
        let signal = |signal| rustix::process::kill_process(pid, signal).expect("it is our child");
        signal(Signal::STOP);
        act();
        signal(Signal::CONT);
    }

    /// Ends it with TERM and returns how it ended.
    ///
    /// # Panics
    /// When it does not end.
    pub fn terminate(&mut self) -> ExitStatus {
        let Some(mut process) = self.process.take() else { return ExitStatus::default() };
        let _ = rustix::process::kill_process(pid_of(process.id()), Signal::TERM);
        eventually("ebbtide ends after TERM", || process.try_wait().expect("it is our child"))
    }

    /// Kills it, and its sender with it, without a chance to end cleanly.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Ends what it left in the kernel for its next start.
    pub fn unload(&self) {
        let mut command = Command::new(program("ebbtide"));
        command.arg("unload").arg("--state-dir").arg(self.state_dir());
        // A process of its own that still ends may hold the folder; the next start of any daemon sweeps then.
        let _ = command.arg("--runtime-dir").arg(self.runtime_dir()).stdin(Stdio::null()).output();
    }

    /// Whether it sees stores through mappings, by whatever this kernel permits.
    pub fn sees_mapped_stores(&self) -> bool {
        stock_in_our_place() || self.status()["mirrors"][0]["plan"]["mapped"] == "ebpf"
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Everything it printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Folder of its control socket.
    pub fn runtime_dir(&self) -> PathBuf {
        self.folder.dir("run")
    }

    fn state_dir(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| self.folder.dir("state"))
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn sync_in_our_place(&self) {
        for url in &self.setup.to {
            let mut arguments = vec!["-aHI".to_owned()];
            if self.setup.delete {
                arguments.push("--delete".into());
            }
            arguments.extend(self.setup.filters.iter().map(|rule| format!("--filter={rule}")));
            if let Some(path) = &self.setup.password_file {
                arguments.push(format!("--password-file={}", path.display()));
            }
            arguments.extend([format!("{}/", self.setup.source.display()), url.clone()]);
            Client::stock().run(&arguments).expect(0);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.kill();
            eprintln!("--- log of ebbtide\n{}---", self.log());
        } else {
            self.terminate();
        }
        self.unload();
    }
}

fn pid_of(process: u32) -> Pid {
    Pid::from_raw(process.cast_signed()).expect("process ids are positive")
}
