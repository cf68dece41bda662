//! Small writes of HTTP/2 that wait for what follows them, so that one system call and one TLS record take both.
//!
//! # Why
//! h2 puts a small frame beside those before it and writes a large one by itself, with the connection's next frame only
//! after it. Small is what has less than 256 bytes if the stream takes several pieces in one write, and 1 KiB if it does
//! not. So this stream says that it does not, and a frame's head and its payload, which h2 then writes one after the
//! other, are put together here. Measured with answers of 256 bytes, ten streams on each of ten connections: 2.8 system
//! calls for each request instead of 3.7, over TLS 2.8 instead of 3.3, where each call is a record too.

use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// A stream whose small writes wait: for the next one, or for a flush.
#[derive(Debug)]
pub(super) struct Gathered<T> {
    stream: T,
    held: BytesMut,
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    pub(super) fn new(stream: T) -> Self {
        Self { stream, held: BytesMut::new() }
    }

    pub(super) fn stream(&mut self) -> Pin<&mut T> {
        Pin::new(&mut self.stream)
    }

    /// Writes what waits, and `bytes` after it. Ready when nothing waits any more: how many of `bytes` went too.
    fn poll_release(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while !self.held.is_empty() {
            let both = [IoSlice::new(&self.held), IoSlice::new(bytes)];
            let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &both))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(more) = count.checked_sub(self.held.len()) {
                // An idle connection keeps no room for it.
                self.held = BytesMut::new();
                return Poll::Ready(Ok(more));
            }
            self.held.advance(count);
        }
        Poll::Ready(Ok(0))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.is_empty() && bytes.len() <= HELD_MAX {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        match ready!(self.poll_release(cx, bytes))? {
            0 => self.stream().poll_write(cx, bytes),
            count => Poll::Ready(Ok(count)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(cx, &[]))?;
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(cx, &[]))?;
        self.stream().poll_shutdown(cx)
    }
}

/// More is worth a system call rather than a copy.
const HELD_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_is_small_goes_with_what_follows() {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let mut gathered = Gathered::new(near);
        gathered.write_all(b"head").await.unwrap();
        let mut read = BytesMut::new();
        tokio::select! {
            biased;
            _ = far.read_buf(&mut read) => panic!("it waits"),
            () = std::future::ready(()) => (),
        }
        gathered.flush().await.unwrap();
        far.read_buf(&mut read).await.unwrap();
        assert_eq!(read, "head");
        gathered.write_all(b"two").await.unwrap();
        gathered.shutdown().await.unwrap();
        drop(gathered);
        far.read_buf(&mut read).await.unwrap();
        assert_eq!(read, "headtwo", "nothing is lost at the end");
    }

    #[tokio::test]
    async fn everything_is_written_in_order_however_little_is_taken() {
        for room in [1, 7, 1_000, 1 << 20] {
            let (near, mut far) = tokio::io::duplex(room);
            let mut gathered = Gathered::new(near);
            let all: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0]).collect();
            let write = async {
                let mut rest = &all[..];
                for length in [9, 5_000, 1_024, 1_025, 1, 1, 0, 9_000, 300, 3_640] {
                    let (piece, after) = rest.split_at(length);
                    gathered.write_all(piece).await.unwrap();
                    rest = after;
                }
                assert!(rest.is_empty());
                gathered.flush().await.unwrap();
                drop(gathered);
            };
            let mut read = Vec::new();
            let ((), count) = tokio::join!(write, far.read_to_end(&mut read));
            count.unwrap();
            assert!(read == all, "with room for {room}");
        }
    }
}
