//! Fields that concern one connection, and those that say which way a request came and how far it may go.

use super::client::{Client, ask, request};
use super::origin::{Origin, Seen, reply};
use super::through::{Through, fixed};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidegate::config::{ForwardedMode, ProxySettings};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What the origin saw of one request with these fields.
async fn seen_of(through: &Through, origin: &Origin, method: &str, fields: &str) -> Seen {
    let response = ask(through.address, request(method, "/", fields, "")).await;
    assert_eq!(response.status, 200, "{method} {fields}: {}", response.text());
    origin.seen().last().unwrap().clone()
}

#[tokio::test]
async fn fields_of_one_connection_go_no_further() {
    let origin = Origin::start(|_| {
        let fields = "Connection: X-One, x-two\r\nConnection: , X-Three\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\n\
                      Keep-Alive: timeout=9\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nX-Keep: 4\r\n";
        reply("200 OK", fields, "ok")
    })
    .await;
    let through = Through::to(origin.address);
    let fields = "Connection: X-One, x-two\r\nConnection: keep-alive, , X-Three\r\nX-One: 1\r\nX-Two: 2\r\n\
                  X-Three: 3\r\nKeep-Alive: timeout=9\r\nProxy-Connection: close\r\nTE: gzip\r\nUpgrade: h2c\r\n\
                  X-Keep: 4\r\n";
    let response = ask(through.address, request("GET", "/", fields, "")).await;
    let seen = &origin.seen()[0];
    let hops = ["x-one", "x-two", "x-three", "proxy-connection", "upgrade"];
    for gone in hops.iter().chain(&["keep-alive", "te", "connection", "transfer-encoding"]) {
        assert_eq!(seen.field(gone), None, "{gone} reached the origin: {}", seen.head);
    }
    for gone in hops {
        assert_eq!(response.field(gone), None, "{gone} reached the client: {response:?}");
    }
    assert_eq!((seen.field("x-keep"), response.field("x-keep")), (Some("4"), Some("4")));
    // These two are ours: what the origin does with its connection is no concern of the client's.
    assert_eq!(response.field("connection"), Some("keep-alive"));
    assert_eq!(response.field("keep-alive"), Some("timeout=74"));
}

#[tokio::test]
async fn connection_takes_nothing_away_that_is_meant_for_the_end() {
    let origin = Origin::start(|_| {
        let fields = "Connection: content-length, set-cookie, cache-control\r\nSet-Cookie: a=1\r\n\
                      Cache-Control: no-store\r\n";
        reply("200 OK", fields, "ok")
    })
    .await;
    let through = Through::to(origin.address);
    let fields = "Connection: host, content-length, authorization, cookie, forwarded, via\r\n\
                  Authorization: Bearer t\r\nCookie: a=1\r\nForwarded: for=10.0.0.1\r\nVia: 1.0 fred\r\n";
    let response = ask(through.address, request("POST", "/", fields, "abc")).await;
    let seen = &origin.seen()[0];
    for (name, value) in [
        ("host", origin.address.to_string().as_str()),
        ("content-length", "3"),
        ("authorization", "Bearer t"),
        ("cookie", "a=1"),
        ("forwarded", "for=10.0.0.1"),
        ("via", "1.0 fred"),
    ] {
        assert_eq!(seen.field(name), Some(value), "{name}: {}", seen.head);
    }
    assert_eq!(seen.body, b"abc");
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    for (name, value) in [("content-length", "2"), ("set-cookie", "a=1"), ("cache-control", "no-store")] {
        assert_eq!(response.field(name), Some(value), "{response:?}");
    }
}

#[tokio::test]
async fn two_proxies_in_a_ring_end_in_508() {
    // One needs an address to lead to before the other has one: what lies between them gives it, and counts.
    let between = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let first = Through::to(between.local_addr().unwrap());
    let second = Through::to(first.address);
    let passed = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    tasks.spawn(relay(between, second.address, Arc::clone(&passed)));

    let response = ask(first.address, request("GET", "/", "", "")).await;
    assert_eq!(response.status, 508);
    assert!(response.field("proxy-status").unwrap().contains("proxy_loop_detected"));
    // The answer is the last that happens: were it a storm, more would have been sent before it, or would be soon.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(passed.load(Ordering::Relaxed), 1, "it went round once");
    assert_eq!((first.told.attempts().len(), second.told.attempts().len()), (1, 1));
    assert_eq!((first.told.exchanges().len(), second.told.exchanges().len()), (2, 1));
}

async fn relay(listener: TcpListener, to: SocketAddr, passed: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    loop {
        let (mut from, _) = listener.accept().await.unwrap();
        passed.fetch_add(1, Ordering::Relaxed);
        connections.spawn(async move {
            let mut to = TcpStream::connect(to).await.unwrap();
            drop(tokio::io::copy_bidirectional(&mut from, &mut to).await);
        });
    }
}

#[tokio::test]
async fn max_forwards_is_counted_down_and_ends_here() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    for (method, said, passed) in [
        ("OPTIONS", "7", "6"),
        ("OPTIONS", "1", "0"),
        ("TRACE", "7", "6"),
        // It says something of no other method (RFC 9110 7.6.2).
        ("GET", "0", "0"),
    ] {
        let seen = seen_of(&through, &origin, method, &format!("Max-Forwards: {said}\r\n")).await;
        assert_eq!(seen.field("max-forwards"), Some(passed), "{method} {said}");
    }
    let before = origin.seen().len();
    for (method, said, status) in [
        ("OPTIONS", "0", 204),
        ("TRACE", "0", 405),
        ("OPTIONS", "x", 400),
        ("OPTIONS", "-1", 400),
        ("OPTIONS", "+1", 400),
        ("OPTIONS", "7\r\nMax-Forwards: 0", 400),
    ] {
        let fields = format!("Max-Forwards: {said}\r\n");
        let response = ask(through.address, request(method, "/", &fields, "")).await;
        assert_eq!(response.status, status, "{method} {said}");
        assert_eq!(response.field("allow").is_some(), status != 400);
    }
    assert_eq!(origin.seen().len(), before);
}

#[tokio::test]
async fn te_is_made_anew() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    for (fields, te, connection) in [
        ("TE: trailers\r\nConnection: TE\r\n", Some("trailers"), Some("te")),
        ("TE: gzip, trailers;q=0.5\r\n", Some("trailers"), Some("te")),
        ("TE: gzip;q=1.0\r\nTE: Trailers\r\n", Some("trailers"), Some("te")),
        ("TE: gzip, deflate\r\n", None, None),
        ("TE: x-trailers\r\n", None, None),
        ("TE:\r\n", None, None),
    ] {
        let seen = seen_of(&through, &origin, "GET", fields).await;
        assert_eq!((seen.field("te"), seen.field("connection")), (te, connection), "{fields}");
    }
}

#[tokio::test]
async fn an_upgrade_is_answered_as_if_nobody_had_asked_for_it() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    for (fields, more) in [
        (
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n",
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        ),
        ("Connection: HTTP2-Settings\r\nUpgrade: h2c\r\n", "HTTP2-Settings: AAMAAABk\r\n"),
        ("Upgrade: h2c\r\n", "HTTP2-Settings: AAMAAABk\r\n"),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", "Sec-WebSocket-Version: 13\r\n"),
        ("Connection: Upgrade\r\nUpgrade: TLS/1.0, HTTP/1.1\r\n", ""),
    ] {
        let seen = seen_of(&through, &origin, "GET", &format!("{fields}{more}")).await;
        for gone in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(seen.field(gone), None, "{}", seen.head);
        }
    }
    // What follows on such a connection is HTTP/1.1 as before.
    let mut client = Client::connect(through.address).await;
    let asks = request("GET", "/", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "");
    assert_eq!(client.send(&asks).await.response().await.status, 200);
    assert_eq!(client.send(request("GET", "/next", "", "")).await.response().await.status, 200);
    assert_eq!(origin.seen().last().unwrap().line, "GET /next");
}

#[tokio::test]
async fn who_asks_is_told_as_the_operator_wants_it() {
    let claims = "Forwarded: for=1.1.1.1\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n\
                  X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\n";
    let taken_away = "Connection: forwarded, x-forwarded-for, x-forwarded-host, x-forwarded-proto\r\n";
    let own = [
        Some("for=127.0.0.1;host=\"proxy.test\";proto=http"),
        Some("127.0.0.1"),
        Some("proxy.test"),
        Some("http"),
    ];
    let claimed = [Some("for=1.1.1.1"), Some("1.1.1.1"), Some("evil.example"), Some("https")];
    let both = [
        Some("for=1.1.1.1, for=127.0.0.1;host=\"proxy.test\";proto=http"),
        Some("1.1.1.1, 2.2.2.2, 127.0.0.1"),
        Some("evil.example"),
        Some("https"),
    ];
    for (mode, trusted, fields, expected) in [
        (ForwardedMode::Pass, None, claims, claimed),
        (ForwardedMode::Pass, None, "", [None; 4]),
        (ForwardedMode::Off, Some("127.0.0.0/8"), claims, [None; 4]),
        (ForwardedMode::Replace, Some("127.0.0.0/8"), claims, own),
        (ForwardedMode::Append, None, claims, own),
        (ForwardedMode::Append, Some("10.0.0.0/8"), claims, own),
        (ForwardedMode::Append, Some("127.0.0.0/8"), claims, both),
        (ForwardedMode::Append, Some("127.0.0.0/8"), "", own),
        // Nobody has ours taken away by naming it.
        (ForwardedMode::Append, None, taken_away, own),
    ] {
        let origin = Origin::friendly().await;
        let set = |proxy: &mut ProxySettings| {
            proxy.forwarded.mode = mode;
            proxy.forwarded.trusted = trusted.iter().map(|network| network.parse().unwrap()).collect();
        };
        let through = Through::with(origin.address, set, fixed(10_000.0));
        let seen = seen_of(&through, &origin, "GET", fields).await;
        let names = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
        assert_eq!(names.map(|name| seen.field(name)), expected, "{mode:?} {trusted:?} {fields}");
    }
}
