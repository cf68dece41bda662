//! Stopping: nothing that was taken is lost, nothing waits for ever.

use crate::client::{Answer, ask, get, metric};
use crate::process::{PATIENCE, Tidegate, eventually};
use rustix::process::Signal;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The acceptance's own numbers: 300 queued at 5/s, 30 s of grace.
#[test]
fn what_is_queued_is_served_within_the_grace_or_told_to_come_back() {
    let api = Tidegate::free_api();
    let tidegate = Tidegate::run(&api.url(), &["--law", "fixed", "--rate", "5/s", "--grace", "30s"]);
    let (listen, admin) = (tidegate.listen, tidegate.admin);
    let clients = queue(300, listen, admin);

    let told = Instant::now();
    tidegate.signal(Signal::TERM);
    eventually("unreadiness", || get(admin, "/readyz").status == 503);
    eventually("a closed door", || TcpStream::connect(listen).is_err());
    let ended = tidegate.end(Duration::from_secs(37));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(told.elapsed() < Duration::from_secs(37), "{:?}", told.elapsed());

    let answers: Vec<Answer> = clients.into_iter().map(|client| client.join().unwrap().unwrap()).collect();
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert!(served >= 100, "{served} of {} served", answers.len());
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.field("retry-after").is_some(), "{answer:?}");
        assert!(answer.field("proxy-status").is_some(), "{answer:?}");
    }
    assert!(served < 300, "five a second for 30 seconds are no more than 150 and the burst");
}

#[test]
fn a_second_signal_ends_at_once() {
    for (second, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let api = Tidegate::free_api();
        let tidegate = Tidegate::run(&api.url(), &["--law", "fixed", "--rate", "1/s", "--grace", "30s"]);
        let clients = queue(20, tidegate.listen, tidegate.admin);
        let admin = tidegate.admin;
        tidegate.signal(Signal::TERM);
        eventually("unreadiness", || get(admin, "/readyz").status == 503);
        let told = Instant::now();
        tidegate.signal(second);
        assert_eq!(tidegate.end(PATIENCE).code, Some(code));
        assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
        for client in clients {
            // Cut or served: whoever sends two signals does not care.
            drop(client.join().unwrap());
        }
    }
}

#[test]
fn an_answer_that_never_comes_does_not_keep_us() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!("http://{}", silent.local_addr().unwrap());
    let tidegate = Tidegate::run(&upstream, &["--grace", "1s"]);
    let listen = tidegate.listen;
    let client = thread::spawn(move || ask(listen, &format!("GET / HTTP/1.1\r\nHost: {listen}\r\n\r\n")));
    let admin = tidegate.admin;
    eventually("the request in flight", || {
        get(admin, "/metrics").body.contains("tidegate_in_flight{lane=\"root@none\"} 1")
    });
    let told = Instant::now();
    tidegate.signal(Signal::TERM);
    let ended = tidegate.end(PATIENCE);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(told.elapsed() >= Duration::from_secs(1), "it had its grace: {:?}", told.elapsed());
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    assert!(ended.stderr.contains("clients were cut"), "{ended:?}");
    assert!(client.join().unwrap().is_err());
}

/// Sends `count` requests at once, each on a connection of its own, and waits until they are in the queue.
fn queue(count: u32, to: SocketAddr, admin: SocketAddr) -> Vec<JoinHandle<io::Result<Answer>>> {
    let client = move |n| {
        let request = format!("POST /messages HTTP/1.1\r\nHost: {to}\r\nContent-Length: 4\r\n\r\n{n:04}");
        thread::spawn(move || ask(to, &request))
    };
    let clients = (0..count).map(client).collect();
    let taken = || metric(admin, "tidegate_queue_depth", "") + metric(admin, "tidegate_requests_total", "");
    eventually("the queue", || taken() >= f64::from(count) - 1.0);
    clients
}
