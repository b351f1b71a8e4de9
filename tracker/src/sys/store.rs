//! systemd's store of descriptors: what is given to it comes back to the service's next process. See
//! sd_notify(3), `FDSTORE=1`, and sd_listen_fds(3).

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};

use super::{Named, Result};

/// Gives a descriptor to the store, by a name without colons. Returns whether there is a store to give it to; whether
/// it was taken, nobody tells.
///
/// # Errors
/// The message cannot be sent.
pub fn keep(name: &str, fd: BorrowedFd<'_>) -> Result<bool> {
    send(&format!("FDSTORE=1\nFDNAME={name}\n"), Some(fd))
}

/// Takes what has this name out of the store.
///
/// # Errors
/// The message cannot be sent.
pub fn remove(name: &str) -> Result<bool> {
    send(&format!("FDSTOREREMOVE=1\nFDNAME={name}\n"), None)
}

/// What came back from the store at the start of this process, by name. To be asked once.
pub fn inherited() -> Vec<(String, OwnedFd)> {
    let Ok(fds) = sd_notify::listen_fds_with_names() else { return Vec::new() };
    // SAFETY: whoever started this process says that these descriptors are for it, and nothing else of this process
    // has asked for them.
    fds.map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) })).filter(|(_, fd)| is_open(fd)).collect()
}

fn is_open(fd: &OwnedFd) -> bool {
    rustix::io::fcntl_getfd(fd).is_ok()
}

fn send(text: &str, fd: Option<BorrowedFd<'_>>) -> Result<bool> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(false) };
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name),
        None => SocketAddrUnix::new(bytes),
    };
    let address = address.named("address of NOTIFY_SOCKET")?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .named("socket")?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = fd.into_iter().collect();
    if !fds.is_empty() {
        // There is room for one.
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let text = [IoSlice::new(text.as_bytes())];
    rustix::net::sendmsg_addr(&socket, &address, &text, &mut ancillary, SendFlags::NOSIGNAL)
        .named("sendmsg")?;
    Ok(true)
}
