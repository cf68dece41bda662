//! Room for one connection, from the moment it is being made until its socket is closed.

use super::Pool;
use crate::proxy::dial::Stream;
use hyper::rt::{Read, ReadBufCursor, Write};
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Room for one connection. Whoever waits gets it when it is dropped.
pub(in crate::proxy) struct Place {
    pool: Arc<Pool>,
    is_connecting: bool,
}

impl Place {
    pub(super) fn new(pool: &Arc<Pool>, state: &mut super::State) -> Self {
        state.open += 1;
        state.connecting += 1;
        Self { pool: Arc::clone(pool), is_connecting: true }
    }

    /// The connection is made; `is_shared` if it serves many at once, so that others wait for it instead of making
    /// their own.
    pub(in crate::proxy) fn connected(&mut self, is_shared: bool) {
        let mut state = self.pool.lock();
        state.connecting -= usize::from(std::mem::take(&mut self.is_connecting));
        state.one_by_one = is_shared;
    }

    /// The connection cannot be made: others may find out at once, instead of one after the other.
    pub(in crate::proxy) fn failed(self) {
        let mut state = self.pool.lock();
        state.one_by_one = false;
        state.counts.failed += 1;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.open -= 1;
        state.connecting -= usize::from(self.is_connecting);
        let is_awaited = !state.waiting.is_empty();
        drop(state);
        if is_awaited {
            self.pool.serve();
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

/// A connection's bytes, and the room that it takes for as long as they may flow.
pub(in crate::proxy) struct Housed {
    stream: Box<dyn Stream>,
    /// Given back after the stream is closed: fields are dropped in their order.
    _place: Place,
}

impl Housed {
    pub(in crate::proxy) fn new(stream: Box<dyn Stream>, place: Place) -> Self {
        Self { stream, _place: place }
    }
}

impl Read for Housed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Housed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
