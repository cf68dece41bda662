//! Which of an HTTP/2 client's fields are trailers, and whether those name what a head alone may.
//!
//! # Why
//! A pseudo-field in trailers makes a request malformed (RFC 9113 8.1), and so does a fragment in a path. The h2 crate
//! forgets either and takes the request for complete, so the fields are looked at on their way to it ([`super::hpack`]).

use super::frames::{END_HEADERS, END_STREAM};
use super::hpack::Blocks;
use std::collections::VecDeque;

/// Follows the frames that open streams, end bodies, and have fields.
#[derive(Debug, Default)]
pub(super) struct Trailers {
    /// The stream that was opened last.
    last_stream: u32,
    /// Streams whose body has not ended, in their order: HEADERS there are trailers, HEADERS elsewhere are h2's to refuse.
    open: VecDeque<u32>,
    /// The fields of one head or of trailers as far as they came.
    block: Vec<u8>,
    blocks: Blocks,
    are_here: bool,
    is_malformed: bool,
}

impl Trailers {
    /// These bytes of a HEADERS or CONTINUATION frame came.
    pub(super) fn fields(&mut self, payload: &[u8]) {
        if self.block.len() < BLOCK_MAX {
            self.block.extend_from_slice(payload);
        }
    }

    /// The HEADERS frame whose bytes came is complete.
    pub(super) fn end_of_headers(&mut self, stream: u32, flags: u8) {
        self.are_here = self.open.binary_search(&stream).is_ok();
        if flags & END_STREAM != 0 {
            self.end_of_body(stream);
        } else if stream > self.last_stream {
            // Who has more open than is ever allowed is refused by h2, and of the first ones nothing has to be known.
            self.open.drain(..(self.open.len() + 1).saturating_sub(OPEN_MAX));
            self.open.push_back(stream);
        }
        self.last_stream = self.last_stream.max(stream);
        // RFC 9113 6.2: what may stand before the fields, and after them.
        let is = |flag| usize::from(flags & flag != 0);
        let padding = self.block.first().map_or(0, |length| usize::from(*length)) * is(PADDED);
        self.block.truncate(self.block.len().saturating_sub(padding));
        self.block.drain(..(is(PADDED) + 5 * is(PRIORITY)).min(self.block.len()));
        self.end_of_frame(flags);
    }

    /// The CONTINUATION frame whose bytes came is complete.
    pub(super) fn end_of_frame(&mut self, flags: u8) {
        if flags & END_HEADERS != 0 {
            let found = self.blocks.take(&self.block);
            self.is_malformed |= (found.pseudo && self.are_here) || found.fragment;
            self.block.clear();
            self.block.shrink_to(BLOCK_KEPT);
        }
    }

    /// The stream's body ended, or was given up.
    pub(super) fn end_of_body(&mut self, stream: u32) {
        if let Ok(place) = self.open.binary_search(&stream) {
            self.open.remove(place);
        }
    }

    /// Have there been any that name a pseudo-field, or a head that names a fragment?
    pub(super) fn is_malformed(&self) -> bool {
        self.is_malformed
    }
}

const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// As many as `streams_max` may allow.
const OPEN_MAX: usize = 10_000;
/// More than h2 takes of one head in its frames, which end the connection before that.
const BLOCK_MAX: usize = 128 * 1024;
/// What is kept for the next head.
const BLOCK_KEPT: usize = 256;
