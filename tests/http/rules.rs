//! HTTP/2 made of bytes: what RFC 9113 and RFC 7541 say of each frame and each block of fields, in the clear and over TLS.
//!
//! Each rule that h2spec asks for is here, by a stricter criterion: to it the connection's end alone is always enough.

use super::origin::{Origin, ok};
use super::secure::Secure;
use super::through::Through;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What has to happen in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// An answer on this stream, to its end, by which nothing was reset.
    Served(u32),
    /// The next DATA frame has so many bytes.
    Data(usize),
    /// An ACK of this kind of frame.
    Ack(u8),
    /// GOAWAY with this code, then the end.
    Connection(u32),
    /// `RST_STREAM` with this code, or as with [`Self::Connection`].
    Stream(u32),
    /// As with [`Self::Stream`], with either code.
    Either(u32, u32),
    /// As with [`Self::Stream`], or the connection's end with or without a more general word: all that h2 has for these,
    /// and all that RFC 9113 5.4 asks for.
    End(u32),
}
use Want::{Ack, Connection, Data, Either, End, Served, Stream};

/// A rule, by its section; what is sent, in turns each of which waits for what it wants.
type Case = (&'static str, Vec<(Vec<u8>, Want)>);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 32;
/// A whole head, and a whole request.
const HEAD: u8 = END_HEADERS;
const REQUEST: u8 = END_HEADERS | END_STREAM;

const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;
const CLOSED: u32 = 5;
const SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;

/// `:method: GET`, `:scheme: http`, `:path: /`, `:authority: a`: three of the static table, and a literal.
const GET: &[u8] = b"\x82\x86\x84\x01\x01a";
const POST: &[u8] = b"\x83\x86\x84\x01\x01a";
/// `x: y`.
const FIELD: &[u8] = b"\x00\x01x\x01y";

fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn setting(number: u8, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, [&[0, number][..], &value.to_be_bytes()].concat())
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, REQUEST, stream, GET)
}

fn with(block: &[&[u8]]) -> Vec<u8> {
    frame(HEADERS, REQUEST, 1, [GET, &block.concat()].concat())
}

fn ping() -> Vec<u8> {
    frame(PING, 0, 0, [7; 8])
}

fn update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, by.to_be_bytes())
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, code.to_be_bytes())
}

/// Everything is sent at once, and then this has to happen.
fn one(rule: &'static str, frames: &[Vec<u8>], want: Want) -> Case {
    (rule, vec![(frames.concat(), want)])
}

#[rustfmt::skip]
fn served() -> Vec<Case> {
    let (half, rest) = GET.split_at(2);
    let priority = [0, 0, 0, 0, 255];
    vec![
        one("3.4: settings come first, and are acknowledged", &[], Ack(SETTINGS)),
        one("4.1: frames of other kinds are ignored", &[frame(0x16, 0xff, 0, [1; 8]), get(1)], Served(1)),
        one("4.1: flags that mean nothing are ignored", &[frame(PING, 0x16, 0, [0; 8])], Ack(PING)),
        one("4.1: the reserved bit is ignored", &[frame(PING, 0, 0x8000_0000, [0; 8])], Ack(PING)),
        one("4.2: frames of 16384 bytes", &[frame(HEADERS, HEAD, 1, POST), frame(DATA, END_STREAM, 1, [0; 16_384])], Served(1)),
        one("5.1: PRIORITY on an idle stream", &[frame(PRIORITY, 0, 1, priority), ping()], Ack(PING)),
        one("5.1: PRIORITY on a half closed stream", &[setting(4, 0), get(1), frame(PRIORITY, 0, 1, priority), update(1, 1)], Data(1)),
        one("5.1: WINDOW_UPDATE on a half closed stream", &[setting(4, 0), get(1), update(1, 1)], Data(1)),
        one("5.1: RST_STREAM on a half closed stream", &[get(1), reset(1, 8), ping()], Ack(PING)),
        ("5.1: PRIORITY on a closed stream", vec![(get(1), Served(1)), ([frame(PRIORITY, 0, 1, priority), ping()].concat(), Ack(PING))]),
        ("5.1: WINDOW_UPDATE on a closed stream", vec![(get(1), Served(1)), ([update(1, 1), ping()].concat(), Ack(PING))]),
        ("5.1: RST_STREAM on a closed stream", vec![(get(1), Served(1)), ([reset(1, 8), ping()].concat(), Ack(PING))]),
        one("5.5: a setting that nobody knows", &[setting(0xff, 1), get(1)], Served(1)),
        one("6.1: DATA in pieces", &[frame(HEADERS, HEAD, 1, POST), frame(DATA, 0, 1, "a"), frame(DATA, END_STREAM, 1, "b")], Served(1)),
        one("6.1: padded DATA", &[frame(HEADERS, HEAD, 1, POST), frame(DATA, END_STREAM | PADDED, 1, b"\x05test\0\0\0\0\0")], Served(1)),
        one("6.2: padded HEADERS", &[frame(HEADERS, REQUEST | PADDED, 1, [&[6][..], GET, &[0; 6]].concat())], Served(1)),
        one("6.2: HEADERS with a priority", &[frame(HEADERS, REQUEST | WITH_PRIORITY, 1, [&[0x80, 0, 0, 0, 255][..], GET].concat())], Served(1)),
        one("6.3: PRIORITY, exclusive, of a later stream", &[frame(PRIORITY, 0, 1, [0x80, 0, 0, 9, 1]), get(1)], Served(1)),
        one("6.5.3: settings are acknowledged", &[setting(4, 100)], Ack(SETTINGS)),
        one("6.5.3: the last of a setting's values holds", &[frame(SETTINGS, 0, 0, b"\0\x04\0\0\0\x64\0\x04\0\0\0\x01"), get(1)], Data(1)),
        one("6.7: PING is answered", &[ping()], Ack(PING)),
        one("6.7: an answer to no PING is none of our concern", &[frame(PING, ACK, 0, [0; 8]), ping()], Ack(PING)),
        one("6.8: GOAWAY of a client leaves its requests", &[get(1), frame(GOAWAY, 0, 0, [0; 8])], Served(1)),
        one("6.9: WINDOW_UPDATE of the connection", &[update(0, 1), get(1)], Served(1)),
        one("6.9.1: no more than the window", &[setting(4, 1), get(1)], Data(1)),
        ("6.9.2: a window that grows lets more out", vec![(setting(4, 0), Ack(SETTINGS)), ([get(1), setting(4, 1)].concat(), Data(1))]),
        ("6.9.2: a window below nothing", vec![(setting(4, 3), Ack(SETTINGS)), (get(1), Data(3)), (setting(4, 2), Ack(SETTINGS)), (update(1, 2), Data(1))]),
        one("6.10: CONTINUATION", &[frame(HEADERS, END_STREAM, 1, half), frame(CONTINUATION, END_HEADERS, 1, rest)], Served(1)),
        one("6.10: several", &[frame(HEADERS, END_STREAM, 1, half), frame(CONTINUATION, 0, 1, ""), frame(CONTINUATION, 0, 1, rest), frame(CONTINUATION, END_HEADERS, 1, FIELD)], Served(1)),
        one("7: RST_STREAM with a code that nobody knows", &[frame(HEADERS, HEAD, 1, POST), reset(1, 0xff), ping()], Ack(PING)),
        one("8.1: HEAD", &[frame(HEADERS, REQUEST, 1, b"\x02\x04HEAD\x86\x84\x01\x01a")], Served(1)),
        one("8.1: trailers", &[frame(HEADERS, HEAD, 1, POST), frame(DATA, 0, 1, "a"), frame(HEADERS, REQUEST, 1, FIELD)], Served(1)),
        one("8.1: one request after another", &[get(1), get(3), get(7)], Served(7)),
        one("HPACK 6.1: indexed", &[with(&[b"\xa0\x90"])], Served(1)),
        one("HPACK 6.2: literals with a known name, kept or not or never", &[with(&[b"\x7a\x01a\x0f\x2b\x01b\x1f\x2b\x01c"])], Served(1)),
        one("HPACK 6.2: literals with a new name, kept or not or never", &[with(&[b"\x40\x01x\x01y\x00\x01x\x01z\x10\x01x\x01w"])], Served(1)),
        one("HPACK 6.2: names and values by Huffman's code", &[with(&[b"\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf"])], Served(1)),
        ("HPACK 2.3.2: what was kept is known later", vec![(with(&[b"\x40\x01x\x01y"]), Served(1)), (frame(HEADERS, REQUEST, 3, [GET, b"\xbe"].concat()), Served(3))]),
        one("HPACK 6.3: a smaller table, and the old one again", &[frame(HEADERS, REQUEST, 1, [b"\x20\x3f\xe1\x1f", GET].concat())], Served(1)),
    ]
}

fn post() -> Vec<u8> {
    frame(HEADERS, HEAD, 1, POST)
}

#[rustfmt::skip]
fn broken_streams() -> Vec<Case> {
    let (large, itself) = (vec![0; 16_385], [0, 0, 0, 1, 1]);
    vec![
        one("4.2: a DATA frame of more than 16384 bytes", &[post(), frame(DATA, END_STREAM, 1, &large)], Stream(SIZE)),
        one("4.2: a HEADERS frame of more than 16384 bytes", &[frame(HEADERS, REQUEST, 1, &large)], Connection(SIZE)),
        one("4.3: a block that cannot be unpacked", &[frame(HEADERS, REQUEST, 1, [0x40, 1])], End(COMPRESSION)),
        one("4.3: another frame in a head", &[frame(HEADERS, END_STREAM, 1, GET), frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1])], Connection(PROTOCOL)),
        one("4.3: another stream's frame in a head", &[frame(HEADERS, END_STREAM, 1, GET), get(3)], Connection(PROTOCOL)),
        one("5.1: DATA on an idle stream", &[frame(DATA, END_STREAM, 1, "test")], Connection(PROTOCOL)),
        one("5.1: RST_STREAM on an idle stream", &[reset(1, 8)], Connection(PROTOCOL)),
        one("5.1: WINDOW_UPDATE on an idle stream", &[update(1, 100)], Connection(PROTOCOL)),
        one("5.1: CONTINUATION on an idle stream", &[frame(CONTINUATION, END_HEADERS, 1, GET)], Connection(PROTOCOL)),
        one("5.1: DATA on a half closed stream", &[get(1), frame(DATA, END_STREAM, 1, "test")], End(CLOSED)),
        one("5.1: HEADERS on a half closed stream", &[get(1), get(1)], End(CLOSED)),
        one("5.1: CONTINUATION on a half closed stream", &[get(1), frame(CONTINUATION, END_HEADERS, 1, GET)], Either(CLOSED, PROTOCOL)),
        one("5.1: DATA after RST_STREAM", &[post(), reset(1, 8), frame(DATA, END_STREAM, 1, "test")], Stream(CLOSED)),
        one("5.1: HEADERS after RST_STREAM", &[post(), reset(1, 8), get(1)], End(CLOSED)),
        one("5.1: CONTINUATION after RST_STREAM", &[post(), reset(1, 8), frame(CONTINUATION, END_HEADERS, 1, FIELD)], Either(CLOSED, PROTOCOL)),
        one("5.1.1: a stream with an even number", &[get(2)], Connection(PROTOCOL)),
        one("5.1.1: a stream before the last one", &[get(5), get(3)], Connection(PROTOCOL)),
        one("5.1.2: more streams than announced", &(0..101).map(|n| frame(HEADERS, HEAD, 2 * n + 1, POST)).collect::<Vec<_>>(), Either(REFUSED, PROTOCOL)),
        one("5.3.1: HEADERS that depend on themselves", &[frame(HEADERS, REQUEST | WITH_PRIORITY, 1, [&itself[..], GET].concat())], Stream(PROTOCOL)),
        one("5.3.1: PRIORITY that depends on itself", &[frame(PRIORITY, 0, 1, itself)], Stream(PROTOCOL)),
        one("5.4.1: a goodbye comes before the end", &[frame(PING, 0, 3, [0; 8])], Connection(PROTOCOL)),
        one("5.5: an unknown frame in a head", &[frame(HEADERS, END_STREAM, 1, GET), frame(0x16, 0, 1, [0; 8])], Connection(PROTOCOL)),
        one("6.1: DATA on stream 0", &[frame(DATA, END_STREAM, 0, "test")], Connection(PROTOCOL)),
        one("6.1: more padding than DATA", &[post(), frame(DATA, END_STREAM | PADDED, 1, b"\x06test")], Connection(PROTOCOL)),
        one("6.2: HEADERS on stream 0", &[get(0)], Connection(PROTOCOL)),
        one("6.2: more padding than HEADERS", &[frame(HEADERS, REQUEST | PADDED, 1, [&[9][..], GET].concat())], Connection(PROTOCOL)),
        one("6.3: PRIORITY on stream 0", &[frame(PRIORITY, 0, 0, [0, 0, 0, 3, 1])], Connection(PROTOCOL)),
        one("6.3: PRIORITY that is too short", &[post(), frame(PRIORITY, 0, 1, [0, 0, 0, 0])], End(SIZE)),
        ("5.1: DATA on a closed stream", vec![(get(1), Served(1)), (frame(DATA, END_STREAM, 1, "test"), Stream(CLOSED))]),
        ("5.1: HEADERS on a closed stream", vec![(get(1), Served(1)), (get(1), End(CLOSED))]),
        ("5.1: CONTINUATION on a closed stream", vec![(get(1), Served(1)), (frame(CONTINUATION, END_HEADERS, 1, FIELD), Either(CLOSED, PROTOCOL))]),
    ]
}

#[rustfmt::skip]
fn broken_frames() -> Vec<Case> {
    vec![
        one("6.4: RST_STREAM on stream 0", &[reset(0, 8)], Connection(PROTOCOL)),
        one("6.4: RST_STREAM that is too short", &[post(), frame(RST_STREAM, 0, 1, [0; 3])], End(SIZE)),
        one("6.5: SETTINGS with ACK and a payload", &[frame(SETTINGS, ACK, 0, [0])], End(SIZE)),
        one("6.5: SETTINGS on a stream", &[frame(SETTINGS, 0, 1, b"\0\x03\0\0\0\x64")], Connection(PROTOCOL)),
        one("6.5: SETTINGS that are cut", &[frame(SETTINGS, 0, 0, [0; 3])], End(SIZE)),
        one("6.5.2: ENABLE_PUSH that is neither", &[setting(2, 2)], Connection(PROTOCOL)),
        one("6.5.2: INITIAL_WINDOW_SIZE beyond its range", &[setting(4, 1 << 31)], End(FLOW)),
        one("6.5.2: MAX_FRAME_SIZE below its range", &[setting(5, 16_383)], Connection(PROTOCOL)),
        one("6.5.2: MAX_FRAME_SIZE beyond its range", &[setting(5, 1 << 24)], Connection(PROTOCOL)),
        one("6.6: PUSH_PROMISE of a client", &[post(), frame(PUSH_PROMISE, END_HEADERS, 1, [b"\0\0\0\x03", GET].concat())], Connection(PROTOCOL)),
        one("6.7: PING that is too short", &[frame(PING, 0, 0, [0; 6])], End(SIZE)),
        one("6.8: GOAWAY on a stream", &[frame(GOAWAY, 0, 1, [0; 8])], Connection(PROTOCOL)),
        one("6.9: WINDOW_UPDATE by nothing", &[update(0, 0)], Connection(PROTOCOL)),
        one("6.9: WINDOW_UPDATE by nothing, of a stream", &[post(), update(1, 0)], Stream(PROTOCOL)),
        one("6.9: WINDOW_UPDATE that is too short", &[frame(WINDOW_UPDATE, 0, 0, [0, 0, 1])], End(SIZE)),
        one("6.9.1: a window beyond its range", &[update(0, 0x7fff_ffff), update(0, 0x7fff_ffff)], Connection(FLOW)),
        one("6.9.1: a stream's window beyond its range", &[post(), update(1, 0x7fff_ffff), update(1, 0x7fff_ffff)], Stream(FLOW)),
        one("6.9.2: streams' windows beyond their range", &[setting(4, 100), post(), update(1, 0x7fff_ffff - 100), setting(4, 101)], Connection(FLOW)),
        one("6.10: CONTINUATION with another kind of frame in between", &[frame(HEADERS, END_STREAM, 1, GET), frame(CONTINUATION, 0, 1, FIELD), frame(DATA, END_STREAM, 1, "test")], Connection(PROTOCOL)),
        one("6.10: CONTINUATION on stream 0", &[frame(HEADERS, END_STREAM, 1, GET), frame(CONTINUATION, END_HEADERS, 0, FIELD)], Connection(PROTOCOL)),
        one("6.10: CONTINUATION of a head that has ended", &[post(), frame(CONTINUATION, END_HEADERS, 1, FIELD)], Connection(PROTOCOL)),
        one("6.10: CONTINUATION after the last one", &[frame(HEADERS, 0, 1, POST), frame(CONTINUATION, END_HEADERS, 1, FIELD), frame(CONTINUATION, END_HEADERS, 1, FIELD)], Connection(PROTOCOL)),
        one("6.10: CONTINUATION after DATA", &[post(), frame(DATA, 0, 1, "test"), frame(CONTINUATION, END_HEADERS, 1, FIELD)], Connection(PROTOCOL)),
    ]
}

#[rustfmt::skip]
fn broken_fields() -> Vec<Case> {
    let length = |length: &str| frame(HEADERS, HEAD, 1, [POST, b"\x0f\x0d\x01", length.as_bytes()].concat());
    vec![
        one("8.1: trailers that end nothing", &[post(), frame(DATA, 0, 1, "test"), frame(HEADERS, HEAD, 1, FIELD)], Stream(PROTOCOL)),
        one("8.1.1: less DATA than Content-Length", &[length("5"), frame(DATA, END_STREAM, 1, "test")], Stream(PROTOCOL)),
        one("8.1.1: less in several pieces", &[length("9"), frame(DATA, 0, 1, "test"), frame(DATA, END_STREAM, 1, "test")], Stream(PROTOCOL)),
        one("8.1.1: more DATA than Content-Length", &[length("1"), frame(DATA, END_STREAM, 1, "test")], Stream(PROTOCOL)),
        one("8.2.1: upper case", &[with(&[b"\x00\x01X\x01y"])], Stream(PROTOCOL)),
        one("8.2.2: a field of the connection", &[with(&[b"\x00\x0aconnection\x0akeep-alive"])], Stream(PROTOCOL)),
        one("8.2.2: TE that is not trailers", &[with(&[b"\x00\x02te\x15trailers, deflate;q=1"])], Stream(PROTOCOL)),
        one("8.3: a pseudo-field that nobody knows", &[with(&[b"\x00\x05:test\x02ok"])], Stream(PROTOCOL)),
        one("8.3: a pseudo-field of responses", &[with(&[b"\x88"])], Stream(PROTOCOL)),
        one("8.3: a pseudo-field after a field", &[frame(HEADERS, REQUEST, 1, [FIELD, GET].concat())], Stream(PROTOCOL)),
        one("8.3: a pseudo-field in trailers", &[post(), frame(DATA, 0, 1, "test"), frame(HEADERS, REQUEST, 1, [0x83])], End(PROTOCOL)),
        one("8.3: and by the dynamic table", &[frame(HEADERS, HEAD, 1, b"\x83\x86\x84\x41\x01a"), frame(HEADERS, REQUEST, 1, [0xbe])], End(PROTOCOL)),
        one("8.3.1: an empty path", &[frame(HEADERS, REQUEST, 1, b"\x82\x86\x04\x00\x01\x01a")], Stream(PROTOCOL)),
        one("8.3.1: no method", &[frame(HEADERS, REQUEST, 1, b"\x86\x84\x01\x01a")], Stream(PROTOCOL)),
        one("8.3.1: no scheme", &[frame(HEADERS, REQUEST, 1, b"\x82\x84\x01\x01a")], Stream(PROTOCOL)),
        one("8.3.1: no path", &[frame(HEADERS, REQUEST, 1, b"\x82\x86\x01\x01a")], Stream(PROTOCOL)),
        one("8.3.1: two methods", &[frame(HEADERS, REQUEST, 1, [b"\x82", GET].concat())], Stream(PROTOCOL)),
        one("8.3.1: two schemes", &[frame(HEADERS, REQUEST, 1, [b"\x86", GET].concat())], Stream(PROTOCOL)),
        one("8.3.1: two paths", &[frame(HEADERS, REQUEST, 1, [b"\x84", GET].concat())], Stream(PROTOCOL)),
        one("HPACK 2.3.3: an index beyond the tables", &[with(&[b"\xc6"])], End(COMPRESSION)),
        one("HPACK 2.3.3: a literal's name beyond the tables", &[with(&[b"\x7f\x0a\x01a"])], End(COMPRESSION)),
        one("HPACK 4.2: the table's size at the end of a block", &[with(&[b"\x20"])], End(COMPRESSION)),
        one("HPACK 5.2: Huffman's padding of more than 7 bits", &[with(&[b"\x40\x01x\x83\x25\xff\xff"])], End(COMPRESSION)),
        one("HPACK 5.2: Huffman's padding of zeros", &[with(&[b"\x40\x01x\x81\x18"])], End(COMPRESSION)),
        one("HPACK 5.2: Huffman's end of string", &[with(&[b"\x40\x01x\x84\xff\xff\xff\xff"])], End(COMPRESSION)),
        one("HPACK 6.1: index 0", &[with(&[b"\x80"])], End(COMPRESSION)),
        one("HPACK 6.3: a larger table than offered", &[frame(HEADERS, REQUEST, 1, [b"\x3f\xe2\x1f", GET].concat())], End(COMPRESSION)),
    ]
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Sends a case's turns on a connection of its own. What happened instead of what should have?
async fn complaint(mut wire: Box<dyn Wire>, (rule, turns): Case) -> Option<String> {
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, "")].concat();
    wire.write_all(&preface).await.unwrap();
    for (bytes, want) in turns {
        // One that has heard enough may not wait for the rest.
        drop(wire.write_all(&bytes).await);
        match timeout(Duration::from_secs(10), happened(&mut wire, want)).await {
            Ok(Ok(())) => (),
            Ok(Err(instead)) => return Some(format!("{rule}: {instead} instead of {want:?}")),
            Err(_) => return Some(format!("{rule}: nothing instead of {want:?}")),
        }
    }
    None
}

async fn happened(wire: &mut Box<dyn Wire>, want: Want) -> Result<(), String> {
    let mut instead = String::new();
    let mut is_over = false;
    loop {
        let next = next(wire).await;
        let Ok(Some((kind, flags, stream, payload))) = next else {
            // A reset would hide from a client what was said before it.
            let is_meant = is_over || matches!(want, End(_));
            return if next.is_ok() && is_meant { Ok(()) } else { Err(format!("{instead} {next:?}")) };
        };
        let code =
            |at: usize| payload.get(at..at + 4).map(|code| u32::from_be_bytes(code.try_into().unwrap()));
        let is = |code: Option<u32>| match want {
            Connection(meant) | Stream(meant) | End(meant) => code == Some(meant),
            Either(one, other) => code == Some(one) || code == Some(other),
            _ => false,
        };
        let is_meant = match (kind, want) {
            (HEADERS | DATA, Served(meant)) => stream == meant && flags & END_STREAM != 0,
            (DATA, Data(length)) => payload.len() == length,
            (SETTINGS | PING, Ack(meant)) => kind == meant && flags & ACK != 0,
            (RST_STREAM, Stream(_) | Either(..) | End(_)) => is(code(0)),
            _ => false,
        };
        if is_meant {
            return Ok(());
        }
        is_over |= kind == GOAWAY && is(code(4));
        if matches!(kind, GOAWAY | RST_STREAM | DATA) {
            write!(instead, "({kind} {flags:x} {stream} {payload:x?})").unwrap();
        }
    }
}

/// Kind, flags, stream and payload of the next frame; none at the end.
async fn next(wire: &mut Box<dyn Wire>) -> io::Result<Option<(u8, u8, u32, Vec<u8>)>> {
    let mut head = [0; 9];
    match wire.read_exact(&mut head).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    let [a, b, c, kind, flags, stream @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]).try_into().unwrap()];
    wire.read_exact(&mut payload).await?;
    Ok(Some((kind, flags, u32::from_be_bytes(stream), payload)))
}

/// What all of these come to, each on a connection of its own, some at a time.
async fn complaints(cases: Vec<Case>, secure: bool) -> (Vec<String>, usize) {
    let origin = Origin::start(|_| ok("0123456789")).await;
    let over_tls = secure.then(|| Secure::to(origin.address, Duration::from_secs(10)));
    let plain = (!secure).then(|| Through::to(origin.address));
    let config = over_tls.as_ref().map(|secure| Arc::new(secure.client(&[b"h2"])));
    let (mut found, mut asked) = (Vec::new(), JoinSet::new());
    for case in cases {
        let wire: Box<dyn Wire> = match (&over_tls, &config, &plain) {
            (Some(secure), Some(config), _) => Box::new(secure.connect(config).await.unwrap()),
            (.., Some(through)) => Box::new(TcpStream::connect(through.address).await.unwrap()),
            _ => unreachable!(),
        };
        asked.spawn(complaint(wire, case));
        if asked.len() >= 16 {
            found.extend(asked.join_next().await.unwrap().unwrap());
        }
    }
    for complaint in asked.join_all().await {
        found.extend(complaint);
    }
    (found, origin.seen().len())
}

#[tokio::test]
async fn what_is_right_is_taken() {
    for secure in [false, true] {
        let (found, seen) = complaints(served(), secure).await;
        assert!(found.is_empty(), "over TLS: {secure}\n{}", found.join("\n"));
        assert!(seen > 20, "{seen}");
    }
}

#[tokio::test]
async fn what_is_wrong_ends_its_stream_or_its_connection() {
    for secure in [false, true] {
        let (found, _) =
            complaints([broken_streams(), broken_frames(), broken_fields()].concat(), secure).await;
        assert!(found.is_empty(), "over TLS: {secure}\n{}", found.join("\n"));
    }
}

#[tokio::test]
async fn a_preface_that_is_none_ends_the_connection() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    for preface in ["INVALID CONNECTION PREFACE\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rx"] {
        let mut wire = TcpStream::connect(through.address).await.unwrap();
        wire.write_all(preface.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(Duration::from_secs(10), wire.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert!(answer.is_empty(), "no HTTP/1.1, which it does not speak: {}", answer.escape_ascii());
    }
    let secure = Secure::to(origin.address, Duration::from_secs(10));
    let mut wire = secure.connect(&Arc::new(secure.client(&[b"h2"]))).await.unwrap();
    wire.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // Whether it says so or not, it closes.
    drop(timeout(Duration::from_secs(10), wire.read_to_end(&mut Vec::new())).await.unwrap());
    assert_eq!(origin.seen().len(), 0);
}
