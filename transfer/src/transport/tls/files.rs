//! Certificates and keys: whom we trust, and who we are.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::TlsError;

/// What proves who is at the two ends.
#[derive(Clone, Default)]
pub struct TlsFiles {
    /// `--tls-ca`: certificates in PEM form of those who may sign the server's, or the server's own. Without it, the
    /// system's.
    pub authorities: Option<PathBuf>,
    /// `--tls-cert`: our certificate in PEM form, followed by those of its signers.
    pub certificate: Option<PathBuf>,
    /// `--tls-key`: its key in PEM form; the file of the certificate may hold it too.
    pub key: Option<PathBuf>,
    /// What the files held, shared by all clones.
    read: Arc<Mutex<Option<Read>>>,
}

/// What the files held at a moment.
struct Read {
    at: Instant,
    config: Arc<ClientConfig>,
}

impl TlsFiles {
    /// These files; `None` for the system's authorities and for no certificate of ours.
    pub fn new(authorities: Option<PathBuf>, certificate: Option<PathBuf>, key: Option<PathBuf>) -> TlsFiles {
        TlsFiles { authorities, certificate, key, read: Arc::default() }
    }

    /// What the files say now, or said not long ago. Clones share what was read.
    ///
    /// # Errors
    /// A file cannot be read or used: which, and why.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = read.as_ref().filter(|read| read.at.elapsed() < REREAD) {
            return Ok(Arc::clone(&read.config));
        }
        let config = Arc::new(self.build()?);
        *read = Some(Read { at: Instant::now(), config: Arc::clone(&config) });
        Ok(config)
    }

    /// Forgets what was read: a handshake failed, and perhaps somebody puts the files right.
    pub(crate) fn forget(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn build(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let given = self.authorities.as_deref().map(certificates).transpose()?;
        let roots = match (&given, &self.authorities) {
            (Some(given), Some(file)) => roots_of(given, file)?,
            _ => system_roots()?,
        };
        let verifier = Verifier::new(roots, given.unwrap_or_default(), &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new("TLS cannot be set up", error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let Some(file) = &self.certificate else {
            return match &self.key {
                Some(key) => Err(TlsError::new(
                    format!("the key {} stands alone", key.display()),
                    "give its certificate with --tls-cert",
                )),
                None => Ok(builder.with_no_client_auth()),
            };
        };
        let key = self.key.as_ref().unwrap_or(file);
        builder.with_client_auth_cert(certificates(file)?, private_key(key)?).map_err(|error| {
            let what = format!("certificate {} and key {} do not fit", file.display(), key.display());
            TlsError::new(what, error.to_string())
        })
    }
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = (&self.authorities, &self.certificate, &self.key);
        out.debug_tuple("TlsFiles").field(&files).finish()
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error: pem::Error| unusable(file, &error, "give certificates in PEM form");
    let found = CertificateDer::pem_file_iter(file).map_err(unreadable)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if found.is_empty() {
        return Err(unusable(file, &pem::Error::NoItemsFound, "give certificates in PEM form"));
    }
    Ok(found)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let advice = "give a key in PEM form, without a passphrase";
    PrivateKeyDer::from_pem_file(file).map_err(|error| unusable(file, &error, advice))
}

fn unusable(file: &Path, error: &pem::Error, advice: &str) -> TlsError {
    let why = match error {
        pem::Error::Io(error) => crate::text::OsError(error).to_string(),
        pem::Error::NoItemsFound => "nothing of that kind is in it".to_owned(),
        other => other.to_string(),
    };
    TlsError::new(format!("cannot use {}: {why}", file.display()), advice)
}

fn roots_of(given: &[CertificateDer<'static>], file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in given {
        roots.add(certificate.clone()).map_err(|error| {
            TlsError::new(
                format!("cannot use {}: {error}", file.display()),
                "give certificates of authorities",
            )
        })?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system may trust an old one in a form that is no longer read.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable > 0 {
        return Ok(roots);
    }
    let why = found.errors.first().map(ToString::to_string).unwrap_or_default();
    Err(TlsError::new(
        format!("this machine trusts no certificate authority {why}").trim_end().to_owned(),
        "install the package ca-certificates, or give --tls-ca",
    ))
}

/// Checks a server's certificate against the authorities, or finds it among the given ones: a certificate that
/// signed itself, as many make it for one server, is no authority's and yet known.
#[derive(Debug)]
struct Verifier {
    authorities: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(
        roots: RootCertStore,
        given: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Verifier, TlsError> {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let authorities = builder
            .build()
            .map_err(|error| TlsError::new("certificates cannot be checked", error.to_string()))?;
        Ok(Verifier { authorities, given })
    }

    /// Whether the one thing wrong is that the certificate is an authority's, and it is one that was given. Its
    /// dates were checked before that.
    fn knows(&self, certificate: &CertificateDer<'_>, error: &Error) -> bool {
        let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
        format!("{other:?}").contains("CaUsedAsEndEntity")
            && self.given.iter().any(|given| given == certificate)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            Err(error) if self.knows(end_entity, &error) => {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// How long files count as read: a renewed certificate is taken up this soon.
const REREAD: Duration = Duration::from_secs(600);
