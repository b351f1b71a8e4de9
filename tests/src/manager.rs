//! A service manager that keeps a daemon's descriptors from one process to the next.

use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::{Daemon, Scratch, eventually, program};

/// Takes what a service gives to its manager's store, as sd_notify(3) has it, and starts it with that, as
/// sd_listen_fds(3) has it.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    folder: Scratch,
    kept: Vec<(String, OwnedFd)>,
}

impl Manager {
    /// Starts a daemon anew as a service, and returns when its queue of name events is in the store.
    ///
    /// # Panics
    /// When it gives none, or does not obey otherwise.
    pub fn take_charge(daemon: &mut Daemon) -> Manager {
        let folder = Scratch::new("manager");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("scratch is writable");
        socket.set_nonblocking(true).expect("a socket has that flag");
        let notify = folder.path().join("notify").display().to_string();
        let mut manager = Manager { socket, folder, kept: Vec::new() };
        daemon.terminate();
        daemon.set_environment([("NOTIFY_SOCKET".into(), notify)]);
        daemon.start_again();
        eventually("the queue is given to the store", || {
            manager.hear();
            (!manager.kept.is_empty()).then_some(())
        });
        manager
    }

    /// Starts the daemon, which has ended, with what is kept.
    ///
    /// # Panics
    /// When it ends instead.
    pub fn start_again(&mut self, daemon: &mut Daemon) {
        self.hear();
        // Not closed when a program is started; the script closes it.
        let [(name, fd)] = &self.kept[..] else { panic!("one queue is kept: {:?}", self.kept) };
        let fd = rustix::io::dup(fd).expect("descriptors are left");
        daemon.use_programs(Some(&self.programs(name, fd.as_raw_fd())));
        daemon.start_again();
    }

    /// Reads what was said by now.
    fn hear(&mut self) {
        let mut text = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        loop {
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut text)];
            let Ok(message) =
                rustix::net::recvmsg(&self.socket, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            else {
                return;
            };
            let fds: Vec<OwnedFd> = ancillary
                .drain()
                .filter_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                    _ => None,
                })
                .flatten()
                .collect();
            let said = String::from_utf8_lossy(&text[..message.bytes]);
            let Some(name) = said.lines().find_map(|line| line.strip_prefix("FDNAME=")) else { continue };
            if said.contains("FDSTOREREMOVE=1") {
                self.kept.retain(|(kept, _)| kept != name);
            } else if said.contains("FDSTORE=1") {
                self.kept.extend(fds.into_iter().map(|fd| (name.to_owned(), fd)));
            }
        }
    }

    /// The folder of programs that begin with this descriptor.
    fn programs(&self, name: &str, fd: RawFd) -> PathBuf {
        let folder = self.folder.dir("programs");
        // It may be the third one already.
        let take = if fd == 3 { String::new() } else { format!("exec 3<&{fd} {fd}<&-\n") };
        let script = format!(
            "#!/bin/bash\n{take}export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES={name}\nexec {} \"$@\"\n",
            program("ebbtide").display()
        );
        let starter = folder.join("ebbtide");
        fs::write(&starter, script).expect("scratch is writable");
        fs::set_permissions(&starter, fs::Permissions::from_mode(0o755)).expect("it is ours");
        // It stands there from the second time on.
        let _ = symlink(program("ebbtide-send"), folder.join("ebbtide-send"));
        folder
    }
}
