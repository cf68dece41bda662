//! New connections to the upstream: TCP to the best address that its name has, TLS with the platform's roots, or
//! whatever a test brings; and why they fail.

mod explain;
mod names;
mod race;

pub(super) use explain::{explain, is_ca_itself, timed_out};
pub(super) use names::Names;

use super::error::{BoxError, ErrorKind, ProxyError};
use super::trust::{Trust, TrustError, Trusting};
use crate::config::UpstreamSettings;
use http::Uri;
use http::uri::Scheme;
use hyper::rt::{Read, Write};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::Connection;
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
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

/// What connects to `upstream`, whose addresses are in `names`: plain TCP for http, TLS for https. That nobody is
/// trusted on this machine is no error until it matters; a file of certificates that cannot be used is one.
pub(super) fn to(
    upstream: &UpstreamSettings,
    names: &Arc<Names>,
    trust: &Trust,
) -> Result<Box<dyn Dial>, TrustError> {
    let tcp = Tcp(Arc::clone(names));
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

/// TCP to the upstream, whatever the URI says.
#[derive(Clone)]
struct Tcp(Arc<Names>);

impl Service<Uri> for Tcp {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let names = Arc::clone(&self.0);
        Box::pin(async move {
            let addresses = names.addresses().await?;
            let race = race::connect(addresses, TcpStream::connect).await;
            names.note_failed(race.failed);
            let stream = race.result?;
            // Small writes go out at once: the next one may wait for the answer to this one.
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}
