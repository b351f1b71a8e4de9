//! The first line of both sides (protocol note, section 1.2): `@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4`.

use super::Protocol;
use super::auth::AuthDigest;
use crate::error::{ErrorKind, Shown};

/// A daemon's greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The announced version.
    pub version: u32,
    /// Its sub-version: 0 in every release.
    pub sub: u32,
    /// Names of auth digests; empty before 3.2.7.
    pub digests: Vec<String>,
}

impl Greeting {
    /// Reads a line, without its end.
    ///
    /// # Errors
    /// It is no greeting.
    pub fn parse(line: &[u8]) -> Result<Self, ErrorKind> {
        let shown = || format!("\"{}\", expected \"@RSYNCD: <version>\"", Shown(&line[..line.len().min(80)]));
        let malformed = || ErrorKind::malformed("greeting", shown());
        let text = std::str::from_utf8(line).map_err(|_| malformed())?;
        let mut words = text.strip_prefix(PREFIX).ok_or_else(malformed)?.split_ascii_whitespace();
        let number = words.next().ok_or_else(malformed)?;
        let (version, sub) = number.split_once('.').unwrap_or((number, "0"));
        let parse = |text: &str| text.parse().ok().filter(|n| *n <= MAX_VERSION).ok_or_else(malformed);
        let digests = words.take(MAX_DIGESTS).map(str::to_owned).collect();
        Ok(Greeting { version: parse(version)?, sub: parse(sub)?, digests })
    }

    /// The protocol to speak when we announce `ours`: the lower of both, and one less where the lower side is a
    /// pre-release.
    ///
    /// # Errors
    /// The daemon is older than protocol 30.
    pub fn agree(&self, ours: Protocol) -> Result<Protocol, ErrorKind> {
        let ours = u32::from(ours.number());
        let pre_release = u32::from(self.version <= ours && self.sub != 0);
        let agreed = self.version.min(ours).saturating_sub(pre_release);
        Protocol::new(agreed).ok_or_else(|| {
            ErrorKind::unsupported(
                "protocol",
                format!("daemon speaks {}, we speak 30 to {ours}", self.version),
            )
        })
    }

    /// The digest that both sides know and that is the strongest; without a list the daemon means MD5.
    pub fn best_digest(&self) -> Option<AuthDigest> {
        if self.digests.is_empty() {
            return Some(AuthDigest::Md5);
        }
        AuthDigest::ALL.into_iter().find(|digest| self.digests.iter().any(|name| name == digest.name()))
    }
}

/// Our line, with its end.
///
/// It names all digests in the order of rsync's own list. Releases differ in whose order counts, and both orders are
/// the same then: the digest is the one that [`Greeting::best_digest`] finds. Daemons without a list do not read ours,
/// and one that speaks 32 insists on it.
pub(crate) fn announcement(ours: Protocol) -> Vec<u8> {
    format!("{PREFIX}{}.0 {}\n", ours.number(), AuthDigest::ALL.map(AuthDigest::name).join(" ")).into_bytes()
}

/// How each line of the handshake begins.
pub(crate) const PREFIX: &str = "@RSYNCD: ";

/// rsync has used 32 numbers in 25 years; anything far beyond is not a version.
const MAX_VERSION: u32 = 255;

/// Five are known.
const MAX_DIGESTS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_of_all_releases_are_understood() {
        let agreed =
            |line: &str, ours| Greeting::parse(line.as_bytes()).unwrap().agree(ours).map(Protocol::number);
        assert_eq!(agreed("@RSYNCD: 30.0", Protocol::V32), Ok(30));
        assert_eq!(agreed("@RSYNCD: 31.0 sha512 md5", Protocol::V32), Ok(31));
        assert_eq!(agreed("@RSYNCD: 32.0 sha512 md5", Protocol::V31), Ok(31));
        assert_eq!(agreed("@RSYNCD: 32.3 sha512 md5", Protocol::V32), Ok(31));
        assert_eq!(agreed("@RSYNCD: 33.3 sha512 md5", Protocol::V32), Ok(32));
        assert!(agreed("@RSYNCD: 29", Protocol::V32).is_err());
        assert!(agreed("@RSYNCD: 30.1", Protocol::V32).is_err());
        for line in ["220 ESMTP", "@RSYNCD: x", "@RSYNCD: ", "@RSYNCD: -1.0", "@RSYNCD: 4000000000.0"] {
            assert!(Greeting::parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn our_greeting_names_all_digests_and_the_best_that_both_know_is_used() {
        assert_eq!(announcement(Protocol::V32), b"@RSYNCD: 32.0 sha512 sha256 sha1 md5\n");
        let best = |line: &str| Greeting::parse(line.as_bytes()).unwrap().best_digest();
        assert_eq!(best("@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4"), Some(AuthDigest::Sha512));
        assert_eq!(best("@RSYNCD: 32.0 md5 md4"), Some(AuthDigest::Md5));
        assert_eq!(best("@RSYNCD: 31.0"), Some(AuthDigest::Md5));
        assert_eq!(best("@RSYNCD: 32.0 md4"), None);
    }
}
