//! Everything that can stall has a key, and each key a test; and who is slow and goes on is not cut.

use super::checklist::is_there;
use super::client::{Client, find, request};
use super::frames::{GET, HEADERS, WINDOW_UPDATE, begun, begun_over, frame};
use super::origin::{Origin, Reply};
use super::through::{Through, eventually, fixed};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tidegate::config::{DEFAULTS, ProxySettings};
use tidegate::gate::clock;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;

/// What each time bounds is shown there.
#[rustfmt::skip]
const TIMES: &[(&str, &[&str])] = &[
    ("listen.head_timeout", &["accept::a_head_that_does_not_come_is_answered_408_and_silence_with_silence", "frames::what_is_begun_has_to_be_finished", "secure::who_does_not_shake_hands_or_say_anything_after_it_is_gone_in_time"]),
    ("listen.keep_alive_idle", &["stalls::a_kept_connection_is_closed_in_its_time"]),
    ("listen.body_idle", &["accept::a_body_that_does_not_come_is_answered_408", "paused::a_request_body_that_stops_is_a_408_after_half_a_minute", "stalls::a_body_has_to_come_faster_than_a_trickle"]),
    ("listen.write_stall", &["accept::a_client_that_takes_nothing_of_its_answer_is_gone_in_time", "frames::a_client_that_opens_no_window_is_gone_in_time", "stalls::a_slow_reader_that_goes_on_is_not_cut", "stalls::who_takes_a_trickle_of_what_the_kernel_holds_is_cut", "stalls::who_takes_a_trickle_over_http2_is_cut", "proxy/taking/mod::who_takes_nothing_or_a_trickle_is_cut_and_nobody_else"]),
    ("listen.http2.idle", &["stalls::a_kept_http2_connection_is_closed_in_its_time"]),
    ("listen.tls.handshake_timeout", &["secure::who_does_not_shake_hands_or_say_anything_after_it_is_gone_in_time"]),
    ("drain.grace", &["accept::a_drain_lets_everyone_finish_and_then_returns", "../run/drain::what_is_queued_is_served_within_the_grace_or_told_to_come_back"]),
    ("queue.deadline", &["control/queue::deadlines_take_tickets_out_wherever_they_are", "../orders::a_pause_without_end_lets_tickets_wait_until_their_deadlines"]),
    ("queue.lane_idle", &["../orders::an_operators_word_outlives_idle_times"]),
    ("replay.retry_after_max", &["replay::a_refusal_that_cannot_be_waited_out_is_the_api_s_own_answer"]),
    ("forward.connect_timeout", &["paused::an_unreachable_upstream_is_a_504_after_five_seconds"]),
    ("forward.write_stall", &["upstream_stall::an_upstream_that_takes_nothing_is_a_504_and_one_that_is_slow_is_not"]),
    ("forward.response_head_timeout", &["paused::a_silent_upstream_is_a_504_after_a_minute"]),
    ("forward.stream_idle", &["paused::a_body_that_stops_is_cut_after_five_minutes"]),
    ("forward.pool_idle", &["paused::kept_connections_are_used_for_four_seconds", "upstream_pool::idle_connections_are_closed_in_time_and_beyond_their_number_at_once"]),
    ("forward.wait_max", &["upstream_pool::too_many_who_wait_and_who_waits_too_long_get_a_503_that_says_why"]),
    ("forward.age_max", &["upstream_pool::a_connection_is_not_used_beyond_its_age"]),
    ("forward.http2_idle", &["upstream_http2::an_idle_connection_is_closed_in_time_and_an_old_one_takes_no_more_requests"]),
    ("forward.dns_cache", &["proxy/dial/names::an_answer_is_believed_for_a_while_and_a_new_one_is_followed"]),
    ("forward.dns_stale", &["proxy/dial/names::a_resolver_that_fails_or_hangs_leaves_the_last_answer_for_a_while"]),
];

#[test]
fn every_time_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = |path: &str| fs::read_to_string(root.join(path)).ok();
    let missing: Vec<_> =
        TIMES.iter().flat_map(|(_, shown)| *shown).filter(|shown| !is_there(shown, source)).collect();
    assert!(missing.is_empty(), "there are no such tests: {missing:?}");

    let mut table = "";
    let mut keys = BTreeSet::new();
    for line in DEFAULTS.lines() {
        if let Some(header) = line.strip_prefix('[') {
            table = header.trim_end_matches(']');
        }
        let told = line.split_once(" = ").filter(|_| !line.starts_with('#') && table != "law");
        if let Some((key, _)) =
            told.filter(|(_, value)| tidegate::config::duration(value.trim_matches('"')).is_ok())
        {
            keys.insert(format!("{table}.{key}"));
        }
    }
    let shown: BTreeSet<_> = TIMES.iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(shown, keys);
}

fn large(bytes: usize) -> Reply {
    let mut reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").into_bytes();
    reply.resize(reply.len() + bytes, b'x');
    Reply::Bytes(reply)
}

#[tokio::test]
async fn a_slow_reader_that_goes_on_is_not_cut() {
    const BYTES: usize = 6_000_000;
    let origin = Origin::start(|_| large(BYTES)).await;
    let stall = |proxy: &mut ProxySettings| proxy.write_stall = Duration::from_millis(600);
    let through = Through::with(origin.address, stall, fixed(1e4));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    let mut client = Client::over(socket.connect(through.address).await.unwrap());
    client.send(request("GET", "/", "Connection: close\r\n", "")).await;
    let start = clock::now();
    let (mut all, mut piece) = (0, vec![0; 100_000]);
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        match client.stream.read(&mut piece).await.unwrap() {
            0 => break,
            count => all += count,
        }
    }
    assert!(all > BYTES, "{all}");
    assert!(clock::now() - start > Duration::from_millis(1_200), "it was too fast to show anything");
}

/// A client with so little room that most of an answer stays with the proxy.
async fn narrow(through: &Through) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    Client::over(socket.connect(through.address).await.unwrap())
}

/// What comes when so many bytes at most are read in each hundredth of a second, or none, and how it ended.
async fn sipped(client: &mut Client, sip: usize, until: usize) -> (usize, std::io::Result<()>) {
    let (mut all, mut piece) = (0, vec![0; sip]);
    while all < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
        match client.stream.read(&mut piece).await {
            Ok(0) => return (all, Ok(())),
            Ok(count) => all += count,
            Err(error) => return (all, Err(error)),
        }
    }
    (all, Ok(()))
}

/// Small enough for the kernel to take it at once, and too large for a narrow client.
const HELD: usize = 100_000;

#[tokio::test]
async fn who_takes_a_trickle_of_what_the_kernel_holds_is_cut() {
    let origin = Origin::start(|_| large(HELD)).await;
    let trickle = |proxy: &mut ProxySettings| {
        proxy.write_stall = Duration::from_secs(1);
        proxy.write_rate_min = 30_000;
    };
    let through = Through::with(origin.address, trickle, fixed(1e4));
    for connection in ["", "Connection: close\r\n"] {
        let mut client = narrow(&through).await;
        client.send(request("GET", "/", connection, "")).await;
        let (read, ended) = sipped(&mut client, 100, HELD).await;
        assert!(ended.is_err() && read < HELD / 2, "{connection:?}: {read} bytes, then {ended:?}");
        eventually("nothing is kept of it", || through.proxy.connections() == 0).await;
        // Fast enough is fast enough.
        let mut client = narrow(&through).await;
        client.send(request("GET", "/", connection, "")).await;
        let (read, ended) = sipped(&mut client, 1_000, HELD).await;
        assert!(ended.is_ok() && read >= HELD, "{connection:?}: {read} bytes, then {ended:?}");
    }
}

#[tokio::test]
async fn who_takes_a_trickle_over_http2_is_cut() {
    let origin = Origin::start(|_| large(HELD)).await;
    let trickle = |proxy: &mut ProxySettings| {
        proxy.write_stall = Duration::from_secs(1);
        proxy.write_rate_min = 30_000;
    };
    let through = Through::with(origin.address, trickle, fixed(1e4));
    for (sip, is_cut) in [(100, true), (1_000, false)] {
        // SETTINGS_INITIAL_WINDOW_SIZE 1 MiB, and as much for the connection: all may come at once.
        let mut client = begun_over(narrow(&through).await, &[0, 4, 0, 16, 0, 0]).await;
        client.send(frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes())).await;
        client.send(frame(HEADERS, 5, 1, GET)).await;
        let (read, ended) = sipped(&mut client, sip, HELD).await;
        assert_eq!((ended.is_err(), read < HELD / 2), (is_cut, is_cut), "{read} bytes, then {ended:?}");
    }
    eventually("nothing is kept of them", || through.proxy.connections() == 0).await;
}

#[tokio::test]
async fn who_still_takes_its_answer_is_not_idle() {
    let origin = Origin::start(|_| large(HELD)).await;
    let idle = |proxy: &mut ProxySettings| proxy.keep_alive_idle = Duration::from_secs(1);
    let through = Through::with(origin.address, idle, fixed(1e4));
    let mut client = narrow(&through).await;
    for _ in 0..2 {
        client.send(request("GET", "/", "", "")).await;
        let start = clock::now();
        let (read, ended) = sipped(&mut client, 500, HELD).await;
        assert!(ended.is_ok() && read >= HELD, "{read} bytes, then {ended:?}");
        assert!(clock::now() - start > Duration::from_millis(1_500), "it was too fast to show anything");
        let (rest, _) = tokio::time::timeout(Duration::from_millis(50), sipped(&mut client, 1_000, HELD))
            .await
            .unwrap_or((0, Ok(())));
        assert!(rest < 1_000, "the head, and no more");
    }
    let start = clock::now();
    client.rest().await;
    assert!(clock::now() - start < Duration::from_secs(5));
}

#[tokio::test]
async fn a_slow_http2_reader_that_goes_on_is_not_cut() {
    const BYTES: usize = 200_000;
    let origin = Origin::start(|_| large(BYTES)).await;
    let stall = |proxy: &mut ProxySettings| proxy.write_stall = Duration::from_millis(600);
    let through = Through::with(origin.address, stall, fixed(1e4));
    // SETTINGS_INITIAL_WINDOW_SIZE 0: the client lets out every byte itself.
    let mut client = begun(through.address, &[0, 4, 0, 0, 0, 0]).await;
    client.send(frame(HEADERS, 5, 1, GET)).await;
    let (start, mut unread) = (clock::now(), Vec::new());
    for _ in 0..(BYTES / 10_000) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let more = 10_000_u32.to_be_bytes();
        client.send(frame(WINDOW_UPDATE, 0, 1, &more)).await;
        client.send(frame(WINDOW_UPDATE, 0, 0, &more)).await;
        let before = unread.len();
        while unread.len() < before + 10_000 {
            assert!(
                client.stream.read_buf(&mut unread).await.unwrap() > 0,
                "cut after {} bytes",
                unread.len()
            );
        }
    }
    assert!(unread.iter().filter(|byte| **byte == b'x').nth(BYTES - 1).is_some());
    assert!(clock::now() - start > Duration::from_millis(1_200));
}

#[tokio::test]
async fn a_kept_connection_is_closed_in_its_time() {
    let origin = Origin::friendly().await;
    let idle = |proxy: &mut ProxySettings| proxy.keep_alive_idle = Duration::from_millis(400);
    let through = Through::with(origin.address, idle, fixed(1e4));
    let mut client = Client::connect(through.address).await;
    for _ in 0..3 {
        client.send(request("GET", "/", "", "")).await.response().await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let start = clock::now();
    assert_eq!(client.rest().await, b"");
    let waited = clock::now() - start;
    assert!((200..5_000).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test]
async fn a_kept_http2_connection_is_closed_in_its_time() {
    let origin = Origin::friendly().await;
    let idle = |proxy: &mut ProxySettings| proxy.http2.idle = Duration::from_millis(400);
    let through = Through::with(origin.address, idle, fixed(1e4));
    let mut client = begun(through.address, &[]).await;
    client.send(frame(HEADERS, 5, 1, GET)).await;
    eventually("it is served", || origin.seen().len() == 1).await;
    let (start, mut unread) = (clock::now(), Vec::new());
    // GOAWAY without an error yet: length 8, type 7, stream 0. It closes when the client has had its say.
    while find(&unread, &[0, 0, 8, 7, 0, 0, 0, 0, 0]).is_none() {
        assert!(client.stream.read_buf(&mut unread).await.unwrap() > 0, "no goodbye: {unread:x?}");
    }
    let waited = clock::now() - start;
    assert!((200..5_000).contains(&waited.as_millis()), "{waited:?}");
    client.rest().await;
    eventually("nothing is kept of it", || through.proxy.connections() == 0).await;
}

#[tokio::test]
async fn a_body_has_to_come_faster_than_a_trickle() {
    let origin = Origin::friendly().await;
    let rate = |proxy: &mut ProxySettings| {
        proxy.body_idle = Duration::from_secs(1);
        proxy.body_rate_min = 500;
    };
    let through = Through::with(origin.address, rate, fixed(1e4));
    for (piece, status) in [(&[b'x'; 10][..], 408), (&[b'x'; 200][..], 200)] {
        let length = piece.len() * 25;
        let mut client = Client::connect(through.address).await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).await;
        let (mut reader, mut writer) = client.stream.into_split();
        let sending = async {
            for _ in 0..25 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                // It may have been refused by now.
                drop(tokio::io::AsyncWriteExt::write_all(&mut writer, piece).await);
            }
            std::future::pending::<()>().await;
        };
        let mut answer = Vec::new();
        let reading = async {
            while find(&answer, b"\r\n\r\n").is_none() && reader.read_buf(&mut answer).await.unwrap() > 0 {}
        };
        tokio::select! {
            () = sending => unreachable!("it never ends"),
            () = reading => (),
        }
        assert!(
            answer.starts_with(format!("HTTP/1.1 {status} ").as_bytes()),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
}
