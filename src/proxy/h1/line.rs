//! A client's HTTP/1.1 connection: what was read of it and is to be sent, and the clocks that run meanwhile.
//!
//! # Memory
//! A connection without a request has no buffer. What comes is read into room on the stack; only what is left of it when
//! a head is not complete, or belongs to the next request, is kept.

use super::super::connection::{LAST_MOMENT, drained};
use super::super::grammar::Fault;
use super::super::socket::Transport;
use super::super::taking::{Ends, Least, Takes, Taking};
use super::Limits;
use super::alarm::Alarm;
use super::body::Feed;
use super::head::{Head, Reader};
use super::out::Out;
use crate::config::ProxySettings;
use crate::gate::clock;
use bytes::{Buf, BytesMut};
use http::Method;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, Interest, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

/// One connection.
pub(super) struct Line<'a> {
    pub(super) transport: Transport,
    settings: &'a ProxySettings,
    pub(super) limits: Limits,
    /// What was read and belongs to nothing yet.
    pub(super) unread: BytesMut,
    /// Some of it has not been looked at.
    is_fresh: bool,
    reader: Reader,
    /// When the first byte of an unfinished head came.
    head_since: Option<Instant>,
    /// Since when there is no request.
    idle_since: Instant,
    /// How much of a body is read at once.
    piece: usize,
    pub(super) out: Out,
    /// What the client takes of what it was sent.
    taking: Taking,
    least: Least,
    alarm: Alarm,
    /// When to look whether a client with unread data has left.
    glance: Option<Pin<Box<Sleep>>>,
    drain: Draining,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The client left.
    Left,
    /// Nothing more is to be said.
    Said,
    /// A head did not come in time.
    HeadLate,
    /// The client took nothing.
    Stalled,
    /// An answer broke off, and nothing but the way in which the connection ends says so if it `is_hidden`.
    Cut { is_hidden: bool },
}

/// A head, or why what came is none and its method if that much is known.
pub(super) type Found = Result<Head, (Fault, Option<Method>)>;

impl<'a> Line<'a> {
    /// A connection of which `unread` has been read.
    pub(super) fn new(
        transport: Transport,
        unread: BytesMut,
        settings: &'a ProxySettings,
        drain: watch::Receiver<bool>,
    ) -> Self {
        Self {
            transport,
            settings,
            limits: Limits::new(settings),
            is_fresh: !unread.is_empty(),
            unread,
            reader: Reader::default(),
            head_since: None,
            idle_since: clock::now(),
            piece: PIECE_MIN,
            out: Out::default(),
            taking: Taking::default(),
            least: Least::new(settings),
            alarm: Alarm::default(),
            glance: None,
            drain: Draining { drain, waiting: None, since: None },
        }
    }

    /// A request has been answered, and another may come.
    pub(super) fn goes_on(&mut self) {
        self.is_fresh = !self.unread.is_empty();
        self.idle_since = clock::now();
        self.taking.gives(|| self.idle_since, self.transport.written());
        self.piece = PIECE_MIN;
        self.glance = None;
        self.tidy();
    }

    /// Is the program stopping?
    pub(super) fn is_draining(&self) -> bool {
        *self.drain.drain.borrow()
    }

    /// The next head.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Found, Ended>> {
        let mut room = [MaybeUninit::uninit(); HEAD_READ];
        loop {
            if std::mem::take(&mut self.is_fresh) {
                if let Some((found, length)) = look(&mut self.reader, &self.unread, &self.limits) {
                    self.unread.advance(length);
                    self.found(found.is_ok());
                    return Poll::Ready(Ok(found));
                }
                self.note_begin();
            }
            let mut read = ReadBuf::uninit(&mut room);
            match Pin::new(&mut self.transport).poll_read(cx, &mut read) {
                Poll::Pending => return self.poll_patience(cx).map(Err),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Ended::Left)),
                Poll::Ready(Ok(())) => (),
            }
            let new = read.filled();
            if new.is_empty() {
                return Poll::Ready(Err(Ended::Left));
            }
            if !self.unread.is_empty() {
                self.unread.extend_from_slice(new);
                self.is_fresh = true;
                continue;
            }
            // The usual case: all of the head is here, and nothing has to be kept.
            let found = look(&mut self.reader, new, &self.limits);
            let length = found.as_ref().map_or(0, |(_, length)| *length);
            self.unread.extend_from_slice(new.get(length..).unwrap_or_default());
            if let Some((found, _)) = found {
                self.found(found.is_ok());
                return Poll::Ready(Ok(found));
            }
            self.note_begin();
        }
    }

    fn note_begin(&mut self) {
        if self.head_since.is_none() && self.reader.has_begun(&self.unread) {
            self.head_since = Some(clock::now());
        }
    }

    /// A head has been read, or what is none.
    fn found(&mut self, is_head: bool) {
        if !is_head {
            // Nothing of it is read any more.
            self.unread.clear();
        }
        self.head_since = None;
        self.reader = Reader::default();
    }

    /// For how long a head may be waited for.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.tidy();
        let draining = self.drain.poll_since(cx);
        loop {
            let (due, ended) = match (self.head_since, draining) {
                (Some(since), _) => (since + self.settings.head_timeout, Ended::HeadLate),
                (None, Some(draining)) => (self.idle_since.max(draining) + LAST_MOMENT, Ended::Said),
                (None, None) => (self.idle_since + self.settings.keep_alive_idle, Ended::Said),
            };
            let look = self.taking.due(self.least).unwrap_or(due);
            ready!(self.alarm.poll(cx, look.min(due)));
            match self.look() {
                Takes::TooLittle => return Poll::Ready(Ended::Stalled),
                // It is not idle as long as it takes its answer.
                Takes::Some if self.head_since.is_none() && draining.is_none() => {
                    self.idle_since = clock::now();
                }
                Takes::Some | Takes::All if due <= clock::now() => return Poll::Ready(ended),
                Takes::Some | Takes::All => (),
            }
        }
    }

    /// Reads more behind what is unread; none when the client has said all.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        self.unread.reserve(self.piece);
        let room = self.unread.capacity() - self.unread.len();
        let read = pin!(self.transport.read_buf(&mut self.unread)).poll(cx);
        match read {
            Poll::Pending => {
                self.tidy();
                Poll::Pending
            }
            Poll::Ready(Err(_) | Ok(0)) => Poll::Ready(None),
            Poll::Ready(Ok(count)) => {
                if count == room {
                    self.piece = (self.piece * 2).min(PIECE_MAX);
                }
                Poll::Ready(Some(()))
            }
        }
    }

    /// Reads on for who waits for the next piece of a body; ready when it is there.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>, feed: &mut Feed) -> Poll<Result<(), Ended>> {
        loop {
            if feed.give(&mut self.unread, &self.limits, cx) {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_read(cx)).is_none() {
                return Poll::Ready(Err(Ended::Left));
            }
        }
    }

    /// Can a body that nobody reads be got out of the way, without waiting for it? `false` also when somebody may.
    pub(super) fn drain(&mut self, cx: &mut Context<'_>, feed: &mut Feed, may_read: bool) -> bool {
        let mut left = DRAINED_MAX;
        loop {
            let before = self.unread.len();
            feed.discard(&mut self.unread, &self.limits);
            left = left.saturating_sub(before - self.unread.len());
            if !feed.is_open() || left == 0 || !may_read {
                return feed.is_over();
            }
            if !matches!(self.poll_read(cx), Poll::Ready(Some(()))) {
                return false;
            }
        }
    }

    /// Sends what there is to send.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while !self.out.is_empty() {
            match self.out.poll_send(cx, &mut self.transport) {
                Poll::Ready(Ok(_)) => (),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Ended::Left)),
                Poll::Pending => {
                    self.taking.gives(clock::now, self.given());
                    // There is a time as long as something waits here.
                    while let Some(due) = self.taking.due(self.least) {
                        ready!(self.alarm.poll(cx, due));
                        if self.look() == Takes::TooLittle {
                            return Poll::Ready(Err(Ended::Stalled));
                        }
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Bytes that the client is to take, of those that wait here the first.
    fn given(&self) -> u64 {
        self.transport.written() + u64::from(!self.out.is_empty())
    }

    /// Does the client take what there is?
    fn look(&mut self) -> Takes {
        let held = self.transport.stream().and_then(Ends::of).and_then(Ends::untaken).unwrap_or_default();
        let untaken = held + u64::from(!self.out.is_empty());
        self.taking.look(clock::now(), self.given(), untaken, self.least)
    }

    /// Waits for the client to take its last answer; `false` when it does not. Who stops us need not wait for that: the
    /// kernel sends what it holds without us.
    pub(super) async fn is_taken(&mut self) -> bool {
        loop {
            match self.look() {
                Takes::All => return true,
                Takes::TooLittle => return false,
                Takes::Some if self.is_draining() => return true,
                Takes::Some => sleep(LOOK_AT_THE_LAST).await,
            }
        }
    }

    /// Ready when the client has closed its side, in order or by a reset, even if there is unread data before that.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(stream) = self.transport.stream() else { return Poll::Ready(()) };
        loop {
            if let Some(glance) = &mut self.glance {
                ready!(glance.as_mut().poll(cx));
                self.glance = None;
            }
            if ready!(stream.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            match pin!(stream.ready(Interest::READABLE)).poll(cx) {
                // Data that nobody reads yet keeps the socket readable: look again in a while.
                Poll::Ready(Ok(ready)) if !ready.is_read_closed() => {
                    self.glance = Some(Box::pin(sleep(LOOK_AGAIN)));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => (),
            }
        }
    }

    /// Keeps no memory for nothing.
    fn tidy(&mut self) {
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
        self.out.rest();
    }
}

/// What `bytes` are the beginning of, and how long it is.
fn look(reader: &mut Reader, bytes: &[u8], limits: &Limits) -> Option<(Found, usize)> {
    match reader.read(bytes, limits) {
        Ok(Some((head, length))) => Some((Ok(head), length)),
        Ok(None) => None,
        Err(fault) => Some((Err((fault, reader.method().cloned())), bytes.len())),
    }
}

/// Waits for the program to stop.
struct Draining {
    drain: watch::Receiver<bool>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    since: Option<Instant>,
}

impl Draining {
    /// Since when, if it does; else the task of `cx` is woken when it begins to, which is the same each time.
    fn poll_since(&mut self, cx: &mut Context<'_>) -> Option<Instant> {
        let is_waited_for = self.waiting.is_some() && !*self.drain.borrow();
        if self.since.is_none() && !is_waited_for {
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(drained(self.drain.clone())));
            if waiting.as_mut().poll(cx).is_ready() {
                (self.since, self.waiting) = (Some(clock::now()), None);
            }
        }
        self.since
    }
}

/// Room for a head that comes; a longer one takes several reads.
const HEAD_READ: usize = 8 * 1024;
/// Room for a piece of a body: as much as comes at once, within these bounds.
const PIECE_MIN: usize = 8 * 1024;
const PIECE_MAX: usize = 64 * 1024;
/// Of a body that nobody reads so much is read and forgotten, so that the connection can be kept.
const DRAINED_MAX: usize = 64 * 1024;

/// How often it is looked at whether a last answer has been taken.
const LOOK_AT_THE_LAST: Duration = Duration::from_secs(1);
/// How often a socket with unread data is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
