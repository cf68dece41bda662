//! Timeouts to the millisecond: memory instead of sockets, and a clock that the test moves.

use super::through::{Told, fixed, proxy};
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tidegate::config::Config;
use tidegate::gate::{Timer, clock};
use tidegate::proxy::{Client, Peer, Proxy};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::task::JoinSet;

type Answer = Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>;
type Script = dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync;

/// Connects to an origin in memory.
#[derive(Clone)]
struct Memory {
    script: Arc<Script>,
    tasks: Arc<Mutex<JoinSet<()>>>,
    connections: Arc<AtomicUsize>,
    is_reachable: bool,
}

impl tower_service::Service<Uri> for Memory {
    type Response = TokioIo<Pipe>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Pipe>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        if !self.is_reachable {
            return Box::pin(std::future::pending());
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        let (ours, theirs) = duplex(64 * 1024);
        let script = Arc::clone(&self.script);
        let service = service_fn(move |request| {
            let answer = script(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        self.tasks.lock().unwrap().spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new();
            drop(connection.serve_connection(TokioIo::new(theirs), service).await);
        });
        Box::pin(ready(Ok(TokioIo::new(Pipe { stream: ours, is_http2: false }))))
    }
}

/// A connection in memory, and whether HTTP/2 was agreed on for it.
pub(crate) struct Pipe {
    pub(crate) stream: DuplexStream,
    pub(crate) is_http2: bool,
}

/// Connects in memory: the other end, with room for so many bytes, is handed to `hand`.
#[derive(Clone)]
pub(crate) struct Handing<F> {
    pub(crate) hand: F,
    pub(crate) room: usize,
    pub(crate) is_http2: bool,
}

impl<F: FnMut(DuplexStream)> tower_service::Service<Uri> for Handing<F> {
    type Response = TokioIo<Pipe>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<Pipe>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (ours, theirs) = duplex(self.room);
        (self.hand)(theirs);
        ready(Ok(TokioIo::new(Pipe { stream: ours, is_http2: self.is_http2 })))
    }
}

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        if self.is_http2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Where requests come from.
const PEER: Peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), over_tls: false };

/// A proxy, its origin, and what it tells.
struct World {
    proxy: Proxy,
    told: Arc<Told>,
    connections: Arc<AtomicUsize>,
    _driver: JoinSet<()>,
}

impl World {
    fn new(
        script: impl Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync + 'static,
    ) -> Self {
        Self::with(script, true)
    }

    fn with(
        script: impl Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync + 'static,
        is_reachable: bool,
    ) -> Self {
        let mut config = Config::new("http://origin.test".parse().unwrap());
        config.lanes = fixed(10_000.0);
        let connections = Arc::new(AtomicUsize::new(0));
        let tasks = Arc::new(Mutex::new(JoinSet::new()));
        let memory =
            Memory { script: Arc::new(script), tasks, connections: Arc::clone(&connections), is_reachable };
        let client = Client::with_connector(memory, &config.default_upstream().address, &config.proxy);
        let (proxy, gate, told) = proxy(&config, vec![client]);
        let mut driver = JoinSet::new();
        driver.spawn(async move { gate.drive(Timer::runtime()).await });
        Self { proxy, told, connections, _driver: driver }
    }

    async fn get(&self) -> (u16, Option<Bytes>) {
        let request = Request::get("/").header("host", "a").body(Full::<Bytes>::default()).unwrap();
        let response = self.proxy.serve(request, PEER).await;
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.ok().map(http_body_util::Collected::to_bytes))
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Paused time, and no I/O driver: a socket cannot sneak in.
fn in_paused_time(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test);
}

fn whole(text: &'static str) -> Answer {
    Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed())
}

fn seconds(since: std::time::Instant) -> f64 {
    (clock::now() - since).as_secs_f64()
}

#[test]
fn a_silent_upstream_is_a_504_after_a_minute() {
    in_paused_time(async {
        let world = World::new(|_| Box::pin(std::future::pending()));
        let start = clock::now();
        let (status, body) = world.get().await;
        assert_eq!(status, 504);
        assert!((60.0..60.01).contains(&seconds(start)), "{}", seconds(start));
        assert!(String::from_utf8_lossy(&body.unwrap()).contains("may have been processed"));
        assert_eq!(world.told.exchanges()[0].local_error, Some("http_response_timeout"));
        assert_eq!(world.told.exchanges()[0].upstream.as_secs(), 60);
    });
}

#[test]
fn an_unreachable_upstream_is_a_504_after_five_seconds() {
    in_paused_time(async {
        let world = World::with(|_| Box::pin(ready(whole("ok"))), false);
        let start = clock::now();
        assert_eq!(world.get().await.0, 504);
        assert!((5.0..5.01).contains(&seconds(start)), "{}", seconds(start));
        assert_eq!(world.told.exchanges()[0].local_error, Some("connection_timeout"));
    });
}

#[test]
fn a_body_that_stops_is_cut_after_five_minutes() {
    in_paused_time(async {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let world = World::new(move |_| {
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(4);
            sender.try_send(http_body::Frame::data(Bytes::from_static(b"abc"))).unwrap();
            kept.lock().unwrap().push(sender);
            Box::pin(ready(Response::new(body.boxed())))
        });
        let start = clock::now();
        let (status, body) = world.get().await;
        assert_eq!((status, body), (200, None), "a visible end");
        assert!((300.0..300.01).contains(&seconds(start)), "{}", seconds(start));
    });
}

#[test]
fn a_request_body_that_stops_is_a_408_after_half_a_minute() {
    in_paused_time(async {
        let world = World::new(|_| Box::pin(ready(whole("ok"))));
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(4);
        let request = Request::post("/").header("host", "a").body(body).unwrap();
        let start = clock::now();
        let serving = world.proxy.serve(request, PEER);
        let sending = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                sender.send_data(Bytes::from(vec![b'x'; 20_000])).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let response = tokio::select! {
            response = serving => response,
            () = sending => unreachable!("it never ends"),
        };
        assert_eq!(response.status(), 408);
        assert!((90.0..90.01).contains(&seconds(start)), "{}", seconds(start));
        assert_eq!(world.connections(), 0);
        assert_eq!(world.proxy.replay_bytes_in_use(), 0);
    });
}

#[test]
fn kept_connections_are_used_for_four_seconds() {
    in_paused_time(async {
        let world = World::new(|_| Box::pin(ready(whole("ok"))));
        for (pause, connections) in [(0, 1), (3_900, 1), (4_100, 2), (1_000, 2)] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            assert_eq!(world.get().await.0, 200);
            assert_eq!(world.connections(), connections, "after {pause} ms");
        }
    });
}

#[test]
fn what_the_origin_announces_counts_instead() {
    in_paused_time(async {
        let world = World::new(|_| {
            let mut answer = whole("ok");
            answer.headers_mut().insert("keep-alive", "timeout=20".parse().unwrap());
            Box::pin(ready(answer))
        });
        for (pause, connections) in [(0, 1), (18_900, 1), (19_100, 2)] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            assert_eq!(world.get().await.0, 200);
            assert_eq!(world.connections(), connections, "after {pause} ms");
        }
    });
}

#[test]
fn a_flight_lasts_until_the_body_has_ended() {
    in_paused_time(async {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let senders = Arc::clone(&kept);
        let world = World::new(move |_| {
            let (sender, body) = Channel::<Bytes, Infallible>::new(4);
            senders.lock().unwrap().push(sender);
            Box::pin(ready(Response::new(body.boxed())))
        });
        let request = Request::get("/").header("host", "a").body(Full::<Bytes>::default()).unwrap();
        let response = world.proxy.serve(request, PEER).await;
        assert!(world.told.exchanges().is_empty());
        tokio::time::sleep(Duration::from_secs(7)).await;
        kept.lock().unwrap().clear();
        response.into_body().collect().await.unwrap_or_default();
        assert_eq!(world.told.exchanges().len(), 1);
        assert!(world.told.exchanges()[0].total >= Duration::from_secs(7));
    });
}

#[test]
fn a_panic_is_a_500_for_that_request_alone() {
    in_paused_time(async {
        let world = World::new(|_| Box::pin(ready(whole("ok"))));
        let request = Request::post("/").header("host", "a").body(Bomb).unwrap();
        assert_eq!(world.proxy.serve(request, PEER).await.status(), 500);
        assert_eq!(world.get().await.0, 200);
    });
}

/// A body that is a defect.
struct Bomb;

impl http_body::Body for Bomb {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        panic!("on purpose")
    }
}
