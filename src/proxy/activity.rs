//! What goes on on one HTTP/2 connection: who is busy on it, since when something is unfinished or not taken.
//!
//! # Why
//! The h2 crate has no timer for an idle connection, a head that does not end or a client that takes nothing.

use super::frames::{Frames, Then};
use super::taking::{Least, Takes, Taking};
use crate::gate::clock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What goes on on one connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Requests whose response has not ended.
    active: usize,
    /// Since when there is none.
    idle_since: Instant,
    /// There has been one.
    has_asked: bool,
    /// When the first byte of a head came that is not yet complete.
    head_since: Option<Instant>,
    /// Bytes that the kernel took, and whether it takes no more.
    written: u64,
    is_blocked: bool,
    taking: Taking,
    /// When there last was something new for the client, or it took some.
    moved: Instant,
    /// Bodies of which the client has not yet taken what it was last given.
    bodies_given: usize,
    frames: Frames,
}

/// What [`Activity`] looks like now.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doing {
    /// Requests are being served.
    Serving,
    /// A head is on its way since then.
    Reading(Instant),
    /// Nothing since then, after requests.
    Idle(Instant),
    /// Nothing at all, since then.
    Silent(Instant),
}

impl Activity {
    /// Nothing came yet. Of control frames that nothing explains, so many bytes are allowed.
    pub(super) fn new(control_bytes_max: usize) -> Self {
        let now = clock::now();
        let state = State {
            active: 0,
            idle_since: now,
            has_asked: false,
            head_since: None,
            written: 0,
            is_blocked: false,
            taking: Taking::default(),
            moved: now,
            bodies_given: 0,
            frames: Frames::new(control_bytes_max, now),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Something was done for nothing, which counts as so many bytes of control frames.
    pub(super) fn charge(&self, bytes: usize) {
        self.lock().frames.charge(bytes);
    }

    /// A request begins; it lasts until the guard is dropped.
    pub(super) fn begin(&self) -> Busy {
        let mut state = self.lock();
        state.active += 1;
        state.has_asked = true;
        state.frames.pay(PAID_BY_REQUEST);
        drop(state);
        Busy(self.clone())
    }

    pub(super) fn doing(&self) -> Doing {
        let state = self.lock();
        match state.head_since {
            _ if state.active > 0 => Doing::Serving,
            Some(since) => Doing::Reading(since),
            None if !state.has_asked => Doing::Silent(state.idle_since),
            None => Doing::Idle(state.idle_since),
        }
    }

    /// When to look whether the client takes what it is sent.
    pub(super) fn look_due(&self, least: Least) -> Option<Instant> {
        self.lock().taking.due(least)
    }

    /// Does it, if the kernel still holds so many bytes?
    pub(super) fn look(&self, held: u64, least: Least) -> Takes {
        let mut state = self.lock();
        let waits = u64::from(state.is_blocked);
        let given = state.written + waits;
        state.taking.look(clock::now(), given, held + waits, least)
    }

    /// Since when the client has taken nothing of any answer, although each has something for it.
    pub(super) fn untaken_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.active > 0 && state.bodies_given == state.active).then_some(state.moved)
    }

    /// Does the client send control frames for their own sake?
    pub(super) fn is_flood(&self) -> bool {
        self.lock().frames.is_flood()
    }

    /// A body has given so many bytes, or none but an answer's head, and is asked for more when the client has taken
    /// them.
    pub(super) fn body_gives(&self, bytes: usize) {
        let mut state = self.lock();
        state.bodies_given += 1;
        state.moved = clock::now();
        state.frames.pay(PAID_BY_FRAME + bytes / 32);
    }

    /// What a body has given was taken, or will not be.
    pub(super) fn body_given(&self) {
        self.lock().bodies_given -= 1;
    }

    /// Notes what was read.
    pub(super) fn read(&self, bytes: &[u8]) -> Then {
        let mut state = self.lock();
        let now = clock::now();
        let then = state.frames.read(bytes, now);
        state.head_since = state.frames.is_unfinished().then(|| state.head_since.unwrap_or(now));
        then
    }

    pub(super) fn write_blocked(&self) {
        let mut state = self.lock();
        state.is_blocked = true;
        let given = state.written + 1;
        state.taking.gives(clock::now, given);
    }

    /// The kernel took so many bytes.
    pub(super) fn wrote(&self, count: usize) {
        let mut state = self.lock();
        let now = clock::now();
        (state.is_blocked, state.moved) = (false, now);
        state.written += count as u64;
        let given = state.written;
        state.taking.gives(|| now, given);
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

/// Bytes of control frames that a request explains: its window updates, its reset, a ping.
const PAID_BY_REQUEST: usize = 1_024;
/// And that a piece of its answer does.
const PAID_BY_FRAME: usize = 64;
