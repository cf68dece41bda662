//! TLS in front: the certificate that clients see, taken anew when its files change.
//!
//! # Why
//! Certificates live for weeks and proxies for months. The files are looked at when a client shakes hands, once a second
//! at most, so whatever renews them need not tell us. New files count when they are right; until then the old ones do.

use crate::config::{TlsSettings, is_exposed};
use crate::gate::clock;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio_rustls::TlsAcceptor;

/// Why TLS cannot be spoken: everything that is wrong with the two files, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct IdentityError(Vec<String>);

/// What this server shows to clients that speak TLS. Cheap to clone.
#[derive(Clone)]
pub struct Identity(TlsAcceptor);

impl Identity {
    /// Reads the files. A session is resumed without its handshake; early data, which may be replayed, is not taken.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn load(settings: &TlsSettings) -> Result<Self, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let files = Files { settings: settings.clone(), provider: Arc::clone(&provider) };
        let stamp = files.stamp();
        let shown = files.read().map_err(IdentityError)?;
        let checked = clock::now();
        let newest = Newest { files, state: Mutex::new(State { shown: Arc::new(shown), stamp, checked }) };
        let unusable = |error: rustls::Error| IdentityError(vec![format!("TLS cannot be set up: {error}")]);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(newest));
        config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(unusable)?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// Where certificate and key are.
#[derive(Debug)]
struct Files {
    settings: TlsSettings,
    provider: Arc<CryptoProvider>,
}

/// By which changed files are known: when each was written, and how long it is. `None`: it is not there.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Files {
    fn stamp(&self) -> Stamp {
        [&self.settings.certificate, &self.settings.key].map(|path| {
            let about = fs::metadata(path).ok()?;
            Some((about.modified().ok()?, about.len()))
        })
    }

    /// What the files come to, or all that is wrong with them.
    fn read(&self) -> Result<CertifiedKey, Vec<String>> {
        let chain = chain(&self.settings.certificate);
        let key = key(&self.settings.key);
        let (chain, key) = match (chain, key) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => return Err([chain.err(), key.err()].into_iter().flatten().collect()),
        };
        let said = |path: &Path, text: String| vec![format!("{}: {text}", path.display())];
        let key = self.provider.key_provider.load_private_key(key).map_err(|error| {
            said(&self.settings.key, format!("the key is not usable: {error}; RSA of 2048 bits and more, ECDSA P-256 and P-384, and Ed25519 are"))
        })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(said(
                &self.settings.key,
                format!(
                    "the key is not that of the first certificate in {}: put the server's own certificate first, and \
                     name the key that belongs to it",
                    self.settings.certificate.display()
                ),
            )),
            Err(error) => Err(said(
                &self.settings.certificate,
                format!("the certificate is not valid: {error}; copy the file again, as the CA gave it out"),
            )),
        }
    }
}

/// The certificates in a PEM file, the server's own first.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let flag = "--tls-cert names a PEM file with the server's certificate first and the CA's after it";
    let text = text_of(path, flag)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(format!("{}: there is no certificate in it; {flag}", path.display())),
        Err(error) => Err(format!("{}: the PEM is damaged: {error}; {flag}", path.display())),
    }
}

/// The private key in a PEM file.
fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let flag = "--tls-key names a PEM file with the certificate's private key, without a passphrase";
    let text = text_of(path, flag)?;
    let about = fs::metadata(path).map_err(|error| unreadable(path, &error, flag))?;
    if is_ours(&about) && is_exposed(&about.permissions()) {
        return Err(format!(
            "{}: the key can be read by other users: run chmod 600 on it, and take a new key if others were here",
            path.display()
        ));
    }
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| format!("{}: there is no key in it ({error}); {flag}", path.display()))
}

fn text_of(path: &Path, flag: &str) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text));
    read.map_err(|error| unreadable(path, &error, flag))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{}: has more than {FILE_BYTES_MAX} bytes; {flag}", path.display()));
    }
    Ok(text)
}

fn unreadable(path: &Path, error: &io::Error, flag: &str) -> String {
    format!("{}: cannot be read: {error}; {flag}", path.display())
}

/// As ssh has it: a key of someone else's, as root's for the group of those who may use it, is theirs to guard.
#[cfg(unix)]
fn is_ours(about: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(about) == rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn is_ours(_: &fs::Metadata) -> bool {
    true
}

/// What is shown now, and when that was last asked of the files.
#[derive(Debug)]
struct Newest {
    files: Files,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shown: Arc<CertifiedKey>,
    /// Of the files that were last read, right or wrong: each is tried once.
    stamp: Stamp,
    checked: Instant,
}

impl Newest {
    fn at(&self, now: Instant) -> Arc<CertifiedKey> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.checked) >= LOOK_AGAIN {
            state.checked = now;
            let stamp = self.files.stamp();
            if stamp != state.stamp {
                state.stamp = stamp;
                match self.files.read() {
                    Ok(shown) => {
                        state.shown = Arc::new(shown);
                        tracing::info!(file = %self.files.settings.certificate.display(), "a new certificate");
                    }
                    Err(problems) => tracing::warn!(
                        "the certificate's files have changed and are not right, so the old ones stay: {}",
                        problems.join("; ")
                    ),
                }
            }
        }
        Arc::clone(&state.shown)
    }
}

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.at(clock::now()))
    }
}

/// What ALPN calls HTTP/2 (RFC 9113 3.1).
pub(super) const HTTP2: &[u8] = b"h2";

/// How often handshakes look at the files.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Many times a long chain.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    struct Pair {
        folder: tempfile::TempDir,
    }

    impl Pair {
        fn new() -> Self {
            let pair = Self { folder: tempfile::tempdir().unwrap() };
            let (certificate, key) = issued();
            write(pair.path("cert.pem"), certificate).unwrap();
            pair.write_key(&key);
            pair
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn write_key(&self, key: &str) {
            write(self.path("key.pem"), key).unwrap();
            set_permissions(self.path("key.pem"), Permissions::from_mode(0o600)).unwrap();
        }

        fn settings(&self) -> TlsSettings {
            TlsSettings { certificate: self.path("cert.pem"), key: self.path("key.pem") }
        }

        fn problems(&self) -> String {
            Identity::load(&self.settings()).unwrap_err().to_string()
        }
    }

    fn issued() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn everything_that_is_wrong_with_the_files_is_told_at_once() {
        let pair = Pair::new();
        assert!(Identity::load(&pair.settings()).is_ok());
        set_permissions(pair.path("key.pem"), Permissions::from_mode(0o640)).unwrap();
        assert!(pair.problems().contains("chmod 600"), "{}", pair.problems());
        pair.write_key(&issued().1);
        assert!(pair.problems().contains("not that of the first certificate"), "{}", pair.problems());
        pair.write_key("no key");
        write(pair.path("cert.pem"), "no certificate").unwrap();
        let problems = pair.problems();
        assert_eq!(problems.lines().count(), 2, "{problems}");
        assert!(problems.contains("cert.pem: there is no certificate in it"), "{problems}");
        assert!(problems.contains("key.pem: there is no key in it"), "{problems}");
        write(pair.path("cert.pem"), "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
        assert!(pair.problems().contains("damaged"), "{}", pair.problems());
        fs::remove_file(pair.path("cert.pem")).unwrap();
        assert!(pair.problems().contains("cert.pem: cannot be read"), "{}", pair.problems());
    }

    #[test]
    fn new_files_are_taken_when_they_are_right_and_old_ones_stay_until_then() {
        let pair = Pair::new();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let files = Files { settings: pair.settings(), provider };
        let (start, stamp) = (clock::now(), files.stamp());
        let shown = Arc::new(files.read().unwrap());
        let newest =
            Newest { files, state: Mutex::new(State { shown: Arc::clone(&shown), stamp, checked: start }) };
        let at = |seconds: u64| newest.at(start + Duration::from_secs(seconds)).cert.clone();
        assert_eq!(at(1), shown.cert);
        let (certificate, key) = issued();
        write(pair.path("cert.pem"), certificate).unwrap();
        assert_eq!(at(2), shown.cert, "half of a change is no change");
        pair.write_key(&key);
        assert_eq!(at(2), shown.cert, "files are looked at once a second");
        let renewed = at(3);
        assert_ne!(renewed, shown.cert);
        fs::remove_file(pair.path("key.pem")).unwrap();
        assert_eq!(at(4), renewed);
        pair.write_key(&key);
        assert_eq!(at(5), renewed);
    }
}
