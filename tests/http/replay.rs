//! What a 429 leads to: the same bytes again, or the API's own answer.

use super::client::{Client, ask, request};
use super::origin::{Origin, Reply, Seen, ok, reply};
use super::through::{Through, eventually, fixed};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidegate::config::ReplayPolicy;

/// Refuses the first `count` requests, then answers.
async fn refuses(count: usize, refusal: fn() -> Reply) -> Origin {
    let left = AtomicUsize::new(count);
    Origin::start(move |_: &Seen| {
        let refuse =
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if refuse { refusal() } else { ok("done") }
    })
    .await
}

fn slow_down() -> Reply {
    reply("429 Too Many Requests", "Retry-After: 0\r\nX-Why: limit\r\n", "slow down")
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect()
}

#[tokio::test]
async fn a_post_is_sent_again_byte_for_byte() {
    for size in [0, 1, 1_000, 65_536, 900_000, 1024 * 1024] {
        let origin = refuses(2, slow_down).await;
        let through = Through::to(origin.address);
        let fields = if size == 0 { "Content-Length: 0\r\n" } else { "" };
        let response = ask(through.address, request("POST", "/messages", fields, body(size))).await;
        assert_eq!((response.status, response.text().as_str()), (200, "done"), "{size}");
        let seen = origin.seen();
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|seen| seen.body == body(size)), "{size}");
        assert!(seen.windows(2).all(|pair| pair[0].head == pair[1].head));
        assert!(response.field("server-timing").unwrap().ends_with("retries;desc=\"2\""));
        // The refusals were read to their end, so their connection was used again.
        assert_eq!(origin.connections(), 1);
        eventually("it is told", || through.told.exchanges().len() == 1).await;
        assert_eq!(through.told.exchanges()[0].retries, 2);
        assert_eq!(through.told.attempts().len(), 3);
        eventually("what was kept is given back", || through.proxy.replay_bytes_in_use() == 0).await;
    }
}

#[tokio::test]
async fn a_chunked_post_with_trailers_is_sent_again_byte_for_byte() {
    let origin = refuses(1, slow_down).await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("3\r\nabc\r\n").await;
    client.send("2\r\nde\r\n0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    assert!(origin.seen().iter().all(|seen| seen.body == b"5\r\nabcde\r\n0\r\n\r\n"), "{:?}", origin.seen());
}

#[tokio::test]
async fn a_body_beyond_the_cap_streams_and_its_429_is_passed_on() {
    let origin = refuses(1, slow_down).await;
    let through = Through::to(origin.address);
    let large = body(1024 * 1024 + 1);
    let response = ask(through.address, request("POST", "/", "", &large)).await;
    assert_eq!((response.status, response.text().as_str()), (429, "slow down"));
    assert_eq!(response.field("x-why"), Some("limit"));
    assert_eq!(response.field("proxy-status"), None, "this answer is the API's");
    let response = ask(through.address, request("POST", "/", "", &large)).await;
    assert_eq!(response.status, 200);
    assert!(origin.seen().iter().all(|seen| seen.body == large));
}

#[tokio::test]
async fn when_all_memory_for_replays_is_taken_bodies_stream() {
    let origin = refuses(1, slow_down).await;
    let through = Through::with(origin.address, |proxy| proxy.replay_bytes_total_max = 1_000, fixed(1e4));
    assert_eq!(ask(through.address, request("POST", "/", "", body(1_001))).await.status, 429);
    assert_eq!(ask(through.address, request("POST", "/", "", body(5_000))).await.status, 200);
    assert_eq!(origin.seen()[1].body, body(5_000));
    assert_eq!(through.proxy.replay_bytes_in_use(), 0);
}

#[tokio::test]
async fn the_policy_says_what_is_sent_again() {
    for (policy, method, again) in [
        (ReplayPolicy::All, "POST", true),
        (ReplayPolicy::All, "PATCH", true),
        (ReplayPolicy::Idempotent, "POST", false),
        (ReplayPolicy::Idempotent, "PUT", true),
        (ReplayPolicy::Idempotent, "GET", true),
        (ReplayPolicy::None, "GET", false),
        (ReplayPolicy::None, "POST", false),
    ] {
        let origin = refuses(1, slow_down).await;
        let through = Through::with(origin.address, |proxy| proxy.replay_on_429 = policy, fixed(1e4));
        let response = ask(through.address, request(method, "/", "", "x")).await;
        assert_eq!(response.status, if again { 200 } else { 429 }, "{policy:?} {method}");
        assert_eq!(origin.seen().len(), if again { 2 } else { 1 });
    }
}

#[tokio::test]
async fn a_refusal_with_a_large_body_is_passed_on_whole() {
    let origin = refuses(1, || reply("429 Too Many Requests", "", &"x".repeat(200_000))).await;
    let through = Through::to(origin.address);
    let response = ask(through.address, request("POST", "/", "", "abc")).await;
    assert_eq!((response.status, response.body.len(), response.whole), (429, 200_000, true));
}

#[tokio::test]
async fn a_refusal_before_the_body_was_asked_for_leaves_it_with_the_client() {
    let left = AtomicUsize::new(1);
    let origin = Origin::hasty(move |_| {
        let refuse =
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if refuse {
            slow_down()
        } else {
            Reply::Bytes(
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
            )
        }
    })
    .await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn a_refusal_that_cannot_be_waited_out_is_the_api_s_own_answer() {
    let refusal = || reply("429 Too Many Requests", "Retry-After: 30\r\nX-Why: limit\r\n", "slow down");
    let origin = refuses(1_000, refusal).await;
    let mut short = fixed(1e4);
    short.queue.deadline = Duration::from_secs(2);
    let through = Through::with(origin.address, |_| (), short);
    let response = ask(through.address, request("POST", "/", "", "abc")).await;
    assert_eq!((response.status, response.text().as_str()), (429, "slow down"));
    assert_eq!((response.field("retry-after"), response.field("x-why")), (Some("30"), Some("limit")));
    assert_eq!(response.field("proxy-status"), None);
}

#[tokio::test]
async fn a_wait_that_a_drain_cuts_short_is_answered_by_us() {
    let refusal = || reply("429 Too Many Requests", "Retry-After: 60\r\n", "slow down");
    let origin = refuses(1_000, refusal).await;
    let mut through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    client.send(request("POST", "/", "", "abc")).await;
    eventually("it was refused", || through.told.attempts().len() == 1).await;
    through.drain(Duration::from_millis(500));
    let response = client.response().await;
    assert_eq!(response.status, 503);
    assert!(response.text().contains("\"reason\":\"draining\""), "{}", response.text());
    assert!(response.field("retry-after").is_some());
    through.gone().await;
}

#[tokio::test]
async fn a_refused_head_is_answered_without_a_body() {
    let refusal = || {
        Reply::Bytes(
            b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 600\r\nContent-Length: 9\r\n\r\n".to_vec(),
        )
    };
    let origin = refuses(1_000, refusal).await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    for _ in 0..2 {
        // The second answer is where it should be: nothing stood between.
        let (status, _) = client.send(request("HEAD", "/", "", "")).await.head().await;
        assert!(matches!(status, 429 | 503), "{status}");
    }
}
