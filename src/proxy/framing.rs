//! Where do HTTP/1.1 requests begin and end on a connection, and is each of them beyond doubt? No I/O.
//!
//! # Why
//! A request that two programs delimit differently is how requests are smuggled (RFC 9112 11.2). hyper parses safely
//! and leniently: it takes a bare line feed for a line end, forgets a fragment, and picks one of two lengths. Here
//! every message is measured once more, by the grammar alone, and what leaves a choice is a [`Fault`].
//! Whether the request may be served is not asked here but in [`super::classify`].

use super::error::ErrorKind;
use super::grammar::{self, Fault, bad};

/// Follows one connection.
#[derive(Debug)]
pub(super) struct Framing {
    at: At,
    head_bytes_max: usize,
    heads: u64,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum At {
    /// A head; what its lines said so far.
    Head(Head),
    Body {
        left: u64,
    },
    ChunkSize,
    Chunk {
        left: u64,
    },
    /// The line end after a chunk.
    ChunkEnd,
    Trailers {
        bytes: usize,
        fields: usize,
    },
    /// Nothing may follow: neither after a fault nor after CONNECT.
    Over,
}

/// What is known of an unfinished head.
#[derive(Debug, Default)]
struct Head {
    /// Of its complete lines.
    bytes: usize,
    blanks: usize,
    version: Option<Version>,
    fields: usize,
    length: Option<u64>,
    chunked: bool,
    tunnel: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    OneZero,
    OneOne,
}

/// What [`Framing::advance`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes that are done with. The rest is part of a line: it is to be shown again, with more.
    pub(super) consumed: usize,
    /// Bytes that belong to finished heads and to bodies; at most `consumed`.
    pub(super) sound: usize,
    /// Why nothing after `sound` may pass.
    pub(super) end: Option<End>,
}

/// Why a connection is read no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A head is none.
    Head(Fault),
    /// A body does not come to the end that its head promised.
    Body(Fault),
    /// The request asked for a tunnel: what follows is for nobody here.
    Tunnel,
}

impl Framing {
    /// Follows a connection whose heads may have so many bytes.
    pub(super) fn new(head_bytes_max: usize) -> Self {
        Self { at: At::Head(Head::default()), head_bytes_max, heads: 0 }
    }

    /// Heads that were finished so far.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Reads on. After an end nothing is sound any more.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Progress {
        let mut progress = Progress { consumed: 0, sound: 0, end: None };
        while let Some(rest) = bytes.get(progress.consumed..).filter(|rest| !rest.is_empty()) {
            let in_head = matches!(self.at, At::Head(_));
            match self.step(rest) {
                Ok(0) => break,
                Ok(count) => progress.consumed += count,
                Err(end) => {
                    progress.end = end.map_or(Some(End::Tunnel), |fault| {
                        Some(if in_head { End::Head(fault) } else { End::Body(fault) })
                    });
                    self.at = At::Over;
                    break;
                }
            }
            if !matches!(&self.at, At::Head(head) if head.bytes > 0) {
                progress.sound = progress.consumed;
            }
        }
        progress
    }

    /// Takes one part of a message off `bytes`; none when it is not complete. An error without a fault when nothing
    /// may follow.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Option<Fault>> {
        match &mut self.at {
            At::Over => Err(None),
            At::Body { left } => {
                let count = take(left, bytes);
                if *left == 0 {
                    self.at = At::Head(Head::default());
                }
                Ok(count)
            }
            At::Chunk { left } => {
                let count = take(left, bytes);
                if *left == 0 {
                    self.at = At::ChunkEnd;
                }
                Ok(count)
            }
            At::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.at = At::ChunkSize;
                    Ok(2)
                }
                [b'\r'] => Ok(0),
                _ => Err(Some(bad("A chunk is longer than its size."))),
            },
            At::ChunkSize => {
                let Some(line) = grammar::line(bytes, CHUNK_LINE_MAX, CHUNK_LINE_LONG)? else { return Ok(0) };
                self.at = match grammar::chunk_size(line)? {
                    0 => At::Trailers { bytes: 0, fields: 0 },
                    left => At::Chunk { left },
                };
                Ok(line.len() + 2)
            }
            At::Trailers { bytes: before, fields } => {
                let room = self.head_bytes_max.saturating_sub(*before);
                let Some(line) = grammar::line(bytes, room, HEAD_LONG)? else { return Ok(0) };
                *before += line.len() + 2;
                *fields += 1;
                if line.is_empty() {
                    self.at = At::Head(Head::default());
                } else if *fields > FIELDS_MAX {
                    return Err(Some(FIELDS_MANY));
                } else {
                    grammar::field(line)?;
                }
                Ok(line.len() + 2)
            }
            At::Head(head) => {
                let room = self.head_bytes_max.saturating_sub(head.bytes);
                let Some(line) = grammar::line(bytes, room, HEAD_LONG)? else {
                    if head.version.is_none() {
                        grammar::beginning(bytes)?;
                    }
                    return Ok(0);
                };
                head.bytes += line.len() + 2;
                if let Some(next) = head.line(line)? {
                    self.heads += 1;
                    self.at = next;
                }
                Ok(line.len() + 2)
            }
        }
    }
}

impl Head {
    /// Reads a line, and says what comes after the head when this was the last.
    fn line(&mut self, line: &[u8]) -> Result<Option<At>, Fault> {
        let Some(version) = self.version else {
            if line.is_empty() {
                // Some clients end a body with a line end too many (RFC 9112 2.2).
                self.blanks += 1;
                return if self.blanks > BLANKS_MAX {
                    Err(bad("A request begins with its request line."))
                } else {
                    Ok(None)
                };
            }
            self.request_line(line)?;
            return Ok(None);
        };
        if !line.is_empty() {
            self.fields += 1;
            if self.fields > FIELDS_MAX {
                return Err(FIELDS_MANY);
            }
            let (name, value) = grammar::field(line)?;
            self.field(version, name, value)?;
            return Ok(None);
        }
        let next = match (self.tunnel, self.chunked, self.length) {
            (true, ..) => At::Over,
            (_, true, Some(_)) => {
                return Err(bad("A request has a Content-Length or a Transfer-Encoding, not both."));
            }
            (_, true, None) => At::ChunkSize,
            (_, false, Some(left)) if left > 0 => At::Body { left },
            _ => At::Head(Self::default()),
        };
        Ok(Some(next))
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad(
                "A request line is a method, a target and a version with one space between them.",
            ));
        };
        if !grammar::is_token(method) {
            return Err(bad("The method is not a token."));
        }
        self.tunnel = method == b"CONNECT";
        self.version = Some(match version {
            b"HTTP/1.1" => Version::OneOne,
            b"HTTP/1.0" => Version::OneZero,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                let kind = ErrorKind::VersionNotSupported;
                return Err(Fault { kind, detail: "Tidegate speaks HTTP/1.1, HTTP/1.0 and HTTP/2." });
            }
            _ => return Err(bad("The request line does not end in a version.")),
        });
        grammar::check_target(target, self.tunnel)
    }

    fn field(&mut self, version: Version, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        // The length tells most names apart from the ones that matter.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = grammar::number(value).ok_or(bad("The Content-Length is not a number."))?;
                if self.length.replace(length).is_some() {
                    return Err(bad("There is more than one Content-Length."));
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if version == Version::OneZero {
                    return Err(bad("HTTP/1.0 has no Transfer-Encoding."));
                }
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    let kind = ErrorKind::NotImplemented;
                    return Err(Fault {
                        kind,
                        detail: "The only transfer coding that is understood is chunked, once.",
                    });
                }
                self.chunked = true;
            }
            // What reads names as CGI does takes these for the fields above.
            14 | 17 if grammar::is_framing_in_disguise(name) => {
                return Err(bad("A field's name looks like Content-Length or Transfer-Encoding and is not."));
            }
            _ => (),
        }
        Ok(())
    }
}

fn take(left: &mut u64, bytes: &[u8]) -> usize {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left = left.saturating_sub(count as u64);
    count
}

const HEAD_LONG: Fault = Fault {
    kind: ErrorKind::FieldsTooLarge,
    detail: "The head is longer than [listen] head_bytes_max allows.",
};
const FIELDS_MANY: Fault =
    Fault { kind: ErrorKind::FieldsTooLarge, detail: "There are more than 100 fields." };
const CHUNK_LINE_LONG: Fault = bad("A chunk's extensions are too long.");
/// As many as hyper takes.
const FIELDS_MAX: usize = 100;
const CHUNK_LINE_MAX: usize = 1024;
/// Empty lines before a request line.
const BLANKS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What passes of `bytes`, shown in pieces that end where `cuts` say, and why no more does.
    fn read(bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, u64, Option<End>) {
        let mut framing = Framing::new(1000);
        let (mut passed, mut held, mut scanned) = (Vec::new(), Vec::new(), 0);
        let mut from = 0;
        for to in cuts.iter().copied().chain([bytes.len()]) {
            held.extend_from_slice(&bytes[from..to]);
            from = to;
            let progress = framing.advance(&held[scanned..]);
            assert!(progress.sound <= progress.consumed && progress.consumed <= held.len() - scanned);
            if progress.sound > 0 {
                passed.extend(held.drain(..scanned + progress.sound));
                scanned = 0;
                scanned += progress.consumed - progress.sound;
            } else {
                scanned += progress.consumed;
            }
            if progress.end.is_some() {
                return (passed, framing.heads(), progress.end);
            }
        }
        (passed, framing.heads(), None)
    }

    const GOOD: &str = "GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n\
        POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /\r\n\
        POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;x=\"y\"\r\n\r\n\r\n\r\n0\r\nT: t\r\n\r\n\
        GET / HTTP/1.0\r\nX: é\r\n\r\n";

    #[test]
    fn messages_are_counted_and_pass_as_they_are() {
        assert_eq!(read(GOOD.as_bytes(), &[]), (GOOD.as_bytes().to_vec(), 4, None));
        let unfinished = format!("{GOOD}GET / HTTP/1.1\r\nHost: a\r\n");
        assert_eq!(read(unfinished.as_bytes(), &[]), (GOOD.as_bytes().to_vec(), 4, None));
    }

    #[test]
    fn nothing_after_a_fault_or_a_tunnel_passes() {
        for (text, heads, passed) in [
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", 0, 0),
            ("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n x\r\n\r\n", 1, 18),
            ("CONNECT a:1 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", 1, 24),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naa\r\n", 1, 51),
        ] {
            let (sound, counted, end) = read(text.as_bytes(), &[]);
            assert_eq!((sound.len(), counted), (passed, heads), "{text}");
            let is_right = match end {
                Some(End::Tunnel) => text.starts_with("CONNECT"),
                Some(End::Body(_)) => text.starts_with("POST"),
                Some(End::Head(fault)) => fault.kind == ErrorKind::BadRequest,
                None => false,
            };
            assert!(is_right, "{text}: {end:?}");
        }
    }

    #[test]
    fn bounds_hold_however_the_bytes_come() {
        for text in
            [format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(2000)), "G".repeat(2000), "X: y\r\n".repeat(300)]
        {
            let text = if text.starts_with('X') { format!("GET / HTTP/1.1\r\n{text}") } else { text };
            let cuts: Vec<_> = (0..text.len()).collect();
            for cuts in [&cuts[..], &[]] {
                let (passed, _, end) = read(text.as_bytes(), cuts);
                let Some(End::Head(fault)) = end else { panic!("{end:?}") };
                assert_eq!((fault.kind, passed.len()), (ErrorKind::FieldsTooLarge, 0));
            }
        }
    }

    fn cuts(length: usize) -> impl Strategy<Value = Vec<usize>> {
        proptest::collection::vec(0..=length, 0..8).prop_map(|mut cuts| {
            cuts.sort_unstable();
            cuts
        })
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
            let (whole, heads, end) = read(&bytes, &[]);
            let (pieces, heads_of_pieces, end_of_pieces) = read(&bytes, &cuts);
            prop_assert!(bytes.starts_with(&whole));
            prop_assert_eq!((whole, heads, end.is_some()), (pieces, heads_of_pieces, end_of_pieces.is_some()));
        }

        #[test]
        fn anything_may_come(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..300_usize) {
            let cut = cut.min(bytes.len());
            read(&bytes, &[cut]);
        }
    }
}
