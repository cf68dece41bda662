//! HTTP/2 made of bytes: what HTTP/1.1 would say otherwise is refused or reset, and never reaches an HTTP/1.1 origin.

use super::client::find;
use super::origin::Origin;
use super::through::Through;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

type Fields<'a> = Vec<(&'a str, &'a str)>;

/// What became of a stream.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Served,
    /// Answered with another status than 200.
    Refused,
    Reset,
    Closed,
}

/// A field as HPACK's literal that is not indexed (RFC 7541 6.2.2), for names and values below 127 bytes.
fn literal((name, value): &(&str, &str)) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [&[0][..], &text(name), &text(value)].concat()
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A head, and perhaps a body and trailers, on the first stream of a connection.
async fn ask(address: SocketAddr, fields: &Fields<'_>, body: Option<&str>, trailers: &Fields<'_>) -> End {
    let block = |fields: &Fields<'_>| fields.iter().flat_map(literal).collect::<Vec<u8>>();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    let last = if body.is_none() && trailers.is_empty() { END_STREAM } else { 0 };
    bytes.extend(frame(HEADERS, END_HEADERS | last, 1, &block(fields)));
    if let Some(body) = body {
        bytes.extend(frame(DATA, if trailers.is_empty() { END_STREAM } else { 0 }, 1, body.as_bytes()));
    }
    if !trailers.is_empty() {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers)));
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    timeout(Duration::from_secs(20), end(&mut stream)).await.expect("an end in time")
}

async fn end(stream: &mut TcpStream) -> End {
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return End::Closed;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length.try_into().unwrap()];
        if stream.read_exact(&mut payload).await.is_err() {
            return End::Closed;
        }
        match (head[3], head[8]) {
            // `:status: 200` is the eighth of HPACK's static table.
            (HEADERS, 1) if payload[0] == 0x88 => return End::Served,
            (HEADERS, 1) => {
                assert!(find(&payload, b"tidegate").is_some() || payload.len() > 20, "an answer of ours");
                return End::Refused;
            }
            (RST_STREAM, 1) => return End::Reset,
            (GOAWAY, _) => return End::Closed,
            _ => (),
        }
    }
}

fn head<'a>(fields: &[(&'a str, &'a str)]) -> Fields<'a> {
    let mut head = vec![(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    for field in fields {
        match head.iter().position(|(name, _)| name.starts_with(':') && *name == field.0) {
            Some(place) => head[place] = *field,
            None => head.push(*field),
        }
    }
    head
}

/// None of these is served, and nothing of them reaches the origin.
async fn refused(cases: &[(&str, Fields<'_>)]) {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let mut passed = Vec::new();
    for (name, fields) in cases {
        let before = origin.seen().len();
        let end = ask(through.address, fields, None, &Vec::new()).await;
        if end == End::Served || origin.seen().len() > before {
            passed.push(format!("{name}: {end:?} {:?}", origin.seen().last()));
        }
    }
    assert!(passed.is_empty(), "{}", passed.join("\n"));
}

#[tokio::test]
async fn heads_that_http1_would_say_otherwise_do_not_pass() {
    let cases: Vec<(&str, Fields<'_>)> = vec![
        ("upper-case name", head(&[("X-Y", "z")])),
        ("connection", head(&[("connection", "close")])),
        ("keep-alive", head(&[("keep-alive", "timeout=5")])),
        ("proxy-connection", head(&[("proxy-connection", "close")])),
        ("transfer-encoding", head(&[("transfer-encoding", "chunked")])),
        ("upgrade", head(&[("upgrade", "h2c")])),
        ("te", head(&[("te", "gzip")])),
        ("te with more", head(&[("te", "trailers, gzip")])),
        ("colon in a name", head(&[("x:y", "z")])),
        ("space in a name", head(&[("x y", "z")])),
        ("line feed in a name", head(&[("x\ny", "z")])),
        ("an empty name", head(&[("", "z")])),
        ("carriage return in a value", head(&[("x", "y\rz")])),
        ("line feed in a value", head(&[("x", "y\nz")])),
        ("a head in a value", head(&[("x", "y\r\nHost: b\r\n\r\nGET /smuggled HTTP/1.1")])),
        ("NUL in a value", head(&[("x", "y\0z")])),
        ("space before a value", head(&[("x", " y")])),
        ("space after a value", head(&[("x", "y ")])),
        ("tab after a value", head(&[("x", "y\t")])),
    ];
    refused(&cases).await;
}

#[tokio::test]
async fn pseudo_fields_that_say_nothing_valid_do_not_pass() {
    let cases: Vec<(&str, Fields<'_>)> = vec![
        ("space in the method", head(&[(":method", "GET /x HTTP/1.1")])),
        ("line end in the method", head(&[(":method", "GET / HTTP/1.1\r\n\r\nGET")])),
        ("an empty method", head(&[(":method", "")])),
        ("an empty path", head(&[(":path", "")])),
        ("a path without a slash", head(&[(":path", "x")])),
        ("a query alone", head(&[(":path", "?x")])),
        ("a URL for a path", head(&[(":path", "http://b/")])),
        ("space in the path", head(&[(":path", "/ HTTP/1.1\r\nX: y")])),
        ("a space in the path", head(&[(":path", "/a b")])),
        ("a fragment", head(&[(":path", "/a#b")])),
        ("a fragment after a query", head(&[(":path", "/a?b#c")])),
        ("a fragment alone", head(&[(":path", "#")])),
        ("a tab in the path", head(&[(":path", "/a\tb")])),
        ("DEL in the path", head(&[(":path", "/a\u{7f}b")])),
        ("NUL in the path", head(&[(":path", "/a\0b")])),
        ("line feed in the path", head(&[(":path", "/a\nb")])),
        ("carriage return in the query", head(&[(":path", "/a?b\rc")])),
        ("letters beyond ASCII in the path", head(&[(":path", "/\u{e9}")])),
        ("and in the query", head(&[(":path", "/?\u{e9}")])),
        ("a quote in the query", head(&[(":path", "/?\"")])),
        ("angle brackets in the path", head(&[(":path", "/<>")])),
        ("asterisk with POST", head(&[(":path", "*")])),
        ("user information", head(&[(":authority", "u@a")])),
        ("user and password", head(&[(":authority", "u:p@a")])),
        ("space in the authority", head(&[(":authority", "a b")])),
        ("an empty authority", head(&[(":authority", "")])),
        ("NUL in the authority", head(&[(":authority", "a\0b")])),
        ("line end in the authority", head(&[(":authority", "a\r\nx: y")])),
        ("question mark in the authority", head(&[(":authority", "a?b")])),
        ("fragment in the authority", head(&[(":authority", "a#b")])),
        ("backslash in the authority", head(&[(":authority", "a\\b")])),
        ("percent in the authority", head(&[(":authority", "a%2fb")])),
        ("slash in the authority", head(&[(":authority", "a/b")])),
        ("two authorities in one", head(&[(":authority", "a,b")])),
        ("a port that is none", head(&[(":authority", "a:99999")])),
        ("a path in the scheme", head(&[(":scheme", "http://b/?x=")])),
        ("another scheme", head(&[(":scheme", "ftp")])),
        ("line end in the scheme", head(&[(":scheme", "http\r\n")])),
        ("space in the scheme", head(&[(":scheme", "ht tp")])),
        ("NUL in the method", head(&[(":method", "GE\0T")])),
        ("colon in the method", head(&[(":method", "GE:T")])),
        ("an empty scheme", head(&[(":scheme", "")])),
    ];
    refused(&cases).await;
}

#[tokio::test]
async fn fields_that_name_no_request_do_not_pass() {
    let (method, scheme, authority, path) =
        ((":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"));
    let cases: Vec<(&str, Fields<'_>)> = vec![
        ("Host contradicts", head(&[("host", "b")])),
        ("two Hosts", head(&[("host", "a"), ("host", "a")])),
        ("Host with user information", head(&[("host", "u@a")])),
        ("an empty Host", head(&[("host", "")])),
        ("no method", vec![scheme, authority, path]),
        ("no scheme", vec![method, authority, path]),
        ("no path", vec![method, scheme, authority]),
        ("no authority and no Host", vec![method, scheme, path]),
        ("two methods", vec![method, method, scheme, authority, path]),
        ("two paths", vec![method, scheme, authority, path, (":path", "/b")]),
        ("two schemes", vec![method, scheme, scheme, authority, path]),
        ("two authorities", vec![method, scheme, authority, (":authority", "b"), path]),
        ("unknown pseudo-field", head(&[(":x", "y")])),
        ("a response's pseudo-field", head(&[(":status", "200")])),
        ("pseudo-field after a field", vec![method, scheme, authority, ("x", "y"), path]),
        ("a protocol without being asked", head(&[(":method", "CONNECT"), (":protocol", "websocket")])),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "a:443")]),
        ("CONNECT with a path", head(&[(":method", "CONNECT")])),
        ("a length that is none", head(&[("content-length", "x")])),
        ("a length with a sign", head(&[("content-length", "+0")])),
        ("two tokens", head(&[("authorization", "a"), ("authorization", "a")])),
        ("two types", head(&[("content-type", "a/b"), ("content-type", "c/d")])),
        ("two lengths", head(&[("content-length", "0"), ("content-length", "1")])),
        ("the same length twice", head(&[("content-length", "0"), ("content-length", "0")])),
        ("a length without a body", head(&[("content-length", "3")])),
        ("an unknown expectation", head(&[("expect", "x")])),
        ("TRACE with a credential", head(&[(":method", "TRACE"), ("authorization", "Bearer t")])),
        ("framing in disguise", head(&[("content_length", "3")])),
    ];
    refused(&cases).await;
}

#[tokio::test]
async fn bodies_and_trailers_that_lie_do_not_pass() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let mut passed = Vec::new();
    for (name, fields, body, trailers) in [
        ("shorter than its length", head(&[("content-length", "5")]), "abc", vec![]),
        ("longer than its length", head(&[("content-length", "1")]), "abc", vec![]),
        ("upper case in trailers", head(&[]), "abc", vec![("X", "y")]),
        ("line end in trailers", head(&[]), "abc", vec![("x", "y\r\nz: z")]),
        ("connection in trailers", head(&[]), "abc", vec![("connection", "close")]),
        ("a pseudo-field in trailers", head(&[]), "abc", vec![("x", "y"), (":path", "/b")]),
        ("an unknown one in trailers", head(&[]), "abc", vec![(":x", "y")]),
        ("a TRACE's", head(&[(":method", "TRACE")]), "abc", vec![]),
    ] {
        let end = ask(through.address, &fields, Some(body), &trailers).await;
        if end == End::Served || !origin.seen().is_empty() {
            passed.push(format!("{name}: {end:?} {:?}", origin.seen().last()));
        }
    }
    assert!(passed.is_empty(), "{}", passed.join("\n"));
}

#[tokio::test]
async fn what_is_right_is_translated() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let none = Vec::new();
    for (line, fields, body) in [
        ("POST /", head(&[]), None),
        ("GET //b/x?y", head(&[(":method", "GET"), (":path", "//b/x?y")]), None),
        ("POST /", head(&[("content-length", "3")]), Some("abc")),
        ("POST /", head(&[("host", "A"), ("te", "trailers")]), None),
        ("OPTIONS *", head(&[(":method", "OPTIONS"), (":path", "*")]), None),
        ("GET /", vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", "a:80")], None),
    ] {
        assert_eq!(ask(through.address, &fields, body, &none).await, End::Served, "{line}");
        assert_eq!(origin.seen().last().unwrap().line, line);
    }
}
