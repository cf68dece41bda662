//! How answers are delimited, whatever the origin says; in which order they come, and who is still there to hear them.

use super::client::{Client, ask, find, request};
use super::origin::{Origin, Reply, Seen, ok, reply};
use super::through::{Through, eventually};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

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
    // Who says both may have been led to it: its connection brings no other answer (RFC 9112 6.3).
    let both =
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let origin = Origin::start(|_| Reply::Bytes(both.to_vec())).await;
    let through = Through::to(origin.address);
    for asked in 1..=2 {
        assert_eq!(ask(through.address, request("GET", "/", "", "")).await.text(), "ok");
        assert_eq!(origin.connections(), asked);
    }
}

#[tokio::test]
async fn answers_that_are_none_are_a_502() {
    let many = |line: &str, count| format!("HTTP/1.1 200 OK\r\n{}\r\nok", line.repeat(count));
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(140_000));
    let fields = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nok");
    let lines = |line: &str| format!("{line}\r\nContent-Length: 2\r\n\r\nok");
    let answers = [
        // Lengths and codings that leave a choice.
        fields("Content-Length: 2\r\nContent-Length: 3"),
        fields("Content-Length: 2, 3"),
        fields("Content-Length: 2, 2"),
        fields("Content-Length: x"),
        fields("Content-Length:"),
        fields("Content-Length: -1"),
        fields("Content-Length: +2"),
        fields("Content-Length: 0x2"),
        fields("Content-Length: 99999999999999999999"),
        fields("Transfer-Encoding: gzip, chunked"),
        fields("Transfer-Encoding: chunked, chunked"),
        fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        fields("Transfer-Encoding: identity\r\nContent-Length: 2"),
        fields("Transfer-Encoding: xchunked"),
        fields("Transfer-Encoding: \"chunked\""),
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(),
        // Fields that are none.
        fields("X Y: z\r\nContent-Length: 2"),
        fields("X: y\0z\r\nContent-Length: 2"),
        fields("X: y\rz\r\nContent-Length: 2"),
        fields("X: y\nContent-Length: 2"),
        fields("X: y\r\n folded: z\r\nContent-Length: 2"),
        fields(" X: y\r\nContent-Length: 2"),
        fields("Content-Length : 2"),
        fields("no colon\r\nContent-Length: 2"),
        fields(": nameless\r\nContent-Length: 2"),
        fields("X\u{e9}: y\r\nContent-Length: 2"),
        // Beginnings that are none.
        lines("HTTP/1.1 2x0 OK"),
        lines("HTTP/1.1 0 OK"),
        lines("HTTP/1.1 20 OK"),
        lines("HTTP/1.1 2000 OK"),
        lines("HTTP/1.1 099 OK"),
        lines("HTTP/1.1  200 OK"),
        lines("HTTP/1.1\t200 OK"),
        lines("HTTP/1.1 200 O\0K"),
        lines("HTTP/1.1"),
        lines("HTTP/1.2 200 OK"),
        lines("HTTP/3.7 200 OK"),
        lines("HTTP/11 200 OK"),
        lines("http/1.1 200 OK"),
        lines("ICY 200 OK"),
        lines("\r\nHTTP/1.1 200 OK"),
        "200 OK\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok".to_owned(),
        "<html>no end of line".to_owned(),
        "\0\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\r\n\r\n".to_owned(),
        // More than there may be.
        many("X: y\r\n", 201),
        long,
        format!("{}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 102 P\r\n\r\n".repeat(101)),
    ];
    for answer in answers {
        let (origin, through) = saying(answer.clone()).await;
        let response = ask(through.address, request("POST", "/", "", "abc")).await;
        let start = answer.get(..60).unwrap_or(&answer);
        assert_eq!(response.status, 502, "{start:?}: {response:?}");
        let said = response.field("proxy-status").unwrap();
        assert!(said.starts_with("tidegate; error=http_protocol_error; "), "{start:?}: {said}");
        assert_eq!(origin.seen().len(), 1, "{start:?}: it is not asked again");
    }
}

#[tokio::test]
async fn a_body_that_is_none_is_not_whole() {
    let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let long = format!("3;x={}\r\nabc\r\n0\r\n\r\n", "y".repeat(20_000));
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_owned(),
        chunked("3\r\nabc\r\n"),
        chunked("3\r\nabc\r\n0\r\n"),
        chunked("3\r\nabc\r\n0\r\nX: y\r\n"),
        chunked("3\r\nabcd\r\n0\r\n\r\n"),
        chunked("3\nabc\n0\n\n"),
        chunked("0x3\r\nabc\r\n0\r\n\r\n"),
        chunked("-3\r\nabc\r\n0\r\n\r\n"),
        chunked("3 x\r\nabc\r\n0\r\n\r\n"),
        chunked("\r\n3\r\nabc\r\n0\r\n\r\n"),
        chunked("ffffffffffffffff\r\nabc"),
        chunked("10000000000000003\r\nabc\r\n0\r\n\r\n"),
        chunked("3;=\r\nabc\r\n0\r\n\r\n"),
        chunked("3\r\nabc\r\n0\r\nno colon\r\n\r\n"),
        chunked("3\r\nabc\r\n0\r\nX : y\r\n\r\n"),
        chunked(&format!("3\r\nabc\r\n0\r\n{}\r\n", "X: y\r\n".repeat(201))),
        chunked(&long),
    ] {
        let (origin, through) = saying(answer.clone()).await;
        let response = ask(through.address, request("GET", "/", "", "")).await;
        assert!(!response.whole, "{answer:?}: {response:?}");
        assert_eq!(origin.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_length_that_is_said_twice_alike_is_one() {
    let (_origin, through) =
        saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nok").await;
    let mut client = Client::connect(through.address).await;
    // What a HEAD is answered with passes as it is.
    let (status, fields) = client.send(request("HEAD", "/", "", "")).await.head().await;
    let lengths: Vec<_> = fields.iter().filter(|(name, _)| name == "content-length").collect();
    assert_eq!((status, lengths.len()), (200, 1), "{fields:?}");
    assert_eq!(ask(through.address, request("GET", "/", "", "")).await.text(), "ok");
}

#[tokio::test]
async fn an_answer_and_its_request_may_pass_each_other() {
    const SIZE: usize = 6_000_000;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = Through::to(listener.local_addr().unwrap());
    let origin = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 1_024];
        let first = stream.read(&mut head).await.unwrap();
        let at = find(&head[..first], b"\r\n\r\n").unwrap() + 4;
        let (mut from, mut to) = stream.split();
        let answer = async {
            to.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())
                .await
                .unwrap();
            to.write_all(&vec![b'a'; SIZE]).await.unwrap();
        };
        let read = async {
            let mut left = SIZE - (first - at);
            let mut bytes = vec![0; 65_536];
            while left > 0 {
                left -= from.read(&mut bytes).await.unwrap();
            }
        };
        tokio::join!(answer, read);
    };
    // A client that listens only when it has said all.
    let client = async {
        let mut client = Client::connect(through.address).await;
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        client.send(vec![b'x'; SIZE]).await;
        client.response().await
    };
    let both = async { tokio::join!(origin, client) };
    let ((), response) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("neither waits");
    assert_eq!((response.status, response.body.len(), response.whole), (200, SIZE, true));
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
