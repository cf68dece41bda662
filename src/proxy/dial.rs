//! Connections to the upstream: TCP, TLS with the platform's roots, or whatever a test brings; and why they fail.

use super::error::{BoxError, ErrorKind, ProxyError, find};
use super::trust::{Trust, TrustError, Trusting};
use crate::config::{Upstream, UpstreamSettings};
use http::Uri;
use http::uri::Scheme;
use hyper::rt::{Read, Write};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use rustls::{CertificateError, OtherError};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tower_service::Service;

/// A byte stream to the upstream.
pub(super) trait Stream: Read + Write + Send + Unpin {}
impl<T: Read + Write + Send + Unpin> Stream for T {}

/// A connection that was just made.
pub(super) struct Dialled {
    pub(super) stream: Box<dyn Stream>,
    /// ALPN chose HTTP/2.
    pub(super) is_http2: bool,
}

type Dialling = Pin<Box<dyn Future<Output = Result<Dialled, BoxError>> + Send>>;

/// Makes connections.
pub(super) trait Dial: Send + Sync {
    fn dial(&self, to: Uri) -> Dialling;
}

/// Any connector of the tower kind.
pub(super) struct Tower<C>(pub(super) C);

impl<C> Dial for Tower<C>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send,
{
    fn dial(&self, to: Uri) -> Dialling {
        let mut connector = self.0.clone();
        Box::pin(async move {
            poll_fn(|cx| connector.poll_ready(cx)).await.map_err(Into::into)?;
            let stream = connector.call(to).await.map_err(Into::into)?;
            let is_http2 = stream.connected().is_negotiated_h2();
            Ok(Dialled { stream: Box::new(stream), is_http2 })
        })
    }
}

/// What connects to `upstream`: plain TCP for http, TLS for https. That nobody is trusted on this machine is no error
/// until it matters; a file of certificates that cannot be used is one.
pub(super) fn to(
    upstream: &UpstreamSettings,
    connect_timeout: Duration,
    trust: &Trust,
) -> Result<Box<dyn Dial>, TrustError> {
    let mut tcp = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect_timeout));
    let address = &upstream.address;
    if address.scheme != Scheme::HTTPS {
        return Ok(Box::new(Tower(tcp)));
    }
    Ok(match trust.at(upstream)? {
        Trusting::Config(config) => {
            let builder = HttpsConnectorBuilder::new().with_tls_config(*config);
            Box::new(Tower(builder.https_only().enable_http1().enable_http2().wrap_connector(tcp)))
        }
        Trusting::Nobody(why) => {
            tracing::warn!(%why, "no TLS roots: requests to {address} will be answered 502");
            Box::new(NoRoots(why))
        }
    })
}

/// Stands where TLS cannot work on this machine.
struct NoRoots(String);

impl Dial for NoRoots {
    fn dial(&self, _: Uri) -> Dialling {
        let error = ProxyError::new(
            ErrorKind::Configuration,
            format!(
                "No trusted TLS roots could be loaded on Tidegate's machine ({}). Install the package \
                 ca-certificates, or set SSL_CERT_FILE to a PEM file of roots, and start again.",
                self.0
            ),
        );
        Box::pin(std::future::ready(Err(error.into())))
    }
}

/// The system's resolver, with its failures marked as such.
#[derive(Clone)]
struct Resolver(GaiResolver);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct DnsError(#[source] io::Error);

impl Service<Name> for Resolver {
    type Response = <GaiResolver as Service<Name>>::Response;
    type Error = DnsError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DnsError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DnsError>> {
        self.0.poll_ready(cx).map_err(DnsError)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let found = self.0.call(name);
        Box::pin(async move { found.await.map_err(DnsError) })
    }
}

/// Why there is no connection, in words that say what to do.
pub(super) fn explain(error: BoxError, upstream: &Upstream) -> ProxyError {
    let error = match error.downcast::<ProxyError>() {
        Ok(known) => return *known,
        Err(error) => error,
    };
    let address = upstream.host_port();
    let (kind, detail) = if find::<DnsError>(&*error).is_some() {
        (
            ErrorKind::Dns,
            format!("The name {} does not resolve. Check --upstream and this machine's DNS.", upstream.host),
        )
    } else if let Some(tls) = find::<rustls::Error>(&*error) {
        explain_tls(tls, &address)
    } else {
        explain_io(find::<io::Error>(&*error).map(io::Error::kind), &address)
    };
    ProxyError::new(kind, detail).because(error)
}

fn explain_tls(error: &rustls::Error, address: &str) -> (ErrorKind, String) {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(problem)) if is_ca_itself(problem) => (
            ErrorKind::TlsCertificate,
            format!(
                "The certificate of {address} is not trusted: it is that of a CA (or one that signed itself), where a \
                 server's own is needed. Give the API a certificate that a CA issued to its name."
            ),
        ),
        rustls::Error::InvalidCertificate(problem) => (
            ErrorKind::TlsCertificate,
            format!(
                "The certificate of {address} is not trusted: {problem}. If it is issued by a private CA, \
                 start Tidegate with --upstream-ca FILE, a PEM file with that CA's certificate."
            ),
        ),
        other => (
            ErrorKind::TlsProtocol,
            format!(
                "TLS with {address} failed: {other}. Does that port speak TLS? If not, use http:// in --upstream."
            ),
        ),
    }
}

/// The verifier has no word of its own for this one, only its internal name.
pub(super) fn is_ca_itself(problem: &OtherError) -> bool {
    problem.to_string().contains("CaUsedAsEndEntity")
}

fn explain_io(kind: Option<io::ErrorKind>, address: &str) -> (ErrorKind, String) {
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => (
            ErrorKind::ConnectionRefused,
            format!("Nothing listens at {address}. Is the API running, and is --upstream right?"),
        ),
        Some(io::ErrorKind::TimedOut) => timed_out(address),
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
            (ErrorKind::Unroutable, format!("There is no route to {address}. Check this machine's network."))
        }
        _ => (
            ErrorKind::ConnectionTerminated,
            format!("The connection to {address} ended while it was being made."),
        ),
    }
}

/// No connection in time.
pub(super) fn timed_out(address: &str) -> (ErrorKind, String) {
    (
        ErrorKind::ConnectionTimeout,
        format!(
            "No connection to {address} in time. Is it reachable from here, past the firewalls between, and does it answer as --upstream says (http:// or https://)?"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        let upstream: Upstream = "https://api.example.com".parse().unwrap();
        let io = |kind| BoxError::from(io::Error::from(kind));
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let ca_itself = OtherError(std::sync::Arc::new(io::Error::other("CaUsedAsEndEntity")));
        let ca_itself = rustls::Error::InvalidCertificate(CertificateError::Other(ca_itself));
        for (error, kind, word) in [
            (BoxError::from(DnsError(io::Error::other("x"))), ErrorKind::Dns, "--upstream"),
            (io(io::ErrorKind::ConnectionRefused), ErrorKind::ConnectionRefused, "api.example.com:443"),
            (io(io::ErrorKind::TimedOut), ErrorKind::ConnectionTimeout, "firewalls"),
            (io(io::ErrorKind::HostUnreachable), ErrorKind::Unroutable, "network"),
            (io(io::ErrorKind::UnexpectedEof), ErrorKind::ConnectionTerminated, "ended"),
            (BoxError::from(io::Error::other(unknown)), ErrorKind::TlsCertificate, "--upstream-ca"),
            (BoxError::from(io::Error::other(ca_itself)), ErrorKind::TlsCertificate, "that of a CA"),
            (
                BoxError::from(io::Error::other(rustls::Error::HandshakeNotComplete)),
                ErrorKind::TlsProtocol,
                "http://",
            ),
        ] {
            let told = explain(error, &upstream);
            assert_eq!(told.kind, kind);
            assert!(told.detail.contains(word), "{told}");
        }
    }
}
