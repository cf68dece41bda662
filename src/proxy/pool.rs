//! Kept HTTP/1.1 connections to the upstream, the last used first, each with the moment until which it is good.

use super::dial::Stream;
use super::sending::Sending;
use crate::gate::clock;
use hyper::client::conn::http1::{Connection, SendRequest};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until};

/// Idle connections to one upstream.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
    room: Arc<Room>,
    next: AtomicU64,
}

/// Room for so many idle connections, of all pools that share it.
#[derive(Debug)]
pub(super) struct Room {
    idle_max: usize,
    idle: AtomicUsize,
}

impl Room {
    pub(super) fn new(idle_max: usize) -> Self {
        Self { idle_max, idle: AtomicUsize::new(0) }
    }

    fn place(self: &Arc<Self>) -> Option<Place> {
        let more = |idle: usize| (idle < self.idle_max).then_some(idle + 1);
        let taken = self.idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        taken.then(|| Place(Arc::clone(self)))
    }
}

/// A place in a [`Room`], given back when dropped.
#[derive(Debug)]
struct Place(Arc<Room>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.idle.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Idle {
    lease: Lease,
    until: Instant,
    _place: Place,
}

/// The use of one connection for one exchange. Dropping it closes the connection.
#[derive(Debug)]
pub(super) struct Lease {
    id: u64,
    pub(super) sender: SendRequest<Sending>,
    home: mpsc::Sender<Returned>,
}

/// A lease on its way back to the driver.
#[derive(Debug)]
struct Returned {
    lease: Lease,
    keep: Duration,
}

impl Lease {
    /// Gives the connection back for further use, for `keep` at most.
    pub(super) fn give_back(self, keep: Duration) {
        // The mailbox has room for the one lease there is; if the driver is gone, so is the connection.
        drop(self.home.clone().try_send(Returned { lease: self, keep }));
    }
}

impl Pool {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self { idle: Mutex::new(Vec::new()), room, next: AtomicU64::new(0) }
    }

    /// No connection has been adopted yet.
    pub(super) fn is_new(&self) -> bool {
        self.next.load(Ordering::Relaxed) == 0
    }

    /// The connection that was used last, if one is still good.
    pub(super) fn take(&self) -> Option<Lease> {
        let now = clock::now();
        let mut idle = self.lock();
        while let Some(Idle { lease, until, .. }) = idle.pop() {
            if until > now && lease.sender.is_ready() {
                return Some(lease);
            }
        }
        None
    }

    /// Takes a new connection into care: returns its first use, and what drives it.
    pub(super) fn adopt(
        self: &Arc<Self>,
        sender: SendRequest<Sending>,
        connection: Connection<Box<dyn Stream>, Sending>,
    ) -> (Lease, impl Future<Output = ()> + Send + use<>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (home, mailbox) = mpsc::channel(1);
        let driver = drive(id, connection, mailbox, Arc::downgrade(self));
        (Lease { id, sender, home }, driver)
    }

    fn put(&self, lease: Lease, until: Instant) {
        if let Some(place) = self.room.place() {
            self.lock().push(Idle { lease, until, _place: place });
        }
    }

    fn remove(&self, id: u64) {
        self.lock().retain(|idle| idle.lease.id != id);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs one connection: exchanges, returns to the pool, and the end of its idle time.
async fn drive(
    id: u64,
    connection: Connection<Box<dyn Stream>, Sending>,
    mut mailbox: mpsc::Receiver<Returned>,
    pool: Weak<Pool>,
) {
    let mut connection = pin!(connection);
    let mut expiry = pin!(sleep(Duration::ZERO));
    let mut is_idle = false;
    loop {
        let Returned { mut lease, keep } = tokio::select! {
            _ended = &mut connection => break,
            // Nobody holds a lease any more, or will: whatever is still under way is not wanted.
            returned = mailbox.recv() => match returned {
                Some(returned) => returned,
                None => break,
            },
            () = &mut expiry, if is_idle => {
                is_idle = false;
                if let Some(pool) = pool.upgrade() {
                    pool.remove(id);
                }
                continue;
            }
        };
        // Ready when the connection has seen the end of both bodies.
        let ready = tokio::select! {
            _ended = &mut connection => break,
            ready = lease.sender.ready() => ready,
        };
        let (Ok(()), Some(pool)) = (ready, pool.upgrade()) else { break };
        let until = clock::now() + keep;
        expiry.set(sleep_until(until.into()));
        is_idle = true;
        pool.put(lease, until);
    }
    if let Some(pool) = pool.upgrade() {
        pool.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let room = Arc::new(Room::new(2));
        let (first, second) = (room.place(), room.place());
        assert!(first.is_some() && second.is_some() && room.place().is_none());
        drop(first);
        assert!(room.place().is_some());
    }
}
