//! A request's place in the core, from its ticket to the end of its exchange, and the words for what becomes of it.

use super::law::Stamp;
use super::{LaneKey, LawName, Level, Mode, Rate, RefusalReason};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a request wants from its lane.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ticket {
    /// When the request is too late to be sent; `None`: after the longest wait that its lane allows.
    pub deadline: Option<Instant>,
    /// Whose share of the lane it uses.
    pub class: ClassId,
}

impl Ticket {
    /// A ticket of no class, too late after `deadline`.
    pub fn until(deadline: Instant) -> Self {
        Self { deadline: Some(deadline), class: ClassId::default() }
    }
}

/// A class of traffic: 0 is everything that belongs to no class, n the n-th of
/// [`LanesSettings::classes`](super::LanesSettings::classes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(pub u16);

/// Names a ticket for as long as it lives. Identifiers grow in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketId(pub(super) u64);

/// Something for each ticket. Its numbers are ours and in a row: a multiplication spreads them well enough, and costs a
/// tenth of the hash that withstands chosen keys.
pub type Tickets<T> = HashMap<TicketId, T, BuildHasherDefault<TicketHasher>>;

/// The hash of [`Tickets`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TicketHasher(u64);

impl Hasher for TicketHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 over the golden ratio: the top bits, by which a map tells its entries apart, differ for any run of numbers.
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
    }
}

/// A request that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The ticket's name.
    pub id: TicketId,
    /// The lane's.
    pub lane: Arc<str>,
    /// It has gone by: send it. Else it waits for its [`Step::Start`].
    pub started: bool,
}

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
    /// Requests per window; what a token bucket holds.
    pub requests: f64,
    /// The window's length in seconds; the time in which an empty bucket is full again.
    pub window_seconds: f64,
    /// What kind of limiter it looks like.
    pub model: LimitModel,
    /// It is what got through: the limit is that or higher.
    pub at_least: bool,
    /// Who says so.
    pub source: LimitSource,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// A sentence for a person.
    pub says: String,
}

/// What kind of limiter a limit looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LimitModel {
    /// A counter that starts over at fixed moments.
    FixedWindow,
    /// A counter that starts over so long after the first request.
    AnchoredWindow,
    /// No more than so many in any window.
    SlidingWindow,
    /// Tokens that refill evenly.
    TokenBucket,
    /// So many at once.
    Concurrency,
    /// None; but beyond so many at once requests only take longer.
    Slowdown,
    /// Not known.
    #[default]
    Unknown,
}

impl LimitView {
    /// How many may leave at once after a quiet time, where the kind of limiter says so.
    pub fn burst(&self) -> Option<f64> {
        match self.model {
            LimitModel::FixedWindow
            | LimitModel::AnchoredWindow
            | LimitModel::SlidingWindow
            | LimitModel::TokenBucket
            | LimitModel::Concurrency => Some(self.requests),
            LimitModel::Slowdown | LimitModel::Unknown => None,
        }
    }
}

impl LimitModel {
    /// The word on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FixedWindow => "fixed_window",
            Self::AnchoredWindow => "anchored_window",
            Self::SlidingWindow => "sliding_window",
            Self::TokenBucket => "token_bucket",
            Self::Concurrency => "concurrency",
            Self::Slowdown => "slowdown",
            Self::Unknown => "unknown",
        }
    }
}

/// Who says what a limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitSource {
    /// The API, in header fields.
    Header,
    /// The API, in a refusal's body.
    Body,
    /// Refusals taught it.
    Learnt,
    /// The operator.
    Configured,
}

impl LimitSource {
    /// The word on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Body => "body",
            Self::Learnt => "learnt",
            Self::Configured => "configured",
        }
    }
}

/// A lane as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneView {
    /// The lane's name.
    pub name: Arc<str>,
    /// The lane's key.
    pub key: LaneKey,
    /// How its pace is found.
    pub law: LawName,
    /// Whether it holds anything back.
    pub mode: Mode,
    /// The pace now, in requests/s; of a lane that observes, the pace that it would set.
    pub pace: f64,
    /// The pace that an operator pinned it to.
    pub pinned: Option<Rate>,
    /// The limit, if one is known; its own, or else the narrowest above it.
    pub limit: Option<LimitView>,
    /// What the API announces of its limits, each by its name; at most eight.
    pub announced: Vec<AnnouncedView>,
    /// What that limit is per.
    pub limit_per: Level,
    /// The limits above it, the narrowest first.
    pub above: Vec<NodeView>,
    /// Tickets that wait.
    pub queue_depth: usize,
    /// The classes, what belongs to none first; empty where there are no classes.
    pub classes: Vec<ClassView>,
    /// Requests sent whose exchange is not over.
    pub in_flight: usize,
    /// How many may be under way at once; `None` where nothing says so.
    pub in_flight_max: Option<u32>,
    /// Requests that the limiter let through.
    pub accepted_total: u64,
    /// Requests that the limiter refused.
    pub throttled_total: u64,
    /// The lane holds back for so many seconds more; infinite until an operator resumes it.
    pub paused_seconds: f64,
}

/// A limit as the API announces it.
#[derive(Clone, Debug, PartialEq)]
pub struct AnnouncedView {
    /// What it is called: its field, or its policy.
    pub name: Arc<str>,
    /// Requests that a window takes.
    pub requests: u32,
    /// Those that are left, without the ones that are out.
    pub remaining: f64,
    /// Seconds until the window ends, at the latest; `None` where no end is told.
    pub reset_seconds: Option<f64>,
    /// The window's length in seconds, as far as it is known.
    pub window_seconds: f64,
}

/// A limit above a lane as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    /// What it is called: `credential@3f9a0123`, `upstream@api.example.com:443`.
    pub name: Arc<str>,
    /// What it is per.
    pub per: Level,
    /// How it came to be known.
    pub origin: NodeOrigin,
    /// The lanes that evidence put below it; `None`: all that it is on.
    pub lanes: Option<usize>,
    /// Tickets that wait in the lanes below it.
    pub queue_depth: usize,
    /// Requests sent whose exchange is not over.
    pub in_flight: usize,
    /// The pace of all lanes below together, in requests/s.
    pub pace: f64,
    /// The limit, if one is known.
    pub limit: Option<LimitView>,
    /// It holds back for so many seconds more.
    pub paused_seconds: f64,
}

/// How a limit above lanes came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeOrigin {
    /// The operator.
    Configured,
    /// The API's words.
    Said,
    /// The evidence of refusals.
    Found,
}

impl NodeOrigin {
    /// The word on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Said => "said",
            Self::Found => "found",
        }
    }
}

/// A class's part of a lane.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassView {
    /// What it is called; `other` for what belongs to no class.
    pub name: Arc<str>,
    /// Its share of the lane's pace while it wants it, 0 to 1.
    pub share: f64,
    /// Its tickets that wait.
    pub queue_depth: usize,
}

/// What the core keeps of a ticket.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) lane: u32,
    pub(super) class: ClassId,
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
    /// Answered; the response body is on its way. With the levels above the lane that let it go.
    Flying(Vec<Level>),
}

/// The stamps that the nodes of a path gave.
#[derive(Debug)]
pub(super) struct Stamps {
    pub(super) own: Stamp,
    /// From the shared nodes above the lane, where there are any.
    pub(super) shared: Vec<(Level, Stamp)>,
}

impl Stamps {
    /// The levels above the lane that gave one.
    pub(super) fn levels(&self) -> Vec<Level> {
        self.shared.iter().map(|(level, _)| *level).collect()
    }
}
