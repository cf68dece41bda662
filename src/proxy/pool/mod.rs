//! Connections to one upstream: those that are kept, those that may still be made, and who waits for one.
//!
//! # Why
//! A pool belongs to one shard, so that its lock is never fought over, and a request takes a connection out of it and
//! puts it back without a task or a channel in between: what is idle shares one waker, and the sweep looks at all of it
//! when that has heard something. Of HTTP/1.1 connections the one that was used last is used
//! first: what a burst has left over grows old and is closed. An HTTP/2 connection serves as many requests as its peer
//! allows before another one is made.
//!
//! Who finds neither a connection nor room for one waits in turn: whatever becomes free goes to whoever waits longest.

mod greeting;
mod housed;
mod http1;
mod http2;
mod place;
mod view;

pub(super) use greeting::Greeting;
pub(super) use housed::{Housed, Stalled};
pub(super) use http1::Lease;
pub(super) use http2::Seat;
pub(super) use place::Place;

use crate::config::ProxySettings;
use crate::gate::clock;
use crate::observe::ClosedBy;
use http1::Ear;
use http2::Line;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::{timeout, timeout_at};
use view::Counts;

/// The connections of one shard to one upstream.
#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
    bounds: Bounds,
    ear: Arc<Ear>,
    /// Tells it.
    noise: Waker,
}

/// How much there may be of what.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    open_max: usize,
    idle_max: usize,
    waiting_max: usize,
    patience: Duration,
    age: Duration,
    http2_idle: Duration,
    http2_streams_max: usize,
}

#[derive(Debug)]
struct State {
    /// Connections that are open or being made.
    open: usize,
    connecting: usize,
    /// Only one is made at a time: it may serve all who wait.
    one_by_one: bool,
    /// HTTP/1.1 connections without a request; the last used is last.
    idle: Vec<Idle>,
    /// HTTP/2 connections that take requests.
    lines: Vec<Line>,
    waiting: VecDeque<Waiter>,
    /// When a task looks after what is idle, if there is one.
    sweep: Option<Instant>,
    /// Connections made so far; also their names.
    made: u64,
    counts: Counts,
}

#[derive(Debug)]
struct Idle {
    lease: Lease,
    /// Not to be used any more from then on, and why.
    until: Instant,
    then: ClosedBy,
}

#[derive(Debug)]
struct Waiter {
    tell: oneshot::Sender<Turn>,
    anew: bool,
}

/// What a request gets.
#[derive(Debug)]
pub(super) enum Turn {
    /// A kept connection, for itself.
    Lease(Lease),
    /// A stream of a connection that it shares.
    Seat(Seat),
    /// Room for a connection, which it has to make.
    Place(Place),
}

/// Why a request gets no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// Too many wait already.
    Full,
    /// It has waited for too long.
    Late,
}

impl Bounds {
    /// The share of the pool in `place`, of so many that share what `settings` allow. Each may have one connection.
    pub(super) fn of(settings: &ProxySettings, place: usize, pools: usize) -> Self {
        let share = |all: usize| all / pools.max(1) + usize::from(place < all % pools.max(1));
        Self {
            open_max: share(settings.upstream_connections_max).max(1),
            idle_max: share(settings.pool_idle_max),
            waiting_max: share(settings.upstream_waiting_max),
            patience: settings.upstream_wait,
            age: settings.upstream_age,
            http2_idle: settings.upstream_http2_idle,
            http2_streams_max: settings.upstream_http2_streams_max,
        }
    }
}

impl Pool {
    /// A pool without connections. With `may_share`, the upstream may speak HTTP/2: the first connection finds out.
    pub(super) fn new(bounds: Bounds, may_share: bool) -> Self {
        let state = State {
            open: 0,
            connecting: 0,
            one_by_one: may_share,
            idle: Vec::new(),
            lines: Vec::new(),
            waiting: VecDeque::new(),
            sweep: None,
            made: 0,
            counts: Counts::default(),
        };
        let ear = Arc::new(Ear::default());
        let noise = ear.waker();
        Self { state: Mutex::new(state), bounds, ear, noise }
    }

    /// A connection, or room to make one; waits for it if need be. With `anew`, it is none that was idle: such a one
    /// has just turned out dead.
    pub(super) async fn turn(self: &Arc<Self>, anew: bool) -> Result<Turn, NoTurn> {
        let mut over = Over::default();
        let told = {
            let mut state = self.lock();
            if state.waiting.is_empty()
                && let Some(turn) = self.at_hand(&mut state, anew, &mut over)
            {
                return Ok(turn);
            }
            if state.waiting.len() >= self.bounds.waiting_max {
                state.waiting.retain(|waiter| !waiter.tell.is_closed());
            }
            if state.waiting.len() >= self.bounds.waiting_max {
                state.counts.refused += 1;
                return Err(NoTurn::Full);
            }
            let (tell, told) = oneshot::channel();
            state.waiting.push_back(Waiter { tell, anew });
            told
        };
        drop(over);
        // Those in front may all have left.
        self.serve();
        if let Ok(Ok(turn)) = timeout(self.bounds.patience, told).await {
            return Ok(turn);
        }
        self.lock().counts.refused += 1;
        Err(NoTurn::Late)
    }

    /// What there is for the next request, if there is anything. What is not good any more goes to `over`.
    fn at_hand(self: &Arc<Self>, state: &mut State, anew: bool, over: &mut Over) -> Option<Turn> {
        if let Some(seat) = self.seat(state) {
            state.counts.reused += 1;
            return Some(Turn::Seat(seat));
        }
        if !anew && let Some(lease) = state.last_used(over) {
            state.counts.reused += 1;
            return Some(Turn::Lease(lease));
        }
        if state.open < self.bounds.open_max && !(state.one_by_one && state.connecting > 0) {
            return Some(Turn::Place(Place::new(self, state)));
        }
        if anew && !state.idle.is_empty() {
            // Its place comes to whoever waits as soon as it is closed.
            over.push(state.idle.remove(0), ClosedBy::Room);
        }
        None
    }

    /// Gives those who wait what there is for them.
    fn serve(self: &Arc<Self>) {
        loop {
            let mut over = Over::default();
            let (waiter, turn) = {
                let mut state = self.lock();
                while state.waiting.pop_front_if(|waiter| waiter.tell.is_closed()).is_some() {}
                let Some(anew) = state.waiting.front().map(|waiter| waiter.anew) else { return };
                let Some(turn) = self.at_hand(&mut state, anew, &mut over) else { return };
                let waiter = state.waiting.pop_front();
                (waiter, turn)
            };
            // Outside the lock, which a turn that is dropped takes again.
            let Some(waiter) = waiter else { return };
            // Who left at this very moment leaves a seat or a place that comes back by itself, or a connection that ends.
            drop(waiter.tell.send(turn));
        }
    }

    /// Keeps a connection for the next request, for `keep` at most.
    fn put(self: &Arc<Self>, lease: Lease, keep: Duration) {
        let now = clock::now();
        let until = now + keep;
        let (until, then) =
            if until < lease.end { (until, ClosedBy::Idle) } else { (lease.end, ClosedBy::Age) };
        let idle = Idle { lease, until, then };
        let mut over = Over::default();
        self.change(|state| {
            if until <= now {
                over.push(idle, then);
            } else if state.idle.len() < self.bounds.idle_max || !state.waiting.is_empty() {
                state.idle.push(idle);
                self.watch(state, until);
            } else {
                over.push(idle, ClosedBy::Room);
            }
        });
    }

    /// Sees to it that what is idle until `end` is closed then.
    fn watch(self: &Arc<Self>, state: &mut State, end: Instant) {
        match state.sweep {
            None => {
                state.sweep = Some(end);
                spawn(sweep(Arc::downgrade(self), Arc::clone(&self.ear), end));
            }
            Some(next) if end + SWEEP_PERIOD_MIN < next => {
                state.sweep = Some(end);
                self.ear.earlier.notify_one();
            }
            Some(_) => (),
        }
    }

    /// Closes what has been idle for long enough; returns when to look again, if there is anything left to look after.
    fn close_idle(&self) -> Option<Instant> {
        let now = clock::now();
        let mut over = Over::default();
        let mut state = self.lock();
        for old in state.idle.extract_if(.., |idle| idle.until <= now) {
            let then = old.then;
            over.push(old, then);
        }
        let State { lines, counts, .. } = &mut *state;
        for old in lines.extract_if(.., |line| line.end(self.bounds.http2_idle).0 <= now) {
            counts.closed(old.end(self.bounds.http2_idle).1);
        }
        let lines = state.lines.iter().map(|line| line.end(self.bounds.http2_idle).0);
        let next = state.idle.iter().map(|idle| idle.until).chain(lines).min();
        state.sweep = next.map(|next| next.max(now + SWEEP_PERIOD_MIN));
        state.sweep
    }

    /// Changes something, which may be what someone waits for.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let is_awaited = {
            let mut state = self.lock();
            change(&mut state);
            !state.waiting.is_empty()
        };
        if is_awaited {
            self.serve();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The connection that was used last, if it is still good; what is not is closed.
    fn last_used(&mut self, over: &mut Over) -> Option<Lease> {
        if self.idle.is_empty() {
            return None;
        }
        let now = clock::now();
        let mut cx = Context::from_waker(Waker::noop());
        while let Some(mut idle) = self.idle.pop() {
            if idle.until <= now {
                let then = idle.then;
                over.push(idle, then);
            } else if idle.lease.link().is_quiet(&mut cx) {
                return Some(idle.lease);
            } else {
                over.push(idle, ClosedBy::Upstream);
            }
        }
        None
    }

    /// A name for a new connection, and when it is too old: up to a tenth before `age`, spread evenly, so that what was
    /// made at once is not remade at once.
    fn name(&mut self, age: Duration) -> (u64, Instant) {
        self.made += 1;
        let spread = (self.made as f64 * GOLDEN_RATIO).fract();
        (self.made, clock::now() + age.mul_f64(1.0 - spread / 10.0))
    }
}

/// Connections that are not used any more. They are closed when this is dropped, which is not done under the lock: their
/// ends take it again.
#[derive(Debug, Default)]
struct Over(Vec<Lease>);

impl Over {
    fn push(&mut self, idle: Idle, by: ClosedBy) {
        let mut lease = idle.lease;
        lease.ended(by);
        self.0.push(lease);
    }
}

/// Closes what has been idle for long enough, for the first time at `next`, until nothing is left that could be; what the
/// upstream closes meanwhile, at once.
async fn sweep(pool: Weak<Pool>, ear: Arc<Ear>, mut next: Instant) {
    loop {
        let is_earlier = timeout_at(next.into(), ear.earlier.notified()).await.is_ok();
        let Some(pool) = pool.upgrade() else { return };
        if is_earlier {
            if ear.has_heard() {
                pool.close_noisy();
            }
            next = pool.lock().sweep.unwrap_or(next);
        } else {
            let Some(later) = pool.close_idle() else { return };
            next = later;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a connection lives by itself: its end is the end of its task")]
pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// Connections that are idle for long enough are closed at most this much late, several at a time.
const SWEEP_PERIOD_MIN: Duration = Duration::from_millis(100);

/// Multiples of it leave fractions that are spread evenly, however many there are.
const GOLDEN_RATIO: f64 = 1.618_033_988_749_895;
