//! A request's head as the upstream gets it (RFC 9112 3, 5, 6). No I/O.

use super::super::upstream::Outgoing;
use super::write::{Framing, field};
use http::HeaderValue;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING};

/// Writes `head` for `host`, framed as `framing`: with what is HTTP/1.1's own, one Cookie and TE named in Connection.
pub(super) fn head(head: &Outgoing, host: &HeaderValue, framing: Framing, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    let target = head.target.as_str();
    out.extend_from_slice(if target.starts_with(['/', '*']) { b" " } else { b" /" });
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    field(HOST.as_str(), host.as_bytes(), out);
    let mut cookies = 0;
    for (name, value) in &head.headers {
        if matches!(*name, HOST | CONNECTION | TRANSFER_ENCODING) {
            continue;
        }
        if *name == CONTENT_LENGTH {
            // Said below, unless a body that is none was announced as such.
            if framing == Framing::Nothing {
                field(name.as_str(), b"0", out);
            }
            continue;
        }
        if *name == COOKIE {
            cookies += 1;
            if cookies > 1 {
                // Crumbs of HTTP/2 are one field here (RFC 9113 8.2.3); they stand one after the other.
                out.truncate(out.len().saturating_sub(LINE_END.len()));
                out.extend_from_slice(b"; ");
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(LINE_END);
                continue;
            }
        }
        if *name == TE {
            field(CONNECTION.as_str(), b"te", out);
        }
        field(name.as_str(), value.as_bytes(), out);
    }
    framing.tell(out);
    out.extend_from_slice(LINE_END);
}

const LINE_END: &[u8] = b"\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderName, Method};

    fn written(target: &str, fields: &[(&'static str, &'static str)], framing: Framing) -> String {
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let outgoing = Outgoing { method: Method::PUT, target: target.parse().unwrap(), headers };
        let mut out = Vec::new();
        head(&outgoing, &HeaderValue::from_static("api"), framing, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_says_where_and_how_long_and_what_the_client_said() {
        let none: &[(&str, &str)] = &[];
        let lied =
            [("host", "other"), ("content-length", "7"), ("transfer-encoding", "x"), ("connection", "x")];
        let crumbs =
            [("cookie", "a=1"), ("te", "trailers"), ("cookie", "b=2"), ("x", "y"), ("cookie", "c=3")];
        let chunked = Framing::Chunked { trailers: true };
        for (target, fields, framing, expected) in [
            ("/a?b", none, Framing::Nothing, "PUT /a?b HTTP/1.1\r\nhost: api\r\n\r\n"),
            ("*", none, Framing::Nothing, "PUT * HTTP/1.1\r\nhost: api\r\n\r\n"),
            ("?b", none, Framing::Nothing, "PUT /?b HTTP/1.1\r\nhost: api\r\n\r\n"),
            ("/", &lied, Framing::Nothing, "PUT / HTTP/1.1\r\nhost: api\r\ncontent-length: 0\r\n\r\n"),
            ("/", &lied, Framing::Exact(5), "PUT / HTTP/1.1\r\nhost: api\r\ncontent-length: 5\r\n\r\n"),
            ("/", &lied, chunked, "PUT / HTTP/1.1\r\nhost: api\r\ntransfer-encoding: chunked\r\n\r\n"),
            (
                "/",
                &crumbs,
                Framing::Nothing,
                "PUT / HTTP/1.1\r\nhost: api\r\ncookie: a=1; b=2; c=3\r\nconnection: te\r\nte: trailers\r\nx: y\r\n\r\n",
            ),
        ] {
            assert_eq!(written(target, fields, framing), expected);
        }
    }
}
