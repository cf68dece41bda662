//! Connections: bursts, slow ones, silent ones, and the end of the program.

use super::client::{Client, ask, request};
use super::origin::{Origin, Reply, ok};
use super::through::{Through, eventually, fixed};
use std::time::Duration;
use tokio::task::JoinSet;

#[tokio::test]
async fn a_burst_of_connections_is_accepted_at_once() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let mut burst = JoinSet::new();
    for _ in 0..200 {
        burst.spawn(ask(through.address, request("POST", "/", "", "abc")));
    }
    for response in burst.join_all().await {
        assert_eq!(response.status, 200);
    }
}

#[tokio::test]
async fn beyond_the_cap_connections_wait_for_room() {
    let origin = Origin::friendly().await;
    let through = Through::with(origin.address, |proxy| proxy.connections_max = 1, fixed(1e4));
    let mut first = Client::connect(through.address).await;
    assert_eq!(first.send(request("GET", "/", "", "")).await.response().await.status, 200);
    let mut second = Client::connect(through.address).await;
    second.send(request("GET", "/", "", "")).await;
    let early = tokio::time::timeout(Duration::from_millis(200), second.response()).await;
    assert!(early.is_err());
    first.leave(false);
    assert_eq!(second.response().await.status, 200);
}

#[tokio::test]
async fn a_head_that_does_not_come_is_answered_408_and_silence_with_silence() {
    let origin = Origin::friendly().await;
    let slow = |proxy: &mut tidegate::config::ProxySettings| proxy.head_timeout = Duration::from_millis(300);
    let through = Through::with(origin.address, slow, fixed(1e4));
    let mut silent = Client::connect(through.address).await;
    assert_eq!(silent.rest().await, b"");
    let mut half_a_preface = Client::connect(through.address).await;
    half_a_preface.send("PRI * HT").await;
    assert_eq!(half_a_preface.rest().await, b"");

    let mut dawdler = Client::connect(through.address).await;
    // Not only the first head: a kept connection may dawdle too.
    dawdler.send(request("GET", "/", "", "")).await.response().await;
    dawdler.send("GET / HTTP/1.1\r\nHo").await;
    let rest = String::from_utf8(dawdler.rest().await).unwrap();
    assert!(rest.starts_with("HTTP/1.1 408 ") && rest.ends_with("\r\n\r\n"), "{rest}");
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn an_idle_connection_outlives_the_head_timeout() {
    let origin = Origin::friendly().await;
    let slow = |proxy: &mut tidegate::config::ProxySettings| proxy.head_timeout = Duration::from_millis(100);
    let through = Through::with(origin.address, slow, fixed(1e4));
    let mut client = Client::connect(through.address).await;
    for _ in 0..3 {
        assert_eq!(client.send(request("GET", "/", "", "")).await.response().await.status, 200);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn empty_lines_before_a_request_begin_none() {
    let origin = Origin::friendly().await;
    let slow = |proxy: &mut tidegate::config::ProxySettings| proxy.head_timeout = Duration::from_millis(100);
    let through = Through::with(origin.address, slow, fixed(1e4));
    let mut client = Client::connect(through.address).await;
    client.send("\r\n\r\n").await;
    for _ in 0..3 {
        assert_eq!(client.send(request("GET", "/", "", "")).await.response().await.status, 200);
        // Some old clients end a body with a line end that is not part of it.
        client.send("\r\n").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let mut nothing_else = Client::connect(through.address).await;
    assert_eq!(
        nothing_else.send("\r\n").await.rest().await,
        b"",
        "a new connection has no more time than that"
    );
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_408() {
    let origin = Origin::friendly().await;
    let slow = |proxy: &mut tidegate::config::ProxySettings| proxy.body_idle = Duration::from_millis(200);
    let through = Through::with(origin.address, slow, fixed(1e4));
    let response = ask(through.address, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
    assert_eq!(response.status, 408);
    assert_eq!(origin.connections(), 0, "nothing of it went out");
}

#[tokio::test]
async fn a_drain_lets_everyone_finish_and_then_returns() {
    let origin = Origin::start(|seen| {
        if seen.line.ends_with("/slow") {
            Reply::After(Duration::from_millis(400), Box::new(ok("late")))
        } else {
            ok("ok")
        }
    })
    .await;
    let mut through = Through::to(origin.address);
    let mut slow = Client::connect(through.address).await;
    slow.send(request("GET", "/slow", "", "")).await;
    let mut idle = Client::connect(through.address).await;
    idle.send(request("GET", "/", "", "")).await.response().await;
    let mut fresh = Client::connect(through.address).await;
    eventually("the slow one is under way", || origin.seen().len() == 2).await;

    through.drain(Duration::from_secs(10));
    // A request that was on its way when the drain began gets an answer, and the word that it is the last.
    let last = idle.send(request("GET", "/", "", "")).await.response().await;
    assert_eq!((last.status, last.field("connection")), (503, Some("close")));
    assert_eq!(last.field("retry-after"), Some("1"));
    assert!(last.text().contains("\"reason\":\"draining\""), "{}", last.text());
    let late = slow.response().await;
    assert_eq!((late.status, late.text().as_str(), late.field("connection")), (200, "late", Some("close")));
    assert_eq!(fresh.rest().await, b"");
    through.gone().await;
    assert!(tokio::net::TcpStream::connect(through.address).await.is_err());
}

#[tokio::test]
async fn large_bodies_pass_both_ways_unchanged() {
    let origin = Origin::start(|seen| {
        let mut bytes =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", seen.body.len()).into_bytes();
        bytes.extend_from_slice(&seen.body);
        Reply::Bytes(bytes)
    })
    .await;
    let through = Through::to(origin.address);
    let large: Vec<u8> = (0..5_000_000_u32).map(|i| i.to_le_bytes()[(i % 4) as usize]).collect();
    let response = ask(through.address, request("PUT", "/", "", &large)).await;
    assert_eq!(response.status, 200);
    assert!(response.body == large, "{} bytes came back", response.body.len());
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_gone_in_time() {
    let origin = Origin::start(|_| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n".to_vec();
        bytes.resize(bytes.len() + 50_000_000, b'x');
        Reply::Bytes(bytes)
    })
    .await;
    let stall = |proxy: &mut tidegate::config::ProxySettings| proxy.write_stall = Duration::from_millis(500);
    let through = Through::with(origin.address, stall, fixed(1e4));
    let mut client = Client::connect(through.address).await;
    client.send(request("GET", "/", "", "")).await;
    eventually("it is served", || through.proxy.connections() == 1).await;
    eventually("it is gone", || through.proxy.connections() == 0).await;
}
