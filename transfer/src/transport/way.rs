//! How a destination is reached, apart from where it is.

use std::ffi::OsString;

use super::{Proxy, RemoteShell, SocketOption, TlsFiles};

/// How a destination is reached. By itself: directly, over whatever address of the host answers.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Who to authenticate as to a daemon when the address names nobody.
    pub user: Option<String>,
    /// `-4`, `-6`.
    pub family: Family,
    /// `--address`: the address to connect from.
    pub from: Option<String>,
    /// `--sockopts`.
    pub socket_options: Vec<SocketOption>,
    /// `RSYNC_PROXY`.
    pub proxy: Option<Proxy>,
    /// `RSYNC_CONNECT_PROG`: a shell command whose standard input and output are the connection; `%H` in it stands
    /// for the host.
    pub program: Option<OsString>,
    /// `RSYNC_SHELL`: what runs `program` instead of the usual shell.
    pub program_shell: Option<OsString>,
    /// What proves who is at the ends of `rsyncs://`.
    pub tls: TlsFiles,
    /// `-e` and its kin.
    pub shell: RemoteShell,
}

/// Which addresses of a host may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// All.
    #[default]
    Any,
    /// `-4`.
    V4,
    /// `-6`.
    V6,
}
