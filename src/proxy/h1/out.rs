//! What is to be sent to a client: small parts put together, large ones sent from where they are, in one call.

use bytes::{Buf, Bytes};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Bytes on their way to a client, in order.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// Heads, chunk lines and small parts of bodies, of which `sent` bytes are gone.
    small: Vec<u8>,
    sent: usize,
    /// A part of a body after that, and what comes behind it.
    large: Bytes,
    tail: &'static [u8],
    /// The stream may still hold some of what it took.
    is_unflushed: bool,
}

impl Out {
    /// Where more is put, behind all that is small. Nothing may be put behind what is large: see [`Self::has_room`].
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        if self.small.capacity() == 0 {
            let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
            self.small = spare.unwrap_or_else(|| Vec::with_capacity(USUAL));
        }
        &mut self.small
    }

    /// Puts a part of a body behind the rest, and `tail` behind that.
    pub(super) fn push(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= COPIED {
            let small = self.bytes();
            small.extend_from_slice(&data);
            small.extend_from_slice(tail);
        } else {
            (self.large, self.tail) = (data, tail);
        }
    }

    /// May more be put behind it before this is sent?
    pub(super) fn has_room(&self) -> bool {
        self.large.is_empty() && self.tail.is_empty() && self.small.len() < GATHERED
    }

    pub(super) fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_empty() && self.tail.is_empty() && !self.is_unflushed
    }

    /// Sends. How many bytes the stream took, of which it keeps none for itself once this is empty.
    pub(super) fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        let small = self.small.get(self.sent..).unwrap_or_default();
        let total = small.len() + self.large.len() + self.tail.len();
        if total == 0 {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.is_unflushed = false;
            return Poll::Ready(Ok(0));
        }
        let took = if total == small.len() {
            ready!(Pin::new(stream).poll_write(cx, small))?
        } else {
            let parts = [IoSlice::new(small), IoSlice::new(&self.large), IoSlice::new(self.tail)];
            ready!(Pin::new(stream).poll_write_vectored(cx, &parts))?
        };
        if took == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.is_unflushed = true;
        self.took(took);
        Poll::Ready(Ok(took))
    }

    fn took(&mut self, mut count: usize) {
        let small = count.min(self.small.len() - self.sent);
        self.sent += small;
        count -= small;
        if self.sent == self.small.len() {
            self.small.clear();
            self.sent = 0;
        }
        let large = count.min(self.large.len());
        self.large.advance(large);
        if self.large.is_empty() {
            // It keeps its memory alive otherwise.
            self.large = Bytes::new();
        }
        self.tail = self.tail.get(count - large..).unwrap_or_default();
    }

    /// Gives back the memory, when there is nothing to send.
    pub(super) fn rest(&mut self) {
        if self.is_empty() && self.small.capacity() > 0 {
            let Self { small, .. } = std::mem::take(self);
            if small.capacity() == USUAL {
                let keep = |spare: &RefCell<Vec<Vec<u8>>>| {
                    let mut spare = spare.borrow_mut();
                    if spare.len() < SPARES_MAX {
                        spare.push(small);
                    }
                };
                // A thread that ends keeps none.
                SPARE.try_with(keep).ok();
            }
        }
    }

    #[cfg(test)]
    pub(super) fn unsent(&self) -> Vec<u8> {
        [&self.small[self.sent..], &self.large, self.tail].concat()
    }
}

thread_local! {
    /// Memory that one connection is done with and the next is about to want, as many as are ready at once: an allocator
    /// keeps less of it at hand.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// So many of them for each thread.
const SPARES_MAX: usize = 64;
/// Room for a usual head with a small body.
const USUAL: usize = 1_024;
/// Copying so much costs less than a part of its own.
const COPIED: usize = 4 * 1_024;
/// Small parts are gathered until there are so many bytes of them.
const GATHERED: usize = 16 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes so many bytes at a time, as often as it is told.
    struct Narrow {
        takes: usize,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.takes);
            self.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            let count = whole.len().min(self.takes);
            self.taken.extend_from_slice(&whole[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn everything_is_sent_in_order_however_little_is_taken(
            sizes in proptest::collection::vec(1_usize..9_000, 1..12),
            takes in 1_usize..20_000,
        ) {
            let (mut out, mut stream) = (Out::default(), Narrow { takes, taken: Vec::new() });
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut expected = Vec::new();
            for (index, size) in sizes.into_iter().enumerate() {
                while !out.has_room() {
                    prop_assert!(out.poll_send(&mut cx, &mut stream).is_ready());
                }
                out.bytes().extend_from_slice(b"<");
                let data = vec![u8::try_from(index).unwrap(); size];
                expected.extend_from_slice(b"<");
                expected.extend_from_slice(&data);
                expected.extend_from_slice(b"\r\n");
                out.push(Bytes::from(data), b"\r\n");
            }
            while !out.is_empty() {
                prop_assert!(out.poll_send(&mut cx, &mut stream).is_ready());
            }
            prop_assert_eq!(stream.taken, expected);
        }
    }
}
