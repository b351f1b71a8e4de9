//! How the destination is reached, from the options and the environment.

use std::env;
use std::ffi::OsString;

use super::args::Args;
use super::run::Stop;
use crate::ExitCode;
use crate::transport::{Proxy, RemoteShell, Scheme, Target, Way};

/// What the command line and the environment say about the way to `target`.
pub(super) fn way(args: &Args, target: &Target) -> Result<Way, Stop> {
    let remote_shell = matches!(target.scheme, Scheme::Shell | Scheme::ShellDaemon);
    Ok(Way {
        user: user(),
        proxy: if remote_shell { None } else { proxy()? },
        program: variable("RSYNC_CONNECT_PROG").filter(|_| !remote_shell),
        shell: RemoteShell { command: variable("RSYNC_RSH"), ..RemoteShell::default() },
        ..args.push.way.clone()
    })
}

/// Peer: rsync's clientserver.c asks the same two variables.
fn user() -> Option<String> {
    let named = ["USER", "LOGNAME"].into_iter().find_map(|name| env::var(name).ok());
    named.filter(|user| !user.is_empty())
}

fn proxy() -> Result<Option<Proxy>, Stop> {
    let Some(text) = variable("RSYNC_PROXY") else { return Ok(None) };
    let proxy = Proxy::parse(&text.to_string_lossy());
    proxy.map(Some).map_err(|error| Stop { code: ExitCode::SOCKET, text: error.to_string() })
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
