//! When may the next one leave? A GCRA of burst one, whose rate may move at every departure.
//!
//! A departure that is late by no more than the slack keeps its place in the grid, so that a late timer costs
//! neither rate nor phase: at exactly N requests a window the phase decides between no refusal and one a window.
//! The form is that of ITU-T I.371's generic cell rate algorithm with the grid as its theoretical arrival time, and the
//! slack as its tolerance: never more than `rate × (time + slack) + 1` leave in any time.
//!
//! At hundreds a second a busy machine is late by more than an interval, and often. What waited for its slot moves the grid
//! then by what is beyond the slack alone, so that no more of the pace is lost than must be.

use super::Rate;

/// The last departure's slot, in seconds of the core's clock.
#[derive(Clone, Debug)]
pub struct Pacer {
    slot: f64,
    slack: Slack,
    keeps_phase: bool,
}

/// How late a departure may be and still keep its place in the grid.
#[derive(Clone, Copy, Debug)]
enum Slack {
    /// Never: the textbook algorithm.
    None,
    /// A timer's lateness: half an interval, within 1 to 5 ms; 2 ms at least for what waited.
    Timer,
}

/// The slack in seconds, at least and at most.
const SLACK_SECONDS: (f64, f64) = (0.001, 0.005);
/// The least of what waited for its slot: 1.002 × the rate may leave in a second, and one.
const SLACK_SECONDS_WAITED: f64 = 0.002;

impl Pacer {
    /// A pacer that forgives a timer's lateness (half an interval, at least 1 ms and at most 5 ms). The first
    /// departure may leave at once.
    pub fn new() -> Self {
        Self { slot: f64::NEG_INFINITY, slack: Slack::Timer, keeps_phase: false }
    }

    /// The textbook algorithm: no departure sooner than one interval after the last.
    pub fn strict() -> Self {
        Self { slot: f64::NEG_INFINITY, slack: Slack::None, keeps_phase: false }
    }

    /// The moment of the next departure at `rate`. A rate that moves takes effect at once.
    pub fn ready_at(&self, rate: Rate) -> f64 {
        self.slot + rate.interval_seconds()
    }

    /// One departs at `now`, at `rate`, that has waited since `since`.
    pub fn take(&mut self, now: f64, rate: Rate, since: f64) {
        let (due, interval) = (self.ready_at(rate), rate.interval_seconds());
        let has_waited = since <= due && due.is_finite();
        let slack = self.slack(interval, has_waited);
        self.slot = if now - due <= slack {
            due
        } else if self.keeps_phase && due.is_finite() {
            self.slot + ((now - self.slot) / interval).round() * interval
        } else if has_waited && interval < 2.0 * slack {
            now - slack
        } else {
            now
        };
    }

    fn slack(&self, interval: f64, has_waited: bool) -> f64 {
        let (least, most) = SLACK_SECONDS;
        let least = if has_waited { SLACK_SECONDS_WAITED } else { least };
        match self.slack {
            Slack::None => 0.0,
            Slack::Timer => (0.5 * interval).clamp(least, most),
        }
    }

    /// Keeps the grid's phase through idle times from now on (a phase that was found is worth keeping): after one,
    /// the second departure follows half an interval to one and a half after the first.
    pub fn keep_phase(&mut self, keeps: bool) {
        self.keeps_phase = keeps;
    }

    /// The last departure did not happen: its slot is free again.
    pub fn give_back(&mut self, rate: Rate) {
        self.slot -= rate.interval_seconds();
    }

    /// Moves the grid later by `fraction` of an interval of `rate`, and to its first slot not before `earliest`.
    pub fn shift(&mut self, earliest: f64, fraction: f64, rate: Rate) {
        let interval = rate.interval_seconds();
        if self.slot.is_finite() {
            self.slot += fraction * interval;
            let due = self.slot + interval;
            if due < earliest {
                self.slot += ((earliest - due) / interval).ceil() * interval;
            }
        }
    }

    /// Moves the grid later so that a slot falls on `at`, and to its first slot not before `earliest`.
    pub fn align(&mut self, earliest: f64, at: f64, rate: Rate) {
        let interval = rate.interval_seconds();
        self.slot = earliest - interval + (at - earliest).rem_euclid(interval);
    }

    /// Continues the grid of `other` from `now` on, at `rate`.
    pub fn follow(&mut self, other: &Self, now: f64, rate: Rate) {
        self.slot = other.slot;
        self.shift(now, 0.0, rate);
    }
}

impl Default for Pacer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn departures_keep_their_grid_when_the_timer_is_late() {
        let rate = Rate::new(10.0);
        let mut pacer = Pacer::new();
        pacer.take(1.0, rate, 0.0);
        for slot in 1..=50 {
            let late = if slot % 2 == 0 { 0.004 } else { 0.0 };
            let due = 1.0 + f64::from(slot) / 10.0;
            assert!((pacer.ready_at(rate) - due).abs() < 1e-9);
            pacer.take(due + late, rate, 0.0);
        }
    }

    #[test]
    fn what_waited_loses_no_more_of_a_fast_grid_than_what_is_beyond_the_slack() {
        let rate = Rate::new(1_000.0);
        let next = |late: f64, since: f64| {
            let mut pacer = Pacer::new();
            pacer.take(1.0, rate, 0.0);
            pacer.take(1.001 + late, rate, since);
            pacer.ready_at(rate)
        };
        for (late, since, expected) in [
            (0.002, 0.5, 1.002),   // its place in the grid
            (0.010, 0.5, 1.010),   // two may follow at once
            (0.010, 1.005, 1.012), // nobody waited
            (59.0, 1.002, 60.002),
        ] {
            assert!((next(late, since) - expected).abs() < 1e-9, "{late} {since}: {}", next(late, since));
        }
    }

    #[test]
    fn an_idle_pacer_saves_nothing() {
        let rate = Rate::new(10.0);
        let mut pacer = Pacer::new();
        pacer.take(0.0, rate, 0.0);
        pacer.take(60.0, rate, 60.0);
        assert!((pacer.ready_at(rate) - 60.1).abs() < 1e-9);
    }

    #[test]
    fn a_phase_worth_keeping_outlives_idle_times() {
        let rate = Rate::new(10.0);
        let mut pacer = Pacer::new();
        pacer.take(1.0, rate, 0.0);
        pacer.keep_phase(true);
        pacer.take(60.03, rate, 0.0);
        assert!((pacer.ready_at(rate) - 60.1).abs() < 1e-9);
        pacer.take(80.07, rate, 0.0);
        assert!((pacer.ready_at(rate) - 80.2).abs() < 1e-9);
    }

    #[test]
    fn a_shift_moves_the_phase_by_its_fraction() {
        let rate = Rate::new(10.0);
        let mut pacer = Pacer::new();
        pacer.take(1.0, rate, 0.0);
        pacer.shift(1.42, 0.5, rate);
        assert!((pacer.ready_at(rate) - 1.45).abs() < 1e-9);
    }
}
