//! How many departures may run ahead of the even pace: what an idle lane saved, spent at once.
//!
//! A token bucket in front of the learnt pace, as the virtual-scheduling form of ITU-T I.371's generic cell rate algorithm
//! has it: the pacer's slot may lie in the future, by as many intervals as may leave at once. An API whose own bucket is
//! deep lets that pass. One that counts in short windows does not: so a refusal of a departure that was ahead says nothing
//! of the pace, but that less may go ahead; half of it, once for each burst, and a quarter more is tried each probe period.
//!
//! While no limit is known, a fast pace is a guess that doubles as soon as it holds somebody back, and not at all before:
//! there departures may be ahead by up to 2 ms. Without that many of 20 000 requests a second would wait at 50 000/s for a slot
//! that is 20 µs away, each at the cost of 11 000 instructions and of wake-ups of other threads.
//!
//! Measured in virtual time (`tests/scenarios/burst_*.toml`, 20 seeds): twenty at once every five seconds to a bucket of 10/s
//! and thirty deep get through with a 99th percentile of 0.15 s and no refusal. Where ten fit into a fixed second, bursts cost
//! 1.8 % of the calls (2.8 % at worst) until they are given up.

use super::law::{Answer, Stamp};
use super::pacer::Pacer;
use super::rate::Rate;
use super::retry::PAUSING_SECONDS;
use super::settings::LawSettings;

/// What a refused burst leaves, and what a probe period without one adds to it.
const CUT: f64 = 0.5;
const GROWTH: f64 = 0.25;
/// How far ahead departures may be while no limit is known, less so many intervals.
const STARTING_SECONDS: f64 = 0.002;
const STARTING_INTERVALS: f64 = 10.0;

/// What may leave at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burst {
    /// As the operator wants it, and as the API lets it, in requests.
    wanted: f64,
    allowed: f64,
    /// When the last refusal that counted was heard of: what left before knew nothing of it.
    heard_at: f64,
    grown_at: f64,
    period_seconds: f64,
}

impl Burst {
    /// One at a time, unless `settings` want more.
    pub(super) fn new(settings: &LawSettings) -> Self {
        let wanted = f64::from(settings.at_once());
        Self { period_seconds: settings.probe_period_seconds, ..Self::of(wanted) }
    }

    /// One at a time.
    pub(super) fn none() -> Self {
        Self::of(1.0)
    }

    fn of(wanted: f64) -> Self {
        let never = f64::NEG_INFINITY;
        Self { wanted, allowed: wanted, heard_at: never, grown_at: 0.0, period_seconds: 60.0 }
    }

    /// Seconds by which departures at `rate` may be ahead of the pacer.
    pub(super) fn credit_seconds(&self, rate: Rate) -> f64 {
        (self.allowed - 1.0) * rate.interval_seconds()
    }

    /// The same while no limit is known: nothing up to 5000/s, where an interval is long enough to be waited for.
    pub(super) fn starting_credit_seconds(rate: Rate) -> f64 {
        (STARTING_SECONDS - STARTING_INTERVALS * rate.interval_seconds()).max(0.0)
    }

    /// Would one that leaves at `now` be ahead of the even pace?
    pub(super) fn is_ahead(&self, now: f64, pacer: &Pacer, rate: Rate) -> bool {
        self.wanted > 1.0 && pacer.ready_at(rate) - now > 0.05 * rate.interval_seconds()
    }

    /// What an answer to a departure says of the pace: nothing, if it is refused because it was ahead.
    pub(super) fn settle(&mut self, now: f64, stamp: Stamp, answer: Answer) -> Answer {
        let Answer::Refused { retry_after } = answer else {
            self.grow(now);
            return answer;
        };
        // How long a budget is gone is worth knowing, whoever asks.
        if !stamp.is_ahead || retry_after.unwrap_or(0.0) >= PAUSING_SECONDS {
            return answer;
        }
        if stamp.sent_at >= self.heard_at {
            self.allowed = (CUT * self.allowed).max(1.0);
            (self.heard_at, self.grown_at) = (now, now);
        }
        Answer::Unknown
    }

    fn grow(&mut self, now: f64) {
        if self.allowed < self.wanted && now - self.grown_at >= self.period_seconds {
            self.allowed = (self.allowed + (GROWTH * self.allowed).max(1.0)).min(self.wanted);
            self.grown_at = now;
        }
    }
}
