//! The client's side: sends one request to the upstream over a kept or a new connection.
//!
//! # Why
//! hyper-util's pooled client keeps idle connections for a fixed time, makes as many as it is asked for and cannot say
//! whether a request had left when its connection died. Here a connection is kept only for as long as the origin is
//! known to keep it, their number is bounded, and a request whose kept connection turns out dead is sent again once:
//! always if nothing of it had left, else only if its method is idempotent (RFC 9110 9.2.2).

use super::arriving::{Arriving, Home};
use super::body::Replay;
use super::dial::{self, Dial, Dialled, Names, Tower};
use super::error::{ErrorKind, ProxyError};
use super::failure::{Failed, ends_connection, explain};
use super::headers;
use super::pool::{Bounds, Greeting, Housed, Lease, NoTurn, Place, Pool, Seat, Turn};
use super::sending::Invite;
use super::trust::{Trust, TrustError};
use crate::config::{Config, ProxySettings, Upstream, UpstreamSettings};
use crate::gate::clock;
use crate::observe::Connections;
use http::header::{EXPECT, HOST};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::client::conn::{http1, http2};
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
    settings: ProxySettings,
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
/// over TCP, with TLS for https. They share out what is bounded, and each may have one connection in any case.
///
/// # Errors
/// A [`TrustError`] when an upstream's own certificates cannot be used. That the platform's roots cannot be loaded is a
/// warning; requests are then answered 502 with advice.
pub fn clients(config: &Config, sets: usize) -> Result<Vec<Vec<Client>>, TrustError> {
    let trust = Trust::default();
    let names: Vec<_> = config
        .upstreams
        .iter()
        .map(|upstream| (upstream, Arc::new(Names::new(&upstream.address, &config.proxy))))
        .collect();
    let client = |(upstream, names): &(&UpstreamSettings, _), set| {
        let dial = dial::to(upstream, names, &trust)?;
        let bounds = Bounds::of(&config.proxy, set, sets);
        Ok(Client::over(dial, &upstream.address, &config.proxy, bounds))
    };
    (0..sets).map(|set| names.iter().map(|upstream| client(upstream, set)).collect()).collect()
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
        Self::over(Box::new(Tower(connector)), upstream, settings, Bounds::of(settings, 0, 1))
    }

    fn over(dial: Box<dyn Dial>, upstream: &Upstream, settings: &ProxySettings, bounds: Bounds) -> Self {
        let host = HeaderValue::from_str(upstream.authority.as_str())
            .expect("an authority consists of characters that a field may have");
        let origin = uri(upstream, PathAndQuery::from_static("/"));
        let shared = Shared {
            upstream: upstream.clone(),
            host,
            origin,
            dial,
            pool: Arc::new(Pool::new(bounds, upstream.scheme == Scheme::HTTPS)),
            settings: settings.clone(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Connects once, TLS included, as a request would.
    ///
    /// # Errors
    /// What went wrong, and what to do, in the words that a request would be answered with.
    pub async fn reach(&self) -> Result<(), String> {
        let connected = self.in_time(self.dial()).await;
        connected.map(drop).map_err(|error| error.detail.into_owned())
    }

    /// The connections that all `clients` of one upstream have, together.
    pub fn connections<'a>(clients: impl IntoIterator<Item = &'a Self>) -> Connections {
        let mut sum = Connections::default();
        clients.into_iter().for_each(|client| client.shared.pool.add_to(&mut sum));
        sum
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
        match self.shared.pool.turn(anew).await {
            Ok(Turn::Lease(lease)) => self.over_http1(lease, true, head, replay).await,
            Ok(Turn::Seat(seat)) => self.over_http2(seat, true, head, replay).await,
            // Boxed: what few requests need is not kept room for in every one.
            Ok(Turn::Place(place)) => match Box::pin(self.connect(place)).await? {
                Line::Http1(lease) => self.over_http1(lease, false, head, replay).await,
                Line::Http2(seat) => self.over_http2(seat, false, head, replay).await,
            },
            Err(why) => Err(self.no_connection(why).into()),
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
        Ok(response.map(|body| Arriving::new(body, Home::Lease(lease, keep, delivery), patience)))
    }

    async fn over_http2(
        &self,
        mut seat: Seat,
        kept: bool,
        head: &Outgoing,
        replay: &Replay,
    ) -> Result<Response<Arriving>, Failed> {
        let mut request = Request::new(replay.start(None));
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = uri(&self.shared.upstream, head.target.clone());
        *request.headers_mut() = head.headers.clone();
        request.headers_mut().remove(EXPECT);
        let response = seat.sender.try_send_request(request).await.map_err(|error| {
            if ends_connection(error.error()) {
                seat.retire();
            }
            Failed::of(error, kept, &self.shared.upstream)
        })?;
        let patience = self.shared.settings.stream_idle;
        Ok(response.map(|body| Arriving::new(body, Home::Seat { _seat: seat }, patience)))
    }

    /// What `making` makes, unless it takes too long.
    async fn in_time<T>(&self, making: impl Future<Output = Result<T, ProxyError>>) -> Result<T, ProxyError> {
        timeout(self.shared.settings.connect_timeout, making).await.unwrap_or_else(|_| {
            let (kind, detail) = dial::timed_out(&self.shared.upstream.host_port());
            Err(ProxyError::new(kind, detail))
        })
    }

    async fn dial(&self) -> Result<Dialled, ProxyError> {
        let dialled = self.shared.dial.dial(self.shared.origin.clone()).await;
        dialled.map_err(|error| dial::explain(error, &self.shared.upstream))
    }

    /// Makes a connection where there is room for one.
    async fn connect(&self, place: Place) -> Result<Line, ProxyError> {
        let (room, making) = place.split();
        let made = async {
            let Dialled { stream, is_http2 } = self.dial().await?;
            let stream = Housed::new(stream, room, self.shared.settings.upstream_write_stall);
            let line = if is_http2 { self.speak_http2(stream).await } else { self.speak_http1(stream).await };
            line.map_err(|error| explain(error, &self.shared.upstream))
        };
        let made = self.in_time(made).await;
        match &made {
            Ok(line) => making.done(matches!(line, Line::Http2(_))),
            Err(_) => making.failed(),
        }
        made
    }

    async fn speak_http1(&self, stream: Housed) -> Result<Line, hyper::Error> {
        let (sender, connection) = http1::Builder::new().max_headers(HEADERS_MAX).handshake(stream).await?;
        Ok(Line::Http1(self.shared.pool.adopt_http1(sender, connection)))
    }

    async fn speak_http2(&self, stream: Housed) -> Result<Line, hyper::Error> {
        let (greeting, greeted) = Greeting::new();
        let settings = &self.shared.settings;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(HTTP2_PING_INTERVAL)
            .initial_stream_window_size(settings.upstream_http2_stream_window)
            .initial_connection_window_size(settings.upstream_http2_connection_window)
            .max_header_list_size(settings.upstream_http2_head_bytes_max)
            .handshake(stream.greeted(greeting))
            .await?;
        Ok(Line::Http2(self.shared.pool.adopt_http2(sender, connection, greeted).await))
    }

    /// What a request is answered with that got no connection.
    fn no_connection(&self, why: NoTurn) -> ProxyError {
        let upstream = &self.shared.upstream;
        let detail = match why {
            NoTurn::Full => format!(
                "All connections to {upstream} are in use, and too many requests wait for one. Nothing was sent. \
                 Come back later, or raise forward.connections_max."
            ),
            NoTurn::Late => format!(
                "All connections to {upstream} were in use for too long. Nothing was sent. Come back later, or raise \
                 forward.connections_max."
            ),
        };
        ProxyError::new(ErrorKind::ConnectionLimit, detail)
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
    Http2(Seat),
}

/// The target at the upstream, put together from its parts: no text of a client can change the authority.
fn uri(upstream: &Upstream, target: PathAndQuery) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(upstream.scheme.clone());
    parts.authority = Some(upstream.authority.clone());
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).expect("scheme, authority and path are all there")
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
