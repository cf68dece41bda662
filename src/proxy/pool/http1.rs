//! HTTP/1.1 connections: each serves one exchange at a time, and is lent for it.

use super::housed::Housed;
use super::{Pool, spawn};
use crate::gate::clock;
use crate::observe::ClosedBy;
use crate::proxy::sending::Sending;
use hyper::client::conn::http1::{Connection, SendRequest};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// The use of one connection for one exchange. Dropping it closes the connection.
#[derive(Debug)]
pub(in crate::proxy) struct Lease {
    pub(super) id: u64,
    pub(in crate::proxy) sender: SendRequest<Sending>,
    /// Too old for another exchange from then on.
    pub(super) end: Instant,
    close: oneshot::Sender<ClosedBy>,
    home: Weak<Pool>,
}

impl Lease {
    /// Gives the connection back for further use, for `keep` at most.
    pub(in crate::proxy) fn give_back(mut self, keep: Duration) {
        let Some(pool) = self.home.upgrade() else { return };
        if self.sender.is_ready() {
            pool.put(self, clock::now() + keep);
        } else if !self.sender.is_closed() {
            // It has yet to notice the end of both bodies.
            spawn(async move {
                if matches!(timeout(SETTLING_MAX, self.sender.ready()).await, Ok(Ok(()))) {
                    pool.put(self, clock::now() + keep);
                }
            });
        }
    }

    /// Closes the connection, and says why.
    pub(super) fn close(self, by: ClosedBy) {
        // An error says that it has ended by itself.
        self.close.send(by).ok();
    }
}

impl Pool {
    /// Takes a new connection into care: returns its first use.
    pub(in crate::proxy) fn adopt_http1(
        self: &Arc<Self>,
        sender: SendRequest<Sending>,
        connection: Connection<Housed, Sending>,
    ) -> Lease {
        let (id, end) = {
            let mut state = self.lock();
            state.counts.opened_http1 += 1;
            state.name(self.bounds.age)
        };
        let (close, closed) = oneshot::channel();
        let home = Arc::downgrade(self);
        spawn(drive(id, connection, closed, Weak::clone(&home)));
        Lease { id, sender, end, close, home }
    }
}

/// Runs one connection until it ends, or nobody wants it any more: whatever is still under way then is broken off.
async fn drive(
    id: u64,
    mut connection: Connection<Housed, Sending>,
    mut closed: oneshot::Receiver<ClosedBy>,
    pool: Weak<Pool>,
) {
    let by = poll_fn(|cx| {
        if let Poll::Ready(by) = Pin::new(&mut closed).poll(cx) {
            return Poll::Ready(by.unwrap_or(ClosedBy::Cut));
        }
        Pin::new(&mut connection).poll(cx).map(|_ended| ClosedBy::Upstream)
    })
    .await;
    drop(connection);
    if let Some(pool) = pool.upgrade() {
        pool.ended(id, by);
    }
}

/// How long a connection may take to write out what it has and to read what is there.
const SETTLING_MAX: Duration = Duration::from_secs(1);
