//! Room for one connection, from the moment it is being made until its socket is closed.

use super::greeting::Greeting;
use super::{Pool, State};
use crate::proxy::dial::Stream;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Room for one connection, for whoever makes it.
#[derive(Debug)]
pub(in crate::proxy) struct Place {
    room: Room,
    making: Making,
}

impl Place {
    pub(super) fn new(pool: &Arc<Pool>, state: &mut State) -> Self {
        state.open += 1;
        state.connecting += 1;
        Self { room: Room(Arc::clone(pool)), making: Making(Arc::clone(pool)) }
    }

    /// The room for the connection, and the making of it.
    pub(in crate::proxy) fn split(self) -> (Room, Making) {
        (self.room, self.making)
    }
}

/// Room for one connection. Whoever waits gets it when it is dropped.
pub(in crate::proxy) struct Room(Arc<Pool>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.change(|state| state.open -= 1);
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room")
    }
}

/// The making of a connection, over when it is dropped.
pub(in crate::proxy) struct Making(Arc<Pool>);

impl Making {
    /// The connection is there; `is_shared` if it serves many at once, so that others wait for it instead of making
    /// their own.
    pub(in crate::proxy) fn done(self, is_shared: bool) {
        self.0.lock().one_by_one = is_shared;
    }

    /// The connection cannot be made: others may find out at once, instead of one after the other.
    pub(in crate::proxy) fn failed(self) {
        let mut state = self.0.lock();
        state.one_by_one = false;
        state.counts.failed += 1;
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.0.change(|state| state.connecting -= 1);
    }
}

impl fmt::Debug for Making {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Making")
    }
}

/// A connection's bytes, and the room that it takes for as long as they may flow.
pub(in crate::proxy) struct Housed {
    stream: Box<dyn Stream>,
    /// Looks at what comes first.
    greeting: Option<Greeting>,
    /// Given back after the stream is closed: fields are dropped in their order.
    _room: Room,
}

impl Housed {
    pub(in crate::proxy) fn new(stream: Box<dyn Stream>, room: Room) -> Self {
        Self { stream, greeting: None, _room: room }
    }

    /// The same with something to look at what comes first.
    pub(in crate::proxy) fn greeted(mut self, greeting: Greeting) -> Self {
        self.greeting = Some(greeting);
        self
    }
}

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

/// More than any peer's settings take.
const GREETING_READ: usize = 512;
