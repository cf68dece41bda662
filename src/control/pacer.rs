//! When may the next one leave? A GCRA of burst one, whose rate may move at every departure.
//!
//! A departure that is late by no more than the slack keeps its place in the grid, so that a late timer costs
//! neither rate nor phase: at exactly N requests a window the phase decides between no refusal and one a window.
//! The form is that of ITU-T I.371's generic cell rate algorithm with the grid as its theoretical arrival time, and the
//! slack as its tolerance: never more than `rate × (time + slack) + 1` leave in any time.
//!
//! At hundreds a second a busy machine is late by more than an interval, and often. What waited for its slot moves the grid
//! then by what is beyond the slack alone, so that no more of the pace is lost than must be.
//!
//! # A pace that was set
//! What an operator sets is a promise for the long run too, with no API's window behind it that was learnt: the grid is one
//! from the first departure to the last, and what moved it is regained. The bound is on every second: `1.002 × rate + 1`.
//! - In a grid that stays, the second that begins with a departure late by *L* has `rate × (1 + L) + 1` at most, however
//!   late others are: so the slack is four fifths of what the bound leaves (2.4 ms at 1000/s, 8 ms at 100/s).
//! - What is beyond it is owed, and regained by shorter intervals: in a second by no more than 2 ms, nor by more than the latest
//!   departure of the last one or two seconds left of the slack.

use super::Rate;

/// The last departure's slot, in seconds of the core's clock.
#[derive(Clone, Debug)]
pub struct Pacer {
    slot: f64,
    slack: Slack,
    keeps_phase: bool,
    /// What is to be regained, if the pace is to be kept.
    owed: Option<Owed>,
}

/// How late a departure may be and still keep its place in the grid.
#[derive(Clone, Copy, Debug)]
enum Slack {
    /// Never: the textbook algorithm.
    None,
    /// A timer's lateness: half an interval, within 1 to 5 ms; 2 ms at least for what waited.
    Timer,
}

/// What late departures cost a pace that is to be kept.
#[derive(Clone, Copy, Debug)]
struct Owed {
    /// By which the grid is behind that of the first departure.
    seconds: f64,
    /// By how much the next interval is shorter.
    gain: f64,
    /// The latest that kept its place, in the second that began at `since` and in the one before.
    latest: (f64, f64),
    since: f64,
}

/// The slack in seconds, at least and at most.
const SLACK_SECONDS: (f64, f64) = (0.001, 0.005);
/// The least of what waited for its slot: 1.002 × the rate may leave in a second, and one.
const SLACK_SECONDS_WAITED: f64 = 0.002;
/// The share of an interval by which it is shorter, at most, while something is regained.
const GAIN: f64 = 0.002;
/// The share of what a second's bound leaves that is used: the way to the API is not the same for all.
const KEPT: f64 = 0.8;
/// The most that is regained: half a minute's work.
const OWED_SECONDS_MAX: f64 = 0.06;
/// What is later was held back by something else, not by a machine that stalled: nothing of it is owed.
const STALL_SECONDS_MAX: f64 = 0.1;

impl Pacer {
    /// A pacer that forgives a timer's lateness (half an interval, at least 1 ms and at most 5 ms). The first
    /// departure may leave at once.
    pub fn new() -> Self {
        Self { slot: f64::NEG_INFINITY, slack: Slack::Timer, keeps_phase: false, owed: None }
    }

    /// The textbook algorithm: no departure sooner than one interval after the last.
    pub fn strict() -> Self {
        Self { slack: Slack::None, ..Self::new() }
    }

    /// The moment of the next departure at `rate`. A rate that moves takes effect at once.
    pub fn ready_at(&self, rate: Rate) -> f64 {
        let interval = rate.interval_seconds();
        self.slot + interval - self.owed.map_or(0.0, |owed| owed.gain.min(GAIN * interval))
    }

    /// One departs at `now`, at `rate`, that has waited since `since`.
    pub fn take(&mut self, now: f64, rate: Rate, since: f64) {
        let (due, interval) = (self.ready_at(rate), rate.interval_seconds());
        let has_waited = since <= due && due.is_finite();
        let late = now - due;
        if let Some(owed) = self.owed.as_mut().filter(|_| has_waited && late <= STALL_SECONDS_MAX) {
            self.slot = due + owed.take(now, late, rate);
            return;
        }
        if let Some(owed) = &mut self.owed {
            owed.gain = 0.0;
        }
        let slack = self.slack(interval, has_waited);
        self.slot = if late <= slack {
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

    /// The pace was set, and is no guess: from now on what late departures cost it is regained. What was owed to a pace that
    /// is not to be kept any more is forgotten.
    pub fn keep_rate(&mut self, keeps: bool) {
        if keeps != self.owed.is_some() {
            self.owed = keeps.then(Owed::nothing);
        }
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

impl Owed {
    fn nothing() -> Self {
        Self { seconds: 0.0, gain: 0.0, latest: (0.0, 0.0), since: f64::NEG_INFINITY }
    }

    /// One leaves at `now` that had waited for its slot, and is `late`. By so much the grid moves.
    fn take(&mut self, now: f64, late: f64, rate: Rate) -> f64 {
        let slack = KEPT * late_seconds_max(rate);
        let moved = (late - slack).max(0.0);
        if now >= self.since + 1.0 {
            let before = if now < self.since + 2.0 { self.latest.0 } else { 0.0 };
            (self.latest, self.since) = ((0.0, before), now);
        }
        self.latest.0 = self.latest.0.max(late - moved);
        self.seconds = (self.seconds - self.gain + moved).clamp(0.0, OWED_SECONDS_MAX);
        let left = (slack - self.latest.0.max(self.latest.1)).min(GAIN);
        self.gain = (left * rate.interval_seconds()).clamp(0.0, self.seconds);
        moved
    }
}

/// How late one may be whose grid goes on as if it had not been, so that `1.002 × rate + 1` leave in a second from then on.
fn late_seconds_max(rate: Rate) -> f64 {
    ((1.002 * rate.get()).floor() + 1.0 - rate.get()) / rate.get()
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

    /// Departures at `rate` for a minute, whose lateness `late` tells by their number.
    fn kept(rate: f64, late: impl Fn(usize) -> f64) -> Vec<f64> {
        let (speed, mut pacer, mut left) = (Rate::new(rate), Pacer::new(), vec![1.0]);
        pacer.keep_rate(true);
        pacer.take(1.0, speed, 0.0);
        let mut now = 1.0_f64;
        while now < 61.0 {
            // One that is late lets none leave before it.
            now = (pacer.ready_at(speed) + late(left.len())).max(now);
            pacer.take(now, speed, 0.0);
            left.push(now);
        }
        left
    }

    fn most_in_a_second(left: &[f64]) -> usize {
        let most = |(place, from): (usize, &f64)| left.partition_point(|other| *other < from + 1.0) - place;
        left.iter().enumerate().map(most).max().unwrap()
    }

    #[test]
    fn a_pace_that_is_kept_stays_on_one_grid_through_small_stalls() {
        for (rate, stall) in [(1_000.0, 0.002_3), (100.0, 0.007), (10.0, 0.07)] {
            let stalls = |place: usize| if place.is_multiple_of(37) { stall } else { 0.000_05 };
            let left = kept(rate, stalls);
            let on_grid = |(place, at): (usize, &f64)| (at - 1.0 - place as f64 / rate).abs() < 0.000_1;
            let off = left.iter().enumerate().filter(|one| !on_grid(*one)).count();
            assert!(off <= left.len() / 12, "{rate}: {off} of {}", left.len());
            assert!(most_in_a_second(&left) as f64 <= 1.002 * rate + 1.0);
        }
    }

    #[test]
    fn a_pace_that_is_kept_regains_long_stalls_and_no_second_has_much_more() {
        for tenths in [100_u32, 150, 975, 1_000, 4_500, 10_000, 15_000] {
            let (rate, period) = (f64::from(tenths) / 10.0, usize::try_from(tenths).unwrap());
            for stall in [0.002, 0.005, 0.009] {
                // Every ten seconds the machine stands still; and it is never quite on time.
                let lateness = |place: usize| match place % period {
                    second if second == period / 10 => stall,
                    rest => 0.000_05 + 0.000_1 * (rest % 7) as f64,
                };
                let left = kept(rate, lateness);
                let most = most_in_a_second(&left) as f64;
                assert!(most <= 1.002 * rate + 1.0, "{rate}, {stall}: {most}");
                // The last stall was nine seconds ago.
                let (place, last) = (left.len() - 1, left.last().unwrap());
                let behind = last - 1.0 - place as f64 / rate;
                assert!(behind < 0.001, "{rate}, {stall}: {behind}");
            }
        }
    }

    #[test]
    fn what_was_held_back_is_not_regained() {
        let rate = Rate::new(1_000.0);
        let mut pacer = Pacer::new();
        pacer.keep_rate(true);
        for now in [1.0, 3.0] {
            pacer.take(now, rate, 0.0);
        }
        let mut now = 3.0;
        for _ in 0..2_000 {
            now = pacer.ready_at(rate).max(now);
            pacer.take(now, rate, 0.0);
        }
        assert!((now - 4.998).abs() < 1e-6, "{now}");
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
