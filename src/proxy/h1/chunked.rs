//! The chunked coding, taken off piece by piece as it comes (RFC 9112 7.1). No I/O.

use super::super::error::ErrorKind;
use super::super::grammar::{self, Fault, bad};
use super::Limits;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Follows one chunked body.
#[derive(Debug)]
pub(super) struct Chunks {
    at: At,
    /// Bytes of an unfinished line that hold no line end.
    scanned: usize,
    /// Blanks may stand behind a chunk's size.
    is_lenient: bool,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum At {
    /// A chunk's first line.
    Size,
    Data(u64),
    /// The line end after a chunk.
    DataEnd,
    Trailers {
        bytes: usize,
        fields: HeaderMap,
    },
    End,
}

/// A part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    /// All of it has come.
    End(HeaderMap),
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { at: At::Size, scanned: 0, is_lenient: false }
    }

    /// An upstream's: some servers have always padded a chunk's size with blanks, and clients take that. It ends where it
    /// would without them, and is written anew.
    pub(super) fn of_upstream() -> Self {
        Self { is_lenient: true, ..Self::new() }
    }

    /// Takes the next piece off `bytes`; none when it is not complete. After a fault nothing may be read any more.
    pub(super) fn next(&mut self, bytes: &mut BytesMut, limits: &Limits) -> Result<Option<Piece>, Fault> {
        loop {
            match &mut self.at {
                At::Size => {
                    let line = grammar::line(bytes, &mut self.scanned, limits.chunk_line_bytes, LINE_LONG)?;
                    let Some(line) = line else { return Ok(None) };
                    let said = if self.is_lenient { without_blanks(line) } else { line };
                    let (size, length) = (grammar::chunk_size(said)?, line.len() + 2);
                    self.at = match size {
                        0 => At::Trailers { bytes: 0, fields: HeaderMap::new() },
                        size => At::Data(size),
                    };
                    bytes.advance(length);
                }
                At::Data(left) => {
                    let Some(data) = take(left, bytes) else { return Ok(None) };
                    if *left == 0 {
                        self.at = At::DataEnd;
                    }
                    return Ok(Some(Piece::Data(data)));
                }
                At::DataEnd => match **bytes {
                    [b'\r', b'\n', ..] => {
                        bytes.advance(2);
                        self.at = At::Size;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(bad("A chunk is longer than its size.")),
                },
                At::Trailers { bytes: before, fields } => {
                    let room = limits.head_bytes.saturating_sub(*before);
                    let line = grammar::line(bytes, &mut self.scanned, room, TRAILERS_LONG)?;
                    let Some(line) = line else { return Ok(None) };
                    let length = line.len() + 2;
                    *before += length;
                    if line.is_empty() {
                        let fields = std::mem::take(fields);
                        self.at = At::End;
                        bytes.advance(length);
                        return Ok(Some(Piece::End(fields)));
                    }
                    trailer(line, fields, limits)?;
                    bytes.advance(length);
                }
                At::End => return Ok(None),
            }
        }
    }
}

/// `line` without spaces and tabs at its end.
fn without_blanks(mut line: &[u8]) -> &[u8] {
    while let [before @ .., b' ' | b'\t'] = line {
        line = before;
    }
    line
}

fn trailer(line: &[u8], fields: &mut HeaderMap, limits: &Limits) -> Result<(), Fault> {
    if fields.len() >= limits.fields {
        return Err(TRAILERS_MANY);
    }
    let (name, value) = grammar::field(line)?;
    let said = line.get(name.clone()).unwrap_or_default();
    if matches!(said.len(), 14 | 17) && grammar::is_framing_in_disguise(said) {
        return Err(bad(grammar::DISGUISE));
    }
    let name = line.get(name).and_then(|name| HeaderName::from_bytes(name).ok());
    let value = line.get(value).and_then(|value| HeaderValue::from_bytes(value).ok());
    let (name, value) = name.zip(value).ok_or(TRAILERS_LONG)?;
    fields.try_append(name, value).map(drop).map_err(|_| TRAILERS_MANY)
}

/// Takes what there is of `left` bytes; none when there is nothing.
pub(super) fn take(left: &mut u64, bytes: &mut BytesMut) -> Option<Bytes> {
    if bytes.is_empty() {
        return None;
    }
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left = left.saturating_sub(count as u64);
    // A small piece does not keep a large buffer alive.
    let data = bytes.split_to(count);
    Some(if count <= COPIED { Bytes::copy_from_slice(&data) } else { data.freeze() })
}

const LINE_LONG: Fault = bad("A chunk's first line is too long.");
const TRAILERS_LONG: Fault = Fault { kind: ErrorKind::FieldsTooLarge, detail: "The trailers are too long." };
const TRAILERS_MANY: Fault =
    Fault { kind: ErrorKind::FieldsTooLarge, detail: "There are too many trailers." };
const COPIED: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::super::cuts;
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { head_bytes: 200, fields: 3, chunk_line_bytes: 64 };

    /// What comes of `bytes`, shown in pieces that end where `cuts` say: data, trailers if it ended, what was not read.
    fn read(bytes: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Option<HeaderMap>, usize), Fault> {
        let (mut chunks, mut unread, mut data) = (Chunks::new(), BytesMut::new(), Vec::new());
        let mut from = 0;
        for to in cuts.iter().copied().chain([bytes.len()]) {
            unread.extend_from_slice(&bytes[from..to]);
            from = to;
            while let Some(piece) = chunks.next(&mut unread, &LIMITS)? {
                match piece {
                    Piece::Data(more) => data.extend_from_slice(&more),
                    Piece::End(trailers) => {
                        return Ok((data, Some(trailers), unread.len() + bytes.len() - to));
                    }
                }
            }
        }
        Ok((data, None, unread.len()))
    }

    const GOOD: &str = "4;x=\"y;\"\r\na\r\nb\r\n0B\r\nc0123456789\r\n0\r\nX-T: t\r\nx-t: \u{e9}\r\n\r\nGET";

    #[test]
    fn chunks_become_a_body_and_trailers() {
        let (data, trailers, unread) = read(GOOD.as_bytes(), &[]).unwrap();
        assert_eq!(data, b"a\r\nbc0123456789");
        assert_eq!(trailers.unwrap().get_all("x-t").iter().count(), 2);
        assert_eq!(unread, 3);
        assert_eq!(read(b"0\r\n\r\n", &[]).unwrap(), (Vec::new(), Some(HeaderMap::new()), 0));
    }

    #[test]
    fn blanks_behind_a_size_are_an_upstreams_alone() {
        let end = |mut chunks: Chunks, text: &str| chunks.next(&mut text.into(), &LIMITS);
        for text in ["0 \r\n\r\n", "0\t  \r\n\r\n"] {
            end(Chunks::new(), text).unwrap_err();
            assert_eq!(end(Chunks::of_upstream(), text).unwrap(), Some(Piece::End(HeaderMap::new())));
        }
        for text in [" 0\r\n\r\n", "0\r\r\n\r\n", "0 1\r\n\r\n", "0\u{b}\r\n\r\n"] {
            end(Chunks::of_upstream(), text).unwrap_err();
        }
    }

    #[test]
    fn bounds_hold_however_the_bytes_come() {
        for text in [
            format!("1;{}\r\n", "x".repeat(100)),
            format!("0\r\nX: {}\r\n\r\n", "y".repeat(300)),
            format!("0\r\n{}\r\n", "X: y\r\n".repeat(4)),
        ] {
            let cuts: Vec<_> = (0..text.len()).collect();
            for cuts in [&cuts[..], &[]] {
                read(text.as_bytes(), cuts).unwrap_err();
            }
        }
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
            let (whole, pieces) = (read(&bytes, &[]), read(&bytes, &cuts));
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn anything_may_come(bytes in proptest::collection::vec(any::<u8>(), 0..100), cut in 0..100_usize) {
            let cut = cut.min(bytes.len());
            drop(read(&bytes, &[cut]));
        }
    }
}
