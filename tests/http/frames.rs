//! HTTP/2 made of bytes: clients that begin and do not go on, take nothing, or send control frames for ever.

use super::client::Client;
use super::origin::{Origin, Reply};
use super::through::{Through, eventually, fixed};
use std::net::SocketAddr;
use std::time::Duration;
use tidegate::config::ProxySettings;
use tidegate::gate::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const RST_STREAM: u8 = 3;

/// `GET / HTTP/2`, https, `:authority: a`: by HPACK's static table, and a literal.
pub(crate) const GET: &[u8] = b"\x82\x87\x84\x41\x01a";
const POST: &[u8] = b"\x83\x87\x84\x41\x01a";

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn through(origin: SocketAddr) -> Through {
    let brief = |proxy: &mut ProxySettings| {
        proxy.head_timeout = Duration::from_millis(300);
        proxy.write_stall = Duration::from_millis(500);
    };
    Through::with(origin, brief, fixed(10_000.0))
}

/// A connection that has begun as it should.
pub(crate) async fn begun(address: SocketAddr, settings: &[u8]) -> Client {
    begun_over(Client::connect(address).await, settings).await
}

/// The same over a connection that is there.
pub(crate) async fn begun_over(mut client: Client, settings: &[u8]) -> Client {
    client.send([PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await;
    client
}

#[tokio::test]
async fn what_is_begun_has_to_be_finished() {
    let origin = Origin::friendly().await;
    let through = through(origin.address);
    let settings = frame(SETTINGS, 0, 0, &[]);
    for start in [
        PREFACE.to_vec(),
        [PREFACE, &settings[..5]].concat(),
        [PREFACE, &settings, &frame(HEADERS, 1, 1, GET)].concat(),
        [PREFACE, &settings, &frame(HEADERS, 5, 1, GET)[..12]].concat(),
        [PREFACE, &settings, &frame(PING, 0, 0, &[0; 8])[..12]].concat(),
    ] {
        let mut client = Client::connect(through.address).await;
        client.send(&start).await;
        client.rest().await;
    }
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn who_begins_and_asks_for_nothing_is_gone_in_time() {
    let origin = Origin::friendly().await;
    let through = through(origin.address);
    let mut silent = begun(through.address, &[]).await;
    let mut asking = begun(through.address, &[]).await;
    asking.send(frame(HEADERS, 5, 1, GET)).await;
    eventually("it is served", || origin.seen().len() == 1).await;
    let mut pinging = begun(through.address, &[]).await;
    let begun = clock::now();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if pinging.stream.write_all(&frame(PING, 0, 0, &[0; 8])).await.is_err() {
            break;
        }
        assert!(clock::now() - begun < Duration::from_secs(9), "pings are no requests");
    }
    let told = silent.rest().await;
    // The first GOAWAY is for the streams that may be on their way.
    assert!(told.windows(9).any(|part| part == [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0]), "{told:?}");
    // Who has asked for something may do so again.
    asking.send(frame(HEADERS, 5, 3, GET)).await;
    eventually("it is served again", || origin.seen().len() == 2).await;
    // And may not begin a frame that never ends.
    asking.send([0, 0]).await;
    asking.rest().await;
}

#[tokio::test]
async fn a_client_that_opens_no_window_is_gone_in_time() {
    let origin = Origin::friendly().await;
    let through = through(origin.address);
    // SETTINGS_INITIAL_WINDOW_SIZE 0.
    let mut client = begun(through.address, &[0, 4, 0, 0, 0, 0]).await;
    client.send(frame(HEADERS, 5, 1, GET)).await;
    eventually("it is served", || origin.seen().len() == 1).await;
    client.rest().await;
    eventually("nothing is kept of it", || through.proxy.connections() == 0).await;
}

/// Sends `frames` again and again until the proxy has had enough; never more than some megabytes.
async fn flood(name: &str, through: &Through, frames: impl Fn(u32) -> Vec<u8>) {
    let client = begun(through.address, &[]).await;
    let (mut reader, mut writer) = client.stream.into_split();
    let sink = async {
        tokio::io::copy(&mut reader, &mut tokio::io::sink()).await.ok();
    };
    let send = async {
        for n in 0..400_000 {
            if writer.write_all(&frames(n)).await.is_err() {
                return;
            }
        }
        panic!("nothing ended {name}");
    };
    let ended = async {
        tokio::select! {
            () = sink => (),
            () = send => (),
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
}

#[tokio::test]
async fn floods_end_their_connection_and_nothing_else() {
    let origin = Origin::friendly().await;
    let through = through(origin.address);
    flood("pings", &through, |_| frame(PING, 0, 0, &[0; 8])).await;
    flood("settings", &through, |_| frame(SETTINGS, 0, 0, &[])).await;
    flood("window updates", &through, |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await;
    flood("resets", &through, |n| {
        let stream = 2 * n + 1;
        [frame(HEADERS, 5, stream, GET), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    })
    .await;
    flood("continuations", &through, |n| {
        if n == 0 { frame(HEADERS, 0, 1, GET) } else { frame(CONTINUATION, 0, 1, &[]) }
    })
    .await;
    flood(
        "empty data",
        &through,
        |n| if n == 0 { frame(HEADERS, 4, 1, GET) } else { frame(DATA, 0, 1, &[]) },
    )
    .await;
    flood("priorities", &through, |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])).await;
    flood("frames of no kind", &through, |_| frame(0x16, 0, 0, &[])).await;
    flood("goodbyes", &through, |_| frame(GOAWAY, 0, 0, &[0; 8])).await;
    flood("heads that are none", &through, |n| frame(HEADERS, 5, 2 * n + 1, &GET[..2])).await;
    flood("windows that grow by nothing", &through, |n| {
        let stream = 2 * n + 1;
        [frame(HEADERS, 4, stream, POST), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
    })
    .await;
    flood("trailers that end nothing", &through, |n| {
        let stream = 2 * n + 1;
        [frame(HEADERS, 4, stream, POST), frame(HEADERS, 4, stream, b"\x00\x01x\x01y")].concat()
    })
    .await;
    flood("padding", &through, |n| {
        if n == 0 { frame(HEADERS, 4, 1, POST) } else { frame(DATA, 8, 1, &[8, 0, 0, 0, 0, 0, 0, 0, 0]) }
    })
    .await;
    eventually("nothing is kept of them", || through.proxy.connections() == 0).await;
    let mut client = begun(through.address, &[]).await;
    let before = origin.seen().len();
    client.send(frame(HEADERS, 5, 1, GET)).await;
    eventually("others are served", || origin.seen().len() == before + 1).await;
}

/// Sends these one by one, each when the last one has reached the origin, until the proxy has had enough. How many?
async fn taken_back(
    through: &Through,
    origin: &Origin,
    at_most: u32,
    frames: impl Fn(u32) -> Vec<u8>,
) -> u32 {
    let mut client = begun(through.address, &[]).await;
    let before = origin.seen().len();
    for n in 0..at_most {
        let stream = 2 * n + 1;
        if client.stream.write_all(&frame(HEADERS, 5, stream, GET)).await.is_err() {
            return n;
        }
        let arrived = async {
            while origin.seen().len() <= before + usize::try_from(n).unwrap() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let mut unread = Vec::new();
        tokio::select! {
            () = arrived => (),
            () = async { while client.stream.read_buf(&mut unread).await.is_ok_and(|count| count > 0) {} } => return n,
        }
        if client.stream.write_all(&frames(stream)).await.is_err() {
            return n;
        }
    }
    at_most
}

#[tokio::test]
async fn requests_that_are_taken_back_at_once_end_their_connection() {
    let origin = Origin::start(|_| Reply::Silence).await;
    let small = |proxy: &mut ProxySettings| proxy.http2.control_bytes_max = 64 * 1024;
    let through = Through::with(origin.address, small, fixed(10_000.0));
    let reset = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    // Each counts 4 KiB, and h2 never sees one that it had not handed out.
    let asked = taken_back(&through, &origin, 200, reset).await;
    assert!((16..60).contains(&asked), "{asked}");
    eventually("the origin is left alone", || origin.cancelled() == origin.seen().len()).await;
    eventually("nothing is kept of it", || through.proxy.connections() == 0).await;
}

#[tokio::test]
async fn a_client_that_gives_up_after_a_while_is_no_flood() {
    let origin = Origin::start(|_| Reply::Silence).await;
    let small = |proxy: &mut ProxySettings| proxy.http2.control_bytes_max = 64 * 1024;
    let through = Through::with(origin.address, small, fixed(10_000.0));
    let mut client = begun(through.address, &[]).await;
    for round in 0..2_u32 {
        let streams = || (0..50).map(|n| 100 * round + 2 * n + 1);
        let heads: Vec<u8> = streams().flat_map(|stream| frame(HEADERS, 5, stream, GET)).collect();
        let resets: Vec<u8> =
            streams().flat_map(|stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])).collect();
        client.send(&heads).await;
        let all = 50 * (usize::try_from(round).unwrap() + 1);
        eventually("they arrived", || origin.seen().len() == all).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        client.send(&resets).await;
        eventually("they are gone", || origin.cancelled() == all).await;
    }
    assert_eq!(through.proxy.connections(), 1);
}

#[tokio::test]
async fn streams_that_break_the_protocol_end_their_connection() {
    let origin = Origin::start(|_| Reply::Silence).await;
    let few = |proxy: &mut ProxySettings| proxy.http2.faults_max = 20;
    let through = Through::with(origin.address, few, fixed(10_000.0));
    // CVE-2025-8671: a window beyond its range makes the server itself reset the stream.
    let beyond = |stream| frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]);
    let asked = taken_back(&through, &origin, 200, beyond).await;
    assert!((20..60).contains(&asked), "{asked}");
    eventually("the origin is left alone", || origin.cancelled() == origin.seen().len()).await;
}

#[tokio::test]
async fn many_small_pieces_of_a_body_are_no_flood() {
    let origin = Origin::friendly().await;
    let through = through(origin.address);
    let mut client = begun(through.address, &[]).await;
    client.send(frame(HEADERS, 4, 1, POST)).await;
    let pieces = [frame(DATA, 0, 1, b"x").repeat(1_000), frame(PING, 0, 0, &[0; 8])].concat();
    // Fewer than the window lets out: what is taken makes room, and is not waited for here.
    for _ in 0..60 {
        client.send(&pieces).await;
    }
    client.send(frame(DATA, 1, 1, b"")).await;
    eventually("it arrived", || origin.seen().len() == 1).await;
    let body = &origin.seen()[0].body;
    assert!(body.iter().map(|byte| usize::from(*byte == b'x')).sum::<usize>() == 60_000);
}

/// The settings and the window of the connection that a server announces, by their numbers.
async fn announced(client: &mut Client) -> (Vec<(u16, u32)>, u32) {
    let mut unread = Vec::new();
    loop {
        client.stream.read_buf(&mut unread).await.unwrap();
        let (mut rest, mut settings, mut window) = (&unread[..], Vec::new(), None);
        while rest.len() >= 9 && rest.len() >= 9 + usize::from(rest[2]) {
            let (payload, after) = rest[9..].split_at(usize::from(rest[2]));
            match (rest[3], rest[4]) {
                (SETTINGS, 0) => settings.extend(payload.chunks_exact(6).map(|pair| {
                    let number = u32::from_be_bytes(pair[2..].try_into().unwrap());
                    (u16::from_be_bytes([pair[0], pair[1]]), number)
                })),
                (WINDOW_UPDATE, _) => window = Some(u32::from_be_bytes(payload.try_into().unwrap())),
                _ => (),
            }
            rest = after;
        }
        if let Some(window) = window {
            return (settings, window);
        }
    }
}

#[tokio::test]
async fn what_a_client_may_do_is_announced_and_holds() {
    let origin = Origin::friendly().await;
    let through = through(origin.address);
    let mut client = begun(through.address, &[]).await;
    let (settings, window) = announced(&mut client).await;
    // RFC 9113 6.5.2: streams, window of a stream, and the size of a head when it is unpacked.
    for setting in [(3, 100), (4, 64 * 1024), (6, 16 * 1024)] {
        assert!(settings.contains(&setting), "{setting:?} in {settings:?}");
    }
    // RFC 9113 6.9.2: what is announced comes on top of 65 535.
    assert_eq!(window, 1024 * 1024 - 65_535);

    bomb(&mut client).await;
    let mut next = begun(through.address, &[]).await;
    next.send(frame(HEADERS, 5, 1, GET)).await;
    eventually("others are served", || origin.seen().len() == 1).await;
    assert_eq!(origin.seen()[0].field("x"), None, "and the bomb is not");
}

/// Sends a head of some 4100 bytes that would unpack to 400 kB.
async fn bomb(client: &mut Client) {
    // One long field, then the place where it stands.
    let mut head = GET.to_vec();
    // 4000 bytes: 127 in the prefix of seven bits, and 3873 beyond it (RFC 7541 5.1).
    head.extend(b"\x40\x01x\x7f\xa1\x1e");
    head.extend([b'y'; 4000]);
    head.extend([0xbe; 100]);
    client.send(frame(HEADERS, 5, 1, &head)).await;
}

#[tokio::test]
async fn what_a_client_may_do_is_configured() {
    let origin = Origin::friendly().await;
    let other = |proxy: &mut ProxySettings| {
        proxy.http2.streams_max = 7;
        proxy.http2.stream_window = 100_000;
        proxy.http2.connection_window = 200_000;
        proxy.http2.head_bytes_max = 512 * 1024;
    };
    let through = Through::with(origin.address, other, fixed(10_000.0));
    let mut client = begun(through.address, &[]).await;
    let (settings, window) = announced(&mut client).await;
    for setting in [(3, 7), (4, 100_000), (6, 512 * 1024)] {
        assert!(settings.contains(&setting), "{setting:?} in {settings:?}");
    }
    assert_eq!(window, 200_000 - 65_535);
}
