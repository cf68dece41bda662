//! One client connection: its protocol found out, then served by hyper and watched beside it.
//!
//! # Why
//! hyper-util's auto server waits for ever for the first bytes, and hyper has one timer for a slow head and an idle
//! connection, none for an idle HTTP/2 connection. So the protocol is found out here, and each connection is
//! watched beside hyper ([`super::socket`]).

use super::Proxy;
use super::error::BoxError;
use super::identity::HTTP2;
use super::peer::Peer;
use super::respond::{HEAD_TIMEOUT, TLS_EXPECTED};
use super::socket::{Activity, Busy, Doing, Socket, Transport, Wire, gone, is_blank};
use super::tracked::Tracked;
use crate::config::ProxySettings;
use crate::gate::clock;
use bytes::{Bytes, BytesMut};
use http::header::CONNECTION;
use http::{HeaderName, HeaderValue, Request, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::io;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};

/// The life of one connection.
pub(super) async fn connection(stream: TcpStream, proxy: Proxy, drain: watch::Receiver<bool>) {
    // Without an address the client has left already.
    let Ok(peer) = stream.peer_addr() else { return };
    prepare(&stream, proxy.settings());
    let stream = Arc::new(stream);
    let activity = Activity::new();
    let found = tokio::select! {
        found = Box::pin(open(&stream, &proxy, &activity)) => found,
        () = async { drained(drain.clone()).await; sleep(LAST_MOMENT).await } => None,
    };
    let Some((transport, first, is_http2)) = found else { return };
    let peer = Peer { address: peer.ip().to_canonical(), over_tls: matches!(transport, Transport::Tls(_)) };
    if is_http2 {
        activity.expect_frames();
    }
    let socket = Socket::new(transport, first, activity.clone());
    let client = Connected { stream: Arc::clone(&stream), peer, activity, proxy, drain };
    let ended = if is_http2 { client.over_http2(socket).await } else { client.over_http1(socket).await };
    match ended {
        Ended::Itself | Ended::HeadLate => linger(&stream).await,
        Ended::Stalled | Ended::Flood => (),
    }
}

/// Without these the connection works, only slower or longer.
fn prepare(stream: &TcpStream, settings: &ProxySettings) {
    drop(stream.set_nodelay(true));
    let socket = socket2::SockRef::from(stream);
    drop(socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(TCP_KEEPALIVE)));
    // The kernel alone sees how far a client is that takes a little of a large buffer now and then.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    drop(socket.set_tcp_user_timeout(Some(settings.write_stall)));
}

/// Waits until draining begins; a sender that is gone never begins it.
pub(super) async fn drained(mut drain: watch::Receiver<bool>) {
    if drain.wait_for(|draining| *draining).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Shakes hands if TLS is spoken here, and finds out which HTTP. `None` when the client left or took too long.
async fn open(
    stream: &Arc<TcpStream>,
    proxy: &Proxy,
    activity: &Activity,
) -> Option<(Transport, Bytes, bool)> {
    let settings = proxy.settings();
    let wire = Wire::new(Arc::clone(stream), activity.clone());
    let Some(identity) = &proxy.shared.identity else {
        let mut transport = Transport::Plain(wire);
        let (first, is_http2) = timeout(settings.head_timeout, first_bytes(&mut transport)).await.ok()??;
        return Some((transport, first, is_http2));
    };
    let shaken = timeout(settings.handshake_timeout, async {
        let mut first = [0];
        stream.peek(&mut first).await.ok()?;
        if first.iter().any(u8::is_ascii_uppercase) {
            // It never saw TLS: a word that it understands. Whether it arrives or not, the connection is closed.
            drop(stream.try_write(TLS_EXPECTED));
            linger(stream).await;
            return None;
        }
        let shaken = identity.acceptor().accept(wire).await;
        shaken.inspect_err(|error| tracing::debug!(%error, "a TLS handshake failed")).ok()
    });
    let tls = shaken.await.ok()??;
    let is_http2 = tls.get_ref().1.alpn_protocol() == Some(HTTP2);
    let mut transport = Transport::Tls(Box::new(tls));
    let (first, has_preface) = timeout(settings.head_timeout, first_bytes(&mut transport)).await.ok()??;
    Some((transport, first, is_http2 || has_preface))
}

/// Reads until it is clear what the client speaks; `None` when it left before that.
async fn first_bytes(transport: &mut Transport) -> Option<(Bytes, bool)> {
    let mut bytes = BytesMut::with_capacity(FIRST_READ);
    loop {
        match transport.read_buf(&mut bytes).await.ok()? {
            0 => return None,
            _ if bytes.starts_with(PREFACE) => return Some((bytes.freeze(), true)),
            _ if is_blank(&bytes) && bytes.len() < FIRST_READ => (),
            _ if !PREFACE.starts_with(&bytes) => return Some((bytes.freeze(), false)),
            _ => (),
        }
    }
}

/// A client whose protocol is known.
struct Connected {
    stream: Arc<TcpStream>,
    peer: Peer,
    activity: Activity,
    proxy: Proxy,
    drain: watch::Receiver<bool>,
}

impl Connected {
    async fn over_http1(self, socket: Socket) -> Ended {
        let Self { stream, peer, activity, proxy, drain } = self;
        let settings = proxy.settings().clone();
        let kept = kept_for(settings.keep_alive_idle);
        let noted = activity.clone();
        let stopping = drain.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (proxy, stream, busy) = (proxy.clone(), Arc::clone(&stream), noted.begin());
            let stopping = stopping.clone();
            let kept = kept.clone().filter(|_| is_kept(&request));
            async move {
                let mut response = tokio::select! {
                    biased;
                    () = gone(&stream) => return Err(Departed),
                    response = proxy.serve(request, peer) => response,
                };
                let headers = response.headers_mut();
                if *stopping.borrow() {
                    headers.insert(CONNECTION, HeaderValue::from_static("close"));
                } else if let Some(kept) = kept.filter(|_| !headers.contains_key(CONNECTION)) {
                    headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
                    headers.insert(KEEP_ALIVE, kept);
                }
                Ok(response.map(|body| Held { body, given: None, _busy: busy }))
            }
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(settings.keep_alive_idle)
            .max_buf_size(settings.head_bytes_max)
            .serve_connection(TokioIo::new(socket), service);
        let patience = Patience::new(&settings, None);
        let ended = watched_until_end(Pin::new(&mut connection), &activity, &patience, drain).await;
        if matches!(ended, Ended::HeadLate) && activity.blocked_since().is_none() {
            let mut socket = connection.into_parts().io.into_inner();
            let last_words = async {
                socket.write_all(HEAD_TIMEOUT).await?;
                socket.shutdown().await
            };
            // Whether it arrives or not, the connection is closed.
            drop(timeout(LINGER, last_words).await);
        }
        ended
    }

    async fn over_http2(self, socket: Socket) -> Ended {
        let Self { peer, activity, proxy, drain, .. } = self;
        let settings = proxy.settings().clone();
        let noted = activity.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (proxy, busy) = (proxy.clone(), noted.begin());
            let mut given = Given { activity: noted.clone(), is_out: false };
            async move {
                let response = proxy.serve(request, peer).await;
                given.gives(0);
                Ok::<_, Departed>(response.map(|body| Held { body, given: Some(given), _busy: busy }))
            }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.http2_streams_max)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .max_send_buf_size(HTTP2_SEND_BUFFER)
            .max_header_list_size(HTTP2_HEADERS_MAX)
            .serve_connection(TokioIo::new(socket), service);
        let patience = Patience::new(&settings, Some(settings.http2_idle));
        watched_until_end(pin!(connection), &activity, &patience, drain).await
    }
}

/// What a kept connection is told of how long it is kept: a second less, so that no request crosses the close.
fn kept_for(idle: Duration) -> Option<HeaderValue> {
    let seconds = idle.as_secs().checked_sub(1).filter(|seconds| *seconds > 0)?;
    HeaderValue::try_from(format!("timeout={seconds}")).ok()
}

/// Does the client want its connection kept? One that speaks HTTP/1.0 is left with what it knows.
fn is_kept(request: &Request<Incoming>) -> bool {
    let fields = request.headers().get_all(CONNECTION);
    let mut options =
        fields.iter().filter_map(|field| field.to_str().ok()).flat_map(|field| field.split(','));
    request.version() == Version::HTTP_11
        && !options.any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
enum Ended {
    Itself,
    /// Its head did not come in time.
    HeadLate,
    /// The peer took nothing, or did not go when asked to.
    Stalled,
    /// It sent control frames for their own sake.
    Flood,
}

/// How long a connection may do what.
struct Patience {
    head: Duration,
    /// For HTTP/2; hyper has a timer for HTTP/1.1.
    idle: Option<Duration>,
    /// The client takes nothing of its answers.
    untaken: Duration,
    /// The kernel takes nothing, of which some may be on its way to a slow client.
    stall: Duration,
}

impl Patience {
    fn new(settings: &ProxySettings, idle: Option<Duration>) -> Self {
        let untaken = settings.write_stall;
        Self { head: settings.head_timeout, idle, untaken, stall: untaken.max(settings.stream_idle) }
    }
}

/// A connection that can be asked to finish.
trait Graceful: Future {
    fn finish(self: Pin<&mut Self>);
}

impl<S, B> Graceful for http1::Connection<TokioIo<Socket>, S>
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
    if activity.is_flood() {
        return (Some(clock::now()), Then::End(Ended::Flood));
    }
    match (activity.doing(), asked_to_finish, drain_since) {
        (Doing::Reading(since), ..) => (Some(since + patience.head), Then::End(Ended::HeadLate)),
        (Doing::Serving, None, Some(since)) => (Some(since), Then::Finish),
        (Doing::Serving, ..) => {
            let blocked = activity.blocked_since().map(|since| since + patience.stall);
            let untaken = activity.untaken_since().map(|since| since + patience.untaken);
            (blocked.into_iter().chain(untaken).min(), Then::End(Ended::Stalled))
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
    /// In HTTP/2, where a client may take nothing of one answer and all of the others. HTTP/1.1 is the kernel's to watch.
    given: Option<Given>,
    _busy: Busy,
}

/// Has the client something to take?
struct Given {
    activity: Activity,
    is_out: bool,
}

impl Given {
    fn taken(&mut self) {
        if std::mem::take(&mut self.is_out) {
            self.activity.body_given();
        }
    }

    fn gives(&mut self, bytes: usize) {
        self.is_out = true;
        self.activity.body_gives(bytes);
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.taken();
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(given) = &mut self.given {
            given.taken();
            if let Poll::Ready(Some(Ok(frame))) = &polled {
                given.gives(frame.data_ref().map_or(0, Bytes::len));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What every HTTP/2 connection starts with (RFC 9113 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const FIRST_READ: usize = 1024;

/// After so long without traffic the kernel asks whether the client is still there.
const TCP_KEEPALIVE: Duration = Duration::from_mins(1);

const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Of one answer, beside what the client's window lets out.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;
const HTTP2_HEADERS_MAX: u32 = 16 * 1024;

/// What an idle connection gets when draining begins, for a request that is on its way.
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// How long an idle connection may take to go when asked to.
const FINISH_PATIENCE: Duration = Duration::from_secs(5);

const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 * 1024 * 1024;
