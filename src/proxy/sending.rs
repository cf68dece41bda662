//! The body of one attempt, as the upstream's connection reads it: what is kept first, then what still comes.

use super::body::{Failure, Source, State, lock};
use super::error::BoxError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

/// The body of one attempt. Earlier attempts' bodies end with an error.
#[derive(Debug)]
pub(super) struct Sending(Option<Run>);

#[derive(Debug)]
struct Run {
    source: Arc<Mutex<Source>>,
    attempt: u32,
    /// The next kept piece.
    next: usize,
    remaining: Option<u64>,
    trailed: bool,
    done: bool,
}

impl Sending {
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    pub(super) fn of(source: &Arc<Mutex<Source>>) -> Self {
        let mut locked = lock(source);
        let attempt = locked.begin_attempt();
        let remaining = locked.length;
        drop(locked);
        let source = Arc::clone(source);
        Self(Some(Run { source, attempt, next: 0, remaining, trailed: false, done: false }))
    }
}

impl Run {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let source = Arc::clone(&self.source);
        let mut source = lock(&source);
        if source.attempt != self.attempt {
            return Poll::Ready(Some(Err(Failure::Superseded.into())));
        }
        if self.done {
            return Poll::Ready(None);
        }
        if let Some(data) = self.kept(&mut source) {
            return Poll::Ready(Some(Ok(self.pass(&mut source, data))));
        }
        match &source.state {
            State::Ended => (),
            State::Failed(failure) => return Poll::Ready(Some(Err(failure.clone().into()))),
            State::Open => match ready!(source.poll_next(cx)) {
                Some(Ok(data)) => {
                    if source.retained {
                        self.next = source.kept.len();
                    } else {
                        // All that was kept has been passed on by now.
                        source.touched = true;
                        let kept = source.kept_bytes;
                        source.release(kept);
                        source.kept.clear();
                    }
                    return Poll::Ready(Some(Ok(self.pass(&mut source, data))));
                }
                Some(Err(failure)) => return Poll::Ready(Some(Err(failure.into()))),
                None => (),
            },
        }
        Poll::Ready(self.trailers(&mut source).map(Ok))
    }

    /// The next piece of what is kept; taken out for good when it will not be needed again.
    fn kept(&mut self, source: &mut Source) -> Option<Bytes> {
        if source.retained {
            let piece = source.kept.get(self.next).cloned()?;
            self.next += 1;
            return Some(piece);
        }
        if let Some(piece) = source.kept.pop_front() {
            source.touched = true;
            source.release(piece.len());
            return Some(piece);
        }
        source.touched |= source.beyond.is_some();
        source.beyond.take()
    }

    /// Counts `data`, and says whether it was the last.
    fn pass(&mut self, source: &mut Source, data: Bytes) -> Frame<Bytes> {
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(data.len() as u64);
        }
        let nothing_kept = if source.retained {
            self.next >= source.kept.len()
        } else {
            source.kept.is_empty() && source.beyond.is_none()
        };
        if nothing_kept && source.trailers.is_none() && matches!(source.state, State::Ended) {
            self.done = true;
            source.is_delivered = true;
        }
        Frame::data(data)
    }

    fn trailers(&mut self, source: &mut Source) -> Option<Frame<Bytes>> {
        self.done = true;
        source.is_delivered = true;
        if self.trailed {
            return None;
        }
        self.trailed = true;
        source.trailers.clone().map(Frame::trailers)
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            None => Poll::Ready(None),
            Some(run) => run.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|run| run.done)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(run) => run.remaining.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
