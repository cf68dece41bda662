//! Kept connections that died: what is sent again, and what is not.

use super::client::{ask, request};
use super::origin::{Origin, Reply, ok, reply};
use super::through::{Through, eventually};
use std::time::Duration;

/// Closes the connection without an answer when its second request comes.
async fn dies_on_second() -> Origin {
    Origin::start(|seen| if seen.turn == 1 { Reply::Last(Vec::new()) } else { ok("ok") }).await
}

#[tokio::test]
async fn a_get_is_sent_again_on_a_new_connection() {
    let origin = dies_on_second().await;
    let through = Through::to(origin.address);
    for _ in 0..2 {
        assert_eq!(ask(through.address, request("GET", "/", "", "")).await.status, 200);
        settle().await;
    }
    assert_eq!(origin.seen().len(), 3);
    assert_eq!(through.told.stale_retries(), 1);
}

#[tokio::test]
async fn a_put_is_sent_again_with_its_body() {
    let origin = dies_on_second().await;
    let through = Through::to(origin.address);
    for _ in 0..2 {
        assert_eq!(ask(through.address, request("PUT", "/", "", "hello")).await.status, 200);
        settle().await;
    }
    assert!(origin.seen().iter().all(|seen| seen.body == b"hello"));
}

#[tokio::test]
async fn a_post_that_may_have_arrived_is_not_sent_again() {
    let origin = dies_on_second().await;
    let through = Through::to(origin.address);
    assert_eq!(ask(through.address, request("GET", "/", "", "")).await.status, 200);
    settle().await;
    let response = ask(through.address, request("POST", "/", "", "abc")).await;
    assert_eq!(response.status, 502);
    assert!(response.field("proxy-status").unwrap().contains("connection_terminated"));
    assert_eq!(origin.seen().len(), 2);
    assert_eq!(through.told.stale_retries(), 0);
}

#[tokio::test]
async fn a_connection_that_the_origin_closed_is_not_used() {
    let origin =
        Origin::start(|_| Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())).await;
    let through = Through::to(origin.address);
    for _ in 0..5 {
        assert_eq!(ask(through.address, request("POST", "/", "", "abc")).await.status, 200);
        settle().await;
    }
    assert_eq!(origin.seen().len(), 5);
}

#[tokio::test]
async fn connections_are_used_again() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    for _ in 0..5 {
        assert_eq!(ask(through.address, request("POST", "/", "", "abc")).await.status, 200);
        settle().await;
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn an_announced_idle_time_is_kept_with_a_margin() {
    let origin = Origin::start(|_| reply("200 OK", "Keep-Alive: timeout=1\r\n", "ok")).await;
    let through = Through::to(origin.address);
    for _ in 0..2 {
        assert_eq!(ask(through.address, request("GET", "/", "", "")).await.status, 200);
        settle().await;
    }
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_upstream_request_along() {
    let origin = Origin::start(|_| Reply::Silence).await;
    let through = Through::to(origin.address);
    for (method, body) in [("GET", ""), ("POST", "abc")] {
        let mut client = super::client::Client::connect(through.address).await;
        client.send(request(method, "/", "", body)).await;
        let before = origin.cancelled();
        eventually("it arrived", || origin.seen().iter().any(|seen| seen.line.starts_with(method))).await;
        client.leave(false);
        eventually("it was cancelled", || origin.cancelled() > before).await;
    }
    eventually("both are told", || through.told.exchanges().len() == 2).await;
    assert!(through.told.exchanges().iter().all(|exchange| exchange.status.as_u16() == 499));
}

/// A moment for a connection to come home.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}
