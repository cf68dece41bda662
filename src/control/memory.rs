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
    /// Nothing was refused yet: so much was asked, and the limit is not below it.
    pub is_unmet: bool,
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

    /// For the next run.
    pub(super) fn memory(&self, upstream: &Arc<str>, route: &Arc<str>, now: f64) -> Memory {
        let blank = Memory {
            upstream: Arc::clone(upstream),
            route: Arc::clone(route),
            per: Level::Route,
            age_seconds: (now - self.used_at).max(0.0),
            pace: Rate::SLOWEST,
            is_unmet: false,
            number: None,
            budget: None,
        };
        self.prior.remember(blank)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "moments count from one real moment")]
mod tests {
    use crate::control::{LaneKey, Lanes, LanesSettings, Outcome, Report, Step, Ticket};
    use std::time::{Duration, Instant};

    const SECOND: Duration = Duration::from_secs(1);

    /// Asks `rate` times a second for so many seconds; gives how long the last one waited.
    fn ask(lanes: &mut Lanes, from: Instant, rate: u32, seconds: u32) -> Duration {
        let key = LaneKey { upstream: "api:443".into(), credential: None, route: "/x".into() };
        let mut waited = Duration::ZERO;
        for number in 0..rate * seconds {
            let asked = from + SECOND * number / rate;
            let (id, _) = lanes.submit(asked, &key, Ticket::until(asked + 60 * SECOND)).unwrap();
            let mut now = asked;
            let answered = loop {
                match lanes.poll(now) {
                    Step::Start(started) => {
                        assert_eq!(started, id, "one at a time");
                        break now;
                    }
                    Step::Wait(Some(until)) => now = until,
                    step => panic!("{step:?}"),
                }
            };
            waited = answered - asked;
            lanes.settle(answered, id, &Report::new(Outcome::Accepted, false));
        }
        waited
    }

    /// What was asked without a refusal is where the next run begins: an API without a limit is met once.
    #[test]
    fn a_pace_without_a_refusal_is_remembered() {
        let epoch = Instant::now();
        let mut first = Lanes::new(LanesSettings::default(), epoch);
        ask(&mut first, epoch, 20, 1);
        assert_eq!(first.memories(epoch + SECOND), [], "a second says little");
        ask(&mut first, epoch + 2 * SECOND, 200, 30);
        let kept = first.memories(epoch + 33 * SECOND);
        let [memory] = kept.as_slice() else { panic!("{kept:?}") };
        assert_eq!((memory.is_unmet, memory.pace.get(), memory.number), (true, 128.0, None));
        // An hour without traffic forgets nothing.
        assert_eq!(first.memories(epoch + 3600 * SECOND).len(), 1);

        let mut second = Lanes::new(LanesSettings::default(), epoch);
        assert!(second.remember(epoch, memory));
        assert!(ask(&mut second, epoch, 100, 1) < SECOND / 100);
        let view = second.snapshot(epoch + SECOND).remove(0);
        assert!(view.limit.is_none() && view.pace >= 128.0, "{view:?}");
    }
}
