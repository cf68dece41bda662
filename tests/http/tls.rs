//! https upstreams: what ALPN chooses, and certificates that are wrong on purpose.

use super::client::{ask, request};
use super::through::{Through, fixed};
use bytes::Bytes;
use http::{Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::NamedTempFile;
use tidegate::config::{Config, Upstream, UpstreamSettings};
use tidegate::gate::clock;
use tidegate::proxy::{Client, clients};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// An https origin: it says the protocol and the body that it got.
struct TlsOrigin {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    pem: String,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl TlsOrigin {
    async fn start(name: &str, protocols: &[&[u8]]) -> Self {
        Self::with(name, protocols, IsCa::NoCa).await
    }

    async fn with(name: &str, protocols: &[&[u8]], is_ca: IsCa) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = is_ca;
        params.distinguished_name.push(DnType::CommonName, format!("issued to {address}"));
        let certificate = params.self_signed(&key).unwrap();
        let (certificate, pem) = (certificate.der().clone(), certificate.pem());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = builder.with_single_cert(vec![certificate.clone()], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
                serving.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    count.fetch_add(1, Ordering::Relaxed);
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let stream = TokioIo::new(stream);
                    if http2 {
                        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let mut connection = pin!(builder.serve_connection(stream, service_fn(say)));
                        if tokio::time::timeout(HTTP2_LIFE, &mut connection).await.is_err() {
                            connection.as_mut().graceful_shutdown();
                            drop(connection.await);
                        }
                    } else {
                        let builder = hyper::server::conn::http1::Builder::new();
                        drop(builder.serve_connection(stream, service_fn(say)).await);
                    }
                });
            }
        });
        Self { address, certificate, pem, connections, _tasks: tasks }
    }
}

async fn say(request: http::Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let version = if request.version() == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" };
    let authority = request.uri().authority().map(ToString::to_string);
    let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await?.to_bytes();
    let site = authority.or(host).unwrap_or_default();
    let text = format!("{version} {site} {}", String::from_utf8_lossy(&body));
    Ok(Response::new(Full::new(Bytes::from(text))))
}

/// A proxy to `https://localhost:PORT` that trusts `roots` alone.
fn through(address: SocketAddr, roots: &[CertificateDer<'static>]) -> Through {
    let upstream: Upstream = format!("https://localhost:{}", address.port()).parse().unwrap();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(store).with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .enable_http2()
        .build();
    let mut config = Config::new(upstream);
    config.lanes = fixed(10_000.0);
    let client = Client::with_connector(connector, &config.default_upstream().address, &config.proxy);
    Through::over(&config, vec![client])
}

/// A configuration for `https://localhost:PORT` over TCP, as it is started for real.
fn config(address: SocketAddr, set: impl FnOnce(&mut UpstreamSettings)) -> Config {
    let mut config = Config::new(format!("https://localhost:{}", address.port()).parse().unwrap());
    config.lanes = fixed(10_000.0);
    set(&mut config.upstreams[0]);
    config
}

/// A PEM file with this text.
fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    file
}

/// After so long an origin says goodbye to its HTTP/2 connections.
const HTTP2_LIFE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_goodbye_over_http2_costs_no_post() {
    let origin = TlsOrigin::start("localhost", &[b"h2"]).await;
    let through = through(origin.address, std::slice::from_ref(&origin.certificate));
    let start = clock::now();
    while clock::now() - start < HTTP2_LIFE * 5 {
        let response = ask(through.address, request("POST", "/", "", "abc")).await;
        assert_eq!(response.status, 200, "{}", response.text());
    }
    assert!(origin.connections.load(Ordering::Relaxed) >= 4);
}

#[tokio::test]
async fn alpn_chooses_the_protocol() {
    for (offered, spoken) in
        [(&[&b"h2"[..], b"http/1.1"][..], "HTTP/2"), (&[b"http/1.1"], "HTTP/1.1"), (&[], "HTTP/1.1")]
    {
        let origin = TlsOrigin::start("localhost", offered).await;
        let through = through(origin.address, std::slice::from_ref(&origin.certificate));
        for _ in 0..3 {
            let response = ask(through.address, request("POST", "/", "", "abc")).await;
            assert_eq!(response.status, 200, "{}", response.text());
            assert_eq!(response.text(), format!("{spoken} localhost:{} abc", origin.address.port()));
        }
    }
}

#[tokio::test]
async fn a_burst_shares_one_http2_connection() {
    let origin = TlsOrigin::start("localhost", &[b"h2"]).await;
    let through = through(origin.address, std::slice::from_ref(&origin.certificate));
    let mut burst = JoinSet::new();
    for _ in 0..50 {
        burst.spawn(ask(through.address, request("POST", "/", "Expect: 100-continue\r\n", "abc")));
    }
    for response in burst.join_all().await {
        assert_eq!(response.status, 200, "{}", response.text());
    }
    assert_eq!(origin.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_a_502_that_says_what_to_do() {
    let origin = TlsOrigin::start("localhost", &[]).await;
    let other = TlsOrigin::start("localhost", &[]).await;
    let wrong_name = TlsOrigin::start("other.example", &[]).await;
    for (address, root, word) in [
        (origin.address, other.certificate.clone(), "UnknownIssuer"),
        (wrong_name.address, wrong_name.certificate.clone(), "other.example"),
    ] {
        let through = through(address, &[root]);
        let response = ask(through.address, request("POST", "/", "", "abc")).await;
        assert_eq!(response.status, 502);
        assert!(response.field("proxy-status").unwrap().contains("error=tls_certificate_error"));
        assert!(response.text().contains("--upstream-ca"), "{}", response.text());
        assert!(response.text().contains(word), "{}", response.text());
    }
}

#[tokio::test]
async fn a_handshake_that_nobody_answers_is_a_504_in_time() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut config = config(listener.local_addr().unwrap(), |_| ());
    config.proxy.connect_timeout = Duration::from_millis(300);
    let through = Through::of(&config);
    let start = clock::now();
    let response = ask(through.address, request("GET", "/", "", "")).await;
    assert_eq!(response.status, 504);
    assert!(response.field("proxy-status").unwrap().contains("error=connection_timeout"));
    assert!((300..2_000).contains(&start.elapsed().as_millis()));
}

#[tokio::test]
async fn a_port_that_speaks_no_tls_is_a_502_that_says_so() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let through = through(listener.local_addr().unwrap(), &[]);
    let origin = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    };
    let response = tokio::select! {
        response = ask(through.address, request("GET", "/", "", "")) => response,
        () = origin => unreachable!("it never ends"),
    };
    assert_eq!(response.status, 502, "{}", response.text());
    assert!(response.field("proxy-status").unwrap().contains("error=tls_protocol_error"));
    assert!(response.text().contains("http:// in --upstream"), "{}", response.text());
}

#[tokio::test]
async fn a_private_ca_is_trusted_where_it_is_named_and_nowhere_else() {
    let (origin, other) =
        (TlsOrigin::start("localhost", &[]).await, TlsOrigin::start("localhost", &[]).await);
    let ca = file(&format!("Our own:\n{}{}", other.pem, origin.pem));
    for (ca, status) in [(Some(ca.path().to_owned()), 200), (None, 502)] {
        let through = Through::of(&config(origin.address, |upstream| upstream.ca = ca));
        let response = ask(through.address, request("POST", "/", "", "abc")).await;
        assert_eq!(response.status, status, "{}", response.text());
    }
}

#[test]
fn a_file_of_certificates_that_cannot_be_used_is_an_error_at_the_start() {
    let empty = file("nothing here");
    let damaged = file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let cut = file("-----BEGIN CERTIFICATE-----\nAAAA\n");
    for (path, word) in [
        (Path::new("/does/not/exist.pem"), "cannot be read"),
        (empty.path(), "has no certificate in it"),
        (damaged.path(), "certificate 1 is not valid"),
        (cut.path(), "certificate 1 is not valid"),
    ] {
        let config = config(([127, 0, 0, 1], 1).into(), |upstream| upstream.ca = Some(path.to_owned()));
        let error = clients(&config, 1).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains(path.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn any_certificate_is_accepted_only_where_the_operator_said_so() {
    let wrong = TlsOrigin::start("other.example", &[b"h2", b"http/1.1"]).await;
    for (verify, status) in [(false, 200), (true, 502)] {
        let through = Through::of(&config(wrong.address, |upstream| upstream.verify = verify));
        let response = ask(through.address, request("POST", "/", "", "abc")).await;
        assert_eq!(response.status, status, "{}", response.text());
    }
}

/// `openssl req -x509` makes such a one: its own CA, and the server's.
#[tokio::test]
async fn a_certificate_that_signed_itself_is_accepted_where_it_is_named_and_only_for_its_name() {
    let own_ca = || IsCa::Ca(BasicConstraints::Unconstrained);
    let named = TlsOrigin::with("localhost", &[], own_ca()).await;
    let unnamed = TlsOrigin::with("localhost", &[], own_ca()).await;
    let misnamed = TlsOrigin::with("other.example", &[], own_ca()).await;
    let ca = file(&format!("{}{}", named.pem, misnamed.pem));
    for (origin, status) in [(&named, 200), (&unnamed, 502), (&misnamed, 502)] {
        let through =
            Through::of(&config(origin.address, |upstream| upstream.ca = Some(ca.path().to_owned())));
        let response = ask(through.address, request("POST", "/", "", "abc")).await;
        assert_eq!(response.status, status, "{}", response.text());
    }
}
