//! What the operator may say to the core: parameters with their units, ranges and defaults.

use super::{ClassId, LaneKey, LawName, Quota, Rate};
use std::sync::Arc;
use std::time::Duration;

/// Everything that the core can be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LanesSettings {
    /// How lanes find their pace, unless a rule says otherwise.
    pub law: LawSettings,
    /// No lane goes faster than this, unless a rule says otherwise: spread evenly, without bursts.
    pub ceiling: Option<Quota>,
    /// What is different for lanes of a name; the first rule that fits a lane counts.
    pub rules: Vec<LaneRule>,
    /// The classes of traffic that have a share of each lane, in the order of [`ClassId`].
    pub classes: Vec<ClassSettings>,
    /// How long and how many may wait.
    pub queue: QueueSettings,
    /// What is sent again.
    pub retry: RetrySettings,
}

impl LanesSettings {
    /// The rule for `key`'s lane, if there is one.
    pub fn rule(&self, key: &LaneKey) -> Option<&LaneRule> {
        let fits = |rule: &&LaneRule| {
            rule.name == key.route && rule.upstream.as_ref().is_none_or(|upstream| *upstream == key.upstream)
        };
        self.rules.iter().find(fits)
    }

    /// What a class is called; `None` for what belongs to no class.
    pub fn class_name(&self, class: ClassId) -> Option<Arc<str>> {
        let place = usize::from(class.0).checked_sub(1)?;
        self.classes.get(place).map(|class| Arc::clone(&class.name))
    }

    /// How `key`'s lane finds its pace.
    pub fn law_of(&self, key: &LaneKey) -> &LawSettings {
        self.rule(key).map_or(&self.law, |rule| &rule.law)
    }

    /// What `key`'s lane may not exceed.
    pub fn ceiling_of(&self, key: &LaneKey) -> Option<Quota> {
        self.rule(key).map_or(self.ceiling, |rule| rule.ceiling)
    }

    /// The longest that a request may wait in `key`'s lane.
    pub fn deadline_of(&self, key: &LaneKey) -> Duration {
        self.rule(key).map_or(self.queue.deadline, |rule| rule.deadline)
    }
}

/// What is different for some lanes.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneRule {
    /// The lanes' name: the last part of their keys.
    pub name: Arc<str>,
    /// Of this upstream (`host:port`) alone.
    pub upstream: Option<Arc<str>>,
    /// How they find their pace.
    pub law: LawSettings,
    /// They go no faster than this; `None`: as fast as the law lets them, whatever the ceiling of other lanes.
    pub ceiling: Option<Quota>,
    /// The longest that a request may wait in them, all turns together.
    pub deadline: Duration,
}

/// A class of traffic with a share of every lane that it uses.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassSettings {
    /// What it is called.
    pub name: Arc<str>,
    /// The share of a lane's pace that is its own while it wants it, over 0 to 1.
    pub share: f64,
}

/// Whether a lane holds anything back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It paces, queues, and sends refused requests again.
    #[default]
    Adaptive,
    /// Everything passes at once and untouched; the lane learns, and says what it would set.
    Observe,
}

impl Mode {
    /// The word in configuration and pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Observe => "observe",
        }
    }
}

/// Whether an idle lane saves its budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// Departures are spread evenly, and what was not used is gone.
    #[default]
    Smooth,
    /// What was not used may be spent at once, up to [`LawSettings::burst`].
    Burst,
}

/// How a lane finds its pace.
#[derive(Clone, Debug, PartialEq)]
pub struct LawSettings {
    /// Which law.
    pub name: LawName,
    /// Whether it holds anything back.
    pub mode: Mode,
    /// The pace of `fixed`, in requests/s. Not used by the others.
    pub fixed_rate: Rate,
    /// Where an unknown lane starts, in requests/s.
    pub start_rate: Rate,
    /// The start's doubling time while something waits, in seconds (0.1 to 60).
    pub start_doubling_seconds: f64,
    /// How often to pay about one refused call to learn of a raised limit, in seconds (5 to 3600).
    pub probe_period_seconds: f64,
    /// Others whose refusals are not seen here share the limit: take a part of it, and leave them theirs.
    pub shared: bool,
    /// The share of what is learnt or announced that is left unused, 0 to 0.5. For `learnt` without `shared`.
    pub headroom: f64,
    /// Whether an idle lane saves its budget.
    pub shape: Shape,
    /// Requests that [`Shape::Burst`] lets an idle lane send at once, 1 to 1000000.
    pub burst: u32,
    /// Holds requests back from an API that only takes longer for them.
    pub slowness: bool,
}

impl LawSettings {
    /// Requests that may leave at once: one, unless bursts are wanted.
    pub(super) fn at_once(&self) -> u32 {
        if self.shape == Shape::Burst { self.burst.max(1) } else { 1 }
    }
}

impl Default for LawSettings {
    fn default() -> Self {
        Self {
            name: LawName::Learnt,
            mode: Mode::Adaptive,
            fixed_rate: Rate::new(10.0),
            start_rate: Rate::new(4.0),
            start_doubling_seconds: 0.5,
            probe_period_seconds: 45.0,
            shared: false,
            headroom: 0.0,
            shape: Shape::Smooth,
            burst: 10,
            slowness: true,
        }
    }
}

/// How long and how many may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// The longest that a request may wait, all turns together.
    pub deadline: Duration,
    /// Tickets that may wait in one lane.
    pub lane_tickets_max: usize,
    /// Lanes that may exist; beyond it requests share their upstream's `other` lane.
    pub lanes_max: usize,
    /// A lane without traffic is forgotten after this long.
    pub lane_idle: Duration,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_mins(2),
            lane_tickets_max: 10_000,
            lanes_max: 1_000,
            lane_idle: Duration::from_hours(2),
        }
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
