//! A request's place in the core, from its ticket to the end of its exchange, and the words for what becomes of it.

use super::law::Stamp;
use super::{LaneKey, Level, RefusalReason};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a request wants from its lane.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// When the request is too late to be sent.
    pub deadline: Instant,
}

/// Names a ticket for as long as it lives. Identifiers grow in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketId(pub(super) u64);

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

/// What the core keeps of a ticket.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) lane: u32,
    pub(super) deadline: f64,
    pub(super) queued_at: f64,
    /// Answers that sent it back, by a refusal or by an overload.
    pub(super) returns: u32,
    pub(super) state: State,
}

/// Where a ticket stands.
#[derive(Debug)]
pub(super) enum State {
    Waiting,
    /// Sent, or about to be: one stamp from every node of the path.
    Started(Stamps),
    /// Answered; the response body is on its way.
    Flying,
}

/// The stamps that the nodes of a path gave.
#[derive(Debug)]
pub(super) struct Stamps {
    pub(super) own: Stamp,
    /// From the shared nodes above the lane, where there are any.
    pub(super) shared: Vec<(Level, Stamp)>,
}
