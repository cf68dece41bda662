//! What an answer taught us, free of HTTP: the words that the outside uses to report to a lane.

use super::{Announcement, Level};
use std::time::Duration;

/// What became of one request that was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The limiter let it through (whatever the API then answered, errors of its own included).
    Accepted,
    /// The limiter refused it (429, and what stands for one).
    Limited(Hint),
    /// The API says that it is overloaded (503 with Retry-After, 529): pause as told, learn no rate from it.
    Overloaded(Hint),
    /// No answer: connection refused, reset, timed out. Says nothing about a limit.
    Failed,
    /// Nobody waited for the answer. Says nothing about a limit; the limiter may have counted it.
    Ignored,
}

/// What a refusal told about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hint {
    /// How long the API asks to wait, if it says (Retry-After, RFC 9110 10.2.3).
    pub retry_after: Option<Duration>,
    /// Which node of the lane's path refused, if the answer says.
    pub level: Option<Level>,
}

/// Everything that one answer says.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What became of the request.
    pub outcome: Outcome,
    /// The limits that the answer announces, whatever its status.
    pub announced: Vec<Announcement>,
    /// The request could be sent again byte for byte, and the operator's policy allows it.
    pub replayable: bool,
}

impl Report {
    /// A report of an answer that announces nothing.
    pub fn new(outcome: Outcome, replayable: bool) -> Self {
        Self { outcome, announced: Vec::new(), replayable }
    }
}
