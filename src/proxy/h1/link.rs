//! A connection to an upstream over HTTP/1.1: what was read of it and is to be sent.
//!
//! # Memory
//! An idle one has no buffer: what comes is read into room on the stack, and only what is left of it when a head is not
//! complete, or belongs to a body, is kept.

use super::super::pool::Housed;
use super::alarm::Alarm;
use super::out::Out;
use bytes::BytesMut;
use hyper_util::rt::TokioIo;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// One connection.
pub(in crate::proxy) struct Link {
    pub(super) stream: TokioIo<Housed>,
    /// What was read and belongs to nothing yet.
    pub(super) unread: BytesMut,
    pub(super) out: Out,
    /// For whoever waits here; it stays set from one exchange to the next, as most never need it.
    pub(super) alarm: Alarm,
    /// How much of a body is read at once.
    piece: usize,
}

impl Link {
    pub(in crate::proxy) fn new(stream: Housed) -> Self {
        let (unread, out) = (BytesMut::new(), Out::default());
        Self { stream: TokioIo::new(stream), unread, out, alarm: Alarm::default(), piece: PIECE_MIN }
    }

    /// Is it open, and has nothing come that nobody asked for? The task of `cx` is woken when that may have changed.
    pub(in crate::proxy) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        let mut room = [MaybeUninit::uninit(); 1];
        self.unread.is_empty()
            && Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::uninit(&mut room)).is_pending()
    }

    /// Is there nothing of the exchange left in it?
    pub(super) fn is_clear(&self) -> bool {
        self.unread.is_empty() && self.out.is_empty()
    }

    /// Keeps no memory for nothing.
    pub(in crate::proxy) fn rest(&mut self) {
        self.unread = BytesMut::new();
        self.out.rest();
        self.piece = PIECE_MIN;
    }

    /// Sends some of what there is to send.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.out.poll_send(cx, &mut self.stream)
    }

    /// Reads more behind what is unread, of so many bytes at most that are expected; 0 when the upstream has said all.
    pub(super) fn poll_fill(&mut self, expected: u64, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let expected = usize::try_from(expected).unwrap_or(usize::MAX);
        let wanted = if expected == usize::MAX { self.piece } else { expected.clamp(PIECE_MIN, PIECE_MAX) };
        self.unread.reserve(wanted);
        let room = self.unread.capacity() - self.unread.len();
        let count = ready!(pin!(self.stream.read_buf(&mut self.unread)).poll(cx))?;
        if count == room {
            self.piece = (self.piece * 2).min(PIECE_MAX);
        }
        Poll::Ready(Ok(count))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

/// Room for a piece of a body: as much as is expected, or as comes at once, within these bounds.
const PIECE_MIN: usize = 8 * 1024;
const PIECE_MAX: usize = 256 * 1024;
