//! An answer's body on its way in; when it has ended, its connection goes back to the pool.

use super::super::pool::Lease;
use super::chunked::{Chunks, Piece, take};
use super::exchange::{LIMITS, Lost, Upload};
use crate::observe::ClosedBy;
use bytes::Bytes;
use http_body::Frame;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// What is to come of an answer.
pub(in crate::proxy) struct Download {
    /// Until the end.
    lease: Option<Lease>,
    until: Until,
    /// For how long the connection is kept afterwards; it is closed without that.
    keep: Option<Duration>,
    upload: Upload,
}

/// Where a body ends.
#[derive(Debug)]
pub(super) enum Until {
    Exact(u64),
    Chunked(Chunks),
    /// With the connection.
    Close,
}

impl Until {
    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunks::of_upstream())
    }
}

impl Download {
    pub(super) fn new(lease: Lease, until: Until, keep: Option<Duration>, upload: Upload) -> Self {
        Self { lease: Some(lease), until, keep, upload }
    }

    /// Bytes that are to come, if that is known.
    pub(in crate::proxy) fn left(&self) -> Option<u64> {
        match self.until {
            Until::Exact(left) => Some(left),
            Until::Chunked(_) | Until::Close => None,
        }
    }

    /// Has it ended, one way or the other?
    pub(in crate::proxy) fn is_over(&self) -> bool {
        self.lease.is_none()
    }

    /// Goes on with the request, if it has not all left. An error is the end.
    pub(in crate::proxy) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        let Some(lease) = &mut self.lease else { return Poll::Pending };
        match self.upload.poll(lease.link(), cx) {
            Ok(()) => Poll::Pending,
            Err(lost) => {
                self.lease = None;
                Poll::Ready(lost)
            }
        }
    }

    /// The next part of it.
    pub(in crate::proxy) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        if let Poll::Ready(lost) = self.poll_upload(cx) {
            return Poll::Ready(Some(Err(lost)));
        }
        let polled = ready!(self.poll_piece(cx));
        let (frame, is_over) = match polled {
            Ok(Some(Piece::Data(data))) => (Some(Ok(Frame::data(data))), self.left() == Some(0)),
            Ok(Some(Piece::End(fields))) => ((!fields.is_empty()).then(|| Ok(Frame::trailers(fields))), true),
            Ok(None) => (None, true),
            Err(lost) => {
                self.lease = None;
                (Some(Err(lost)), false)
            }
        };
        if is_over && let Some(lease) = self.lease.take() {
            Self::end(lease, &self.upload, self.keep);
        }
        Poll::Ready(frame)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, Lost>> {
        let Some(lease) = &mut self.lease else { return Poll::Ready(Ok(None)) };
        loop {
            let unread = &mut lease.link().unread;
            let (piece, expected) = match &mut self.until {
                Until::Exact(left) => (take(left, unread).map(Piece::Data), *left),
                Until::Chunked(chunks) => (chunks.next(unread, &LIMITS).map_err(Lost::Nonsense)?, u64::MAX),
                Until::Close if unread.is_empty() => (None, u64::MAX),
                Until::Close => (Some(Piece::Data(unread.split().freeze())), u64::MAX),
            };
            if piece.is_some() {
                return Poll::Ready(Ok(piece));
            }
            let read = ready!(lease.link().poll_fill(expected, cx));
            if !matches!(read, Ok(1..)) {
                lease.ended(ClosedBy::Upstream);
            }
            match (read?, &self.until) {
                (0, Until::Close) => return Poll::Ready(Ok(None)),
                (0, _) => return Poll::Ready(Err(Lost::Closed)),
                _ => (),
            }
        }
    }

    /// All of the answer has come. Its connection is good for another exchange only if nothing is left of this one.
    pub(super) fn end(mut lease: Lease, upload: &Upload, keep: Option<Duration>) {
        match keep {
            Some(keep) if upload.is_over(lease.link()) && lease.link().is_clear() => lease.give_back(keep),
            Some(_) => (),
            None => lease.ended(ClosedBy::Upstream),
        }
    }
}
