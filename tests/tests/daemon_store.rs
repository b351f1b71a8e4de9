//! A service manager that holds the daemon's descriptors: the queue of name events outlives the daemon.
#![expect(clippy::unwrap_used, reason = "a test ends where its world does not obey")]

use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use ebbtide_tests::{Client, Kind, Mirror, Scratch, Setup, bytes, eventually, kib, needs, program, skip};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

/// Takes what a service gives to its manager's store, as sd_notify(3) has it.
struct Manager {
    socket: UnixDatagram,
    folder: Scratch,
    kept: Vec<(String, OwnedFd)>,
}

impl Manager {
    fn new() -> Manager {
        let folder = Scratch::new("manager");
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Manager { socket, folder, kept: Vec::new() }
    }

    /// For the service's environment.
    fn variable(&self) -> (String, String) {
        ("NOTIFY_SOCKET".into(), self.folder.path().join("notify").display().to_string())
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
            let said = String::from_utf8(text[..message.bytes].to_vec()).unwrap();
            let Some(name) = said.lines().find_map(|line| line.strip_prefix("FDNAME=")) else { continue };
            if said.contains("FDSTOREREMOVE=1") {
                self.kept.retain(|(kept, _)| kept != name);
            } else if said.contains("FDSTORE=1") {
                self.kept.extend(fds.into_iter().map(|fd| (name.to_owned(), fd)));
            }
        }
    }

    /// Programs that begin with what is kept, as sd_listen_fds(3) has it.
    fn programs(&self, ours: &std::path::Path) -> std::path::PathBuf {
        let folder = self.folder.dir("programs");
        let (name, fd) = &self.kept[0];
        // Not closed when a program is started.
        let fd = std::mem::ManuallyDrop::new(rustix::io::dup(fd).unwrap()).as_raw_fd();
        let script = format!(
            "#!/bin/bash\nexec 3<&{fd} {fd}<&-\nexport LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES={name}\n\
             exec {} \"$@\"\n",
            ours.join("ebbtide").display()
        );
        fs::write(folder.join("ebbtide"), script).unwrap();
        fs::set_permissions(folder.join("ebbtide"), fs::Permissions::from_mode(0o755)).unwrap();
        if !folder.join("ebbtide-send").exists() {
            fs::hard_link(ours.join("ebbtide-send"), folder.join("ebbtide-send")).unwrap();
        }
        folder
    }
}

#[test]
fn a_queue_that_the_service_manager_kept_is_taken_over_where_no_bits_tell() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync has no queue");
    }
    let shape = |setup: Setup| setup.fanotify_alone();
    let mut mirror =
        needs!(Mirror::with(Kind::Xfs, |tree| tree.file("red/a", b"a").file("file", b"f"), shape));
    let mut manager = Manager::new();
    mirror.expect_synced();
    mirror.daemon_mut().terminate();
    mirror.daemon_mut().set_environment([manager.variable()]);
    mirror.daemon_mut().start_again();
    eventually("the queue is given to the store", || {
        manager.hear();
        (!manager.kept.is_empty()).then_some(())
    });
    mirror.expect_synced();
    let ours = program("ebbtide").parent().unwrap().to_owned();
    for round in 0..2 {
        let src = mirror.source_path();
        fs::write(src.join("file"), bytes(round, kib(3))).unwrap();
        mirror.daemon_mut().kill();
        fs::rename(src.join("red"), src.join("blue")).unwrap();
        fs::rename(src.join("blue"), src.join("red")).unwrap();
        fs::create_dir_all(src.join(format!("new{round}/deep"))).unwrap();
        fs::write(src.join(format!("new{round}/deep/file")), b"meanwhile").unwrap();
        fs::write(src.join("red/a"), round.to_string()).unwrap();
        let programs = manager.programs(&ours);
        mirror.daemon_mut().use_programs(Some(&programs));
        mirror.daemon_mut().start_again();
        mirror.expect_synced();
        let status = mirror.daemon().status();
        assert_eq!(
            status["mirrors"][0]["start"]["way"],
            "taken-over",
            "{status:#}\n{}",
            mirror.daemon().log()
        );
        assert_eq!(status["mirrors"][0]["taints"], 0, "{status:#}");
        manager.hear();
    }
}
