//! A response's body on its way from the upstream, whatever brings it: how long it may be silent, and where it ends.

use super::error::BoxError;
use super::h1::{Alarm, Download, Lost};
use super::headers;
use super::pool::{Seat, spawn};
use super::streamed::Streamed;
use crate::gate::clock;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A response body on its way from the upstream.
pub(super) struct Arriving {
    coming: Coming,
    /// How long it may be silent.
    patience: Duration,
    /// Since when it is.
    silent: Option<Instant>,
    alarm: Alarm,
}

/// What brings a body.
pub(super) enum Coming {
    /// All of it is here, until it has been taken.
    Whole(Bytes),
    /// Its connection, over HTTP/1.1.
    Here(Box<Download>),
    /// The same in a task of its own: the request is still on its way, whether or not anybody reads its answer.
    Apart(mpsc::Receiver<Result<Option<Frame<Bytes>>, Lost>>),
    /// A stream over HTTP/2, which is another's when this is dropped.
    Stream {
        body: Streamed,
        /// Held, not used.
        _seat: Seat,
    },
    /// Nothing more.
    Over,
}

/// The upstream stopped in the middle of a response.
#[derive(Debug, thiserror::Error)]
#[error("the upstream sent nothing for too long")]
struct Stalled;

impl Coming {
    pub(super) fn apart(mut download: Download) -> Self {
        let (tell, told) = mpsc::channel(1);
        spawn(async move {
            loop {
                let frame = tokio::select! {
                    frame = poll_fn(|cx| download.poll_frame(cx)) => frame.transpose(),
                    () = tell.closed() => return,
                };
                let is_last = !matches!(frame, Ok(Some(_)));
                let lost = tokio::select! {
                    room = tell.reserve() => {
                        let Ok(room) = room else { return };
                        room.send(frame);
                        if is_last {
                            return;
                        }
                        continue;
                    }
                    lost = poll_fn(|cx| download.poll_upload(cx)) => lost,
                };
                // Nobody hears it who has left.
                tell.send(Err(lost)).await.ok();
                return;
            }
        });
        Self::Apart(told)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(match self {
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)))
            }
            Self::Here(download) => ready!(download.poll_frame(cx)).map(|frame| frame.map_err(Into::into)),
            Self::Apart(told) => match ready!(told.poll_recv(cx)) {
                Some(frame) => frame.map_err(Into::into).transpose(),
                None => Some(Err(Lost::Closed.into())),
            },
            Self::Stream { body, .. } => ready!(Pin::new(body).poll_frame(cx)),
            Self::Over => None,
        })
    }
}

impl Arriving {
    pub(super) fn new(coming: Coming, patience: Duration) -> Self {
        Self { coming, patience, silent: None, alarm: Alarm::default() }
    }

    /// All of it, if it is here already.
    pub(super) fn into_whole(self) -> Result<Bytes, Self> {
        match self.coming {
            Coming::Whole(bytes) => Ok(bytes),
            _ => Err(self),
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
        let Poll::Ready(mut frame) = this.coming.poll_frame(cx) else {
            let since = *this.silent.get_or_insert_with(clock::now);
            ready!(this.alarm.poll(cx, since + this.patience));
            this.coming = Coming::Over;
            return Poll::Ready(Some(Err(Stalled.into())));
        };
        this.silent = None;
        if !matches!(frame, Some(Ok(_))) || this.coming.is_end_stream() {
            this.coming = Coming::Over;
        }
        if let Some(trailers) = frame.as_mut().and_then(|frame| frame.as_mut().ok()?.trailers_mut()) {
            headers::trailing(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.coming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let exact = match &self.coming {
            Coming::Whole(bytes) => Some(bytes.len() as u64),
            Coming::Here(download) => download.left(),
            Coming::Stream { body, .. } => return body.size_hint(),
            Coming::Apart(_) => None,
            Coming::Over => Some(0),
        };
        exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Coming {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Here(download) => download.is_over(),
            Self::Stream { body, .. } => body.is_end_stream(),
            Self::Apart(_) => false,
            Self::Over => true,
        }
    }
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Arriving")
    }
}
