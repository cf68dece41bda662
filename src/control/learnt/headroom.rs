//! Headroom: a share of a known limit that stays unused, but for the moments in which its edge is looked for.
//!
//! A lane that never goes up to its limit never hears of it, and would climb until it does. So the share is left between
//! probes only, and a probe goes beyond the limit as it does without headroom: the limit is what it was, or was raised.
//! What was let through below the limit says nothing of it: measures begin with the probe, and one that is too short to
//! measure anything confirms what was known.

use super::Learnt;
use super::measure::Reading;

/// A servo's pace counts as known after so many episodes, and once it may go so long without one, in seconds.
const KNOWN_EPISODES: u32 = 4;
const KNOWN_SECONDS: f64 = 5.0;
/// A probe measures nothing in less than this.
const MEASURE_SECONDS: f64 = 2.0;
/// The time of a probe, in seconds: about 1.3 requests more than the limit at 2 % above it.
const SURPLUS: f64 = 1.3;
const ABOVE: f64 = 0.02;
const CREEP_SECONDS: (f64, f64) = (3.0, 30.0);

impl Learnt {
    /// Stands below a limit that is known, to leave its share.
    pub(super) fn is_eased(&self) -> bool {
        let is_known = || {
            self.rounds.held().is_some() || (self.episodes >= KNOWN_EPISODES && self.hold >= KNOWN_SECONDS)
        };
        self.headroom > 0.0
            && !self.starting
            && self.contended.is_none()
            && self.pressed <= self.hold
            && is_known()
    }

    /// The pace of departures, in requests/s.
    pub(super) fn eased_rate(&self) -> f64 {
        if self.is_eased() { self.rate * (1.0 - self.headroom) } else { self.rate }
    }

    /// A probe begins.
    pub(super) fn go_beyond(&mut self, now: f64) {
        self.beyond_since = now;
        self.history.forget_saturations();
    }

    /// How long a servo with headroom creeps above its limit before it climbs.
    pub(super) fn creep_seconds(&self) -> Option<f64> {
        let (least, most) = CREEP_SECONDS;
        (self.headroom > 0.0 && self.beyond_since > self.episode_at)
            .then(|| (SURPLUS / (ABOVE * self.rate)).clamp(least, most))
    }

    /// What a refusal at `at` says that came too soon to measure anything.
    pub(super) fn brief_reading(&self, at: f64) -> Option<Reading> {
        let is_brief = self.beyond_since > self.episode_at && at - self.beyond_since < MEASURE_SECONDS;
        is_brief.then_some(Reading {
            short: self.base,
            free: self.base,
            long: self.base,
            span_seconds: MEASURE_SECONDS,
        })
    }
}
