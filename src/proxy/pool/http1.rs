//! HTTP/1.1 connections: each serves one exchange at a time, and is lent for it.

use super::housed::Housed;
use super::{Idle, Pool};
use crate::observe::ClosedBy;
use crate::proxy::h1::Link;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The use of one connection for one exchange. Dropping it closes the connection, which is not done under the pool's lock.
#[derive(Debug)]
pub(in crate::proxy) struct Lease {
    home: Weak<Pool>,
    /// Too old for another exchange from then on.
    pub(super) end: Instant,
    /// Why it is closed, if it is.
    by: ClosedBy,
    /// In a box: it is moved often, and lives long.
    link: Box<Link>,
}

impl Lease {
    pub(in crate::proxy) fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// It has ended, and why.
    pub(in crate::proxy) fn ended(&mut self, by: ClosedBy) {
        self.by = by;
    }

    /// Gives the connection back for further use, for `keep` at most.
    pub(in crate::proxy) fn give_back(mut self, keep: Duration) {
        let Some(pool) = self.home.upgrade() else { return };
        self.link.rest();
        if self.link.is_quiet(&mut Context::from_waker(&pool.noise)) {
            pool.put(self, keep);
        } else {
            self.by = ClosedBy::Upstream;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(pool) = self.home.upgrade() {
            pool.lock().counts.closed(self.by);
        }
    }
}

impl Pool {
    /// Takes a new connection into care: returns its first use.
    pub(in crate::proxy) fn adopt_http1(self: &Arc<Self>, stream: Housed) -> Lease {
        let end = {
            let mut state = self.lock();
            state.counts.opened_http1 += 1;
            state.name(self.bounds.age).1
        };
        Lease { home: Arc::downgrade(self), end, by: ClosedBy::Cut, link: Box::new(Link::new(stream)) }
    }

    /// Closes what was idle and has ended, or has something to say that nobody asked for.
    pub(super) fn close_noisy(&self) {
        let mut cx = Context::from_waker(&self.noise);
        let is_noisy = |idle: &mut Idle| !idle.lease.link.is_quiet(&mut cx);
        let noisy: Vec<Idle> = self.lock().idle.extract_if(.., is_noisy).collect();
        // Outside the lock.
        for mut idle in noisy {
            idle.lease.ended(ClosedBy::Upstream);
        }
    }
}

/// Hears of idle connections that something has come: one waker for all of them, so that none needs a task.
#[derive(Debug, Default)]
pub(super) struct Ear {
    has_heard: AtomicBool,
    /// There is something to do earlier than the sweep thinks.
    pub(super) earlier: Notify,
}

impl Ear {
    /// Has it heard anything since it was asked last?
    pub(super) fn has_heard(&self) -> bool {
        self.has_heard.swap(false, Ordering::AcqRel)
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Ear {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_heard.store(true, Ordering::Release);
        self.earlier.notify_one();
    }
}
