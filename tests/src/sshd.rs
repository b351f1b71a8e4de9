//! A real sshd on a loopback port, with keys made for the test.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal};

use crate::machine::{bound_to_us, eventually, run};
use crate::tls::{installed, quiet};
use crate::{Port, Scratch, Skip};

/// A running sshd that lets the tester in with a key. Ends on drop.
#[derive(Debug)]
pub struct Sshd {
    port: Port,
    process: Child,
    folder: Scratch,
}

impl Sshd {
    /// Starts one and waits until it accepts connections.
    ///
    /// # Errors
    /// It is not on this machine.
    pub fn start() -> Result<Sshd, Skip> {
        let program = installed("sshd")?;
        let keygen = installed("ssh-keygen")?;
        let folder = Scratch::new("sshd");
        for name in ["host", "user"] {
            let key = folder.path().join(name);
            run(quiet(&keygen).args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key));
        }
        fs::copy(folder.path().join("user.pub"), folder.path().join("authorized")).expect("it was made");
        // Where sshd of Debian leaves its root; systemd makes it otherwise.
        let _ = fs::DirBuilder::new().mode(0o755).create("/run/sshd");
        let (port, process) = eventually("sshd listens", || {
            let port = Port::new();
            let config = format!(
                "ListenAddress {address}\nHostKey {host}\nAuthorizedKeysFile {authorized}\n\
                 StrictModes no\nPasswordAuthentication no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n",
                address = port.address(),
                host = folder.path().join("host").display(),
                authorized = folder.path().join("authorized").display(),
            );
            fs::write(folder.path().join("config"), config).expect("a scratch folder is writable");
            let mut command = bound_to_us(&program);
            command.args(["-D", "-E"]).arg(folder.path().join("log")).arg("-f");
            command.arg(folder.path().join("config")).process_group(0);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut process = command.spawn().expect("setpriv is installed");
            eventually("sshd accepts connections or ends", || {
                if process.try_wait().expect("it is our child").is_some() {
                    return Some(false);
                }
                TcpStream::connect(port.address()).is_ok().then_some(true)
            })
            .then_some((port, process))
        });
        Ok(Sshd { port, process, folder })
    }

    /// The remote shell's command with its options: port and key.
    pub fn shell(&self) -> String {
        format!(
            "ssh -F none -p {} -i {} -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=no \
             -o UserKnownHostsFile={} -o LogLevel=ERROR",
            self.port.number(),
            self.folder.path().join("user").display(),
            self.folder.path().join("known").display(),
        )
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.process.id().cast_signed()).expect("process ids are positive");
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("--- log of sshd\n{}---", String::from_utf8_lossy(&log));
        }
    }
}
