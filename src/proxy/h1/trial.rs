//! What a connection would make of bytes, without one: for whoever tries to break it.

use super::super::grammar::Fault;
use super::Limits;
use super::chunked::{Chunks, Piece, take};
use super::head::{Length, Reader};
use bytes::{Buf, BytesMut};
use http::HeaderMap;
use std::fmt::Write;

/// What was read of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// Each request that is complete: its line, its fields, its body and its trailers.
    pub requests: Vec<String>,
    /// Why nothing more is read.
    pub fault: Option<&'static str>,
    /// Bytes that belong to no request yet.
    pub unread: usize,
}

/// What is being read.
enum At {
    Head(Reader),
    Exact(u64),
    Chunked(Chunks),
}

impl Trial {
    /// Reads `bytes`, which come in pieces of so many.
    pub fn of(bytes: &[u8], piece: usize) -> Self {
        let mut trial = Self::default();
        let limits = Limits { head_bytes: 4_096, fields: 20, chunk_line_bytes: 64 };
        let mut unread = BytesMut::new();
        let (mut at, mut request) = (At::Head(Reader::default()), String::new());
        for more in bytes.chunks(piece.max(1)) {
            unread.extend_from_slice(more);
            loop {
                match step(&mut at, &mut unread, &mut request, &limits) {
                    Ok(true) => (),
                    Ok(false) => break,
                    Err(fault) => {
                        trial.fault = Some(fault.detail);
                        return trial;
                    }
                }
                if matches!(at, At::Head(_)) {
                    trial.requests.push(std::mem::take(&mut request));
                }
            }
        }
        trial.unread = unread.len();
        trial
    }
}

/// Takes one part of a message off `unread`; `false` when it is not complete.
fn step(at: &mut At, unread: &mut BytesMut, request: &mut String, limits: &Limits) -> Result<bool, Fault> {
    match at {
        At::Head(reader) => {
            if unread.is_empty() {
                return Ok(false);
            }
            let Some((head, length)) = reader.read(unread, limits)? else { return Ok(false) };
            unread.advance(length);
            note(request, format_args!("{} {} ", head.asking.method, head.asking.uri));
            note_fields(request, &head.asking.fields.to_map());
            *at = match head.length {
                Length::Exact(0) => At::Head(Reader::default()),
                Length::Exact(bytes) => At::Exact(bytes),
                Length::Chunked => At::Chunked(Chunks::new()),
            };
        }
        At::Exact(left) => {
            let Some(data) = take(left, unread) else { return Ok(false) };
            note(request, format_args!("{}", data.escape_ascii()));
            if *left == 0 {
                *at = At::Head(Reader::default());
            }
        }
        At::Chunked(chunks) => match chunks.next(unread, limits)? {
            None => return Ok(false),
            Some(Piece::Data(data)) => note(request, format_args!("{}", data.escape_ascii())),
            Some(Piece::End(trailers)) => {
                note_fields(request, &trailers);
                *at = At::Head(Reader::default());
            }
        },
    }
    Ok(true)
}

fn note_fields(request: &mut String, fields: &HeaderMap) {
    for (name, value) in fields {
        note(request, format_args!("{name}: {}; ", value.as_bytes().escape_ascii()));
    }
}

fn note(request: &mut String, text: std::fmt::Arguments<'_>) {
    request.write_fmt(text).expect("memory takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n\
        POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /\r\n\
        POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;x=\"y\"\r\n\r\n\r\n\r\n0\r\nT: t\r\n\r\n\
        CONNECT a:1 HTTP/1.1\r\nX: \u{e9}\r\n\r\nGET";

    #[test]
    fn requests_are_told_apart() {
        let trial = Trial::of(GOOD.as_bytes(), 1_000);
        let requests = [
            "GET /a?b host: a; ",
            "POST / content-length: 5; GET /",
            "POST / transfer-encoding: chunked; \\r\\n\\r\\nt: t; ",
            "CONNECT a:1 x: \\xc3\\xa9; ",
        ];
        assert_eq!(trial, Trial { requests: requests.map(str::to_owned).into(), fault: None, unread: 3 });
    }

    proptest! {
        #[test]
        fn where_reads_end_makes_no_difference(
            changes in proptest::collection::vec((0..GOOD.len(), any::<u8>()), 0..4),
            piece in 1..GOOD.len(),
        ) {
            let mut bytes = GOOD.as_bytes().to_vec();
            for (place, byte) in changes {
                bytes[place] = byte;
            }
            let (whole, pieces) = (Trial::of(&bytes, bytes.len()), Trial::of(&bytes, piece));
            prop_assert_eq!((whole.requests, whole.fault.is_some()), (pieces.requests, pieces.fault.is_some()));
        }
    }
}
