//! How answers are delimited, whatever the origin says; in which order they come, and who is still there to hear them.

use super::client::{Client, ask, request};
use super::origin::{Origin, Reply, Seen, ok, reply};
use super::through::{Through, eventually};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// An origin that answers with these bytes and closes.
async fn saying(answer: impl Into<Vec<u8>>) -> (Origin, Through) {
    let answer = answer.into();
    let origin = Origin::start(move |_| Reply::Last(answer.clone())).await;
    let through = Through::to(origin.address);
    (origin, through)
}

#[tokio::test]
async fn a_length_beside_a_coding_is_dropped() {
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 30",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n6\r\nwhole!\r\n0\r\n\r\n");
        let (_origin, through) = saying(answer).await;
        let response = ask(through.address, request("GET", "/", "", "")).await;
        assert_eq!((response.status, response.text().as_str(), response.whole), (200, "whole!", true));
        assert_eq!(response.field("content-length"), None);
        assert_eq!(response.field("transfer-encoding"), Some("chunked"));
    }
}

#[tokio::test]
async fn answers_that_are_none_are_a_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nokk",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX Y: z\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: y\0z\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 0 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/3.7 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "200 OK\r\n\r\nok",
        "\0\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\r\n\r\n",
    ] {
        let (origin, through) = saying(answer).await;
        let response = ask(through.address, request("POST", "/", "", "abc")).await;
        assert_eq!(response.status, 502, "{answer}: {response:?}");
        let said = response.field("proxy-status").unwrap();
        assert!(said.starts_with("tidegate; error=http_protocol_error; "), "{answer}: {said}");
        assert_eq!(origin.seen().len(), 1, "{answer}: it is not asked again");
    }
}

#[tokio::test]
async fn bytes_after_an_answer_are_nobody_s() {
    let poison = "HTTP/1.1 200 OK\r\nX-Whose: nobody's\r\nContent-Length: 6\r\n\r\npoison";
    let origin = Origin::start(move |seen: &Seen| {
        let first = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        if seen.line == "GET /first" { Reply::Bytes(format!("{first}{poison}").into()) } else { ok("second") }
    })
    .await;
    let through = Through::to(origin.address);
    for _ in 0..5 {
        assert_eq!(ask(through.address, request("GET", "/first", "", "")).await.text(), "ok");
        let second = ask(through.address, request("GET", "/second", "", "")).await;
        assert_eq!((second.text().as_str(), second.field("x-whose")), ("second", None));
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_their_fields_and_their_connection() {
    let origin = Origin::start(|seen: &Seen| {
        Reply::Bytes(match seen.line.as_str() {
            "HEAD /length" => b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nETag: \"a\"\r\n\r\n".to_vec(),
            "HEAD /chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            "GET /204" => b"HTTP/1.1 204 No Content\r\nX-Kept: 1\r\n\r\n".to_vec(),
            "GET /304" => {
                b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5000\r\n\r\n".to_vec()
            }
            "GET /empty" => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast".to_vec(),
        })
    })
    .await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    for (method, target, status, length) in [
        ("HEAD", "/length", 200, Some("5000")),
        ("HEAD", "/chunked", 200, None),
        ("GET", "/204", 204, None),
        // The length that a 200 would have had (RFC 9110 8.6).
        ("GET", "/304", 304, Some("5000")),
        ("GET", "/empty", 200, Some("0")),
    ] {
        client.send(request(method, target, "", "")).await;
        let (got, fields) = client.head().await;
        let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        assert_eq!((got, field("content-length")), (status, length), "{method} {target}: {fields:?}");
        assert_eq!(field("etag").is_some(), matches!(target, "/length" | "/304"), "{target}");
        // HEAD says what GET would have said; a status that never has a body says nothing of one.
        assert!(method == "HEAD" || field("transfer-encoding").is_none(), "{target}: {fields:?}");
    }
    // Whatever body anyone had imagined would have stood before this one.
    let last = client.send(request("GET", "/last", "", "")).await.response().await;
    assert_eq!((last.status, last.text().as_str()), (200, "last"));
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let origin = Origin::start(|seen: &Seen| {
        let answer = Box::new(ok(&seen.line));
        if seen.line == "GET /slow" { Reply::After(Duration::from_millis(150), answer) } else { *answer }
    })
    .await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    let lines = ["GET /slow", "POST /a", "GET /b", "GET /c"];
    let sent = ["/slow", "/a", "/b", "/c"].map(|target| match target {
        "/a" => request("POST", target, "", "abc"),
        _ => request("GET", target, "", ""),
    });
    client.send(sent.concat()).await;
    for line in lines {
        assert_eq!(client.response().await.text(), line);
    }
}

#[tokio::test]
async fn an_answer_may_come_before_the_upload_has_ended() {
    let origin = Origin::hasty(|_| reply("413 Content Too Large", "Connection: close\r\n", "too much")).await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n").await;
    // More than is kept for a replay, so that it is on its way to the origin, and far from all of it.
    client.send(vec![b'x'; 1_200_000]).await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (413, "too much"));
    assert_eq!(response.field("proxy-status"), None, "it is the origin's");
}

#[tokio::test]
async fn a_client_that_closes_its_half_has_left() {
    let origin = Origin::start(|_| Reply::Silence).await;
    let through = Through::to(origin.address);
    for (done, body) in [(1, ""), (2, "abc")] {
        let mut client = Client::connect(through.address).await;
        client.send(request("POST", "/", "", body)).await;
        eventually("it arrived", || origin.seen().len() == done).await;
        client.stream.shutdown().await.unwrap();
        eventually("it was cancelled", || origin.cancelled() == done).await;
        assert_eq!(client.rest().await, b"", "nobody is answered");
    }
    eventually("both are told", || through.told.exchanges().len() == 2).await;
    assert!(through.told.exchanges().iter().all(|exchange| exchange.status.as_u16() == 499));
}
