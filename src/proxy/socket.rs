//! A client's TCP connection, in the clear or in TLS; and in HTTP/2, where hyper reads and writes, who is busy on it.
//!
//! # Why
//! hyper has no timer for an idle HTTP/2 connection, a head that does not end or a client that takes nothing: that needs
//! a second look at what passes.

use super::frames::Frames;
use crate::gate::clock;
use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client's TCP connection. In HTTP/2, what is written and what it does not take is noted.
#[derive(Debug)]
pub(super) struct Wire {
    /// Until it is given back.
    stream: Option<TcpStream>,
    watched: Option<(Activity, Home)>,
}

/// Where a stream is when its connection has ended.
pub(super) type Home = Arc<Mutex<Option<TcpStream>>>;

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream: Some(stream), watched: None }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Some((activity, _)) = &self.watched {
            if written.is_pending() { activity.write_blocked() } else { activity.wrote() }
        }
        written
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some((_, home)) = &self.watched {
            *home.lock().unwrap_or_else(PoisonError::into_inner) = self.stream.take();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write(cx, buf);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write_vectored(cx, bufs);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

/// How bytes get to the wire and back.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(Wire),
    Tls(Box<TlsStream<Wire>>),
}

impl Transport {
    fn wire(&self) -> &Wire {
        match self {
            Self::Plain(wire) => wire,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// The TCP connection beneath, to look at.
    pub(super) fn stream(&self) -> Option<&TcpStream> {
        self.wire().stream.as_ref()
    }

    /// Notes in `activity` what is written from now on. The TCP connection is in the home when this has been dropped.
    pub(super) fn watch(&mut self, activity: Activity) -> Home {
        let home = Home::default();
        let wire = match self {
            Self::Plain(wire) => wire,
            Self::Tls(tls) => tls.get_mut().0,
        };
        wire.watched = Some((activity, Arc::clone(&home)));
        home
    }
}

/// The stream that hyper gets for HTTP/2. What is read is noted.
#[derive(Debug)]
pub(super) struct Socket {
    transport: Transport,
    /// What was read to find out the protocol.
    first: Bytes,
    activity: Activity,
}

impl Socket {
    pub(super) fn new(transport: Transport, first: Bytes, activity: Activity) -> Self {
        activity.read(&first);
        Self { transport, first, activity }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buf.remaining());
            buf.put_slice(self.first.get(..count).unwrap_or_default());
            self.first.advance(count);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.transport).poll_read(cx, buf))?;
        self.activity.read(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(wire) => wire.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

/// Empty lines, of which there may be some before a request line (RFC 9112 2.2): no head begins with them.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

/// Bytes of control frames that a request explains: its window updates, its reset, a ping.
const PAID_BY_REQUEST: usize = 1_024;
/// And that a piece of its answer does.
const PAID_BY_FRAME: usize = 64;

/// What goes on on one connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Requests whose response has not ended.
    active: usize,
    /// Since when there is none.
    idle_since: Instant,
    /// When the first byte of a head came that is not yet complete.
    head_since: Option<Instant>,
    /// Since when bytes wait that the peer does not take.
    blocked_since: Option<Instant>,
    /// When there last was something new for the client, or it took some.
    moved: Instant,
    /// Bodies of which the client has not yet taken what it was last given.
    bodies_given: usize,
    /// In HTTP/2. Otherwise every read outside a request is the beginning of a head.
    frames: Option<Frames>,
}

/// What [`Activity`] looks like now.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doing {
    /// Requests are being served.
    Serving,
    /// A head is on its way since then.
    Reading(Instant),
    /// Nothing since then.
    Idle(Instant),
}

impl Activity {
    pub(super) fn new() -> Self {
        let now = clock::now();
        let state = State {
            active: 0,
            idle_since: now,
            head_since: None,
            blocked_since: None,
            moved: now,
            bodies_given: 0,
            frames: None,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// What is read from now on is HTTP/2, preface and all.
    pub(super) fn expect_frames(&self) {
        self.lock().frames = Some(Frames::new(clock::now()));
    }

    /// A request begins; it lasts until the guard is dropped.
    pub(super) fn begin(&self) -> Busy {
        let mut state = self.lock();
        state.active += 1;
        match &mut state.frames {
            Some(frames) => frames.pay(PAID_BY_REQUEST),
            None => state.head_since = None,
        }
        drop(state);
        Busy(self.clone())
    }

    pub(super) fn doing(&self) -> Doing {
        let state = self.lock();
        match state.head_since {
            _ if state.active > 0 => Doing::Serving,
            Some(since) => Doing::Reading(since),
            None => Doing::Idle(state.idle_since),
        }
    }

    pub(super) fn blocked_since(&self) -> Option<Instant> {
        self.lock().blocked_since
    }

    /// Since when the client has taken nothing of any answer, although each has something for it.
    pub(super) fn untaken_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.active > 0 && state.bodies_given == state.active).then_some(state.moved)
    }

    /// Does the client send control frames for their own sake?
    pub(super) fn is_flood(&self) -> bool {
        self.lock().frames.as_ref().is_some_and(Frames::is_flood)
    }

    /// A body has given so many bytes, or none but an answer's head, and is asked for more when the client has taken
    /// them.
    pub(super) fn body_gives(&self, bytes: usize) {
        let mut state = self.lock();
        state.bodies_given += 1;
        state.moved = clock::now();
        if let Some(frames) = &mut state.frames {
            frames.pay(PAID_BY_FRAME + bytes / 32);
        }
    }

    /// What a body has given was taken, or will not be.
    pub(super) fn body_given(&self) {
        self.lock().bodies_given -= 1;
    }

    fn read(&self, bytes: &[u8]) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let begins = match &mut state.frames {
            Some(frames) => {
                let now = clock::now();
                frames.read(bytes, now);
                if !frames.is_unfinished() {
                    state.head_since = None;
                    return;
                }
                true
            }
            None => state.active == 0 && !is_blank(bytes),
        };
        if begins && state.head_since.is_none() {
            state.head_since = Some(clock::now());
        }
    }

    fn write_blocked(&self) {
        self.lock().blocked_since.get_or_insert_with(clock::now);
    }

    fn wrote(&self) {
        let mut state = self.lock();
        state.blocked_since = None;
        state.moved = clock::now();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request on a connection.
#[derive(Debug)]
pub(super) struct Busy(Activity);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.active -= 1;
        state.idle_since = clock::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_pass_and_are_noted() {
        let (mut client, server) = pair().await;
        let activity = Activity::new();
        let mut transport = Transport::Plain(Wire::new(server));
        let home = transport.watch(activity.clone());
        let mut socket = Socket::new(transport, Bytes::new(), activity.clone());
        assert!(matches!(activity.doing(), Doing::Idle(_)));
        client.write_all(b"hello").await.unwrap();
        let mut bytes = [0; 5];
        socket.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"hello");
        assert!(matches!(activity.doing(), Doing::Reading(_)));
        let busy = activity.begin();
        assert!(matches!(activity.doing(), Doing::Serving));
        drop(busy);
        assert!(matches!(activity.doing(), Doing::Idle(_)));
        socket.write_all(b"you").await.unwrap();
        socket.shutdown().await.unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "you");
        assert!(home.lock().unwrap().is_none());
        drop(socket);
        assert!(home.lock().unwrap().is_some(), "the connection has ended, and its stream is still there");
    }
}
