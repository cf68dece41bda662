//! Where do HTTP/1.1 requests begin and end on a connection, and is each of them beyond doubt? No I/O.
//!
//! # Why
//! A request that two programs delimit differently is how requests are smuggled (RFC 9112 11.2). hyper parses safely
//! and leniently: it takes a bare line feed for a line end, forgets a fragment, and picks one of two lengths. Here
//! every message is measured once more, by the grammar alone, and what leaves a choice is a [`Fault`].
//! Whether the request may be served is not asked here but in [`super::classify`].

use super::error::{ErrorKind, ProxyError};

/// Why the bytes on a connection are no requests; a sentence for the client comes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: ErrorKind,
    pub(super) detail: &'static str,
}

impl From<Fault> for ProxyError {
    fn from(fault: Fault) -> Self {
        Self::new(fault.kind, fault.detail)
    }
}

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
                let Some(line) = line(bytes, CHUNK_LINE_MAX, CHUNK_LINE_LONG)? else { return Ok(0) };
                self.at = match chunk_size(line)? {
                    0 => At::Trailers { bytes: 0, fields: 0 },
                    left => At::Chunk { left },
                };
                Ok(line.len() + 2)
            }
            At::Trailers { bytes: before, fields } => {
                let room = self.head_bytes_max.saturating_sub(*before);
                let Some(line) = line(bytes, room, HEAD_LONG)? else { return Ok(0) };
                *before += line.len() + 2;
                *fields += 1;
                if line.is_empty() {
                    self.at = At::Head(Head::default());
                } else if *fields > FIELDS_MAX {
                    return Err(Some(FIELDS_MANY));
                } else {
                    field(line)?;
                }
                Ok(line.len() + 2)
            }
            At::Head(head) => {
                let room = self.head_bytes_max.saturating_sub(head.bytes);
                let Some(line) = line(bytes, room, HEAD_LONG)? else {
                    if head.version.is_none() {
                        beginning(bytes)?;
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
            let (name, value) = field(line)?;
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
        if !is_token(method) {
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
        check_target(target, self.tunnel)
    }

    fn field(&mut self, version: Version, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        // The length tells most names apart from the ones that matter.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = number(value).ok_or(bad("The Content-Length is not a number."))?;
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
            14 | 17 if is_framing_in_disguise(name) => {
                return Err(bad("A field's name looks like Content-Length or Transfer-Encoding and is not."));
            }
            _ => (),
        }
        Ok(())
    }
}

/// The line at the beginning of `bytes`, without its end; none when it is not complete. `room` is for all of it.
fn line(bytes: &[u8], room: usize, too_long: Fault) -> Result<Option<&[u8]>, Fault> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    if end.unwrap_or(bytes.len()) >= room {
        return Err(too_long);
    }
    let line = bytes.get(..end.unwrap_or_default()).unwrap_or_default();
    match (end, line.split_last()) {
        (None, _) => Ok(None),
        (Some(_), Some((b'\r', line))) => Ok(Some(line)),
        (Some(_), _) => Err(bad("A line ends in a bare line feed.")),
    }
}

/// Can `bytes` be the beginning of a request line? So that what is no HTTP at all is answered at once.
fn beginning(bytes: &[u8]) -> Result<(), Fault> {
    let start = bytes.get(..bytes.len().min(BEGINNING)).unwrap_or_default();
    let method = start.split(|byte| *byte == b' ').next().unwrap_or_default();
    if method == b"\r" || is_token(method) { Ok(()) } else { Err(bad("The method is not a token.")) }
}

/// Name and value of a field line (RFC 9112 5).
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(bad("A field has no colon."))?;
    let (name, value) = line.split_at_checked(colon).ok_or(bad("A field has no colon."))?;
    if matches!(name.first(), Some(b' ' | b'\t')) {
        return Err(bad("A field is folded over several lines."));
    }
    if !is_token(name) {
        return Err(bad("A field's name is not a token, or is followed by a space."));
    }
    let value = value.strip_prefix(b":").unwrap_or_default();
    if !value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)) {
        return Err(bad("A field has a control character in it."));
    }
    Ok((name, value.trim_ascii()))
}

/// The forms of RFC 9112 3.2 as far as they matter to framing; what the target means is asked later.
fn check_target(target: &[u8], tunnel: bool) -> Result<(), Fault> {
    if target.len() > TARGET_MAX {
        return Err(Fault { kind: ErrorKind::TargetTooLong, detail: "The request target is too long." });
    }
    if target.contains(&b'#') {
        return Err(bad("A request target has no fragment."));
    }
    let path = target.iter().take_while(|byte| **byte != b'?');
    // hyper takes the others, and so do the APIs that have them in their paths.
    let is_odd = |byte: &u8| matches!(byte, b'<' | b'>' | b'`');
    if !target.iter().all(u8::is_ascii_graphic)
        || path.clone().any(is_odd)
        || target.iter().skip(path.count()).any(|byte| matches!(byte, b'<' | b'>' | b'"'))
    {
        return Err(bad("The request target has a character in it that must be percent-encoded."));
    }
    if !tunnel && matches!(target, [b'/', ..] | b"*") {
        return Ok(());
    }
    // Asked here because hyper's own refusal says nothing.
    let is_authority = |uri: &http::Uri| uri.scheme().is_none() && uri.authority().is_some();
    let valid = http::Uri::try_from(target).is_ok_and(|uri| is_authority(&uri) == tunnel);
    if valid { Ok(()) } else { Err(bad("The request target is not of a form that this method has.")) }
}

/// The size in a chunk's first line, whose extensions are checked and forgotten (RFC 9112 7.1).
fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extensions) = line.split_at_checked(digits).unwrap_or_default();
    if digits.is_empty() || digits.len() > 16 {
        return Err(bad("A chunk's size is not a number."));
    }
    let size = digits
        .iter()
        .fold(0, |size: u64, digit| (size << 4) | char::from(*digit).to_digit(16).map_or(0, u64::from));
    if size > LENGTH_MAX {
        return Err(bad("A chunk's size is not a number that can be."));
    }
    if are_extensions(extensions) {
        Ok(size)
    } else {
        Err(bad("A chunk's size is followed by what is no extension."))
    }
}

/// `*( ";" name [ "=" ( token / quoted-string ) ] )`. The space that the grammar forgives is not forgiven.
fn are_extensions(mut text: &[u8]) -> bool {
    while let Some(after) = text.strip_prefix(b";") {
        let Some(after) = without_token(after) else { return false };
        text = match after.strip_prefix(b"=") {
            None => after,
            Some(value) => {
                let Some(after) = without_token(value).or_else(|| without_quoted(value)) else {
                    return false;
                };
                after
            }
        };
    }
    text.is_empty()
}

fn without_token(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(text.len());
    if end == 0 { None } else { text.get(end..) }
}

fn without_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut bytes = text.strip_prefix(b"\"")?.iter();
    loop {
        let byte = match bytes.next()? {
            b'"' => return Some(bytes.as_slice()),
            b'\\' => bytes.next()?,
            byte => byte,
        };
        if !(byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t') || *byte >= 0x80) {
            return None;
        }
    }
}

fn take(left: &mut u64, bytes: &[u8]) -> usize {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left = left.saturating_sub(count as u64);
    count
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number <= LENGTH_MAX).then_some(number)
}

fn is_framing_in_disguise(name: &[u8]) -> bool {
    let is = |like: &[u8]| {
        name.iter()
            .zip(like)
            .all(|(byte, like)| byte.eq_ignore_ascii_case(like) || (*byte == b'_' && *like == b'-'))
    };
    name.contains(&b'_') && if name.len() == 14 { is(b"content-length") } else { is(b"transfer-encoding") }
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

fn is_token_byte(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).is_some_and(|is| *is)
}

const fn bad(detail: &'static str) -> Fault {
    Fault { kind: ErrorKind::BadRequest, detail }
}

/// RFC 9110 5.6.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let mark = matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
        #[expect(clippy::indexing_slicing, reason = "checked by the compiler: this runs there")]
        {
            table[byte as usize] = mark || byte.is_ascii_alphanumeric();
        }
        byte += 1;
    }
    table
};

const HEAD_LONG: Fault = Fault {
    kind: ErrorKind::FieldsTooLarge,
    detail: "The head is longer than [proxy] head_bytes_max allows.",
};
const FIELDS_MANY: Fault =
    Fault { kind: ErrorKind::FieldsTooLarge, detail: "There are more than 100 fields." };
const CHUNK_LINE_LONG: Fault = bad("A chunk's extensions are too long.");

/// As many as hyper takes.
const FIELDS_MAX: usize = 100;
/// As long as hyper takes.
const TARGET_MAX: usize = 65_533;
/// Larger is nothing that could ever be sent.
const LENGTH_MAX: u64 = i64::MAX as u64;
const CHUNK_LINE_MAX: usize = 1024;
/// Empty lines before a request line.
const BLANKS_MAX: usize = 4;
/// Bytes of an unfinished request line that are looked at each time that some come.
const BEGINNING: usize = 32;
