//! Everything worth observing, as plain data: the shell drains these after each call and tells its observers.

use super::{Command, Level};
use std::sync::Arc;

/// Something that happened in a lane, named by the lane's name.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A lane came to be.
    LaneMade {
        /// The lane's name.
        lane: Arc<str>,
    },
    /// A lane was idle for long, and is forgotten (what it learnt stays as its route's prior).
    LaneForgotten {
        /// The lane's name.
        lane: Arc<str>,
    },
    /// A request asks for a place in the queue; it may be refused at once.
    Offered {
        /// The lane's name.
        lane: Arc<str>,
    },
    /// A ticket got its pass after `waited_seconds` in the queue.
    Started {
        /// The lane's name.
        lane: Arc<str>,
        /// Its class, if it has one.
        class: Option<Arc<str>>,
        /// Time in the queue, this turn.
        waited_seconds: f64,
    },
    /// The API's limiter let a request through.
    Accepted {
        /// The lane's name.
        lane: Arc<str>,
    },
    /// The API refused a request.
    Throttled {
        /// The lane's name.
        lane: Arc<str>,
        /// What the API asked to wait, if it did.
        retry_after_seconds: Option<f64>,
        /// What the limit that refused is per.
        per: Level,
    },
    /// A request goes back to the queue to be sent again.
    Retried {
        /// The lane's name.
        lane: Arc<str>,
        /// Why.
        reason: RetryReason,
    },
    /// A request cannot be served.
    Refused {
        /// The lane's name.
        lane: Arc<str>,
        /// Why.
        reason: RefusalReason,
    },
    /// A client left while it waited.
    Abandoned {
        /// The lane's name.
        lane: Arc<str>,
    },
    /// The whole lane holds back until a moment `seconds` away.
    Paused {
        /// The lane's name.
        lane: Arc<str>,
        /// For how long.
        seconds: f64,
    },
    /// An operator told the lane what to do.
    Commanded {
        /// The lane's name.
        lane: Arc<str>,
        /// What.
        command: Command,
    },
    /// A field, or a part of a refusal's body, that should tell of a limit was malformed or absurd.
    SignalIgnored {
        /// The lane's name.
        lane: Arc<str>,
        /// Which; never its value.
        signal: String,
    },
    /// A limit stands above several lanes from now on.
    LimitShared {
        /// What it is called: `credential@3f9a0123`.
        limit: Arc<str>,
        /// The lanes that evidence put below it; none: all that it is on, as the API says.
        lanes: Vec<Arc<str>>,
    },
    /// A limit that stood above several lanes is gone: each has its own.
    LimitParted {
        /// What it was called.
        limit: Arc<str>,
    },
    /// The law changed its mind about the limit.
    LimitLearnt {
        /// The lane's name.
        lane: Arc<str>,
        /// The limit as a speed.
        requests_per_second: f64,
        /// A sentence for a person.
        says: String,
    },
}

/// Why a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryReason {
    /// The API answered 429.
    Throttled,
    /// The API answered 503 with Retry-After.
    Overloaded,
    /// A kept connection had died before the request reached the API.
    Stale,
}

impl RetryReason {
    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Overloaded => "overloaded",
            Self::Stale => "stale",
        }
    }
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// The lane's queue is at its bound.
    QueueFull,
    /// It would wait, or has waited, longer than it may.
    Deadline,
    /// The program is stopping and the request cannot finish within the grace period.
    Draining,
}

impl RefusalReason {
    /// The metric label, and the word in our answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Deadline => "deadline",
            Self::Draining => "draining",
        }
    }
}
