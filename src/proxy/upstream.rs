//! The client's side: sends one request to the upstream over a kept or a new connection.
//!
//! # Why
//! hyper-util's pooled client keeps idle connections for a fixed time and cannot say whether a request had left
//! when its connection died. Here a connection is kept only for as long as the origin is known to keep it, and a
//! request whose kept connection turns out dead is sent again: always if nothing of it had left, else only if its
//! method is idempotent (RFC 9110 9.2.2).

use super::arriving::Arriving;
use super::body::Replay;
use super::dial::{self, Dial, Dialled, Tower};
use super::error::{ErrorKind, ProxyError, find};
use super::headers;
use super::pool::{Lease, Pool};
use super::sending::{Invite, Sending};
use crate::config::{ProxySettings, Upstream};
use crate::gate::clock;
use http::header::{EXPECT, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::client::legacy::connect::Connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{sleep_until, timeout};
use tower_service::Service;

/// Sends requests to one upstream. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    upstream: Upstream,
    host: HeaderValue,
    origin: Uri,
    dial: Box<dyn Dial>,
    pool: Arc<Pool>,
    /// The one HTTP/2 connection, if ALPN chose HTTP/2.
    http2: Mutex<Option<http2::SendRequest<Sending>>>,
    /// Held while the first connections of an https upstream find out what it speaks.
    finding_out: tokio::sync::Mutex<()>,
    settings: ProxySettings,
}

/// The head of a request to the upstream, before it is known over which protocol it goes.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) headers: HeaderMap,
}

/// What came of sending.
pub(super) struct Sent {
    pub(super) response: Result<Response<Arriving>, ProxyError>,
    /// A kept connection had died, and the request was sent again.
    pub(super) stale: bool,
}

impl Client {
    /// A client for `upstream` over TCP, with TLS and the platform's roots if its scheme is https.
    ///
    /// Roots that cannot be loaded are a warning; requests are then answered 502 with advice.
    pub fn new(upstream: &Upstream, settings: &ProxySettings) -> Self {
        Self::over(dial::platform(upstream, settings.connect_timeout), upstream, settings)
    }

    /// A client over `connector`: TLS with other roots, or memory.
    pub fn with_connector<C>(connector: C, upstream: &Upstream, settings: &ProxySettings) -> Self
    where
        C: Service<Uri> + Clone + Send + Sync + 'static,
        C::Response: Connection + hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
        C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        C::Future: Send,
    {
        Self::over(Box::new(Tower(connector)), upstream, settings)
    }

    fn over(dial: Box<dyn Dial>, upstream: &Upstream, settings: &ProxySettings) -> Self {
        let host = HeaderValue::from_str(upstream.authority.as_str())
            .expect("an authority consists of characters that a field may have");
        let origin = uri(upstream, PathAndQuery::from_static("/"));
        let shared = Shared {
            upstream: upstream.clone(),
            host,
            origin,
            dial,
            pool: Arc::new(Pool::new(settings.pool_idle_max)),
            http2: Mutex::new(None),
            finding_out: tokio::sync::Mutex::new(()),
            settings: settings.clone(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Sends `head` with `replay`'s body and waits for the response's head.
    pub(super) async fn send(&self, head: &Outgoing, replay: &Replay) -> Sent {
        let mut stale = false;
        loop {
            let attempt = self.attempt(head, replay, stale);
            let result = tokio::select! {
                result = attempt => result,
                () = self.silence(replay) => Err(Failed::from(ProxyError::new(
                    ErrorKind::ResponseTimeout,
                    format!("{} did not answer in time. The request may have been processed.", self.shared.upstream),
                ))),
            };
            match result {
                Ok(response) => return Sent { response: Ok(response), stale },
                Err(failed) if !stale && failed.may_retry(&head.method, replay) => stale = true,
                Err(failed) => {
                    let error = replay.failure().unwrap_or(failed.error);
                    return Sent { response: Err(error), stale };
                }
            }
        }
    }

    async fn attempt(
        &self,
        head: &Outgoing,
        replay: &Replay,
        anew: bool,
    ) -> Result<Response<Arriving>, Failed> {
        match self.connection(anew).await? {
            (Line::Http1(lease), kept) => self.over_http1(lease, kept, head, replay).await,
            (Line::Http2(sender), kept) => self.over_http2(sender, kept, head, replay).await,
        }
    }

    async fn over_http1(
        &self,
        mut lease: Lease,
        kept: bool,
        head: &Outgoing,
        replay: &Replay,
    ) -> Result<Response<Arriving>, Failed> {
        let expects = head.headers.contains_key(EXPECT);
        let (ask, invite) = if expects { Some(Invite::new(PATIENCE)).unzip() } else { (None, None) };
        let mut request = Request::new(replay.start(invite));
        let delivery = replay.delivery();
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = Uri::from(head.target.clone());
        *request.headers_mut() = head.headers.clone();
        headers::for_http1(request.headers_mut());
        request.headers_mut().insert(HOST, self.shared.host.clone());
        if let Some(ask) = ask {
            let ask = Mutex::new(Some(ask));
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE
                    && let Some(ask) = ask.lock().unwrap_or_else(PoisonError::into_inner).take()
                {
                    // Nobody waits any more when the body has started by itself.
                    let _nobody_waits = ask.send(());
                }
            });
        }
        let response =
            lease.sender.try_send_request(request).await.map_err(|error| self.failed(error, kept))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failed::from(ProxyError::new(
                ErrorKind::HttpProtocol,
                format!("{} switched protocols without being asked.", self.shared.upstream),
            )));
        }
        let announced = headers::keep_alive_seconds(response.headers());
        let keep = self.keep(announced);
        let patience = self.shared.settings.stream_idle;
        Ok(response.map(|body| Arriving::new(body, Some((lease, keep, delivery)), patience)))
    }

    async fn over_http2(
        &self,
        mut sender: http2::SendRequest<Sending>,
        kept: bool,
        head: &Outgoing,
        replay: &Replay,
    ) -> Result<Response<Arriving>, Failed> {
        let mut request = Request::new(replay.start(None));
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = uri(&self.shared.upstream, head.target.clone());
        *request.headers_mut() = head.headers.clone();
        request.headers_mut().remove(EXPECT);
        let response = sender.try_send_request(request).await.map_err(|error| self.failed(error, kept))?;
        let patience = self.shared.settings.stream_idle;
        Ok(response.map(|body| Arriving::new(body, None, patience)))
    }

    /// A connection, and whether it was kept from an earlier exchange.
    async fn connection(&self, anew: bool) -> Result<(Line, bool), Failed> {
        if let Some(sender) = self.http2() {
            return Ok((Line::Http2(sender), true));
        }
        if !anew && let Some(lease) = self.shared.pool.take() {
            return Ok((Line::Http1(lease), true));
        }
        let line =
            timeout(self.shared.settings.connect_timeout, self.connect()).await.unwrap_or_else(|_| {
                let (kind, detail) = dial::timed_out(&self.shared.upstream.host_port());
                Err(ProxyError::new(kind, detail))
            })?;
        Ok((line, false))
    }

    async fn connect(&self) -> Result<Line, ProxyError> {
        // An https upstream may speak HTTP/2, and then one connection serves all: the first ones take turns.
        let _turn = if self.shared.upstream.scheme == http::uri::Scheme::HTTPS && self.shared.pool.is_new() {
            let turn = self.shared.finding_out.lock().await;
            if let Some(sender) = self.http2() {
                return Ok(Line::Http2(sender));
            }
            Some(turn)
        } else {
            None
        };
        let dialled = self.shared.dial.dial(self.shared.origin.clone()).await;
        let dialled = dialled.map_err(|error| dial::explain(error, &self.shared.upstream))?;
        let made =
            if dialled.is_http2 { self.speak_http2(dialled).await } else { self.speak_http1(dialled).await };
        made.map_err(|error| self.explain(error))
    }

    async fn speak_http1(&self, dialled: Dialled) -> Result<Line, hyper::Error> {
        let (sender, connection) =
            http1::Builder::new().max_headers(HEADERS_MAX).handshake(dialled.stream).await?;
        let (lease, driver) = self.shared.pool.adopt(sender, connection);
        spawn(driver);
        Ok(Line::Http1(lease))
    }

    async fn speak_http2(&self, dialled: Dialled) -> Result<Line, hyper::Error> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(HTTP2_PING_INTERVAL)
            .handshake(dialled.stream)
            .await?;
        spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "HTTP/2 connection to the upstream ended");
            }
        });
        *self.shared.http2.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
        Ok(Line::Http2(sender))
    }

    fn http2(&self) -> Option<http2::SendRequest<Sending>> {
        let mut kept = self.shared.http2.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_some_and(http2::SendRequest::is_closed) {
            *kept = None;
        }
        kept.clone()
    }

    /// How long a connection may be kept: what the origin announces less a margin, else what is safe with most.
    fn keep(&self, announced: Option<u64>) -> Duration {
        announced.map_or(self.shared.settings.pool_idle, |seconds| {
            Duration::from_secs(seconds.min(KEEP_SECONDS_MAX)).saturating_sub(KEEP_MARGIN)
        })
    }

    /// Returns when the upstream has been silent for too long, counted from the last that the client uploaded.
    async fn silence(&self, replay: &Replay) {
        let patience = self.shared.settings.response_head_timeout;
        let mut until = clock::now() + patience;
        loop {
            sleep_until(until.into()).await;
            match replay.progress() {
                Some(progress) if !replay.delivery().is_complete() && progress + patience > until => {
                    until = progress + patience;
                }
                _ => return,
            }
        }
    }

    fn failed(&self, error: TrySendError<Request<Sending>>, kept: bool) -> Failed {
        let unsent = error.message().is_some() || is_refused_stream(error.error());
        Failed { error: self.explain(error.into_error()), unsent, kept }
    }

    fn explain(&self, error: hyper::Error) -> ProxyError {
        let upstream = &self.shared.upstream;
        let (kind, detail) = if error.is_parse() || error.is_parse_too_large() {
            (ErrorKind::HttpProtocol, format!("{upstream} did not answer with valid HTTP: {error}."))
        } else if let Some(tls) = find::<rustls::Error>(&error) {
            (ErrorKind::TlsProtocol, format!("TLS with {upstream} failed: {tls}."))
        } else if find::<h2::Error>(&error)
            .is_some_and(|error| error.reason() == Some(h2::Reason::PROTOCOL_ERROR))
        {
            (ErrorKind::HttpProtocol, format!("{upstream} did not answer with valid HTTP/2: {error}."))
        } else {
            (
                ErrorKind::ConnectionTerminated,
                format!(
                    "{upstream} ended the connection before it answered. The request may have been processed."
                ),
            )
        };
        ProxyError::new(kind, detail).because(error)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.shared.upstream)
    }
}

/// A way to the upstream.
enum Line {
    Http1(Lease),
    Http2(http2::SendRequest<Sending>),
}

/// Why an attempt failed, and what that says about another one.
struct Failed {
    error: ProxyError,
    /// Nothing of the request was processed, for certain.
    unsent: bool,
    /// The connection was kept from an earlier exchange.
    kept: bool,
}

impl Failed {
    /// A kept connection that had died says nothing about the request (RFC 9112 9.3.1).
    fn may_retry(&self, method: &Method, replay: &Replay) -> bool {
        let idempotent = method.is_idempotent() && replay.can_replay();
        self.kept
            && self.error.kind == ErrorKind::ConnectionTerminated
            && ((self.unsent && replay.can_resend()) || idempotent)
    }
}

impl From<ProxyError> for Failed {
    fn from(error: ProxyError) -> Self {
        Self { error, unsent: false, kept: false }
    }
}

/// The target at the upstream, put together from its parts: no text of a client can change the authority.
fn uri(upstream: &Upstream, target: PathAndQuery) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(upstream.scheme.clone());
    parts.authority = Some(upstream.authority.clone());
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).expect("scheme, authority and path are all there")
}

/// HTTP/2 says of some streams that they were never looked at (RFC 9113 8.7).
fn is_refused_stream(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(|error| {
        error.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR))
    })
}

#[expect(clippy::disallowed_methods, reason = "a connection lives by itself: its end is the end of its task")]
fn spawn(driver: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(driver);
}

/// How long to wait for 100 Continue before the body is sent all the same, as curl does.
const PATIENCE: Duration = Duration::from_secs(1);

/// Fields in a response's head at most.
const HEADERS_MAX: usize = 200;

/// An origin that announces more than this is not believed.
const KEEP_SECONDS_MAX: u64 = 300;

/// What an announced idle time is shortened by: the way there takes time too.
const KEEP_MARGIN: Duration = Duration::from_secs(1);

/// How often an HTTP/2 connection with open streams is asked for a sign of life.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
