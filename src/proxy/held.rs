//! Response bodies on a connection: each says that it is busy, and whether its client takes what it is given.

use super::activity::{Activity, Busy};
use super::error::BoxError;
use super::tracked::Tracked;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A response body, and the word that its connection is busy.
pub(super) struct Held {
    body: Tracked,
    /// In HTTP/2, where a client may take nothing of one answer and all of the others. HTTP/1.1 is the kernel's to watch.
    given: Option<Given>,
    _busy: Busy,
}

/// Has the client something to take?
pub(super) struct Given {
    activity: Activity,
    is_out: bool,
}

impl Given {
    pub(super) fn new(activity: Activity) -> Self {
        Self { activity, is_out: false }
    }

    fn taken(&mut self) {
        if std::mem::take(&mut self.is_out) {
            self.activity.body_given();
        }
    }

    pub(super) fn gives(&mut self, bytes: usize) {
        self.is_out = true;
        self.activity.body_gives(bytes);
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.taken();
    }
}

impl Held {
    pub(super) fn new(body: Tracked, busy: Busy, given: Option<Given>) -> Self {
        Self { body, given, _busy: busy }
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(given) = &mut self.given {
            given.taken();
            if let Poll::Ready(Some(Ok(frame))) = &polled {
                given.gives(frame.data_ref().map_or(0, Bytes::len));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
