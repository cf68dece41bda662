//! A response's head and the framing of its body, as bytes (RFC 9112 4, 6, 7). No I/O.

use super::super::fields::line as field;
use super::super::grammar;
use super::super::message::Reply;
use super::out::Out;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderValue};
use http::{StatusCode, Version};
use http_body::Frame;
use std::io::Write;

/// What of the request decides how it is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) version: Version,
    /// The method is HEAD.
    pub(super) head_alone: bool,
    /// The client takes trailers.
    pub(super) trailers: bool,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum After<'a> {
    Close,
    /// It is kept, for as long as the value of Keep-Alive says.
    Keep(Option<&'a HeaderValue>),
}

/// How a client knows where the body ends, and how much of it is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none, whatever the head says.
    Nothing,
    Exact(u64),
    Chunked {
        trailers: bool,
    },
    /// With the connection.
    Close,
}

/// The body is longer than its head said.
#[derive(Debug)]
pub(super) struct TooLong;

impl Framing {
    /// Writes the field that tells of it, if there is one.
    pub(super) fn tell(self, out: &mut Vec<u8>) {
        match self {
            // `format!` costs five times as much.
            Self::Exact(length) => {
                field(b"content-length", itoa::Buffer::new().format(length).as_bytes(), out);
            }
            Self::Chunked { .. } => field(b"transfer-encoding", b"chunked", out),
            Self::Nothing | Self::Close => (),
        }
    }

    /// How an answer to `asked` is framed whose body is so long, if that is known.
    pub(super) fn of<B>(reply: &Reply<B>, length: Option<u64>, asked: Asked) -> Self {
        if asked.head_alone || matches!(reply.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Self::Nothing;
        }
        // A body that broke off has the length that was promised.
        let promised = || grammar::number(reply.fields.first(&CONTENT_LENGTH)?);
        match length.or_else(promised) {
            Some(length) => Self::Exact(length),
            None if asked.version == Version::HTTP_10 => Self::Close,
            None => Self::Chunked { trailers: asked.trailers },
        }
    }

    /// Puts a part of the body behind what is to be sent.
    pub(super) fn frame(&mut self, frame: Frame<Bytes>, out: &mut Out) -> Result<(), TooLong> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                if let (Self::Chunked { trailers: true }, Ok(fields)) = (*self, frame.into_trailers()) {
                    out.bytes().extend_from_slice(b"0\r\n");
                    fields_of(&fields, out.bytes());
                    out.bytes().extend_from_slice(b"\r\n");
                    *self = Self::Nothing;
                }
                return Ok(());
            }
        };
        if data.is_empty() {
            return Ok(());
        }
        match self {
            Self::Nothing => (),
            Self::Exact(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(TooLong)?;
                out.push(data, b"");
            }
            Self::Chunked { .. } => {
                // Writing to memory does not fail.
                drop(write!(out.bytes(), "{:x}\r\n", data.len()));
                out.push(data, b"\r\n");
            }
            Self::Close => out.push(data, b""),
        }
        Ok(())
    }

    /// Ends the body; `false` when it is shorter than its head said.
    pub(super) fn finish(&mut self, out: &mut Out) -> bool {
        if let Self::Chunked { .. } = self {
            out.bytes().extend_from_slice(b"0\r\n\r\n");
            *self = Self::Nothing;
        }
        !matches!(self, Self::Exact(left) if *left > 0)
    }
}

/// Writes the head of an answer to `asked`, framed as `framing`. `date` is what Date says if the answer has none.
pub(super) fn head<B>(
    reply: &Reply<B>,
    framing: Framing,
    asked: Asked,
    after: After<'_>,
    date: impl FnOnce(&mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    status_line(reply, asked.version, out);
    let is_kept = |name: &[u8]| match name {
        // An answer to HEAD or a 304 tells of a body that does not follow.
        b"content-length" => framing == Framing::Nothing && reply.status != StatusCode::NO_CONTENT,
        b"trailer" => matches!(framing, Framing::Chunked { .. }),
        // They are written below.
        b"connection" | b"transfer-encoding" => false,
        _ => true,
    };
    reply.fields.write(is_kept, out);
    framing.tell(out);
    match after {
        After::Close => field(b"connection", b"close", out),
        After::Keep(None) if asked.version == Version::HTTP_10 => field(b"connection", b"keep-alive", out),
        After::Keep(None) => (),
        After::Keep(Some(time)) => {
            field(b"connection", b"keep-alive", out);
            field(b"keep-alive", time.as_bytes(), out);
        }
    }
    if !reply.fields.has(&DATE) {
        date(out);
    }
    out.extend_from_slice(b"\r\n");
}

fn status_line<B>(reply: &Reply<B>, version: Version, out: &mut Vec<u8>) {
    out.extend_from_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(reply.status.as_str().as_bytes());
    out.push(b' ');
    let reason = reply.reason.as_deref();
    let usual = || reply.status.canonical_reason().unwrap_or_default().as_bytes();
    out.extend_from_slice(reason.map_or_else(usual, hyper::ext::ReasonPhrase::as_bytes));
    out.extend_from_slice(b"\r\n");
}

fn fields_of(fields: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in fields {
        field(name.as_str().as_bytes(), value.as_bytes(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fields::both;
    use super::*;

    const GET: Asked = Asked { version: Version::HTTP_11, head_alone: false, trailers: false };
    const HEAD: Asked = Asked { head_alone: true, ..GET };
    const OLD: Asked = Asked { version: Version::HTTP_10, ..GET };
    const TAKES_TRAILERS: Asked = Asked { trailers: true, ..GET };

    fn reply(status: u16, fields: &[(&str, &str)]) -> Reply<()> {
        let [fields, _] = both(fields);
        Reply { status: StatusCode::from_u16(status).unwrap(), reason: None, fields, body: () }
    }

    fn written(reply: &Reply<()>, length: Option<u64>, asked: Asked, after: After<'_>) -> (String, Framing) {
        let framing = Framing::of(reply, length, asked);
        let mut out = Vec::new();
        head(reply, framing, asked, after, |out| field(b"date", b"now", out), &mut out);
        (String::from_utf8(out).unwrap(), framing)
    }

    #[test]
    fn the_length_is_told_in_the_way_that_the_client_understands() {
        let five = &[("content-length", "5"), ("date", "then")][..];
        let keep = After::Keep(None);
        for (status, fields, length, asked, head, framing) in [
            (200, five, Some(5), GET, "content-length: 5\r\n", Framing::Exact(5)),
            (200, five, None, GET, "content-length: 5\r\n", Framing::Exact(5)),
            (200, five, Some(0), HEAD, "content-length: 5\r\n", Framing::Nothing),
            (304, five, Some(0), GET, "content-length: 5\r\n", Framing::Nothing),
            (204, five, Some(0), GET, "", Framing::Nothing),
            (200, &five[1..], Some(0), GET, "content-length: 0\r\n", Framing::Exact(0)),
            (200, &five[1..], Some(0), HEAD, "", Framing::Nothing),
            (
                200,
                &five[1..],
                None,
                GET,
                "transfer-encoding: chunked\r\n",
                Framing::Chunked { trailers: false },
            ),
            (200, &five[1..], None, OLD, "", Framing::Close),
        ] {
            let (text, found) = written(&reply(status, fields), length, asked, keep);
            assert_eq!(found, framing, "{status} {fields:?}");
            let lengths: String = text
                .split_inclusive("\r\n")
                .filter(|line| line.starts_with("content-length") || line.starts_with("transfer-encoding"))
                .collect();
            assert_eq!(lengths, head, "{text}");
            assert!(text.contains("date: then\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        }
    }

    #[test]
    fn the_head_says_what_becomes_of_the_connection_and_when_it_was_written() {
        let time = HeaderValue::from_static("timeout=74");
        for (asked, after, fields) in [
            (GET, After::Close, "connection: close\r\n"),
            (GET, After::Keep(None), ""),
            (OLD, After::Keep(None), "connection: keep-alive\r\n"),
            (GET, After::Keep(Some(&time)), "connection: keep-alive\r\nkeep-alive: timeout=74\r\n"),
        ] {
            let (text, _) = written(&reply(404, &[("connection", "x"), ("a", "b")]), Some(0), asked, after);
            let version = if asked.version == Version::HTTP_10 { "1.0" } else { "1.1" };
            let expected = format!(
                "HTTP/{version} 404 Not Found\r\na: b\r\ncontent-length: 0\r\n{fields}date: now\r\n\r\n"
            );
            assert_eq!(text, expected);
        }
    }

    fn body(frames: Vec<Frame<Bytes>>, mut framing: Framing) -> (String, bool) {
        let mut out = Out::default();
        let fits = frames.into_iter().all(|frame| framing.frame(frame, &mut out).is_ok());
        let ends = fits && framing.finish(&mut out);
        (String::from_utf8(out.unsent()).unwrap(), ends)
    }

    #[test]
    fn bodies_are_framed() {
        let data = |text: &'static str| Frame::data(Bytes::from_static(text.as_bytes()));
        let trailers = || Frame::trailers(HeaderMap::from_iter([(DATE, HeaderValue::from_static("x"))]));
        let chunked = Framing::of(&reply(200, &[]), None, TAKES_TRAILERS);
        for (frames, framing, text, ends) in [
            (vec![data("abc"), data("de")], Framing::Exact(5), "abcde", true),
            (vec![data("abc")], Framing::Exact(5), "abc", false),
            (vec![data("abcdef")], Framing::Exact(5), "", false),
            (vec![data("abc"), data("")], Framing::Close, "abc", true),
            (vec![data("abc"), data(""), data("d")], chunked, "3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", true),
            (vec![data("a"), trailers()], chunked, "1\r\na\r\n0\r\ndate: x\r\n\r\n", true),
            (vec![data("a"), trailers()], Framing::Chunked { trailers: false }, "1\r\na\r\n0\r\n\r\n", true),
            (vec![data("abc")], Framing::Nothing, "", true),
        ] {
            assert_eq!(body(frames, framing), (text.to_owned(), ends), "{framing:?}");
        }
    }
}
