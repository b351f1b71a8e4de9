//! A stock rsync daemon on a loopback port of its own.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};

use crate::machine::{bound_to_us, eventually};
use crate::{Port, Release, Scratch, Skip};

/// One module of a daemon's configuration. By itself: writable, without chroot, without a password, run as root.
#[derive(Clone, Debug)]
pub struct Module {
    name: String,
    path: PathBuf,
    user: Option<(String, String)>,
    options: Vec<(String, String)>,
}

impl Module {
    /// A module that stores below `path`.
    pub fn new(name: &str, path: &Path) -> Module {
        let module = Module { name: name.into(), path: path.into(), user: None, options: Vec::new() };
        module
            .option("uid", "0")
            .option("gid", "0")
            .option("use chroot", "no")
            .option("read only", "no")
            .option("munge symlinks", "no")
            .option("numeric ids", "no")
    }

    /// Whether the daemon confines itself to the module's folder.
    pub fn chroot(self, yes: bool) -> Module {
        self.option("use chroot", if yes { "yes" } else { "no" })
    }

    /// Asks for this user's password.
    pub fn password(mut self, user: &str, password: &str) -> Module {
        self.user = Some((user.into(), password.into()));
        self
    }

    /// Refuses to be written.
    pub fn read_only(self) -> Module {
        self.option("read only", "yes")
    }

    /// Refuses options, by their long names or letters.
    pub fn refuse(self, options: &str) -> Module {
        self.option("refuse options", options)
    }

    /// Any other parameter of rsyncd.conf; a later one of the same name wins.
    pub fn option(mut self, name: &str, value: &str) -> Module {
        self.options.retain(|(known, _)| known != name);
        self.options.push((name.into(), value.into()));
        self
    }

    fn write(&self, config: &mut String, folder: &Path) {
        writeln!(config, "[{}]\npath = {}", self.name, self.path.display()).expect("strings take text");
        for (name, value) in &self.options {
            writeln!(config, "{name} = {value}").expect("strings take text");
        }
        if let Some((user, password)) = &self.user {
            let secrets = folder.join(format!("{}.secrets", self.name));
            fs::write(&secrets, format!("{user}:{password}\n")).expect("a scratch folder is writable");
            fs::set_permissions(&secrets, Permissions::from_mode(0o600)).expect("it is ours");
            writeln!(config, "auth users = {user}\nsecrets file = {}", secrets.display())
                .expect("strings take text");
        }
    }
}

/// A running daemon. Ends, with its sessions, on drop.
#[derive(Debug)]
pub struct Rsyncd {
    program: PathBuf,
    modules: Vec<Module>,
    port: Port,
    process: Option<Child>,
    folder: Scratch,
    environment: Vec<(String, String)>,
}

impl Rsyncd {
    /// Starts one and waits until it accepts connections.
    ///
    /// # Errors
    /// This release is not on this machine.
    pub fn start(release: Release, modules: impl IntoIterator<Item = Module>) -> Result<Rsyncd, Skip> {
        let mut daemon = Rsyncd {
            program: daemon_of(release)?,
            modules: modules.into_iter().collect(),
            port: Port::new(),
            process: None,
            folder: Scratch::new("rsyncd"),
            environment: Vec::new(),
        };
        daemon.start_again();
        Ok(daemon)
    }

    /// Starts it again on its old port.
    ///
    /// # Panics
    /// When it is running.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the daemon is running");
        eventually("rsync --daemon listens on its port", || self.try_start().then_some(()));
    }

    /// Kills the daemon and all its sessions.
    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let group = Pid::from_raw(process.id().cast_signed()).expect("process ids are positive");
        // The daemon leads a process group of its own, in which its sessions stay.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = process.wait();
    }

    /// Ends the daemon and all its sessions with TERM, so that they remove their temporary files.
    ///
    /// # Panics
    /// When one does not end.
    pub fn terminate(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let group = Pid::from_raw(process.id().cast_signed()).expect("process ids are positive");
        eventually("the daemon and its sessions end after TERM", || {
            let _ = rustix::process::kill_process_group(group, Signal::TERM);
            let _ = process.try_wait();
            rustix::process::test_kill_process_group(group).is_err().then_some(())
        });
    }

    /// Stops (or continues) the daemon and all its sessions where they are.
    pub fn freeze(&self, frozen: bool) {
        let Some(process) = &self.process else { return };
        let group = Pid::from_raw(process.id().cast_signed()).expect("process ids are positive");
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        let _ = rustix::process::kill_process_group(group, signal);
    }

    /// Whether it was started and not stopped.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Another release takes its place at its next start.
    ///
    /// # Errors
    /// It is not on this machine.
    pub fn become_release(&mut self, release: Release) -> Result<(), Skip> {
        self.program = daemon_of(release)?;
        Ok(())
    }

    /// One more variable of its environment, from its next start on.
    pub fn add_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.into(), value.into()));
    }

    /// Other modules take the place of these at its next start; those that a client connects to now are read at once.
    pub fn set_modules(&mut self, modules: impl IntoIterator<Item = Module>) {
        self.modules = modules.into_iter().collect();
        self.write_config();
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// `rsync://host:port/module/`, with the user when the module wants one.
    ///
    /// # Panics
    /// When it has no such module.
    pub fn url(&self, module: &str) -> String {
        self.url_at(module, &self.address())
    }

    /// The same through another address, such as that of a proxy.
    ///
    /// # Panics
    /// When it has no such module.
    pub fn url_at(&self, module: &str, address: &str) -> String {
        let known = self.modules.iter().find(|m| m.name == module).expect("the daemon has this module");
        match &known.user {
            Some((user, _)) => format!("rsync://{user}@{address}/{module}/"),
            None => format!("rsync://{address}/{module}/"),
        }
    }

    /// A file with the module's password as its first line.
    ///
    /// # Panics
    /// When the module wants none.
    pub fn password_file(&self, module: &str) -> PathBuf {
        let known = self.modules.iter().find(|m| m.name == module).expect("the daemon has this module");
        let (_, password) = known.user.as_ref().expect("the module has a password");
        let path = self.folder.path().join(format!("{module}.password"));
        fs::write(&path, format!("{password}\n")).expect("a scratch folder is writable");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
        path
    }

    /// Whether it is of this release (major and minor number) or a newer one: old ones may stand in for it.
    ///
    /// # Panics
    /// When it does not tell its version.
    pub fn is_since(&self, release: (u32, u32)) -> bool {
        let output = crate::run(Command::new(&self.program).arg("--version")).stdout;
        let text = String::from_utf8_lossy(&output);
        let version = text.split_whitespace().nth(2).expect("rsync  version X.Y.Z");
        let mut numbers = version.split('.').map_while(|number| number.parse().ok());
        let (major, minor) = numbers.next().zip(numbers.next()).expect("X.Y.Z are numbers");
        (major, minor) >= release
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The daemon reads it anew for each client.
    fn write_config(&self) {
        let folder = self.folder.path();
        let mut config = format!("log file = {}\nreverse lookup = no\n", folder.join("log").display());
        for module in &self.modules {
            module.write(&mut config, folder);
        }
        // In one step: a client may be connecting.
        fs::write(folder.join("rsyncd.conf.new"), config).expect("a scratch folder is writable");
        fs::rename(folder.join("rsyncd.conf.new"), folder.join("rsyncd.conf")).expect("it was just written");
    }

    fn try_start(&mut self) -> bool {
        self.write_config();
        let folder = self.folder.path();
        let mut process = bound_to_us(&self.program)
            .args([
                "--daemon",
                "--no-detach",
                "--address=127.0.0.1",
                "--port",
                &self.port.number().to_string(),
            ])
            .arg(format!("--config={}", folder.join("rsyncd.conf").display()))
            .current_dir(folder)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("setpriv is installed");
        let up = eventually("rsync --daemon accepts connections or ends", || {
            if process.try_wait().expect("it is our child").is_some() {
                return Some(false);
            }
            greets(&self.port.address()).then_some(true)
        });
        self.process = up.then_some(process);
        up
    }
}

impl Drop for Rsyncd {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("--- log of the rsync daemon at {}\n{}---", self.address(), self.log());
        }
    }
}

/// Whether a daemon answers at this address: a session of an earlier one that is just being killed may still hold its
/// listening socket, and connections to that go nowhere.
fn greets(address: &str) -> bool {
    let mut greeting = [0; 8];
    TcpStream::connect(address).and_then(|mut daemon| daemon.read_exact(&mut greeting)).is_ok()
}

/// The release's program, or the one that `EBBTIDE_TEST_RSYNCD` puts in the place of all daemons: our sender is tried
/// against any other release that way.
fn daemon_of(release: Release) -> Result<PathBuf, Skip> {
    match std::env::var_os("EBBTIDE_TEST_RSYNCD") {
        None => release.program(),
        Some(path) if release == Release::Installed => Ok(path.into()),
        Some(_) => Err(Skip("another release stands in for the daemons, once is enough".into())),
    }
}

/// All connections of the modules with one lock file: no client of theirs is served as long as this lives. A client that held
/// a connection would lose it, since the daemon gives it a minute to begin.
///
/// Peer: rsync's `connection.c` counts connections by locks on parts of that file.
#[derive(Debug)]
pub struct Occupied {
    _locked: fs::File,
}

impl Occupied {
    /// Takes them all, as soon as nobody has one.
    ///
    /// # Panics
    /// When the file cannot be locked.
    pub fn new(lock_file: &Path) -> Occupied {
        let file = fs::File::options().create(true).truncate(false).write(true).open(lock_file);
        let file = file.expect("the lock file's folder is there");
        rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockExclusive)
            .expect("nobody waits for this process");
        Occupied { _locked: file }
    }
}

/// Waits until a daemon has begun to store the file `name` in `folder`: its temporary file is there or, since nobody may look
/// before that is gone again, the file itself begins with this byte.
///
/// # Panics
/// When neither happens.
pub fn rsyncd_has_begun(folder: &Path, name: &str, first: u8) {
    let temporary = format!(".{name}.");
    eventually("data is on its way", || {
        let mut entries = fs::read_dir(folder).ok()?.flatten();
        let under_way = entries.any(|entry| entry.file_name().to_string_lossy().starts_with(&temporary));
        let mut byte = [!first];
        let read = fs::File::open(folder.join(name)).and_then(|mut file| file.read_exact(&mut byte));
        (under_way || (read.is_ok() && byte == [first])).then_some(())
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs;

    #[test]
    fn a_daemon_stops_with_its_sessions_and_comes_back_on_its_port() {
        let scratch = Scratch::new("modules");
        let mut daemon = needs!(Rsyncd::start(Release::Installed, [Module::new("m", scratch.path())]));
        let address = daemon.address();
        let mut session = TcpStream::connect(&address).unwrap();
        let mut greeting = [0; 8];
        Read::read_exact(&mut session, &mut greeting).unwrap();
        assert_eq!(&greeting, b"@RSYNCD:");
        daemon.stop();
        let mut rest = Vec::new();
        let _ = Read::read_to_end(&mut session, &mut rest);
        daemon.start_again();
        assert_eq!(daemon.address(), address);
        TcpStream::connect(&address).unwrap();
    }
}
