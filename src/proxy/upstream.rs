//! The client's side: sends one request to the upstream over a kept or a new connection.
//!
//! # Why
//! hyper-util's pooled client keeps idle connections for a fixed time, makes as many as it is asked for and cannot say
//! whether a request had left when its connection died; why HTTP/1.1 is not hyper's either stands in [`super::h1`]. Here a connection is kept only for as long as the origin is
//! known to keep it, their number is bounded, and a request whose kept connection turns out dead is sent again once:
//! always if nothing of it had left, else only if its method is idempotent (RFC 9110 9.2.2).

use super::arriving::{Arriving, Coming};
use super::body::Replay;
use super::dial::{self, Dial, Dialled, Names, Tower};
use super::error::{ErrorKind, ProxyError};
use super::failure::{Failed, ends_connection, explain};
use super::fields::Fields;
use super::h1::Exchange;
use super::headers;
use super::message::Reply;
use super::pool::{Bounds, Greeting, Housed, Lease, NoTurn, Place, Pool, Seat, Turn};
use super::streamed::Streamed;
use super::trust::{Trust, TrustError};
use crate::config::{Config, ProxySettings, Upstream, UpstreamSettings};
use crate::gate::clock;
use crate::observe::Connections;
use http::header::EXPECT;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri};
use http_body::Body;
use hyper::client::conn::http2;
use hyper_util::client::legacy::connect::Connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};
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
    /// What the name's addresses are known by; nothing with a connector of its own.
    names: Option<Arc<Names>>,
    pool: Arc<Pool>,
    settings: ProxySettings,
}

/// The head of a request to the upstream, before it is known over which protocol it goes.
#[derive(Clone)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) fields: Fields,
}

/// What came of sending.
pub(super) struct Sent {
    pub(super) response: Result<Reply<Arriving>, ProxyError>,
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
        Ok(Client::over(dial, Some(Arc::clone(names)), &upstream.address, &config.proxy, bounds))
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
        Self::over(Box::new(Tower(connector)), None, upstream, settings, Bounds::of(settings, 0, 1))
    }

    fn over(
        dial: Box<dyn Dial>,
        names: Option<Arc<Names>>,
        upstream: &Upstream,
        settings: &ProxySettings,
        bounds: Bounds,
    ) -> Self {
        let host = HeaderValue::from_str(upstream.authority.as_str())
            .expect("an authority consists of characters that a field may have");
        let origin = uri(upstream, PathAndQuery::from_static("/"));
        let shared = Shared {
            upstream: upstream.clone(),
            host,
            origin,
            dial,
            names,
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
        for client in clients {
            client.shared.pool.add_to(&mut sum);
            // All of them ask by the same names.
            if let Some(names) = &client.shared.names {
                (sum.lookups_answered, sum.lookups_failed) = names.lookups();
            }
        }
        sum
    }

    /// Sends `head` with `replay`'s body and waits for the response's head.
    pub(super) async fn send(&self, head: &Outgoing, replay: &Replay) -> Sent {
        let mut stale = false;
        loop {
            match self.attempt(head, replay, stale).await {
                Ok(response) => return Sent { response: Ok(response), stale },
                Err(failed) if !stale && failed.may_retry(&head.method, replay) => stale = true,
                Err(failed) => {
                    let error = replay.failure().unwrap_or(failed.error);
                    return Sent { response: Err(error), stale };
                }
            }
        }
    }

    async fn attempt(&self, head: &Outgoing, replay: &Replay, anew: bool) -> Result<Reply<Arriving>, Failed> {
        match self.shared.pool.turn(anew).await {
            Ok(Turn::Lease(lease)) => self.over_http1(lease, true, head, replay).await,
            // Boxed: what not all requests need is not kept room for in every one.
            Ok(Turn::Seat(seat)) => Box::pin(self.over_http2(seat, true, head, replay)).await,
            Ok(Turn::Place(place)) => match Box::pin(self.connect(place)).await? {
                Line::Http1(lease) => self.over_http1(lease, false, head, replay).await,
                Line::Http2(seat) => Box::pin(self.over_http2(seat, false, head, replay)).await,
            },
            Err(why) => Err(self.no_connection(why).into()),
        }
    }

    async fn over_http1(
        &self,
        lease: Lease,
        kept: bool,
        head: &Outgoing,
        replay: &Replay,
    ) -> Result<Reply<Arriving>, Failed> {
        let mut exchange = Exchange::new(lease, head, &self.shared.host, replay.start());
        let mut due = self.due();
        let answer = poll_fn(|cx| {
            loop {
                if let Poll::Ready(answer) = exchange.poll(cx) {
                    return Poll::Ready(Some(answer));
                }
                ready!(exchange.poll_patience(due, cx));
                let Some(later) = self.later(due, replay) else { return Poll::Ready(None) };
                due = later;
            }
        })
        .await;
        let answer = answer
            .ok_or_else(|| self.silent())?
            .map_err(|lost| Failed::of_http1(lost, exchange.is_unsent(), kept, &self.shared.upstream))?;
        let keep = |fields: &Fields| self.keep(headers::keep_alive_seconds(fields));
        let patience = self.shared.settings.stream_idle;
        Ok(exchange.finish(answer, keep).map(|coming| Arriving::new(coming, patience)))
    }

    async fn over_http2(
        &self,
        mut seat: Seat,
        kept: bool,
        head: &Outgoing,
        replay: &Replay,
    ) -> Result<Reply<Arriving>, Failed> {
        let mut request = Request::new(replay.start());
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = uri(&self.shared.upstream, head.target.clone());
        *request.headers_mut() = head.fields.to_map();
        request.headers_mut().remove(EXPECT);
        let is_bodiless = request.body().is_end_stream();
        let answer = tokio::select! {
            answer = seat.sender.try_send_request(request) => answer,
            () = self.silence(replay) => return Err(self.silent().into()),
        };
        let response = answer.map_err(|error| {
            if ends_connection(error.error()) {
                seat.retire();
            }
            Failed::of_http2(error, kept, &self.shared.upstream)
        })?;
        let patience = self.shared.settings.stream_idle;
        Ok(Reply::from(response).map(|body| {
            let body = Streamed::of_answer(body, is_bodiless);
            Arriving::new(Coming::Stream { body, _seat: seat }, patience)
        }))
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
            if !is_http2 {
                return Ok(Line::Http1(self.shared.pool.adopt_http1(stream)));
            }
            self.speak_http2(stream).await.map_err(|error| explain(error, &self.shared.upstream))
        };
        let made = self.in_time(made).await;
        match &made {
            Ok(line) => making.done(matches!(line, Line::Http2(_))),
            Err(_) => making.failed(),
        }
        made
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

    /// When an upstream has been silent for too long that is silent from now on.
    fn due(&self) -> Instant {
        clock::now() + self.shared.settings.response_head_timeout
    }

    /// When it has been if not at `due`, counted from the last that the client uploaded; none if it is too late.
    fn later(&self, due: Instant, replay: &Replay) -> Option<Instant> {
        let later = replay.progress()? + self.shared.settings.response_head_timeout;
        (!replay.is_delivered() && later > due).then_some(later)
    }

    /// Returns when the upstream has been silent for too long.
    async fn silence(&self, replay: &Replay) {
        let mut next = Some(self.due());
        while let Some(due) = next {
            sleep_until(due.into()).await;
            next = self.later(due, replay);
        }
    }

    fn silent(&self) -> ProxyError {
        let detail =
            format!("{} did not answer in time. The request may have been processed.", self.shared.upstream);
        ProxyError::new(ErrorKind::ResponseTimeout, detail)
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

/// An origin that announces more than this is not believed.
const KEEP_SECONDS_MAX: u64 = 300;

/// What an announced idle time is shortened by: the way there takes time too.
const KEEP_MARGIN: Duration = Duration::from_secs(1);

/// How often an HTTP/2 connection with open streams is asked for a sign of life.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
