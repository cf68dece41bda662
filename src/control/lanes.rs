//! Many lanes by key: the pure machine. (Interim: grants at once.)

use super::{Event, LaneKey, LanesSettings, Outcome, RefusalReason};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a request wants from its lane.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// When the request is too late to be sent.
    pub deadline: Instant,
}

/// Names a ticket for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketId(u64);

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Send this one.
    Start(TicketId),
    /// Answer this one: it cannot be served.
    Expire(TicketId, Refusal),
    /// Nothing until then; `None`: nothing until something else happens.
    Wait(Option<Instant>),
}

/// What follows from an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Answer with what came.
    Answer,
    /// The ticket waits for another turn.
    Again,
}

/// Why not, and when to come back.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// When it is worth another try.
    pub retry_after: Duration,
    /// The lane's name.
    pub lane: Arc<str>,
}

impl Refusal {
    /// The program is stopping.
    pub fn draining(lane: &Arc<str>) -> Self {
        Self { reason: RefusalReason::Draining, retry_after: Duration::from_secs(1), lane: Arc::clone(lane) }
    }
}

/// The limit that a lane believes in.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitView {
    /// Requests per window.
    pub requests: f64,
    /// The window's length in seconds.
    pub window_seconds: f64,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// A sentence for a person.
    pub says: String,
}

/// A lane as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneView {
    /// The lane's name.
    pub name: Arc<str>,
    /// The lane's key.
    pub key: LaneKey,
    /// The pace now, in requests/s.
    pub pace: f64,
    /// The limit, if one is known.
    pub limit: Option<LimitView>,
    /// Tickets that wait.
    pub queue_depth: usize,
    /// Requests sent whose exchange is not over.
    pub in_flight: usize,
    /// Requests that the limiter let through.
    pub accepted_total: u64,
    /// Requests that the limiter refused.
    pub throttled_total: u64,
    /// The lane holds back for so many seconds more.
    pub paused_seconds: f64,
}

/// The pure machine: lanes, and when they want to be looked at.
#[derive(Debug)]
pub struct Lanes {
    next: u64,
    name: Arc<str>,
    due: VecDeque<TicketId>,
}

impl Lanes {
    /// No lanes yet. `epoch` is the moment from which the core counts.
    pub fn new(_settings: LanesSettings, _epoch: Instant) -> Self {
        Self { next: 0, name: "interim@none".into(), due: VecDeque::new() }
    }

    /// Takes a place in the queue of `key`'s lane.
    ///
    /// # Errors
    /// A [`Refusal`] when the queue is full, the deadline cannot be met, or the program drains.
    pub fn submit(
        &mut self,
        _now: Instant,
        _key: &LaneKey,
        _ticket: Ticket,
    ) -> Result<(TicketId, Arc<str>), Refusal> {
        self.next += 1;
        self.due.push_back(TicketId(self.next));
        Ok((TicketId(self.next), Arc::clone(&self.name)))
    }

    /// What to do now; call until it says [`Step::Wait`].
    pub fn poll(&mut self, _now: Instant) -> Step {
        self.due.pop_front().map_or(Step::Wait(None), Step::Start)
    }

    /// The answer's head is known.
    pub fn settle(&mut self, _now: Instant, id: TicketId, outcome: Outcome, replayable: bool) -> Settled {
        if replayable && matches!(outcome, Outcome::Limited(_)) {
            self.due.push_back(id);
            return Settled::Again;
        }
        Settled::Answer
    }

    /// The exchange is over; unsettled counts as ignored.
    pub fn release(&mut self, _now: Instant, _id: TicketId) {}

    /// The client left before its request was sent.
    pub fn cancel(&mut self, _now: Instant, _id: TicketId) {}

    /// Serve only what can be sent before `until`.
    pub fn drain(&mut self, _now: Instant, _until: Instant) {}

    /// The oldest event not yet told.
    pub fn next_event(&mut self) -> Option<Event> {
        None
    }

    /// Every lane as it is now, in order of name.
    pub fn snapshot(&self, _now: Instant) -> Vec<LaneView> {
        Vec::new()
    }
}
