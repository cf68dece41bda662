//! An upstream that takes nothing of a request.

use super::client::{Client as Bytewise, request};
use super::paused::Handing;
use super::through::{Through, eventually, fixed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::config::Config;
use tidegate::gate::clock;
use tidegate::proxy::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The other ends of connections, which take few bytes, left to the test.
type Left = Arc<Mutex<Vec<DuplexStream>>>;

const STALL: Duration = Duration::from_millis(400);

fn through() -> (Through, Left, Vec<Client>) {
    let mut config = Config::new("http://origin.test".parse().unwrap());
    config.lanes = fixed(10_000.0);
    config.proxy.upstream_write_stall = STALL;
    let left = Left::default();
    let ends = Left::clone(&left);
    let hand = move |theirs| ends.lock().unwrap().push(theirs);
    let hand = Handing { hand, room: 8 * 1024, is_http2: false };
    let client = Client::with_connector(hand, &config.default_upstream().address, &config.proxy);
    (Through::over(&config, vec![client.clone()]), left, vec![client])
}

#[tokio::test]
async fn an_upstream_that_takes_nothing_is_a_504_and_one_that_is_slow_is_not() {
    let (through, left, clients) = through();
    let body = "x".repeat(100_000);
    for is_slow in [false, true] {
        let start = clock::now();
        let mut client = Bytewise::connect(through.address).await;
        client.send(request("PUT", "/", "", &body)).await;
        eventually("it connects", || !left.lock().unwrap().is_empty()).await;
        let mut origin = left.lock().unwrap().pop().unwrap();
        if is_slow {
            let mut bytes = vec![0; 8 * 1024];
            let mut taken = 0;
            while taken < body.len() {
                tokio::time::sleep(STALL / 8).await;
                taken += origin.read(&mut bytes).await.unwrap();
            }
            origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
        let response = client.response().await;
        assert!(start.elapsed() >= STALL, "{:?}", start.elapsed());
        if is_slow {
            assert_eq!(response.status, 200);
        } else {
            assert_eq!(response.status, 504);
            assert!(response.field("proxy-status").unwrap().contains("error=connection_write_timeout"));
            assert!(response.text().contains("may have been processed"));
            eventually("it is closed", || Client::connections(&clients).open == 0).await;
            assert!(left.lock().unwrap().is_empty(), "and not sent again");
        }
    }
}
