//! One request of a connection and its answer, until either is over or the client takes the request back.

use super::super::activity::{Activity, Busy};
use super::super::asked::Asked;
use super::super::error::BoxError;
use super::super::h1::today;
use super::super::held::{Given, Held};
use super::super::tracked::Tracked;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::Response;
use http::header::{CONTENT_LENGTH, DATE};
use http_body::Body;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A request that is answered.
pub(super) struct Stream<F> {
    state: State<F>,
}

enum State<F> {
    /// It has no answer yet. Its work is boxed: the room is not kept while the answer is sent.
    Asked {
        reply: SendResponse<Bytes>,
        work: Pin<Box<F>>,
        busy: Busy,
        given: Given,
        asked: Asked,
    },
    /// What is to come of its answer. Boxed: what waits keeps no room for it.
    Answered(Box<Sending>),
    Over,
}

/// An answer's body on its way.
struct Sending {
    stream: SendStream<Bytes>,
    body: Held,
    /// What the client's window has no room for, and whether it is the last.
    waits: Option<(Bytes, bool)>,
}

/// Nothing more can be done for the stream: it was reset, by one side or the other.
struct Reset;

impl<F: Future<Output = Response<Tracked>>> Stream<F> {
    pub(super) fn new(
        reply: SendResponse<Bytes>,
        work: Pin<Box<F>>,
        busy: Busy,
        activity: &Activity,
    ) -> Self {
        let (given, asked) = (Given::new(activity.clone()), Asked::new(activity.clone()));
        Self { state: State::Asked { reply, work, busy, given, asked } }
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reset>> {
        if let State::Asked { reply, work, .. } = &mut self.state {
            let Poll::Ready(response) = work.as_mut().poll(cx) else {
                // Ready when the client has taken the request back, or has left.
                ready!(reply.poll_reset(cx)).ok();
                return Poll::Ready(Err(Reset));
            };
            let State::Asked { mut reply, busy, mut given, asked, .. } =
                std::mem::replace(&mut self.state, State::Over)
            else {
                return Poll::Ready(Ok(()));
            };
            asked.answered();
            given.gives(0);
            let response = response.map(|body| Held::new(body, busy, Some(given)));
            let Some(sending) = begin(response, &mut reply)? else { return Poll::Ready(Ok(())) };
            self.state = State::Answered(Box::new(sending));
        }
        match &mut self.state {
            State::Answered(sending) => sending.poll(cx),
            State::Asked { .. } | State::Over => Poll::Ready(Ok(())),
        }
    }
}

impl<F: Future<Output = Response<Tracked>>> Future for Stream<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let ended = ready!(self.poll_stream(cx));
        drop(ended);
        // What is left of it is not kept for as long as the task is.
        self.state = State::Over;
        Poll::Ready(())
    }
}

/// Sends the head of an answer. `None` if that is all of it.
fn begin(response: Response<Held>, reply: &mut SendResponse<Bytes>) -> Result<Option<Sending>, Reset> {
    let (mut head, body) = response.into_parts();
    head.headers.entry(DATE).or_insert_with(today);
    let is_whole = body.is_end_stream();
    if !is_whole && let Some(length) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    match reply.send_response(Response::from_parts(head, ()), is_whole) {
        Ok(stream) => Ok((!is_whole).then_some(Sending { stream, body, waits: None })),
        Err(error) => {
            tracing::debug!(%error, "an answer cannot be sent over HTTP/2");
            reply.send_reset(Reason::INTERNAL_ERROR);
            Err(Reset)
        }
    }
}

impl Sending {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reset>> {
        loop {
            if let Some((data, is_last)) = self.waits.take() {
                if self.stream.capacity() == 0 {
                    self.waits = Some((data, is_last));
                    if self.stream.poll_reset(cx).is_ready() {
                        return Poll::Ready(Err(Reset));
                    }
                    match ready!(self.stream.poll_capacity(cx)) {
                        Some(Ok(_)) => continue,
                        Some(Err(_)) | None => return Poll::Ready(Err(Reset)),
                    }
                }
                self.stream.send_data(data, is_last).map_err(|_| Reset)?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                ready!(self.stream.poll_reset(cx)).ok();
                return Poll::Ready(Err(Reset));
            };
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    self.stream.send_reset(reason(&error));
                    return Poll::Ready(Err(Reset));
                }
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true).map_err(|_| Reset)),
            };
            match frame.into_data() {
                Ok(data) => {
                    let is_last = self.body.is_end_stream();
                    if !data.is_empty() {
                        // One byte is enough to be told when there is room for some: who asks for more, and has nothing to
                        // send, keeps it from the connection's other streams.
                        self.stream.reserve_capacity(1);
                        self.waits = Some((data, is_last));
                    } else if is_last {
                        return Poll::Ready(self.stream.send_data(data, true).map_err(|_| Reset));
                    }
                }
                Err(frame) => {
                    let Ok(trailers) = frame.into_trailers() else { continue };
                    self.stream.reserve_capacity(0);
                    return Poll::Ready(self.stream.send_trailers(trailers).map_err(|_| Reset));
                }
            }
        }
    }
}

/// What a body that broke off is told by: the upstream's own word if there is one.
fn reason(error: &BoxError) -> Reason {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&**error);
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref().and_then(h2::Error::reason) {
            return reason;
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}
