//! Room for one connection, from the moment it is being made until its socket is closed.

use super::{Pool, State};
use std::fmt;
use std::sync::{Arc, Weak};

/// Room for one connection, for whoever makes it.
#[derive(Debug)]
pub(in crate::proxy) struct Place {
    room: Room,
    making: Making,
}

impl Place {
    pub(super) fn new(pool: &Arc<Pool>, state: &mut State) -> Self {
        state.open += 1;
        state.connecting += 1;
        Self { room: Room(Arc::downgrade(pool)), making: Making(Arc::clone(pool)) }
    }

    /// The room for the connection, and the making of it.
    pub(in crate::proxy) fn split(self) -> (Room, Making) {
        (self.room, self.making)
    }
}

/// Room for one connection. Whoever waits gets it when it is dropped.
/// A pool that is gone has no room to give: what it kept goes with it.
pub(in crate::proxy) struct Room(Weak<Pool>);

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.change(|state| state.open -= 1);
        }
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room")
    }
}

/// The making of a connection, over when it is dropped.
pub(in crate::proxy) struct Making(Arc<Pool>);

impl Making {
    /// The connection is there; `is_shared` if it serves many at once, so that others wait for it instead of making
    /// their own.
    pub(in crate::proxy) fn done(self, is_shared: bool) {
        self.0.lock().one_by_one = is_shared;
    }

    /// The connection cannot be made: others may find out at once, instead of one after the other.
    pub(in crate::proxy) fn failed(self) {
        let mut state = self.0.lock();
        state.one_by_one = false;
        state.counts.failed += 1;
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.0.change(|state| state.connecting -= 1);
    }
}

impl fmt::Debug for Making {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Making")
    }
}
