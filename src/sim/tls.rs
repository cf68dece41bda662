//! HTTPS with a certificate of its own: made at the start, and written where a client can find it.

use axum::serve::Listener;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Handshakes at the same time; more connections wait in the backlog.
const HANDSHAKES_MAX: usize = 1_024;
/// A handshake that takes longer is given up.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// What an HTTPS server shows, and where its clients find what to trust.
pub(super) struct Identity {
    pub(super) acceptor: TlsAcceptor,
    /// The PEM file.
    pub(super) certificate: PathBuf,
}

impl Identity {
    /// A new certificate for this machine's loopback and for `address`, in `folder`. The file's name has the port,
    /// so that several simulated APIs do not take each other's away.
    pub(super) fn issue(address: SocketAddr, folder: &Path) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = parameters(address)
            .and_then(|parameters| parameters.self_signed(&key))
            .map_err(io::Error::other)?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private)
            })
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let path = folder.join(format!("sim-{}.pem", address.port()));
        fs::create_dir_all(folder)?;
        fs::write(&path, certificate.pem())?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate: path })
    }
}

/// Its own issuer: whoever trusts the file trusts this server and nothing else.
fn parameters(address: SocketAddr) -> Result<CertificateParams, rcgen::Error> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !address.ip().is_unspecified() && !address.ip().is_loopback() {
        names.push(address.ip().to_string());
    }
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name.push(DnType::CommonName, "tidegate sim");
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(parameters)
}

/// Connections whose TLS is up. Handshakes run beside each other: a slow one holds up nobody.
pub(super) struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl TlsListener {
    pub(super) fn new(tcp: TcpListener, acceptor: TlsAcceptor) -> Self {
        Self { tcp, acceptor, handshakes: JoinSet::new() }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            tokio::select! {
                (stream, from) = Listener::accept(&mut self.tcp), if self.handshakes.len() < HANDSHAKES_MAX => {
                    let acceptor = self.acceptor.clone();
                    self.handshakes.spawn(async move {
                        // Without it a small answer may wait 40 ms; that would only be slow, not wrong.
                        drop(stream.set_nodelay(true));
                        let shaken = tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await;
                        Some((shaken.ok()?.ok()?, from))
                    });
                }
                Some(ended) = self.handshakes.join_next() => {
                    if let Ok(Some(ready)) = ended {
                        return ready;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use crate::sim::{Sim, SimSettings};
    use bytes::Bytes;
    use http_body_util::{BodyExt, Empty};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    fn settings(folder: &tempfile::TempDir) -> SimSettings {
        SimSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: Some(folder.path().join("not/there/yet")),
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            ..SimSettings::default()
        }
    }

    /// A connection that trusts the file and nothing else.
    async fn connect(
        sim: SocketAddr,
        pem: &str,
        name: &'static str,
        protocols: &[&[u8]],
    ) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(sim).await.unwrap();
        let name = ServerName::try_from(name).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// Status and protocol of one answer.
    async fn ask(stream: TlsStream<TcpStream>) -> (u16, http::Version) {
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let request = http::Request::get("https://localhost/x").header("host", "localhost");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let stream = TokioIo::new(stream);
        let response = if http2 {
            let (mut client, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::select! {
                response = client.send_request(request) => response.unwrap(),
                ended = connection => panic!("{ended:?}"),
            }
        } else {
            let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
            tokio::select! {
                response = client.send_request(request) => response.unwrap(),
                ended = connection => panic!("{ended:?}"),
            }
        };
        let told = (response.status().as_u16(), response.version());
        drop(response.into_body().collect());
        told
    }

    #[tokio::test]
    async fn whoever_trusts_the_file_is_served_by_every_name_and_protocol() {
        let folder = tempfile::tempdir().unwrap();
        let sim = Sim::bind(settings(&folder)).await.unwrap();
        let (at, pem) = (sim.address(), std::fs::read_to_string(sim.certificate().unwrap()).unwrap());
        let clients = async {
            // A client that never shakes hands holds up nobody.
            let _silent = TcpStream::connect(at).await.unwrap();
            for name in ["localhost", "127.0.0.1", "::1"] {
                for (protocols, version) in [
                    (&[&b"h2"[..], b"http/1.1"][..], http::Version::HTTP_2),
                    (&[b"http/1.1"], http::Version::HTTP_11),
                    (&[], http::Version::HTTP_11),
                ] {
                    let stream = connect(at, &pem, name, protocols).await;
                    assert_eq!(ask(stream).await, (200, version), "{name}");
                }
            }
        };
        tokio::select! {
            ended = sim.serve(std::future::pending()) => panic!("served until {ended:?}"),
            () = clients => (),
        }
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error =
            Sim::bind(SimSettings { tls: Some(file.clone()), ..settings(&folder) }).await.unwrap_err();
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
}
