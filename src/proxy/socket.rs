//! A client's TCP connection: what hyper reads and writes, what a watcher may look at beside it, and who is busy.
//!
//! # Why
//! hyper does not notice that its peer has left while a request's body waits unread, and has one timer for a slow
//! head and an idle connection. Both need a second look at the same socket.

use super::frames::{Frames, Then};
use crate::gate::clock;
use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client's TCP connection. What is written, and what it does not take, is noted.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Arc<TcpStream>,
    activity: Activity,
}

impl Wire {
    pub(super) fn new(stream: Arc<TcpStream>, activity: Activity) -> Self {
        Self { stream, activity }
    }

    fn poll_try(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.poll_write_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => {
                    self.activity.write_blocked();
                    return Poll::Pending;
                }
            }
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                done => {
                    self.activity.wrote();
                    return Poll::Ready(done);
                }
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read_buf(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                done => return Poll::Ready(done.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |stream| stream.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |stream| stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match socket2::SockRef::from(&*self.stream).shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// How bytes get to the wire and back.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(Wire),
    Tls(Box<TlsStream<Wire>>),
}

/// The stream that hyper gets. What is read is noted.
#[derive(Debug)]
pub(super) struct Socket {
    transport: Transport,
    /// What was read to find out the protocol.
    first: Bytes,
    activity: Activity,
    /// What becomes of the next read.
    then: Then,
}

impl Socket {
    pub(super) fn new(transport: Transport, first: Bytes, activity: Activity) -> Self {
        let then = activity.read(&first);
        Self { transport, first, activity, then }
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
        ready!(self.then.poll_read(cx))?;
        if !self.first.is_empty() {
            let count = self.first.len().min(buf.remaining());
            buf.put_slice(self.first.get(..count).unwrap_or_default());
            self.first.advance(count);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.transport).poll_read(cx, buf))?;
        self.then = self.activity.read(buf.filled().get(before..).unwrap_or_default());
        if matches!(self.then, Then::Refuse) {
            // Nothing of it may be taken for the end of a request.
            buf.set_filled(before);
            return self.then.poll_read(cx);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(wire) => Pin::new(wire).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(wire) => wire.is_write_vectored(),
            Transport::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(wire) => Pin::new(wire).poll_flush(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(wire) => Pin::new(wire).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// Empty lines, of which there may be some before a request line (RFC 9112 2.2): no head begins with them.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

/// Returns when the peer has closed its side, in order or by a reset, even if there is unread data before that.
pub(super) async fn gone(stream: &TcpStream) {
    loop {
        match stream.ready(Interest::READABLE).await {
            Ok(ready) if ready.is_read_closed() => return,
            Err(_) => return,
            // Data that nobody reads yet keeps the socket readable: look again in a while.
            Ok(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Bytes of control frames that a request explains: its window updates, its reset, a ping.
const PAID_BY_REQUEST: usize = 1_024;
/// And that a piece of its answer does.
const PAID_BY_FRAME: usize = 64;

/// How often a socket with unread data is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

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

    /// What is read from now on is HTTP/2, preface and all, with so many bytes of control frames at most that nothing
    /// explains.
    pub(super) fn expect_frames(&self, control_bytes_max: usize) {
        self.lock().frames = Some(Frames::new(control_bytes_max, clock::now()));
    }

    /// Something was done for nothing, which counts as so many bytes of control frames.
    pub(super) fn charge(&self, bytes: usize) {
        if let Some(frames) = &mut self.lock().frames {
            frames.charge(bytes);
        }
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

    /// Notes what was read.
    fn read(&self, bytes: &[u8]) -> Then {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut then = Then::Read;
        let begins = match &mut state.frames {
            Some(frames) => {
                then = frames.read(bytes, clock::now());
                if !frames.is_unfinished() {
                    state.head_since = None;
                    return then;
                }
                true
            }
            None => state.active == 0 && !is_blank(bytes),
        };
        if begins && state.head_since.is_none() {
            state.head_since = Some(clock::now());
        }
        then
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
    async fn departure_is_noticed_with_and_without_unread_data() {
        for unread in [0, 1_000, 64_000] {
            for reset in [false, true] {
                let (mut client, server) = pair().await;
                client.write_all(&vec![0; unread]).await.unwrap();
                let still_there = tokio::time::timeout(Duration::from_millis(60), gone(&server)).await;
                assert!(still_there.is_err(), "{unread} {reset}");
                if reset {
                    client.set_zero_linger().unwrap();
                }
                drop(client);
                let left = clock::now();
                tokio::time::timeout(Duration::from_secs(5), gone(&server)).await.unwrap();
                assert!(clock::now() - left < Duration::from_millis(100), "{unread} {reset}");
            }
        }
    }

    #[tokio::test]
    async fn bytes_pass_and_are_noted() {
        let (mut client, server) = pair().await;
        let activity = Activity::new();
        let wire = Wire::new(Arc::new(server), activity.clone());
        let mut socket = Socket::new(Transport::Plain(wire), Bytes::new(), activity.clone());
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
    }
}
