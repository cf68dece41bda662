//! HTTP/1.1 to clients, connection by connection: what is kept, what is told, what is cut.

use super::client::{Client, request};
use super::origin::{Origin, Reply, ok};
use super::through::{Through, eventually, fixed};
use std::time::Duration;
use tidegate::config::{AdmissionSettings, Config};
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn a_refused_head_is_told_with_its_method() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    for head in
        ["DELETE / HTTP/1.1\r\nHost : a\r\n\r\n", "HEAD /# HTTP/1.1\r\nHost: a\r\n\r\n", "\x01\r\n\r\n"]
    {
        let mut client = Client::connect(through.address).await;
        let answer = String::from_utf8(client.send(head).await.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(answer.ends_with("\r\n\r\n"), head.starts_with("HEAD"), "HEAD has no body: {answer}");
    }
    let told: Vec<_> = through.told.exchanges().iter().map(|told| told.method.to_string()).collect();
    assert_eq!(told, ["DELETE", "HEAD", "GET"]);
}

#[tokio::test]
async fn an_answer_of_unknown_length_that_breaks_off_is_reset_for_http10() {
    let origin = Origin::start(|_| {
        Reply::Last(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec())
    })
    .await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let mut all = Vec::new();
    let end = client.stream.read_to_end(&mut all).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn http10_connections_are_kept_when_they_ask_and_the_length_is_known() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!((response.status, response.field("connection")), (200, Some("keep-alive")));
        assert_eq!(response.field("keep-alive"), None);
    }
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.response().await.field("connection"), Some("close"));
    assert_eq!(client.rest().await, b"");
}

/// A proxy whose callers have used up their quota with their first request, and a client that has.
async fn over_quota() -> (Origin, Through, Client) {
    let origin = Origin::friendly().await;
    let mut config = Config::new(format!("http://{}", origin.address).parse().unwrap());
    config.lanes = fixed(10_000.0);
    config.admission = Some(AdmissionSettings { quota: "1/h".parse().unwrap(), burst: 1, clients_max: 10 });
    let through = Through::of(&config);
    let mut client = Client::connect(through.address).await;
    assert_eq!(client.send(request("GET", "/", "", "")).await.response().await.status, 200);
    (origin, through, client)
}

#[tokio::test]
async fn a_body_that_nobody_wants_is_got_out_of_the_way_if_it_is_there() {
    let (_origin, _through, mut client) = over_quota().await;
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for bytes in [chunked.into(), request("POST", "/", "", "abc"), request("GET", "/", "", "")] {
        let response = client.send(bytes).await.response().await;
        assert_eq!((response.status, response.field("connection")), (429, Some("keep-alive")));
    }
}

#[tokio::test]
async fn an_answer_that_does_not_wait_for_a_body_ends_the_connection_and_arrives() {
    let (_origin, through, client) = over_quota().await;
    drop(client);
    for head in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
    ] {
        let mut client = Client::connect(through.address).await;
        let response = client.send(head).await.response().await;
        assert_eq!((response.status, response.field("connection")), (429, Some("close")), "{head}");
        assert_eq!(client.rest().await, b"", "{head}");
    }
}

#[tokio::test]
async fn a_body_is_asked_for_once_and_only_if_it_has_not_come() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let mut client = Client::connect(through.address).await;
    client.send(head).await;
    assert_eq!(client.head().await.0, 100);
    assert_eq!(client.send("abc").await.response().await.status, 200);
    client.send(format!("{head}abc")).await;
    assert_eq!(client.head().await.0, 200);
    assert_eq!(origin.seen()[1].body, b"abc");
}

#[tokio::test]
async fn requests_in_one_piece_are_all_served() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    let post = request("POST", "/", "", vec![b'x'; 700]);
    client.send(post.repeat(40)).await;
    for _ in 0..40 {
        assert_eq!(client.response().await.status, 200);
    }
    assert!(origin.seen().iter().all(|seen| seen.body.len() == 700));
}

#[tokio::test]
async fn an_answer_comes_while_the_upstream_still_reads() {
    let origin = Origin::hasty(|_| ok("early")).await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n").await;
    // More than is read ahead: the rest comes while it is sent on.
    let upload = vec![b'x'; 2_000_000];
    drop(tokio::time::timeout(Duration::from_secs(2), client.send(&upload)).await);
    assert_eq!(client.response().await.status, 200);
    client.leave(false);
    eventually("nothing is kept of it", || through.proxy.connections() == 0).await;
    assert_eq!(through.proxy.replay_bytes_in_use(), 0);
}
