//! What a route's lane leaves behind: to the next lane of the route in this run, and as plain numbers to the next run; and what
//! limits above lanes leave.

use super::learnt::Prior;
use super::pacer::Pacer;
use super::{Level, LimitModel, LimitSource, Rate};
use std::sync::Arc;

/// What one route's limit was when it was last used: no credentials, and a start for the next run, not the truth.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// The upstream's authority, `host:port`.
    pub upstream: Arc<str>,
    /// The route class, as in [`LaneKey`](super::LaneKey); empty for a limit above routes.
    pub route: Arc<str>,
    /// What the limit is per. One that is per credential is what each credential of the upstream may start from.
    pub per: Level,
    /// Since a lane of the route was last used, in seconds; at least 0.
    pub age_seconds: f64,
    /// The pace that the lane stood at.
    pub pace: Rate,
    /// The number that it stood at, if it had one.
    pub number: Option<MemoryNumber>,
    /// How many fitted into a long window, and its length in seconds, if one was known.
    pub budget: Option<(u32, f64)>,
}

/// A limit as people would say it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryNumber {
    /// Requests per window.
    pub requests: f64,
    /// The window's length in seconds.
    pub window_seconds: f64,
    /// What kind of limiter it looked like.
    pub model: LimitModel,
    /// Who said so.
    pub source: LimitSource,
}

/// What a lane leaves to the next one of its route.
#[derive(Clone, Debug)]
pub(super) struct Legacy {
    pub(super) prior: Prior,
    /// With its phase.
    pub(super) pacer: Pacer,
    /// When the lane was last used; before the core's first moment for what an earlier run left.
    pub(super) used_at: f64,
}

impl Legacy {
    /// As an earlier run left it; `None` for numbers that no limit has.
    pub(super) fn of(memory: &Memory, now: f64) -> Option<Self> {
        let used_at = now - memory.age_seconds.max(0.0);
        let prior = Prior::remembered(memory).filter(|_| used_at.is_finite())?;
        Some(Self { prior, pacer: Pacer::new(), used_at })
    }

    /// For the next run; nothing before a limit is known.
    pub(super) fn memory(&self, upstream: &Arc<str>, route: &Arc<str>, now: f64) -> Option<Memory> {
        let blank = Memory {
            upstream: Arc::clone(upstream),
            route: Arc::clone(route),
            per: Level::Route,
            age_seconds: (now - self.used_at).max(0.0),
            pace: Rate::SLOWEST,
            number: None,
            budget: None,
        };
        self.prior.remember(blank)
    }
}
