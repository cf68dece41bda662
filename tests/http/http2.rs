//! HTTP/2 from clients, by prior knowledge.

use super::origin::{Origin, Reply, ok};
use super::through::{Through, eventually, fixed};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tidegate::config::{ForwardedMode, ProxySettings};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

async fn connect(address: SocketAddr, tasks: &mut JoinSet<()>) -> SendRequest<Full<Bytes>> {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tasks.spawn(async move { drop(connection.await) });
    sender
}

fn post(address: SocketAddr, path: &str, body: &'static [u8]) -> Request<Full<Bytes>> {
    let uri = format!("http://{address}{path}");
    let request = Request::post(uri).header("cookie", "a=1").header("cookie", "b=2");
    request.body(Full::new(Bytes::from_static(body))).unwrap()
}

#[tokio::test]
async fn requests_over_http2_reach_an_http1_upstream() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let mut tasks = JoinSet::new();
    let mut sender = connect(through.address, &mut tasks).await;
    for _ in 0..3 {
        let response = sender.send_request(post(through.address, "/x?y", b"abc")).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.headers()["server-timing"].to_str().unwrap().starts_with("queue;dur="));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    }
    let seen = &origin.seen()[0];
    assert_eq!((seen.line.as_str(), &seen.body[..]), ("POST /x?y", &b"abc"[..]));
    assert_eq!(seen.field("cookie"), Some("a=1; b=2"));
    assert!(seen.field("via").unwrap().starts_with("2 tidegate-"));
    assert_eq!(seen.field("host"), Some(origin.address.to_string().as_str()));
}

#[tokio::test]
async fn a_truncated_upstream_body_resets_the_stream_alone() {
    let origin = Origin::start(|seen| {
        if seen.line.ends_with("/cut") {
            Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec())
        } else {
            ok("ok")
        }
    })
    .await;
    let through = Through::to(origin.address);
    let mut tasks = JoinSet::new();
    let mut sender = connect(through.address, &mut tasks).await;
    let cut = sender.send_request(post(through.address, "/cut", b"")).await.unwrap();
    assert!(cut.into_body().collect().await.is_err());
    let whole = sender.send_request(post(through.address, "/", b"")).await.unwrap();
    assert_eq!(whole.into_body().collect().await.unwrap().to_bytes(), "ok");
}

#[tokio::test]
async fn an_answer_without_a_body_has_no_length() {
    let origin =
        Origin::start(|_| Reply::Bytes(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n".to_vec()))
            .await;
    let through = Through::to(origin.address);
    let mut tasks = JoinSet::new();
    let mut sender = connect(through.address, &mut tasks).await;
    // A client that compares the two resets the stream.
    let response = sender.send_request(post(through.address, "/", b"")).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("content-length")), (204, None));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "");
}

#[tokio::test]
async fn a_reset_stream_cancels_its_upstream_request() {
    let origin = Origin::start(|_| Reply::Silence).await;
    let through = Through::to(origin.address);
    let mut tasks = JoinSet::new();
    let mut sender = connect(through.address, &mut tasks).await;
    let pending = sender.send_request(post(through.address, "/", b"abc"));
    let waited = tokio::time::timeout(std::time::Duration::from_millis(300), pending).await;
    assert!(waited.is_err());
    eventually("the upstream request is gone", || origin.cancelled() == 1).await;
}

#[tokio::test]
async fn who_asks_over_http2_is_told_as_the_operator_wants_it() {
    let names = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    for (trusted, expected) in [
        ("10.0.0.0/8", ["for=127.0.0.1;host=\"HOST\";proto=http", "127.0.0.1", "HOST", "http"]),
        (
            "127.0.0.0/8",
            [
                "for=1.1.1.1, for=127.0.0.1;host=\"HOST\";proto=http",
                "1.1.1.1, 127.0.0.1",
                "a.example",
                "https",
            ],
        ),
    ] {
        let origin = Origin::friendly().await;
        let set = |proxy: &mut ProxySettings| {
            proxy.forwarded.mode = ForwardedMode::Append;
            proxy.forwarded.trusted = vec![trusted.parse().unwrap()];
        };
        let through = Through::with(origin.address, set, fixed(10_000.0));
        let mut tasks = JoinSet::new();
        let mut sender = connect(through.address, &mut tasks).await;
        let mut request = post(through.address, "/", b"");
        for (name, claim) in names.iter().zip(["for=1.1.1.1", "1.1.1.1", "a.example", "https"]) {
            request.headers_mut().insert(*name, claim.parse().unwrap());
        }
        assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
        let seen = &origin.seen()[0];
        let expected = expected.map(|value| value.replace("HOST", &through.address.to_string()));
        assert_eq!(names.map(|name| seen.field(name).unwrap_or_default().to_owned()), expected, "{trusted}");
    }
}

#[tokio::test]
async fn errors_over_http2_are_answers_too() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let mut tasks = JoinSet::new();
    let mut sender = connect(through.address, &mut tasks).await;
    let mut loops = post(through.address, "/", b"");
    loops.headers_mut().insert("transfer-encoding", "gzip".parse().unwrap());
    loops.headers_mut().insert("host", "other.example".parse().unwrap());
    let response = sender.send_request(loops).await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
}
