//! An answer's head, read in one pass, line by line as it comes, by the grammar alone (RFC 9112 4, 5, 6). No I/O.
//!
//! # Why
//! An origin that can be led to say what two programs delimit differently is how answers are mixed up (RFC 9112 11.1):
//! whatever leaves a choice is a [`Fault`], but for a length beside a coding, where the coding counts, and a length that
//! is said twice alike.

use super::super::error::ErrorKind;
use super::super::grammar::{self, Fault, bad};
use super::super::message::Reply;
use super::Limits;
use super::fields::{Fields, Lines, TooMuch, has_token};
use bytes::Bytes;
use http::StatusCode;
use hyper::ext::ReasonPhrase;
use std::ops::Range;

/// Reads one head.
#[derive(Debug, Default)]
pub(super) struct Reader {
    lines: Lines,
    line: Option<StatusLine>,
    fields: Fields,
    traits: Traits,
}

#[derive(Debug)]
struct StatusLine {
    status: StatusCode,
    /// Where the reason stands.
    reason: Range<usize>,
    is_one_zero: bool,
}

/// What the fields say of the message itself.
#[derive(Debug, Default)]
struct Traits {
    length: Option<u64>,
    chunked: bool,
    closes: bool,
    keeps: bool,
}

/// A head that is beyond doubt.
#[derive(Debug)]
pub(super) struct Answer {
    /// With its body, as far as that is there, or where it ends (RFC 9112 6.3).
    pub(super) reply: Reply<Body>,
    /// The connection may be used again when the body has ended.
    pub(super) keeps: bool,
}

/// Where the body is, and where it ends (RFC 9112 6.3).
#[derive(Debug)]
pub(super) enum Body {
    /// It came with the head, or there is none.
    Here(Bytes),
    Exact(u64),
    Chunked,
    /// With the connection.
    Close,
}

impl Reader {
    /// Reads on in `bytes`, which begin where the head does and hold all that came so far. The answer to a request, which
    /// was for the `head_alone` or not, and how many bytes it takes up so far. After a fault nothing may be read any more.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        head_alone: bool,
        limits: &Limits,
    ) -> Result<Option<(Answer, usize)>, Fault> {
        loop {
            let Some((line, from)) = self.lines.next(bytes, limits, TOO_MUCH.bytes)? else {
                // What is no HTTP at all may never have a line end.
                let rest = self.lines.rest(bytes);
                let is_other = self.line.is_none() && rest.iter().zip(VERSION).any(|(byte, is)| byte != is);
                return if is_other { Err(NO_STATUS_LINE) } else { Ok(None) };
            };
            match &self.line {
                None => self.line = Some(status_line(line, from)?),
                Some(_) if line.is_empty() => return self.finish(bytes, head_alone).map(Some),
                Some(first) => {
                    let (name, value) = self.fields.push(line, from, limits.fields, &TOO_MUCH)?;
                    if self.traits.field(name, value, first.is_one_zero)? == Place::Said {
                        self.fields.pop();
                    }
                }
            }
        }
    }

    /// Makes an answer of the lines, whose fields stand in one copy of the head, and of a body that is there whole.
    fn finish(&mut self, bytes: &[u8], head_alone: bool) -> Result<(Answer, usize), Fault> {
        let StatusLine { status, reason, is_one_zero } = self.line.take().ok_or(NO_STATUS_LINE)?;
        let traits = std::mem::take(&mut self.traits);
        let has_none = head_alone
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = match (traits.chunked, traits.length) {
            _ if has_none => Some(0),
            (true, _) => None,
            (false, length) => length,
        };
        let (at, there) = (self.lines.read(), self.lines.rest(bytes).len());
        let whole = length.and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= there);
        let end = at + whole.unwrap_or_default();
        let body = match (whole, length) {
            (Some(_), _) => Body::Here(Bytes::copy_from_slice(bytes.get(at..end).unwrap_or_default())),
            (None, Some(length)) => Body::Exact(length),
            (None, None) if traits.chunked => Body::Chunked,
            (None, None) => Body::Close,
        };
        let head = bytes.get(..at).unwrap_or_default();
        let said = head.get(reason).unwrap_or_default();
        let is_usual = status.canonical_reason().is_some_and(|usual| usual.as_bytes() == said);
        let reason = if is_usual {
            None
        } else {
            Some(Box::new(ReasonPhrase::try_from(said).map_err(|_| NO_STATUS_LINE)?))
        };
        let fields = self.fields.take(head);
        // Who says both may have been led to it (RFC 9112 6.3).
        let is_doubtful = traits.chunked && traits.length.is_some();
        let is_last = is_doubtful || traits.closes || matches!(body, Body::Close);
        let keeps = !is_last && (!is_one_zero || traits.keeps);
        Ok((Answer { reply: Reply { status, reason, fields, body }, keeps }, end))
    }
}

/// `HTTP/1.1 200 OK`, of which old servers leave out the end.
fn status_line(line: &[u8], from: usize) -> Result<StatusLine, Fault> {
    let is_one_zero = match line.get(..VERSION.len() + 1) {
        Some(b"HTTP/1.1") => false,
        Some(b"HTTP/1.0") => true,
        _ => return Err(NO_STATUS_LINE),
    };
    let Some([b' ', a, b, c, rest @ ..]) = line.get(VERSION.len() + 1..) else { return Err(NO_STATUS_LINE) };
    let status = StatusCode::from_bytes(&[*a, *b, *c]).map_err(|_| NO_STATUS_LINE)?;
    let reason = match rest {
        [] => rest,
        [b' ', reason @ ..] => reason,
        _ => return Err(NO_STATUS_LINE),
    };
    let end = from + line.len();
    Ok(StatusLine { status, reason: end - reason.len()..end, is_one_zero })
}

/// What becomes of a field.
#[derive(PartialEq)]
enum Place {
    /// It is one of the answer's.
    Own,
    /// It has been said before.
    Said,
}

impl Traits {
    fn field(&mut self, name: &[u8], value: &[u8], is_one_zero: bool) -> Result<Place, Fault> {
        // The length tells most names apart from the ones that matter.
        match name.len() {
            14 if grammar::is_named(name, b"content-length") => {
                let length = grammar::number(value).ok_or(bad("The Content-Length is not a number."))?;
                return match self.length.replace(length) {
                    None => Ok(Place::Own),
                    Some(before) if before == length => Ok(Place::Said),
                    Some(_) => Err(bad("There are two lengths in Content-Length.")),
                };
            }
            17 if grammar::is_named(name, b"transfer-encoding") => {
                if is_one_zero || self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(bad("The only transfer coding that is understood is chunked, once."));
                }
                self.chunked = true;
            }
            10 if grammar::is_named(name, b"connection") => {
                self.closes |= has_token(value, b"close");
                self.keeps |= has_token(value, b"keep-alive");
            }
            _ => (),
        }
        Ok(Place::Own)
    }
}

const VERSION: &[u8] = b"HTTP/1.";
const NO_STATUS_LINE: Fault = bad("It does not begin with a status line of HTTP/1.1.");
const TOO_MUCH: TooMuch = TooMuch {
    bytes: Fault { kind: ErrorKind::FieldsTooLarge, detail: "Its head is too long." },
    fields: Fault { kind: ErrorKind::FieldsTooLarge, detail: "It has too many fields." },
};

#[cfg(test)]
mod tests {
    use super::super::cuts;
    use super::*;
    use http::HeaderName;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { head_bytes: 1_000, fields: 100, chunk_line_bytes: 100 };

    /// What comes of `bytes`, shown in pieces that end where `cuts` say.
    fn read(bytes: &[u8], head_alone: bool, cuts: &[usize]) -> Result<Option<(Answer, usize)>, Fault> {
        let mut reader = Reader::default();
        for to in cuts.iter().copied().chain([bytes.len()]) {
            if let Some(found) = reader.read(&bytes[..to], head_alone, &LIMITS)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    const GOOD: &str = "HTTP/1.1 200 Fine\r\nX-Y:\t z \t\r\nEmpty:\r\ncontent-length: 005\r\nContent-Length: 5\r\n\
        X-Y: \u{e9}\r\n\r\nabcdeHTTP";

    #[test]
    fn a_head_is_read_as_it_stands_and_a_short_body_with_it() {
        let (answer, length) = read(GOOD.as_bytes(), false, &[]).unwrap().unwrap();
        assert_eq!(&GOOD.as_bytes()[length..], b"HTTP");
        let Reply { reason, fields, body, .. } = answer.reply;
        assert!(matches!(body, Body::Here(body) if body == "abcde") && answer.keeps);
        let all: Vec<_> = fields.all(&HeaderName::from_static("x-y")).collect();
        assert_eq!(all, [b"z", "\u{e9}".as_bytes()]);
        let empty = fields.first(&HeaderName::from_static("empty"));
        assert_eq!((empty, fields.iter().count()), (Some(&b""[..]), 4), "one length, said once");
        assert_eq!(reason.unwrap().as_bytes(), b"Fine");
    }

    #[test]
    fn bodies_end_where_the_head_says_and_connections_are_kept_if_that_is_clear() {
        let shown = |answer: &Answer| match &answer.reply.body {
            Body::Here(bytes) => format!("here {}", bytes.len()),
            Body::Exact(length) => format!("exact {length}"),
            Body::Chunked => "chunked".to_owned(),
            Body::Close => "close".to_owned(),
        };
        for (head_alone, text, body, keeps) in [
            (false, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", "exact 9", true),
            (false, "HTTP/1.1 200\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n", "here 0", false),
            (false, "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", "chunked", true),
            (
                false,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
                "chunked",
                false,
            ),
            (false, "HTTP/1.1 200 OK\r\n\r\nab", "close", false),
            (false, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", "here 2", false),
            (
                false,
                "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nab",
                "here 2",
                true,
            ),
            (true, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", "here 0", true),
            (true, "HTTP/1.1 200 OK\r\n\r\n", "here 0", true),
            (false, "HTTP/1.1 204 No Content\r\n\r\n", "here 0", true),
            (false, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "here 0", true),
            (false, "HTTP/1.1 103 Early Hints\r\n\r\n", "here 0", true),
        ] {
            let (answer, _) = read(text.as_bytes(), head_alone, &[]).unwrap().unwrap();
            assert_eq!((shown(&answer).as_str(), answer.keeps), (body, keeps), "{text}");
        }
    }

    #[test]
    fn bounds_hold_however_the_bytes_come() {
        let fields = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(count));
        for text in [format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(2_000)), "H".repeat(2_000), fields(101)] {
            let cuts: Vec<_> = (0..text.len()).collect();
            for cuts in [&cuts[..], &[]] {
                read(text.as_bytes(), false, cuts).unwrap_err();
            }
        }
        assert!(read(fields(100).as_bytes(), false, &[]).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn where_reads_end_makes_no_difference_to_a_head(
            place in 0..GOOD.len(),
            byte in any::<u8>(),
            cuts in cuts(GOOD.len()),
        ) {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[place] = byte;
            let said = |found: Result<Option<(Answer, usize)>, Fault>| {
                // Of a body it is as it happens whether it came with its head.
                let whole = found.map(|found| found.map(|(answer, _)| format!("{:?}", answer.reply.map(drop))));
                whole.map_err(|fault| fault.kind)
            };
            prop_assert_eq!(said(read(&bytes, false, &[])), said(read(&bytes, false, &cuts)));
        }

        #[test]
        fn anything_may_come(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..300_usize) {
            let cut = cut.min(bytes.len());
            drop(read(&bytes, false, &[cut]));
        }
    }
}
