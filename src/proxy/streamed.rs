//! An upstream's body over HTTP/2, which ends where its sender says so and nowhere else.
//!
//! # Why
//! hyper ends a body in order when its stream is reset with `NO_ERROR`, since a server may answer in full and take no more
//! of the request in that way (RFC 9113 8.1). But a part of an answer would pass for the whole.

use super::error::BoxError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A body over HTTP/2.
#[derive(Debug)]
pub(super) struct Streamed {
    body: Incoming,
    /// A reset does not hide whether it has ended.
    is_certain: bool,
}

impl Streamed {
    /// An answer's. h2 does not remember that it ended if the stream is reset before all of the request has left, and
    /// some servers do just that when they want no more of it: only without a body is that out of the question.
    pub(super) fn of_answer(body: Incoming, to_bodiless: bool) -> Self {
        Self { body, is_certain: to_bodiless }
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() && self.is_certain && !self.body.is_end_stream() {
            return Poll::Ready(Some(Err(CutShort.into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Its stream was reset.
#[derive(Debug, thiserror::Error)]
#[error("the stream was reset before its body had ended")]
struct CutShort;
