//! Connections to the upstream: how many there are, who gets one, and how long each is used.

use super::client::{self, ask, request};
use super::origin::{Origin, Reply, ok};
use super::paused::Handing;
use super::through::{Through, eventually, fixed};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidegate::config::{Config, ProxySettings};
use tidegate::observe::{ClosedBy, Connections};
use tidegate::proxy::{Client, clients};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A proxy to `origin`, and a view of its connections.
struct Pooled {
    through: Through,
    clients: Vec<Client>,
}

impl Pooled {
    fn to(origin: &Origin, set: impl FnOnce(&mut ProxySettings)) -> Self {
        let mut config = Config::new(format!("http://{}", origin.address).parse().unwrap());
        config.lanes = fixed(10_000.0);
        set(&mut config.proxy);
        let clients = clients(&config, 1).unwrap().remove(0);
        Self { through: Through::over(&config, clients.clone()), clients }
    }

    fn connections(&self) -> Connections {
        Client::connections(&self.clients)
    }

    /// Connections that have ended for this reason.
    fn closed(&self, by: ClosedBy) -> u64 {
        let closed = self.connections().closed;
        ClosedBy::ALL.iter().zip(closed).filter(|(reason, _)| **reason == by).map(|(_, count)| count).sum()
    }

    async fn get(&self, path: &str) -> client::Response {
        ask(self.through.address, request("GET", path, "", "")).await
    }

    /// So many requests at once; what becomes of them.
    fn at_once(&self, count: usize) -> JoinSet<client::Response> {
        let mut asked = JoinSet::new();
        for n in 0..count {
            asked.spawn(ask(self.through.address, request("GET", &format!("/{n}"), "", "")));
        }
        asked
    }
}

/// Takes its time, so that requests meet.
async fn slow() -> Origin {
    Origin::start(|_| Reply::After(Duration::from_millis(40), Box::new(ok("ok")))).await
}

#[tokio::test]
async fn there_are_no_more_connections_than_there_may_be_and_the_rest_waits() {
    let origin = slow().await;
    let pooled = Pooled::to(&origin, |proxy| proxy.upstream_connections_max = 3);
    let asked = pooled.at_once(20);
    eventually("the rest waits", || pooled.connections().waiting > 0).await;
    assert!(asked.join_all().await.iter().all(|response| response.status == 200));
    assert_eq!(origin.connections(), 3);
    let seen = pooled.connections();
    assert_eq!((seen.open, seen.opened_http1, seen.waiting, seen.reused), (3, 3, 0, 17));
}

#[tokio::test]
async fn who_waits_longest_is_next() {
    let origin = slow().await;
    let pooled = Pooled::to(&origin, |proxy| proxy.upstream_connections_max = 1);
    let mut asked = JoinSet::new();
    for n in 0..6 {
        asked.spawn(ask(pooled.through.address, request("GET", &format!("/{n}"), "", "")));
        eventually("it waits", || {
            let seen = pooled.connections();
            seen.waiting + usize::try_from(seen.reused).unwrap() >= n
        })
        .await;
    }
    asked.join_all().await;
    let order: Vec<_> = origin.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(order, ["GET /0", "GET /1", "GET /2", "GET /3", "GET /4", "GET /5"]);
}

#[tokio::test]
async fn too_many_who_wait_and_who_waits_too_long_get_a_503_that_says_why() {
    let origin = Origin::start(|_| Reply::Silence).await;
    let pooled = Pooled::to(&origin, |proxy| {
        proxy.upstream_connections_max = 1;
        proxy.upstream_waiting_max = 2;
        proxy.upstream_wait = Duration::from_millis(300);
    });
    let mut asked = pooled.at_once(5);
    for word in ["too many", "too many", "too long", "too long"] {
        let response = asked.join_next().await.unwrap().unwrap();
        assert_eq!(response.status, 503);
        assert!(response.field("proxy-status").unwrap().contains("error=connection_limit_reached"));
        assert!(response.text().contains(word), "{word}: {}", response.text());
        assert!(response.text().contains("Nothing was sent"), "{}", response.text());
    }
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(pooled.connections().refused, 4);
}

#[tokio::test]
async fn a_client_that_leaves_makes_room_for_the_next() {
    let origin =
        Origin::start(|seen| if seen.line == "GET /stuck" { Reply::Silence } else { ok("ok") }).await;
    let pooled = Pooled::to(&origin, |proxy| proxy.upstream_connections_max = 1);
    let mut stuck = client::Client::connect(pooled.through.address).await;
    stuck.send(request("GET", "/stuck", "", "")).await;
    eventually("it is there", || origin.seen().len() == 1).await;
    let mut waits = client::Client::connect(pooled.through.address).await;
    waits.send(request("GET", "/gives-up", "", "")).await;
    eventually("it waits", || pooled.connections().waiting == 1).await;
    waits.leave(false);
    let mut asked = pooled.at_once(1);
    eventually("both wait", || pooled.connections().waiting >= 1).await;
    stuck.leave(false);
    assert_eq!(asked.join_next().await.unwrap().unwrap().status, 200);
    assert_eq!(pooled.closed(ClosedBy::Cut), 1);
    assert!(origin.seen().iter().all(|seen| seen.line != "GET /gives-up"));
}

#[tokio::test]
async fn the_connection_that_was_used_last_is_used_first() {
    let origin = slow().await;
    let pooled = Pooled::to(&origin, |_| ());
    pooled.at_once(3).join_all().await;
    for _ in 0..4 {
        assert_eq!(pooled.get("/").await.status, 200);
    }
    assert_eq!(origin.connections(), 3);
    assert_eq!(origin.seen().last().unwrap().turn, 4, "all on one connection");
    assert_eq!(pooled.connections().idle, 3);
}

#[tokio::test]
async fn idle_connections_are_closed_in_time_and_beyond_their_number_at_once() {
    let origin = slow().await;
    let pooled = Pooled::to(&origin, |proxy| {
        proxy.pool_idle = Duration::from_millis(500);
        proxy.pool_idle_max = 2;
    });
    pooled.at_once(5).join_all().await;
    eventually("two are kept", || pooled.connections().open == 2).await;
    assert_eq!(pooled.closed(ClosedBy::Room), 3);
    eventually("none is kept", || pooled.connections().open == 0).await;
    assert_eq!(pooled.closed(ClosedBy::Idle), 2);
}

#[tokio::test]
async fn an_idle_connection_that_ends_or_says_something_is_closed_at_once() {
    let (hand, mut taken) = mpsc::unbounded_channel();
    let hand = move |theirs| hand.send(theirs).unwrap();
    let hand = Handing { hand, room: 64 * 1024, is_http2: false };
    let mut config = Config::new("http://origin.test".parse().unwrap());
    config.lanes = fixed(10_000.0);
    config.proxy.pool_idle = Duration::from_mins(1);
    let client = Client::with_connector(hand, &config.default_upstream().address, &config.proxy);
    let pooled = Pooled { through: Through::over(&config, vec![client.clone()]), clients: vec![client] };
    for (count, last) in [(1, ""), (2, "x")] {
        let serve = async {
            let mut stream: DuplexStream = taken.recv().await.unwrap();
            assert!(stream.read(&mut [0; 1_024]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            stream
        };
        let (mut stream, response) = tokio::join!(serve, pooled.get("/"));
        assert_eq!(response.text(), "ok");
        assert_eq!(pooled.connections().idle, 1);
        // Either has to be noticed while nobody asks for the connection.
        stream.write_all(last.as_bytes()).await.unwrap();
        let _kept = (!last.is_empty()).then_some(stream);
        eventually("it is closed", || pooled.connections().open == 0).await;
        assert_eq!(pooled.closed(ClosedBy::Upstream), count);
    }
}

#[tokio::test]
async fn a_connection_is_not_used_beyond_its_age() {
    let origin = Origin::friendly().await;
    let pooled = Pooled::to(&origin, |proxy| {
        proxy.pool_idle = Duration::from_mins(1);
        proxy.upstream_age = Duration::from_millis(400);
    });
    let start = tidegate::gate::clock::now();
    while start.elapsed() < Duration::from_millis(1_300) {
        assert_eq!(pooled.get("/").await.status, 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!((3..=5).contains(&origin.connections()), "{}", origin.connections());
    eventually("the last is closed too", || pooled.connections().open == 0).await;
    assert_eq!(pooled.closed(ClosedBy::Age), origin.connections() as u64);
}

#[tokio::test]
async fn a_dead_connection_is_replaced_even_when_there_may_be_no_more() {
    let origin = Origin::start(|seen| if seen.turn == 1 { Reply::Last(Vec::new()) } else { ok("ok") }).await;
    let pooled = Pooled::to(&origin, |proxy| proxy.upstream_connections_max = 2);
    pooled.at_once(2).join_all().await;
    for _ in 0..4 {
        assert_eq!(pooled.get("/").await.status, 200);
    }
    assert!(pooled.connections().open <= 2);
    assert!(pooled.through.told.stale_retries() >= 2);
}

#[tokio::test]
async fn requests_that_wait_for_an_upstream_that_is_down_all_get_its_error() {
    let origin = Origin::friendly().await;
    let address = origin.address;
    drop(origin);
    let gone = Origin::friendly().await;
    let mut pooled = Pooled::to(&gone, |_| ());
    let mut config = Config::new(format!("https://{address}").parse().unwrap());
    config.lanes = fixed(10_000.0);
    pooled.clients = clients(&config, 1).unwrap().remove(0);
    pooled.through = Through::over(&config, pooled.clients.clone());
    for response in pooled.at_once(10).join_all().await {
        assert_eq!(response.status, 502);
        assert!(response.field("proxy-status").unwrap().contains("connection_refused"));
    }
    assert_eq!(pooled.connections().failed, 10);
}

#[tokio::test]
async fn shares_of_a_bound_are_the_whole_bound() {
    let origin = slow().await;
    let mut config = Config::new(format!("http://{}", origin.address).parse().unwrap());
    config.lanes = fixed(10_000.0);
    config.proxy.upstream_connections_max = 5;
    let peak = Arc::new(AtomicUsize::new(0));
    let mut sets = clients(&config, 3).unwrap();
    let views: Vec<_> = sets.iter().map(|set| set[0].clone()).collect();
    let mut throughs = Vec::new();
    let mut asked = JoinSet::new();
    for set in sets.drain(..) {
        let through = Through::over(&config, set);
        for _ in 0..10 {
            asked.spawn(ask(through.address, request("GET", "/", "", "")));
        }
        throughs.push(through);
    }
    while let Some(response) = asked.join_next().await {
        assert_eq!(response.unwrap().status, 200);
        peak.fetch_max(Client::connections(&views).open, Ordering::Relaxed);
    }
    assert_eq!((peak.load(Ordering::Relaxed), origin.connections()), (5, 5));
}
