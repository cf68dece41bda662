//! A response body on its way from the upstream: when it has ended, its connection goes back to the pool.

use super::body::Delivery;
use super::error::BoxError;
use super::headers;
use super::pool::{Lease, Seat};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// A response body on its way from the upstream.
pub(super) struct Arriving {
    body: Incoming,
    home: Home,
    patience: Duration,
    idle: Option<Pin<Box<Sleep>>>,
}

/// Where the connection goes when the body has ended.
pub(super) enum Home {
    /// Back to the pool, for so long, if it has got all of the request's body.
    Lease(Lease, Duration, Delivery),
    /// It stays where it is, with one stream less: when this is dropped.
    Seat {
        /// Held, not used.
        _seat: Seat,
    },
    /// It has gone there already.
    Nowhere,
}

/// The upstream stopped in the middle of a response.
#[derive(Debug, thiserror::Error)]
#[error("the upstream sent nothing for too long")]
struct Stalled;

impl Arriving {
    pub(super) fn new(body: Incoming, home: Home, patience: Duration) -> Self {
        let mut arriving = Self { body, home, patience, idle: None };
        if arriving.body.is_end_stream() {
            arriving.ended();
        }
        arriving
    }

    fn ended(&mut self) {
        if let Home::Lease(lease, keep, delivery) = std::mem::replace(&mut self.home, Home::Nowhere)
            && delivery.is_complete()
        {
            lease.give_back(keep);
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            let idle = this.idle.get_or_insert_with(|| Box::pin(sleep(this.patience)));
            ready!(idle.as_mut().poll(cx));
            this.home = Home::Nowhere;
            return Poll::Ready(Some(Err(Stalled.into())));
        };
        this.idle = None;
        if frame.is_none() || this.body.is_end_stream() {
            this.ended();
        }
        let cleaned = |mut frame: Frame<Bytes>| {
            if let Some(trailers) = frame.trailers_mut() {
                headers::trailing(trailers);
            }
            frame
        };
        Poll::Ready(frame.map(|frame| frame.map(cleaned).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Arriving")
    }
}
