//! The round-number prior: people set limits to 10 a second or 300 a minute, not to 9.83.
//!
//! A measure that is close to such a number most likely means it; standing exactly there leaves no residual error
//! to pay for. At exactly N a window a refusal may be a matter of phase, not of rate (even pacing at N/W through an
//! unknown phase: 99.6 % used, 0.4 % refused): so a held number answers refusals first with a shift of phase, then
//! with a margin, and only then gives the number up.

use super::fit::Fit;
use crate::control::LimitSource;
use std::collections::VecDeque;

/// Numbers a second that people choose. (Any other number in a window of some seconds is found by [`super::fit`]: a
/// denser list would only catch readings that mean something else, such as a sliding window's 9.4 of 10.)
const PER_SECOND: [f64; 40] = [
    1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 24.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0,
    60.0, 70.0, 75.0, 80.0, 90.0, 100.0, 120.0, 125.0, 150.0, 180.0, 200.0, 240.0, 250.0, 300.0, 400.0,
    500.0, 600.0, 750.0, 1000.0, 1500.0, 2000.0, 5000.0,
];
/// Numbers a minute that people choose, where they are no whole number a second.
const PER_MINUTE: [f64; 15] =
    [10.0, 15.0, 20.0, 30.0, 40.0, 45.0, 50.0, 75.0, 80.0, 90.0, 100.0, 150.0, 200.0, 250.0, 500.0];
/// How far a measure may be from the number it means, at most.
const TOLERANCE: f64 = 0.04;
/// How long a number that proved wrong is not believed again.
const DISTRUST_SECONDS: f64 = 180.0;
/// Refusals closer together than this speak against the held number.
const QUICK_SECONDS: f64 = 12.0;
/// Phases to try before a margin: half an interval away, then between, then on the other side.
const SHIFTS: [f64; 3] = [0.5, 0.25, 0.5];
/// Of so many in a window, some cross its boundary by scatter.
const EXACT: f64 = 30.0;
const MARGIN_STEP: f64 = 0.01;
const MARGIN_MAX: f64 = 0.05;

/// A number that the lane stands at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Held {
    /// The number, in requests/s.
    pub(super) rate: f64,
    /// The number as people would say it: so many in such a window.
    pub(super) requests: f64,
    pub(super) window_seconds: f64,
    pub(super) source: Source,
    /// The share that is left unused because refusals came too quickly at the number itself.
    pub(super) margin: f64,
    quick: usize,
    /// The last probe went further than it should have.
    low: bool,
}

/// What named a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A window explains the refusals.
    Fit,
    /// The measures are close to a round number.
    Round,
    /// The API announced it.
    Told(LimitSource),
}

impl Held {
    /// The number of a window that explains the refusals.
    pub(super) fn of_fit(fit: Fit) -> Self {
        Self::new(f64::from(fit.requests), fit.seconds, Source::Fit)
    }

    /// What the API announced.
    pub(super) fn told(requests: u32, seconds: f64, source: LimitSource) -> Self {
        Self::new(f64::from(requests), seconds, Source::Told(source))
    }

    /// A round number: a whole one a second where it is one, else a minute.
    fn round(rate: f64) -> Self {
        let window_seconds = if (rate - rate.round()).abs() < 1e-9 { 1.0 } else { 60.0 };
        Self::new((rate * window_seconds).round(), window_seconds, Source::Round)
    }

    /// `requests` in a window, without a margin.
    pub(super) fn new(requests: f64, window_seconds: f64, source: Source) -> Self {
        Self {
            rate: requests / window_seconds,
            requests,
            window_seconds,
            source,
            margin: 0.0,
            quick: 0,
            low: false,
        }
    }

    /// A window explained the refusals to the request: what gets through beyond it was not saved up.
    pub(super) fn is_exact(&self) -> bool {
        self.source == Source::Fit && self.requests < EXACT
    }

    /// The pace that holds the number.
    pub(super) fn pace(&self) -> f64 {
        self.rate * (1.0 - self.margin)
    }
}

/// What to do after a refusal at a held number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Remedy {
    /// Shift the phase by this fraction of an interval.
    Shift(f64),
    /// Stay at the (lowered) pace.
    Stay,
    /// The number is wrong.
    GiveUp,
}

/// The readings of the limit, and the number they mean.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    readings: VecDeque<f64>,
    held: Option<Held>,
    distrusted: VecDeque<(f64, f64)>,
}

impl Rounds {
    pub(super) fn held(&self) -> Option<Held> {
        self.held
    }

    /// Stands at `held` from the start: what another lane of the route found.
    pub(super) fn inherit(&mut self, held: Held) {
        self.held = Some(Held { quick: 0, low: false, ..held });
    }

    /// Forgets readings and number: the limit moved.
    pub(super) fn reset(&mut self) {
        self.readings.clear();
        self.held = None;
    }

    /// Notes a measure; holds the number it means when three of them agree and it is near the pace.
    pub(super) fn read(&mut self, now: f64, reading: f64, pace: f64) -> Option<Held> {
        while self.readings.len() >= 4 {
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
        if self.readings.len() < 3 {
            return None;
        }
        let before = self.readings.iter().rev().nth(1).copied()?;
        let mut sorted: Vec<f64> = self.readings.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2).copied()?;
        let (rate, tolerance) = nearest(median)?;
        let means = |value: f64| (value - rate).abs() <= tolerance * rate;
        if ![median, reading, before].into_iter().all(means) || (rate - pace).abs() > 0.15 * pace {
            return None;
        }
        self.hold(now, Held::round(rate))
    }

    /// Holds a number, unless it proved wrong a while ago.
    pub(super) fn hold(&mut self, now: f64, held: Held) -> Option<Held> {
        if self.distrusts(now, held.rate) {
            return None;
        }
        self.held = Some(held);
        self.held
    }

    fn distrusts(&self, now: f64, rate: f64) -> bool {
        self.distrusted.iter().any(|(number, until)| *until > now && (number - rate).abs() < 1e-6 * rate)
    }

    /// A probe at the held number was refused, as expected: the number still stands. `further`: it was refused only
    /// after it had gone further than a probe should.
    pub(super) fn confirmed(&mut self, further: bool) {
        if let Some(held) = &mut self.held {
            held.quick = held.quick.saturating_sub(1);
            held.low = further;
        }
    }

    /// The last probe had gone further than it should: the number may be too low.
    pub(super) fn seems_low(&self) -> bool {
        self.held.is_some_and(|held| held.low)
    }

    /// A refusal at the held number, `gap` seconds after the one before, with a measure. `phase_matters`: departures
    /// are further apart than arrivals scatter.
    pub(super) fn refused(&mut self, now: f64, gap: f64, reading: f64, phase_matters: bool) -> Remedy {
        let Some(held) = &mut self.held else { return Remedy::Stay };
        if gap >= QUICK_SECONDS {
            held.quick = held.quick.saturating_sub(1);
            return if phase_matters { Remedy::Shift(0.5) } else { Remedy::Stay };
        }
        held.quick += 1;
        let contradicted = held.quick >= 2 && (reading - held.rate).abs() > 1.5 * TOLERANCE * held.rate;
        if contradicted {
            return self.give_up(now);
        }
        if phase_matters && let Some(shift) = SHIFTS.get(held.quick - 1) {
            return Remedy::Shift(*shift);
        }
        if held.margin + MARGIN_STEP <= MARGIN_MAX + 1e-9 {
            held.margin += MARGIN_STEP;
            return Remedy::Stay;
        }
        self.give_up(now)
    }

    fn give_up(&mut self, now: f64) -> Remedy {
        while self.distrusted.len() >= 8 {
            self.distrusted.pop_front();
        }
        if let Some(held) = self.held {
            self.distrusted.push_back((held.rate, now + DISTRUST_SECONDS));
        }
        self.reset();
        Remedy::GiveUp
    }
}

/// The number nearest to `reading`, and how far (as a share) a measure may be from it and still mean it: within the
/// general tolerance, and clearly nearer to it than to its neighbours.
fn nearest(reading: f64) -> Option<(f64, f64)> {
    let minute = PER_MINUTE.into_iter().map(|count| count / 60.0);
    let numbers = || PER_SECOND.into_iter().chain(minute.clone());
    let by_distance = |a: &f64, b: &f64| (a - reading).abs().total_cmp(&(b - reading).abs());
    let best = numbers().min_by(by_distance)?;
    let gap = numbers().map(|other| (other - best).abs()).filter(|gap| *gap > 1e-9).min_by(f64::total_cmp)?;
    Some((best, TOLERANCE.min(0.45 * gap / best)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_near_a_number_mean_it() {
        for (readings, number) in [
            ([9.7, 10.2, 9.9], Some(10.0)),
            ([4.9, 5.1, 5.05], Some(5.0)),
            ([7.9, 8.1, 8.0], Some(8.0)),
            ([98.0, 103.0, 101.0], Some(100.0)),
            ([9.45, 9.5, 9.55], None),
            ([1.66, 1.67, 1.68], Some(100.0 / 60.0)),
        ] {
            let mut rounds = Rounds::default();
            let pace = readings[2];
            let held = readings.map(|reading| rounds.read(0.0, reading, pace))[2];
            match number {
                Some(number) => assert!((held.unwrap().rate - number).abs() < 1e-9, "{readings:?}: {held:?}"),
                None => assert_eq!(held, None, "{readings:?}"),
            }
        }
    }

    #[test]
    fn a_refusal_is_phase_first_then_margin_then_the_number_is_wrong() {
        let mut rounds = Rounds::default();
        assert!([10.0, 10.0, 10.0].map(|reading| rounds.read(0.0, reading, 10.0))[2].is_some());
        let remedies: Vec<Remedy> = (0..9).map(|_| rounds.refused(1.0, 2.0, 10.0, true)).collect();
        assert_eq!(remedies[0], Remedy::Shift(0.5));
        assert_eq!(remedies[1], Remedy::Shift(0.25));
        assert_eq!(remedies[2], Remedy::Shift(0.5));
        assert_eq!(remedies[3..8], [Remedy::Stay; 5]);
        assert_eq!(remedies[8], Remedy::GiveUp);
        // The same readings do not bring it back before the distrust is over.
        let again =
            |rounds: &mut Rounds, now| [10.0, 10.0, 10.0].map(|reading| rounds.read(now, reading, 10.0))[2];
        assert_eq!(again(&mut rounds, 10.0), None);
        assert!(again(&mut rounds, 200.0).is_some());
    }
}
