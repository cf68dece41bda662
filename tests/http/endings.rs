//! How exchanges over HTTP/2 end: answers that come early, that have no body, and that are expected before one is sent.

use super::origin::{Origin, Reply, ok};
use super::through::{Through, fixed};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;
use tidegate::config::ProxySettings;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A client's connection.
struct Client {
    sender: SendRequest<Bytes>,
    address: SocketAddr,
    _connection: JoinSet<()>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let (sender, connection) =
            h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        Self { sender, address, _connection: tasks }
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        expects: bool,
        is_whole: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if expects {
            request = request.header("expect", "100-continue").header("content-length", "3");
        }
        poll_fn(|cx| self.sender.poll_ready(cx)).await.unwrap();
        self.sender.send_request(request.body(()).unwrap(), is_whole).unwrap()
    }

    async fn get(&mut self, method: Method, path: &str) -> Response<RecvStream> {
        in_time(self.ask(method, path, false, true).await.0).await.unwrap()
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(5), work).await.unwrap()
}

/// All of a body.
async fn all(response: Response<RecvStream>) -> Vec<u8> {
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(data) = in_time(body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    bytes
}

async fn reset(upload: &mut SendStream<Bytes>) -> Reason {
    in_time(poll_fn(|cx| upload.poll_reset(cx))).await.unwrap()
}

#[tokio::test]
async fn an_answer_before_the_end_of_an_upload_ends_it_without_an_error() {
    let refused = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge";
    let origin = Origin::hasty(|_| Reply::Bytes(refused.to_vec())).await;
    let little = |proxy: &mut ProxySettings| proxy.replay_bytes_max = 1_000;
    let through = Through::with(origin.address, little, fixed(10_000.0));
    let mut client = Client::connect(through.address).await;
    let (answer, mut upload) = client.ask(Method::POST, "/", false, false).await;
    // More than is read ahead, and not the end.
    upload.send_data(Bytes::from(vec![0; 5_000]), false).unwrap();
    let answer = in_time(answer).await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(all(answer).await, b"large");
    assert_eq!(reset(&mut upload).await, Reason::NO_ERROR, "nothing went wrong (RFC 9113 8.1)");
    assert_eq!(client.get(Method::GET, "/").await.status(), 413, "the connection goes on");
}

#[tokio::test]
async fn an_answer_that_can_have_no_body_has_none() {
    let origin = Origin::start(|seen| match seen.line.split_once('/').unwrap() {
        (_, "no-content") => {
            Reply::Bytes(b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc".to_vec())
        }
        (_, "chunked") => Reply::Bytes(
            b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec(),
        ),
        (_, "same") => {
            Reply::Bytes(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\nETag: \"a\"\r\n\r\nabc".to_vec())
        }
        ("HEAD ", "head") => {
            Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: \"a\"\r\n\r\n".to_vec())
        }
        ("HEAD ", _) => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc".to_vec()),
        _ => ok("ok"),
    })
    .await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    for (method, path, status, length) in [
        (Method::GET, "/no-content", 204, None),
        (Method::GET, "/chunked", 204, None),
        (Method::GET, "/same", 304, Some("3")),
        (Method::HEAD, "/head", 200, Some("3")),
        (Method::HEAD, "/with-a-body", 200, Some("3")),
    ] {
        let answer = client.get(method, path).await;
        assert_eq!(answer.status(), status, "{path}");
        let said = answer.headers().get("content-length").map(|value| value.to_str().unwrap());
        assert_eq!(said, length, "{path}");
        assert!(answer.body().is_end_stream(), "its head is all of it: {path}");
        assert!(answer.headers().contains_key("date"), "{path}");
        // What came behind it is nobody's answer.
        let next = client.get(Method::GET, "/").await;
        assert_eq!((next.status().as_u16(), &all(next).await[..]), (200, &b"ok"[..]), "after {path}");
    }
}

#[tokio::test]
async fn who_expects_to_be_asked_gets_a_final_word_without_having_sent_a_body() {
    let origin = Origin::hasty(|_| {
        Reply::Bytes(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno".to_vec())
    })
    .await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    let (answer, mut upload) = client.ask(Method::POST, "/", true, false).await;
    let answer = in_time(answer).await.unwrap();
    assert_eq!(answer.status(), 417);
    assert_eq!(all(answer).await, b"no");
    assert_eq!(reset(&mut upload).await, Reason::NO_ERROR);
    assert_eq!(origin.seen()[0].field("expect"), Some("100-continue"));
}

#[tokio::test]
async fn who_expects_to_be_asked_and_sends_a_body_unasked_is_served() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    let (answer, mut upload) = client.ask(Method::POST, "/", true, false).await;
    upload.send_data(Bytes::from_static(b"abc"), true).unwrap();
    let answer = in_time(answer).await.unwrap();
    assert_eq!((answer.status().as_u16(), &all(answer).await[..]), (200, &b"ok"[..]));
    let seen = &origin.seen()[0];
    assert_eq!((seen.field("expect"), &seen.body[..]), (Some("100-continue"), &b"abc"[..]));
}
