//! One client connection: its protocol found out, then served by hyper and watched beside it.
//!
//! # Why
//! hyper-util's auto server waits for ever for the first bytes, and hyper has one timer for a slow head and an idle
//! connection, none for an idle HTTP/2 connection. So the protocol is found out here, and each connection is
//! watched beside hyper ([`super::socket`]).

use super::Proxy;
use super::error::BoxError;
use super::respond::HEAD_TIMEOUT;
use super::socket::{Activity, Busy, Doing, Socket, gone, is_blank};
use super::strict::Strict;
use super::tracked::Tracked;
use crate::config::ProxySettings;
use crate::gate::clock;
use bytes::{Bytes, BytesMut};
use http::header::CONNECTION;
use http::{HeaderValue, Request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::io;
use std::net::{IpAddr, Shutdown};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};

/// The life of one connection.
pub(super) async fn connection(stream: TcpStream, proxy: Proxy, drain: watch::Receiver<bool>) {
    // Without these the connection works, only slower or longer.
    drop(stream.set_nodelay(true));
    let keep_alive = socket2::TcpKeepalive::new().with_time(TCP_KEEPALIVE);
    drop(socket2::SockRef::from(&stream).set_tcp_keepalive(&keep_alive));
    let settings = proxy.settings().clone();
    // Without an address the client has left already.
    let Ok(peer) = stream.peer_addr() else { return };
    let found = tokio::select! {
        found = timeout(settings.head_timeout, first_bytes(&stream)) => found.unwrap_or_default(),
        () = async { drained(drain.clone()).await; sleep(LAST_MOMENT).await } => None,
    };
    let Some((first, is_http2)) = found else { return };
    let stream = Arc::new(stream);
    let ended = if is_http2 {
        over_http2(&stream, first, proxy, peer.ip().to_canonical(), &settings, drain).await
    } else {
        over_http1(&stream, first, proxy, peer.ip().to_canonical(), &settings, drain).await
    };
    match ended {
        Ended::Itself => linger(&stream).await,
        Ended::HeadLate { answerable: true } => {
            // Whether it arrives or not, the connection is closed.
            drop(stream.try_write(HEAD_TIMEOUT));
            linger(&stream).await;
        }
        Ended::HeadLate { answerable: false } | Ended::Stalled => (),
    }
}

/// Waits until draining begins; a sender that is gone never begins it.
pub(super) async fn drained(mut drain: watch::Receiver<bool>) {
    if drain.wait_for(|draining| *draining).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Reads until it is clear what the client speaks; `None` when it left before that.
async fn first_bytes(stream: &TcpStream) -> Option<(Bytes, bool)> {
    let mut bytes = BytesMut::with_capacity(FIRST_READ);
    loop {
        stream.readable().await.ok()?;
        match stream.try_read_buf(&mut bytes) {
            Ok(0) => return None,
            Ok(_) if bytes.starts_with(PREFACE) => return Some((bytes.freeze(), true)),
            Ok(_) if is_blank(&bytes) && bytes.len() < FIRST_READ => (),
            Ok(_) if !PREFACE.starts_with(&bytes) => return Some((bytes.freeze(), false)),
            Ok(_) => (),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
            Err(_) => return None,
        }
    }
}

async fn over_http1(
    stream: &Arc<TcpStream>,
    first: Bytes,
    proxy: Proxy,
    peer: IpAddr,
    settings: &ProxySettings,
    drain: watch::Receiver<bool>,
) -> Ended {
    let activity = Activity::new(true);
    let socket = Socket::new(Arc::clone(stream), first, activity.clone());
    let (socket, refusal) = Strict::new(socket, settings.head_bytes_max);
    let watched = Arc::clone(stream);
    let noted = activity.clone();
    let stopping = drain.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(fault) = refusal.next() {
            request.extensions_mut().insert(fault);
        }
        let (proxy, stream, busy) = (proxy.clone(), Arc::clone(&watched), noted.begin());
        let stopping = stopping.clone();
        async move {
            let mut response = tokio::select! {
                biased;
                () = gone(&stream) => return Err(Departed),
                response = proxy.serve(request, peer) => response,
            };
            if *stopping.borrow() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| Held { body, _busy: busy }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.keep_alive_idle)
        .max_buf_size(settings.head_bytes_max)
        .serve_connection(TokioIo::new(socket), service);
    let patience = Patience { head: settings.head_timeout, idle: None, stall: settings.stream_idle };
    watched_until_end(pin!(connection), &activity, &patience, drain).await
}

async fn over_http2(
    stream: &Arc<TcpStream>,
    first: Bytes,
    proxy: Proxy,
    peer: IpAddr,
    settings: &ProxySettings,
    drain: watch::Receiver<bool>,
) -> Ended {
    let activity = Activity::new(false);
    let socket = Socket::new(Arc::clone(stream), first, activity.clone());
    let noted = activity.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (proxy, busy) = (proxy.clone(), noted.begin());
        async move {
            let response = proxy.serve(request, peer).await;
            Ok::<_, Departed>(response.map(|body| Held { body, _busy: busy }))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_header_list_size(HTTP2_HEADERS_MAX)
        .serve_connection(TokioIo::new(socket), service);
    let idle = Some(HTTP2_IDLE);
    let patience = Patience { head: settings.head_timeout, idle, stall: settings.stream_idle };
    watched_until_end(pin!(connection), &activity, &patience, drain).await
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
enum Ended {
    Itself,
    /// Its head did not come in time; `answerable` when nothing else is being written to it.
    HeadLate {
        answerable: bool,
    },
    /// The peer took nothing, or did not go when asked to.
    Stalled,
}

/// How long a connection may do what.
struct Patience {
    head: Duration,
    /// For HTTP/2; hyper has a timer for HTTP/1.1.
    idle: Option<Duration>,
    stall: Duration,
}

/// A connection that can be asked to finish.
trait Graceful: Future {
    fn finish(self: Pin<&mut Self>);
}

impl<S, B> Graceful for http1::Connection<TokioIo<Strict<Socket>>, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, B> Graceful for http2::Connection<TokioIo<Socket>, S, TokioExecutor>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Drives a connection, and looks after each turn at what it does and until when it may.
async fn watched_until_end<C: Graceful>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    patience: &Patience,
    drain: watch::Receiver<bool>,
) -> Ended {
    let mut draining = pin!(drained(drain));
    let mut drain_since = None;
    let mut asked_to_finish = None;
    let mut timer = pin!(sleep(Duration::ZERO));
    let mut armed = None;
    std::future::poll_fn(move |cx| {
        loop {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ended::Itself);
            }
            if drain_since.is_none() && draining.as_mut().poll(cx).is_ready() {
                drain_since = Some(clock::now());
            }
            let now = clock::now();
            let (due, then) = next(activity, patience, drain_since, asked_to_finish);
            if due.is_some_and(|due| due <= now) {
                match then {
                    Then::Finish => {
                        asked_to_finish = Some(now);
                        connection.as_mut().finish();
                        continue;
                    }
                    Then::End(ended) => return Poll::Ready(ended),
                }
            }
            let Some(due) = due else { return Poll::Pending };
            if armed != Some(due) {
                armed = Some(due);
                timer.set(sleep_until(due.into()));
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            armed = None;
        }
    })
    .await
}

enum Then {
    Finish,
    End(Ended),
}

/// What has to be done next with a connection, and when.
fn next(
    activity: &Activity,
    patience: &Patience,
    drain_since: Option<Instant>,
    asked_to_finish: Option<Instant>,
) -> (Option<Instant>, Then) {
    let doing = activity.doing();
    match (doing, asked_to_finish, drain_since) {
        (Doing::Reading(since), ..) => {
            let ended = Ended::HeadLate { answerable: activity.blocked_since().is_none() };
            (Some(since + patience.head), Then::End(ended))
        }
        (Doing::Serving, None, Some(since)) => (Some(since), Then::Finish),
        (Doing::Serving, ..) => {
            (activity.blocked_since().map(|since| since + patience.stall), Then::End(Ended::Stalled))
        }
        (Doing::Idle(_), Some(asked), _) => (Some(asked + FINISH_PATIENCE), Then::End(Ended::Stalled)),
        (Doing::Idle(since), None, Some(draining)) => (Some(since.max(draining) + LAST_MOMENT), Then::Finish),
        (Doing::Idle(since), None, None) => (patience.idle.map(|idle| since + idle), Then::Finish),
    }
}

/// Says that nothing more comes, then reads and forgets what the client still sends after its last response, so that
/// the response reaches it: a close with unread data resets the connection.
async fn linger(stream: &TcpStream) {
    // It fails when the client has gone, or when hyper has said so already.
    drop(socket2::SockRef::from(stream).shutdown(Shutdown::Write));
    let discard = async {
        let mut left = LINGER_BYTES;
        let mut bytes = [0; 4096];
        while left > 0 && stream.readable().await.is_ok() {
            match stream.try_read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => left = left.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(_) => break,
            }
        }
    };
    // A client that goes on for longer has had its time.
    drop(timeout(LINGER, discard).await);
}

/// The client left: there is nobody to answer to.
#[derive(Debug, thiserror::Error)]
#[error("the client left")]
struct Departed;

/// A response body, and the word that its connection is busy.
struct Held {
    body: Tracked,
    _busy: Busy,
}

impl Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What every HTTP/2 connection starts with (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FIRST_READ: usize = 1024;

/// After so long without traffic the kernel asks whether the client is still there.
const TCP_KEEPALIVE: Duration = Duration::from_mins(1);

const HTTP2_STREAMS_MAX: u32 = 100;
const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
const HTTP2_HEADERS_MAX: u32 = 16 * 1024;
/// An HTTP/2 connection without a request is closed after this long.
const HTTP2_IDLE: Duration = Duration::from_mins(5);

/// What an idle connection gets when draining begins, for a request that is on its way.
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// How long an idle connection may take to go when asked to.
const FINISH_PATIENCE: Duration = Duration::from_secs(5);

const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 * 1024 * 1024;
