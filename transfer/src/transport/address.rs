//! `rsync://[user@]host[:port]/module[/path]` and `[user@]host::module[/path]`.

use std::fmt;
use std::str;

/// A daemon's module, and a place in it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Name or address of the host, an IPv6 address without brackets.
    pub host: String,
    /// TCP port, usually [`Target::PORT`].
    pub port: u16,
    /// The module; empty asks for a listing.
    pub module: String,
    /// The place in the module, without a leading slash; empty for the module itself.
    pub path: Vec<u8>,
    /// The user to authenticate as, if the address names one.
    pub user: Option<String>,
    /// The password, if the daemon asks for one.
    pub password: Option<Password>,
}

/// A password: never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Password(Vec<u8>);

/// Why an argument is not a daemon's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Neither of the two forms.
    #[error("{0:?} is not an rsync daemon's address: expected rsync://[user@]host[:port]/module/[path]")]
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

    /// Reads an address. The password is not part of it.
    ///
    /// # Errors
    /// The argument has neither form.
    pub fn parse(address: &[u8]) -> Result<Target, TargetError> {
        let form = || TargetError::Form(address.escape_ascii().to_string());
        if let Some(rest) = strip_prefix_ignoring_case(address, b"rsync://") {
            let (authority, place) = split_at_byte(rest, b'/').unwrap_or((rest, b""));
            return Target::assemble(authority, place, true);
        }
        let at = double_colon(address).ok_or_else(form)?;
        if address[..at].contains(&b'/') {
            return Err(form());
        }
        Target::assemble(&address[..at], &address[at + 2..], false)
    }

    /// Whether an argument has one of the two forms (a local path has neither).
    pub fn looks_remote(argument: &[u8]) -> bool {
        if strip_prefix_ignoring_case(argument, b"rsync://").is_some() {
            return true;
        }
        let before_slash = argument.split(|&b| b == b'/').next().unwrap_or_default();
        double_colon(before_slash).is_some()
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

    fn assemble(authority: &[u8], place: &[u8], with_port: bool) -> Result<Target, TargetError> {
        let (user, host) = match authority.iter().rposition(|&b| b == b'@') {
            Some(at) => (Some(text(&authority[..at])?), &authority[at + 1..]),
            None => (None, authority),
        };
        let (host, port) = if with_port { split_port(host)? } else { (unbracket(host)?, Target::PORT) };
        let (module, path) = split_at_byte(place, b'/').unwrap_or((place, b""));
        let slashes = path.iter().take_while(|&&b| b == b'/').count();
        Ok(Target {
            host,
            port,
            module: text(module)?,
            path: path[slashes..].to_vec(),
            user: user.filter(|user| !user.is_empty()),
            password: None,
        })
    }
}

/// The address without password, its path escaped.
impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("rsync://")?;
        if let Some(user) = &self.user {
            write!(out, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(out, "[{}]", self.host)?;
        } else {
            out.write_str(&self.host)?;
        }
        if self.port != Target::PORT {
            write!(out, ":{}", self.port)?;
        }
        write!(out, "/{}/{}", self.module, self.path.escape_ascii())
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

/// Where the first `::` stands that is not part of an address in brackets.
fn double_colon(argument: &[u8]) -> Option<usize> {
    let from = match argument.iter().position(|&b| b == b'[') {
        Some(open) => open + argument[open..].iter().position(|&b| b == b']')?,
        None => 0,
    };
    argument[from..].windows(2).position(|pair| pair == b"::").map(|at| from + at)
}

fn split_port(host: &[u8]) -> Result<(String, u16), TargetError> {
    let name_end = match host.first() {
        Some(b'[') => host.iter().position(|&b| b == b']').map_or(host.len(), |at| at + 1),
        _ => host.iter().position(|&b| b == b':').unwrap_or(host.len()),
    };
    let name = unbracket(&host[..name_end])?;
    match host[name_end..].split_first() {
        None | Some((b':', [])) => Ok((name, Target::PORT)),
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
    fn addresses_in_brackets_keep_their_colons() {
        let target = parse("rsync://[2001:db8::1]:99/m/");
        assert_eq!((target.host.as_str(), target.port), ("2001:db8::1", 99));
        assert_eq!(target.to_string(), "rsync://[2001:db8::1]:99/m/");
    }

    #[test]
    fn an_empty_module_asks_for_a_listing() {
        assert_eq!(parse("rsync://h").module, "");
        assert_eq!(parse("rsync://h/").module, "");
        assert_eq!(parse("h::").module, "");
    }

    #[test]
    fn arguments_that_are_no_address_are_refused() {
        for bad in
            ["", "/a/b", "host:path", "rsync://", "rsync:///m", "rsync://h:0/m", "rsync://h:x/m", "/a::b"]
        {
            assert!(Target::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(!Target::looks_remote(b"/a::b"));
        assert!(Target::looks_remote(b"h::b/c"));
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file_and_is_not_printed() {
        let password = Password::first_line(b"geheim\r\nmore\n");
        assert_eq!(password.as_bytes(), b"geheim");
        assert!(!format!("{password:?}").contains("geheim"));
    }
}
