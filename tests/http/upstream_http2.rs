//! HTTP/2 to the upstream: how many streams and connections there are, and what a goodbye means for each request.

use super::client::{self, ask, request};
use super::paused::Handing;
use super::through::{Through, eventually, fixed};
use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::config::{Config, ProxySettings};
use tidegate::observe::{ClosedBy, Connections};
use tidegate::proxy::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;

/// What an origin has seen.
#[derive(Default)]
struct Log {
    /// Connection and path of each request.
    seen: Mutex<Vec<(usize, String)>>,
    streams: AtomicUsize,
    streams_peak: AtomicUsize,
    connections: AtomicUsize,
    tasks: Mutex<JoinSet<()>>,
}

/// A proxy to an origin that speaks HTTP/2.
struct World {
    through: Through,
    clients: Vec<Client>,
    log: Arc<Log>,
}

impl World {
    fn new(
        set: impl FnOnce(&mut ProxySettings),
        script: impl Fn(usize, DuplexStream, Arc<Log>) + Send + Sync + 'static,
    ) -> Self {
        // As with https, the first connection shows whether it can be shared.
        let mut config = Config::new("https://origin.test".parse().unwrap());
        config.lanes = fixed(10_000.0);
        set(&mut config.proxy);
        let log = Arc::new(Log::default());
        let (script, noted) = (Arc::new(script), Arc::clone(&log));
        let hand = move |theirs| {
            let number = noted.connections.fetch_add(1, Ordering::Relaxed);
            script(number, theirs, Arc::clone(&noted));
        };
        let hand = Handing { hand, room: 64 * 1024, is_http2: true };
        let client = Client::with_connector(hand, &config.default_upstream().address, &config.proxy);
        let clients = vec![client];
        Self { through: Through::over(&config, clients.clone()), clients, log }
    }

    fn connections(&self) -> Connections {
        Client::connections(&self.clients)
    }

    fn at_once(&self, count: usize) -> JoinSet<client::Response> {
        let mut asked = JoinSet::new();
        for n in 0..count {
            asked.spawn(ask(self.through.address, request("POST", &format!("/{n}"), "", "abc")));
        }
        asked
    }

    fn seen(&self) -> Vec<(usize, String)> {
        self.log.seen.lock().unwrap().clone()
    }

    fn closed(&self, by: ClosedBy) -> u64 {
        let closed = self.connections().closed;
        ClosedBy::ALL.iter().zip(closed).filter(|(reason, _)| **reason == by).map(|(_, count)| count).sum()
    }
}

/// Serves a connection with so many streams at once, each of which takes its time.
fn serve(number: usize, stream: DuplexStream, log: &Arc<Log>, streams_max: u32, time: Duration) {
    let served = Arc::clone(log);
    log.tasks.lock().unwrap().spawn(async move {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(streams_max);
        let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
        let mut streams = JoinSet::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let log = Arc::clone(&served);
            note(&log, number, &request);
            log.streams_peak.fetch_max(log.streams.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            streams.spawn(async move {
                tokio::time::sleep(time).await;
                log.streams.fetch_sub(1, Ordering::Relaxed);
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(Bytes::from_static(b"ok"), true).unwrap();
            });
        }
    });
}

fn note<B>(log: &Log, number: usize, request: &Request<B>) {
    log.seen.lock().unwrap().push((number, request.uri().path().to_owned()));
}

const MOMENT: Duration = Duration::from_millis(40);

#[tokio::test]
async fn a_peer_gets_as_many_streams_as_it_allows_and_another_connection_the_rest() {
    let world = World::new(|_| (), |n, stream, log| serve(n, stream, &log, 3, MOMENT));
    let answers = world.at_once(9).join_all().await;
    assert!(answers.iter().all(|response| (response.status, &response.body[..]) == (200, b"ok")));
    assert_eq!(world.log.connections.load(Ordering::Relaxed), 3);
    assert_eq!(world.seen().len(), 9, "none was refused and sent again");
    assert!((0..3).all(|n| world.seen().iter().filter(|(number, _)| *number == n).count() == 3));
    assert_eq!(world.through.told.stale_retries(), 0);
}

#[tokio::test]
async fn we_open_no_more_streams_than_we_may_and_the_rest_waits_when_there_may_be_no_more_connections() {
    let world = World::new(
        |proxy| {
            proxy.upstream_http2_streams_max = 2;
            proxy.upstream_connections_max = 2;
        },
        |n, stream, log| serve(n, stream, &log, 100, MOMENT),
    );
    let asked = world.at_once(12);
    eventually("the rest waits", || world.connections().waiting > 0).await;
    assert!(asked.join_all().await.iter().all(|response| response.status == 200));
    assert_eq!(world.log.connections.load(Ordering::Relaxed), 2);
    assert_eq!(world.log.streams_peak.load(Ordering::Relaxed), 4);
    eventually("all streams have ended", || world.connections().streams == 0).await;
    let seen = world.connections();
    assert_eq!((seen.open, seen.opened_http2, seen.reused), (2, 2, 10));
}

#[tokio::test]
async fn a_peer_that_greets_with_nothing_is_a_504_in_time() {
    let held = Mutex::new(Vec::new());
    let world = World::new(
        |proxy| proxy.connect_timeout = Duration::from_millis(200),
        move |_, stream, _| held.lock().unwrap().push(stream),
    );
    for response in world.at_once(3).join_all().await {
        assert_eq!(response.status, 504);
        assert!(response.field("proxy-status").unwrap().contains("error=connection_timeout"));
    }
    eventually("nothing is left", || world.connections().open == 0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time_and_an_old_one_takes_no_more_requests() {
    let world = World::new(
        |proxy| proxy.upstream_http2_idle = Duration::from_millis(150),
        |n, stream, log| serve(n, stream, &log, 100, Duration::ZERO),
    );
    assert_eq!(world.at_once(1).join_all().await[0].status, 200);
    assert_eq!(world.connections().idle, 1);
    eventually("it is closed", || world.connections().open == 0).await;
    assert_eq!(world.closed(ClosedBy::Idle), 1);

    let world = World::new(
        |proxy| proxy.upstream_age = Duration::from_millis(200),
        |n, stream, log| serve(n, stream, &log, 100, Duration::from_millis(500)),
    );
    let mut long = world.at_once(1);
    eventually("it has a stream", || world.connections().streams == 1).await;
    eventually("it is too old", || world.closed(ClosedBy::Age) == 1).await;
    let mut late = world.at_once(1);
    assert_eq!(long.join_next().await.unwrap().unwrap().status, 200, "what it has goes on");
    assert_eq!(late.join_next().await.unwrap().unwrap().status, 200);
    assert_eq!(world.log.connections.load(Ordering::Relaxed), 2);
    eventually("the old one is gone", || world.connections().open < 2).await;
}

/// Reads until a request has come, then says `goodbye`; answers it all the same, or hangs up.
async fn say_goodbye(mut stream: DuplexStream, log: Arc<Log>, goodbye: &'static [u8], answers: bool) {
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    // :status 200 by its index, END_HEADERS and END_STREAM, stream 1.
    const ANSWER: &[u8] = b"\0\0\x01\x01\x05\0\0\0\x01\x88";
    stream.write_all(SETTINGS).await.unwrap();
    let mut bytes = Vec::new();
    let data = |bytes: &[u8]| bytes.windows(3).any(|window| window == b"abc");
    while !data(&bytes) {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "the request comes");
    }
    log.seen.lock().unwrap().push((0, "raw".to_owned()));
    stream.write_all(goodbye).await.unwrap();
    if answers {
        stream.write_all(ANSWER).await.unwrap();
        while stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {}
    }
}

#[tokio::test]
async fn what_a_goodbye_leaves_out_is_sent_again_and_what_it_may_include_is_not() {
    const NOTHING: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    const THE_FIRST: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0";
    for (last, answers, status, served) in
        [(NOTHING, false, 200, 2), (THE_FIRST, false, 502, 1), (THE_FIRST, true, 200, 1)]
    {
        let world = World::new(
            |_| (),
            move |n, stream, log| {
                if n == 0 {
                    let task = say_goodbye(stream, Arc::clone(&log), last, answers);
                    log.tasks.lock().unwrap().spawn(task);
                } else {
                    serve(n, stream, &log, 100, Duration::ZERO);
                }
            },
        );
        assert_eq!(world.at_once(1).join_all().await[0].status, status, "{last:?} {answers}");
        assert_eq!(world.seen().len(), served);
        // And no request after it goes there.
        assert_eq!(world.at_once(1).join_all().await[0].status, 200);
        assert_eq!(world.seen().last().unwrap().0, 1);
    }
}

#[tokio::test]
async fn one_stream_that_is_reset_leaves_the_connection_to_the_others() {
    let world = World::new(
        |_| (),
        |n, stream, log| {
            let served = Arc::clone(&log);
            log.tasks.lock().unwrap().spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    note(&served, n, &request);
                    match request.uri().path() {
                        "/0" => respond.send_reset(Reason::INTERNAL_ERROR),
                        _ => drop::<h2::SendStream<Bytes>>(
                            respond.send_response(Response::new(()), true).unwrap(),
                        ),
                    }
                }
            });
        },
    );
    for path in ["/0", "/1", "/0", "/2"] {
        let response = ask(world.through.address, request("POST", path, "", "abc")).await;
        assert_eq!(response.status, if path == "/0" { 502 } else { 200 });
    }
    assert_eq!(world.log.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_head_beyond_its_bound_is_no_answer() {
    for bound in [16 * 1024, 8 * 1024] {
        let world = World::new(
            |proxy| proxy.upstream_http2_head_bytes_max = bound,
            move |_, stream, log| {
                log.tasks.lock().unwrap().spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let share = if request.uri().path() == "/0" { 5 } else { 3 };
                        let long = "a".repeat(usize::try_from(bound).unwrap() / 4 * share);
                        let response = Response::builder().header("x-long", long).body(()).unwrap();
                        drop::<h2::SendStream<Bytes>>(respond.send_response(response, true).unwrap());
                    }
                });
            },
        );
        for (path, status) in [("/0", 502), ("/1", 200)] {
            assert_eq!(ask(world.through.address, request("GET", path, "", "")).await.status, status);
        }
    }
}

#[tokio::test]
async fn an_origin_sends_no_more_than_the_windows_let_out() {
    for (stream_window, connection_window, expected) in
        [(10_000, 1 << 20, 10_000), (1 << 20, 100_000, 100_000)]
    {
        let room = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&room);
        let world = World::new(
            |proxy| {
                proxy.upstream_http2_stream_window = stream_window;
                proxy.upstream_http2_connection_window = connection_window;
            },
            move |_, stream, log| {
                let room = Arc::clone(&seen);
                log.tasks.lock().unwrap().spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        let mut stream: h2::SendStream<Bytes> =
                            respond.send_response(Response::new(()), false).unwrap();
                        stream.reserve_capacity(1 << 20);
                        room.store(stream.capacity(), Ordering::Relaxed);
                        stream.send_data(Bytes::new(), true).unwrap();
                    }
                });
            },
        );
        assert_eq!(ask(world.through.address, request("GET", "/", "", "")).await.status, 200);
        assert_eq!(room.load(Ordering::Relaxed), expected);
    }
}
