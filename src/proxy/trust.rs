//! TLS to the upstreams: whose certificates are believed.

use super::dial::is_ca_itself;
use crate::config::UpstreamSettings;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
};
use std::cell::OnceCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why an upstream's own certificates were not taken. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file is not there, or not for us.
    #[error("the certificates in {} cannot be read: {source}; --upstream-ca names a PEM file that Tidegate may read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is none in the file.
    #[error("{} has no certificate in it; --upstream-ca names a PEM file with -----BEGIN CERTIFICATE----- in it (openssl x509 -in FILE -outform PEM makes one)", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// What is in the file is damaged.
    #[error("{}: certificate {number} is not valid: {problem}; copy the file again, as the CA gave it out", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// TLS itself cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// What the platform trusts, read when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Trust {
    platform: OnceCell<Platform>,
}

#[derive(Debug)]
struct Platform {
    roots: RootCertStore,
    problems: String,
}

/// How to speak TLS with one upstream.
pub(super) enum Trusting {
    /// Like this.
    Config(Box<ClientConfig>),
    /// Not at all: nobody is trusted on this machine, for this reason.
    Nobody(String),
}

impl Trust {
    /// Whom to believe at `upstream`.
    pub(super) fn at(&self, upstream: &UpstreamSettings) -> Result<Trusting, TrustError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = builder(&provider)?;
        if !upstream.verify {
            tracing::warn!(
                upstream = %upstream.address,
                "dangerous_accept_any_certificate: this upstream's certificate is not verified. Whoever answers in \
                 its place gets every token that is sent to it. Name the CA with ca_file instead."
            );
            let verifier = Arc::new(AnyCertificate(provider));
            let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
            return Ok(Trusting::Config(Box::new(builder.with_no_client_auth())));
        }
        let platform = self.platform.get_or_init(Platform::load);
        let mut roots = platform.roots.clone();
        let own = match &upstream.ca {
            Some(path) => add_file(&mut roots, path)?,
            None => Vec::new(),
        };
        if roots.is_empty() {
            return Ok(Trusting::Nobody(platform.problems.clone()));
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let verifier = Arc::new(OwnCertificates { verifier, own });
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        Ok(Trusting::Config(Box::new(builder.with_no_client_auth())))
    }
}

fn builder(
    provider: &Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()
}

impl Platform {
    /// A platform has a hundred roots, and some that are odd: those are left out.
    fn load() -> Self {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, ignored) = roots.add_parsable_certificates(found.certs);
        tracing::debug!(added, ignored, "the platform's TLS roots");
        let problems: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let problems = if problems.is_empty() { "none found".to_owned() } else { problems.join("; ") };
        Self { roots, problems }
    }
}

/// Adds the certificates of a PEM file, and gives them: all of them, or none and an error.
fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let text =
        std::fs::read(path).map_err(|source| TrustError::Unreadable { path: path.to_owned(), source })?;
    let damaged = |number, problem: String| TrustError::Damaged { path: path.to_owned(), number, problem };
    let mut all = Vec::new();
    for (place, certificate) in CertificateDer::pem_slice_iter(&text).enumerate() {
        let number = place + 1;
        let certificate = certificate.map_err(|error: pem::Error| damaged(number, error.to_string()))?;
        roots.add(certificate.clone()).map_err(|error| damaged(number, error.to_string()))?;
        all.push(certificate);
    }
    if all.is_empty() { Err(TrustError::NoCertificate { path: path.to_owned() }) } else { Ok(all) }
}

/// The usual verification, and one case beside it: a server that shows a certificate which the operator named.
///
/// `openssl req -x509` makes a certificate that signed itself and may sign others. Webpki takes such a one as a CA's alone,
/// and not from a server. Where it is byte for byte one that the operator trusts, nothing is left to doubt but its name:
/// its dates are checked before its purpose is.
#[derive(Debug)]
struct OwnCertificates {
    verifier: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OwnCertificates {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.verifier.verify_server_cert(shown, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(problem)))
                if is_ca_itself(&problem) && self.own.iter().any(|own| own == shown) =>
            {
                verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Believes every certificate. The handshake's signatures are checked all the same: they only say that the peer has
/// the key of what it showed.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
