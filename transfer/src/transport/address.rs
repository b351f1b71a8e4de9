//! `rsync://[user@]host[:port]/module[/path]`, `rsyncs://…`, `[user@]host::module[/path]` and `[user@]host:[path]`.

use std::fmt;
use std::str;

/// How a destination is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// A daemon, over TCP: `rsync://host/module` or `host::module`.
    Rsync,
    /// A daemon, over TLS: `rsyncs://host/module`.
    Rsyncs,
    /// No daemon; a remote shell starts the other side: `host:path`.
    Shell,
    /// A daemon for one session that a remote shell starts: one of the daemon's forms and `-e`.
    ShellDaemon,
}

/// A place that can be pushed to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Name or address of the host, an IPv6 address without brackets.
    pub host: String,
    /// TCP port, usually [`Target::PORT`] or [`Target::TLS_PORT`]; of no meaning for a remote shell.
    pub port: u16,
    /// The module; empty asks for a listing. [`Scheme::Shell`] has none.
    pub module: String,
    /// The place in the module, without a leading slash; empty for the module itself. For [`Scheme::Shell`], the path
    /// as it was written; empty for the login folder.
    pub path: Vec<u8>,
    /// The user to authenticate as, or to log in as, if the address names one.
    pub user: Option<String>,
    /// The password, if the daemon asks for one.
    pub password: Option<Password>,
}

/// A password: never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Password(Vec<u8>);

/// Why an argument is not a remote address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// None of the forms.
    #[error(
        "{0:?} is not a remote address: expected rsync://[user@]host[:port]/module/[path], rsyncs:// for TLS, or \
         [user@]host:[path]"
    )]
    Form(String),
    /// The port is not a number of 1 to 65535.
    #[error("port {0:?} is not a number from 1 to 65535")]
    Port(String),
    /// The host is empty, or an address in brackets is not closed.
    #[error("{0:?} names no host")]
    Host(String),
    /// User, host or module hold something other than UTF-8 text, or control characters.
    #[error("{0:?} holds characters that no host, user or module name can hold")]
    Text(String),
}

impl Target {
    /// The port of rsync daemons.
    pub const PORT: u16 = 873;

    /// The port of TLS proxies before rsync daemons.
    pub const TLS_PORT: u16 = 874;

    /// Reads an address. The password is not part of it.
    ///
    /// # Errors
    /// The argument has none of the forms.
    pub fn parse(address: &[u8]) -> Result<Target, TargetError> {
        for (prefix, scheme) in [(&b"rsync://"[..], Scheme::Rsync), (b"rsyncs://", Scheme::Rsyncs)] {
            if let Some(rest) = strip_prefix_ignoring_case(address, prefix) {
                let (authority, place) = split_at_byte(rest, b'/').unwrap_or((rest, b""));
                let (user, host) = split_user(authority)?;
                let (host, port) = split_port(host, scheme.port())?;
                return Target { scheme, host, port, user, ..Target::EMPTY }.at(place);
            }
        }
        let colon = colon(address).ok_or_else(|| TargetError::Form(address.escape_ascii().to_string()))?;
        let (user, host) = split_user(&address[..colon])?;
        let target = Target { host: unbracket(host)?, user, ..Target::EMPTY };
        match &address[colon + 1..] {
            [b':', place @ ..] => target.at(place),
            path => Ok(Target { scheme: Scheme::Shell, path: path.to_vec(), ..target }),
        }
    }

    /// Whether an argument has one of the forms (a local path has none).
    pub fn looks_remote(argument: &[u8]) -> bool {
        [&b"rsync://"[..], b"rsyncs://"]
            .iter()
            .any(|prefix| strip_prefix_ignoring_case(argument, prefix).is_some())
            || colon(argument).is_some()
    }

    /// Whether an address says its port itself.
    pub fn names_port(address: &[u8]) -> bool {
        let url = [&b"rsync://"[..], b"rsyncs://"]
            .iter()
            .find_map(|prefix| strip_prefix_ignoring_case(address, prefix));
        let authority = url.and_then(|rest| rest.split(|&byte| byte == b'/').next());
        let host = authority.and_then(|authority| split_user(authority).ok());
        host.and_then(|(_, host)| split_port(host, 0).ok()).is_some_and(|(_, port)| port != 0)
    }

    /// The path argument for the daemon: `module/path`, always ending in what the user wrote.
    pub fn wire_path(&self) -> Vec<u8> {
        let mut path = self.module.clone().into_bytes();
        path.push(b'/');
        path.extend_from_slice(&self.path);
        path
    }

    /// The same target with another password.
    #[must_use]
    pub fn with_password(mut self, password: Option<Password>) -> Target {
        self.password = password;
        self
    }

    const EMPTY: Target = Target {
        scheme: Scheme::Rsync,
        host: String::new(),
        port: Target::PORT,
        module: String::new(),
        path: Vec::new(),
        user: None,
        password: None,
    };

    /// The same at a module and a path in it.
    fn at(self, place: &[u8]) -> Result<Target, TargetError> {
        let (module, path) = split_at_byte(place, b'/').unwrap_or((place, b""));
        let slashes = path.iter().take_while(|&&b| b == b'/').count();
        Ok(Target { module: text(module)?, path: path[slashes..].to_vec(), ..self })
    }
}

impl Scheme {
    /// The port where it is usually spoken.
    pub fn port(self) -> u16 {
        if self == Scheme::Rsyncs { Target::TLS_PORT } else { Target::PORT }
    }
}

/// The address without password, its path escaped.
impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.scheme {
            Scheme::Rsync => "rsync://",
            Scheme::Rsyncs => "rsyncs://",
            Scheme::Shell | Scheme::ShellDaemon => "",
        })?;
        if let Some(user) = &self.user {
            write!(out, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(out, "[{}]", self.host)?;
        } else {
            out.write_str(&self.host)?;
        }
        match self.scheme {
            Scheme::Shell => return write!(out, ":{}", self.path.escape_ascii()),
            Scheme::ShellDaemon => out.write_str("::")?,
            scheme if self.port != scheme.port() => write!(out, ":{}/", self.port)?,
            _ => out.write_str("/")?,
        }
        write!(out, "{}/{}", self.module, self.path.escape_ascii())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Target({self})")
    }
}

impl Password {
    /// Takes a password's bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Password {
        Password(bytes.into())
    }

    /// The password in the text of a password file: its first line.
    pub fn first_line(file: &[u8]) -> Password {
        let line = file.split(|&b| b == b'\n' || b == b'\r').next().unwrap_or_default();
        Password(line.to_vec())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Password(…)")
    }
}

/// Where the colon stands that ends the host: before any slash, and outside of an address in brackets.
fn colon(argument: &[u8]) -> Option<usize> {
    let before_slash = argument.split(|&b| b == b'/').next().unwrap_or_default();
    let host = before_slash.iter().position(|&b| b == b'@').map_or(0, |at| at + 1);
    let from = match argument[host..].first() {
        Some(b'[') => host + argument[host..].iter().position(|&b| b == b']')?,
        _ => host,
    };
    let at = from + argument[from..].iter().position(|&b| b == b':' || b == b'/')?;
    (argument[at] == b':' && at > 0).then_some(at)
}

fn split_user(authority: &[u8]) -> Result<(Option<String>, &[u8]), TargetError> {
    let Some(at) = authority.iter().rposition(|&b| b == b'@') else { return Ok((None, authority)) };
    let user = text(&authority[..at])?;
    Ok(((!user.is_empty()).then_some(user), &authority[at + 1..]))
}

fn split_port(host: &[u8], usual: u16) -> Result<(String, u16), TargetError> {
    let name_end = match host.first() {
        Some(b'[') => host.iter().position(|&b| b == b']').map_or(host.len(), |at| at + 1),
        _ => host.iter().position(|&b| b == b':').unwrap_or(host.len()),
    };
    let name = unbracket(&host[..name_end])?;
    match host[name_end..].split_first() {
        None | Some((b':', [])) => Ok((name, usual)),
        Some((b':', digits)) => Ok((name, port(digits)?)),
        Some(_) => Err(TargetError::Host(host.escape_ascii().to_string())),
    }
}

fn port(digits: &[u8]) -> Result<u16, TargetError> {
    let bad = || TargetError::Port(digits.escape_ascii().to_string());
    let number = str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    if number == 0 { Err(bad()) } else { Ok(number) }
}

fn unbracket(host: &[u8]) -> Result<String, TargetError> {
    let inner = match host {
        [b'[', inner @ .., b']'] => inner,
        [b'[', ..] | [] => return Err(TargetError::Host(host.escape_ascii().to_string())),
        host => host,
    };
    text(inner)
}

fn text(bytes: &[u8]) -> Result<String, TargetError> {
    match str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(TargetError::Text(bytes.escape_ascii().to_string())),
    }
}

fn split_at_byte(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&b| b == byte)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn strip_prefix_ignoring_case<'a>(bytes: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let head = bytes.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &bytes[prefix.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> Target {
        Target::parse(address.as_bytes()).unwrap()
    }

    #[test]
    fn a_url_gives_user_host_port_module_and_path() {
        let target = parse("rsync://me@example.org:8730/mod/a b/c/");
        assert_eq!(target.user.as_deref(), Some("me"));
        assert_eq!((target.host.as_str(), target.port), ("example.org", 8730));
        assert_eq!((target.module.as_str(), target.path.as_slice()), ("mod", &b"a b/c/"[..]));
        assert_eq!(target.wire_path(), b"mod/a b/c/");
        assert_eq!(target.to_string(), "rsync://me@example.org:8730/mod/a b/c/");
    }

    #[test]
    fn the_double_colon_form_means_the_same() {
        assert_eq!(parse("me@h::m/p"), parse("rsync://me@h/m/p"));
        assert_eq!(parse("h::m"), parse("RSYNC://h/m"));
        assert_eq!(parse("[::1]::m/p").host, "::1");
    }

    #[test]
    fn tls_has_a_scheme_and_a_port_of_its_own() {
        let target = parse("rsyncs://me@h/m/p");
        assert_eq!((target.scheme, target.port), (Scheme::Rsyncs, 874));
        assert_eq!(target.to_string(), "rsyncs://me@h/m/p");
        assert_eq!(parse("rsyncs://h:873/m").to_string(), "rsyncs://h:873/m/");
        assert_eq!(parse("rsync://h:874/m").to_string(), "rsync://h:874/m/");
        assert_ne!(parse("rsyncs://h/m"), parse("rsync://h:874/m"));
    }

    #[test]
    fn one_colon_is_a_remote_shells_and_its_path_stays_as_it_is() {
        let target = parse("me@h:/a//b:c/");
        assert_eq!((target.scheme, target.user.as_deref()), (Scheme::Shell, Some("me")));
        assert_eq!((target.host.as_str(), target.path.as_slice()), ("h", &b"/a//b:c/"[..]));
        assert_eq!(target.to_string(), "me@h:/a//b:c/");
        assert_eq!(parse("h:").path, b"");
        assert_eq!(parse("[::1]:p").host, "::1");
        assert_eq!(parse("u@[::1]:p").to_string(), "u@[::1]:p");
        assert_eq!(parse("h:a::b").scheme, Scheme::Shell);
    }

    #[test]
    fn addresses_in_brackets_keep_their_colons() {
        let target = parse("rsync://[2001:db8::1]:99/m/");
        assert_eq!((target.host.as_str(), target.port), ("2001:db8::1", 99));
        assert_eq!(target.to_string(), "rsync://[2001:db8::1]:99/m/");
    }

    #[test]
    fn some_addresses_say_their_port() {
        for named in ["rsync://h:99/m", "RSYNCS://u@[::1]:99/m", "rsync://u:p@h:99"] {
            assert!(Target::names_port(named.as_bytes()), "{named}");
        }
        for bare in ["rsync://h/m:99", "rsync://[::1]/m", "rsync://h:/m", "h::m/x:99", "h:99"] {
            assert!(!Target::names_port(bare.as_bytes()), "{bare}");
        }
    }

    #[test]
    fn an_empty_module_asks_for_a_listing() {
        assert_eq!(parse("rsync://h").module, "");
        assert_eq!(parse("rsync://h/").module, "");
        assert_eq!(parse("h::").module, "");
    }

    #[test]
    fn arguments_that_are_no_address_are_refused() {
        for bad in [
            "",
            "/a/b",
            "a/b:c",
            ":path",
            "u@:path",
            "rsync://",
            "rsyncs://",
            "rsync:///m",
            "rsync://h:0/m",
            "rsync://h:x/m",
            "/a::b",
        ] {
            assert!(Target::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(!Target::looks_remote(b"/a::b"));
        assert!(Target::looks_remote(b"h::b/c"));
        assert!(Target::looks_remote(b"h:b/c"));
        assert!(Target::looks_remote(b"rsyncs://h/m"));
        assert!(!Target::looks_remote(b"./h:b"));
        assert!(!Target::looks_remote(b"plain"));
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file_and_is_not_printed() {
        let password = Password::first_line(b"geheim\r\nmore\n");
        assert_eq!(password.as_bytes(), b"geheim");
        assert!(!format!("{password:?}").contains("geheim"));
    }
}
