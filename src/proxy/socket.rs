//! A client's TCP connection, in the clear or in TLS; and in HTTP/2, where the h2 crate reads and writes, a second look at what
//! passes ([`super::activity`]).

use super::activity::Activity;
use super::frames::Then;
use super::gathered::Gathered;
use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client's TCP connection. In HTTP/2, what is written and what it does not take is noted.
#[derive(Debug)]
pub(super) struct Wire {
    /// Until it is given back.
    stream: Option<TcpStream>,
    /// Bytes that the kernel took.
    written: u64,
    watched: Option<(Activity, Home)>,
}

/// Where a stream is when its connection has ended.
pub(super) type Home = Arc<Mutex<Option<TcpStream>>>;

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream: Some(stream), written: 0, watched: None }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn note(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = written {
            self.written += count as u64;
        }
        if let Some((activity, _)) = &self.watched {
            match &written {
                Poll::Pending => activity.write_blocked(),
                Poll::Ready(count) => activity.wrote(*count.as_ref().unwrap_or(&0)),
            }
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

    /// Bytes that were written to it, as they are on the wire.
    pub(super) fn written(&self) -> u64 {
        self.wire().written
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

/// The stream that h2 gets. What is read is noted.
#[derive(Debug)]
pub(super) struct Socket {
    transport: Gathered<Transport>,
    /// What was read to find out the protocol.
    first: Bytes,
    activity: Activity,
    /// What becomes of the next read.
    then: Then,
}

impl Socket {
    pub(super) fn new(transport: Transport, first: Bytes, activity: Activity) -> Self {
        let then = activity.read(&first);
        Self { transport: Gathered::new(transport), first, activity, then }
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
        ready!(self.transport.stream().poll_read(cx, buf))?;
        self.then = self.activity.read(buf.filled().get(before..).unwrap_or_default());
        if matches!(self.then, Then::Refuse) {
            // Nothing of it may be taken for the end of a request.
            buf.set_filled(before);
            return self.then.poll_read(cx);
        }
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

#[cfg(test)]
mod tests {
    use super::super::activity::Doing;
    use super::super::opening::PREFACE;
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
        let activity = Activity::new(0);
        let mut transport = Transport::Plain(Wire::new(server));
        let home = transport.watch(activity.clone());
        let mut socket = Socket::new(transport, Bytes::new(), activity.clone());
        assert!(matches!(activity.doing(), Doing::Reading(_)), "a preface has to come");
        let (preface, settings) = (PREFACE, [0, 0, 0, 4, 0, 0, 0, 0, 0]);
        let mut bytes = [0; PREFACE.len()];
        client.write_all(preface).await.unwrap();
        socket.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, *preface);
        assert!(matches!(activity.doing(), Doing::Reading(_)), "settings have to follow");
        client.write_all(&settings).await.unwrap();
        socket.read_exact(&mut bytes[..9]).await.unwrap();
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
