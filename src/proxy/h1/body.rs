//! A request's body: what the service reads, and the other end of it, with the connection.
//!
//! # Why
//! A body that has come whole with its head is just bytes. Any other is read from the connection when somebody asks for
//! the next piece, and not before: what nobody wants stays with the client. Who asks may be the connection's own task
//! (which reads ahead for a replay) or that of an upstream connection, so that both ends meet under a lock.

use super::super::grammar::Fault;
use super::Limits;
use super::chunked::{Chunks, Piece, take};
use super::head::Length;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A request's body.
#[derive(Debug)]
pub(in crate::proxy) struct Body(Kind);

#[derive(Debug)]
enum Kind {
    /// All of it, until it has been taken.
    Here(Bytes),
    Coming {
        meeting: Arc<Mutex<Meeting>>,
        /// Bytes that are to come, if that is known.
        left: Option<u64>,
        is_over: bool,
    },
}

/// What both ends of a body share.
#[derive(Debug, Default)]
struct Meeting {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    /// Nothing comes after that.
    is_over: bool,
    fault: Option<Broken>,
    /// The reader waits.
    is_wanted: bool,
    /// There is no reader any more.
    is_left: bool,
    reader: Option<Waker>,
    connection: Option<Waker>,
}

/// Why a body does not come to its end.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::proxy) struct Broken(&'static str);

/// The connection's end of a body that still comes.
#[derive(Debug)]
pub(super) struct Feed {
    meeting: Arc<Mutex<Meeting>>,
    framing: Framing,
    state: State,
}

#[derive(Debug)]
enum Framing {
    Exact(u64),
    Chunked(Chunks),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// All of it has been read.
    Over,
    /// What came is no body.
    Broken,
}

/// What the reader does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// It wants the next piece.
    More,
    Nothing,
    /// It is gone.
    Left,
}

/// The body that a head promised, of which `unread` may hold some or all, and the connection's end if it still comes.
pub(super) fn body(length: Length, unread: &mut BytesMut) -> (Body, Option<Feed>) {
    let (framing, left) = match length {
        Length::Exact(0) => return (Body::none(), None),
        Length::Exact(bytes) if bytes <= unread.len() as u64 => {
            let mut left = bytes;
            return (Body(Kind::Here(take(&mut left, unread).unwrap_or_default())), None);
        }
        Length::Exact(bytes) => (Framing::Exact(bytes), Some(bytes)),
        Length::Chunked => (Framing::Chunked(Chunks::new()), None),
    };
    let meeting = Arc::new(Mutex::new(Meeting::default()));
    let feed = Feed { meeting: Arc::clone(&meeting), framing, state: State::Open };
    (Body(Kind::Coming { meeting, left, is_over: false }), Some(feed))
}

impl Body {
    pub(super) fn none() -> Self {
        Self(Kind::Here(Bytes::new()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let (meeting, left, is_over) = match &mut self.0 {
            Kind::Here(bytes) => {
                let bytes = std::mem::take(bytes);
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
            Kind::Coming { meeting, left, is_over } => (meeting, left, is_over),
        };
        if *is_over {
            return Poll::Ready(None);
        }
        let mut meeting = lock(meeting);
        let frame = if let Some(data) = meeting.data.take() {
            if let Some(left) = left {
                *left = left.saturating_sub(data.len() as u64);
            }
            Some(Ok(Frame::data(data)))
        } else if let Some(broken) = meeting.fault.take() {
            Some(Err(broken))
        } else if let Some(trailers) = meeting.trailers.take() {
            Some(Ok(Frame::trailers(trailers)))
        } else if meeting.is_over {
            None
        } else {
            meeting.is_wanted = true;
            meeting.reader = Some(cx.waker().clone());
            // The connection's own task polls the body only where it looks at this next.
            if let Some(connection) = meeting.connection.take_if(|waker| !waker.will_wake(cx.waker())) {
                connection.wake();
            }
            return Poll::Pending;
        };
        *is_over = meeting.is_over && meeting.trailers.is_none() && meeting.fault.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Here(bytes) => bytes.is_empty(),
            Kind::Coming { is_over, .. } => *is_over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = match &self.0 {
            Kind::Here(bytes) => Some(bytes.len() as u64),
            Kind::Coming { left, .. } => *left,
        };
        exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Kind::Coming { meeting, is_over: false, .. } = &self.0 {
            let mut meeting = lock(meeting);
            meeting.is_left = true;
            (meeting.data, meeting.reader) = (None, None);
            if let Some(connection) = meeting.connection.take() {
                connection.wake();
            }
        }
    }
}

impl Feed {
    /// What the reader does now. The task of `cx` is woken when that changes.
    pub(super) fn poll_asks(&self, cx: &Context<'_>) -> Asks {
        let mut meeting = lock(&self.meeting);
        if meeting.is_left {
            return Asks::Left;
        }
        match &mut meeting.connection {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        if meeting.is_wanted && self.state == State::Open { Asks::More } else { Asks::Nothing }
    }

    /// Hands over what `unread` holds of the body; `false` when that is nothing. A reader in the task of `cx` is not
    /// woken: whoever calls polls it next.
    pub(super) fn give(&mut self, unread: &mut BytesMut, limits: &Limits, cx: &Context<'_>) -> bool {
        let (mut first, mut more, mut trailers, mut fault) = (None, BytesMut::new(), None, None);
        // Chunks that came together are passed on together, and the end with them: nobody has to ask for it.
        while self.state == State::Open {
            match self.next(unread, limits) {
                Ok(Some(Piece::Data(piece))) => match &first {
                    None => first = Some(piece),
                    Some(first) => {
                        if more.is_empty() {
                            more.extend_from_slice(first);
                        }
                        more.extend_from_slice(&piece);
                    }
                },
                Ok(Some(Piece::End(fields))) => trailers = Some(fields).filter(|fields| !fields.is_empty()),
                Ok(None) => break,
                Err(broken) => fault = Some(Broken(broken.detail)),
            }
        }
        if first.is_none() && self.state == State::Open {
            return false;
        }
        let mut meeting = lock(&self.meeting);
        meeting.data = if more.is_empty() { first } else { Some(more.freeze()) };
        (meeting.trailers, meeting.fault) = (trailers, fault);
        (meeting.is_over, meeting.is_wanted) = (self.state != State::Open, false);
        let reader = meeting.reader.take().filter(|reader| !reader.will_wake(cx.waker()));
        drop(meeting);
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }

    /// Forgets what `unread` holds of the body.
    pub(super) fn discard(&mut self, unread: &mut BytesMut, limits: &Limits) {
        while self.state == State::Open && matches!(self.next(unread, limits), Ok(Some(_))) {}
    }

    /// Has all of the body been read?
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// May more of it come?
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    fn next(&mut self, unread: &mut BytesMut, limits: &Limits) -> Result<Option<Piece>, Fault> {
        let piece = match &mut self.framing {
            Framing::Exact(left) => {
                let piece = take(left, unread).map(Piece::Data);
                if *left == 0 {
                    self.state = State::Over;
                }
                Ok(piece)
            }
            Framing::Chunked(chunks) => chunks.next(unread, limits),
        };
        match &piece {
            Ok(Some(Piece::End(_))) => self.state = State::Over,
            Ok(_) => (),
            Err(_) => self.state = State::Broken,
        }
        piece
    }
}

fn lock(meeting: &Mutex<Meeting>) -> MutexGuard<'_, Meeting> {
    meeting.lock().unwrap_or_else(PoisonError::into_inner)
}
