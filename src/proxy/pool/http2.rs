//! HTTP/2 connections: each serves as many requests at once as its peer allows.

use super::housed::Housed;
use super::{Pool, State, spawn};
use crate::gate::clock;
use crate::observe::ClosedBy;
use crate::proxy::sending::Sending;
use hyper::client::conn::http2::{Connection, SendRequest};
use hyper_util::rt::TokioExecutor;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A connection that takes requests. When it is dropped, it serves those that it has and then closes.
#[derive(Debug)]
pub(super) struct Line {
    id: u64,
    sender: SendRequest<Sending>,
    /// Streams that the peer allows.
    streams_max: Arc<AtomicUsize>,
    /// Streams that are in use.
    streams: usize,
    /// Too old for another stream from then on.
    end: Instant,
    idle_since: Instant,
}

impl Line {
    /// When it takes no more requests, if nothing happens until then, and why.
    pub(super) fn end(&self, idle_max: Duration) -> (Instant, ClosedBy) {
        let idle_end = self.idle_since + idle_max;
        if self.streams == 0 && idle_end < self.end {
            (idle_end, ClosedBy::Idle)
        } else {
            (self.end, ClosedBy::Age)
        }
    }

    pub(super) fn streams(&self) -> usize {
        self.streams
    }
}

/// One stream of a connection, for one request. Others may have it when it is dropped.
pub(in crate::proxy) struct Seat {
    pub(in crate::proxy) sender: SendRequest<Sending>,
    line: u64,
    pool: Arc<Pool>,
}

impl Seat {
    /// The connection takes no more requests.
    pub(in crate::proxy) fn retire(&self) {
        self.pool.gone(self.line);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.pool.change(|state| {
            if let Some(line) = state.lines.iter_mut().find(|line| line.id == self.line) {
                line.streams -= 1;
                line.idle_since = clock::now();
                let (end, _) = line.end(self.pool.bounds.http2_idle);
                self.pool.watch(state, end);
            }
        });
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seat({})", self.line)
    }
}

impl Pool {
    /// Takes a new connection into care, once the peer has told in `greeting` how much it takes: returns its first use.
    pub(in crate::proxy) async fn adopt_http2(
        self: &Arc<Self>,
        sender: SendRequest<Sending>,
        connection: Connection<Housed, Sending, TokioExecutor>,
        greeting: oneshot::Receiver<Option<u32>>,
    ) -> Seat {
        let streams_max = Arc::new(AtomicUsize::new(usize::MAX));
        let (id, end) = {
            let mut state = self.lock();
            state.counts.opened_http2 += 1;
            state.name(self.bounds.age)
        };
        let driver = drive(id, connection, Arc::clone(&streams_max), Arc::downgrade(self));
        spawn(driver);
        // Without a greeting the connection has ended: the first request on it finds out.
        if let Ok(max) = greeting.await {
            let max = max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
            streams_max.store(max.max(1), Ordering::Relaxed);
        }
        let mut state = self.lock();
        let line =
            Line { id, sender: sender.clone(), streams_max, streams: 1, end, idle_since: clock::now() };
        state.lines.push(line);
        self.watch(&mut state, end);
        Seat { sender, line: id, pool: Arc::clone(self) }
    }

    /// A stream of the first connection that has one.
    pub(super) fn seat(self: &Arc<Self>, state: &mut State) -> Option<Seat> {
        if state.lines.is_empty() {
            return None;
        }
        let now = clock::now();
        let State { lines, counts, .. } = state;
        for old in lines.extract_if(.., |line| line.sender.is_closed() || line.end <= now) {
            counts.closed(if old.end <= now { ClosedBy::Age } else { ClosedBy::Upstream });
        }
        let max = self.bounds.http2_streams_max;
        let has_room = |line: &&mut Line| line.streams < line.streams_max.load(Ordering::Relaxed).min(max);
        let line = lines.iter_mut().find(has_room)?;
        line.streams += 1;
        Some(Seat { sender: line.sender.clone(), line: line.id, pool: Arc::clone(self) })
    }

    /// The connection of this name takes no more requests, by the upstream's doing.
    fn gone(&self, id: u64) {
        let mut state = self.lock();
        let State { lines, counts, .. } = &mut *state;
        for _line in lines.extract_if(.., |line| line.id == id) {
            counts.closed(ClosedBy::Upstream);
        }
    }
}

/// Runs one connection until it takes no more requests, and notes how many the peer allows at once.
async fn drive(
    id: u64,
    mut connection: Connection<Housed, Sending, TokioExecutor>,
    streams_max: Arc<AtomicUsize>,
    pool: Weak<Pool>,
) {
    let ended = poll_fn(|cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        // A peer that allows none for the moment gets one, which waits there.
        streams_max.store(connection.current_max_send_streams().max(1), Ordering::Relaxed);
        polled
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP/2 connection to the upstream ended");
    }
    if let Some(pool) = pool.upgrade() {
        pool.gone(id);
    }
}
