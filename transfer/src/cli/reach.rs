//! How the destination is reached, from the options and the environment.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::args::Args;
use super::run::Stop;
use crate::ExitCode;
use crate::text::OsError;
use crate::transport::{Family, Proxy, RemoteShell, Scheme, Target, TlsFiles, Way, socket_options};

/// Takes over what the command line and the environment say about the way to `target`.
pub(super) fn adopt(args: &mut Args, target: &mut Target) -> Result<(), Stop> {
    target.scheme = scheme(args, target)?;
    if let Some(file) = &args.given.connection.early_input {
        args.push.early_input = early_input(file)?;
    }
    if target.scheme == Scheme::Shell {
        refuse_daemons_options(args)?;
    }
    args.push.way = way(args, target.scheme)?;
    if matches!(target.scheme, Scheme::Shell | Scheme::ShellDaemon) {
        args.push.way.shell.check().map_err(|error| Stop::usage(error.to_string()))?;
    }
    Ok(())
}

/// Peer: rsync's main.c:start_client and do_cmd.
fn refuse_daemons_options(args: &Args) -> Result<(), Stop> {
    let connection = &args.given.connection;
    let wrong = |option, when| {
        Stop::usage(format!("The {option} option may only be used when {when} an rsync daemon."))
    };
    if connection.password_file.is_some() {
        return Err(wrong("--password-file", "accessing"));
    }
    if connection.contimeout > 0 {
        return Err(wrong("--contimeout", "connecting to"));
    }
    Ok(())
}

/// A daemon's address and `-e` by name mean a daemon that the remote shell starts. Peer: rsync's main.c:start_client.
fn scheme(args: &Args, target: &Target) -> Result<Scheme, Stop> {
    match target.scheme {
        scheme if !args.given.connection.rsh_by_name => Ok(scheme),
        Scheme::Rsyncs => {
            Err(Stop::usage("--rsh goes with HOST:PATH and HOST::MODULE, and not with rsyncs://".to_owned()))
        }
        Scheme::Rsync => Ok(Scheme::ShellDaemon),
        scheme => Ok(scheme),
    }
}

fn way(args: &Args, scheme: Scheme) -> Result<Way, Stop> {
    let connection = &args.given.connection;
    let by_shell = matches!(scheme, Scheme::Shell | Scheme::ShellDaemon);
    let sockopts = String::from_utf8_lossy(connection.sockopts.as_deref().unwrap_or_default());
    let tls = [&connection.tls_ca, &connection.tls_cert, &connection.tls_key].map(Clone::clone);
    if scheme != Scheme::Rsyncs && tls.iter().any(Option::is_some) {
        return Err(Stop::usage("--tls-ca, --tls-cert and --tls-key go with rsyncs:// alone".to_owned()));
    }
    let [authorities, certificate, key] = tls;
    // Peer: rsync-ssl's variables.
    let named = |given: Option<PathBuf>, name| {
        given.or_else(|| variable(name).filter(|_| scheme == Scheme::Rsyncs).map(PathBuf::from))
    };
    Ok(Way {
        user: user(),
        family: match connection.family {
            Some(4) => Family::V4,
            Some(_) => Family::V6,
            None => Family::Any,
        },
        from: connection.address.clone(),
        socket_options: socket_options(&sockopts).map_err(|error| Stop::usage(error.to_string()))?,
        proxy: if by_shell { None } else { proxy()? },
        program: variable("RSYNC_CONNECT_PROG").filter(|_| !by_shell),
        program_shell: variable("RSYNC_SHELL"),
        tls: TlsFiles::new(
            named(authorities, "RSYNC_SSL_CA_CERT"),
            named(certificate, "RSYNC_SSL_CERT"),
            named(key, "RSYNC_SSL_KEY"),
        ),
        shell: RemoteShell {
            command: connection.rsh.clone().map(OsString::from_vec),
            rsync_path: connection.rsync_path.clone(),
            old_args: connection.old_args.unwrap_or(false).into(),
            secluded: connection.secluded_args.unwrap_or(false),
        },
    })
}

/// Peer: rsync's clientserver.c asks the same two variables.
fn user() -> Option<String> {
    let mut named = ["USER", "LOGNAME"].into_iter().filter_map(|name| env::var(name).ok());
    named.find(|user| !user.is_empty())
}

fn proxy() -> Result<Option<Proxy>, Stop> {
    let Some(text) = variable("RSYNC_PROXY") else { return Ok(None) };
    let proxy = Proxy::parse(&text.to_string_lossy());
    proxy.map(Some).map_err(|error| Stop { code: ExitCode::SOCKET, text: error.to_string() })
}

fn early_input(file: &Path) -> Result<Vec<u8>, Stop> {
    let failed = |text| Stop { code: ExitCode::START_CLIENT, text };
    let input = fs::read(file)
        .map_err(|error| failed(format!("failed to open {}: {}", file.display(), OsError(&error))))?;
    if input.len() > MAX_EARLY_INPUT {
        return Err(failed(format!("{} is > {MAX_EARLY_INPUT} bytes.", file.display())));
    }
    Ok(input)
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// What a daemon takes, in bytes.
const MAX_EARLY_INPUT: usize = 5120;
