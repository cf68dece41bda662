//! Response bodies that know their duty: when one ends, its flight is over and its exchange is told.

use super::arriving::Arriving;
use super::error::BoxError;
use crate::gate::{Flight, clock};
use crate::observe::{Exchange, Observer};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A response's body, and what has to happen when it is over.
pub struct Tracked {
    content: Content,
    /// Why the body broke off, told a turn after what came of it: the connection ends on it, unsent bytes and all.
    broken: Option<BoxError>,
    account: Option<Account>,
}

enum Content {
    /// A body that is here.
    Whole(Bytes),
    /// A body that still comes, after what was already read of it.
    Coming { first: Bytes, rest: Box<Arriving> },
    /// All that came of a body that broke off, and why it did.
    Cut { first: Bytes, error: Option<BoxError> },
}

impl Tracked {
    pub(super) fn whole(body: Bytes, account: Account) -> Self {
        Self { content: Content::Whole(body), broken: None, account: Some(account) }
    }

    pub(super) fn coming(first: Bytes, rest: Box<Arriving>, account: Account) -> Self {
        Self { content: Content::Coming { first, rest }, broken: None, account: Some(account) }
    }

    pub(super) fn cut(first: Bytes, error: BoxError, account: Account) -> Self {
        Self { content: Content::Cut { first, error: Some(error) }, broken: None, account: Some(account) }
    }
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(error) = self.broken.take() {
            self.account = None;
            return Poll::Ready(Some(Err(error)));
        }
        let polled = match &mut self.content {
            Content::Whole(body) | Content::Coming { first: body, .. } | Content::Cut { first: body, .. }
                if !body.is_empty() =>
            {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(body)))))
            }
            Content::Whole(_) => Poll::Ready(None),
            Content::Coming { rest, .. } => Pin::new(&mut **rest).poll_frame(cx),
            Content::Cut { error, .. } => Poll::Ready(error.take().map(Err)),
        };
        if let Poll::Ready(Some(Err(error))) = polled {
            self.broken = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if matches!(polled, Poll::Ready(None)) || self.is_end_stream() {
            self.account = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(body) => body.is_empty(),
            Content::Coming { first, rest } => first.is_empty() && rest.is_end_stream(),
            Content::Cut { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Content::Coming { first, rest } => {
                let exact = rest.size_hint().exact().map(|rest| rest + first.len() as u64);
                exact.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Content::Cut { .. } => SizeHint::default(),
        }
    }
}

/// Without the body: it is nobody's but the client's.
impl fmt::Debug for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tracked({:?})", self.account)
    }
}

/// What is known of one request so far; told as an [`Exchange`] when it is dropped, whatever ends it. In a box: it goes
/// through many hands.
pub(super) struct Account(Box<Known>);

struct Known {
    observer: Arc<dyn Observer>,
    started: Instant,
    exchange: Exchange,
    flight: Option<Flight>,
}

impl Account {
    pub(super) fn new(observer: Arc<dyn Observer>, method: Method) -> Self {
        let exchange = Exchange {
            lane: Arc::default(),
            method,
            status: client_gone(),
            queued: Duration::ZERO,
            upstream: Duration::ZERO,
            total: Duration::ZERO,
            retries: 0,
            local_error: None,
        };
        Self(Box::new(Known { observer, started: clock::now(), exchange, flight: None }))
    }

    pub(super) fn exchange(&mut self) -> &mut Exchange {
        &mut self.0.exchange
    }

    /// The request's place with the API is kept until the response body has ended.
    pub(super) fn hold(&mut self, flight: Flight) {
        self.0.flight = Some(flight);
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        let now = clock::now();
        if let Some(flight) = self.flight.take() {
            flight.end(now);
        }
        self.exchange.total = now.saturating_duration_since(self.started);
        self.observer.exchange(&self.exchange);
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.exchange.fmt(f)
    }
}

/// What stands for the answer when the client left before it: nginx's number for that, in logs everywhere.
fn client_gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT)
}
