//! A request's head as the upstream gets it (RFC 9112 3, 5, 6). No I/O.

use super::super::fields::line as field;
use super::super::upstream::Outgoing;
use super::write::Framing;
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, COOKIE, TE};

/// Writes `head` for `host`, framed as `framing`: with what is HTTP/1.1's own, one Cookie and TE named in Connection.
pub(super) fn head(head: &Outgoing, host: &HeaderValue, framing: Framing, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    let target = head.target.as_str();
    out.extend_from_slice(if target.starts_with(['/', '*']) { b" " } else { b" /" });
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    field(b"host", host.as_bytes(), out);
    let is_crumbled = head.fields.all(&COOKIE).nth(1).is_some();
    let is_kept = |name: &[u8]| match name {
        b"host" | b"connection" | b"transfer-encoding" | b"content-length" => false,
        b"cookie" => !is_crumbled,
        _ => true,
    };
    head.fields.write(is_kept, out);
    if is_crumbled {
        // Crumbs of HTTP/2 are one field here (RFC 9113 8.2.3).
        let crumbs: Vec<_> = head.fields.all(&COOKIE).collect();
        field(b"cookie", &crumbs.join(&b"; "[..]), out);
    }
    if head.fields.has(&TE) {
        field(b"connection", b"te", out);
    }
    if framing == Framing::Nothing && head.fields.has(&CONTENT_LENGTH) {
        // A body that is none was announced as such.
        field(b"content-length", b"0", out);
    }
    framing.tell(out);
    out.extend_from_slice(LINE_END);
}

const LINE_END: &[u8] = b"\r\n";

#[cfg(test)]
mod tests {
    use super::super::super::fields::both;
    use super::*;
    use http::Method;

    fn written(target: &str, fields: &[(&str, &str)], framing: Framing) -> [String; 2] {
        both(fields).map(|fields| {
            let outgoing = Outgoing { method: Method::PUT, target: target.parse().unwrap(), fields };
            let mut out = Vec::new();
            head(&outgoing, &HeaderValue::from_static("api"), framing, &mut out);
            String::from_utf8(out).unwrap()
        })
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
                "PUT / HTTP/1.1\r\nhost: api\r\nte: trailers\r\nx: y\r\ncookie: a=1; b=2; c=3\r\nconnection: te\r\n\r\n",
            ),
        ] {
            assert_eq!(written(target, fields, framing), [expected; 2]);
        }
    }
}
