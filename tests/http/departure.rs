//! Clients that leave while they queue: noticed at once, and nothing of them reaches the API.

use super::client::{Client, request};
use super::origin::Origin;
use super::through::{Through, eventually, fixed};
use std::time::Duration;

/// Sizes from none to beyond the replay cap. (Far beyond it the client's FIN waits in its own kernel behind bytes
/// that nobody takes, and cannot be noticed by anyone; a RST can.)
const SIZES: [usize; 5] = [0, 1_000, 64_000, 900_000, 1_150_000];

#[tokio::test]
async fn a_queued_client_that_leaves_is_forgotten_whatever_its_body() {
    let origin = Origin::friendly().await;
    // One request now, and the next in twenty seconds.
    let through = Through::with(origin.address, |_| (), fixed(0.05));
    let first = super::client::ask(through.address, request("GET", "/", "", "")).await;
    assert_eq!(first.status, 200);
    for reset in [false, true] {
        for size in SIZES.into_iter().chain(reset.then_some(5_000_000)) {
            let mut client = Client::connect(through.address).await;
            let body = vec![b'x'; size];
            // The proxy reads no more than the cap, so a larger body may stay in part with us.
            let request = request("POST", "/", "", body);
            drop(tokio::time::timeout(Duration::from_millis(300), client.send(request)).await);
            queued(&through, 1).await;
            client.leave(reset);
            let left = tidegate::gate::clock::now();
            queued(&through, 0).await;
            let took = tidegate::gate::clock::now() - left;
            assert!(took < Duration::from_millis(100), "{size} bytes, reset {reset}: noticed after {took:?}");
        }
    }
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_queued_client_that_expects_to_be_asked_is_not_asked_and_may_leave() {
    let origin = Origin::friendly().await;
    let through = Through::with(origin.address, |_| (), fixed(0.05));
    super::client::ask(through.address, request("GET", "/", "", "")).await;
    let mut client = Client::connect(through.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    queued(&through, 1).await;
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_millis(200), client.stream.peek(&mut byte)).await;
    assert!(read.is_err(), "no 100 Continue before the pass");
    client.leave(false);
    queued(&through, 0).await;
    assert_eq!(origin.seen().len(), 1);
}

async fn queued(through: &Through, count: usize) {
    let depth = || through.gate.snapshot().iter().map(|lane| lane.queue_depth).sum::<usize>();
    eventually("the queue is as long as it should be", || depth() == count).await;
}
