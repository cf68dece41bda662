//! HTTP/2 at the origin, and at the client: trailers, streams that are refused or reset, and goodbyes.

use super::client::{Client as Bytewise, ask, request};
use super::frames::{HEADERS, begun, frame};
use super::origin::{Origin, Reply, ok};
use super::paused::Handing;
use super::through::{Through, eventually, fixed};
use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::future::ready;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::config::Config;
use tidegate::proxy::Client;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A request as an HTTP/2 origin saw it.
#[derive(Clone, Debug)]
struct Seen {
    path: String,
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

/// An HTTP/2 origin in memory, whose paths say what it does, and a proxy in front of it.
struct Streams {
    through: Through,
    log: Arc<Log>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Log {
    seen: Mutex<Vec<Seen>>,
    resets: Mutex<Vec<Reason>>,
}

impl Streams {
    fn start() -> Self {
        let (hand, mut taken) = mpsc::unbounded_channel();
        let mut config = Config::new("http://origin.test".parse().unwrap());
        config.lanes = fixed(10_000.0);
        let hand = move |theirs| hand.send(theirs).unwrap();
        let hand = Handing { hand, room: 64 * 1024, is_http2: true };
        let client = Client::with_connector(hand, &config.default_upstream().address, &config.proxy);
        let log = Arc::new(Log::default());
        let seen = Arc::clone(&log);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Some(stream) = taken.recv().await {
                connections.spawn(serve(stream, Arc::clone(&seen)));
            }
        });
        Self { through: Through::over(&config, vec![client]), log, _tasks: tasks }
    }

    fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap().clone()
    }
}

async fn serve(stream: DuplexStream, log: Arc<Log>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut streams = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        streams.spawn(answer(request, respond, Arc::clone(&log)));
    }
}

async fn answer(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>, log: Arc<Log>) {
    let (head, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(Ok(data)) = incoming.data().await {
        incoming.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    let trailers = incoming.trailers().await.ok().flatten();
    let path = head.uri.path().to_owned();
    let is_first = {
        let mut seen = log.seen.lock().unwrap();
        let is_first = !seen.iter().any(|seen| seen.path == path);
        seen.push(Seen { path: path.clone(), headers: head.headers, body: body.into(), trailers });
        is_first
    };
    match path.as_str() {
        "/refused" if is_first => respond.send_reset(Reason::REFUSED_STREAM),
        "/broken" => respond.send_reset(Reason::INTERNAL_ERROR),
        "/cut" | "/stopped" => {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
            // Without a moment for them, a reset overtakes the bytes that stand before it.
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.send_reset(if path == "/cut" { Reason::INTERNAL_ERROR } else { Reason::NO_ERROR });
        }
        "/large" => {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from(vec![b'x'; 10_000]), true).unwrap();
        }
        "/silent" => {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            log.resets.lock().unwrap().push(reason.unwrap());
        }
        _ => {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"ok"), false).unwrap();
            stream.send_trailers(map(&[("grpc-status", "0"), ("set-cookie", "a=1"), ("host", "b")])).unwrap();
        }
    }
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.iter().map(field).collect()
}

async fn connect<B>(address: SocketAddr, tasks: &mut JoinSet<()>) -> SendRequest<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tasks.spawn(async move { drop(connection.await) });
    sender
}

fn get(address: SocketAddr, path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://{address}{path}")).body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_grpc_call_passes_with_its_trailers() {
    let streams = Streams::start();
    let mut tasks = JoinSet::new();
    let mut sender = connect(streams.through.address, &mut tasks).await;
    let trailers = map(&[("x-sum", "1"), ("authorization", "Bearer late"), ("content-length", "9")]);
    let body = Full::new(Bytes::from_static(b"\0\0\0\0\x01a")).with_trailers(ready(Some(Ok(trailers))));
    let call = Request::post(format!("http://{}/svc/Method", streams.through.address))
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap();
    let response = sender.send_request(call).await.unwrap();
    assert_eq!(response.status(), 200);
    let answer = response.into_body().collect().await.unwrap();
    assert_eq!(answer.trailers(), Some(&map(&[("grpc-status", "0")])), "and nothing that comes too late");
    assert_eq!(answer.to_bytes(), "ok");
    let seen = &streams.seen()[0];
    assert_eq!((seen.headers["te"].as_bytes(), &seen.body[..]), (&b"trailers"[..], &b"\0\0\0\0\x01a"[..]));
    assert_eq!(seen.trailers, Some(map(&[("x-sum", "1")])));
}

#[tokio::test]
async fn the_end_of_an_answer_stands_behind_its_last_piece() {
    let streams = Streams::start();
    let response = ask(streams.through.address, request("GET", "/large", "", "")).await;
    assert_eq!((response.text().len(), response.whole), (10_000, true));
}

#[tokio::test]
async fn trailers_pass_over_http1_without_what_must_not_come_late() {
    let origin = Origin::start(|_| {
        Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nTrailer: X-Sum, Content-Length, Set-Cookie\r\nTransfer-Encoding: chunked\r\n\r\n\
              2\r\nok\r\n0\r\nX-Sum: 2\r\nContent-Length: 9\r\nSet-Cookie: a=1\r\nConnection: X-Gone\r\nX-Gone: 1\r\n\r\n"
                .to_vec(),
        )
    })
    .await;
    let through = Through::to(origin.address);
    for (te, trailing) in [("TE: trailers\r\n", "x-sum: 2\r\n"), ("", "")] {
        let mut client = Bytewise::connect(through.address).await;
        client
            .send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{te}Trailer: X-Sum, Authorization, Host\r\n\
                 Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nAuthorization: t\r\nHost: b\r\n\
                 X-Forwarded-For: 1.1.1.1\r\nConnection: X-Gone\r\nX-Gone: 1\r\nKeep-Alive: timeout=1\r\n\r\n"
            ))
            .await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert!(answer.ends_with(&format!("2\r\nok\r\n0\r\n{trailing}\r\n")), "{answer}");
        let seen = origin.seen().last().unwrap().clone();
        assert_eq!(String::from_utf8_lossy(&seen.body), "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n");
        assert_eq!((seen.field("authorization"), seen.field("x-sum")), (None, None), "nothing is merged");
    }
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_and_another_reset_is_not() {
    let streams = Streams::start();
    let response = ask(streams.through.address, request("POST", "/refused", "", "abc")).await;
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    let bodies: Vec<_> = streams.seen().iter().map(|seen| seen.body.clone()).collect();
    assert_eq!(bodies, ["abc", "abc"]);
    assert_eq!(streams.through.told.stale_retries(), 1);

    let response = ask(streams.through.address, request("POST", "/broken", "", "abc")).await;
    assert_eq!(response.status, 502);
    assert!(response.field("proxy-status").unwrap().contains("error=connection_terminated"), "{response:?}");
    assert_eq!(streams.seen().len(), 3);
    // Its connection lives, so there is nothing to be made up for.
    assert_eq!(ask(streams.through.address, request("GET", "/broken", "", "")).await.status, 502);
    assert_eq!(streams.seen().len(), 4);
}

#[tokio::test]
async fn a_reset_within_an_answer_is_seen_in_either_protocol() {
    let streams = Streams::start();
    for path in ["/cut", "/stopped"] {
        let response = ask(streams.through.address, request("GET", path, "", "")).await;
        assert_eq!((response.status, response.text().as_str(), response.whole), (200, "abc", false));
    }
    let mut tasks = JoinSet::new();
    let mut sender = connect(streams.through.address, &mut tasks).await;
    let response = sender.send_request(get(streams.through.address, "/cut")).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    let response = sender.send_request(get(streams.through.address, "/fine")).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok", "the others go on");
}

#[tokio::test]
async fn an_upload_that_is_reset_is_never_completed() {
    let origin = Origin::friendly().await;
    let upload = [frame(HEADERS, 4, 1, b"\x83\x87\x84\x41\x01a"), frame(0, 0, 1, b"abc")].concat();
    // Kept until it is whole, and sent on as it comes.
    for kept in [1_000, 2] {
        let through = Through::with(origin.address, |proxy| proxy.replay_bytes_max = kept, fixed(10_000.0));
        // The first says that nothing is wrong, and the others that something is: none says that the body has ended.
        for code in [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR] {
            for pause in [0, 30] {
                // So that there is a connection to the origin that can be used at once.
                assert_eq!(ask(through.address, request("GET", "/", "", "")).await.status, 200);
                let before = origin.seen().len();
                let mut client = begun(through.address, &[]).await;
                client.send(&upload).await;
                tokio::time::sleep(Duration::from_millis(pause)).await;
                client.send(frame(3, 0, 1, &u32::from(code).to_be_bytes())).await;
                tokio::time::sleep(Duration::from_millis(30)).await;
                assert_eq!(origin.seen().len(), before, "{code:?} after {pause} ms, {kept}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_resets_its_stream_at_the_origin() {
    let streams = Streams::start();
    let mut client = Bytewise::connect(streams.through.address).await;
    client.send(request("POST", "/silent", "", "abc")).await;
    eventually("it arrived", || streams.seen().len() == 1).await;
    client.leave(false);
    eventually("it was reset", || *streams.log.resets.lock().unwrap() == [Reason::CANCEL]).await;
    let response = ask(streams.through.address, request("GET", "/fine", "", "")).await;
    assert_eq!(response.status, 200);
}

#[tokio::test]
async fn a_drain_says_goodbye_and_lets_streams_finish() {
    let origin = Origin::start(|_| Reply::After(Duration::from_millis(400), Box::new(ok("late")))).await;
    let mut through = Through::to(origin.address);
    let mut tasks = JoinSet::new();
    let mut sender = connect(through.address, &mut tasks).await;
    let late = sender.send_request(get(through.address, "/"));
    let drain = async {
        eventually("it is under way", || origin.seen().len() == 1).await;
        through.drain(Duration::from_secs(10));
    };
    let (late, ()) = tokio::join!(late, drain);
    assert_eq!(late.unwrap().into_body().collect().await.unwrap().to_bytes(), "late");
    assert!(sender.send_request(get(through.address, "/")).await.is_err(), "no stream after the goodbye");
    through.gone().await;
    tasks.join_next().await.unwrap().unwrap();
    assert_eq!(origin.seen().len(), 1);
}
