//! What no client may send: each of these is refused, nothing of it and nothing after it reaches the origin, and the
//! connection is closed. Beside them what looks odd and is right, which must pass.

use super::client::Client;
use super::origin::Origin;
use super::through::{Through, eventually};

/// What comes after each refused head on its connection: were it served, a request would have been smuggled.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Sends each case on a connection of its own, and says which were not refused as they must be.
async fn refused(cases: &[(&str, &[u8])], statuses: &[u16]) {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let mut wrong = Vec::new();
    for (name, bytes) in cases {
        let mut client = Client::connect(through.address).await;
        let sent = [bytes, SMUGGLED.as_bytes()].concat();
        client.send(&sent).await;
        let answer = String::from_utf8_lossy(&client.rest().await).into_owned();
        let status = answer.get(9..12).and_then(|status| status.parse::<u16>().ok()).unwrap_or_default();
        let is_ours = answer.contains("\r\nproxy-status: tidegate; error=")
            && answer.contains("\r\ncache-control: no-store\r\n")
            && answer.contains("\r\nconnection: close\r\n");
        if !statuses.contains(&status) || !is_ours || answer.matches("\r\nproxy-status: ").count() != 1 {
            wrong.push(format!("{name}: {answer}"));
        }
        if !origin.seen().is_empty() || origin.connections() > 0 {
            wrong.push(format!("{name}: something reached the origin: {:?}", origin.seen()));
            break;
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// As [`refused`] for cases that are text.
async fn refused_heads(cases: &[(&str, &str)], statuses: &[u16]) {
    let cases: Vec<_> = cases.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    refused(&cases, statuses).await;
}

#[tokio::test]
async fn request_lines_that_are_none() {
    refused(
        &[
            ("no version", b"GET /\r\nHost: a\r\n\r\n"),
            ("HTTP/0.9", b"GET /\r\n"),
            ("lower-case version", b"GET / http/1.1\r\nHost: a\r\n\r\n"),
            ("version without a minor", b"GET / HTTP/1\r\nHost: a\r\n\r\n"),
            ("version with three parts", b"GET / HTTP/1.1.1\r\nHost: a\r\n\r\n"),
            ("version with a comma", b"GET / HTTP/1,1\r\nHost: a\r\n\r\n"),
            ("version of two digits", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
            ("version with a zero before it", b"GET / HTTP/01.1\r\nHost: a\r\n\r\n"),
            ("another protocol", b"GET / HTTPS/1.1\r\nHost: a\r\n\r\n"),
            ("two spaces before the target", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("two spaces before the version", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("a space at the end", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
            ("a space at the start", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("tab for space", b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n"),
            ("tab in the target", b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("space in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("vertical tab", b"GET\x0b/\x0bHTTP/1.1\r\nHost: a\r\n\r\n"),
            ("NUL in the method", b"G\0T / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("NUL in the target", b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("DEL in the target", b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("bytes beyond ASCII in the target", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("a target with angles", b"GET /<x> HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("a method that is no token", b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("a method of 33 bytes", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-------\x20/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("the beginning of HTTP/2", b"PRI / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("no method", b"/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("bare LF after the line", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
            ("bare LF everywhere", b"GET / HTTP/1.1\nHost: a\n\n"),
            ("bare CR after the line", b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
            ("bare LF before the line", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("many empty lines", b"\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
            ("a response", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ],
        &[400],
    )
    .await;
    // Longer than a head may be, and refused for what it is.
    let endless = "A".repeat(100_000);
    refused_heads(&[("a method without end", &endless)], &[400]).await;
}

#[tokio::test]
async fn versions_that_are_not_spoken() {
    refused_heads(
        &[
            ("HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
            ("HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
            ("HTTP/0.9 spelt out", "GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
            ("HTTP/9.9", "GET / HTTP/9.9\r\nHost: a\r\n\r\n"),
        ],
        &[505],
    )
    .await;
}

#[tokio::test]
async fn targets_that_are_none() {
    refused_heads(
        &[
            ("fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("fragment alone", "GET # HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("fragment of an absolute form", "GET http://a/#b HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("asterisk with GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("asterisk and more", "OPTIONS *a HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("authority with GET", "GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
            ("a name with GET", "GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("no slash", "GET index.html/x HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("query alone", "GET ?x HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("user information", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("user and password", "GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("no authority", "GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("scheme without slashes", "GET http:a HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("a file", "GET file:///etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("brackets open", "GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("CONNECT to a path", "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("CONNECT to a URL", "CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("CONNECT to an asterisk", "CONNECT * HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("CONNECT without a port", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("CONNECT with an empty port", "CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("CONNECT with a port that is none", "CONNECT a:99999 HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("CONNECT with user information", "CONNECT u@a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ],
        &[400],
    )
    .await;
    refused_heads(&[("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")], &[501]).await;
}

#[tokio::test]
async fn hosts_that_are_none() {
    let bad = [
        "",
        " ",
        "a b",
        "a,b",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "u@a",
        "u:p@a",
        "a:x",
        "a:-1",
        "a:65536",
        "a:80:80",
        ":80",
        "[::1",
        "::1",
        "[::1]x",
        "[zz]",
        "[]",
        "[1.2.3.4]",
        "a%zz",
        "a%2",
        "a%41",
        "<a>",
        "a\"b",
        "a{b}",
        "a^b",
        "a|b",
        "a\tb",
        "http://a",
        "a;\u{e9}",
        "@",
        "[::1]:80:80",
    ];
    let heads: Vec<_> =
        bad.iter().map(|host| (*host, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))).collect();
    let cases: Vec<_> = heads.iter().map(|(host, head)| (*host, head.as_str())).collect();
    refused_heads(&cases, &[400]).await;
    refused_heads(
        &[
            ("none", "GET / HTTP/1.1\r\n\r\n"),
            ("two", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
            ("the same twice", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
            ("the same twice apart", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhOsT: a\r\n\r\n"),
            ("none beside an absolute form", "GET http://a/ HTTP/1.1\r\n\r\n"),
            ("two in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
            ("a space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
            ("in a folded line", "GET / HTTP/1.1\r\nX: y\r\n Host: a\r\nHost: b\r\n\r\n"),
        ],
        &[400],
    )
    .await;
}

#[tokio::test]
async fn fields_that_are_none() {
    refused(
        &[
            ("folded with a space", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
            ("folded with a tab", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n"),
            ("folded before the first", b"GET / HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n"),
            ("an empty folded line", b"GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n"),
            ("space before the colon", b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"),
            ("tab before the colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\t: y\r\n\r\n"),
            ("space in the name", b"GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n"),
            ("no name", b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n"),
            ("no colon", b"GET / HTTP/1.1\r\nHost: a\r\nXY\r\n\r\n"),
            ("NUL in the name", b"GET / HTTP/1.1\r\nHost: a\r\nX\0: y\r\n\r\n"),
            ("NUL in the value", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n"),
            ("control in the value", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x01z\r\n\r\n"),
            ("DEL in the value", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x7fz\r\n\r\n"),
            ("vertical tab in the value", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x0bz\r\n\r\n"),
            ("bare CR in the value", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rZ: z\r\n\r\n"),
            ("two CRs", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n"),
            ("bare LF in the head", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\nZ: z\r\n\r\n"),
            ("bare LF ends the head", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
            ("bare CR ends the head", b"GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n"),
            ("parenthesis in the name", b"GET / HTTP/1.1\r\nHost: a\r\nX(y): z\r\n\r\n"),
            ("slash in the name", b"GET / HTTP/1.1\r\nHost: a\r\nX/y: z\r\n\r\n"),
            ("quotes in the name", b"GET / HTTP/1.1\r\nHost: a\r\n\"X\": z\r\n\r\n"),
            ("bytes beyond ASCII in the name", b"GET / HTTP/1.1\r\nHost: a\r\nX\xe9: z\r\n\r\n"),
            ("a name beginning with NUL", b"GET / HTTP/1.1\r\nHost: a\r\n\0X: z\r\n\r\n"),
            (
                "two tokens",
                b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nX: y\r\nauthorization: x\r\n\r\n",
            ),
            ("two types", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Type: a/b\r\ncontent-type: c/d\r\n\r\n"),
        ],
        &[400],
    )
    .await;
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(101));
    let huge = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(100_000));
    let huge_name = format!("GET / HTTP/1.1\r\nHost: a\r\n{}: y\r\n\r\n", "x".repeat(100_000));
    refused_heads(&[("many", &many), ("huge value", &huge), ("huge name", &huge_name)], &[431]).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(65_600));
    refused_heads(&[("a target of more than 65 533 bytes", &long)], &[414, 431]).await;
}

#[tokio::test]
async fn lengths_that_are_none() {
    let bad = [
        "-1",
        "+3",
        "3 3",
        "3,3",
        "3, 3",
        "3,4",
        "0x3",
        "3.0",
        "3e0",
        "three",
        "",
        "3;",
        "\"3\"",
        "3\t3",
        "0b11",
        "٣",
        "18446744073709551616",
        "99999999999999999999999999",
        "9223372036854775808",
        "1_0",
        ",3",
        "3,",
        "0 3",
    ];
    let heads: Vec<_> = bad
        .iter()
        .map(|length| (*length, format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nabc")))
        .collect();
    let cases: Vec<_> = heads.iter().map(|(length, head)| (*length, head.as_str())).collect();
    refused_heads(&cases, &[400]).await;
    refused_heads(
        &[
            ("two", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
            (
                "the same twice",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\ncontent-length: 3\r\n\r\nabc",
            ),
            ("a space before the colon", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc"),
            ("with an underscore", "POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 3\r\n\r\nabc"),
            ("a number too long in HTTP/1.0", "POST / HTTP/1.0\r\nContent-Length: 3a\r\n\r\nabc"),
        ],
        &[400],
    )
    .await;
}

#[tokio::test]
async fn codings_that_are_not_known() {
    let head =
        |coding: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
    // Where their body ends is known, but not what it is (RFC 9112 6.1).
    for coding in ["gzip, chunked", "x, chunked", "identity, chunked", "gzip;q=1, x, chunked"] {
        refused_heads(&[(coding, &head(coding))], &[501]).await;
    }
    // Where it ends is not known: that must be a 400 (RFC 9112 6.3).
    let bad = [
        "chunked, gzip",
        "gzip, chunked, gzip",
        "gzip",
        "identity",
        "chunked, chunked",
        "gzip, chunked, chunked",
        "chunked;q=1, chunked",
        ",chunked",
        "gzip,,chunked",
        "chunked,",
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        "chunked ;x",
        "\"chunked\"",
        "\"gzip\", chunked",
        "chun ked",
        "",
        ",",
        "chunked, identity",
        "trailers",
        "chunked\\",
        "\u{17f}chunked",
    ];
    let heads: Vec<_> = bad.iter().map(|coding| (*coding, head(coding))).collect();
    let cases: Vec<_> = heads.iter().map(|(coding, head)| (*coding, head.as_str())).collect();
    refused_heads(&cases, &[400]).await;
    let two = |first: &str, second: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\n{first}\r\n{second}\r\n\r\n0\r\n\r\n")
    };
    let (chunked, gzip) = ("Transfer-Encoding: chunked", "Transfer-Encoding: gzip");
    for (name, head) in [
        ("two lines", two(chunked, chunked)),
        ("two lines, the last another", two(chunked, gzip)),
        ("two lines, the first another", two(gzip, chunked)),
        ("folded", two("Transfer-Encoding:", " chunked")),
        ("with a length", two("Transfer-Encoding: gzip", "Content-Length: 5")),
    ] {
        refused_heads(&[(name, &head)], &[400]).await;
    }
    refused_heads(
        &[
            ("in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            ("a space before the colon", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
            ("with an underscore", "POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n"),
            ("after a vertical tab", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
            (
                "beside a length",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "before a length",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            ),
        ],
        &[400],
    )
    .await;
}

#[tokio::test]
async fn chunks_that_are_none() {
    let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(5_000));
    let bad: [&str; 43] = [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nContent_Length: 3\r\n\r\n",
        "3\r\nabc\r\n0\r\nTRANSFER_ENCODING: x\r\n\r\n",
        "3\r\nabc\r\n0\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
        "3\rabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "4\r\nabc\r\n0\r\n\r\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "3\t\r\nabc\r\n0\r\n\r\n",
        "3 x\r\nabc\r\n0\r\n\r\n",
        "3;x \r\nabc\r\n0\r\n\r\n",
        "3; \r\nabc\r\n0\r\n\r\n",
        "3;x= \r\nabc\r\n0\r\n\r\n",
        "3;x y\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        ";x\r\nabc\r\n0\r\n\r\n",
        "3,3\r\nabc\r\n0\r\n\r\n",
        "3.0\r\nabc\r\n0\r\n\r\n",
        "3_0\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        "000000000010000000000000003\r\nabc\r\n0\r\n\r\n",
        "3;\r\nabc\r\n0\r\n\r\n",
        "3;x=\r\nabc\r\n0\r\n\r\n",
        "3;x=\"y\r\nabc\r\n0\r\n\r\n",
        "3;x\0y\r\nabc\r\n0\r\n\r\n",
        "3;x\ny\r\nabc\r\n0\r\n\r\n",
        "3;x\ry\r\nabc\r\n0\r\n\r\n",
        "3;x=\"\x01\"\r\nabc\r\n0\r\n\r\n",
        &long,
        "3\r\nabc\r\n0\r\nX : y\r\n\r\n",
        "3\r\nabc\r\n0\r\nX: y\n\r\n",
        "3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n",
        "3\r\nabc\r\n0\r\nX: y\0\r\n\r\n",
        "3\r\nabc\r\n0\r\nno colon\r\n\r\n",
    ];
    let heads: Vec<_> = bad
        .iter()
        .map(|body| {
            (*body, format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"))
        })
        .collect();
    let cases: Vec<_> = heads.iter().map(|(body, head)| (*body, head.as_str())).collect();
    refused_heads(&cases, &[400]).await;
}

#[tokio::test]
async fn expectations_that_are_not_known() {
    for expectation in ["y 100-continue", "100-continue, x", "x", "", "100-continue;q=1"] {
        let head =
            format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: {expectation}\r\nContent-Length: 3\r\n\r\nabc");
        refused_heads(&[(expectation, &head)], &[417]).await;
    }
}

#[tokio::test]
async fn a_refused_head_waits_for_its_turn_and_ends_the_connection() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let good = "POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let bad = "GET /bad HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n";
    let sent = format!("{good}{good}{bad}{SMUGGLED}");
    // Whole, and in pieces of every kind: where a read ends makes no difference.
    for size in [sent.len(), 1, 7, 50, 61, 64, 121, 130] {
        let before = origin.seen().len();
        let mut client = Client::connect(through.address).await;
        for piece in sent.as_bytes().chunks(size) {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        let answers = String::from_utf8(client.rest().await).unwrap();
        let statuses: Vec<_> =
            answers.split("HTTP/1.1 ").skip(1).map(|answer| answer.get(..3).unwrap_or_default()).collect();
        assert_eq!(statuses, ["200", "200", "400"], "{size}: {answers}");
        let lines: Vec<_> = origin.seen()[before..].iter().map(|seen| seen.line.clone()).collect();
        assert_eq!(lines, ["POST /good", "POST /good"], "{size}");
    }
}

#[tokio::test]
async fn what_is_incomplete_is_never_completed() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    for bytes in [
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r",
        "GET / HT",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n",
    ] {
        let mut client = Client::connect(through.address).await;
        client.send(bytes).await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.unwrap();
        client.rest().await;
        assert!(origin.seen().is_empty(), "{bytes}");
    }
    eventually("all are gone", || through.proxy.connections() == 0).await;
}

#[tokio::test]
async fn what_is_odd_and_right_passes() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(30_000));
    for bytes in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "get / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET //evil.example/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a%00%2f..;x=\"{y}|z\\^~'[]@: HTTP/1.1\r\nHost: a\r\n\r\n".trim_start(),
        "GET /?a=b?c=`{}|^ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHOST:a\r\nx:\r\ny: \t z \t\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a_b-c.d.:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX_Y: z\r\n!#$%&'*+-.^_`|~: z\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \tChunked \r\n\r\n03;x;y=z;q=\"\\\"; \"\r\nabc\r\n0;x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3 ;\tx = y ; z\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000000000000003\r\nabc\r\n000\r\n\r\n",
        "BASELINE-CONTROL---------------- / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PURGE / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        &large,
    ] {
        let before = origin.seen().len();
        let mut client = Client::connect(through.address).await;
        client.send(bytes).await;
        let response = client.response().await;
        assert_eq!(response.status, 200, "{bytes}: {response:?}");
        assert_eq!(origin.seen().len(), before + 1, "{bytes}");
    }
}
