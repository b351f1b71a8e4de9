//! Why a TLS connection does not stand, and what to do about it.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// A TLS connection that does not stand.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}: {advice}")]
pub struct TlsError {
    /// What is wrong, with which host or file.
    pub what: String,
    /// What to do.
    pub advice: String,
    #[source]
    source: Option<Error>,
}

impl TlsError {
    pub(super) fn new(what: impl Into<String>, advice: impl Into<String>) -> TlsError {
        TlsError { what: what.into(), advice: advice.into(), source: None }
    }

    pub(super) fn name(host: &str) -> TlsError {
        TlsError::new(
            format!("{host:?} cannot be the name in a certificate"),
            "give the host's name as its certificate has it",
        )
    }

    pub(super) fn plain_rsync(peer: &str) -> TlsError {
        TlsError::new(
            format!("{peer} speaks rsync without TLS"),
            "use rsync://, or the port of the TLS proxy before the daemon, usually 874",
        )
    }

    pub(super) fn silent(peer: &str) -> TlsError {
        TlsError::new(
            format!("{peer} closed the connection when TLS was to begin"),
            "check that a TLS proxy such as stunnel listens there, and its log",
        )
    }

    pub(super) fn ended(peer: &str) -> TlsError {
        TlsError::new(format!("{peer} closed the connection during the TLS handshake"), "its log tells why")
    }

    /// What a failure of the library means; `peer` is host and port.
    pub(super) fn of(peer: &str, host: &str, error: Error) -> TlsError {
        let (what, advice) = match &error {
            Error::InvalidCertificate(why) => certificate(host, why),
            Error::AlertReceived(alert) => refused(peer, *alert),
            Error::InvalidMessage(_) => (
                format!("{peer} does not answer in TLS"),
                "check the port; rsync:// goes to a daemon without TLS".to_owned(),
            ),
            Error::NoCertificatesPresented => {
                (format!("{peer} shows no certificate"), "give the TLS proxy there a certificate".to_owned())
            }
            other => (format!("TLS with {peer} failed"), other.to_string()),
        };
        TlsError { what, advice, source: Some(error) }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

fn certificate(host: &str, why: &CertificateError) -> (String, String) {
    let (what, advice) = match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("has expired".to_owned(), "renew it there, or set this machine's clock".to_owned())
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("is not valid yet".to_owned(), "set the clocks of both machines".to_owned())
        }
        CertificateError::UnknownIssuer => (
            "is signed by nobody whom this machine trusts".to_owned(),
            "give the authority's certificate with --tls-ca, or install it for the whole system".to_owned(),
        ),
        CertificateError::NotValidForName => ("is not for that name".to_owned(), NAME_ADVICE.to_owned()),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => (
            "names no host at all (a common name does not count)".to_owned(),
            "have it made again with a subject alternative name".to_owned(),
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            (format!("is not for that name, but for {}", shown(presented)), NAME_ADVICE.to_owned())
        }
        CertificateError::Revoked => ("is revoked".to_owned(), "have a new one made".to_owned()),
        other => (format!("cannot be used: {other}"), "have it made again".to_owned()),
    };
    (format!("the certificate of {host} {what}"), advice)
}

/// Names in a certificate come from outside, and there may be many.
fn shown(names: &[String]) -> String {
    let some: Vec<_> = names.iter().take(5).map(|name| name.escape_debug().to_string()).collect();
    let more = if names.len() > some.len() { " and others" } else { "" };
    some.join(", ") + more
}

/// What the other side complains about.
fn refused(peer: &str, alert: AlertDescription) -> (String, String) {
    let (what, advice) = match alert {
        AlertDescription::CertificateRequired => ("wants a client certificate", CLIENT_ADVICE),
        AlertDescription::HandshakeFailure => (
            "refuses every cipher that we know, or wants a client certificate",
            "its log tells which; client certificates are given with --tls-cert and --tls-key",
        ),
        AlertDescription::BadCertificate
        | AlertDescription::UnknownCA
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => ("does not take our client certificate", CLIENT_ADVICE),
        AlertDescription::ProtocolVersion => ("speaks no TLS 1.2 or later", "upgrade it"),
        AlertDescription::UnrecognisedName => ("does not know the host's name", NAME_ADVICE),
        _ => ("ended the TLS session", "its log tells why"),
    };
    (format!("{peer} {what} (alert {alert:?})"), advice.to_owned())
}

const NAME_ADVICE: &str = "use the name that the certificate has, or have one made for this name";
const CLIENT_ADVICE: &str = "give one that it trusts with --tls-cert and --tls-key";
