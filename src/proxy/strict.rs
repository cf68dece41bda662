//! What stands between a client's HTTP/1.1 bytes and hyper: only heads and bodies that are beyond doubt pass.
//!
//! A head is passed on when all of it is there. In place of one that has a [`Fault`], hyper gets a harmless head, whose
//! answer is the refusal: so that it comes in its turn, after those of earlier requests, and as a proper answer. Nothing
//! that a client sends after that is passed on. A body with a fault ends there, without the end that its head promised.
//!
//! # Cost
//! One more look at each head, and none at bodies but for chunks' first lines. Bytes are copied only when a read ends
//! within a head or such a line.
//!
//! Measured in instructions (callgrind, the release build, one kept connection, as the difference between 500 and 2500
//! requests): 2 400 for a head of 88 bytes with 3 fields, of 66 200 that Tidegate spends on that request; 17 900 for one
//! of 915 bytes with 11 fields, of 114 100. That is 20 to 27 for each byte, or 4 % to 16 % of what is not the kernel's.

use super::framing::{End, Framing};
use super::grammar::Fault;
use bytes::{Buf, BytesMut};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose reads are checked.
#[derive(Debug)]
pub(super) struct Strict<S> {
    stream: S,
    framing: Framing,
    /// What was read and not yet passed on: first what may pass now, then an unfinished head or line.
    held: BytesMut,
    /// Bytes of it that may pass.
    sound: usize,
    /// Bytes of it that `framing` is done with.
    scanned: usize,
    /// Nothing that comes now is passed on.
    closed: bool,
    /// What is wrong with a body, until hyper has heard of it.
    broken: Option<Fault>,
    refusal: Refusal,
}

/// Which request of a connection is refused for its bytes, and why. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    /// The refused one's number, from 0.
    refused: OnceLock<(u64, Fault)>,
    /// Requests that were asked about.
    served: AtomicU64,
}

impl Refusal {
    /// Is the next request, in the order in which hyper hands them out, the refused one?
    pub(super) fn next(&self) -> Option<Fault> {
        let number = self.0.served.fetch_add(1, Ordering::Relaxed);
        self.0.refused.get().filter(|(refused, _)| *refused == number).map(|(_, fault)| *fault)
    }
}

impl<S> Strict<S> {
    /// Checks what is read from `stream`, whose heads may have so many bytes.
    pub(super) fn new(stream: S, head_bytes_max: usize) -> (Self, Refusal) {
        let refusal = Refusal::default();
        let framing = Framing::new(head_bytes_max);
        let told = refusal.clone();
        let strict = Self {
            stream,
            framing,
            held: BytesMut::new(),
            sound: 0,
            scanned: 0,
            closed: false,
            broken: None,
            refusal: told,
        };
        (strict, refusal)
    }

    /// Takes from `buf` what must not pass yet, or never. `before` is where the new bytes begin.
    fn check(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let new = buf.filled().get(before..).unwrap_or_default();
        let was_empty = self.held.is_empty();
        let progress = if was_empty {
            self.framing.advance(new)
        } else {
            self.held.extend_from_slice(new);
            self.framing.advance(self.held.get(self.scanned..).unwrap_or_default())
        };
        if was_empty {
            let rest = new.get(progress.sound..).unwrap_or_default();
            if progress.end.is_none() {
                self.held.extend_from_slice(rest);
                self.scanned = progress.consumed - progress.sound;
            }
            buf.set_filled(before + progress.sound);
        } else {
            if progress.sound > 0 {
                self.sound = self.scanned + progress.sound;
            }
            self.scanned += progress.consumed;
            buf.set_filled(before);
        }
        if let Some(end) = progress.end {
            self.held.truncate(self.sound);
            self.closed = true;
            match end {
                End::Head(fault) => {
                    if self.refusal.0.refused.set((self.framing.heads(), fault)).is_ok() {
                        self.held.extend_from_slice(IN_ITS_PLACE);
                        self.sound = self.held.len();
                    }
                }
                End::Body(fault) => self.broken = Some(fault),
                End::Tunnel => (),
            }
            self.scanned = self.held.len();
        }
    }

    /// Passes on what may pass of what is held.
    fn deliver(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.sound.min(buf.remaining());
        buf.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.advance(count);
        self.sound -= count;
        self.scanned -= count;
        if self.held.is_empty() {
            // An idle connection holds nothing.
            self.held = BytesMut::new();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        loop {
            if this.sound > 0 {
                this.deliver(buf);
                return Poll::Ready(Ok(()));
            }
            if let Some(fault) = this.broken.take() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault.detail)));
            }
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            if this.closed {
                // Read all the same: only so is it seen that the client leaves.
                buf.set_filled(before);
                continue;
            }
            this.check(buf, before);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What hyper gets in place of a head that is refused. Nobody serves it: its number says what it stands for.
const IN_ITS_PLACE: &[u8] = b"GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n";
