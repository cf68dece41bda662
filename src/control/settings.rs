//! What the operator may say to the core: parameters with their units, ranges and defaults.

use super::{LawName, Rate};
use std::time::Duration;

/// Everything that the core can be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LanesSettings {
    /// How lanes find their pace.
    pub law: LawSettings,
    /// How long and how many may wait.
    pub queue: QueueSettings,
    /// What is sent again.
    pub retry: RetrySettings,
}

/// How a lane finds its pace.
#[derive(Clone, Debug, PartialEq)]
pub struct LawSettings {
    /// Which law.
    pub name: LawName,
    /// The pace of `fixed`, in requests/s. Not used by the others.
    pub fixed_rate: Rate,
    /// Where an unknown lane starts, in requests/s.
    pub start_rate: Rate,
    /// The start's doubling time while something waits, in seconds (0.1 to 60).
    pub start_doubling_seconds: f64,
    /// How often to pay about one refused call to learn of a raised limit, in seconds (5 to 3600).
    pub probe_period_seconds: f64,
}

impl Default for LawSettings {
    fn default() -> Self {
        Self {
            name: LawName::Learnt,
            fixed_rate: Rate::new(10.0),
            start_rate: Rate::new(4.0),
            start_doubling_seconds: 0.5,
            probe_period_seconds: 45.0,
        }
    }
}

/// How long and how many may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Tickets that may wait in one lane.
    pub lane_tickets_max: usize,
    /// Lanes that may exist; beyond it requests share their upstream's `other` lane.
    pub lanes_max: usize,
    /// A lane without traffic is forgotten after this long.
    pub lane_idle: Duration,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { lane_tickets_max: 10_000, lanes_max: 1_000, lane_idle: Duration::from_hours(2) }
    }
}

/// What is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// The longest Retry-After that is waited for; a longer one is answered at once.
    pub retry_after_max: Duration,
    /// Attempts for failures other than 429 (which is bounded by deadline and pace alone).
    pub attempts_max: u32,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { retry_after_max: Duration::from_mins(5), attempts_max: 3 }
    }
}
