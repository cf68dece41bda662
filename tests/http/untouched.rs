//! What is the API's and the client's business passes as it came: bodies, validators, ranges, cookies, dates, CORS.

use super::client::{Client, ask, find, request};
use super::origin::{Origin, Reply, Seen, reply};
use super::through::Through;

/// Fields as a head has them.
fn lines(fields: &[(&str, &str)]) -> String {
    fields.iter().fold(String::new(), |lines, (name, value)| lines + name + ": " + value + "\r\n")
}

#[tokio::test]
async fn ranges_validators_and_codings_pass() {
    // Looks like gzip, and is no text.
    let body: Vec<u8> = [0x1f, 0x8b, 8, 0].into_iter().chain((0..=255).rev()).collect();
    let head = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-264/9999\r\nETag: W/\"a,b\"\r\n\
                Content-Encoding: gzip\r\nContent-Type: text/plain; charset=\"x\"\r\nVary: Accept-Encoding, *\r\n\
                Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nAccept-Ranges: bytes\r\nAge: 7\r\n\
                Cache-Control: public, max-age=60\r\nContent-Length: 260\r\n\r\n";
    let answer = [head.as_bytes(), &body].concat();
    let origin = Origin::start(move |_| Reply::Bytes(answer.clone())).await;
    let through = Through::to(origin.address);
    let asked = [
        ("range", "bytes=5-264"),
        ("if-range", "W/\"a,b\""),
        ("if-none-match", "\"x\", W/\"y\""),
        ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("accept-encoding", "gzip;q=0.5, br, *;q=0"),
        ("content-encoding", "br"),
        ("accept", "a/b;q=0.1 , */*"),
    ];
    let fields = lines(&asked);
    let response = ask(through.address, request("PUT", "/", &fields, &body)).await;
    let seen = &origin.seen()[0];
    for (name, value) in asked {
        assert_eq!(seen.field(name), Some(value), "{}", seen.head);
    }
    assert_eq!(seen.body, body);
    assert_eq!((response.status, &response.body), (206, &body));
    for line in head.lines().skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(response.field(&name.to_ascii_lowercase()), Some(value), "{response:?}");
    }
}

#[tokio::test]
async fn cookies_keep_their_order_and_old_bytes_their_value() {
    let head = b"HTTP/1.1 200 OK\r\nSet-Cookie: b=2; Path=/\r\nX-Old: caf\xe9\r\nSet-Cookie: a=1\r\n\
                 Set-Cookie: b=2; Path=/\r\nX-New: \xc3\xa9\r\nContent-Length: 0\r\n\r\n";
    let origin = Origin::start(move |_| Reply::Last(head.to_vec())).await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    client
        .send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-New: \xc3\xa9 \xe2\x82\xac\r\n\r\n")
        .await;
    let answer = client.rest().await;
    assert!(
        find(&answer, b"\r\nx-old: caf\xe9\r\n").is_some()
            && find(&answer, b"\r\nx-new: \xc3\xa9\r\n").is_some()
    );
    let text = String::from_utf8_lossy(&answer).into_owned();
    let cookies: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("set-cookie: ")).collect();
    assert_eq!(cookies, ["b=2; Path=/", "a=1", "b=2; Path=/"]);
    assert_eq!(origin.seen()[0].field("x-new"), Some("é €"));
}

#[tokio::test]
async fn a_date_and_a_server_that_are_there_stay() {
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let origin = Origin::start(move |seen: &Seen| {
        reply(
            "200 OK",
            &format!("{}Server: theirs/1\r\n", if seen.line == "GET /dated" { date } else { "" }),
            "ok",
        )
    })
    .await;
    let through = Through::to(origin.address);
    for target in ["/dated", "/undated"] {
        let response = ask(through.address, request("GET", target, "", "")).await;
        let all = |name: &str| {
            response.fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect::<Vec<_>>()
        };
        assert_eq!(all("server"), ["theirs/1"]);
        // One without gets the time at which it came (RFC 9110 6.6.1).
        assert_eq!(all("date").len(), 1, "{response:?}");
        assert_eq!(all("date")[0] == "Sun, 06 Nov 1994 08:49:37 GMT", target == "/dated");
    }
}

#[tokio::test]
async fn too_early_is_an_answer_and_nothing_is_sent_again() {
    let origin = Origin::start(|_| reply("425 Too Early", "X-Why: early\r\n", "later")).await;
    let through = Through::to(origin.address);
    for method in ["GET", "POST"] {
        let response = ask(through.address, request(method, "/", "Early-Data: 1\r\n", "")).await;
        assert_eq!((response.status, response.text().as_str()), (425, "later"));
        assert_eq!((response.field("x-why"), response.field("proxy-status")), (Some("early"), None));
    }
    assert_eq!(origin.seen().len(), 2);
    assert!(
        origin.seen().iter().all(|seen| seen.field("early-data") == Some("1")),
        "whoever said it, it holds"
    );
}

#[tokio::test]
async fn a_preflight_is_the_api_s_to_answer_and_nothing_is_added_to_cors() {
    let cors = "access-control-allow-origin: https://app.example\r\naccess-control-allow-methods: PUT\r\n\
                access-control-allow-headers: x-token\r\naccess-control-max-age: 600\r\n\
                access-control-expose-headers: x-request-id\r\nvary: Origin\r\n\
                timing-allow-origin: https://app.example\r\n";
    let origin = Origin::start(move |seen: &Seen| {
        let is_preflight = seen.line.starts_with("OPTIONS");
        reply(
            if is_preflight { "204 No Content" } else { "200 OK" },
            cors,
            if is_preflight { "" } else { "ok" },
        )
    })
    .await;
    let through = Through::to(origin.address);
    let asked = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "x-token"),
    ];
    let fields = lines(&asked);
    for (method, status) in [("OPTIONS", 204), ("PUT", 200)] {
        let response = ask(through.address, request(method, "/", &fields, "")).await;
        assert_eq!(response.status, status);
        let seen = origin.seen().last().unwrap().clone();
        assert!(asked.iter().all(|(name, value)| seen.field(name) == Some(value)), "{}", seen.head);
        let about: Vec<_> = (response.fields.iter())
            .filter(|(name, _)| {
                name.starts_with("access-control-") || name.contains("origin") || name == "vary"
            })
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        assert_eq!(about.concat(), cors);
        assert!(response.field("server-timing").is_some(), "it is there, for those who may see it");
    }
}
