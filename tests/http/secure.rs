//! TLS in front: what ALPN chooses, certificates that change, and clients that do not shake hands.

use super::client::{Client, request};
use super::origin::Origin;
use super::through::{Through, fixed};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use std::fs::{Permissions, set_permissions, write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tidegate::config::{Config, ForwardedMode, ProxySettings, TlsSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A proxy with TLS, and the folder of its certificate.
pub(crate) struct Secure {
    through: Through,
    folder: TempDir,
}

impl Secure {
    pub(crate) fn to(origin: SocketAddr, handshake_timeout: Duration) -> Self {
        Self::with(origin, |proxy| {
            proxy.handshake_timeout = handshake_timeout;
            proxy.head_timeout = handshake_timeout;
        })
    }

    fn with(origin: SocketAddr, set: impl FnOnce(&mut ProxySettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        issue(&folder);
        let mut config = Config::new(format!("http://{origin}").parse().unwrap());
        config.lanes = fixed(10_000.0);
        set(&mut config.proxy);
        let path = |name| folder.path().join(name);
        config.tls = Some(TlsSettings { certificate: path("cert.pem"), key: path("key.pem") });
        Self { through: Through::of(&config), folder }
    }

    /// What trusts the certificate that is there now, and nothing else.
    pub(crate) fn client(&self, protocols: &[&[u8]]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.folder.path().join("cert.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config
    }

    pub(crate) async fn connect(&self, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.through.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::clone(config)).connect(name, stream).await
    }
}

fn issue(folder: &TempDir) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let path = |name| folder.path().join(name);
    write(path("key.pem"), key.serialize_pem()).unwrap();
    set_permissions(path("key.pem"), Permissions::from_mode(0o600)).unwrap();
    write(path("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
}

#[tokio::test]
async fn alpn_chooses_the_protocol_and_bodies_pass_both_ways() {
    let origin = Origin::friendly().await;
    let secure = Secure::to(origin.address, Duration::from_secs(10));
    let mut tasks = JoinSet::new();
    for protocols in [&[&b"h2"[..], b"http/1.1"][..], &[b"http/1.1"], &[]] {
        let stream = secure.connect(&Arc::new(secure.client(protocols))).await.unwrap();
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        assert_eq!(is_http2, protocols.len() == 2);
        let body = Bytes::from(vec![b'x'; 300_000]);
        let request = http::Request::post(if is_http2 { "https://localhost/x" } else { "/x" });
        let request = if is_http2 { request } else { request.header("host", "localhost") };
        let request = request.body(Full::new(body)).unwrap();
        let response = if is_http2 {
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tasks.spawn(async move { drop(connection.await) });
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tasks.spawn(async move { drop(connection.await) });
            sender.send_request(request).await.unwrap()
        };
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().contains_key("keep-alive"), !is_http2);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    }
    assert_eq!(origin.seen().iter().map(|seen| seen.body.len()).collect::<Vec<_>>(), [300_000; 3]);
}

#[tokio::test]
async fn sessions_are_resumed_without_early_data() {
    let origin = Origin::friendly().await;
    let secure = Secure::to(origin.address, Duration::from_secs(10));
    let config = Arc::new(secure.client(&[]));
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut stream = secure.connect(&config).await.unwrap();
        assert!(stream.get_ref().1.handshake_kind() != Some(HandshakeKind::FullWithHelloRetryRequest));
        stream.write_all(&request("GET", "/", "Connection: close\r\n", "")).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
        assert!(!stream.get_ref().1.is_early_data_accepted());
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_without_a_restart() {
    let origin = Origin::friendly().await;
    let secure = Secure::to(origin.address, Duration::from_secs(10));
    assert!(secure.connect(&Arc::new(secure.client(&[]))).await.is_ok());
    issue(&secure.folder);
    let renewed = Arc::new(secure.client(&[]));
    let shown = async {
        // Files are looked at once a second.
        while secure.connect(&renewed).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), shown).await.unwrap();
}

#[tokio::test]
async fn who_does_not_shake_hands_or_say_anything_after_it_is_gone_in_time() {
    let origin = Origin::friendly().await;
    let secure = Secure::to(origin.address, Duration::from_millis(300));
    let mut silent = Client::connect(secure.through.address).await;
    assert_eq!(silent.rest().await, b"");
    let mut half = Client::connect(secure.through.address).await;
    // A record that announces a hello of 512 bytes, and five of them.
    half.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03").await;
    assert_eq!(half.rest().await, b"");
    for protocols in [&[&b"h2"[..]][..], &[]] {
        let mut stream = secure.connect(&Arc::new(secure.client(protocols))).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        // With or without the word that TLS has for it.
        drop(closed.expect("it is gone"));
        assert_eq!(rest, b"");
    }
    let mut slow = secure.connect(&Arc::new(secure.client(&[]))).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost").await.unwrap();
    let mut rest = String::new();
    slow.read_to_string(&mut rest).await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 408 "), "{rest}");
}

#[tokio::test]
async fn who_asks_over_tls_is_told_to_have_asked_over_https() {
    let origin = Origin::friendly().await;
    let secure = Secure::with(origin.address, |proxy| proxy.forwarded.mode = ForwardedMode::Replace);
    let mut stream = secure.connect(&Arc::new(secure.client(&[]))).await.unwrap();
    let fields = "Connection: close\r\nX-Forwarded-Proto: http\r\nForwarded: for=1.1.1.1;proto=http\r\n";
    stream.write_all(&request("GET", "/", fields, "")).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let seen = &origin.seen()[0];
    assert_eq!(seen.field("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.field("forwarded"), Some("for=127.0.0.1;host=\"proxy.test\";proto=https"));
}

#[tokio::test]
async fn http_in_the_clear_is_told_what_is_spoken_here() {
    let origin = Origin::friendly().await;
    let secure = Secure::to(origin.address, Duration::from_secs(10));
    let mut client = Client::connect(secure.through.address).await;
    let response = client.send(request("GET", "/", "", "")).await.response().await;
    assert_eq!(response.status, 400);
    assert!(response.field("proxy-status").unwrap().contains("use https"));
    assert_eq!(client.rest().await, b"");
    assert_eq!(origin.seen().len(), 0);
}
