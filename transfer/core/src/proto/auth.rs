//! Answers to a daemon's challenge (protocol note, section 1.3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use md5::Md5;
use sha1::Sha1;
use sha1::digest::Digest;
use sha2::{Sha256, Sha512};

/// A digest for authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthDigest {
    /// SHA-512.
    Sha512,
    /// SHA-256.
    Sha256,
    /// SHA-1.
    Sha1,
    /// MD5.
    Md5,
}

impl AuthDigest {
    /// All of them, the strongest first.
    pub const ALL: [AuthDigest; 4] =
        [AuthDigest::Sha512, AuthDigest::Sha256, AuthDigest::Sha1, AuthDigest::Md5];

    /// rsync's name for it.
    pub fn name(self) -> &'static str {
        match self {
            AuthDigest::Sha512 => "sha512",
            AuthDigest::Sha256 => "sha256",
            AuthDigest::Sha1 => "sha1",
            AuthDigest::Md5 => "md5",
        }
    }

    /// The response to a challenge: the digest of the password and the challenge's text, in base64 without padding.
    pub fn respond(self, password: &[u8], challenge: &[u8]) -> String {
        match self {
            AuthDigest::Sha512 => respond::<Sha512>(password, challenge),
            AuthDigest::Sha256 => respond::<Sha256>(password, challenge),
            AuthDigest::Sha1 => respond::<Sha1>(password, challenge),
            AuthDigest::Md5 => respond::<Md5>(password, challenge),
        }
    }
}

fn respond<D: Digest>(password: &[u8], challenge: &[u8]) -> String {
    STANDARD_NO_PAD.encode(D::new().chain_update(password).chain_update(challenge).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_have_the_lengths_of_the_note() {
        let lengths = AuthDigest::ALL.map(|digest| digest.respond(b"secret", b"challenge").len());
        assert_eq!(lengths, [86, 43, 27, 22]);
    }

    #[test]
    fn a_response_is_the_digest_of_password_and_challenge() {
        // The MD5 of "abc".
        assert_eq!(AuthDigest::Md5.respond(b"a", b"bc"), "kAFQmDzST7DWlj99KOF/cg");
    }
}
