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
use super::error::{ErrorKind, ProxyError};
use super::failure::{Failed, explain};
use super::headers;
use super::pool::{Lease, Pool, Room};
use super::sending::{Invite, Sending};
use super::trust::{Trust, TrustError};
use crate::config::{Config, ProxySettings, Upstream, UpstreamSettings};
use crate::gate::clock;
use http::header::{EXPECT, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::client::conn::{http1, http2};
use hyper_util::client::legacy::connect::Connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    http2: Mutex<Option<Http2>>,
    http2_made: AtomicU64,
    /// Held while the first connections of an https upstream find out what it speaks.
    finding_out: tokio::sync::Mutex<()>,
    settings: ProxySettings,
}

/// An HTTP/2 connection, and which one it is.
#[derive(Clone)]
struct Http2 {
    sender: http2::SendRequest<Sending>,
    id: u64,
}

/// The head of a request to the upstream, before it is known over which protocol it goes.
#[derive(Clone)]
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

/// A client for each upstream of `config`, in their order, for each of `sets` runtimes, whose connections are its own:
/// over TCP, with TLS for https. The bound on kept connections holds for all of them together.
///
/// # Errors
/// A [`TrustError`] when an upstream's own certificates cannot be used. That the platform's roots cannot be loaded is a
/// warning; requests are then answered 502 with advice.
pub fn clients(config: &Config, sets: usize) -> Result<Vec<Vec<Client>>, TrustError> {
    let trust = Trust::default();
    let room = Arc::new(Room::new(config.proxy.pool_idle_max));
    let client = |upstream: &UpstreamSettings| {
        let dial = dial::to(upstream, config.proxy.connect_timeout, &trust)?;
        Ok(Client::over(dial, &upstream.address, &config.proxy, &room))
    };
    (0..sets).map(|_| config.upstreams.iter().map(client).collect()).collect()
}

impl Client {
    /// A client over `connector`: TLS with other roots, or memory.
    pub fn with_connector<C>(connector: C, upstream: &Upstream, settings: &ProxySettings) -> Self
    where
        C: Service<Uri> + Clone + Send + Sync + 'static,
        C::Response: Connection + hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
        C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        C::Future: Send,
    {
        let room = Arc::new(Room::new(settings.pool_idle_max));
        Self::over(Box::new(Tower(connector)), upstream, settings, &room)
    }

    fn over(dial: Box<dyn Dial>, upstream: &Upstream, settings: &ProxySettings, room: &Arc<Room>) -> Self {
        let host = HeaderValue::from_str(upstream.authority.as_str())
            .expect("an authority consists of characters that a field may have");
        let origin = uri(upstream, PathAndQuery::from_static("/"));
        let shared = Shared {
            upstream: upstream.clone(),
            host,
            origin,
            dial,
            pool: Arc::new(Pool::new(Arc::clone(room))),
            http2: Mutex::new(None),
            http2_made: AtomicU64::new(0),
            finding_out: tokio::sync::Mutex::new(()),
            settings: settings.clone(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Connects once, TLS included, as a request would.
    ///
    /// # Errors
    /// What went wrong, and what to do, in the words that a request would be answered with.
    pub async fn reach(&self) -> Result<(), String> {
        let connected = self.connect_in_time().await;
        connected.map(drop).map_err(|error| error.detail.into_owned())
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
            (Line::Http2(line), kept) => self.over_http2(line, kept, head, replay).await,
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
        let response = lease
            .sender
            .try_send_request(request)
            .await
            .map_err(|error| Failed::of(error, kept, &self.shared.upstream))?;
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
        mut line: Http2,
        kept: bool,
        head: &Outgoing,
        replay: &Replay,
    ) -> Result<Response<Arriving>, Failed> {
        let mut request = Request::new(replay.start(None));
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = uri(&self.shared.upstream, head.target.clone());
        *request.headers_mut() = head.headers.clone();
        request.headers_mut().remove(EXPECT);
        let response = line.sender.try_send_request(request).await.map_err(|error| {
            // It may only have said goodbye, but the next request must not depend on that.
            self.forget_http2(line.id);
            Failed::of(error, kept, &self.shared.upstream)
        })?;
        let patience = self.shared.settings.stream_idle;
        Ok(response.map(|body| Arriving::new(body, None, patience)))
    }

    /// A connection, and whether it was kept from an earlier exchange.
    async fn connection(&self, anew: bool) -> Result<(Line, bool), Failed> {
        if let Some(line) = self.http2() {
            return Ok((Line::Http2(line), true));
        }
        if !anew && let Some(lease) = self.shared.pool.take() {
            return Ok((Line::Http1(lease), true));
        }
        Ok((self.connect_in_time().await?, false))
    }

    async fn connect_in_time(&self) -> Result<Line, ProxyError> {
        timeout(self.shared.settings.connect_timeout, self.connect()).await.unwrap_or_else(|_| {
            let (kind, detail) = dial::timed_out(&self.shared.upstream.host_port());
            Err(ProxyError::new(kind, detail))
        })
    }

    async fn connect(&self) -> Result<Line, ProxyError> {
        // An https upstream may speak HTTP/2, and then one connection serves all: the first ones take turns.
        let _turn = if self.shared.upstream.scheme == http::uri::Scheme::HTTPS && self.shared.pool.is_new() {
            let turn = self.shared.finding_out.lock().await;
            if let Some(line) = self.http2() {
                return Ok(Line::Http2(line));
            }
            Some(turn)
        } else {
            None
        };
        let dialled = self.shared.dial.dial(self.shared.origin.clone()).await;
        let dialled = dialled.map_err(|error| dial::explain(error, &self.shared.upstream))?;
        let made =
            if dialled.is_http2 { self.speak_http2(dialled).await } else { self.speak_http1(dialled).await };
        made.map_err(|error| explain(error, &self.shared.upstream))
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
        let line = Http2 { sender, id: self.shared.http2_made.fetch_add(1, Ordering::Relaxed) };
        *self.lock_http2() = Some(line.clone());
        Ok(Line::Http2(line))
    }

    fn http2(&self) -> Option<Http2> {
        let mut kept = self.lock_http2();
        if kept.as_ref().is_some_and(|line| line.sender.is_closed()) {
            *kept = None;
        }
        kept.clone()
    }

    fn forget_http2(&self, id: u64) {
        self.lock_http2().take_if(|line| line.id == id);
    }

    fn lock_http2(&self) -> MutexGuard<'_, Option<Http2>> {
        self.shared.http2.lock().unwrap_or_else(PoisonError::into_inner)
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
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.shared.upstream)
    }
}

/// A way to the upstream.
enum Line {
    Http1(Lease),
    Http2(Http2),
}

/// The target at the upstream, put together from its parts: no text of a client can change the authority.
fn uri(upstream: &Upstream, target: PathAndQuery) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(upstream.scheme.clone());
    parts.authority = Some(upstream.authority.clone());
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).expect("scheme, authority and path are all there")
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
