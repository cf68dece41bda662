//! May this request go now? The async face of [`crate::control::Lanes`]: one mutex around pure state, one driver.
//!
//! # Why
//! A std mutex around the pure machine keeps every rule in one testable place; an actor would add two channel hops and an
//! unbounded mailbox, a semaphore knows neither pace nor deadline. The lock is never held across an await, and observers
//! are called after it is released. A request that nobody waits before has its pass when it comes: no channel, no task.
//!
//! **No stripes.** Measured (`cargo bench --bench control -- contended`, two cores with other work on them): a request takes
//! the lock three times and 560 ns in all; two threads that do nothing else take 2.3 µs each, together 870 000 requests a
//! second; eight get no less out of it. A request through a shard takes 20 µs of its core (`benches/proxy`): two shards want
//! the lock for 3 % of their time each, so that one request in thirty meets another there, and waits a microsecond or two.
//! A mutex for each lane would save that, 40 ns of 20 µs; it would not help the one lane that has most of the traffic,
//! and lanes that share a limit would need a lock over locks. By the same sum it pays from some ten shards on.

pub mod clock;
mod driver;
mod pass;
mod quota;

pub use driver::Timer;
pub use pass::{Flight, Pass, Verdict, Waiting};
pub use quota::{Caller, Quotas};

use crate::control::{
    Command, Entered, Event, LaneKey, LaneView, Lanes, Memory, Refusal, Report, Settled, Step, Ticket,
    TicketId, Tickets,
};
use crate::observe::Observer;
use pass::Grant;
use smallvec::SmallVec;
use std::fmt;
use std::iter;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, oneshot};

/// The gate that every request passes. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    observer: Arc<dyn Observer>,
    /// Told when the next wake-up moved closer.
    wake: Notify,
}

struct State {
    lanes: Lanes,
    waiting: Tickets<Give>,
    /// When the driver will look next.
    armed: Option<Instant>,
}

impl Gate {
    /// A gate over `lanes` that tells `observer` what happens. Run [`Gate::drive`] beside it.
    pub fn new(lanes: Lanes, observer: Arc<dyn Observer>) -> Self {
        let state = State { lanes, waiting: Tickets::default(), armed: None };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), observer, wake: Notify::new() }) }
    }

    /// Takes a place in the queue of `key`'s lane; where nobody waits and one may go, the turn is here at once.
    ///
    /// # Errors
    /// A [`Refusal`] when the queue is full, the deadline cannot be met, or the program drains.
    pub fn enter(&self, key: &LaneKey, ticket: Ticket) -> Result<Waiting, Refusal> {
        self.with(None, |state, now| {
            let Entered { id, lane, started } = state.lanes.enter(now, key, ticket)?;
            let grant = if started { Grant::Given } else { Grant::Later(state.wait(id)) };
            Ok(pass::waiting(self.clone(), id, lane, grant, now))
        })
    }

    /// What every lane knows and does now, in order of name.
    pub fn snapshot(&self) -> Vec<LaneView> {
        self.lock().lanes.snapshot(clock::now())
    }

    /// What the next run can start from.
    pub fn memories(&self) -> Vec<Memory> {
        self.lock().lanes.memories(clock::now())
    }

    /// Carries out an operator's order; false when no lane is called `name`.
    pub fn command(&self, name: &str, command: Command) -> bool {
        self.with(None, |state, now| state.lanes.command(now, name, command))
    }

    /// From now on serves only what can be sent before `until`, and refuses the rest at once.
    pub fn drain(&self, until: Instant) {
        self.with(None, |state, now| state.lanes.drain(now, until));
    }

    /// Hands out passes when their time has come. Runs for as long as the gate is used.
    pub async fn drive(&self, mut timer: Timer) {
        loop {
            let next = self.lock().armed;
            tokio::select! {
                () = timer.sleep_until(next) => self.with(None, |_, _| ()),
                () = self.shared.wake.notified() => (),
            }
        }
    }

    fn settle(
        &self,
        now: Instant,
        id: TicketId,
        report: &Report,
        is_over: bool,
    ) -> (Settled, Option<oneshot::Receiver<Result<(), Refusal>>>) {
        self.with(Some(now), |state, now| match state.lanes.settle(now, id, report) {
            Settled::Again => (Settled::Again, Some(state.wait(id))),
            Settled::Answer => {
                if is_over {
                    state.lanes.release(now, id);
                }
                (Settled::Answer, None)
            }
        })
    }

    fn leave(&self, now: Instant, id: TicketId, sent: bool) {
        self.with(Some(now), |state, now| {
            if sent {
                state.lanes.release(now, id);
            } else {
                state.waiting.remove(&id);
                state.lanes.cancel(now, id);
            }
        });
    }

    /// Runs `act` on the state, then hands out what has become due, then tells the observer. Where it matters when that
    /// is, the clock is read once the lock is held: who had to wait for it is not to be too early for its slot.
    fn with<T>(&self, at: Option<Instant>, act: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.lock();
        let now = at.unwrap_or_else(clock::now);
        let result = act(&mut state, now);
        let mut grants = Grants::new();
        let sooner = state.hand_out(now, &mut grants);
        let events: SmallVec<[Event; 3]> = iter::from_fn(|| state.lanes.next_event()).collect();
        drop(state);
        for (give, word) in grants {
            // A receiver that is gone is being dropped right now: its seat gives the ticket back.
            drop(give.send(word));
        }
        if sooner {
            self.shared.wake.notify_one();
        }
        events.iter().for_each(|event| self.shared.observer.event(event));
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The core does not panic by its own rules; if it ever does, the other lanes still have to be served.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The way on which a ticket that waits is told of its turn.
    fn wait(&mut self, id: TicketId) -> oneshot::Receiver<Result<(), Refusal>> {
        let (give, grant) = oneshot::channel();
        self.waiting.insert(id, give);
        grant
    }

    /// Grants what is due; says whether the next wake-up moved closer than the driver knows.
    fn hand_out(&mut self, now: Instant, grants: &mut Grants) -> bool {
        let next = loop {
            let (id, word) = match self.lanes.poll(now) {
                Step::Start(id) => (id, Ok(())),
                Step::Expire(id, refusal) => (id, Err(refusal)),
                Step::Wait(next) => break next,
            };
            if let Some(give) = self.waiting.remove(&id) {
                grants.push((give, word));
            }
        };
        let sooner = match (next, self.armed) {
            (Some(next), Some(armed)) => next < armed,
            (next, armed) => next.is_some() && armed.is_none(),
        };
        self.armed = next;
        sooner
    }
}

type Word = Result<(), Refusal>;
type Give = oneshot::Sender<Word>;
/// Turns that have come, to be told once the lock is free: whoever wakes up wants it next. What one request makes happen has
/// room here: it costs no allocation.
type Grants = SmallVec<[(Give, Word); 3]>;

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}
