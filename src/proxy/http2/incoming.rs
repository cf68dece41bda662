//! The body of a request. It ends where the client says so: a reset is none, not even one without an error, or the
//! upstream would take what came for all of it.

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A request's body, as it comes.
#[derive(Debug)]
pub(in crate::proxy) struct Incoming {
    stream: RecvStream,
    /// Of what the client announced, what is to come.
    left: Option<u64>,
    /// All of it but trailers has come.
    is_over: bool,
}

impl Incoming {
    pub(super) fn new(head: &Parts, stream: RecvStream) -> Self {
        Self { stream, left: length(&head.headers), is_over: false }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        if !this.is_over {
            match ready!(this.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // It fails for a stream that is gone, whose window nobody needs.
                    this.stream.flow_control().release_capacity(data.len()).ok();
                    this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.is_over = true,
            }
        }
        Poll::Ready(match ready!(this.stream.poll_trailers(cx)) {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The length that is announced, if it is the same wherever it is.
fn length(headers: &HeaderMap) -> Option<u64> {
    let mut known = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for part in value.to_str().ok()?.split(',') {
            let length = part.trim().parse().ok()?;
            if known.replace(length).is_some_and(|before| before != length) {
                return None;
            }
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_believed_when_nothing_says_another() {
        for (values, expected) in [
            (&[][..], None),
            (&["5"][..], Some(5)),
            (&["5", "5"][..], Some(5)),
            (&["5, 5"][..], Some(5)),
            (&["5", "6"][..], None),
            (&["5, 6"][..], None),
            (&["x"][..], None),
            (&["-5"][..], None),
            (&["99999999999999999999"][..], None),
        ] {
            let headers: HeaderMap =
                values.iter().map(|value| (CONTENT_LENGTH, value.parse().unwrap())).collect();
            assert_eq!(length(&headers), expected, "{values:?}");
        }
    }
}
