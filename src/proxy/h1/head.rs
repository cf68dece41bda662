//! A request's head, read in one pass, line by line as it comes, by the grammar alone (RFC 9112 3, 5, 6). No I/O.
//!
//! # Why
//! A request that two programs delimit differently is how requests are smuggled (RFC 9112 11.2): whatever leaves a
//! choice is a [`Fault`]. Whether the request may be served is not asked here but in the classifier.

use super::super::error::ErrorKind;
use super::super::grammar::{self, Fault, TOKENS_MANY, TYPES_MANY, bad};
use super::super::message::Asking;
use super::Limits;
use super::fields::{Fields, Lines, TooMuch, has_token};
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Uri, Version};
use std::mem::replace;
use std::ops::Range;

/// Reads one head.
#[derive(Debug, Default)]
pub(super) struct Reader {
    lines: Lines,
    blanks: usize,
    line: Option<RequestLine>,
    fields: Fields,
    head: Traits,
}

#[derive(Debug)]
struct RequestLine {
    method: Method,
    target: Range<usize>,
    version: Version,
}

/// What the fields say of the message itself.
#[expect(clippy::struct_excessive_bools, reason = "each is a yes or no of its own")]
#[derive(Debug, Default)]
struct Traits {
    length: Option<u64>,
    chunked: bool,
    closes: bool,
    keeps: bool,
    expects: bool,
    trailers: bool,
    authorized: bool,
    typed: bool,
}

/// A head that is beyond doubt.
#[derive(Debug)]
pub(super) struct Head {
    /// In a box: it is handed on often.
    pub(super) asking: Box<Asking>,
    pub(super) length: Length,
    /// The client wants its connection kept.
    pub(super) keeps: bool,
    /// The client waits to be asked for the body.
    pub(super) expects: bool,
    /// The client takes trailers.
    pub(super) trailers: bool,
}

/// How long the body is (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Exact(u64),
    Chunked,
}

impl Reader {
    /// Reads on in `bytes`, which begin where the head does and hold all that came so far. The head and how long it is
    /// when it is complete. After a fault nothing may be read any more.
    pub(super) fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, Fault> {
        loop {
            let rest = self.lines.rest(bytes);
            let too_long = match &self.line {
                Some(_) => HEAD_LONG,
                None if has_method(rest) => TARGET_LONG,
                None => grammar::METHOD_LONG,
            };
            let Some((line, from)) = self.lines.next(bytes, limits, too_long)? else {
                if self.line.is_none() && !rest.is_empty() {
                    grammar::beginning(rest)?;
                }
                return Ok(None);
            };
            if self.line.is_none() {
                self.request_line(line, from)?;
            } else if line.is_empty() {
                return self.finish(bytes).map(|head| Some((head, self.lines.read())));
            } else {
                self.field(line, from, limits)?;
            }
        }
    }

    /// Has anything come but empty lines?
    pub(super) fn has_begun(&self, bytes: &[u8]) -> bool {
        self.line.is_some() || bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// The method, as soon as it is known: a head that is refused has one too.
    pub(super) fn method(&self) -> Option<&Method> {
        self.line.as_ref().map(|line| &line.method)
    }

    fn request_line(&mut self, line: &[u8], from: usize) -> Result<(), Fault> {
        if line.is_empty() {
            // Some clients end a body with a line end too many (RFC 9112 2.2).
            self.blanks += 1;
            let is_enough = self.blanks > BLANKS_MAX;
            return if is_enough { Err(bad("A request begins with its request line.")) } else { Ok(()) };
        }
        let mut parts = line.split(|byte| *byte == b' ');
        let name = parts.next().unwrap_or_default();
        let method = Method::from_bytes(name).map_err(|_| bad("The method is not a token."))?;
        grammar::check_method_length(name)?;
        let (Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad(
                "A request line is a method, a target and a version with one space between them.",
            ));
        };
        let start = from + name.len() + 1;
        let is_tunnel = method == Method::CONNECT;
        let place = start..start + target.len();
        // Kept before the rest is judged: what is refused is logged by its method.
        let line = self.line.insert(RequestLine { method, target: place, version: Version::HTTP_11 });
        match version {
            // An answer in HTTP/1.1 would be gibberish to who speaks HTTP/2, or none of both.
            b"HTTP/2.0" if line.method.as_str() == "PRI" => return Err(OTHER_PROTOCOL),
            b"HTTP/1.1" => (),
            b"HTTP/1.0" => line.version = Version::HTTP_10,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                let kind = ErrorKind::VersionNotSupported;
                return Err(Fault { kind, detail: "Tidegate speaks HTTP/1.1, HTTP/1.0 and HTTP/2." });
            }
            _ if !is_known(&line.method) => return Err(OTHER_PROTOCOL),
            _ => return Err(bad("The request line does not end in a version.")),
        }
        grammar::check_target(target, is_tunnel)
    }

    fn field(&mut self, line: &[u8], from: usize, limits: &Limits) -> Result<(), Fault> {
        let (name, value) = self.fields.push(line, from, limits.fields, &TOO_MUCH)?;
        let is_one_zero = self.line.as_ref().is_some_and(|line| line.version == Version::HTTP_10);
        self.head.field(name, value, is_one_zero)
    }

    /// Makes a request of the lines, whose fields stand in one copy of the head.
    fn finish(&mut self, bytes: &[u8]) -> Result<Head, Fault> {
        let RequestLine { method, target, version } =
            self.line.take().ok_or(bad("A request begins with its request line."))?;
        let traits = std::mem::take(&mut self.head);
        let head = bytes.get(..self.lines.read()).unwrap_or_default();
        let target = Bytes::copy_from_slice(head.get(target).unwrap_or_default());
        let uri =
            meant(&method, target).ok_or(bad("The request target is not of a form that this method has."))?;
        let fields = self.fields.take(head);
        let length = match (traits.chunked, traits.length) {
            (true, Some(_)) => {
                return Err(bad("A request has a Content-Length or a Transfer-Encoding, not both."));
            }
            (true, None) => Length::Chunked,
            (false, length) => Length::Exact(length.unwrap_or_default()),
        };
        let is_one_one = version == Version::HTTP_11;
        // What follows CONNECT is for nobody here.
        let keeps = !traits.closes && (is_one_one || traits.keeps) && method != Method::CONNECT;
        let (expects, trailers) = (is_one_one && traits.expects, is_one_one && traits.trailers);
        let asking = Box::new(Asking { method, uri, version, fields, waits: false, fault: None });
        Ok(Head { asking, length, keeps, expects, trailers })
    }
}

impl Traits {
    fn field(&mut self, name: &[u8], value: &[u8], is_one_zero: bool) -> Result<(), Fault> {
        // The length tells most names apart from the ones that matter.
        match name.len() {
            14 if grammar::is_named(name, b"content-length") => {
                let length = grammar::number(value).ok_or(bad("The Content-Length is not a number."))?;
                if self.length.replace(length).is_some() {
                    return Err(bad("There is more than one Content-Length."));
                }
            }
            17 if grammar::is_named(name, b"transfer-encoding") => {
                if is_one_zero {
                    return Err(bad("HTTP/1.0 has no Transfer-Encoding."));
                }
                grammar::check_coding(value)?;
                if self.chunked {
                    return Err(grammar::CODING_OPEN);
                }
                self.chunked = true;
            }
            // What reads names as CGI does takes these for the fields above.
            14 | 17 if grammar::is_framing_in_disguise(name) => {
                return Err(bad(grammar::DISGUISE));
            }
            // Which of two tokens is meant, or what the body is, is not for us to choose.
            13 if grammar::is_named(name, b"authorization") && replace(&mut self.authorized, true) => {
                return Err(bad(TOKENS_MANY));
            }
            12 if grammar::is_named(name, b"content-type") && replace(&mut self.typed, true) => {
                return Err(bad(TYPES_MANY));
            }
            10 if grammar::is_named(name, b"connection") => {
                self.closes |= has_token(value, b"close");
                self.keeps |= has_token(value, b"keep-alive");
            }
            6 if grammar::is_named(name, b"expect") => {
                self.expects |= value.eq_ignore_ascii_case(b"100-continue");
            }
            2 if grammar::is_named(name, b"te") => self.trailers |= has_token(value, b"trailers"),
            _ => (),
        }
        Ok(())
    }
}

/// What `target` means. OPTIONS of a server, without any path, is for all of it, which is an asterisk to who is asked next
/// (RFC 9112 3.2.4).
fn meant(method: &Method, target: Bytes) -> Option<Uri> {
    let length = target.len();
    let uri = Uri::from_maybe_shared(target).ok()?;
    if *method != Method::OPTIONS {
        return Some(uri);
    }
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Some(uri) };
    if length > scheme.len() + "://".len() + authority.as_str().len() {
        return Some(uri);
    }
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    Uri::from_parts(parts).ok()
}

/// Does an unfinished request line have its method, so that it is its target that is long?
fn has_method(line: &[u8]) -> bool {
    line.iter().take(grammar::METHOD_MAX + 1).any(|byte| *byte == b' ')
}

/// Is it a method that anyone would know HTTP by?
fn is_known(method: &Method) -> bool {
    use Method as M;
    let known = [M::GET, M::HEAD, M::POST, M::PUT, M::DELETE, M::CONNECT, M::OPTIONS, M::TRACE, M::PATCH];
    known.contains(method)
}

/// Neither method nor version are HTTP/1's.
pub(super) const OTHER_PROTOCOL: Fault = bad("This is not HTTP/1.1.");
const HEAD_LONG: Fault = Fault {
    kind: ErrorKind::FieldsTooLarge,
    detail: "The head is longer than [listen] head_bytes_max allows.",
};
const TARGET_LONG: Fault = Fault {
    kind: ErrorKind::TargetTooLong,
    detail: "The request target is longer than [listen] head_bytes_max allows.",
};
const TOO_MUCH: TooMuch = TooMuch {
    bytes: HEAD_LONG,
    fields: Fault {
        kind: ErrorKind::FieldsTooLarge,
        detail: "There are more fields than [listen] fields_max allows.",
    },
};
/// Empty lines before a request line.
const BLANKS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::cuts;
    use super::*;
    use http::HeaderName;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { head_bytes: 1_000, fields: 100, chunk_line_bytes: 100 };

    /// What comes of `bytes`, shown in pieces that end where `cuts` say: the head, and how long it is.
    fn read(bytes: &[u8], cuts: &[usize]) -> Result<Option<(Head, usize)>, Fault> {
        let mut reader = Reader::default();
        for to in cuts.iter().copied().chain([bytes.len()]) {
            if let Some(found) = reader.read(&bytes[..to], &LIMITS)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    const GOOD: &str = "\r\nPOST /a?b=%20 HTTP/1.1\r\nHost: a\r\nX-Y:\t z \t\r\nEmpty:\r\nContent-Length: 005\r\n\
        Expect: 100-Continue\r\nTE: gzip, trailers\r\nX-Y: \u{e9}\r\n\r\nabcde";

    #[test]
    fn a_head_is_read_as_it_stands() {
        let (head, length) = read(GOOD.as_bytes(), &[]).unwrap().unwrap();
        assert_eq!(&GOOD.as_bytes()[length..], b"abcde");
        assert_eq!(head.length, Length::Exact(5));
        assert!(head.keeps && head.expects && head.trailers);
        let Asking { method, uri, version, fields, .. } = *head.asking;
        assert_eq!((method, version), (Method::POST, Version::HTTP_11));
        assert_eq!(uri, "/a?b=%20");
        let all: Vec<_> = fields.all(&HeaderName::from_static("x-y")).collect();
        assert_eq!(all, [b"z", "\u{e9}".as_bytes()]);
        assert_eq!(fields.first(&HeaderName::from_static("empty")), Some(&b""[..]));
        assert_eq!(fields.iter().count(), 7);
    }

    #[test]
    fn connections_are_kept_as_their_version_and_fields_say() {
        for (version, connection, keeps) in [
            ("1.1", "x", true),
            ("1.1", "x, Close", false),
            ("1.1", "keep-alive, close", false),
            ("1.0", "x", false),
            ("1.0", "Keep-Alive", true),
            ("1.0", "keep-alive, close", false),
        ] {
            let text = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
            let (head, _) = read(text.as_bytes(), &[]).unwrap().unwrap();
            assert_eq!(head.keeps, keeps, "{text}");
        }
        let tunnel = b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n";
        assert!(!read(tunnel, &[]).unwrap().unwrap().0.keeps);
    }

    #[test]
    fn a_refused_head_says_its_method_if_it_got_that_far() {
        for (text, method) in [
            ("DELETE / HTTP/1.1\r\nX : y\r\n", Some(Method::DELETE)),
            ("PUT /# HTTP/1.1\r\n", Some(Method::PUT)),
            ("PUT / HTTP/3.1\r\n", Some(Method::PUT)),
            ("GET / FTP/1.1\r\n", Some(Method::GET)),
            ("PUT  / HTTP/1.1\r\n", None),
            ("\x16\x03\x01", None),
        ] {
            let mut reader = Reader::default();
            reader.read(text.as_bytes(), &LIMITS).unwrap_err();
            assert_eq!(reader.method(), method.as_ref(), "{text}");
        }
    }

    #[test]
    fn what_is_no_http1_at_all_is_told_from_what_is_bad_http1() {
        for (text, is_other) in [
            ("INVALID CONNECTION PREFACE\r\n", true),
            ("PRI * HTTP/2.0\r\n", true),
            ("GET / PREFACE\r\n", false),
            ("INVALID / HTTP/2.0\r\n", false),
            ("INVALID CONNECTION HTTP/1.1\r\n", false),
        ] {
            let fault = read(text.as_bytes(), &[]).unwrap_err();
            assert_eq!(fault == OTHER_PROTOCOL, is_other, "{text}");
        }
    }

    #[test]
    fn bounds_hold_however_the_bytes_come() {
        let fields = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(count));
        for (text, kind) in [
            (format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(2_000)), ErrorKind::FieldsTooLarge),
            (format!("GET /{}", "y".repeat(2_000)), ErrorKind::TargetTooLong),
            ("G".repeat(2_000), ErrorKind::BadRequest),
            (format!("{} / HTTP/1.1\r\n", "G".repeat(33)), ErrorKind::BadRequest),
            (fields(101), ErrorKind::FieldsTooLarge),
        ] {
            let cuts: Vec<_> = (0..text.len()).collect();
            for cuts in [&cuts[..], &[]] {
                assert_eq!(read(text.as_bytes(), cuts).unwrap_err().kind, kind);
            }
        }
        assert!(read(fields(100).as_bytes(), &[]).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn where_reads_end_makes_no_difference(
            place in 0..GOOD.len(),
            byte in any::<u8>(),
            cuts in cuts(GOOD.len()),
        ) {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[place] = byte;
            let said = |found: Result<Option<(Head, usize)>, Fault>| {
                // The sentence is that of the first fault that shows, which may be one or the other.
                let whole = found.map(|found| found.map(|(head, length)| (format!("{head:?}"), length)));
                whole.map_err(|fault| fault.kind)
            };
            prop_assert_eq!(said(read(&bytes, &[])), said(read(&bytes, &cuts)));
        }

        #[test]
        fn anything_may_come(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..300_usize) {
            let cut = cut.min(bytes.len());
            drop(read(&bytes, &[cut]));
        }
    }
}
