//! What RFC 9110 and 9112 ask of an intermediary, seen from both sides.

use super::client::{Client, ask, request};
use super::origin::{Origin, Reply, ok, reply};
use super::through::{Through, eventually};
use std::time::Duration;
use tidegate::config::Config;
use tidegate::gate::clock;

#[tokio::test]
async fn heads_are_cleaned_and_everything_else_stays() {
    let origin = Origin::start(|_| {
        reply("200 OK", "Connection: X-Drop\r\nX-Drop: 1\r\nKeep-Alive: timeout=9\r\nServer-Timing: db;dur=1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n", "hi")
    })
    .await;
    let through = Through::to(origin.address);
    let fields = "Connection: X-Gone\r\nX-Gone: 1\r\nTE: trailers\r\nProxy-Authorization: Basic c2VjcmV0\r\n\
                  Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nVia: 1.0 fred\r\nX-Forwarded-For: 10.0.0.1\r\n";
    let response = ask(through.address, request("GET", "/a%2Fb/../c//d;x=1?q=%20a+b&&", fields, "")).await;

    let seen = &origin.seen()[0];
    assert_eq!(seen.line, "GET /a%2Fb/../c//d;x=1?q=%20a+b&&");
    assert_eq!(seen.field("host"), Some(origin.address.to_string().as_str()));
    for gone in
        ["x-gone", "proxy-authorization", "upgrade", "http2-settings", "transfer-encoding", "content-length"]
    {
        assert_eq!(seen.field(gone), None, "{}", seen.head);
    }
    assert_eq!(seen.field("te"), Some("trailers"));
    assert_eq!(seen.field("x-forwarded-for"), Some("10.0.0.1"));
    let vias: Vec<_> = seen.head.lines().filter_map(|line| line.strip_prefix("via: ")).collect();
    assert!(matches!(vias[..], ["1.0 fred", ours] if ours.starts_with("1.1 tidegate-")), "{}", seen.head);

    assert_eq!(response.status, 200);
    assert_eq!(response.text(), "hi");
    assert_eq!(response.field("x-drop"), None);
    assert_eq!(response.field("keep-alive"), Some("timeout=74"), "ours, not the upstream's");
    let all = |name: &str| -> Vec<_> {
        response.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(all("server-timing").len(), 2);
    assert!(all("server-timing")[1].starts_with("queue;dur="), "{:?}", all("server-timing"));
    assert!(all("server-timing")[1].ends_with("retries;desc=\"0\""));
}

#[tokio::test]
async fn a_request_that_comes_round_again_is_a_loop() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    ask(through.address, request("GET", "/", "", "")).await;
    let via = origin.seen()[0].field("via").unwrap().to_owned();
    let response = ask(through.address, request("GET", "/", &format!("Via: {via}\r\n"), "")).await;
    assert_eq!(response.status, 508);
    assert!(response.field("proxy-status").unwrap().contains("proxy_loop_detected"));
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn framing_stays_what_the_client_sent() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    ask(through.address, request("GET", "/none", "", "")).await;
    ask(through.address, request("POST", "/zero", "Content-Length: 0\r\n", "")).await;
    ask(through.address, request("POST", "/length", "", "abc")).await;
    let chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    ask(through.address, format!("POST /chunked HTTP/1.1\r\nHost: a\r\n{chunked}")).await;
    let trailed = "Trailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: v\r\n\r\n";
    let mut last = Client::connect(through.address).await;
    last.send(format!("POST /trailers HTTP/1.1\r\nHost: a\r\n{trailed}")).await;
    eventually("all arrived", || origin.bytes() > 0 && origin.seen().len() >= 4).await;

    let seen = origin.seen();
    let framing: Vec<_> =
        seen.iter().map(|seen| (seen.field("content-length"), seen.field("transfer-encoding"))).collect();
    assert_eq!(framing[..4], [(None, None), (Some("0"), None), (Some("3"), None), (None, Some("chunked"))]);
    assert_eq!(seen[3].body, b"3\r\nabc\r\n0\r\n\r\n");
}

#[tokio::test]
async fn absolute_form_is_served_for_the_upstream_alone() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let absolute =
        |authority: &str| format!("GET http://{authority}/x?y HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    assert_eq!(ask(through.address, absolute(&origin.address.to_string())).await.status, 200);
    assert_eq!(origin.seen()[0].line, "GET /x?y");

    let other = ask(through.address, absolute("other.example")).await;
    assert_eq!(other.status, 403);
    assert!(other.text().contains("--upstream"), "{}", other.text());
    assert_eq!(other.field("content-type"), Some("application/problem+json"));

    let tunnel =
        ask(through.address, "CONNECT other.example:443 HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
    assert_eq!(tunnel.status, 501);
    assert!(tunnel.text().contains("http://"), "{}", tunnel.text());
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n\r\n", 405),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nX-API-Key: t\r\n\r\n", 405),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nCookie: t\r\n\r\n", 405),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na", 400),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 204),
    ] {
        let response = ask(through.address, bytes).await;
        assert_eq!(response.status, status, "{bytes}");
        assert!(response.field("proxy-status").unwrap().starts_with("tidegate; error="));
        assert!(response.field("server-timing").is_some());
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn options_asterisk_reaches_the_upstream() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    assert_eq!(ask(through.address, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
    assert_eq!(origin.seen()[0].line, "OPTIONS *");
    // Without any path the absolute form is the same, whose last proxy says so (RFC 9112 3.2.4).
    for (path, expected) in
        [("", "OPTIONS *"), ("/", "OPTIONS /"), ("?x", "OPTIONS /?x"), ("/a", "OPTIONS /a")]
    {
        let target = format!("OPTIONS http://{}{path} HTTP/1.1\r\nHost: a\r\n\r\n", origin.address);
        assert_eq!(ask(through.address, target).await.status, 200);
        assert_eq!(origin.seen().last().unwrap().line, expected);
    }
    let got = format!("GET http://{} HTTP/1.1\r\nHost: a\r\n\r\n", origin.address);
    assert_eq!(ask(through.address, got).await.status, 200);
    assert_eq!(origin.seen().last().unwrap().line, "GET /");
}

#[tokio::test]
async fn truncation_and_nonsense_are_never_a_clean_end() {
    let origin = Origin::start(|seen| match seen.line.as_str() {
        "GET /short" => Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()),
        "GET /chunk" => {
            Reply::Last(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec())
        }
        "GET /both" => Reply::Last(
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
                .to_vec(),
        ),
        "GET /junk" => Reply::Last(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()),
        "GET /upgrade" => Reply::Last(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec(),
        ),
        "GET /nothing" => Reply::Last(Vec::new()),
        _ => ok("ok"),
    })
    .await;
    let through = Through::to(origin.address);
    let get = |path: &'static str| ask(through.address, request("GET", path, "", ""));
    for path in ["/short", "/chunk"] {
        let response = get(path).await;
        assert_eq!(
            (response.status, response.text().as_str(), response.whole),
            (200, "abc", false),
            "{path}"
        );
    }
    let both = get("/both").await;
    assert_eq!((both.status, both.text().as_str(), both.whole), (200, "a", true));
    for (path, word) in [
        ("/junk", "http_protocol_error"),
        ("/upgrade", "http_protocol_error"),
        ("/nothing", "connection_terminated"),
    ] {
        let response = get(path).await;
        assert_eq!(response.status, 502, "{path}");
        assert!(response.field("proxy-status").unwrap().contains(word), "{path} {response:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_502_that_says_so() {
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let through = Through::to(nobody);
    let response = ask(through.address, request("POST", "/", "", "abc")).await;
    assert_eq!(response.status, 502);
    assert!(response.field("proxy-status").unwrap().contains("error=connection_refused"));
    assert!(response.text().contains(&nobody.to_string()), "{}", response.text());
    let exchange = &through.told.exchanges()[0];
    assert_eq!(exchange.local_error, Some("connection_refused"));
    assert_eq!(exchange.status, 502);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_502_that_says_so() {
    let through = Through::of(&Config::new("http://does-not-exist.invalid".parse().unwrap()));
    let response = ask(through.address, request("GET", "/", "", "")).await;
    assert_eq!(response.status, 502);
    assert!(response.field("proxy-status").unwrap().contains("error=dns_error"), "{response:?}");
    assert!(response.text().contains("--upstream"));
}

#[tokio::test]
async fn expect_is_answered_by_the_origin_s_word() {
    let origin = Origin::hasty(|seen| match seen.line.as_str() {
        "POST /no" => reply("401 Unauthorized", "", "no"),
        _ => Reply::Bytes(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
        ),
    })
    .await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    client.send("POST /no HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    assert_eq!(client.head().await.0, 401, "the final answer comes first, and uninvited is the body");

    let mut client = Client::connect(through.address).await;
    client.send("POST /yes HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    // The connection whose request body was never sent is not used again.
    eventually("both came on their own connections", || origin.connections() == 2).await;
}

#[tokio::test]
async fn who_does_not_wait_to_be_asked_is_not_waited_for() {
    // Who speaks HTTP/1.0, whose body is here already, and who has none: of this API each would be asked for it after a
    // second (RFC 9110 10.1.1).
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let large = format!("Content-Length: 300000\r\n\r\n{}", "a".repeat(300_000));
    for (version, rest, length) in [
        ("1.0", "Content-Length: 3\r\n\r\nabc", 3),
        ("1.1", "Content-Length: 3\r\n\r\nabc", 3),
        ("1.1", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 13),
        ("1.1", "Content-Length: 0\r\n\r\n", 0),
        ("1.1", &large, 300_000),
    ] {
        let before = origin.seen().len();
        let start = clock::now();
        let request = format!("POST / HTTP/{version}\r\nHost: a\r\nExpect: 100-continue\r\n{rest}");
        let response = ask(through.address, request).await;
        assert_eq!(response.status, 200);
        let seen = &origin.seen()[before];
        assert_eq!((seen.field("expect"), seen.body.len()), (None, length), "{rest:.40}");
        assert!(clock::now() - start < Duration::from_millis(900));
    }
}

#[tokio::test]
async fn http10_is_understood_and_http11_is_spoken() {
    let origin = Origin::start(|_| {
        Reply::Bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec())
    })
    .await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let (status, fields) = client.head().await;
    assert_eq!(status, 200);
    assert!(!fields.iter().any(|(name, _)| name == "transfer-encoding"));
    assert_eq!(client.rest().await, b"abc");
    assert!(origin.seen()[0].head.starts_with("GET / HTTP/1.1\r\n"));
}
