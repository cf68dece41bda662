//! A connection's bytes: what comes first is looked at, and what is written has to be taken.

use super::greeting::Greeting;
use super::place::Room;
use crate::proxy::dial::Stream;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// A connection's bytes, and the room that it takes for as long as they may flow.
pub(in crate::proxy) struct Housed {
    stream: Box<dyn Stream>,
    /// Looks at what comes first.
    greeting: Option<Greeting>,
    /// How long it may take nothing of what is written.
    patience: Duration,
    /// Since it takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
    /// Given back after the stream is closed: fields are dropped in their order.
    _room: Room,
}

impl Housed {
    /// `stream`, which is broken off when it takes nothing of what is written for `patience`.
    pub(in crate::proxy) fn new(stream: Box<dyn Stream>, room: Room, patience: Duration) -> Self {
        Self { stream, greeting: None, patience, stall: None, _room: room }
    }

    /// The same with something to look at what comes first.
    pub(in crate::proxy) fn greeted(mut self, greeting: Greeting) -> Self {
        self.greeting = Some(greeting);
        self
    }

    /// What came of writing, unless it has been nothing for too long.
    fn written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let patience = self.patience;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Stalled)))
    }
}

/// The upstream takes nothing of what is written.
#[derive(Debug, thiserror::Error)]
#[error("the upstream took nothing for too long")]
pub(in crate::proxy) struct Stalled;

impl Read for Housed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, greeting, .. } = &mut *self;
        let Some(looking) = greeting else { return Pin::new(stream).poll_read(cx, buf) };
        let mut bytes = [0; GREETING_READ];
        let room = bytes.len().min(buf.remaining());
        let mut read = ReadBuf::new(bytes.get_mut(..room).unwrap_or_default());
        ready!(Pin::new(stream).poll_read(cx, read.unfilled()))?;
        buf.put_slice(read.filled());
        if looking.look(read.filled()) {
            *greeting = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Housed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, flushed)
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
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, written)
    }
}

/// More than any peer's settings take.
const GREETING_READ: usize = 512;
