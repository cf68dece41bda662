//! Where an HTTP/2 client's bytes stand between its frames, and how much of them is neither requests nor bodies.
//!
//! # Why
//! A client may begin a connection or a head and never end it, or send control frames without end: h2 bounds what each
//! of them costs in memory, and waits for ever for the first and works for ever on the second.

use super::opening::PREFACE;
use super::trailers::Trailers;
use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

/// Follows the bytes that a client sends.
#[derive(Debug)]
pub(super) struct Frames {
    preface_left: usize,
    /// What came of a frame's header.
    header: [u8; HEADER],
    header_len: usize,
    /// What is missing of the frame's payload.
    payload_left: usize,
    /// The first frame, which has to be SETTINGS, is complete.
    begun: bool,
    /// A head's first frame was not its last.
    in_head: bool,
    trailers: Trailers,
    /// Small pieces of bodies since the last rest.
    small: usize,
    /// Bytes of control frames that nothing has paid for, as of `drained`.
    unpaid: usize,
    unpaid_max: usize,
    drained: Instant,
}

impl Frames {
    /// With more than `unpaid_max` bytes of control frames that nothing explains, it is a flood.
    pub(super) fn new(unpaid_max: usize, now: Instant) -> Self {
        Self {
            preface_left: PREFACE.len(),
            header: [0; HEADER],
            header_len: 0,
            payload_left: 0,
            begun: false,
            in_head: false,
            trailers: Trailers::default(),
            small: 0,
            unpaid: 0,
            unpaid_max,
            drained: now,
        }
    }

    /// These bytes came.
    pub(super) fn read(&mut self, bytes: &[u8], now: Instant) -> Then {
        self.follow(bytes, now);
        if self.trailers.is_malformed() {
            return Then::Refuse;
        }
        if self.small < SMALL_MAX {
            return Then::Read;
        }
        self.small = 0;
        Then::Rest
    }

    fn follow(&mut self, mut bytes: &[u8], now: Instant) {
        let preface = self.preface_left.min(bytes.len());
        self.preface_left -= preface;
        bytes = bytes.get(preface..).unwrap_or_default();
        let seconds = now.saturating_duration_since(self.drained).as_secs();
        if seconds > 0 {
            self.drained = now;
            self.pay(usize::try_from(seconds).unwrap_or(usize::MAX).saturating_mul(BYTES_PER_SECOND));
        }
        while !bytes.is_empty() {
            if self.header_len < HEADER {
                let count = (HEADER - self.header_len).min(bytes.len());
                let (part, rest) = bytes.split_at(count);
                if let Some(room) = self.header.get_mut(self.header_len..self.header_len + count) {
                    room.copy_from_slice(part);
                }
                self.header_len += count;
                bytes = rest;
                if self.header_len < HEADER {
                    return;
                }
                self.payload_left = self.length();
            }
            let count = self.payload_left.min(bytes.len());
            self.payload_left -= count;
            let (payload, rest) = bytes.split_at(count);
            if matches!(self.kind(), HEADERS | CONTINUATION) {
                self.trailers.fields(payload);
            }
            bytes = rest;
            if self.payload_left == 0 {
                self.end_of_frame();
            }
        }
    }

    /// Is something unfinished that a client sends in one go: its first words, a head, a control frame?
    pub(super) fn is_unfinished(&self) -> bool {
        let in_header = self.header_len > 0 && self.header_len < HEADER;
        let in_control = self.header_len == HEADER && self.kind() != DATA;
        !self.begun || self.in_head || in_header || in_control
    }

    /// Something was done for nothing, which counts as so many bytes.
    pub(super) fn charge(&mut self, bytes: usize) {
        self.unpaid = self.unpaid.saturating_add(bytes);
    }

    /// Something was done that control frames belong to.
    pub(super) fn pay(&mut self, bytes: usize) {
        self.unpaid = self.unpaid.saturating_sub(bytes);
    }

    /// Are there far more control frames than anything that was asked for explains?
    pub(super) fn is_flood(&self) -> bool {
        self.unpaid > self.unpaid_max
    }

    fn end_of_frame(&mut self) {
        self.header_len = 0;
        self.begun = true;
        let [_, _, _, kind, flags, ..] = self.header;
        if kind == DATA && self.length() < SMALL {
            self.small += 1;
        }
        let stream = self.stream();
        match kind {
            HEADERS => self.trailers.end_of_headers(stream, flags),
            CONTINUATION => self.trailers.end_of_frame(flags),
            DATA if flags & END_STREAM == 0 => (),
            DATA => self.trailers.end_of_body(stream),
            _ => {
                if kind == RST_STREAM {
                    self.trailers.end_of_body(stream);
                }
                self.charge(HEADER + self.length());
            }
        }
        if matches!(kind, HEADERS | CONTINUATION) {
            self.in_head = flags & END_HEADERS == 0;
        }
    }

    fn stream(&self) -> u32 {
        let [.., a, b, c, d] = self.header;
        u32::from_be_bytes([a & 0x7f, b, c, d])
    }

    fn kind(&self) -> u8 {
        self.header[3]
    }

    fn length(&self) -> usize {
        let [a, b, c, ..] = self.header.map(usize::from);
        a << 16 | b << 8 | c
    }
}

/// What becomes of the next read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It goes on.
    Read,
    /// What was read is to be taken first. h2 reads as long as there is anything, and ends a connection on which small
    /// pieces of bodies wait that weigh half of its window, each as 256 bytes: without a rest it would end a client that
    /// sends faster than that before anyone had the chance to take them.
    Rest,
    /// A request has fields that h2 would not see ([`super::trailers`]): nothing may be taken for its end.
    Refuse,
}

impl Then {
    /// Is the next read to be done now?
    pub(super) fn poll_read(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Read => Poll::Ready(Ok(())),
            Self::Rest => {
                *self = Self::Read;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Refuse => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a pseudo-field in trailers, or a fragment",
            ))),
        }
    }
}

/// A frame's length, type, flags and stream (RFC 9113 4.1).
const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// What h2 calls a small piece of a body, and how many of them wait at most, with those of the last read: of 8 KiB.
const SMALL: usize = 256;
const SMALL_MAX: usize = 64;

/// What a client may send of control frames all the time: sixty pings a second.
const BYTES_PER_SECOND: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::clock;
    use std::time::Duration;

    const UNPAID_MAX: usize = 1024 * 1024;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEADER + payload, 0);
        bytes
    }

    #[test]
    fn what_is_unfinished_is_seen_however_it_is_cut() {
        for cut in 1..40 {
            let now = clock::now();
            let mut frames = Frames::new(UNPAID_MAX, now);
            let mut read = |bytes: &[u8]| {
                for part in bytes.chunks(cut) {
                    frames.read(part, now);
                }
                frames.is_unfinished()
            };
            assert!(read(PREFACE));
            let settings = frame(4, 0, 12);
            assert!(read(&settings[..20]));
            assert!(!read(&settings[20..]));
            let ping = frame(6, 0, 8);
            assert!(read(&ping[..1]), "a header has to end too");
            assert!(!read(&ping[1..]));
            assert!(read(&frame(HEADERS, 0, 30)));
            assert!(read(&frame(CONTINUATION, 0, 0)));
            assert!(!read(&frame(CONTINUATION, END_HEADERS, 5)));
            let data = frame(DATA, 0, 100);
            assert!(!read(&data[..50]), "bodies have a time of their own");
            assert!(!read(&data[50..]));
            assert!(read(&frame(6, 0, 8)[..12]));
        }
    }

    fn fields(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = frame(kind, flags, payload.len());
        bytes[8] = stream;
        bytes[HEADER..].copy_from_slice(payload);
        bytes
    }

    #[test]
    fn a_pseudo_field_in_trailers_is_seen_however_it_is_cut() {
        const GET: &[u8] = b"\x82\x86\x84\x41\x01a";
        let head = |stream| fields(HEADERS, END_HEADERS, stream, GET);
        for (trailers, malformed) in [
            (fields(HEADERS, END_HEADERS | 1, 1, b"\x00\x01x\x01y"), false),
            (fields(HEADERS, END_HEADERS | 1, 1, b"\x00\x01x\x01y\x84"), true),
            (fields(HEADERS, END_HEADERS | 1, 1, b"\xbe"), true),
            (fields(HEADERS, END_HEADERS | 1, 5, b"\xbe"), false),
            (fields(HEADERS, END_HEADERS | 1, 7, b"\x84"), false),
            ([fields(DATA, 1, 1, b"a"), fields(HEADERS, END_HEADERS | 1, 1, b"\x84")].concat(), false),
            (
                [fields(RST_STREAM, 0, 1, &[0; 4]), fields(HEADERS, END_HEADERS | 1, 1, b"\x84")].concat(),
                false,
            ),
            (
                [fields(RST_STREAM, 0, 3, &[0; 4]), fields(HEADERS, END_HEADERS | 1, 1, b"\x84")].concat(),
                true,
            ),
            (fields(HEADERS, END_HEADERS | 8 | 32 | 1, 1, b"\x02\0\0\0\0\x10\x84\0\0"), true),
            (fields(HEADERS, END_HEADERS | 8 | 32 | 1, 1, b"\x02\0\0\0\0\x10\x84\x84"), false),
            (fields(HEADERS, END_HEADERS | 8, 1, b"\xff"), false),
            ([fields(HEADERS, 1, 1, b"\x00\x01x"), fields(CONTINUATION, 4, 1, b"\x01y\x84")].concat(), true),
        ] {
            for cut in 1..30 {
                let now = clock::now();
                let mut frames = Frames::new(UNPAID_MAX, now);
                let bytes =
                    [PREFACE, &frame(4, 0, 0), &head(1), &head(3), &fields(DATA, 0, 1, b"x"), &trailers]
                        .concat();
                let then = bytes.chunks(cut).map(|part| frames.read(part, now)).last();
                assert_eq!(then == Some(Then::Refuse), malformed, "{trailers:x?} in pieces of {cut}");
                assert!(!frames.is_unfinished());
            }
        }
    }

    #[test]
    fn control_frames_beyond_what_was_paid_for_are_a_flood() {
        let start = clock::now();
        let mut frames = Frames::new(UNPAID_MAX, start);
        frames.read(PREFACE, start);
        let ping = frame(6, 0, 8);
        let at_once = UNPAID_MAX / ping.len();
        for n in 0..at_once {
            frames.read(&ping, start);
            assert!(!frames.is_flood(), "{n}");
        }
        frames.read(&ping, start);
        assert!(frames.is_flood());
        frames.pay(ping.len());
        assert!(!frames.is_flood());
        for second in 1..2_000 {
            for _ in 0..50 {
                frames.read(&ping, start + Duration::from_secs(second));
            }
            assert!(!frames.is_flood(), "{second}");
        }
    }
}
